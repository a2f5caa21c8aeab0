"""Models of learning curves: surrogates that read `Dataset.curves`."""

from bo_suite.surrogates.curves.at_step import AtStep
from bo_suite.surrogates.curves.empirical_prior import EmpiricalPrior
from bo_suite.surrogates.curves.freeze_thaw import FreezeThaw
from bo_suite.surrogates.curves.joint import DecayGP
from bo_suite.surrogates.curves.posterior import CurvesProcess

__all__ = ["AtStep", "CurvesProcess", "DecayGP", "EmpiricalPrior", "FreezeThaw"]

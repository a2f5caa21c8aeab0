"""Several outputs of the same rows as one Gaussian process: the outputs are its first dimension."""

from bo_suite.surrogates.outputs.choice import EitherProcess, OutputsChoice
from bo_suite.surrogates.outputs.coregionalised import CoregionalisedGP
from bo_suite.surrogates.outputs.intrinsic import IntrinsicProcess
from bo_suite.surrogates.outputs.stacked import StackedProcess

__all__ = ["CoregionalisedGP", "EitherProcess", "IntrinsicProcess", "OutputsChoice", "StackedProcess"]

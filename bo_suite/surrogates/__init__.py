"""Surrogates: frozen configurations whose `fit` returns an immutable Gaussian process.

Their parts are in `curves` (models of learning curves), `inducing` (selections of inducing inputs),
`messages` (what a `StreamingGP` observes, and its noise), `paths` (draws that are functions) and
`variational` (likelihoods, natural gradients and ways to train an `SVGP`).
"""

from bo_suite.surrogates.auto import AutoGP
from bo_suite.surrogates.curves import CurvesProcess, DecayGP, EmpiricalPrior, FreezeThaw
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.messages import StreamingGP
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import (
    ExactProcess,
    Hyperparameters,
    Process,
    SupportsLookahead,
    Surrogate,
    WarmStart,
)
from bo_suite.surrogates.sgpr import SGPR
from bo_suite.surrogates.sparse import SparseProcess
from bo_suite.surrogates.svgp import SVGP

__all__ = [
    "SGPR",
    "SVGP",
    "AutoGP",
    "CurvesProcess",
    "DecayGP",
    "EmpiricalPrior",
    "ExactGP",
    "ExactProcess",
    "FreezeThaw",
    "Hyperparameters",
    "PriorMean",
    "Process",
    "SparseProcess",
    "StreamingGP",
    "SupportsLookahead",
    "Surrogate",
    "WarmStart",
]

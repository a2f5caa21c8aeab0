"""Surrogates: frozen configurations whose `fit` returns an immutable Gaussian process.

Their parts are in `likelihoods`, `inducing` (selections of inducing inputs), `training` (ways to fit an
SVGP), `natural` (natural-gradient variational inference as pure functions) and `paths` (draws that are
functions).
"""

from bo_suite.surrogates.auto import AutoGP
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, Surrogate, WarmStart
from bo_suite.surrogates.sgpr import SGPR
from bo_suite.surrogates.sparse import SparseProcess
from bo_suite.surrogates.svgp import SVGP

__all__ = [
    "SGPR",
    "SVGP",
    "AutoGP",
    "ExactGP",
    "ExactProcess",
    "Hyperparameters",
    "Process",
    "SparseProcess",
    "Surrogate",
    "WarmStart",
]

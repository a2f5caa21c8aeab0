"""Sparse processes whose data arrive as messages, also about the precision of the noise."""

from bo_suite.surrogates.messages.inputs import LocatedInputs, locate_inputs
from bo_suite.surrogates.messages.learning import fit_hyperparameters
from bo_suite.surrogates.messages.outputs import (
    OperatorOutputs,
    Outputs,
    ScalarOutputs,
    VectorOutputs,
    gradients,
    values_and_gradients,
)
from bo_suite.surrogates.messages.precision import (
    FixedPrecision,
    GammaPrecision,
    NoisePrecision,
    WishartPrecision,
)
from bo_suite.surrogates.messages.streaming import StreamingGP

__all__ = [
    "FixedPrecision",
    "GammaPrecision",
    "LocatedInputs",
    "NoisePrecision",
    "OperatorOutputs",
    "Outputs",
    "ScalarOutputs",
    "StreamingGP",
    "VectorOutputs",
    "WishartPrecision",
    "fit_hyperparameters",
    "gradients",
    "locate_inputs",
    "values_and_gradients",
]

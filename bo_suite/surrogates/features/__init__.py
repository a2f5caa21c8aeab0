"""Inducing variables of sparse processes: points, and projections of the function on features.

`SGPR(inducing=...)` and `SVGP(inducing=...)` take a number of points, `SphericalHarmonics`, `Activations`,
points `Orthogonal` to any of these, or an `InducingFeatures` of your own.
"""

from bo_suite.surrogates.features.activations import Activations, Erf, ReLU, Softplus
from bo_suite.surrogates.features.orthogonal import Orthogonal
from bo_suite.surrogates.features.points import Points, Stacked
from bo_suite.surrogates.features.spherical import SphericalHarmonics
from bo_suite.surrogates.features.variables import (
    InducingCovariance,
    InducingFeatures,
    InducingVariables,
)

__all__ = [
    "Activations",
    "Erf",
    "InducingCovariance",
    "InducingFeatures",
    "InducingVariables",
    "Orthogonal",
    "Points",
    "ReLU",
    "Softplus",
    "SphericalHarmonics",
    "Stacked",
]

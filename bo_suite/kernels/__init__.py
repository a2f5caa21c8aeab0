"""Covariance functions with analytic derivatives, and any gpytorch kernel through autograd."""

from bo_suite.kernels.base import (
    FeatureKernel,
    Features,
    JointPullback,
    Kernel,
    PreparedKernel,
    Pullback,
    SpectralKernel,
)
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.described import Described
from bo_suite.kernels.gpytorch_kernel import GPyTorchKernel, as_kernel, kernel_for
from bo_suite.kernels.stationary import Matern52

__all__ = [
    "Conditional",
    "Described",
    "FeatureKernel",
    "Features",
    "GPyTorchKernel",
    "JointPullback",
    "Kernel",
    "Matern52",
    "PreparedKernel",
    "Pullback",
    "SpectralKernel",
    "as_kernel",
    "kernel_for",
]

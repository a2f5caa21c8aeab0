"""Covariance functions with analytic derivatives, and any gpytorch kernel through autograd."""

from bo_suite.kernels.base import (
    FeatureKernel,
    Features,
    JointPullback,
    Kernel,
    KernelWithMean,
    PreparedKernel,
    Pullback,
    SpectralKernel,
)
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.decay import Decay, StepKernel
from bo_suite.kernels.described import Described
from bo_suite.kernels.gpytorch_kernel import GPyTorchKernel, as_kernel, kernel_for
from bo_suite.kernels.learning_curves import ExponentialDecay
from bo_suite.kernels.stationary import Matern52

__all__ = [
    "Conditional",
    "Decay",
    "Described",
    "ExponentialDecay",
    "FeatureKernel",
    "Features",
    "GPyTorchKernel",
    "JointPullback",
    "Kernel",
    "KernelWithMean",
    "Matern52",
    "PreparedKernel",
    "Pullback",
    "SpectralKernel",
    "StepKernel",
    "as_kernel",
    "kernel_for",
]

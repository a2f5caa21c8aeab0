"""Covariance functions with analytic derivatives, and any gpytorch kernel through autograd."""

from bo_suite.kernels.base import (
    DifferentiableKernel,
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
from bo_suite.kernels.coregional import Coregional
from bo_suite.kernels.decay import Decay, StepKernel
from bo_suite.kernels.described import Described
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.gpytorch_kernel import GPyTorchKernel, as_kernel, kernel_for
from bo_suite.kernels.learning_curves import ExponentialDecay
from bo_suite.kernels.profiles import ArcCosine, ChordalMatern52, ChordalSquaredExponential, Profile
from bo_suite.kernels.squared_exponential import SquaredExponential
from bo_suite.kernels.stationary import Matern52
from bo_suite.kernels.zonal import Zonal

__all__ = [
    "ArcCosine",
    "ChordalMatern52",
    "ChordalSquaredExponential",
    "Conditional",
    "Coregional",
    "Decay",
    "Described",
    "DifferentiableKernel",
    "ExponentialDecay",
    "FeatureKernel",
    "Features",
    "Functionals",
    "GPyTorchKernel",
    "JointPullback",
    "Kernel",
    "KernelWithMean",
    "Matern52",
    "PreparedKernel",
    "Profile",
    "Pullback",
    "SpectralKernel",
    "SquaredExponential",
    "StepKernel",
    "Zonal",
    "as_kernel",
    "kernel_for",
]

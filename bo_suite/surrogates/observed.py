"""Observations of a function: its values at rows, or linear functionals of it."""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.kernels import DifferentiableKernel, Functionals, Kernel
from bo_suite.surrogates.prior_mean import PriorMean

Observed = jt.Float[Tensor, "*b _ d"] | Functionals
"""Rows (*b, q, d) whose values are observed, or q functionals."""


def differentiable(kernel: Kernel) -> DifferentiableKernel:
    """The kernel, of which linear functionals have covariances.

    Raises:
        DataError: it is not twice differentiable, or does not say so.
    """
    if not isinstance(kernel, DifferentiableKernel):
        raise DataError(
            "derivatives and other linear functionals need a kernel that is twice differentiable, such as "
            f"Matern52 or SquaredExponential, got {type(kernel).__name__}"
        )
    return kernel


def covariance(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], left: Observed, right: Observed
) -> jt.Float[Tensor, "*b m n"]:
    """The prior covariances of observations, without noise.

    Raises:
        DataError: functionals, and a kernel that is not smooth enough.
    """
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return kernel.cross(theta, left, right)[0]
    return differentiable(kernel).functionals_cross(theta, as_functionals(left), as_functionals(right))[0]


def variances(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], observed: Observed
) -> jt.Float[Tensor, "*b n"]:
    """The prior variances of observations, without noise."""
    if isinstance(observed, Tensor):
        return kernel.diagonal(theta, observed)
    alone = observed.alone
    smooth = differentiable(kernel)
    each = theta[..., None, :].expand(*theta.shape[:-1], observed.count, theta.shape[-1])
    return smooth.functionals_cross(each, alone, alone)[0][..., 0, 0]


def prior_means(mean: PriorMean, observed: Observed) -> jt.Float[Tensor, "*b n"]:
    """The prior means of observations."""
    if isinstance(observed, Tensor):
        return mean(observed)
    return observed.of(lambda x: mean(x)[..., None])[..., 0]


def as_functionals(observed: Observed) -> Functionals:
    """Rows as the values there."""
    return observed if isinstance(observed, Functionals) else Functionals.values(observed)


def joined(left: Observed, right: Observed) -> Observed:
    """These observations, then those."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.cat((left, right), -2)
    return as_functionals(left).joined(as_functionals(right))


def chosen(observed: Observed, index: jt.Int64[Tensor, " s"]) -> Observed:
    """Some observations, by increasing index."""
    return observed.index_select(-2, index) if isinstance(observed, Tensor) else observed.selected(index)


def rows_of(observed: Observed) -> jt.Float[Tensor, "*b n d"]:
    """The rows of observed values.

    Raises:
        DataError: functionals, which only inducing points can be together with.
    """
    if isinstance(observed, Functionals):
        raise DataError("linear functionals need inducing variables that are points, got other variables")
    return observed


def number_of(observed: Observed) -> int:
    """Number of observations."""
    return observed.shape[-2] if isinstance(observed, Tensor) else observed.count

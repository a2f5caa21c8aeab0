"""Observations of a function: its values at rows, or linear functionals of it."""

from functools import partial

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.kernels import DifferentiableKernel, Functionals, Kernel
from bo_suite.kernels.base import JointPullback, Pullback
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


def functionals_cross(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
    """cov(u, v), and the map of W to d sum(W * cov) by theta and by the points of both.

    Sums of values have covariances under any kernel, and that is quicker.

    Raises:
        DataError: derivatives, and a kernel that is not smooth enough.
    """
    if not (left.are_values and right.are_values):
        return differentiable(kernel).functionals_cross(theta, left, right)
    k, by_nodes = kernel.joint(theta, left.x, right.x)
    weights = left.weight[..., :, None] * right.weight[..., None, :]

    def pullback(of_functionals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return by_nodes(right.spread(left.spread(of_functionals, -2), -1) * weights)

    return right.gathered(left.gathered(k * weights, -2), -1), pullback


def covariance(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], left: Observed, right: Observed
) -> jt.Float[Tensor, "*b m n"]:
    """The prior covariances of observations, without noise.

    Raises:
        DataError: functionals, and a kernel that is not smooth enough.
    """
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return kernel.cross(theta, left, right)[0]
    return functionals_cross(kernel, theta, as_functionals(left), as_functionals(right))[0]


def variances(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], observed: Observed
) -> jt.Float[Tensor, "*b n"]:
    """The prior variances of observations, without noise."""
    return variances_and_pullback(kernel, theta, observed)[0]


def variances_and_pullback(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], observed: Observed
) -> tuple[jt.Float[Tensor, "*b n"], Pullback]:
    """The prior variances of observations, and the map of w (*b, n) to d (w · variances) / d theta."""
    if isinstance(observed, Tensor):
        by_theta = partial(kernel.diagonal_gradient, theta, observed)
        return kernel.diagonal(theta, observed), lambda weights: by_theta(weights)[0]
    alone = observed.alone
    each = theta[..., None, :].expand(*theta.shape[:-1], observed.count, theta.shape[-1])
    k, pullback = functionals_cross(kernel, each, alone, alone)
    return k[..., 0, 0], lambda weights: pullback(weights[..., None, None])[0].sum(-2)


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

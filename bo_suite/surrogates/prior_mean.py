"""What a process expects of a row before any observation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel, KernelWithMean
from bo_suite.values.describe import described

MeanFunction = Callable[[Tensor], Tensor]
"""Encoded rows (*b, m, d) to values (*b, m) on the scale of the outcomes, differentiable by autograd."""


@dataclass(frozen=True, eq=False)
class PriorMean:
    """m(x) = constant + function(x).

    Attributes:
        constant: one value a replicate.
        function: of the rows; None stands for zero.
    """

    constant: jt.Float[Tensor, "*b"]
    function: MeanFunction | None = None

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The prior mean of each row.

        Raises:
            DataError: the function does not return one value a row.
        """
        constant = self.constant[..., None]
        if self.function is None:
            return constant.expand(x.shape[:-1])
        values = self.function(x)
        if not isinstance(values, Tensor) or values.shape != x.shape[:-1]:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise DataError(
                f"a mean function must return {tuple(x.shape[:-1])} for {tuple(x.shape)}, got {shape}"
            )
        return constant + values


def check_mean(mean: object) -> None:
    """Raise DataError unless a surrogate's `mean` is None, a finite number or a function."""
    if mean is None or callable(mean):
        return
    if isinstance(mean, bool) or not isinstance(mean, Real) or not math.isfinite(mean):
        raise DataError(
            f"mean must be a finite number, a function of encoded rows, or None, got {described(mean)}"
        )


def split_mean(mean: float | MeanFunction | None) -> tuple[float | None, MeanFunction | None]:
    """The constant of a surrogate's `mean`, None if it is to be fitted, and the function, None for zero."""
    return (0.0, mean) if callable(mean) else (mean, None)


def with_mean_of(kernel: Kernel, theta: Tensor, function: MeanFunction | None) -> MeanFunction | None:
    """The function plus the prior mean that the kernel comes with; None for zero."""
    if not isinstance(kernel, KernelWithMean):
        return function
    if function is None:
        return lambda x: kernel.prior_mean(theta, x)[0]
    return lambda x: kernel.prior_mean(theta, x)[0] + function(x)


def without_function(data: Dataset, function: MeanFunction | None) -> Dataset:
    """The data with the outcomes, and their gradients, less those of the function."""
    if function is None:
        return data
    mean, gradient = PriorMean(data.y.new_zeros(data.batch_shape), function), data.gradient
    if gradient is None:
        with torch.no_grad():
            return replace(data, y=data.y - mean(data.x))
    with torch.enable_grad():
        x = data.x.detach().requires_grad_()
        values = mean(x)
        (slopes,) = torch.autograd.grad(values.sum(), x) if values.requires_grad else (torch.zeros_like(x),)
    return replace(data, y=data.y - values.detach(), gradient=gradient - slopes)

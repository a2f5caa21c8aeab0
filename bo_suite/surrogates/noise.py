"""The variance of observations: given, or fitted with a prior on its logarithm."""

import math

import jaxtyping as jt
import torch
from torch import Tensor


def smallest_noise(dtype: torch.dtype) -> float:
    """Smallest noise variance, for outcomes with variance one: an observation with less counts as exact."""
    return 1e-7 if dtype == torch.float64 else 1e-4


def log_noise_bounds(like: Tensor) -> tuple[jt.Float[Tensor, "1"], jt.Float[Tensor, "1"]]:
    """The box of a fitted log noise variance."""
    return like.new_tensor([math.log(smallest_noise(like.dtype))]), like.new_tensor([math.log(10.0)])


def log_noise_prior(
    log_noise: jt.Float[Tensor, "*b"], location: float, spread: float
) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b"]]:
    """Log density of Cauchy(location, spread) up to a constant, and its derivative."""
    standard = (log_noise - location) / spread
    return -torch.log1p(standard.square()), -2.0 * standard / (1.0 + standard.square()) / spread


def observation_noise(
    fitted: jt.Float[Tensor, "*rb"], given: jt.Float[Tensor, "*b n"] | None, n: int
) -> tuple[jt.Float[Tensor, "*rb n"], jt.Float[Tensor, "*rb n"]]:
    """Variance of each observation; and 1 if it is the fitted one, 0 if it was given.

    Args:
        fitted: noise variance of observations without a given one.
        given: variances, NaN where unknown; None if all are unknown.
        n: number of observations.
    """
    level = fitted[..., None].expand(*fitted.shape, n)
    if given is None:
        return level, torch.ones_like(level)
    unknown = torch.isnan(given).expand(level.shape)
    return torch.where(unknown, level, given.clamp(min=smallest_noise(level.dtype))), unknown.to(level)

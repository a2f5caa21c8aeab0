"""The logarithm of the expected hypervolume improvement of independent normal objectives."""

import math
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.acquisition.hypervolume import Boxes
from bo_suite.acquisition.improvement import log_h_and_slope

_SMALLEST_VAR = 1e-20
"""Variances are clamped here before their square root is taken; outcomes have variance about 1."""

_CLOSE = 1e-4
"""Differences of log ψ below this cancel: then the trapezoidal rule is used, which is exact to 1e-9."""

_AT_ONCE = 2**21
"""Numbers of all boxes, rows and fantasies in one tensor at most."""


def log_expected_hypervolume_improvement(
    mean: jt.Float[Tensor, "*skb m"], var: jt.Float[Tensor, "k *b m"], boxes: Boxes
) -> jt.Float[Tensor, "*b m"]:
    """log E[hypervolume that f ~ N(mean, var) adds], averaged over fantasies; differentiable once.

    The sum over boxes of Π_j (ψ_j(u_j) - ψ_j(l_j)), with ψ(a) = E[(a - f)₊] = σ h((a - μ) / σ), in log space
    (Yang et al. 2019, theorem 1; Daulton et al. 2023, appendix A.3, in log space as in Ament et al. 2023).

    Args:
        mean: of the objectives; at most one fantasy dimension in front.
        var: of the objectives, shared by the fantasies.
        boxes: the region that is not dominated, of shape (*s, k, *b): one for each fantasy.
    """
    most = max(_AT_ONCE * mean.shape[-1] // max(mean.numel() * boxes.upper.shape[-1], 1), 1)
    std = var.clamp(min=_SMALLEST_VAR).sqrt()
    parts = [
        _LogImprovement.apply(of_mean, of_std, boxes)  # type: ignore[no-untyped-call]
        for of_mean, of_std in zip(mean.split(most, -1), std.split(most, -1), strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class _LogImprovement(torch.autograd.Function):
    """The value, with its gradient by mean and standard deviation. Tensors inside are (*s, k, *b, c, m)."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, std: Tensor, boxes: Boxes) -> Tensor:
        axis = mean.ndim - std.ndim  # of the objectives
        sides = _Sides(mean[..., None, :], std[..., None, :], boxes)
        of_box = sides.log().sum(axis)
        value = of_box.logsumexp(-2)
        total = value.logsumexp(0) if axis else value
        if any(ctx.needs_input_grad):
            share = torch.exp(of_box - total[..., None, :]).unsqueeze(axis)
            by_mean, by_std = ((slope * share).sum(-2) for slope in sides.log_slopes())
            ctx.save_for_backward(by_mean, by_std.sum(0) if axis else by_std)
        return total - math.log(mean.shape[0]) if axis else total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        by_mean, by_std = ctx.saved_tensors
        return gradients[0] * by_mean, gradients[0] * by_std, None


class _Sides:
    """D = (ψ(upper) - ψ(lower)) of each box in each objective, from log h and its slope ρ = Φ / h at levels.

    With e = h(l) / h(u), all quantities are relative to h(u): Φ(u) is ρ(u), φ(u) is 1 - z ρ(u), those at l
    are multiplied by e, and D / σ is 1 - e.
    """

    def __init__(self, mean: Tensor, std: Tensor, boxes: Boxes) -> None:
        self.std = std
        self.standard = (boxes.levels[..., None] - mean) / std
        self.log_h, self.slope = log_h_and_slope(self.standard)
        first = torch.arange(boxes.levels[..., 0].numel(), device=mean.device) * boxes.levels.shape[-1]
        first = first.reshape(boxes.levels[..., :1].shape)
        self.upper, self.lower = first + boxes.upper, first + boxes.lower.clamp(min=0)
        self.log_upper = self._at(self.log_h, self.upper)
        decrease = self.log_upper - self._at(self.log_h, self.lower)
        self.decrease = decrease.masked_fill((boxes.lower < 0)[..., None], torch.inf)
        self.close = self.decrease < _CLOSE
        self.any_close = bool(self.close.any())

    def log(self) -> Tensor:
        """log D = log σ + log h(u) + log(1 - e), with 1 - e = (u - l) (Φ(l) + Φ(u)) / (2 σ h(u)) if close."""
        share = torch.log(-torch.expm1(-self.decrease))
        if self.any_close:
            width = self._at(self.standard, self.upper) - self._at(self.standard, self.lower)
            area = 0.5 * width * (self._at(self.slope, self.upper) + self._lower_cdf())
            share = torch.where(self.close, area.log(), share)
        return self.log_upper + share + self.std.log()

    def log_slopes(self) -> tuple[Tensor, Tensor]:
        """The derivatives of log D by mean and standard deviation.

        -(Φ(u) - Φ(l)) / D and (φ(u) - φ(l)) / D, or those of the integrand's mean if close.
        """
        at_upper, at_lower = self._at(self.standard, self.upper), self._at(self.standard, self.lower)
        upper_cdf, lower_cdf = self._at(self.slope, self.upper), self._lower_cdf()
        upper_pdf = 1.0 - at_upper * upper_cdf
        lower_pdf = torch.exp(-self.decrease) - at_lower * lower_cdf
        width = -torch.expm1(-self.decrease)
        by_mean, by_std = lower_cdf - upper_cdf, upper_pdf - lower_pdf
        if self.any_close:
            width = torch.where(self.close, upper_cdf + lower_cdf, width)
            by_mean = torch.where(self.close, -upper_pdf - lower_pdf, by_mean)
            by_std = torch.where(self.close, -at_upper * upper_pdf - at_lower * lower_pdf, by_std)
        scale = width * self.std
        return by_mean / scale, by_std / scale

    def _lower_cdf(self) -> Tensor:
        return self._at(self.slope, self.lower) * torch.exp(-self.decrease)

    @staticmethod
    def _at(of_levels: Tensor, index: Tensor) -> Tensor:
        """The values (*s, k, *b, boxes, m) of some levels, by index among the flattened ones."""
        rows = of_levels.reshape(-1, of_levels.shape[-1]).index_select(0, index.flatten())
        return rows.reshape(*index.shape, -1)

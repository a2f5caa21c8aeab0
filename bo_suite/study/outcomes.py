"""Outcomes in the user's units, and on the scale of a surrogate."""

from dataclasses import dataclass
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

_CPU: Any = {"dtype": torch.float64, "device": "cpu"}

_WORST_STD = 1e3
"""Standard deviation beyond which an observation tells nothing; outcomes have standard deviation one."""

WHISKER = 2.0
"""How far above the upper quartile outcomes still differ, in distances from the best to it."""

_LAMBDAS = torch.linspace(-1.0, 1.0, 41, **_CPU)
"""Yeo-Johnson powers tried: at most one, since only the long tail of bad outcomes is to be shortened."""


def _yeo_johnson(z: Tensor, power: Tensor) -> Tensor:
    """Yeo and Johnson (2000), equation 2.1, for power in [-1, 1]; `power` broadcasts against z."""
    log_up = torch.log1p(z.clamp(min=0.0))
    flat = power.abs() < 1e-8
    up = torch.where(flat, log_up, torch.expm1(power * log_up) / torch.where(flat, 1.0, power))
    other = 2.0 - power
    down = -torch.expm1(other * torch.log1p((-z).clamp(min=0.0))) / other
    return torch.where(z >= 0, up, down)


def _yeo_johnson_inverse(w: Tensor, power: Tensor) -> Tensor:
    """The z that `_yeo_johnson` maps to w; infinite at and above -1 / power, which no z reaches."""
    flat = power.abs() < 1e-8
    up = w.clamp(min=0.0)
    log_up = torch.log1p((power * up).clamp(min=-1.0)) / torch.where(flat, 1.0, power)
    other = 2.0 - power
    log_down = torch.log1p(other * (-w).clamp(min=0.0)) / other
    return torch.where(w >= 0, torch.expm1(torch.where(flat, up, log_up)), -torch.expm1(log_down))


def _location_scale(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the last dimension, one where the values do not differ."""
    mean = y.mean(-1, keepdim=True)
    scale = (y - mean).square().mean(-1, keepdim=True).sqrt()
    return mean, torch.where((scale > 1e-13 * mean.abs()) & (scale > 1e-200), scale, 1.0)


@dataclass(frozen=True)
class OutcomeTransform:
    """An increasing map of outcomes to a scale of mean 0 and variance 1, robust to heavy tails.

    z = standardise(YJ_p(standardise(min(y, cap)))): outcomes above the cap (the upper quartile plus
    `WHISKER` times the distance from there to the best) are as bad as the cap, and the Yeo-Johnson
    power p <= 1 is the one of highest profile likelihood. Works on y / max|y|, so that 1e-300 and
    1e300 are as good as 1.
    """

    unit: jt.Float[Tensor, "*b 1"]
    cap: jt.Float[Tensor, "*b 1"]
    location: jt.Float[Tensor, "*b 1"]
    scale: jt.Float[Tensor, "*b 1"]
    power: jt.Float[Tensor, "*b 1"]
    shift: jt.Float[Tensor, "*b 1"]
    spread: jt.Float[Tensor, "*b 1"]

    @staticmethod
    def fit(y: jt.Float[Tensor, "*b n"]) -> "OutcomeTransform":
        """The transform of the given finite outcomes (n >= 1), user scale, smaller is better."""
        largest = y.abs().amax(-1, keepdim=True)
        unit = torch.where(largest > 0, largest, 1.0)
        part = y / unit
        best, quartile = part.amin(-1, keepdim=True), part.quantile(0.75, dim=-1, keepdim=True)
        cap = quartile + WHISKER * (quartile - best)
        cap = torch.where(quartile > best, cap, part.amax(-1, keepdim=True))
        location, scale = _location_scale(torch.minimum(part, cap))
        z = ((torch.minimum(part, cap) - location) / scale)[..., None, :]
        powers = _LAMBDAS.to(y)[:, None]
        mapped = _yeo_johnson(z, powers)
        _, spreads = _location_scale(mapped)
        jacobian = (powers - 1.0) * (z.sign() * torch.log1p(z.abs())).sum(-1, keepdim=True)
        likelihood = jacobian - z.shape[-1] * torch.log(spreads)
        choice = likelihood.argmax(-2, keepdim=True)
        power = powers.expand_as(likelihood).gather(-2, choice)[..., 0, :]
        shift, spread = _location_scale(_yeo_johnson(z[..., 0, :], power))
        return OutcomeTransform(unit, cap, location, scale, power, shift, spread)

    def __call__(self, y: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Outcomes on the surrogate's scale."""
        z = (torch.minimum(y / self.unit, self.cap) - self.location) / self.scale
        return (_yeo_johnson(z, self.power) - self.shift) / self.spread

    def inverse(self, z: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Outcomes, user scale, of values on the surrogate's scale; increasing.

        y = unit (location + scale YJ_p⁻¹(shift + spread z)). The cap is not applied: beyond the values
        of outcomes the map goes on as it was, so that inverse(self(y)) = min(y, cap) and
        self(inverse(z)) = min(z, self(cap)). A power p < 0 maps all outcomes below -1 / p: infinite there.
        """
        part = _yeo_johnson_inverse(z * self.spread + self.shift, self.power)
        return (part * self.scale + self.location) * self.unit

    def noise(self, y: jt.Float[Tensor, "*b n"], std: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Variances on the surrogate's scale of outcomes with standard deviations std.

        (std dz/dy)², with the slope at the cap for outcomes beyond it.
        """
        z = (torch.minimum(y / self.unit, self.cap) - self.location) / self.scale
        slope = torch.exp(torch.where(z >= 0, 1.0, -1.0) * (self.power - 1.0) * torch.log1p(z.abs()))
        return (std / self.unit / self.scale * slope / self.spread).clamp(max=_WORST_STD).square()

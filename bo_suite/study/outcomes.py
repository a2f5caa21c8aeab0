"""The map of outcomes from the user's units to the scale of a surrogate, and back."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES

_WORST_STD = 1e3
"""Standard deviations of the noise are clipped here; outcomes have standard deviation 1."""

_STEEPEST = 1e6
"""Largest derivative of an outcome by a column, both on the surrogate's scale, that a surrogate gets."""

WHISKER = 2.0
"""Distance of the cap above the upper quartile, in distances from the best outcome to that quartile."""

HALF_WIDTH = 1.6448536269514722
"""Half width of a central interval of probability 0.9, in standard deviations."""

_LAMBDAS = torch.linspace(-1.0, 1.0, 41, **CPU_DOUBLES)
"""Yeo-Johnson powers that are tried: at most 1, which shortens the tail of bad outcomes alone."""


def _yeo_johnson(z: Tensor, power: Tensor) -> Tensor:
    """Yeo and Johnson (2000), equation 2.1, for power in [-1, 1]; `power` broadcasts against z."""
    log_up = torch.log1p(z.clamp(min=0.0))
    flat = power.abs() < 1e-8
    up = torch.where(flat, log_up, torch.expm1(power * log_up) / torch.where(flat, 1.0, power))
    other = 2.0 - power
    down = -torch.expm1(other * torch.log1p((-z).clamp(min=0.0))) / other
    return torch.where(z >= 0, up, down)


def _yeo_johnson_inverse(w: Tensor, power: Tensor) -> Tensor:
    """The z that `_yeo_johnson` maps to w; infinite for w >= -1 / power if power < 0."""
    flat = power.abs() < 1e-8
    up = w.clamp(min=0.0)
    log_up = torch.log1p((power * up).clamp(min=-1.0)) / torch.where(flat, 1.0, power)
    other = 2.0 - power
    log_down = torch.log1p(other * (-w).clamp(min=0.0)) / other
    return torch.where(w >= 0, torch.expm1(torch.where(flat, up, log_up)), -torch.expm1(log_down))


def _location_scale(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the last dimension; the latter is 1 if all values are equal."""
    mean = y.mean(-1, keepdim=True)
    scale = (y - mean).square().mean(-1, keepdim=True).sqrt()
    return mean, torch.where((scale > 1e-13 * mean.abs()) & (scale > 1e-200), scale, 1.0)


def _cap(y: Tensor) -> Tensor:
    """The upper quartile plus `WHISKER` times its distance from the best outcome."""
    best, quartile = y.amin(-1, keepdim=True), y.quantile(0.75, dim=-1, keepdim=True)
    return torch.where(quartile > best, quartile + WHISKER * (quartile - best), y.amax(-1, keepdim=True))


@dataclass(frozen=True)
class OutcomeTransform:
    """An increasing map of outcomes to a scale of mean 0 and variance 1, robust to heavy tails.

    z = standardise(YJ_p(standardise(min(y, cap)))). Outcomes above the cap (the upper quartile plus `WHISKER`
    times its distance from the best outcome) count as equal to the cap. The Yeo-Johnson power p <= 1 has the
    highest profile likelihood. The map works on y / max|y|, so outcomes may be as small as 1e-300 or as large
    as 1e300.
    """

    unit: jt.Float[Tensor, "*b 1"]
    cap: jt.Float[Tensor, "*b 1"]
    location: jt.Float[Tensor, "*b 1"]
    scale: jt.Float[Tensor, "*b 1"]
    power: jt.Float[Tensor, "*b 1"]
    shift: jt.Float[Tensor, "*b 1"]
    spread: jt.Float[Tensor, "*b 1"]

    @staticmethod
    def fit(
        y: jt.Float[Tensor, "*b n"],
        reachable: jt.Bool[Tensor, " n"] | None = None,
        early: int | None = None,
    ) -> "OutcomeTransform":
        """The transform fitted to outcomes.

        Args:
            y: finite outcomes (n >= 1) in the user's units, smaller is better.
            reachable: which of these, of one run, are of points in the space; None for all. The cap is not
                below that of these alone, so that good outcomes outside do not make all others equal.
            early: number of first outcomes, below whose own cap that of all is not; None for no such bound.
                A search that has converged has most outcomes near the best, and all others above their cap.
        """
        largest = y.abs().amax(-1, keepdim=True)
        unit = torch.where(largest > 0, largest, 1.0)
        relative = y / unit
        cap = _cap(relative)
        if reachable is not None:
            cap = torch.maximum(cap, _cap(relative[reachable]))
        if early is not None:
            cap = torch.maximum(cap, _cap(relative[..., :early]))
        location, scale = _location_scale(torch.minimum(relative, cap))
        z = ((torch.minimum(relative, cap) - location) / scale)[..., None, :]
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
        z = self.linear(y)
        return (_yeo_johnson(z, self.power) - self.shift) / self.spread

    def linear(self, y: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Outcomes up to the cap on a linear scale: standardise(min(y, cap))."""
        return (torch.minimum(y / self.unit, self.cap) - self.location) / self.scale

    def linear_inverse(self, z: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Outcomes in the user's units, of values on the linear scale; the cap is not applied."""
        return (z * self.scale + self.location) * self.unit

    def log_slope(self, y: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Log of the derivative of outcomes on the surrogate's scale by those on the linear one."""
        z = self.linear(y)
        return torch.where(z >= 0, 1.0, -1.0) * (self.power - 1.0) * torch.log1p(z.abs()) - self.spread.log()

    def inverse(self, z: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Outcomes in the user's units, of values on the surrogate's scale; increasing.

        y = unit (location + scale YJ_p⁻¹(shift + spread z)). The cap is not applied, so
        inverse(self(y)) = min(y, cap) and self(inverse(z)) = min(z, self(cap)). With a power p < 0 the result
        is infinite if shift + spread z >= -1 / p.
        """
        return self.linear_inverse(_yeo_johnson_inverse(z * self.spread + self.shift, self.power))

    def capped_inverse(self, z: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """`inverse`, but at most the cap, and so finite: a surrogate knows nothing beyond the cap.

        If all outcomes are equal, the cap equals them; then the bound is one `scale` above.
        """
        bound = torch.maximum(self.cap, self.location + self.scale) * self.unit
        largest = torch.finfo(z.dtype).max
        return torch.minimum(self.inverse(z), bound).clamp(-largest, largest)

    def average(self, z: jt.Float[Tensor, "m k"], weights: jt.Float[Tensor, " k"]) -> jt.Float[Tensor, " m"]:
        """self(Σ_k weights_k inverse(z_k)): the mean of the user's outcomes on the surrogate's scale.

        Values above the cap count as equal to it, as in `capped_inverse`. Differentiable by z.
        """
        bound = torch.maximum(self.cap, self.location + self.scale)
        largest = (_yeo_johnson((bound - self.location) / self.scale, self.power) - self.shift) / self.spread
        outcomes = _yeo_johnson_inverse(torch.minimum(z, largest) * self.spread + self.shift, self.power)
        return (_yeo_johnson(outcomes @ weights, self.power) - self.shift) / self.spread

    def noise(self, y: jt.Float[Tensor, "*b n"], std: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """Variances on the surrogate's scale, of outcomes with standard deviations std.

        (std dz/dy)²; outcomes above the cap have the slope at the cap.
        """
        return self._scaled(y, std).clamp(max=_WORST_STD).square()

    def gradient(
        self, y: jt.Float[Tensor, "*b n"], gradient: jt.Float[Tensor, "*b n d"]
    ) -> jt.Float[Tensor, "*b n d"]:
        """Gradients on the surrogate's scale, of outcomes with gradients in the user's units.

        gradient dz/dy. NaN, which stands for unknown, where it is so in `gradient`, where the outcome is
        above the cap, and where a derivative is beyond 10^6: so steep a surrogate is not.
        """
        scaled = gradient * self._scaled(y, torch.ones_like(y))[..., None]
        known = (y / self.unit <= self.cap)[..., None] & (scaled.abs() <= _STEEPEST)
        return torch.where(known, scaled, torch.nan)

    def _scaled(self, y: Tensor, change: Tensor) -> Tensor:
        """Small changes of outcomes, on the surrogate's scale: change dz/dy."""
        z = self.linear(y)
        slope = torch.exp(torch.where(z >= 0, 1.0, -1.0) * (self.power - 1.0) * torch.log1p(z.abs()))
        return change / self.unit / self.scale * slope / self.spread

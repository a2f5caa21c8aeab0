"""Expectations over f ~ N(mean, var) for each observation, in closed form or by evenly spaced nodes."""

import math
from collections.abc import Callable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES

_NODES = torch.linspace(-8.0, 8.0, 80, **CPU_DOUBLES)
_LOG_WEIGHTS = torch.log_softmax(-0.5 * _NODES.square(), 0)
"""Evenly spaced nodes of a standard normal. Gauss-Hermite nodes converge slowly if the integrand has poles,
as log p of a label has at distance π: at variance 25, derivatives by 32 such nodes are wrong by 5e-3."""

_FLOOR = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Added to a variance before its root is taken, so that the derivative is accurate at 0."""

_NEGLIGIBLE = 32.0
"""Values below e⁻³² of an integrand's peak are ignored."""

_NARROWINGS = 3
"""Number of rounds that find a peak a ten-thousandth as wide as the first interval."""


def spread(
    mean: jt.Float[Tensor, "*b n"], var: jt.Float[Tensor, "*b n"], z: jt.Float[Tensor, " k"]
) -> jt.Float[Tensor, "*b n k"]:
    """mean + √var z."""
    std = (var.clamp(min=0.0) + _FLOOR[var.dtype]).sqrt()
    return mean[..., None] + std[..., None] * z.to(mean)


def expectation(
    function: Callable[[Tensor], Tensor], mean: jt.Float[Tensor, "*b n"], var: jt.Float[Tensor, "*b n"]
) -> jt.Float[Tensor, "*b n"]:
    """E[function(f)], function of f (*b, n, k)."""
    return function(spread(mean, var, _NODES)) @ _LOG_WEIGHTS.exp().to(mean)


def log_expectation(
    function: Callable[[Tensor], Tensor], mean: jt.Float[Tensor, "*b n"], var: jt.Float[Tensor, "*b n"]
) -> jt.Float[Tensor, "*b n"]:
    """log E[exp(function(f))], function of f (*b, n, k)."""
    return torch.logsumexp(function(spread(mean, var, _NODES)) + _LOG_WEIGHTS.to(mean), -1)


def normal_draws(count: int) -> jt.Float[Tensor, " count"]:
    """Normal quantiles of evenly spaced probabilities, symmetric about 0 and scaled to variance one."""
    z = torch.special.ndtri((torch.arange(count, **CPU_DOUBLES) + 0.5) / count)
    z = z - z.flip(0)
    scaled: Tensor = z / z.square().mean().sqrt()
    return scaled


def polya_gamma_mean(c: jt.Float[Tensor, "*b"]) -> jt.Float[Tensor, "*b"]:
    """E[ω] = tanh(c / 2) / (2c) for ω ~ PG(1, c), 1/4 at c = 0 (Polson et al. 2013, section 2.3)."""
    c = c.abs().clamp(min=1e-10)
    return torch.tanh(0.5 * c) / (2.0 * c)


def expected_rate(
    mean: jt.Float[Tensor, "*b n"], var: jt.Float[Tensor, "*b n"]
) -> tuple[jt.Float[Tensor, "*b n"], jt.Float[Tensor, "*b n"]]:
    """E[eᶠ] = exp(mean + var / 2), along its tangent beyond an exponent of 30, and its derivative by mean."""
    exponent = mean + 0.5 * var
    capped = exponent.clamp(max=30.0)
    slope = capped.exp()
    return slope * (1.0 + exponent - capped), slope


def log_poisson_mixture(
    y: jt.Float[Tensor, "*b n"], mean: jt.Float[Tensor, "*rb n"], var: jt.Float[Tensor, "*rb n"]
) -> jt.Float[Tensor, "*rb n"]:
    """log ∫ N(f | mean, var) eʸᶠ exp(-eᶠ) / y! df.

    The integrand's mode is log(w / var), where w + log w = log var + mean + var y (Wright's omega). At a
    distance u from it, the integrand is smaller by exp(-(u² / 2 + w (eᵘ - 1 - u)) / var).
    """
    var = var.clamp(min=0.0) + _FLOOR[var.dtype]
    w = _wright_omega(var.log() + mean + var * y)
    peak = y * (w / var).log() - (w + 0.5 * (var * y - w).square()) / var - torch.lgamma(y + 1.0)
    reach = (2.0 * _NEGLIGIBLE * var).sqrt()

    def log_fall(u: Tensor) -> Tensor:
        return -(0.5 * u.square() + w[..., None] * (torch.expm1(u) - u)) / var[..., None]

    return peak + _log_integral(log_fall, -reach, reach) - 0.5 * torch.log(2.0 * math.pi * var)


def expected_log1p(q: jt.Float[Tensor, "*b n"], r: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
    """E[log(1 + X²)] = ∫ e⁻ᵗ (1 - M(t)) / t dt, X ~ N(√q, r), M(t) = E[exp(-t X²)].

    By evenly spaced log t. Below the first node, (1 - M(t)) / t is q + r, and the sum a geometric series.
    """
    low = -12.0 - torch.log1p(q + r).detach()
    step = (3.75 - low) / (_NODES.numel() - 1)
    t = _grid(low, step).exp()
    inside = -torch.exp(-t) * torch.expm1(_log_m(t, q[..., None], r[..., None]))
    return step * (inside.sum(-1) + (q + r) * low.exp() / torch.expm1(step))


def log_expected_power(
    q: jt.Float[Tensor, "*b n"], r: jt.Float[Tensor, "*b n"], k: float
) -> jt.Float[Tensor, "*b n"]:
    """log Γ(k) E[(1 + X²)⁻ᵏ] = log ∫ tᵏ⁻¹ e⁻ᵗ M(t) dt, X ~ N(√q, r), M(t) = E[exp(-t X²)].

    Over u = log(t / k), from the lower end of a Gamma(k) density that is 1 + q + r times narrower to the
    upper end of a Gamma(k) density.
    """
    width = math.sqrt(2.0 * _NEGLIGIBLE / k) + _NEGLIGIBLE / k
    low = -torch.log1p(q + r) - width

    def log_integrand(u: Tensor) -> Tensor:
        return k * (u - torch.expm1(u)) + _log_m(k * u.exp(), q[..., None], r[..., None])

    high = torch.full_like(low, math.log1p(width))
    return _log_integral(log_integrand, low, high) + (k * math.log(k) - k)


def _log_integral(log_integrand: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """log ∫ exp(log_integrand(u)) du, by evenly spaced u in (low, high) except for negligible ends."""
    low, high = low.detach(), high.detach()
    for _ in range(_NARROWINGS):
        step = (high - low) / (_NODES.numel() - 1)
        with torch.no_grad():
            u = _grid(low, step)
            values = log_integrand(u)
            counts = values > values.amax(-1, keepdim=True) - _NEGLIGIBLE
            low = torch.where(counts, u, torch.inf).amin(-1) - step
            high = torch.where(counts, u, -torch.inf).amax(-1) + step
    step = (high - low) / (_NODES.numel() - 1)
    return torch.logsumexp(log_integrand(_grid(low, step)), -1) + step.log()


def _log_m(t: Tensor, q: Tensor, r: Tensor) -> Tensor:
    return -0.5 * torch.log1p(2.0 * t * r) - t * q / (1.0 + 2.0 * t * r)


def _grid(low: Tensor, step: Tensor) -> Tensor:
    return low[..., None] + step[..., None] * torch.arange(_NODES.numel(), dtype=low.dtype, device=low.device)


def _wright_omega(x: Tensor) -> Tensor:
    """w of w + log w = x, by Newton's method."""
    w = torch.nn.functional.softplus(x)
    for _ in range(6):
        w = w * (1.0 + x - w.log()) / (1.0 + w)
    return w

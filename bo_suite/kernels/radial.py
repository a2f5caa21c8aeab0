"""Derivatives of radial correlations by the squared distance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Radial = Callable[[Tensor], Callable[[int], Tensor]]
"""Squared distances to a function of an order up to 3: that derivative of a correlation by them."""

_SQRT5 = math.sqrt(5.0)

_SMALLEST_DISTANCE = 1e-9
"""Distances that divide are clamped here."""


def matern52(rho: Tensor) -> Callable[[int], Tensor]:
    """Derivatives of (1 + √5 r + 5ρ/3) e, with e = exp(-√5 r) and ρ = r².

    They are -5/6 (1 + √5 r) e, 25/12 e and -25√5 / (24 r) e. The third grows without bound at 0, where what
    it is multiplied by falls as r².
    """
    r = rho.sqrt()
    decay = (r * -_SQRT5).exp_()

    def derivative(order: int) -> Tensor:
        if order == 0:
            return torch.addcmul(decay, decay, (r * _SQRT5).add_(rho, alpha=5.0 / 3.0))
        if order == 1:
            return torch.addcmul(decay, decay, r, value=_SQRT5).mul_(-5.0 / 6.0)
        if order == 2:
            return decay * (25.0 / 12.0)
        return (decay / r.clamp(min=_SMALLEST_DISTANCE)).mul_(-25.0 * _SQRT5 / 24.0)

    return derivative


def squared_exponential(rho: Tensor) -> Callable[[int], Tensor]:
    """Derivatives of exp(-ρ/2)."""
    correlation = torch.exp(-0.5 * rho)
    return lambda order: correlation * (-0.5) ** order

"""Random functions of one direction each, whose products average to a zonal kernel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.kernels.sphere import funk_hecke

Rows = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows to their directions (*b n D) and amplitudes (*b n), differentiable by autograd."""


_TINY = 1e-300
"""Added to numbers before their logarithm."""


@runtime_checkable
class Ridges(Protocol):
    """Functions g_s(w_sᵀ u) of directions u, s = 1 ... F."""

    @property
    def directions(self) -> jt.Float[Tensor, "*b F D"]:
        """w."""

    def __call__(self, directions: jt.Float[Tensor, "*b n D"]) -> jt.Float[Tensor, "*b n F"]:
        """The functions at directions."""

    def coefficients(self, degree: int) -> jt.Float[Tensor, "*b F degrees"]:
        """c_sl of g_s(t) = sum_l c_sl Z_l(t), l = 0 ... degree."""


@dataclass(frozen=True, eq=False)
class RidgeFunctions:
    """Functions of rows x: amplitude(x) g_s(w_sᵀ u(x)), with u(x) the direction of a row.

    Attributes:
        project: rows to directions and amplitudes.
        ridges: g and w.
    """

    project: Rows
    ridges: Ridges

    @property
    def directions(self) -> jt.Float[Tensor, "*b F D"]:
        """w."""
        return self.ridges.directions

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m F"]:
        """The functions at rows."""
        directions, amplitude = self.project(x)
        return amplitude[..., None] * self.ridges(directions)

    def coefficients(self, degree: int) -> jt.Float[Tensor, "*b F degrees"]:
        """c_sl of g_s(t) = sum_l c_sl Z_l(t), l = 0 ... degree; the amplitude is no part of them."""
        return self.ridges.coefficients(degree)


@dataclass(frozen=True, eq=False)
class Rectified:
    """max(wᵀ u, 0)^n / √E[max(t, 0)^2n].

    Attributes:
        directions: w, unit vectors.
        order: n.
    """

    directions: jt.Float[Tensor, "*b F D"]
    order: int

    def __call__(self, directions: jt.Float[Tensor, "*b n D"]) -> jt.Float[Tensor, "*b n F"]:
        """The functions at directions."""
        return torch.relu(directions @ self.directions.mT) ** self.order / self._size

    def coefficients(self, degree: int) -> jt.Float[Tensor, "*b F degrees"]:
        """Those of each function, which are the same."""
        shape, dim = self.directions.shape[:-1], self.directions.shape[-1]
        of_one = funk_hecke(lambda t: torch.relu(t) ** self.order, dim, degree) / self._size
        return of_one.to(self.directions).expand(*shape, -1)

    @property
    def _size(self) -> float:
        """√E[max(t, 0)^2n]."""
        dim = self.directions.shape[-1]
        return math.sqrt(funk_hecke(lambda t: torch.relu(t) ** (2 * self.order), dim, 0).item())


@dataclass(frozen=True, eq=False)
class Waves:
    """cos(ω wᵀ u) for all (ω, w), then sin(ω wᵀ u).

    Attributes:
        frequencies: ω w.
    """

    frequencies: jt.Float[Tensor, "*b f D"]

    @property
    def directions(self) -> jt.Float[Tensor, "*b F D"]:
        """w, twice."""
        units = torch.nn.functional.normalize(self.frequencies, dim=-1)
        return torch.cat((units, units), -2)

    def __call__(self, directions: jt.Float[Tensor, "*b n D"]) -> jt.Float[Tensor, "*b n F"]:
        """The functions at directions."""
        phase = directions @ self.frequencies.mT
        return torch.cat((torch.cos(phase), torch.sin(phase)), -1)

    def coefficients(self, degree: int) -> jt.Float[Tensor, "*b F degrees"]:
        """c_l = Γ(ν + 1) (2 / ω)^ν J_(l+ν)(ω) with ν = D / 2 - 1, times the real part of i^l for cosines, or
        the imaginary part for sines (expansion of a plane wave; NIST DLMF, equation 10.23.9).
        """
        from scipy.special import gammaln, jv  # takes a tenth of a second to import

        order = 0.5 * self.frequencies.shape[-1] - 1.0
        omega = torch.linalg.vector_norm(self.frequencies.double(), dim=-1, keepdim=True).cpu().numpy()
        degrees = np.arange(degree + 1)
        bessel = jv(degrees + order, omega)
        logarithm = gammaln(order + 1.0) + order * np.log(2.0 / omega) + np.log(np.abs(bessel) + _TINY)
        size = torch.tensor(np.exp(logarithm) * np.sign(bessel)).to(self.frequencies)
        real = size.new_tensor([(1.0, 0.0, -1.0, 0.0)[each % 4] for each in degrees])
        imaginary = size.new_tensor([(0.0, 1.0, 0.0, -1.0)[each % 4] for each in degrees])
        return torch.cat((size * real, size * imaginary), -2)

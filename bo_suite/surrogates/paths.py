"""Functions drawn from a process, which can be evaluated and differentiated anywhere."""

from dataclasses import dataclass
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import FeatureKernel, Features, SpectralKernel
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.moments import Pathwise
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import Process


@dataclass(frozen=True, eq=False)
class Paths:
    """f_s(x) = prior_mean(x) + ψ(x) w_s + k_u(x)ᵀ c_s, for each path s.

    Attributes:
        basis: kernel and variables u.
        prior_mean: mean before any observation.
        functions: ψ.
        features: w.
        update: c.
    """

    basis: Basis
    prior_mean: PriorMean
    functions: Features
    features: jt.Float[Tensor, "*b g s"]
    update: jt.Float[Tensor, "*b n s"]

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "s *b m"]:
        """The paths at x, in O(m (F + n)) each; differentiable once by x."""
        prior = self.functions(x) @ self.features
        total: Tensor = prior + _Update.apply(x, self.basis, self.update)  # type: ignore[no-untyped-call]
        return total.movedim(-1, 0) + self.prior_mean(x)


def has_paths(process: Process) -> bool:
    """Whether functions can be drawn from the process: see `draw_paths`."""
    return (
        isinstance(process, Pathwise)
        and not process.basis.fantasies(process.white)
        and isinstance(process.basis.kernel, SpectralKernel | FeatureKernel)
    )


def mean_path(process: Process) -> Paths:
    """The posterior mean as one path, in O(n) a row; `process.mean` computes the variance, too.

    Args:
        process: without fantasies.

    Raises:
        DataError: a process without a basis.
    """
    if not isinstance(process, Pathwise):
        raise DataError(f"a mean path needs a process that is `Pathwise`, got {type(process).__name__}")
    rows = process.basis.rows
    none = _Waves(rows.new_zeros(*rows.shape[:-2], 0, rows.shape[-1]))
    update = process.basis.weights(process.white)
    return Paths(process.basis, process.prior_mean, none, rows.new_zeros(0, 1), update)


def draw_paths(process: Process, count: int, seeds: Seeds, *, features: int = 1024) -> Paths:
    """Draws from the posterior by Matheron's rule (Wilson et al. 2020, equations 12 and 13).

    A prior path of random Fourier features (Rahimi and Recht 2007) plus the update k_u(x)ᵀ c that carries its
    variables g, and a draw of their noise e, to the posterior: c = L⁻ᵀ (t - L⁻¹ (g + e)), where
    t = L⁻¹ (y - prior_mean(x)) of an exact process, and a draw of v ~ q(v) of a sparse one.

    Args:
        process: without fantasies.
        count: number of paths.
        seeds: of all draws.
        features: number F of random features; the prior's covariance is off by about 1 / √F of its variance.

    Raises:
        DataError: a process with fantasies or without a basis, a kernel without `frequencies` or `features`,
            or count or features < 1.
    """
    if not isinstance(process, Pathwise):
        raise DataError(f"paths need a process that is `Pathwise`, got {type(process).__name__}")
    basis, white = process.basis, process.white
    if not count >= 1 or not features >= 1:
        raise DataError(f"count and features must be >= 1, got {count} and {features}")
    if basis.fantasies(white):
        raise DataError("paths need a process without fantasies, got one with fantasies")
    n = basis.variables.count
    functions, share = _features(basis, features, seeds.split("frequencies"))
    amplitude = (share / features).sqrt()
    normal = seeds.split("features").normal((2 * features, count), basis.rows)
    weights = torch.cat((amplitude, amplitude), -1)[..., None] * normal
    target = white[..., None].expand(*white.shape, count)
    if basis.precision_chol is not None:
        draws = seeds.split("inducing values").normal((n, count), basis.rows)
        target = solve_lower(basis.precision_chol, target + draws, transposed=True)
    diagonal = basis.factor.variances - basis.variables.variances(basis.kernel, basis.theta)
    noise = diagonal.clamp(min=0.0).sqrt()[..., None] * seeds.split("noise").normal((n, count), basis.rows)
    values = basis.variables.values(basis.kernel, basis.theta, functions) @ weights + noise
    update = basis.factor.solve(target - basis.factor.solve(values), transposed=True)
    return Paths(basis, process.prior_mean, functions, weights, update)


def _features(basis: Basis, count: int, seeds: Seeds) -> tuple[Features, Tensor]:
    """Random functions of rows, and weights, whose products average to the kernel."""
    kernel, d = basis.kernel, basis.rows.shape[-1]
    if isinstance(kernel, FeatureKernel):
        return kernel.features(basis.theta, count, d, seeds)
    if not isinstance(kernel, SpectralKernel):
        raise DataError(
            "paths need a kernel with `frequencies` (Matern52 has them), "
            f"got {type(kernel).__name__}; acquisitions other than ThompsonSampling need none"
        )
    frequencies, share = kernel.frequencies(basis.theta, count, d, seeds)
    return _Waves(frequencies), share * basis.scale[..., None]


@dataclass(frozen=True, eq=False)
class _Waves:
    """Cosines of x Wᵀ, then sines."""

    frequencies: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies.mT
        return torch.cat((torch.cos(phase), torch.sin(phase)), -1)


class _Update(torch.autograd.Function):
    """k_u(x)ᵀ c, with the analytic gradient by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Basis, weights: Tensor) -> Tensor:
        k, ctx.pullback = basis.cross(x)
        ctx.weights = weights
        return k @ weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.pullback(gradients[0] @ ctx.weights.mT), None, None

"""Matern-5/2 times Hamming, with analytic derivatives."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.kernels.ard import Ard
from bo_suite.kernels.base import JointPullback, Pullback
from bo_suite.kernels.derivatives import functionals_cross
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.radial import matern52

_SQRT5 = math.sqrt(5.0)


@dataclass(frozen=True)
class Matern52:
    """Matern-5/2 over ordered columns times a Hamming kernel over unordered ones, with an outputscale.

    k(x, z) = s² (1 + √5 r + 5r²/3) exp(-√5 r) exp(-sum_u 0.2 [x_u != z_u] / l_u), with
    r² = sum_o (x_o - z_o)² / l_o². Theta is (log l_1 ... log l_d, log s²); all columns are in [0, 1].

    Priors: l ~ LogNormal(√2 + log(d)/2, √3) (Hvarfner, Hellsten and Nardi 2024, section 5), as in
    BoTorch, and s² ~ LogNormal(0, `outputscale_spread`). For a fidelity l ~ LogNormal(log 3 + 1, 1): at its
    mode, 3, the ends of the range correlate by 0.92, so that low fidelities inform about the target at once.
    If the function is constant in steps, the density of the other lengthscales is multiplied by
    exp(-0.1 / l²), as Optuna's GPSampler does for all functions: those below 0.2 would follow the steps.

    Attributes:
        unordered: columns that hold codes of categories.
        fidelities: columns that hold the fidelity of an evaluation.
        outputscale_spread: standard deviation of log s² under its prior.
    """

    unordered: tuple[int, ...] = ()
    fidelities: tuple[int, ...] = ()
    outputscale_spread: float = 1.0

    @property
    def ard(self) -> Ard:
        """The lengthscales, the outputscale and the factor of the categories."""
        return Ard(self.unordered, self.fidelities, self.outputscale_spread)

    def start(self, dim: int, together: int | None = None) -> jt.Float[Tensor, " p"]:
        """Lengthscales √d / 2, those of fidelities 3, and outputscale one.

        Args:
            dim: number of columns.
            together: the d of the formula, if rows can not have all columns.
        """
        return self.ard.start(dim, together)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Lengthscales in [0.01, 1000], outputscale in [0.01, 1000]."""
        return self.ard.bounds(dim)

    def log_prior(
        self,
        theta: jt.Float[Tensor, "*b p"],
        dim: int,
        stepped: jt.Bool[Tensor, "*b"] | None = None,
        together: int | None = None,
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, s²), not of their logarithms, up to a constant, and its gradient by theta.

        Args:
            theta: hyperparameters.
            dim: number of columns.
            stepped: whether the function is known to be constant in steps; None if it is not.
            together: the d of the formula, if rows can not have all columns.
        """
        return self.ard.log_prior(theta, dim, stepped, together)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta, in O(n² d)."""
        inverse = self.ard.inverse_lengthscales(theta)
        scaled = (x - 0.5) * inverse[..., None, :]
        decay = self.ard.amplitude(theta, x, x)
        r, bell = _distance_and_decay(scaled, scaled)
        bell *= decay
        slope = (r * _SQRT5).add_(1.0).mul_(bell)
        k = bell.mul_(5.0 / 3.0).mul_(r.square_()).add_(slope)
        slope *= 5.0 / 3.0

        def pullback(weights: Tensor) -> Tensor:
            pull = weights * slope
            # sum_ab M_ab (z_a - z_b)² for a symmetric M, without forming the differences
            spread = (pull.sum(-1, keepdim=True) * scaled - pull @ scaled) * scaled
            by_lengthscale = 2.0 * spread.sum(-2)
            weighted = weights * k
            self.ard.add_categories(by_lengthscale, theta, x, x, weighted)
            return torch.cat((by_lengthscale, weighted.sum((-2, -1))[..., None]), -1)

        return k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered columns), in O(m n d)."""
        left, right, inverse, k, slope = self._stationary(theta, x, z)

        def pullback(weights: Tensor) -> Tensor:
            pull = weights * slope
            return (pull @ right - pull.sum(-1, keepdim=True) * left) * inverse

        return k, pullback

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero for unordered columns)."""
        left, right, inverse, k, slope = self._stationary(theta, x, z)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pull = weights * slope
            rows, columns = pull.sum(-1)[..., None], pull.sum(-2)[..., None]
            forth, back = pull @ right, pull.mT @ left
            by_lengthscale = (left * (rows * left - 2.0 * forth)).sum(-2) + (columns * right.square()).sum(-2)
            self.ard.add_categories(by_lengthscale, theta, x, z, weights * k)
            by_scale = torch.linalg.vecdot(weights.flatten(-2), k.flatten(-2))
            by_theta = torch.cat((by_lengthscale, by_scale[..., None]), -1)
            return by_theta, (forth - rows * left) * inverse, (back - columns * right) * inverse

        return k, pullback

    def frequencies(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[jt.Float[Tensor, "*b count d"], jt.Float[Tensor, "*b count"]]:
        """Random w, and weights a, with k(x, z) = s² E[a cos(wᵀ (x - z))].

        Ordered columns: the spectral density of w l is multivariate t with 5 degrees of freedom (Rasmussen
        and Williams 2006, section 4.2.1). The uncertainty about a smooth function that data leave lies far in
        its tails, so half of the draws have one degree of freedom, and a is the ratio of the densities. An
        unordered column, exp(-c [x != z]) = ρ + (1 - ρ) [x = z] with ρ = exp(-c): zero with probability
        ρ, else uniform on a range so wide that the cosine of two different codes averages out.
        """
        normal = seeds.split("normal").normal((count, dim + 5), theta)
        squares = normal[..., dim:].square()
        heavy = torch.arange(count, device=theta.device) < count // 2
        spread = torch.where(heavy, squares[..., 0], squares.mean(-1))
        frequencies = normal[..., :dim] * spread.rsqrt()[..., None]
        ordered = [column for column in range(dim) if column not in self.unordered]
        distance, d = frequencies[..., ordered].square().sum(-1), len(ordered)
        log_ratio = _log_t(distance, d, 1.0) - _log_t(distance, d, 5.0)
        share = count // 2 / count
        weights = 1.0 / (1.0 - share + share * torch.exp(log_ratio))
        frequencies = frequencies * torch.exp(-theta[..., :-1])[..., None, :]
        self.ard.add_frequencies(frequencies, theta, seeds)
        return frequencies, weights

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return self.ard.diagonal(theta, x)

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by the outputscale; 0 by other theta, and by x."""
        return self.ard.diagonal_gradient(theta, x, weights)

    def functionals_cross(
        self, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """cov(u, v) of linear functionals, and the map of W to d sum(W * cov) by theta and both nodes."""
        return functionals_cross(matern52, self.ard, theta, left, right)

    def _stationary(
        self, theta: Tensor, x: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Both sets scaled, 1 / l, k and its slope -2 dk / d(r²)."""
        inverse = self.ard.inverse_lengthscales(theta)[..., None, :]
        left, right = (x - 0.5) * inverse, (z - 0.5) * inverse
        r, decay = _distance_and_decay(left, right)
        decay *= self.ard.amplitude(theta, x, z)
        slope = torch.addcmul(decay, decay, r, value=_SQRT5)
        k = torch.addcmul(slope, decay, r.square_(), value=5.0 / 3.0)
        return left, right, inverse, k, slope.mul_(5.0 / 3.0)


def _distance_and_decay(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """r and exp(-√5 r) between the rows of two scaled sets."""
    norms = left.square().sum(-1)[..., :, None] + right.square().sum(-1)[..., None, :]
    if norms.ndim > 3:
        r = norms - 2.0 * left @ right.mT
    else:
        r = (torch.addmm if norms.ndim == 2 else torch.baddbmm)(norms, left, right.mT, alpha=-2.0)
    r = r.clamp_(min=0.0).sqrt_()
    return r, (r * -_SQRT5).exp_()


def _log_t(square: Tensor, d: int, freedom: float) -> Tensor:
    """Log density of the multivariate t in d dimensions at squared distances from its centre."""
    constant = (
        math.lgamma(0.5 * (freedom + d)) - math.lgamma(0.5 * freedom) - 0.5 * d * math.log(freedom * math.pi)
    )
    return constant - 0.5 * (freedom + d) * torch.log1p(square / freedom)

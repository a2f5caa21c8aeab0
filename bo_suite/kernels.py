"""Covariance functions with analytic derivatives, and any gpytorch kernel through autograd.

A kernel is a frozen configuration; its free parameters are one vector `theta` a replicate, on a scale
where they are unconstrained but for a box. `gram` and `cross` also return the pullback that turns a
gradient with respect to the matrix into one with respect to theta or to the inputs.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

Pullback = Callable[[Tensor], Tensor]

_SQRT5 = math.sqrt(5.0)

_UNLIKE = 0.2
"""Distance between two categories: at the mode of the common prior, l = 0.2 √d, they then correlate by
exp(-1 / √d), about as two typical points of a real column do, so that untried categories get tried. With a
distance of one, an untried category told nothing of its neighbours, and the search stayed with the first."""


@runtime_checkable
class Kernel(Protocol):
    """What a Gaussian process surrogate needs of a covariance function."""

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Theta to begin a fit from."""

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Smallest and largest theta."""

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log prior density of the hyperparameters, up to a constant, and its gradient by theta."""

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W (*b n n) to d sum(W * k) / d theta."""

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W (*b m n) to d sum(W * k) / d x."""

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """k(x_i, x_i)."""


@dataclass(frozen=True)
class Matern52:
    """Matern-5/2 over ordered columns times a Hamming kernel over unordered ones, with an outputscale.

    k(x, z) = s² (1 + √5 r + 5r²/3) exp(-√5 r) exp(-sum_u 0.2 [x_u != z_u] / l_u), with
    r² = sum_o (x_o - z_o)² / l_o². Theta is (log l_1 ... log l_d, log s²); all columns are in [0, 1].

    Priors: l ~ LogNormal(√2 + log(d)/2, √3) (Hvarfner, Hellsten and Nardi 2024, section 5), as in
    BoTorch, and s² ~ LogNormal(0, `outputscale_spread`).

    Attributes:
        unordered: columns that hold codes of categories.
        outputscale_spread: standard deviation of log s² under its prior.
    """

    unordered: tuple[int, ...] = ()
    outputscale_spread: float = 1.0

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Lengthscales √d / 2 and outputscale one."""
        return torch.tensor([math.log(0.5 * math.sqrt(dim))] * dim + [0.0], dtype=torch.float64)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Lengthscales in [0.01, 1000], outputscale in [0.01, 1000]."""
        lower = torch.tensor([math.log(0.01)] * dim + [math.log(0.01)], dtype=torch.float64)
        return lower, torch.full_like(lower, math.log(1e3))

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, s²), not of their logarithms, up to a constant, and its gradient by theta."""
        location = theta.new_tensor([math.sqrt(2.0) + 0.5 * math.log(dim)] * dim + [0.0])
        spread = theta.new_tensor([math.sqrt(3.0)] * dim + [self.outputscale_spread])
        standard = (theta - location) / spread
        return -(0.5 * standard.square() + theta).sum(-1), -(standard / spread + 1.0)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta, in O(n² d)."""
        inverse = self._inverse_lengthscales(theta)
        scaled = (x - 0.5) * inverse[..., None, :]
        decay = self._amplitude(theta, x, x)
        r, bell = _distance_and_decay(scaled, scaled)
        slope = decay * bell * (1.0 + _SQRT5 * r)
        k = slope + decay * bell * (5.0 / 3.0) * r.square()
        slope = slope * (5.0 / 3.0)

        def pullback(weights: Tensor) -> Tensor:
            pull = weights * slope
            # sum_ab M_ab (z_a - z_b)² for a symmetric M, without forming the differences
            spread = (pull.sum(-1, keepdim=True) * scaled - pull @ scaled) * scaled
            by_lengthscale = 2.0 * spread.sum(-2)
            weighted = weights * k
            for column in self.unordered:
                differs = x[..., :, None, column] != x[..., None, :, column]
                mass = (weighted * differs).sum((-2, -1))
                by_lengthscale[..., column] = mass * _UNLIKE * torch.exp(-theta[..., column])
            return torch.cat((by_lengthscale, weighted.sum((-2, -1))[..., None]), -1)

        return k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered columns), in O(m n d)."""
        inverse = self._inverse_lengthscales(theta)[..., None, :]
        left, right = (x - 0.5) * inverse, (z - 0.5) * inverse
        r, bell = _distance_and_decay(left, right)
        decay = self._amplitude(theta, x, z) * bell
        k = decay * (1.0 + _SQRT5 * r + (5.0 / 3.0) * r.square())

        def pullback(weights: Tensor) -> Tensor:
            pull = weights * decay * (1.0 + _SQRT5 * r) * (-5.0 / 3.0)
            return (pull.sum(-1, keepdim=True) * left - pull @ right) * inverse

        return k, pullback

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return torch.exp(theta[..., -1:]).expand(x.shape[:-1])

    def _inverse_lengthscales(self, theta: Tensor) -> Tensor:
        """1 / l, zero for unordered columns, which do not enter r."""
        inverse = torch.exp(-theta[..., :-1])
        if self.unordered:
            inverse[..., list(self.unordered)] = 0.0
        return inverse

    def _amplitude(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """s² times the Hamming factor."""
        logarithm = theta[..., -1, None, None]
        for column in self.unordered:
            differs = x[..., :, None, column] != z[..., None, :, column]
            logarithm = logarithm - differs * (_UNLIKE * torch.exp(-theta[..., column, None, None]))
        return torch.exp(logarithm)


def _distance_and_decay(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """r and exp(-√5 r) between the rows of two scaled sets."""
    norms = left.square().sum(-1)[..., :, None] + right.square().sum(-1)[..., None, :]
    if norms.ndim > 3:
        r = norms - 2.0 * left @ right.mT
    else:
        r = (torch.addmm if norms.ndim == 2 else torch.baddbmm)(norms, left, right.mT, alpha=-2.0)
    r = r.clamp_(min=0.0).sqrt_()
    return r, torch.exp(-_SQRT5 * r)


@dataclass(frozen=True, eq=False)
class GPyTorchKernel:
    """Any `gpytorch.kernels.Kernel`, its derivatives by autograd; theta is its raw parameters, flattened.

    The kernel's registered priors and constraints are used. The given kernel is never changed.

    Attributes:
        kernel: a gpytorch kernel without batch shape, whose current parameters start the fit.
    """

    kernel: Any

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """The raw parameters that the kernel came with."""
        parts = [parameter.detach().double().flatten() for parameter in self.kernel.parameters()]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Within 10 of the start on the raw scale, where gpytorch maps to the constraint."""
        start = self.start(dim)
        return start - 10.0, start + 10.0

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Sum of the registered priors' log densities, and its gradient by theta."""
        return self._each(theta, self._log_prior_of)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of W to d sum(W * k) / d theta by autograd."""
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():
            k = self._matrix(leaf, x, x)

        def pullback(weights: Tensor) -> Tensor:
            if not leaf.numel():
                return torch.zeros_like(leaf)
            return torch.autograd.grad(k, leaf, weights.detach())[0]

        return k.detach(), pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x by autograd."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            k = self._matrix(theta.detach(), leaf, z)

        def pullback(weights: Tensor) -> Tensor:
            return torch.nan_to_num(torch.autograd.grad(k, leaf, weights.detach(), retain_graph=True)[0])

        return k.detach(), pullback

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """k(x_i, x_i)."""
        rows = x.reshape(-1, *x.shape[-2:])
        thetas = theta.expand(*x.shape[:-2], theta.shape[-1]).reshape(rows.shape[0], -1)
        parts = [self._call(t, row, row, diag=True) for t, row in zip(thetas, rows, strict=True)]
        return torch.stack(parts).reshape(x.shape[:-1]).detach()

    def _matrix(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(theta.shape[:-1], x.shape[:-2], z.shape[:-2])
        thetas = theta.expand(*batch, theta.shape[-1]).reshape(-1, theta.shape[-1])
        left = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        right = z.expand(*batch, *z.shape[-2:]).reshape(-1, *z.shape[-2:])
        parts = [self._call(*one) for one in zip(thetas, left, right, strict=True)]
        return torch.stack(parts).reshape(*batch, x.shape[-2], z.shape[-2])

    def _call(self, theta: Tensor, x: Tensor, z: Tensor, diag: bool = False) -> Tensor:
        """The kernel at one theta, as a pure function of it."""
        kernel = self._placed(theta)

        def evaluate(module: Any) -> Tensor:
            result = module(x, z, diag=diag)
            dense: Tensor = result if isinstance(result, Tensor) else result.to_dense()
            return dense

        return self._functional(kernel, theta, evaluate)

    def _log_prior_of(self, theta: Tensor) -> Tensor:
        def evaluate(module: Any) -> Tensor:
            total = theta.new_zeros(())
            for _, owner, prior, closure, _ in module.named_priors():
                total = total + prior.log_prob(closure(owner)).sum()
            return total

        return self._functional(self._placed(theta), theta, evaluate)

    def _placed(self, theta: Tensor) -> Any:
        return copy.deepcopy(self.kernel).to(theta)

    @staticmethod
    def _functional(kernel: Any, theta: Tensor, evaluate: Callable[[Any], Tensor]) -> Tensor:
        """Evaluate with slices of theta put in the place of the parameters, so that gradients reach theta."""
        place = 0
        for module in kernel.modules():
            for name, parameter in list(module._parameters.items()):
                size = parameter.numel()
                del module._parameters[name]
                module.__dict__[name] = theta[place : place + size].reshape(parameter.shape)
                place += size
        return evaluate(kernel)

    @staticmethod
    def _each(theta: Tensor, evaluate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        rows = leaf.reshape(-1, leaf.shape[-1])
        with torch.enable_grad():
            values = torch.stack([evaluate(row) for row in rows]).reshape(theta.shape[:-1])
        if not values.requires_grad:
            return values, torch.zeros_like(theta)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

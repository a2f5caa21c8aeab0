"""Any gpytorch kernel, its derivatives by autograd."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns
from bo_suite.kernels.base import JointPullback, Kernel, Pullback
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.coregional import Coregional
from bo_suite.kernels.described import Described
from bo_suite.kernels.stationary import Matern52
from bo_suite.kernels.zonal import Zonal


@dataclass(frozen=True, eq=False)
class GPyTorchKernel:
    """Any `gpytorch.kernels.Kernel`, its derivatives by autograd; theta is its raw parameters, flattened.

    The kernel's registered priors and constraints are used. The kernel itself is never changed.

    Attributes:
        kernel: a gpytorch kernel without batch shape, whose current parameters start the fit.
    """

    kernel: Any

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """The raw parameters of the kernel."""
        flat = [parameter.detach().double().flatten() for parameter in self.kernel.parameters()]
        return torch.cat(flat) if flat else torch.zeros(0, dtype=torch.float64, device="cpu")

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Within 10 of the start on the raw scale, where gpytorch maps to the constraint."""
        start = self.start(dim)
        return start - 10.0, start + 10.0

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
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
            return _gradients(k, (leaf,), weights)[0]

        return k.detach(), pullback

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z by autograd."""
        leaves = tuple(each.detach().requires_grad_() for each in (theta, x, z))
        with torch.enable_grad():
            k = self._matrix(*leaves)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_x, by_z = _gradients(k, leaves, weights)
            return by_theta, by_x, by_z

        return k.detach(), pullback

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """k(x_i, x_i)."""
        return self._diagonal(theta.detach(), x).detach()

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i) by theta and by x, by autograd."""
        leaves = (theta.detach().requires_grad_(), x.detach().requires_grad_())
        with torch.enable_grad():
            diagonal = self._diagonal(*leaves)
        by_theta, by_x = _gradients(diagonal, leaves, weights)
        return by_theta, by_x

    def _diagonal(self, theta: Tensor, x: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(theta.shape[:-1], x.shape[:-2])
        rows = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        thetas = theta.expand(*batch, theta.shape[-1]).reshape(batch.numel(), theta.shape[-1])
        diagonals = [self._call(t, row, row, diag=True) for t, row in zip(thetas, rows, strict=True)]
        return torch.stack(diagonals).reshape(*batch, x.shape[-2])

    def _matrix(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(theta.shape[:-1], x.shape[:-2], z.shape[:-2])
        thetas = theta.expand(*batch, theta.shape[-1]).reshape(batch.numel(), theta.shape[-1])
        left = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        right = z.expand(*batch, *z.shape[-2:]).reshape(-1, *z.shape[-2:])
        matrices = [self._call(*element) for element in zip(thetas, left, right, strict=True)]
        return torch.stack(matrices).reshape(*batch, x.shape[-2], z.shape[-2])

    def _call(self, theta: Tensor, x: Tensor, z: Tensor, diag: bool = False) -> Tensor:
        """The kernel at one theta, as a pure function of it."""
        kernel = self._copy_like(theta)

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

        return self._functional(self._copy_like(theta), theta, evaluate)

    def _copy_like(self, theta: Tensor) -> Any:
        """A copy of the kernel with the dtype and on the device of theta."""
        return copy.deepcopy(self.kernel).to(theta)

    @staticmethod
    def _functional(kernel: Any, theta: Tensor, evaluate: Callable[[Any], Tensor]) -> Tensor:
        """The value with slices of theta in place of the parameters, so that gradients reach theta."""
        first = 0
        for module in kernel.modules():
            for name, parameter in list(module._parameters.items()):
                size = parameter.numel()
                del module._parameters[name]
                module.__dict__[name] = theta[first : first + size].reshape(parameter.shape)
                first += size
        return evaluate(kernel)

    @staticmethod
    def _each(theta: Tensor, evaluate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():
            rows = leaf.reshape(leaf.shape[:-1].numel(), leaf.shape[-1])
            values = torch.stack([evaluate(row) for row in rows]).reshape(theta.shape[:-1])
            total = values.sum()
        if not total.requires_grad:
            return values, torch.zeros_like(theta)
        (gradient,) = torch.autograd.grad(total, leaf)
        return values.detach(), gradient


def _gradients(value: Tensor, leaves: tuple[Tensor, ...], weights: Tensor) -> list[Tensor]:
    """d sum(weights * value) by each leaf, zero if the value does not depend on it."""
    gradients = [torch.zeros_like(leaf) for leaf in leaves]
    used = [index for index, leaf in enumerate(leaves) if leaf.numel()]
    if value.requires_grad and used:
        by_used = torch.autograd.grad(
            value, [leaves[index] for index in used], weights.detach(), retain_graph=True, allow_unused=True
        )
        for index, gradient in zip(used, by_used, strict=True):
            if gradient is not None:
                gradients[index] = torch.nan_to_num(gradient)
    return gradients


def as_kernel(kernel: object | None, unordered: tuple[int, ...], fidelities: tuple[int, ...] = ()) -> Kernel:
    """A surrogate's kernel: `Matern52` for None, a `GPyTorchKernel` for a gpytorch kernel, else unchanged."""
    if kernel is None:
        return Matern52(unordered=unordered, fidelities=fidelities)
    if isinstance(kernel, torch.nn.Module):
        return GPyTorchKernel(kernel)
    return kernel  # type: ignore[return-value]


def kernel_for(kernel: object | None, columns: Columns) -> Kernel:
    """The kernel of a surrogate for data with these columns.

    A `Matern52` becomes `Described` if some categories have descriptors, or `Conditional` if some columns are
    conditional; a `Zonal` gets the categories, and a `Coregional` a kernel over the columns beside its codes.
    Other kernels see rows as they are, with codes of categories and 0 in inactive columns.
    """
    own = as_kernel(kernel, columns.unordered, columns.fidelities)
    if isinstance(own, Zonal | Coregional):
        return own.over(columns)
    if not isinstance(own, Matern52):
        return own
    if columns.descriptors:
        return Described.of(own, columns)
    return Conditional(own, columns.conditions) if columns.conditions else own

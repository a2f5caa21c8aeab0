"""A process averaged over what is really set about each row."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.kernels import Functionals
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.basis import fantasies_first
from bo_suite.surrogates.lookahead import Cross, with_variables
from bo_suite.surrogates.moments import Pathwise
from bo_suite.surrogates.normal_rule import normal_nodes
from bo_suite.surrogates.process import ROWS_AT_ONCE, ExactProcess, Hyperparameters, Process
from bo_suite.surrogates.sparse import SparseProcess

_NODES = 9
"""Most nodes of an average in the search for the next row, whose gradients are many."""

Nodes = Callable[[Tensor], Tensor]
"""Rows (*b, m, d) to the rows (*b, m, k, d) that are averaged over, differentiable by autograd."""


@dataclass(frozen=True, eq=False)
class AveragedProcess:
    """F(x) = Σ_k w_k f(z_k(x)) of a process f, such as E f(x + e) for normal noise e of what is set.

    mean(x) = Σ_k w_k mean_f(z_k(x)), cov(x, x') = Σ_kl w_k w_l cov_f(z_k(x), z_l(x')). If f is a Gaussian
    process, F is one, too.

    Attributes:
        process: of f.
        nodes: z.
        weights: w, positive, of sum one.
        noise: variance of an observation about F.
    """

    process: Process
    nodes: Nodes
    weights: jt.Float[Tensor, " k"]
    noise: jt.Float[Tensor, "*b"]

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of f."""
        return self.process.scale

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the process of f."""
        return self.process.hyperparameters

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of F."""
        return self.mean_and_var(x)[0]

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of F, at least 0."""
        return self.mean_and_var(x)[1]

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance of F, differentiable once by x."""
        means, var = self.at_nodes(x)
        return means @ self.weights, var

    def at_nodes(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m k"], jt.Float[Tensor, "*b m"]]:
        """Posterior means of f at the nodes of each row, and the variance of F, differentiable once by x.

        With k̄(x) = Σ_k w_k k_u(z_k), the variance is Σ_kl w_k w_l k(z_k, z_l) - |L⁻¹ k̄|² + |L_B⁻¹ L⁻¹ k̄|²,
        as of a `Basis`. That of a process without one is by its `cov`, and differentiable if this is.
        """
        size = max(ROWS_AT_ONCE // len(self.weights), 1)
        parts = [self._at_nodes(rows) for rows in x.split(size, -2)]
        means, var = (
            torch.cat(part, dim) for part, dim in zip(zip(*parts, strict=True), (-2, -1), strict=True)
        )
        return means, var.clamp(min=0.0)

    def _at_nodes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.process, Pathwise):
            return _by_basis(self.process, self.nodes(x), self.weights)
        return _by_cov(self.process, self.nodes(x), self.weights)

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of F."""
        left, right = self.nodes(x1), self.nodes(x2)
        cov = self.process.cov(left.flatten(-3, -2), right.flatten(-3, -2))
        pairs = cov.unflatten(-1, right.shape[-3:-1]).unflatten(-3, left.shape[-3:-1])
        return torch.einsum("...akbl,k,l->...ab", pairs, self.weights, self.weights)

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "AveragedProcess":
        """The process given more observations of F.

        Raises:
            DataError: the process of f takes no linear functionals, or x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        if not isinstance(self.process, ExactProcess | SparseProcess):
            kind = type(self.process).__name__
            raise DataError(f"averages are observed by an ExactProcess or a SparseProcess, got a {kind}")
        averages = Functionals.averages(x, self.nodes(x) - x[..., None, :], self.weights)
        variance = self.noise[..., None].expand(x.shape[:-1]) if noise is None else noise
        return replace(self, process=self.process.condition(averages, y, variance))


def averaged_over(process: ExactProcess | SparseProcess, std: jt.Float[Tensor, "*b d"]) -> AveragedProcess:
    """E f(x + e), e ~ N(0, diag(std²)), of which an observation at a noisy input has more noise.

    That is noise + k(x, x) - var(F), as a fit to inputs with noise has it (see `Observations`).

    Args:
        process: of f.
        std: the same for all rows.
    """

    def nodes(x: Tensor) -> Tensor:
        return normal_nodes(x, std[..., None, :].expand_as(x), _NODES)[0]

    middle = torch.full_like(std, 0.5)[..., None, :]
    weights, kernel, theta = normal_nodes(middle, std[..., None, :], _NODES)[1], process.kernel, process.theta
    about = nodes(middle)[..., 0, :, :]
    within = (kernel.gram(theta, about)[0] @ weights) @ weights
    more = (kernel.diagonal(theta, middle)[..., 0] - within).clamp(min=0.0)
    return AveragedProcess(process, nodes, weights, process.noise + more)


def _by_basis(process: Pathwise, nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Means at the nodes (*b, m, k, d), and the variance of their average, from a basis."""
    basis, flat, shape = process.basis, nodes.flatten(-3, -2), nodes.shape[-3:-1]
    k = with_variables(flat, basis)
    columns = fantasies_first(k @ basis.weights(process.white), basis.fantasies(process.white))
    means = (columns + process.prior_mean(flat)).unflatten(-1, shape)
    a = basis.factor.solve((k.unflatten(-2, shape).mT @ weights).mT)
    theta = basis.theta[..., None, :].expand(*nodes.shape[:-2], -1)
    prior = Cross.apply(nodes, nodes, basis.kernel, theta)  # type: ignore[no-untyped-call]
    var = (prior @ weights) @ weights - a.square().sum(-2)
    if basis.precision_chol is not None:
        var = var + solve_lower(basis.precision_chol, a).square().sum(-2)
    return means, var


def _by_cov(process: Process, nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Means at the nodes (*b, m, k, d), and the variance of their average, row by row."""
    means = process.mean(nodes.flatten(-3, -2)).unflatten(-1, nodes.shape[-3:-1])
    rows = nodes.unbind(-3)
    return means, torch.stack([(process.cov(row, row) @ weights) @ weights for row in rows], -1)

"""Covariances of several functions of the same inputs: outputs, tasks or levels of a fidelity."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Condition, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels.base import Features, JointPullback, Pullback
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.described import Described
from bo_suite.kernels.squared_exponential import SquaredExponential
from bo_suite.kernels.stationary import Matern52

Inner = Matern52 | SquaredExponential | Conditional | Described
"""A kernel over the other columns, whose theta ends with the logarithm of its variance, here 0."""

_SHARED = 0.5
"""Variance of the shared part of a function where a fit starts, and under the prior; as much is its own."""

_LEAST_OWN, _MOST_OWN = math.log(1e-4), math.log(100.0)
"""Bounds of the logarithm of the variance of a function's own part."""

_MOST_WEIGHT = 10.0
"""Largest size of a weight."""

_SHORTER = math.log(2.0)
"""Each further term starts with lengthscales shorter by this: equal terms would stay equal."""


@dataclass(frozen=True)
class Coregional:
    """k((x, i), (z, j)) = Σ_q B_q[i, j] k_q(x, z), with B_q = W_q W_qᵀ + diag(κ_q) and k_q of variance 1.

    One column holds the code of a function: an output, a task or the level of a fidelity, i = column (L - 1)
    of L levels. One term is the intrinsic model of coregionalisation, several are the linear one, in which
    functions may share some lengthscales and not others (Álvarez, Rosasco and Lawrence 2012, section 4).
    Theta has for each term its lengthscales, W (L, rank), row by row, and log κ (L).

    Priors: those of k_q, W ~ N(0, 1 / (2 rank terms)) and log κ ~ N(-log(2 terms), 1), so that functions of
    variance 1 are expected to share half of it, with either sign. A search starts with equal signs.

    Attributes:
        column: of the codes.
        levels: L.
        rank: columns of W_q.
        terms: number of terms.
        kernel: k_q; None for `Matern52` over the other columns of the data. Its columns are counted without
            that of the codes.

    Raises:
        DataError: a number is out of range.
    """

    column: int = 0
    levels: int = 2
    rank: int = 1
    terms: int = 1
    kernel: Inner | None = None

    def __post_init__(self) -> None:
        if self.column < 0 or not 1 <= self.rank <= self.levels or self.terms < 1:
            raise DataError(
                "`column >= 0`, `1 <= rank <= levels` and `terms >= 1` must hold, got "
                f"column {self.column}, rank {self.rank}, {self.levels} levels and {self.terms} terms"
            )

    def over(self, columns: Columns) -> "Coregional":
        """The kernel for data with these columns, unless it has a kernel over the others already.

        Raises:
            DataError: the column of the codes has another number of levels, or other columns depend on it.
        """
        levels = columns.levels[self.column] if self.column < len(columns.levels) else None
        if columns.levels and levels != self.levels:
            raise DataError(
                f"column {self.column} must have {self.levels} levels, as the kernel has, got {levels}"
            )
        if self.kernel is not None:
            return self
        own = Matern52(unordered=self._others(columns.unordered), fidelities=self._others(columns.fidelities))
        if columns.descriptors or columns.conditions:
            return replace(self, kernel=self._structured(own, columns))
        return replace(self, kernel=own)

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Lengthscales of k_q, ever shorter ones, half of the variance shared and half of it own."""
        inner, size = self.inner.start(dim - 1)[:-1], math.sqrt(2.0 * _SHARED / (self.rank * self.terms))
        level, factor = (torch.arange(count).to(inner) for count in (self.levels, self.rank))
        weights = size * torch.cos(math.pi * factor * (level[:, None] + 0.5) / self.levels)
        weights = torch.where(factor == 0.0, weights * math.sqrt(0.5), weights)  # an orthogonal basis
        own = inner.new_full((self.levels,), math.log(_SHARED / self.terms))
        parts = [torch.cat((inner - _SHORTER * term, weights.flatten(), own)) for term in range(self.terms)]
        return torch.cat(parts)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Those of k_q, weights in [-10, 10], and κ in [1e-4, 100]."""
        lower, upper = (bound[:-1] for bound in self.inner.bounds(dim - 1))
        weights, own = lower.new_full((self.levels * self.rank,), _MOST_WEIGHT), (self.levels,)
        lowest = torch.cat((lower, -weights, lower.new_full(own, _LEAST_OWN)))
        highest = torch.cat((upper, weights, upper.new_full(own, _MOST_OWN)))
        return lowest.repeat(self.terms), highest.repeat(self.terms)

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of the parameters of k_q, W and log κ, up to a constant, and its gradient by theta."""
        total, gradients = torch.zeros_like(theta[..., 0]), []
        precision = self.rank * self.terms / _SHARED
        for inner, weights, log_own in self.split(theta):
            value, by_inner = self.inner.log_prior(inner, dim - 1, stepped)
            deviation = log_own - math.log(_SHARED / self.terms)
            total = total + value - 0.5 * precision * weights.square().sum((-2, -1))
            total = total - 0.5 * deviation.square().sum(-1)
            gradients += [by_inner[..., :-1], -precision * weights.flatten(-2), -deviation]
        return total, torch.cat(gradients, -1)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta."""
        rows, code = self._rows(x), self._codes(x)
        terms = [_Term.of(*part) for part in self.split(theta)]
        evaluated = [self.inner.gram(term.inner, rows) for term in terms]
        factors = [code @ term.between @ code.mT for term in terms]
        k = _sum(one * factor for (one, _), factor in zip(evaluated, factors, strict=True))

        def pullback(weights: Tensor) -> Tensor:
            gradients = []
            for term, (one, pull), factor in zip(terms, evaluated, factors, strict=True):
                by_between = code.mT @ (weights * one) @ code
                gradients += [pull(weights * factor)[..., :-1], *term.pullback(by_between)]
            return torch.cat(gradients, -1)

        return k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for the codes)."""
        left, right, of_left, of_right = self._rows(x), self._rows(z), self._codes(x), self._codes(z)
        terms = [_Term.of(*part) for part in self.split(theta)]
        evaluated = [self.inner.cross(term.inner, left, right) for term in terms]
        factors = [of_left @ term.between @ of_right.mT for term in terms]
        k = _sum(one * factor for (one, _), factor in zip(evaluated, factors, strict=True))

        def pullback(weights: Tensor) -> Tensor:
            pairs = zip(evaluated, factors, strict=True)
            return self._with_code(_sum(pull(weights * factor) for (_, pull), factor in pairs))

        return k, pullback

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero for the codes)."""
        left, right, of_left, of_right = self._rows(x), self._rows(z), self._codes(x), self._codes(z)
        terms = [_Term.of(*part) for part in self.split(theta)]
        evaluated = [self.inner.joint(term.inner, left, right) for term in terms]
        factors = [of_left @ term.between @ of_right.mT for term in terms]
        k = _sum(one * factor for (one, _), factor in zip(evaluated, factors, strict=True))

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_left, by_right = [], torch.zeros_like(left), torch.zeros_like(right)
            for term, (one, pull), factor in zip(terms, evaluated, factors, strict=True):
                by_inner, by_x, by_z = pull(weights * factor)
                by_between = of_left.mT @ (weights * one) @ of_right
                by_theta += [by_inner[..., :-1], *term.pullback(by_between)]
                by_left, by_right = by_left + by_x, by_right + by_z
            return torch.cat(by_theta, -1), self._with_code(by_left), self._with_code(by_right)

        return k, pullback

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[Features, jt.Float[Tensor, "*b count"]]:
        """Random functions of rows, as `FeatureKernel` has them: those of k_q times Σ_r L[i, r] ε_r.

        L Lᵀ = B_q, and ε are random signs. The features are shared out among the terms.

        Raises:
            DataError: k_q is not a `Matern52` or `SquaredExponential`.
        """
        inner = self.inner
        if isinstance(inner, Conditional | Described):
            raise DataError("paths need a Coregional kernel whose columns have no conditions or descriptors")
        drawn, amplitudes, of_levels = [], [], []
        for index, part in enumerate(self.split(theta)):
            share = count * (index + 1) // self.terms - count * index // self.terms
            of_term, term = seeds.split(f"term {index}"), _Term.of(*part)
            waves, weights = inner.frequencies(term.inner, share, dim - 1, of_term)
            signs = of_term.split("signs").normal((share, self.levels), theta).sign()
            chol = torch.linalg.cholesky_ex(term.between)[0]
            drawn.append(waves)
            amplitudes.append(weights * (count / max(share, 1)))
            of_levels.append(signs @ chol.mT)
        frequencies, loadings = torch.cat(drawn, -2), torch.cat(of_levels, -2)

        def functions(x: Tensor) -> Tensor:
            phase, loading = self._rows(x) @ frequencies.mT, self._codes(x) @ loadings.mT
            return torch.cat((loading * torch.cos(phase), loading * torch.sin(phase)), -1)

        return functions, torch.cat(amplitudes, -1)

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """Σ_q B_q[i, i]."""
        return (self._codes(x) @ self.variances(theta)[..., None])[..., 0]

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by W and log κ; 0 by other theta, and by x."""
        by_between = torch.diag_embed((weights[..., None, :] @ self._codes(x))[..., 0, :])
        gradients = []
        for part in self.split(theta):
            term = _Term.of(*part)
            gradients += [torch.zeros_like(term.inner[..., :-1]), *term.pullback(by_between)]
        return torch.cat(gradients, -1), torch.zeros_like(x)

    def between(self, theta: jt.Float[Tensor, "*b p"]) -> list[jt.Float[Tensor, "*b l l"]]:
        """B of each term."""
        return [_Term.of(*part).between for part in self.split(theta)]

    def variances(self, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b l"]:
        """The prior variance of each function."""
        return _sum(self.between(theta)).diagonal(dim1=-2, dim2=-1)

    def split(self, theta: jt.Float[Tensor, "*b p"]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Theta of k_q, with variance 1, W and log κ of each term."""
        size = theta.shape[-1] // self.terms
        shared = self.levels * self.rank
        parts = []
        for part in theta.split(size, -1):
            inner, weights, log_own = part.split([size - shared - self.levels, shared, self.levels], -1)
            inner = torch.cat((inner, torch.zeros_like(inner[..., :1])), -1)
            parts.append((inner, weights.unflatten(-1, (self.levels, self.rank)), log_own))
        return parts

    @property
    def inner(self) -> Inner:
        """k_q."""
        return Matern52() if self.kernel is None else self.kernel

    def _other(self, column: int) -> int:
        """Another column as it is counted without that of the codes."""
        return column - (column > self.column)

    def _others(self, columns: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the columns that do not hold the codes."""
        return tuple(self._other(column) for column in columns if column != self.column)

    def _structured(self, own: Matern52, columns: Columns) -> Inner:
        """The kernel over other columns of which some have conditions or descriptors."""
        parents = (parent for one in columns.conditions for parent, _ in one.parents)
        if self.column in (*parents, *(one.column for one in columns.conditions)):
            raise DataError(f"column {self.column} holds codes of functions and can not have conditions")
        conditions = tuple(
            Condition(
                self._other(one.column), tuple((self._other(parent), where) for parent, where in one.parents)
            )
            for one in columns.conditions
        )
        descriptors = tuple(
            (self._other(column), levels, numbers)
            for column, levels, numbers in columns.descriptors
            if column != self.column
        )
        if descriptors:
            return Described.of(own, Columns(conditions=conditions, descriptors=descriptors))
        return Conditional(own, conditions) if conditions else own

    def _rows(self, x: Tensor) -> Tensor:
        """The other columns."""
        return torch.cat((x[..., : self.column], x[..., self.column + 1 :]), -1)

    def _codes(self, x: Tensor) -> Tensor:
        """1 in the column of the function of each row, else 0: (*b, n, L)."""
        position = x[..., self.column].detach() * max(self.levels - 1, 1)
        level = torch.arange(self.levels, dtype=x.dtype, device=x.device)
        return (position[..., None].round().clamp(0, self.levels - 1) == level).to(x)

    def _with_code(self, gradient: Tensor) -> Tensor:
        """A gradient by the other columns, with 0 for the codes."""
        zero = torch.zeros_like(gradient[..., :1])
        return torch.cat((gradient[..., : self.column], zero, gradient[..., self.column :]), -1)


@dataclass(frozen=True, eq=False)
class _Term:
    """A term: theta of k_q, W, κ and B = W Wᵀ + diag(κ)."""

    inner: Tensor
    weights: Tensor
    own: Tensor
    between: Tensor

    @staticmethod
    def of(inner: Tensor, weights: Tensor, log_own: Tensor) -> "_Term":
        own = log_own.exp()
        return _Term(inner, weights, own, weights @ weights.mT + torch.diag_embed(own))

    def pullback(self, by_between: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient by B as those by W and log κ."""
        by_weights = (by_between + by_between.mT) @ self.weights
        return by_weights.flatten(-2), by_between.diagonal(dim1=-2, dim2=-1) * self.own


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return reduce(add, tensors)

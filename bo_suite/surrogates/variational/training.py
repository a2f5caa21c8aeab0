"""Ways to raise the evidence lower bound of a sparse process."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.errors import DataError
from bo_suite.linalg import solve_lower
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import inducing_basis
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.variational.elbo import Expectation, Whitened
from bo_suite.surrogates.variational.problem import VariationalProblem, VariationalState
from bo_suite.values.scalars import check_flags

_BETAS = (0.95, 0.95)
"""Decay rates of Adam: gradients fall by orders of magnitude as q sharpens, faster than 0.999 follows."""

_SHORTER = 6
"""A warm-started fit takes this many times fewer steps."""


@runtime_checkable
class Training(Protocol):
    """A way to raise the bound."""

    def run(
        self, problem: VariationalProblem, state: VariationalState
    ) -> tuple[VariationalState, list[Tensor]]:
        """A better state, and the negative bounds (*b), log priors included, on the way."""

    def shortened(self) -> "Training":
        """The training of a warm-started fit, whose state is close to the optimum."""


@dataclass(frozen=True)
class NaturalAdam:
    """Natural-gradient steps of q, Adam steps of everything else, on random batches of the observations.

    As Salimbeni, Eleftheriadis and Hensman (2018). Rates fall to zero over the last fifth of the steps, that
    of the natural gradients only if batches are smaller than the data. With all data in a batch and a
    conjugate likelihood, each natural step goes all the way to the optimal q.

    Attributes:
        steps: number of steps.
        rate: of Adam.
        natural: of the natural-gradient steps, at most 1.
        batch: observations a step; None for all.
    """

    steps: int = 300
    rate: float = 0.02
    natural: float = 0.2
    batch: int | None = 1024

    def __post_init__(self) -> None:
        _check(self.steps, self.rate, self.batch)
        if not 0 < self.natural <= 1:
            raise DataError(f"`0 < natural <= 1` must hold, got {self.natural}")

    def run(
        self, problem: VariationalProblem, state: VariationalState
    ) -> tuple[VariationalState, list[Tensor]]:
        """A better state, and the negative bounds estimated on the way."""
        adam = _AdamState(problem, state, (), self.rate, self.steps)
        losses = []
        for data, weight in problem.batches(self.batch, self.steps):
            q, share = state.q, self.natural * adam.decay
            if weight == 1.0:
                share = 1.0 if problem.model.likelihood.conjugate else self.natural
            expectation = adam.expectation(q, data)
            losses.append(adam.step(expectation, q, weight, ()))
            linear, precision = expectation.site_sums
            state = problem.natural_step(state, weight * linear, weight * precision, share)
        return replace(state, eta=adam.eta, variables=adam.variables), losses

    def shortened(self) -> "NaturalAdam":
        """A sixth of the steps."""
        return replace(self, steps=-(-self.steps // _SHORTER))


@dataclass(frozen=True)
class NaturalLBFGS:
    """Alternates natural-gradient steps of q, to convergence, with L-BFGS on everything else, on all data.

    Attributes:
        rounds: alternations at most; they end when the bound rises by less than 1e-4.
        evaluations: of the bound, in each L-BFGS search.
        natural: rate of the natural-gradient steps, at most 1.
    """

    rounds: int = 10
    evaluations: int = 10
    natural: float = 0.5

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.evaluations < 1:
            raise DataError(f"rounds and evaluations must be >= 1, got {self.rounds}, {self.evaluations}")
        if not 0 < self.natural <= 1:
            raise DataError(f"`0 < natural <= 1` must hold, got {self.natural}")

    def run(
        self, problem: VariationalProblem, state: VariationalState
    ) -> tuple[VariationalState, list[Tensor]]:
        """A better state, and the negative bounds after each search."""
        losses: list[Tensor] = []
        for _ in range(self.rounds):
            state = problem.converge(state, self.natural, 30)
            state, value = _ascend(problem, state, self.evaluations)
            losses.append(value)
            if len(losses) > 1 and bool((losses[-2] - value < 1e-4).all()):
                break
        return state, losses

    def shortened(self) -> "NaturalLBFGS":
        """A sixth of the alternations."""
        return replace(self, rounds=-(-self.rounds // _SHORTER))


@dataclass(frozen=True)
class Adam:
    """Adam steps of everything (Kingma and Ba 2015): hyperparameters, and mean and covariance factor of q.

    Attributes:
        steps: number of steps.
        rate: largest step of a parameter.
        batch: observations a step; None for all.
        whitened: whether q is over v, or over u = L v, which stays as it is while the
            hyperparameters move. (Natural-gradient steps of q are the same for both.)
    """

    steps: int = 800
    rate: float = 0.05
    batch: int | None = None
    whitened: bool = True

    def __post_init__(self) -> None:
        check_flags(self, "whitened", error=DataError)
        _check(self.steps, self.rate, self.batch)

    def run(
        self, problem: VariationalProblem, state: VariationalState
    ) -> tuple[VariationalState, list[Tensor]]:
        """A better state, and the negative bounds estimated on the way."""
        start = state.q
        mean, scale = start.mean, torch.linalg.cholesky_ex(start.cov)[0]
        if not self.whitened:
            chol = _prior_chol(problem, state)
            mean, scale = (chol @ mean[..., None])[..., 0], chol @ scale
        adam = _AdamState(problem, state, (mean, scale), self.rate, self.steps)
        losses = []
        for data, weight in problem.batches(self.batch, self.steps):
            q, prior_chol = self._whitened(problem, adam)
            expectation = adam.expectation(q, data)
            by_mean, by_cov = expectation.by_q
            by_mean = weight * by_mean - q.mean
            by_scale = 2.0 * weight * (by_cov @ q.root.mT) - q.root.mT
            by_scale = torch.tril(by_scale + torch.diag_embed(1.0 / q.root.diagonal(dim1=-2, dim2=-1)))
            both, also = torch.cat((by_mean[..., None], by_scale), -1), None
            if prior_chol is not None:
                also = by_mean[..., None] * q.mean[..., None, :] + by_scale @ q.root
                both = solve_lower(prior_chol, both, transposed=True)
                both[..., 1:] = torch.tril(both[..., 1:])
            gradients = (both[..., 0], torch.tril(both[..., 1:]))
            losses.append(adam.step(expectation, q, weight, gradients, also))
        q, _ = self._whitened(problem, adam)
        precision = torch.cholesky_inverse(q.root.mT)
        linear = (precision @ q.mean[..., None])[..., 0]
        return VariationalState(adam.eta, adam.variables, linear, precision), losses

    def shortened(self) -> "Adam":
        """A sixth of the steps."""
        return replace(self, steps=-(-self.steps // _SHORTER))

    def _whitened(self, problem: VariationalProblem, adam: "_AdamState") -> tuple[Whitened, Tensor | None]:
        """q(v), and L if q is over u."""
        mean, factor = adam.others
        if self.whitened:
            return Whitened(mean, factor.mT), None
        chol = _prior_chol(problem, adam)
        solved = solve_lower(chol, torch.cat((mean[..., None], factor), -1))
        return Whitened(solved[..., 0], torch.tril(solved[..., 1:]).mT), chol


class _AdamState:
    """Parameters that Adam moves within their box."""

    def __init__(
        self,
        problem: VariationalProblem,
        state: VariationalState,
        others: tuple[Tensor, ...],
        rate: float,
        steps: int,
    ) -> None:
        self.problem, self.eta = problem, state.eta.clone()
        self._placed, self._parameters = state.variables, state.variables.parameters.clone()
        self.others = tuple(other.clone() for other in others)
        moved = [self.eta, *([self._parameters] if problem.learn_inducing else []), *self.others]
        self._adam = torch.optim.Adam(moved, lr=rate, betas=_BETAS)
        self._rate, self._steps, self._done = rate, steps, 0
        self._box = state.variables.box(problem.data.x)

    @property
    def variables(self) -> InducingVariables:
        """The inducing variables at the current parameters."""
        return self._placed.moved(self._parameters)

    @property
    def decay(self) -> float:
        """Factor of the rate: 1, falling to 0 over the last fifth of the steps."""
        return min(1.0, 5.0 * (1.0 - self._done / self._steps))

    def expectation(self, q: Whitened, data: Dataset) -> Expectation:
        """The expected log likelihood at the current parameters."""
        expectation = self.problem.model.expectation(self.eta, self.variables, q, data, slice(None))
        expectation.require_definite()
        return expectation

    def step(
        self,
        expectation: Expectation,
        q: Whitened,
        weight: float,
        gradients: tuple[Tensor, ...],
        also: Tensor | None = None,
    ) -> Tensor:
        """Take one step, and return the negative bound before it."""
        problem = self.problem
        prior, by_prior = problem.model.log_prior(self.eta)
        by_eta, by_variables = expectation.by_parameters(weight, also)
        self.eta.grad, self._parameters.grad = -(by_eta + by_prior), -by_variables
        for other, gradient in zip(self.others, gradients, strict=True):
            other.grad = -gradient
        for group in self._adam.param_groups:
            group["lr"] = self._rate * self.decay
        self._adam.step()
        lower, upper = problem.model.bounds(self.eta)
        self.eta.clamp_(lower, upper)
        if problem.learn_inducing:
            self._parameters.clamp_(*self._box)
        self._done += 1
        return q.divergence - weight * expectation.value - prior


def _prior_chol(problem: VariationalProblem, state: "VariationalState | _AdamState") -> Tensor:
    """L."""
    model, theta = problem.model, problem.model.split(state.eta)[0]
    return inducing_basis(model.kernel, theta, state.variables, model.jitter).factor.dense


def _ascend(
    problem: VariationalProblem, state: VariationalState, evaluations: int
) -> tuple[VariationalState, Tensor]:
    """The state after L-BFGS on eta, and on u if it is learned, with q(v) held; and the negative bound."""
    q, size = state.q, state.eta.shape[-1]
    lower, upper = problem.model.bounds(state.eta)
    start = state.eta
    if problem.learn_inducing:
        start = torch.cat((start, state.variables.parameters), -1)
        box, lead = state.variables.box(problem.data.x), state.eta.shape[:-1]
        lower = torch.cat((lower.expand(*lead, -1), box[0]), -1)
        upper = torch.cat((upper.expand(*lead, -1), box[1]), -1)

    def split(flat: Tensor) -> tuple[Tensor, InducingVariables]:
        moved = state.variables.moved(flat[..., size:]) if problem.learn_inducing else state.variables
        return flat[..., :size], moved

    def negative(flat: Tensor) -> tuple[Tensor, Tensor]:
        eta, variables = split(flat)
        expectation = problem.model.expectation(eta, variables, q, problem.data, slice(None))
        prior, by_prior = problem.model.log_prior(eta)
        by_eta, by_variables = expectation.by_parameters(1.0)
        gradient = by_eta + by_prior
        if problem.learn_inducing:
            gradient = torch.cat((gradient, by_variables), -1)
        value = q.divergence - expectation.value - prior
        return torch.where(expectation.info == 0, value, torch.inf), -gradient

    result = minimize_batch(negative, start, bounds=(lower, upper), max_evaluations=evaluations)
    eta, variables = split(result.x)
    return replace(state, eta=eta, variables=variables), result.value


def _check(steps: int, rate: float, batch: int | None) -> None:
    if steps < 1:
        raise DataError(f"`steps >= 1` must hold, got {steps}")
    if not 0 < rate < math.inf:
        raise DataError(f"`0 < rate < inf` must hold, got {rate}")
    if batch is not None and batch < 1:
        raise DataError(f"`batch >= 1` must hold, got {batch}")

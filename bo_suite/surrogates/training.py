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
from bo_suite.surrogates.collapsed import inducing_chol
from bo_suite.surrogates.elbo import Expectation, Whitened
from bo_suite.surrogates.variational import Point, Task
from bo_suite.values.scalars import check_flags

_BETAS = (0.95, 0.95)
"""Of Adam: the scale of a gradient falls by orders as q sharpens, which 0.999 is too slow to follow."""

_SHORTER = 6
"""How many times fewer steps a warm-started fit takes."""


@runtime_checkable
class Training(Protocol):
    """A way to raise the bound."""

    def run(self, task: Task, point: Point) -> tuple[Point, list[Tensor]]:
        """A better point, and the negative bounds (*b), log priors included, on the way."""

    def shortened(self) -> "Training":
        """A way for a point that was the optimum before the data had grown."""


@dataclass(frozen=True)
class NaturalAdam:
    """Natural-gradient steps of q, Adam steps of everything else, on random batches of the observations.

    As Salimbeni, Eleftheriadis and Hensman (2018). Rates fall to zero over the last fifth of the steps, that
    of the natural gradients only where batches are smaller than the data. All data and a conjugate likelihood
    make each natural step a whole one, to the optimal q.

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

    def run(self, task: Task, point: Point) -> tuple[Point, list[Tensor]]:
        """A better point, and the negative bounds estimated on the way."""
        moving = _Moving(task, point.eta, point.inducing, (), self.rate, self.steps)
        losses = []
        for data, weight in task.batches(self.batch, self.steps):
            q, share = point.q, self.natural * moving.decay
            if weight == 1.0:
                share = 1.0 if task.model.likelihood.conjugate else self.natural
            part = moving.expectation(q, data)
            losses.append(moving.step(part, q, weight, ()))
            linear, precision = part.target
            point = task.towards(point, weight * linear, weight * precision, share)
        return replace(point, eta=moving.eta, inducing=moving.inducing), losses

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

    def run(self, task: Task, point: Point) -> tuple[Point, list[Tensor]]:
        """A better point, and the negative bounds after each search."""
        losses: list[Tensor] = []
        for _ in range(self.rounds):
            point = task.converge(point, self.natural, 30)
            point, value = _ascend(task, point, self.evaluations)
            losses.append(value)
            if len(losses) > 1 and bool((losses[-2] - value < 1e-4).all()):
                break
        return point, losses

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
        whitened: whether q is over v, or over u = prior mean + L v: then the hyperparameters move while q(u)
            stays. (Natural gradients know no such difference in q.)
    """

    steps: int = 800
    rate: float = 0.05
    batch: int | None = None
    whitened: bool = True

    def __post_init__(self) -> None:
        check_flags(self, "whitened", error=DataError)
        _check(self.steps, self.rate, self.batch)

    def run(self, task: Task, point: Point) -> tuple[Point, list[Tensor]]:
        """A better point, and the negative bounds estimated on the way."""
        start = point.q
        mean, scale = start.mean, torch.linalg.cholesky_ex(start.cov)[0]
        if not self.whitened:
            prior = _prior_chol(task, point)
            mean, scale = (prior @ mean[..., None])[..., 0], prior @ scale
        moving = _Moving(task, point.eta, point.inducing, (mean, scale), self.rate, self.steps)
        losses = []
        for data, weight in task.batches(self.batch, self.steps):
            q, chol = self._whitened(task, moving)
            part = moving.expectation(q, data)
            by_mean, by_cov = part.by_q
            by_mean = weight * by_mean - q.mean
            by_scale = 2.0 * weight * (by_cov @ q.root.mT) - q.root.mT
            by_scale = torch.tril(by_scale + torch.diag_embed(1.0 / q.root.diagonal(dim1=-2, dim2=-1)))
            both, also = torch.cat((by_mean[..., None], by_scale), -1), None
            if chol is not None:
                also = by_mean[..., None] * q.mean[..., None, :] + by_scale @ q.root
                both = solve_lower(chol, both, transposed=True)
                both[..., 1:] = torch.tril(both[..., 1:])
            gradients = (both[..., 0], torch.tril(both[..., 1:]))
            losses.append(moving.step(part, q, weight, gradients, also))
        q, _ = self._whitened(task, moving)
        precision = torch.cholesky_inverse(q.root.mT)
        linear = (precision @ q.mean[..., None])[..., 0]
        return Point(moving.eta, moving.inducing, linear, precision), losses

    def shortened(self) -> "Adam":
        """A sixth of the steps."""
        return replace(self, steps=-(-self.steps // _SHORTER))

    def _whitened(self, task: Task, moving: "_Moving") -> tuple[Whitened, Tensor | None]:
        """q(v), and L where q is over u."""
        mean, factor = moving.others
        if self.whitened:
            return Whitened(mean, factor.mT), None
        chol = _prior_chol(task, moving)
        solved = solve_lower(chol, torch.cat((mean[..., None], factor), -1))
        return Whitened(solved[..., 0], torch.tril(solved[..., 1:]).mT), chol


class _Moving:
    """Parameters that Adam moves, kept in their box."""

    def __init__(
        self, task: Task, eta: Tensor, inducing: Tensor, others: tuple[Tensor, ...], rate: float, steps: int
    ) -> None:
        self.task, self.eta, self.inducing = task, eta.clone(), inducing.clone()
        self.others = tuple(other.clone() for other in others)
        moved = [self.eta, *([self.inducing] if task.learn_inducing else []), *self.others]
        self._adam = torch.optim.Adam(moved, lr=rate, betas=_BETAS)
        self._rate, self._steps, self._done = rate, steps, 0
        self._box = task.data.x.amin(-2, keepdim=True), task.data.x.amax(-2, keepdim=True)

    @property
    def decay(self) -> float:
        """One, and in the last fifth of the steps falling to zero."""
        return min(1.0, 5.0 * (1.0 - self._done / self._steps))

    def expectation(self, q: Whitened, data: Dataset) -> Expectation:
        """At the present parameters."""
        part = self.task.model.expectation(self.eta, self.inducing, q, data, slice(None))
        part.require_definite()
        return part

    def step(
        self,
        part: Expectation,
        q: Whitened,
        weight: float,
        gradients: tuple[Tensor, ...],
        also: Tensor | None = None,
    ) -> Tensor:
        """One step up; the negative bound before it."""
        task = self.task
        prior, by_prior = task.model.log_prior(self.eta)
        by_eta, by_inducing = part.by_parameters(weight, also)
        self.eta.grad, self.inducing.grad = -(by_eta + by_prior), -by_inducing
        for other, gradient in zip(self.others, gradients, strict=True):
            other.grad = -gradient
        for group in self._adam.param_groups:
            group["lr"] = self._rate * self.decay
        self._adam.step()
        lower, upper = task.model.bounds(self.eta)
        self.eta.clamp_(lower, upper)
        if task.learn_inducing:
            self.inducing.clamp_(*self._box)
        self._done += 1
        return q.divergence - weight * part.value - prior


def _prior_chol(task: Task, point: "Point | _Moving") -> Tensor:
    """L."""
    theta = task.model.split(point.eta)[0]
    return inducing_chol(task.model.kernel, theta, point.inducing, task.model.jitter)


def _ascend(task: Task, point: Point, evaluations: int) -> tuple[Point, Tensor]:
    """L-BFGS on eta, and on Z where it is learned, with q(v) held; and the negative bound."""
    q, shape, size = point.q, point.inducing.shape, point.eta.shape[-1]
    lower, upper = task.model.bounds(point.eta)
    start = point.eta
    if task.learn_inducing:
        start = torch.cat((start, point.inducing.flatten(-2)), -1)
        box = [end[..., None, :].expand(shape).flatten(-2) for end in task.data.x.aminmax(dim=-2)]
        lead = point.eta.shape[:-1]
        lower = torch.cat((lower.expand(*lead, -1), box[0]), -1)
        upper = torch.cat((upper.expand(*lead, -1), box[1]), -1)

    def parts(flat: Tensor) -> tuple[Tensor, Tensor]:
        inducing = flat[..., size:].reshape(shape) if task.learn_inducing else point.inducing
        return flat[..., :size], inducing

    def negative(flat: Tensor) -> tuple[Tensor, Tensor]:
        eta, inducing = parts(flat)
        part = task.model.expectation(eta, inducing, q, task.data, slice(None))
        prior, by_prior = task.model.log_prior(eta)
        by_eta, by_inducing = part.by_parameters(1.0)
        gradient = by_eta + by_prior
        if task.learn_inducing:
            gradient = torch.cat((gradient, by_inducing.flatten(-2)), -1)
        value = q.divergence - part.value - prior
        return torch.where(part.info == 0, value, torch.inf), -gradient

    found = minimize_batch(negative, start, bounds=(lower, upper), max_evaluations=evaluations)
    eta, inducing = parts(found.x)
    return replace(point, eta=eta, inducing=inducing), found.value


def _check(steps: int, rate: float, batch: int | None) -> None:
    if steps < 1:
        raise DataError(f"`steps >= 1` must hold, got {steps}")
    if not 0 < rate < math.inf:
        raise DataError(f"`0 < rate < inf` must hold, got {rate}")
    if batch is not None and batch < 1:
        raise DataError(f"`batch >= 1` must hold, got {batch}")

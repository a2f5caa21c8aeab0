"""A quasi-Newton step from the best observation, if derivatives are known."""

import math
from dataclasses import dataclass, field

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import evaluations_since_best
from bo_suite.data import Dataset
from bo_suite.surrogates.process import Hyperparameters, WarmStart

_FIRST = 0.2
"""Longest step by √d, in ranges of the parameters; the whole step if no curvature is known."""

_SHORTER = 0.4
"""A step is at most this share of the distance to a later observation that is no better, in its direction."""

_PAIRS = 2
"""Most pairs of observations by number of columns: the nearest ones say what the curvature is here."""

_CURVATURE = 1e-8
"""Smallest cosine between a step and the change of the gradient: the curvature must be positive."""

_SMALLEST_DECREASE = 1e-10
"""Smallest decrease that a step must promise, of outcomes of variance 1: less is convergence."""

_FEW, _LARGE = 5, 0.03
"""An improvement is large if it is this share of the range of the few best outcomes."""

_NOISY = 0.1
"""Fitted noise variance of outcomes, and level of that of derivatives, from which steps follow the noise."""

_AGREEMENT = 0.5
"""Smallest share of pairs of observations in which derivatives agree with the sign of the difference."""


@dataclass(frozen=True, eq=False)
class DescentScore:
    """Closeness to the end of a step: -|x - target|².

    Attributes:
        target: the end of the step.
        notes: that it is one, in JSON values.
    """

    target: jt.Float[Tensor, " d"]
    notes: tuple[dict[str, str], ...] = ({"rule": "descent"},)
    hyperparameters: Hyperparameters | None = None
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        return -(x - self.target).square().sum(-1)


def descent(data: Dataset, last: WarmStart | None) -> DescentScore | None:
    """The next step of BFGS from the best observation; None if another rule is due.

    Global models of few observations show where a minimum is, not where exactly, and a long valley is all but
    level to them. There a quasi-Newton method gains from each derivative (Nocedal and Wright 2006, section
    6.1). The inverse Hessian is updated by the pairs of the best observation with each of the nearest
    others, from far to near; so it depends on the observations alone, not on how they were chosen. Columns
    whose derivative at the best observation is unknown stay, and so do those at an end of their range that
    would leave it. A later observation that is no better bounds the next step in its direction.

    Args:
        data: with derivatives. No step is due with constraints, which a step does not know, with columns that
            are fixed, where inputs have noise, and for several replicates at once.
        last: the last fit; no step is due where it found noise, or where derivatives contradict outcomes.
    """
    gradient = data.gradient
    if gradient is None or data.batch_shape or data.violation is not None or _is_noisy(last):
        return None
    if data.x_std is not None or data.columns.fixed:  # the best outcome is one of another row
        return None
    if not _is_due(data):
        return None
    best = int(data.merit.argmin())
    x, slope = data.x[best], gradient[best]
    free = ~slope.isnan() & ~((x <= 0.0) & (slope > 0.0)) & ~((x >= 1.0) & (slope < 0.0))
    slope = torch.where(free, slope, 0.0)
    if not bool(slope.any()):
        return None
    steps, changes = torch.where(free, data.x - x, 0.0), torch.where(free, gradient - gradient[best], 0.0)
    near = _nearest(steps, changes)
    rises = (steps[near] * (slope + 0.5 * changes[near])).sum(-1)  # by the trapezoidal rule
    agree = (rises > 0.0) == (data.y[near] > data.y[best])
    if len(near) and float(agree.double().mean()) < _AGREEMENT:
        return None
    step = _quasi_newton_step(slope, steps, changes, near)
    step = step * min(_longest(step, steps[best + 1 :]) / float(step.norm()), 1.0)
    target = data.within_space((x + step).clamp(0.0, 1.0)[None])[0]
    moved = target - x
    if not float(-(slope * moved).sum()) > 2.0 * _SMALLEST_DECREASE:
        return None
    if data.pending.numel() and float((data.pending - target).norm(dim=-1).min()) < float(moved.norm()):
        return None
    return DescentScore(target)


def _is_due(data: Dataset) -> bool:
    """Whether it is the turn of a step.

    After an improvement that is large in view of the best outcomes it is; after a small one, as of a method
    that converges, every second time. If 1, 3, 7, 15 ... evaluations have not improved, it is, too: the first
    of these says how long a step from the best observation may be.
    """
    waited = int(evaluations_since_best(data))
    if waited:
        return waited & (waited + 1) == 0
    best = data.merit.sort().values[:_FEW]
    large = len(best) < 2 or bool(best[1] - best[0] >= _LARGE * (best[-1] - best[0]))
    return large or data.x.shape[-2] % 2 == 0


def _is_noisy(last: WarmStart | None) -> bool:
    """Whether the last fit found noise, of outcomes or of derivatives; False without a fit.

    One without derivatives counts as noisy: its last entries but one are the outputscale, not a noise.
    """
    return last is not None and float(last.hyperparameters[..., -2:].exp().max()) > _NOISY


def _nearest(steps: Tensor, changes: Tensor) -> Tensor:
    """Indices of the nearest observations to which the curvature is positive, the nearest first."""
    lengths = steps.norm(dim=-1)
    curved = (steps * changes).sum(-1) > _CURVATURE * lengths * changes.norm(dim=-1)  # False if one is NaN
    count = min(int(curved.sum()), _PAIRS * steps.shape[-1])
    return torch.where(curved, lengths, torch.inf).argsort()[:count]


def _quasi_newton_step(slope: Tensor, steps: Tensor, changes: Tensor, nearest: Tensor) -> Tensor:
    """-H slope, H the inverse Hessian of BFGS updates by steps with their changes of the gradient."""
    if not len(nearest):
        return -slope * (_FIRST / float(slope.norm()))
    s, y = steps[nearest[0]], changes[nearest[0]]
    inverse = torch.eye(len(slope), dtype=s.dtype, device=s.device) * (s @ y / (y @ y))
    for index in nearest.flip(0).tolist():
        s, y = steps[index], changes[index]
        rate = 1.0 / (s @ y)
        across = inverse @ y
        inverse = inverse - rate * (torch.outer(s, across) + torch.outer(across, s))
        inverse = inverse + rate * (1.0 + rate * (y @ across)) * torch.outer(s, s)
    return torch.where(slope == 0.0, 0.0, -(inverse @ slope))


def _longest(step: Tensor, later: Tensor) -> float:
    """Length of the longest step, given the later observations, which are no better, relative to the best."""
    lengths = later.norm(dim=-1)
    ahead = (later @ step > 0.5 * lengths * step.norm()) & (lengths > 0.0)
    bounds: list[float] = (_SHORTER * lengths[ahead]).tolist()
    return min([_FIRST * math.sqrt(len(step)), *bounds])

"""Many small minimisations at once where comparisons of coordinates hold, each with its own faces.

An active set of planes and bounds restricts the directions of L-BFGS (`bo_suite.optim.lbfgs`): equalities,
and the inequalities that a point is on and that the gradient presses against, by the signs of their
multipliers (Rosen 1960; Nocedal and Wright 2006, section 16.5). A step ends at the first inequality that it
meets, and the next one moves along that. So every point is feasible, and minima on faces are reached.
"""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.optim.lbfgs import (
    ARMIJO,
    CURVATURE,
    MEMORY,
    SMALLEST_STEP,
    BatchResult,
    ValueAndGrad,
    evaluated,
    quasi_newton_direction,
    shortening,
)
from bo_suite.space.system import System

_ON = 1e-10
"""Distance from a plane or a bound at which a point is on it."""

_CHANGES = 4
"""Most changes of the active set before a step."""

_SIGN = 1e-12
"""Size from which a multiplier or a rate has a sign."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Where coordinates may be: in a box, and where comparisons are met.

    Attributes:
        system: the comparisons.
        lower: bounds; equal bounds fix a coordinate.
        upper: bounds.
    """

    system: System
    lower: jt.Float[Tensor, "n p"]
    upper: jt.Float[Tensor, "n p"]

    @property
    def movable(self) -> jt.Bool[Tensor, " p"]:
        """Coordinates that may move."""
        return (self.lower < self.upper).any(0)

    def planes(self, x: jt.Float[Tensor, "n p"]) -> tuple[jt.Float[Tensor, "n k p"], jt.Float[Tensor, "n k"]]:
        """Unit normals of the comparisons at points, and distances of the points from their planes."""
        slopes = self.system.slopes(x).to(x) * self.movable
        size = slopes.norm(dim=-1).clamp(min=1e-300)
        return slopes / size[..., None], (-self.system.residuals(x).to(x) / size)


def minimize_within(
    function: ValueAndGrad,
    start: jt.Float[Tensor, "*b p"],
    system: System,
    bounds: tuple[Tensor, Tensor],
    *,
    max_evaluations: int = 100,
    gradient_tolerance: float = 1e-5,
    value_tolerance: float = 1e-9,
) -> BatchResult:
    """Local minima of one function a batch element where the comparisons hold, from one start each.

    Args:
        function: as in `minimize_batch`.
        start: points that meet the comparisons.
        system: the comparisons, of the coordinates.
        bounds: lower and upper bounds, broadcastable to start; equal bounds fix a coordinate.
        max_evaluations: rounds of joint evaluation at most.
        gradient_tolerance: an element stops when the largest entry of its gradient along its face is below.
        value_tolerance: as in `minimize_batch`; a step that an inequality has ended does not count.
    """
    lower, upper = (bound.to(start).expand_as(start).reshape(-1, start.shape[-1]) for bound in bounds)
    limits = Limits(system, lower, upper)
    x = start.reshape(lower.shape).clamp(lower, upper)
    value, gradient = evaluated(function, x, start.shape)
    pairs = x.new_zeros(x.shape[0], MEMORY, x.shape[1])
    course = _course(limits, x, gradient, pairs[:, :1], pairs[:, :1])
    done = ~torch.isfinite(value) | (course.slope < gradient_tolerance)
    state = _State(x, value, gradient, pairs, pairs, course, torch.ones_like(value), done)
    evaluations = 1
    while evaluations < max_evaluations and not bool(state.done.all()):
        stored = min(evaluations, MEMORY)
        state = _round(function, start.shape, limits, state, stored, (gradient_tolerance, value_tolerance))
        evaluations += 1
    lead = start.shape[:-1]
    return BatchResult(
        state.x.reshape(start.shape), state.value.reshape(lead), evaluations, state.done.reshape(lead)
    )


@dataclass(frozen=True, eq=False)
class _Course:
    """Where elements go next.

    Attributes:
        direction: of the step.
        furthest: longest step, in units of the direction, before an inequality is met.
        slope: largest entry of the gradient along the face.
    """

    direction: Tensor
    furthest: Tensor
    slope: Tensor

    def where(self, chosen: Tensor, other: "_Course") -> "_Course":
        """This course for the chosen elements, and another one for the others."""
        return _Course(
            torch.where(chosen[:, None], self.direction, other.direction),
            torch.where(chosen, self.furthest, other.furthest),
            torch.where(chosen, self.slope, other.slope),
        )


@dataclass(frozen=True, eq=False)
class _State:
    """State of the searches, one row an element; fields as in `minimize_batch`."""

    x: Tensor
    value: Tensor
    gradient: Tensor
    steps: Tensor
    changes: Tensor
    course: _Course
    step: Tensor
    done: Tensor


def _round(
    function: ValueAndGrad,
    shape: torch.Size,
    limits: Limits,
    state: _State,
    stored: int,
    tolerances: tuple[float, float],
) -> _State:
    """A step of every element that has not stopped, accepted or shortened."""
    course, system = state.course, limits.system
    length = torch.minimum(state.step, course.furthest)
    trial = (state.x + length[:, None] * course.direction).clamp(limits.lower, limits.upper)
    trial = torch.where(state.done[:, None], state.x, trial)
    met = torch.ones_like(state.done)
    if bool(system.curved.any()):
        trial = system.absorbed(trial.to(torch.float64), limits.movable).to(trial)
        met = system.is_met(trial)
    trial_value, trial_gradient = evaluated(function, trial, shape)
    trial_value = torch.where(met, trial_value, torch.inf)
    moved, change = trial - state.x, trial_gradient - state.gradient
    slope = (state.gradient * moved).sum(-1).clamp(max=0.0)
    accepted = (trial_value <= state.value + ARMIJO * slope) & ~state.done
    small = state.value - trial_value <= tolerances[1] * state.value.abs().clamp(min=1.0)
    small = small & (course.furthest > state.step)

    curved = (moved * change).sum(-1) > CURVATURE * change.square().sum(-1)
    keep = (accepted & curved)[:, None, None]
    steps = torch.where(keep, torch.cat((state.steps[:, 1:], moved[:, None]), 1), state.steps)
    changes = torch.where(keep, torch.cat((state.changes[:, 1:], change[:, None]), 1), state.changes)
    x = torch.where(accepted[:, None], trial, state.x)
    value = torch.where(accepted, trial_value, state.value)
    gradient = torch.where(accepted[:, None], trial_gradient, state.gradient)
    following = _course(limits, x, gradient, steps[:, -stored:], changes[:, -stored:])
    step = torch.where(accepted, 1.0, length * shortening(slope, trial_value - state.value))
    done = state.done | (accepted & (small | (following.slope < tolerances[0]))) | (step < SMALLEST_STEP)
    return _State(x, value, gradient, steps, changes, following.where(accepted, course), step, done)


def _course(limits: Limits, x: Tensor, gradient: Tensor, steps: Tensor, changes: Tensor) -> _Course:
    """The direction along the face that an element is on, and how far it may go."""
    normals, slack = limits.planes(x)
    equal = limits.system.equalities.to(x.device)
    on = (slack <= _ON) & ~equal
    low, high = x <= limits.lower + _ON, x >= limits.upper - _ON
    fixed = limits.lower >= limits.upper
    held, pinned = on | equal, low | high
    projector, multipliers = _face(normals, held, pinned, gradient)
    for _ in range(_CHANGES):  # what the gradient does not press against is left
        rest = gradient + (normals.mT @ multipliers[..., None])[..., 0]
        left = held & ~equal & (multipliers < -_SIGN)
        freed = pinned & ~fixed & ((low & (rest < -_SIGN)) | (high & (rest > _SIGN)))
        if not bool(left.any()) and not bool(freed.any()):
            break
        held, pinned = held & ~left, pinned & ~freed
        projector, multipliers = _face(normals, held, pinned, gradient)
    for turn in range(_CHANGES + 1):  # what the direction would cross at once is held
        projected = (projector @ gradient[..., None])[..., 0]
        ones = torch.ones_like(projected)
        direction = quasi_newton_direction(projected, ones, steps @ projector, changes @ projector)
        rates = (normals @ direction[..., None])[..., 0]
        crossed = on & ~held & (rates > _SIGN)
        leaving = ~pinned & ((low & (direction < -_SIGN)) | (high & (direction > _SIGN)))
        if turn == _CHANGES or not (bool(crossed.any()) or bool(leaving.any())):
            break
        held, pinned = held | crossed, pinned | leaving
        projector, _ = _face(normals, held, pinned, gradient)
    rates = torch.where(held, 0.0, rates)
    reach = torch.where(rates > _SIGN, slack.clamp(min=0.0) / rates.clamp(min=_SIGN), torch.inf).amin(-1)
    inside = (normals != 0.0).any(-2)
    room = torch.where(direction > 0.0, limits.upper - x, x - limits.lower).clamp(min=0.0)
    to_bound = torch.where(inside & (direction != 0.0), room / direction.abs().clamp(min=1e-300), torch.inf)
    return _Course(direction, torch.minimum(reach, to_bound.amin(-1)), projected.abs().amax(-1))


def _face(normals: Tensor, held: Tensor, pinned: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The projector onto the directions of a face, and the multipliers of its planes.

    With N the held normals at the free coordinates F, the projector is F - Nᵀ (N Nᵀ)⁺ N, and the multipliers
    -(N Nᵀ)⁺ N g are those at which g + Nᵀ λ is smallest.
    """
    free = (~pinned).to(normals)
    rows = normals * held[..., None] * free[:, None]
    inverse = torch.linalg.pinv(rows @ rows.mT, hermitian=True, rtol=1e-9)
    multipliers = -(inverse @ (rows @ gradient[..., None]))[..., 0]
    return torch.diag_embed(free) - rows.mT @ inverse @ rows, multipliers * held

"""Many small box-constrained minimisations at once, each with its own state and line search.

Projected L-BFGS: coordinates on a bound whose gradient points outwards are held. The others move along the
quasi-Newton direction of the memory restricted to them. The step is projected onto the box and shortened
until it satisfies Armijo's condition (Bertsekas 1982; Byrd, Nocedal and Schnabel 1994, theorem 2.2 for the
compact form). Every round evaluates all problems together: while one problem shortens a refused step, the
others take their next.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError

ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]

_ARMIJO = 1e-4
"""Share of the predicted decrease that a step must reach; the usual value."""

_CURVATURE = 1e-10
"""Pairs with s·y below this multiple of y·y are not stored: the inverse Hessian must stay positive."""

_SMALLEST_STEP = 1e-10
"""A step shorter than this, relative to its direction, ends the search."""


@dataclass(frozen=True)
class BatchResult:
    """The result of a batched minimisation.

    Attributes:
        x: best points found.
        value: objective there.
        evaluations: number of rounds of joint evaluation, the first included.
        converged: whether the projected gradient or the decrease fell below its tolerance.
    """

    x: jt.Float[Tensor, "*b p"]
    value: jt.Float[Tensor, "*b"]
    evaluations: int
    converged: jt.Bool[Tensor, "*b"]


def minimize_batch(
    function: ValueAndGrad,
    start: jt.Float[Tensor, "*b p"],
    *,
    bounds: tuple[Tensor, Tensor],
    max_evaluations: int = 100,
    gradient_tolerance: float = 1e-5,
    value_tolerance: float = 1e-9,
    memory: int = 10,
    narrow: Callable[[Tensor], ValueAndGrad] | None = None,
) -> BatchResult:
    """Local minima of one function per batch element, each from its start.

    Args:
        function: points (*b, p) to values (*b) and gradients (*b, p); elements must not influence
            each other. A value that is not finite counts as a refused step.
        start: starting points; moved into the box.
        bounds: lower and upper bounds, broadcastable to start; equal bounds fix a coordinate.
        max_evaluations: largest number of rounds of joint evaluation.
        gradient_tolerance: an element stops when the largest entry of its projected gradient is below this.
        value_tolerance: an element stops when a step lowers its value by less than this, relative to
            max(1, |value|).
        memory: number of stored (step, gradient change) pairs.
        narrow: maps indices (k) into the flattened `*b` to the function of these elements alone, of points
            (k, p). With it, elements that have stopped are no longer evaluated.

    Raises:
        DataError: a lower bound is above its upper bound.
    """
    lower, upper = (bound.to(start).expand_as(start).reshape(-1, start.shape[-1]) for bound in bounds)
    if bool((lower > upper).any()):
        raise DataError("`lower <= upper` must hold for every coordinate")
    shape = start.shape
    x = start.reshape(lower.shape).clamp(lower, upper)
    value, gradient = _evaluate(function, x, shape)
    free = _free(x, gradient, lower, upper)
    done = ~torch.isfinite(value) | (_largest(gradient * free) < gradient_tolerance)
    pairs = x.new_zeros(x.shape[0], memory, x.shape[1])
    first = _first_direction(gradient, free)
    state = _State(x, value, gradient, pairs, pairs, first, torch.ones_like(value), done, lower, upper)
    result, indices = state, torch.arange(x.shape[0], device=x.device)
    tolerances = gradient_tolerance, value_tolerance
    evaluations, stored = 1, 0
    while evaluations < max_evaluations:
        active = int((~state.done).sum())
        if active == 0:
            break
        if narrow is not None and 2 * active <= indices.shape[0]:
            result = result.updated(indices, state)
            rows = (~state.done).nonzero()[:, 0]
            state, indices = state.select(rows), indices[rows]
            function, shape = narrow(indices), state.x.shape
        stored = min(stored + 1, memory)
        state = _step(function, shape, state, stored, tolerances)
        evaluations += 1
    result = result.updated(indices, state)
    lead = start.shape[:-1]
    return BatchResult(
        result.x.reshape(start.shape), result.value.reshape(lead), evaluations, result.done.reshape(lead)
    )


@dataclass(frozen=True, eq=False)
class _State:
    """The state of the searches, one row an element.

    Attributes:
        x: best points.
        value: objective at them.
        gradient: of the objective at them.
        steps: the last accepted steps, the latest last.
        changes: of the gradient in these steps.
        direction: of the next step.
        step: length of the next step, in units of the direction.
        done: whether an element has stopped.
        lower: bound.
        upper: bound.
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    steps: Tensor
    changes: Tensor
    direction: Tensor
    step: Tensor
    done: Tensor
    lower: Tensor
    upper: Tensor

    def select(self, rows: Tensor) -> "_State":
        """The state of some elements."""
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def updated(self, rows: Tensor, other: "_State") -> "_State":
        """The state with `x`, `value` and `done` of some elements taken from another state."""
        if other is self or rows.shape == self.value.shape:
            return other
        return replace(
            self,
            x=self.x.index_copy(0, rows, other.x),
            value=self.value.index_copy(0, rows, other.value),
            done=self.done.index_copy(0, rows, other.done),
        )


def _evaluate(function: ValueAndGrad, x: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    value, gradient = function(x.reshape(shape))
    value = torch.where(torch.isfinite(value), value, torch.inf).reshape(-1)
    return value, torch.nan_to_num(gradient.reshape(x.shape), 0.0, 0.0, 0.0)


def _step(
    function: ValueAndGrad,
    shape: torch.Size,
    now: _State,
    pairs: int,
    tolerances: tuple[float, float],
) -> _State:
    """One round: a step of every element that has not stopped, accepted or shortened.

    Args:
        function: of points of this shape.
        shape: of the points.
        now: state before the round.
        pairs: number of stored pairs that are used.
        tolerances: of the gradient and of the value.
    """
    gradient_tolerance, value_tolerance = tolerances
    trial = (now.x + now.step[:, None] * now.direction).clamp(now.lower, now.upper)
    trial = torch.where(now.done[:, None], now.x, trial)
    trial_value, trial_gradient = _evaluate(function, trial, shape)
    moved = trial - now.x
    slope = (now.gradient * moved).sum(-1).clamp(max=0.0)  # projection can turn a step uphill
    accepted = (trial_value <= now.value + _ARMIJO * slope) & ~now.done
    decrease = now.value - trial_value
    small = decrease <= value_tolerance * now.value.abs().clamp(min=1.0)

    change = trial_gradient - now.gradient
    curved = (moved * change).sum(-1) > _CURVATURE * change.square().sum(-1)
    keep = (accepted & curved)[:, None, None]
    steps = torch.where(keep, torch.cat((now.steps[:, 1:], moved[:, None]), 1), now.steps)
    changes = torch.where(keep, torch.cat((now.changes[:, 1:], change[:, None]), 1), now.changes)

    x = torch.where(accepted[:, None], trial, now.x)
    value = torch.where(accepted, trial_value, now.value)
    gradient = torch.where(accepted[:, None], trial_gradient, now.gradient)
    free = _free(x, gradient, now.lower, now.upper)
    done = now.done | (accepted & (small | (_largest(gradient * free) < gradient_tolerance)))
    quasi = _direction(gradient, free, steps[:, -pairs:], changes[:, -pairs:])
    direction = torch.where(accepted[:, None], quasi, now.direction)
    step = torch.where(accepted, 1.0, now.step * _shorten(slope, trial_value - value))
    done = done | (step < _SMALLEST_STEP)
    return _State(x, value, gradient, steps, changes, direction, step, done, now.lower, now.upper)


def _largest(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(-1)


def _free(x: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """One where a coordinate may move downhill, zero where a bound holds it."""
    return (~(((x <= lower) & (gradient >= 0)) | ((x >= upper) & (gradient <= 0)))).to(x)


def _first_direction(gradient: Tensor, free: Tensor) -> Tensor:
    """Steepest descent on the free coordinates, of length at most 1."""
    projected = gradient * free
    length: Tensor = projected.norm(dim=-1, keepdim=True)
    return -projected / length.clamp(min=1.0)


def _shorten(slope: Tensor, rise: Tensor) -> Tensor:
    """Factor of the next step: minimiser of the parabola through the last one, within [0.1, 0.5]."""
    curvature = 2.0 * (rise - slope)
    factor = -slope / torch.where(curvature > 0, curvature, 1.0)
    return torch.where(torch.isfinite(rise) & (curvature > 0), factor, 0.1).clamp(0.1, 0.5)


def _direction(gradient: Tensor, free: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """-H g on the free coordinates, H the L-BFGS inverse Hessian in compact form.

    With S, Y the stored pairs as rows, R the upper triangle of S Yᵀ and D its diagonal,
    H g = c g + [Sᵀ, c Yᵀ] [[R⁻ᵀ (D + c Y Yᵀ) R⁻¹, -R⁻ᵀ], [-R⁻¹, 0]] [S g; c Y g] (Byrd, Nocedal and
    Schnabel 1994, equation 3.1). Pairs without curvature on the free coordinates are masked out. Of the
    others, c is the sum of the curvatures s·y divided by the sum of the sizes y·y.
    """
    g = (gradient * free)[..., None]
    s, y = steps * free[:, None], changes * free[:, None]
    sy, yy = s @ y.mT, y @ y.mT
    curvature, size = sy.diagonal(dim1=-2, dim2=-1), yy.diagonal(dim1=-2, dim2=-1)
    valid = (curvature > _CURVATURE * size).to(s)[..., None]
    right = torch.triu(sy * valid * valid.mT) + torch.diag_embed(1.0 - valid[..., 0])
    total = (size[:, None] @ valid)[..., 0]
    scale = ((curvature[:, None] @ valid)[..., 0] / torch.where(total > 0, total, 1.0))[..., None]
    p = torch.linalg.solve_triangular(right, valid * (s @ g), upper=True)
    inner = curvature[..., None] * p + scale * (yy @ p - y @ g)
    q = torch.linalg.solve_triangular(right.mT, valid * inner, upper=False)
    product = (scale * (g - y.mT @ p) + s.mT @ q)[..., 0] * free
    descends = (product * gradient).sum(-1, keepdim=True) > 0
    return torch.where(descends, -product, _first_direction(gradient, free))

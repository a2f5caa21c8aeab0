"""Many small box-constrained minimisations at once, each with its own state and line search.

Projected L-BFGS: coordinates that sit on a bound with the gradient pointing outwards are held, the
others move along the quasi-Newton direction of the memory restricted to them, and the step is
projected onto the box and shortened until it satisfies Armijo's condition (Bertsekas 1982; Byrd,
Nocedal and Schnabel 1994, theorem 2.2 for the compact form). Every round evaluates all problems
together; a problem whose step was refused shortens it while the others continue.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError

ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]

ARMIJO = 1e-4
"""A step is accepted if it lowers the value by this share of what the gradient promises."""

CURVATURE = 1e-10
"""Least curvature along a step that is stored, in units of the size of the gradient change."""

SMALLEST_STEP = 1e-10
"""An element whose step is shorter stops."""

MEMORY = 10
"""Largest number of (step, gradient change) pairs that are stored."""


@dataclass(frozen=True)
class BatchResult:
    """The result of a batched minimisation.

    Attributes:
        x: best points found.
        value: objective there.
        evaluations: rounds of joint evaluation, the first included.
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
    narrow: Callable[[Tensor], ValueAndGrad] | None = None,
) -> BatchResult:
    """Local minima of one function a batch element, from one start each.

    Args:
        function: points (*b, p) to values (*b) and gradients (*b, p); elements must not influence
            each other. A value that is not finite counts as a refused step.
        start: starting points; moved into the box.
        bounds: lower and upper bounds, broadcastable to start; equal bounds fix a coordinate.
        max_evaluations: rounds of joint evaluation at most.
        gradient_tolerance: an element stops when the largest entry of its projected gradient is below.
        value_tolerance: an element stops when a step lowers its value by less than this, relative to
            max(1, |value|).
        narrow: returns the function of some elements alone, of points (k, p), given their indices (k) among
            the flattened `*b`. With it, elements that have stopped are no longer evaluated.

    Raises:
        DataError: lower > upper somewhere.
    """
    lower, upper = (bound.to(start).expand_as(start).reshape(-1, start.shape[-1]) for bound in bounds)
    if bool((lower > upper).any()):
        raise DataError("`lower <= upper` must hold for every coordinate")
    shape = start.shape
    x = start.reshape(lower.shape).clamp(lower, upper)
    value, gradient = evaluated(function, x, shape)
    free = _free(x, gradient, lower, upper)
    done = ~torch.isfinite(value) | (_largest(gradient * free) < gradient_tolerance)
    pairs = x.new_zeros(x.shape[0], MEMORY, x.shape[1])
    first = _first_direction(gradient, free)
    active = _State(x, value, gradient, pairs, pairs, first, torch.ones_like(value), done, lower, upper)
    result, index = active, torch.arange(x.shape[0], device=x.device)
    evaluations, stored = 1, 0
    while evaluations < max_evaluations:
        remaining = int((~active.done).sum())
        if remaining == 0:
            break
        if narrow is not None and 2 * remaining <= index.shape[0]:
            result = result.replaced(index, active)
            not_done = (~active.done).nonzero()[:, 0]
            active, index = active.elements(not_done), index[not_done]
            function, shape = narrow(index), active.x.shape
        stored = min(stored + 1, MEMORY)
        active = _step(function, shape, active, stored, gradient_tolerance, value_tolerance)
        evaluations += 1
    result = result.replaced(index, active)
    lead = start.shape[:-1]
    return BatchResult(
        result.x.reshape(start.shape), result.value.reshape(lead), evaluations, result.done.reshape(lead)
    )


@dataclass(frozen=True, eq=False)
class _State:
    """State of the searches, one row an element.

    Attributes:
        x: the best points.
        value: objective there.
        gradient: its gradient.
        steps: the last steps, the latest one last.
        changes: of the gradient in these steps.
        direction: of the next step.
        step: its length, in units of the direction.
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

    def elements(self, rows: Tensor) -> "_State":
        """The state of some elements alone."""
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def replaced(self, rows: Tensor, other: "_State") -> "_State":
        """The state with the points, values and `done` of some elements from another state."""
        if other is self or rows.shape == self.value.shape:
            return other
        return replace(
            self,
            x=self.x.index_copy(0, rows, other.x),
            value=self.value.index_copy(0, rows, other.value),
            done=self.done.index_copy(0, rows, other.done),
        )


def evaluated(function: ValueAndGrad, x: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Values and gradients of flattened points; values that are not finite become infinite."""
    value, gradient = function(x.reshape(shape))
    value = torch.where(torch.isfinite(value), value, torch.inf).reshape(-1)
    return value, torch.nan_to_num(gradient.reshape(x.shape), 0.0, 0.0, 0.0)


def _step(
    function: ValueAndGrad,
    shape: torch.Size,
    state: _State,
    pairs: int,
    gradient_tolerance: float,
    value_tolerance: float,
) -> _State:
    """One round: a step of every element that has not stopped, accepted or shortened."""
    trial = (state.x + state.step[:, None] * state.direction).clamp(state.lower, state.upper)
    trial = torch.where(state.done[:, None], state.x, trial)
    trial_value, trial_gradient = evaluated(function, trial, shape)
    moved = trial - state.x
    slope = (state.gradient * moved).sum(-1).clamp(max=0.0)  # projection can turn a step uphill
    accepted = (trial_value <= state.value + ARMIJO * slope) & ~state.done
    decrease = state.value - trial_value
    small = decrease <= value_tolerance * state.value.abs().clamp(min=1.0)

    change = trial_gradient - state.gradient
    curved = (moved * change).sum(-1) > CURVATURE * change.square().sum(-1)
    keep = (accepted & curved)[:, None, None]
    steps = torch.where(keep, torch.cat((state.steps[:, 1:], moved[:, None]), 1), state.steps)
    changes = torch.where(keep, torch.cat((state.changes[:, 1:], change[:, None]), 1), state.changes)

    x = torch.where(accepted[:, None], trial, state.x)
    value = torch.where(accepted, trial_value, state.value)
    gradient = torch.where(accepted[:, None], trial_gradient, state.gradient)
    free = _free(x, gradient, state.lower, state.upper)
    done = state.done | (accepted & (small | (_largest(gradient * free) < gradient_tolerance)))
    quasi = quasi_newton_direction(gradient, free, steps[:, -pairs:], changes[:, -pairs:])
    direction = torch.where(accepted[:, None], quasi, state.direction)
    step = torch.where(accepted, 1.0, state.step * shortening(slope, trial_value - value))
    done = done | (step < SMALLEST_STEP)
    return _State(x, value, gradient, steps, changes, direction, step, done, state.lower, state.upper)


def _largest(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(-1)


def _free(x: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """1 for a coordinate that may move downhill, 0 for one that a bound holds."""
    return (~(((x <= lower) & (gradient >= 0)) | ((x >= upper) & (gradient <= 0)))).to(x)


def _first_direction(gradient: Tensor, free: Tensor) -> Tensor:
    """Steepest descent, no longer than one."""
    projected = gradient * free
    length: Tensor = projected.norm(dim=-1, keepdim=True)
    return -projected / length.clamp(min=1.0)


def shortening(slope: Tensor, rise: Tensor) -> Tensor:
    """Factor of the next step: minimiser of the parabola through the last one, within [0.1, 0.5]."""
    curvature = 2.0 * (rise - slope)
    factor = -slope / torch.where(curvature > 0, curvature, 1.0)
    return torch.where(torch.isfinite(rise) & (curvature > 0), factor, 0.1).clamp(0.1, 0.5)


def quasi_newton_direction(gradient: Tensor, free: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """-H g on the free coordinates, H the L-BFGS inverse Hessian in compact form.

    With S, Y the stored pairs as rows, R the upper triangle of S Yᵀ and D its diagonal,
    H g = c g + [Sᵀ, c Yᵀ] [[R⁻ᵀ (D + c Y Yᵀ) R⁻¹, -R⁻ᵀ], [-R⁻¹, 0]] [S g; c Y g] (Byrd, Nocedal and
    Schnabel 1994, equation 3.1). Pairs without curvature on the free
    coordinates are masked out; c is the ratio of the summed curvatures s·y and sizes y·y of the others.
    """
    g = (gradient * free)[..., None]
    s, y = steps * free[:, None], changes * free[:, None]
    sy, yy = s @ y.mT, y @ y.mT
    curvature, size = sy.diagonal(dim1=-2, dim2=-1), yy.diagonal(dim1=-2, dim2=-1)
    valid = (curvature > CURVATURE * size).to(s)[..., None]
    right = torch.triu(sy * valid * valid.mT) + torch.diag_embed(1.0 - valid[..., 0])
    total = (size[:, None] @ valid)[..., 0]
    scale = ((curvature[:, None] @ valid)[..., 0] / torch.where(total > 0, total, 1.0))[..., None]
    p = torch.linalg.solve_triangular(right, valid * (s @ g), upper=True)
    inner = curvature[..., None] * p + scale * (yy @ p - y @ g)
    q = torch.linalg.solve_triangular(right.mT, valid * inner, upper=False)
    product = (scale * (g - y.mT @ p) + s.mT @ q)[..., 0] * free
    descends = (product * gradient).sum(-1, keepdim=True) > 0
    return torch.where(descends, -product, _first_direction(gradient, free))

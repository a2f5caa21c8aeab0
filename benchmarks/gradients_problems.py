"""Problems of benchmarks/gradients.py: values with derivatives, automatic or by an adjoint.

No minimiser is in the middle of its box, where every method's design begins: `shifted` crops the boxes of the
test functions at random for each seed, and the truth of the fit is drawn away from the middle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bo_suite import Float, Space
from bo_suite.problems import get_problem, shifted
from bo_suite.problems.base import Problem
from bo_suite.space.space import Params

Gradient = dict[str, float]
State = tuple[float, float]

FUNCTIONS = {"hartmann6": 6, "rosenbrock10": 10, "levy8": 8, "ackley10": 10, "griewank20": 20}
"""Test functions and their dimensions."""

FIT = "oscillator6"
PROBLEMS = (*FUNCTIONS, FIT)

END, STEPS, EVERY = 12.0, 240, 6
"""Simulated seconds of the oscillator, steps of the integrator, and steps between two measurements."""


@dataclass(frozen=True)
class Differentiable:
    """A function of real parameters, with its derivatives.

    Attributes:
        name: of the problem.
        space: of Float parameters.
        evaluate: the value and the derivative by each parameter, all in the user's units.
        minimum: the smallest value.
        minimizer: a point that has it.
    """

    name: str
    space: Space
    evaluate: Callable[[Params], tuple[float, Gradient]]
    minimum: float
    minimizer: Params

    def encoded(self, row: np.ndarray) -> tuple[Params, float, np.ndarray]:
        """The point of a row of the unit cube, its value, and the derivatives by the columns of the row.

        A linear parameter is low + u (high - low), so d/du = (high - low) d/dx; on a log scale it is
        low (high / low)^u, so d/du = x log(high / low) d/dx.
        """
        (params,) = self.space.decode(torch.as_tensor(row, dtype=torch.float64)[None])
        value, gradient = self.evaluate(params)
        return params, value, np.array([gradient[name] * self._slope(name, params) for name in params])

    def _slope(self, name: str, params: Params) -> float:
        parameter = self.space[name]
        assert isinstance(parameter, Float)
        if parameter.log:
            return float(params[name]) * math.log(parameter.high / parameter.low)
        return parameter.high - parameter.low


def differentiable(name: str, seed: int) -> Differentiable:
    """The problem of a name; another box or another truth for each seed."""
    if name == FIT:
        return oscillator_fit(seed)
    problem = get_problem(name)
    if name != "hartmann6":  # whose minimiser is off the centre by itself
        problem = shifted(problem, seed)
    assert problem.minimum is not None
    return Differentiable(
        name, problem.space, partial(differentiated, problem), problem.minimum, problem.minimizers[0]
    )


def differentiated(problem: Problem, params: Params) -> tuple[float, Gradient]:
    """The value of a test function and its derivatives, by automatic differentiation."""
    assert problem.vectorized is not None
    row = torch.tensor([list(params.values())], dtype=torch.float64, requires_grad=True)
    value = problem.vectorized(row)[0]
    (slopes,) = torch.autograd.grad(value, row)
    return float(value.detach()), dict(zip(params, slopes[0].tolist(), strict=True))


OSCILLATOR = {
    "damping": Float(0.02, 1.0, log=True),
    "stiffness": Float(0.5, 8.0, log=True),
    "hardening": Float(0.05, 5.0, log=True),
    "force": Float(0.2, 3.0),
    "frequency": Float(0.5, 3.0),
    "start": Float(-2.0, 2.0),
}
"""A damped, driven oscillator with a cubic spring: u'' = F cos(w t) - c u' - k u - b u³, u(0) = start."""


def oscillator_fit(seed: int) -> Differentiable:
    """Mean squared distance of a simulated oscillator from measurements of another one, without noise."""
    space = Space(OSCILLATOR)
    generator = np.random.default_rng(seed)
    distance = generator.uniform(0.1, 0.35, len(OSCILLATOR))
    row = 0.5 + distance * generator.choice((-1.0, 1.0), len(OSCILLATOR))
    (truth,) = space.decode(torch.as_tensor(row)[None])
    measured = [u for u, _ in path(list(truth.values()))[EVERY::EVERY]]
    return Differentiable(FIT, space, partial(misfit, measured), 0.0, truth)


def misfit(measured: list[float], params: Params) -> tuple[float, Gradient]:
    """The mean squared misfit, and its derivatives by the discrete adjoint of the integrator.

    The states are integrated forwards and stored. Backwards, the adjoint state (derivatives of the misfit by
    the state) goes through the transposed stages of each Runge-Kutta step, and gathers the misfit's own
    derivative wherever a displacement was measured. One pass gives all derivatives, whatever their number.
    """
    values = [float(value) for value in params.values()]
    states = path(values)
    residuals = [states[EVERY * (k + 1)][0] - u for k, u in enumerate(measured)]
    count, sums = len(measured), [0.0] * 5
    adjoint = (0.0, 0.0)
    for index in range(STEPS, 0, -1):
        if index % EVERY == 0:
            adjoint = (adjoint[0] + 2.0 * residuals[index // EVERY - 1] / count, adjoint[1])
        adjoint = step_back(values, index - 1, states[index - 1], adjoint, sums)
    slopes = (*sums, adjoint[0])  # the last parameter is the displacement at the start
    return math.fsum(r * r for r in residuals) / count, dict(zip(params, slopes, strict=True))


def path(values: list[float]) -> list[State]:
    """Displacement and velocity after each step of the classical Runge-Kutta method, the start included."""
    states = [(values[-1], 0.0)]
    for index in range(STEPS):
        stages, h = stages_of(values, index, states[-1]), END / STEPS
        slopes = [slope(values, time, state) for time, state in stages]
        (a, b, c, d), (u, v) = slopes, states[-1]
        states.append(
            (
                u + h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0]),
                v + h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1]),
            )
        )
    return states


def stages_of(values: list[float], index: int, state: State) -> list[tuple[float, State]]:
    """Times and states at which a step evaluates the slope."""
    h = END / STEPS
    stages = [(index * h, state)]
    for share in (0.5, 0.5, 1.0):
        du, dv = slope(values, *stages[-1])
        stages.append(((index + share) * h, (state[0] + share * h * du, state[1] + share * h * dv)))
    return stages


def slope(values: list[float], time: float, state: State) -> State:
    """The time derivative of the state."""
    c, k, b, force, w, _ = values
    u, v = state
    return v, force * math.cos(w * time) - c * v - k * u - b * u**3


def step_back(values: list[float], index: int, state: State, adjoint: State, sums: list[float]) -> State:
    """The adjoint before a step, given that after it; adds derivatives by the parameters to `sums`."""
    h = END / STEPS
    c, k, b, force, w, _ = values
    stages = stages_of(values, index, state)
    weights, shares = (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.5, 0.5, 1.0)
    total, passed = adjoint, (0.0, 0.0)  # what the later stage passes to the slope of this one
    for stage in (3, 2, 1, 0):
        time, (u, v) = stages[stage]
        # the adjoint of this stage's slope, and of its state
        du = weights[stage] * h * adjoint[0] + passed[0]
        dv = weights[stage] * h * adjoint[1] + passed[1]
        cosine = math.cos(w * time)
        for place, partial_slope in enumerate((-v, -u, -(u**3), cosine, -force * time * math.sin(w * time))):
            sums[place] += dv * partial_slope
        by_state = (-(k + 3 * b * u * u) * dv, du - c * dv)
        total = (total[0] + by_state[0], total[1] + by_state[1])
        if stage:
            passed = (shares[stage - 1] * h * by_state[0], shares[stage - 1] * h * by_state[1])
    return total

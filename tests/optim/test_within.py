"""Minima where comparisons hold, beside SciPy's."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from bo_suite import Float, Int, Space
from bo_suite.data import CPU_DOUBLES, Seeds
from bo_suite.optim.maximize import ascend
from bo_suite.optim.within import minimize_within
from bo_suite.space.activity import movable
from bo_suite.space.candidates import sample_sobol
from bo_suite.space.system import System


def system_of(space: Space) -> System:
    assert space.region is not None
    assert space.region.system is not None
    return space.region.system


def starts(space: Space, count: int, seed: int) -> Tensor:
    return sample_sobol(space, count, torch.zeros(0, space.dim, **CPU_DOUBLES), Seeds.of(0, seed))


def box(like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(like), torch.ones_like(like)


def text_of(coefficients: np.ndarray, sign: str, bound: float) -> str:
    terms = " + ".join(f"{float(one)!r}*x{index}" for index, one in enumerate(coefficients))
    return f"{terms.replace('+ -', '- ')} {sign} {float(bound)!r}"


@pytest.mark.parametrize("case", range(12))
def test_minima_of_convex_quadratics_on_random_polytopes_are_those_of_slsqp(case: int) -> None:
    """Most of them lie on faces: the unconstrained minimum is often outside."""
    rng = np.random.default_rng(case)
    d = int(rng.integers(2, 9))
    m, k = 1 + int(rng.integers(0, 4)), int(rng.integers(0, min(3, d - 1)))
    inside = rng.uniform(0.2, 0.8, d)
    a, e = rng.normal(size=(m, d)).round(3), rng.normal(size=(k, d)).round(3)
    b, at = (a @ inside + rng.uniform(0.0, 0.3, m)).round(6), e @ inside
    texts = [text_of(*pair) for pair in zip(a, ["<="] * m, b, strict=True)]
    texts += [text_of(*pair) for pair in zip(e, ["=="] * k, at, strict=True)]
    space = Space({f"x{index}": Float(0.0, 1.0) for index in range(d)}, texts)
    root = rng.normal(size=(d, d))
    curvature, centre = root @ root.T / d + 0.05 * np.eye(d), rng.uniform(-0.5, 1.5, d)

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        gradient = (x - torch.tensor(centre)) @ torch.tensor(curvature)
        return 0.5 * ((x - torch.tensor(centre)) * gradient).sum(-1), gradient

    start = starts(space, 4, case)
    found = minimize_within(
        function,
        start,
        system_of(space),
        box(start),
        max_evaluations=200,
        gradient_tolerance=1e-8,
        value_tolerance=1e-13,
    )
    limits = [{"type": "ineq", "fun": lambda x: b - a @ x, "jac": lambda x: -a}]
    limits += [{"type": "eq", "fun": lambda x: e @ x - at, "jac": lambda x: e}] if k else []
    reference = minimize(
        lambda x: 0.5 * (x - centre) @ curvature @ (x - centre),
        inside,
        jac=lambda x: curvature @ (x - centre),
        bounds=[(0.0, 1.0)] * d,
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert float((found.value - reference.fun).abs().max()) < 1e-7
    assert float(system_of(space).violation(found.x).max()) < 1e-11
    assert bool(found.converged.all())


def test_a_minimum_at_a_corner_is_reached_exactly() -> None:
    space = Space(dict.fromkeys("abcde", Float(0.0, 1.0)), ["a + b + c + d + e == 1"])
    slope = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0], **CPU_DOUBLES)
    start = starts(space, 6, 0)
    found = minimize_within(
        lambda x: (x @ slope, slope.expand_as(x)), start, system_of(space), box(start), max_evaluations=40
    )
    expected = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0], **CPU_DOUBLES)
    torch.testing.assert_close(found.x, expected.expand_as(found.x), atol=1e-12, rtol=0.0)


def test_a_minimum_on_a_curved_boundary_is_reached() -> None:
    """The closest allowed point to (1, 1): a sum with a value on a log scale is a curve."""
    space = Space({"x": Float(0.0, 1.0), "t": Float(0.01, 1.0, log=True)}, ["x + t <= 1"])
    start = starts(space, 8, 0)

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - 1.0).square().sum(-1), 2.0 * (x - 1.0)

    found = minimize_within(function, start, system_of(space), box(start), max_evaluations=100)
    t = np.linspace(0.0, 1.0, 100_001)
    best = ((1.0 - 10.0 ** (-2.0 + 2.0 * t) - 1.0) ** 2 + (t - 1.0) ** 2).min()
    assert float((found.value - best).abs().max()) < 1e-4
    assert bool(system_of(space).is_met(found.x).all())


def test_replicates_and_held_columns_are_respected() -> None:
    """Rows of two replicates with different integers, which stay; the real column makes up for them."""
    space = Space({"n": Int(0, 4), "x": Float(0.0, 3.0), "y": Float(0.0, 3.0)}, ["n + x + y == 4"])
    rows = starts(space, 12, 0).reshape(2, 6, 3)
    target = torch.tensor([0.0, 0.6, 0.9], **CPU_DOUBLES)
    bounds = movable(space.columns, rows, [0])
    maxima = ascend(lambda x: -(x - target).square().sum(-1), rows, bounds, 100, system_of(space))
    torch.testing.assert_close(maxima[..., 0], rows[..., 0], atol=0.0, rtol=0.0)
    assert bool(system_of(space).is_met(maxima).all())
    values = 3.0 * maxima[..., 1:]
    total = 4.0 - 4.0 * rows[..., 0]
    shift = (total - 1.8 - 2.7) / 2.0
    expected = torch.stack((1.8 + shift, 2.7 + shift), -1)
    inside = ((expected >= 0.0) & (expected <= 3.0)).all(-1)
    assert bool(inside.any())
    torch.testing.assert_close(values[inside], expected[inside], atol=0.05, rtol=0.0)


def test_a_value_that_is_not_finite_shortens_the_step() -> None:
    space = Space(dict.fromkeys("ab", Float(0.0, 1.0)), ["a + b == 1"])

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.where(x[..., 0] > 0.8, torch.nan, -x[..., 0])
        return value, torch.tensor([-1.0, 0.0], **CPU_DOUBLES).expand_as(x)

    start = torch.tensor([[0.2, 0.8], [0.5, 0.5]], **CPU_DOUBLES)
    found = minimize_within(function, start, system_of(space), box(start), max_evaluations=60)
    assert bool((found.x[:, 0] > 0.7).all())
    assert bool((found.x[:, 0] <= 0.8).all())

"""The scale of a constrained outcome: which side of its interval it is on is never lost."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from bo_suite.storage.goals import Constraint
from bo_suite.study.limits import LimitTransform

INF = math.inf
INTERVALS = {"below": (-INF, 8.0), "above": (8.0, INF), "between": (6.0, 10.0)}
SCALES = [1e-300, 1e-12, 1.0, 1e12, 1e290]


def values(count: int = 15) -> Tensor:
    """Numbers around 8, some in each interval and some not."""
    return 8.0 + 5.0 * torch.sin(7.0 * torch.arange(count, dtype=torch.float64))


def limit(name: str, scale: float = 1.0) -> Constraint:
    low, high = INTERVALS[name]
    return Constraint("c", low * scale, high * scale)


@pytest.mark.parametrize("name", INTERVALS)
def test_it_is_the_distance_from_the_boundary_in_medians(name: str) -> None:
    c = values()
    transform = LimitTransform.fit(c, limit(name))
    exact = [Fraction(float(one)) - 8 for one in c]
    size = sorted(map(abs, exact))[len(exact) // 2]
    if name == "between":
        size = max(size, Fraction(2))
    expected = torch.tensor([float(one / size) for one in exact], dtype=torch.float64)
    torch.testing.assert_close(transform(c), expected, rtol=1e-10, atol=1e-10)
    noise = transform.noise(torch.tensor([0.5, math.nan], dtype=torch.float64))
    assert noise[0].item() == pytest.approx(float((Fraction(1, 2) / size) ** 2))
    assert bool(noise[1].isnan())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", INTERVALS)
def test_the_unit_of_the_outcome_does_not_matter(name: str, scale: float) -> None:
    c, ends = values(), torch.tensor(INTERVALS[name], dtype=torch.float64)
    one, other = LimitTransform.fit(c, limit(name)), LimitTransform.fit(c * scale, limit(name, scale))
    torch.testing.assert_close(other(c * scale), one(c), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other(ends * scale), one(ends), rtol=1e-9, atol=1e-9)
    found = other.violation(c * scale, limit(name, scale))
    torch.testing.assert_close(found, one.violation(c, limit(name)), rtol=1e-9, atol=1e-11)
    std = torch.full_like(c, 0.25)
    torch.testing.assert_close(other.noise(std * scale), one.noise(std), rtol=1e-9, atol=1e-9)


CASES: dict[str, list[float]] = {
    "one met": [7.0],
    "one not met": [20.0],
    "at the boundary": [8.0, 8.0],
    "constant": [7.5] * 4,
    "nearly constant": [7.0 + 1e-14 * k for k in range(5)],
    "an outlier": [7.0, 7.5, 8.5, 9.0, 1e300],
    "two outliers": [7.0, 7.5, -1e300, 8.5, 1e300],
    "tiny": [0.0, 5e-324, 1e-310],
    "large": [-1.7e308, 1.7e308],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*INTERVALS, "tiny", "wide"])
def test_hostile_outcomes_stay_finite_and_on_their_side(name: str, case: str) -> None:
    constraint = {
        "tiny": Constraint("c", 0.0, 5e-324),
        "wide": Constraint("c", -1.7e308, 1.7e308),
    }.get(name) or limit(name)
    c = torch.tensor(CASES[case], dtype=torch.float64)
    transform = LimitTransform.fit(c, constraint)
    low, high = transform(torch.tensor([constraint.low, constraint.high], dtype=torch.float64)).tolist()
    z, violation = transform(c), transform.violation(c, constraint)
    assert bool(z.isfinite().all())
    assert bool(violation.isfinite().all())
    assert low < high or case == "two outliers" or name == "tiny"
    assert math.isinf(low) == math.isinf(constraint.low)
    assert math.isinf(high) == math.isinf(constraint.high)
    met = torch.tensor([constraint.allows(float(one)) for one in c])
    assert torch.equal(violation == 0.0, met)
    assert float(violation.max()) < 1500.0  # the largest logarithm of a quotient of two floats
    assert bool(((low - 1e-9 <= z) & (z <= high + 1e-9))[met].all())
    assert bool((~met | (z >= low - 1e-9)).all())
    assert bool(transform.noise(torch.full_like(c, 1e300)).isfinite().all())


def test_a_violation_grows_with_the_distance_and_is_never_lost() -> None:
    c = torch.tensor([8.0, 8.0 + 1e-15 * 8, 8.1, 9.0, 12.0, 1e9], dtype=torch.float64)
    transform = LimitTransform.fit(values(), limit("below"))
    found = transform.violation(c, limit("below"))
    assert found[0] == 0.0
    assert bool((found.diff() > 0.0).all())
    assert found[-1].item() == pytest.approx(math.log1p((1e9 - 8.0) / transform.size))
    missing = torch.tensor([math.nan], dtype=torch.float64)
    assert bool(LimitTransform.fit(values(), limit("below")).violation(missing, limit("below")).isnan())

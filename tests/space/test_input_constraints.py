"""Spaces with constraints: every row that is proposed meets them exactly, and mistakes are explained."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from constrained_cases import LIKE, SPACES, UNIT, assert_exact, in_a_disc, like, rare

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import CPU_DOUBLES, Dataset, Seeds
from bo_suite.errors import SpaceError
from bo_suite.space.candidates import (
    Moves,
    initial_row,
    is_allowed,
    is_exhausted,
    mutate,
    neighbours,
    new_row,
    perturb_best,
    project,
    sample_random,
    sample_sobol,
)
from bo_suite.space.listing import every_row


@pytest.mark.parametrize("name", SPACES)
def test_every_proposed_row_meets_the_constraints(name: str) -> None:
    space = SPACES[name]
    rows = sample_sobol(space, 64, like(space), Seeds.of(0, 1))
    assert rows.shape == (64, space.dim)
    assert_exact(space, rows)
    assert_exact(space, sample_random(space, 16, like(space), Seeds.of(0, 2)))
    assert_exact(space, torch.stack([initial_row(space, 5, index) for index in range(6)]))
    data = Dataset(project(space, rows[:8]), torch.arange(8.0).double(), columns=space.columns)
    assert_exact(space, perturb_best(space, data, Seeds.of(0, 3), 64))
    assert_exact(space, mutate(space, rows, Seeds.of(0, 4)))
    for column, levels in enumerate(space.levels):
        if levels is not None:
            assert_exact(space, neighbours(space, rows[:4], column, Seeds.of(0, 5), Moves(8)))


@pytest.mark.parametrize("name", [name for name in SPACES if name != "one point"])
def test_rows_move(name: str) -> None:
    """Samples differ from each other, and so do perturbed and mutated rows from their parents."""
    space = SPACES[name]
    rows = project(space, sample_sobol(space, 64, like(space), Seeds.of(0, 1)))
    most = min(space.cardinality or 64, 64)
    assert len(torch.unique(rows, dim=0)) > most // 2
    mutated = project(space, mutate(space, rows, Seeds.of(0, 4)))
    assert float((mutated != rows).any(-1).double().mean()) > 0.1
    data = Dataset(rows[:1], torch.zeros(1, **CPU_DOUBLES), columns=space.columns)
    perturbed = project(space, perturb_best(space, data, Seeds.of(0, 3), 64))
    assert float((perturbed != rows[:1]).any(-1).double().mean()) > 0.1


@pytest.mark.parametrize("name", ["simplex", "inequalities", "integers", "a function and a sum"])
def test_replicates_are_sampled_as_alone(name: str) -> None:
    space = SPACES[name]
    seeds = Seeds.of_each((3, 4), 7)
    both = sample_sobol(space, 20, torch.zeros(2, 0, space.dim, **CPU_DOUBLES), seeds)
    mutated = mutate(space, both, seeds)
    for index, seed in enumerate((3, 4)):
        alone = sample_sobol(space, 20, like(space), Seeds.of(seed, 7))
        torch.testing.assert_close(both[index], alone)
        torch.testing.assert_close(mutated[index], mutate(space, alone, Seeds.of(seed, 7)))


def test_rows_in_single_precision_are_accepted() -> None:
    space = SPACES["inequalities"]
    rows = sample_sobol(space, 32, like(space).float(), Seeds.of(0, 1))
    assert rows.dtype == torch.float32
    assert bool(is_allowed(space, rows).all())


def test_samples_of_a_simplex_are_uniform() -> None:
    rows = sample_sobol(SPACES["simplex"], 4096, LIKE.reshape(0, 3), Seeds.of(0, 1))
    torch.testing.assert_close(rows.mean(0), torch.full((3,), 1 / 3, **CPU_DOUBLES), atol=0.02, rtol=0.0)
    torch.testing.assert_close(rows.var(0), torch.full((3,), 1 / 18, **CPU_DOUBLES), atol=0.0, rtol=0.1)


def test_units_are_exchanged_along_an_equality_of_integers() -> None:
    """From (4, 3, 3), a change of one integer moves another one, and in turn both others."""
    space = SPACES["integers"]
    row = space.encode([{"a": 4, "b": 3, "c": 3}])
    points = [
        point
        for column in range(3)
        for point in space.decode(neighbours(space, row, column, Seeds.of(0, 0), Moves(8))[0])
    ]
    changed = [[name for name in "abc" if point[name] != {"a": 4, "b": 3, "c": 3}[name]] for point in points]
    assert {tuple(one) for one in changed if len(one) == 2} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert all(sum(point.values()) == 10 for point in points)


def test_the_points_of_a_finite_region_are_listed() -> None:
    space = SPACES["integers"]
    rows = every_row(space)
    assert space.cardinality == len(rows) == 66
    assert {tuple(point.values()) for point in space.decode(rows)} == {
        (a, b, 10 - a - b) for a in range(11) for b in range(11 - a)
    }
    assert not is_exhausted(space, rows[1:])
    assert is_exhausted(space, rows)
    assert SPACES["integer products"].cardinality == 7
    assert SPACES["one point"].cardinality == 1
    determined = Space({"n": Int(0, 5), "x": UNIT}, ["n + 2*x == 3"])
    assert determined.cardinality == 3  # n is 1, 2 or 3
    assert {point["n"]: point["x"] for point in determined.decode(every_row(determined))} == {
        1: 1.0,
        2: 0.5,
        3: 0.0,
    }
    odd = Space({"a": Int(0, 9), "b": Int(0, 9)}, [lambda params: (params["a"] + params["b"]) % 2 == 1])
    assert odd.cardinality == 50


def test_a_new_row_is_none_of_the_taken_ones() -> None:
    space = SPACES["integers"]
    rows = every_row(space)
    assert torch.equal(new_row(space, rows[0], rows[1:], Seeds.of(0, 0)), rows[0])
    last = new_row(space, rows[0], torch.cat((rows[:40], rows[41:])), Seeds.of(0, 0))
    assert torch.equal(last, rows[40])


def test_a_rare_region_is_found_and_left_for_a_sentence() -> None:
    space = Space({"x": UNIT, "y": UNIT}, [rare])
    rows = sample_sobol(space, 64, like(space), Seeds.of(0, 1))
    assert all(rare(point) for point in space.decode(rows))
    assert len(torch.unique(rows, dim=0)) > 8
    never = Space({"x": UNIT, "y": UNIT}, [lambda params: False])
    with pytest.raises(SpaceError, match=r"must exist, got none among 65,536 samples for \[<lambda>\]"):
        sample_sobol(never, 4, like(never), Seeds.of(0, 1))


def test_rows_of_mixed_random_constraints_are_exact() -> None:
    """Random linear constraints around a known point, over columns of all kinds."""
    rng = np.random.default_rng(0)
    for case in range(12):
        parameters: dict[str, Any] = {}
        for index in range(int(rng.integers(2, 7))):
            kind = rng.integers(3)
            parameters[f"v{index}"] = (
                Float(-2, 3) if kind == 0 else Int(-4, 9) if kind == 1 else Float(0, 2, step=0.25)
            )
        point = {name: parameter.decode(rng.uniform()) for name, parameter in parameters.items()}
        texts = []
        for row in range(int(rng.integers(1, 4))):
            coefficients = {name: int(rng.integers(-3, 4)) for name in parameters}
            coefficients[next(iter(parameters))] = 1
            total = sum(coefficient * point[name] for name, coefficient in coefficients.items())
            left = " + ".join(f"{one}*{name}" for name, one in coefficients.items()).replace("+ -", "- ")
            sign = "==" if row == 0 and case % 2 else "<="
            texts.append(f"{left} {sign} {total + (0.5 if sign == '<=' else 0.0)!r}")
        space = Space(parameters, list(dict.fromkeys(texts)))
        space.check(point)
        assert_exact(space, sample_sobol(space, 16, like(space), Seeds.of(0, case)))


# Points.


@pytest.mark.parametrize(
    ("name", "point", "message"),
    [
        (
            "simplex",
            {"a": 0.5, "b": 0.5, "c": 0.5},
            "the constraint 'a + b + c == 1' must hold, got {'a': 0.5, 'b': 0.5, 'c': 0.5}, off by 0.5",
        ),
        ("inequalities", {"x": 2.0, "y": 3.0, "k": "u"}, "'2*x <= y' must hold, got {'x': 2.0, 'y': 3.0}"),
        (
            "products",
            {"a": 10.0, "b": 5.0, "c": 10.0},
            "'a * b <= 10' must hold, got {'a': 10.0, 'b': 5.0}, off by a factor of 5",
        ),
        ("a function", {"x": 1.0, "y": 0.0}, "function 'in_a_disc' must return True, got False at {'x': 1.0"),
    ],
)
def test_a_point_outside_is_refused_with_the_constraint(
    name: str, point: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        SPACES[name].check(point)
    assert message in str(caught.value)
    assert not SPACES[name].contains(point)
    SPACES[name].accept(point)  # as a past trial may have it


def test_rounding_is_no_violation() -> None:
    SPACES["simplex"].check({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    SPACES["simplex"].check({"a": 0.1, "b": 0.2, "c": 0.7 + 4e-10})
    assert not SPACES["simplex"].contains({"a": 0.1, "b": 0.2, "c": 0.7 + 4e-9})


def test_large_integers_are_judged_to_the_unit() -> None:
    space = Space({"a": Int(0, 10**12), "b": Int(0, 10**12)}, ["a + b == 1000000000000"])
    space.check({"a": 10**11, "b": 9 * 10**11})
    assert not space.contains({"a": 10**11, "b": 9 * 10**11 + 1})
    rows = project(space, sample_sobol(space, 16, like(space), Seeds.of(0, 1)))
    assert all(point["a"] + point["b"] == 10**12 for point in space.decode(rows))


def test_some_values_are_refused_if_no_point_has_them() -> None:
    space = SPACES["simplex"]
    assert space.check_some({"a": 0.4, "b": 0.6}) == {"a": 0.4, "b": 0.6}
    with pytest.raises(SpaceError, match=r"got none within the ranges and with {'a': 0.7, 'b': 0.6} fixed"):
        space.check_some({"a": 0.7, "b": 0.6})
    with pytest.raises(SpaceError, match="function 'in_a_disc' must return True"):
        SPACES["a function"].check_some({"x": 1.0, "y": 0.0})


@pytest.mark.parametrize("name", ["simplex", "integers and reals", "a trace", "a function and a sum"])
def test_fixed_values_stay_while_the_others_meet_the_constraints(name: str) -> None:
    space = SPACES[name]
    (first,) = space.decode(project(space, sample_sobol(space, 1, like(space), Seeds.of(0, 9))))
    given = space.names[0]
    fixed = space.with_fixed({given: first[given]})
    rows = sample_sobol(fixed, 16, like(space), Seeds.of(0, 1))
    assert all(point[given] == first[given] for point in space.decode(project(fixed, rows)))
    assert_exact(space, project(fixed, rows))
    data = Dataset(space.encode([first]), torch.zeros(1, **CPU_DOUBLES), columns=fixed.columns)
    assert_exact(space, project(fixed, perturb_best(fixed, data, Seeds.of(0, 2), 16)))


def test_single_values_count_in_constraints() -> None:
    parameters = {"a": UNIT, "b": UNIT, "c": Float(0.25, 0.25), "n": Int(2, 2)}
    space = Space(parameters, ["a + b + c == 1", "a <= 0.25*n"]).varying
    assert space.names == ("a", "b")
    rows = project(space, sample_sobol(space, 32, like(space), Seeds.of(0, 1)))
    for point in space.decode(rows):
        assert abs(point["a"] + point["b"] - 0.75) < 1e-9
        assert point["a"] <= 0.5
        space.check(point)


# Mistakes.


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("a + b <= 1", "constraints must be a list of texts such as"),
        ([1], "constraints must be a list of texts .*, got 1"),
        ([int], "constraints must be a list of texts .*, got <class 'int'>"),
        (["a + d <= 1"], "must name parameters among .*, got unknown 'd'"),
        (["a + k <= 1"], "must be about numbers, got 'k', a Choice"),
        (
            ["a + s <= 1"],
            "must not involve a fidelity, as every point has to exist at its target too, got 's'",
        ),
        (["a * b <= 1"], "must be on a log scale, got 'a' without log=True"),
        (["a**2 <= 1"], "must be on a log scale, got 'a' without log=True"),
        (["x * y + x <= 1"], "must compare two products, got a sum of them"),
        (["x * y <= -1"], "must compare a product with one above 0"),
        (["1 <= 2"], "must depend on a parameter, got none"),
        (["a - a <= 2"], "must depend on a parameter, got none"),
        (["a <= b", "a <= b"], "must differ, got 'a <= b' twice"),
        ([in_a_disc, in_a_disc], "must differ, got 'in_a_disc' twice"),
        (
            ["a + b == 1", "a + b == 1.5"],
            "got none within the ranges for \\['a \\+ b == 1', 'a \\+ b == 1.5'\\]",
        ),
        (["a + b == 1", "b >= a", "a + b >= 2.1"], "for \\['a \\+ b >= 2.1'\\]"),
        (["a + b >= 2.1"], "must exist, got none within the ranges for \\['a \\+ b >= 2.1'\\]"),
        (["x * y >= 1001"], "must exist, got none within the ranges"),
        (["2*m + 4*n == 7"], "must have a solution in the steps of its parameters, got none"),
        (["m + n == 1", "m - n == 0"], "for \\['m \\+ n == 1', 'm - n == 0'\\]"),
        (["3*m + 5*n == 7"], "got none within the ranges for \\['3\\*m \\+ 5\\*n == 7'\\]"),
    ],
)
def test_wrong_constraints_are_refused_in_one_sentence(constraints: Any, message: str) -> None:
    parameters = {
        **dict.fromkeys("abc", UNIT),
        "k": Choice(["u", "v"]),
        "s": Int(1, 9, fidelity=True),
        "x": Float(0.1, 10, log=True),
        "y": Float(1, 100, log=True),
        "m": Int(0, 3),
        "n": Int(0, 3),
    }
    with pytest.raises(SpaceError, match=message) as caught:
        Space(parameters, constraints)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answer", [math.nan, None, 1, "yes", np.array([True, False])])
def test_a_function_must_answer_with_a_bool(answer: object) -> None:
    def strange(params: dict[str, Any]) -> Any:
        return answer

    space = Space({"x": UNIT}, [strange])
    with pytest.raises(SpaceError, match=r"function 'strange' must return True or False, got .* at {'x': "):
        space.check({"x": 0.5})
    with pytest.raises(SpaceError, match="function 'strange' must return True or False"):
        sample_sobol(space, 4, like(space), Seeds.of(0, 0))


def test_a_function_that_raises_is_named_with_the_point() -> None:
    def broken(params: dict[str, Any]) -> bool:
        return bool(1 / 0)

    space = Space({"x": UNIT}, [broken])
    with pytest.raises(SpaceError, match=r"'broken' must return True or False, got ZeroDivisionError: .*0.5"):
        space.check({"x": 0.5})


def test_a_function_may_change_its_point_and_return_a_numpy_bool() -> None:
    def low(params: dict[str, Any]) -> Any:
        return np.float64(params.pop("x")) < 0.5

    space = Space({"x": UNIT}, [low])
    assert space.check({"x": 0.25}) == {"x": 0.25}

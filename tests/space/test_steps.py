"""Numbers with steps, and contexts."""

import json
import math
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.bench.method import inside
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.problems import get_problem, mixed, shifted
from bo_suite.space.candidates import project, sample_random
from bo_suite.space.listing import every_row


@st.composite
def stepped_floats(draw: st.DrawFn) -> Float:
    """Steps of one to five digits, such as 0.05, 2.5e-3 and 3e7, on both scales."""
    step = Decimal(draw(st.integers(1, 99_999))).scaleb(draw(st.integers(-12, 8)))
    log = draw(st.booleans())
    first = draw(st.integers(1, 10_000) if log else st.integers(-10_000, 10_000))
    low = first * step / draw(st.sampled_from([1, 2, 4, 10]))
    high = low + draw(st.integers(1, 10_000)) * step
    return Float(float(low), float(high), log, float(step))


@st.composite
def stepped_ints(draw: st.DrawFn) -> Int:
    log, step = draw(st.booleans()), draw(st.integers(2, 10**6))
    low = draw(st.integers(1, 10**9) if log else st.integers(-(10**9), 10**9))
    return Int(low, low + draw(st.integers(1, 10_000)) * step, log, step)


stepped = st.one_of(stepped_floats(), stepped_ints())


def all_values(parameter: Any) -> list[Any]:
    return [parameter.value(level) for level in range(parameter.levels)]


@settings(deadline=None, max_examples=80)
@given(stepped)
def test_values_are_the_decimal_sums_and_round_trip_exactly(parameter: Any) -> None:
    low, step = (Fraction(str(number)) for number in (parameter.low, parameter.step))
    values = all_values(parameter)
    assert values == [type(parameter.low)(float(low + level * step)) for level in range(parameter.levels)]
    assert (values[0], values[-1]) == (parameter.low, parameter.high)
    assert all(len(str(value).lstrip("-").replace(".", "").partition("e")[0]) <= 17 for value in values)
    positions = parameter.position(np.arange(parameter.levels))
    assert positions[0] == 0.0
    assert positions[-1] == 1.0
    assert (np.diff(positions) > 0).all()
    assert (parameter.level(positions) == np.arange(parameter.levels)).all()
    for level in {0, 1, parameter.levels // 2, parameter.levels - 1}:
        assert parameter.check(values[level]) == values[level]
        assert parameter.encode(values[level]) == positions[level]
        decoded = parameter.decode(positions[level])
        assert (type(decoded), decoded) == (type(parameter.low), values[level])


@settings(deadline=None, max_examples=60)
@given(st.lists(stepped, min_size=1, max_size=4), st.integers(0, 2**32))
def test_rows_hold_values_and_projecting_twice_changes_nothing(parts: list[Any], seed: int) -> None:
    space = Space({f"p{index}": part for index, part in enumerate(parts)})
    assert space.levels == tuple(part.levels for part in parts)
    assert space.cardinality == math.prod(part.levels for part in parts)
    uniform = torch.rand(30, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = project(space, uniform)
    assert torch.equal(project(space, rows), rows)
    for moved in (rows, space.encoding.sample_from_unit(uniform), space.encoding.round_to_levels(uniform)):
        points = space.decode(moved)
        assert torch.equal(space.encode(points), moved)
        if all(isinstance(part, Float) for part in parts):
            assert space.encoding.values(moved).tolist() == [list(point.values()) for point in points]
        for point in points:
            assert space.check(point) == point
            for value, part in zip(point.values(), parts, strict=True):
                low, step = (Fraction(str(number)) for number in (part.low, part.step))
                assert (Fraction(str(value)) - low) % step == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(stepped, min_size=1, max_size=3))
def test_forms_and_texts_round_trip(parts: list[Any]) -> None:
    space = Space({f"p{index}": part for index, part in enumerate(parts)})
    again = Space.from_dict(json.loads(json.dumps(space.to_dict(), allow_nan=False)))
    assert again.fingerprint == space.fingerprint
    for part in parts:
        assert eval(repr(part)) == part
        assert part.to_dict()["step"] == part.step


SHORT = [
    (Float(0, 1, step=0.1), ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]),
    (Float(0.05, 0.3, step=0.05), ["0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]),
    (Float(-0.3, 0.3, step=0.1), ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]),
    (Float(0.997, 1.001, step=1e-3), ["0.997", "0.998", "0.999", "1.0", "1.001"]),
    (Float(0, 1, step=1 / 3), ["0.0", "0.3333333333333333", "0.6666666666666666", "1.0"]),
    (Float(1e-7, 4e-7, step=1e-7, log=True), ["1e-07", "2e-07", "3e-07", "4e-07"]),
    (Float(1e300, 1.2e300, step=1e299), ["1e+300", "1.1e+300", "1.2e+300"]),
    (Float(0.1, 0.3, step=0.2), ["0.1", "0.3"]),
    (Int(-5, 10, step=5), ["-5", "0", "5", "10"]),
    (Int(1, 10, log=True, step=3), ["1", "4", "7", "10"]),
]


@pytest.mark.parametrize(("parameter", "texts"), SHORT, ids=lambda case: str(case)[:60])
def test_values_are_as_the_user_wrote_them(parameter: Any, texts: list[str]) -> None:
    assert [repr(value) for value in all_values(parameter)] == texts
    rows = every_row(Space({"x": parameter}))
    assert [repr(point["x"]) for point in Space({"x": parameter}).decode(rows)] == texts


def test_rounding_is_accepted_and_anything_else_is_refused() -> None:
    fine, coarse = Float(0, 1, step=0.1), Int(0, 20, step=5)
    sums = np.cumsum([0.1] * 10).tolist()
    assert [fine.check(value) for value in sums] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert fine.check(np.float32(0.3)) == fine.check(torch.tensor(0.3)) == fine.check(0.3 + 5e-11) == 0.3
    assert Float(1e6, 1e6 + 1, step=1e-3).check(1e6 + 3 * 1e-3) == 1000000.003
    assert coarse.check(15.0) == coarse.check(np.int64(15)) == 15
    for parameter, value, neighbours in (
        (fine, 0.3 + 1e-9, "0.3 or 0.4"),
        (fine, 0.25, "0.2 or 0.3"),
        (fine, 0.97, "0.9 or 1.0"),
        (coarse, 7, "5 or 10"),
        (Float(1e-3, 1, log=True, step=1e-3), 0.0015, "0.001 or 0.002"),
    ):
        with pytest.raises(SpaceError, match=rf"whole number of steps of .*, such as {neighbours}, got"):
            parameter.check(value)
    with pytest.raises(SpaceError, match=r"`0.0 <= value <= 1.0` must hold, got 1.1"):
        fine.check(1.1)
    with pytest.raises(SpaceError, match=r"an Int must be an integer, got 7\.5"):
        coarse.check(7.5)


def test_what_lies_between_two_values_is_encoded_between_them() -> None:
    assert Float(0, 1, step=0.1).encode(0.35) == pytest.approx(0.35)
    assert Int(0, 20, step=5).encode(7) == pytest.approx(0.35)
    assert Float(1, 100, log=True, step=9).encode(15.0) == pytest.approx(math.log(15) / math.log(100))
    assert Int(1, 100, log=True, step=9).encode(15) == pytest.approx(math.log(15) / math.log(100))


BAD = [
    (lambda: Float(0, 1, step=0.3), "the nearest valid high is 0.9"),
    (lambda: Float(0, 1, step=0.35), "the nearest valid high is 1.05"),
    (lambda: Float(0, 1, step=1.5), "`step <= high - low` must hold, got low=0.0, high=1.0, step=1.5"),
    (lambda: Float(0, 1, step=0), "a step must be greater than 0 and"),
    (lambda: Float(0, 1, step=-0.1), "a step must be greater than 0 and"),
    (lambda: Float(0, 1, step=1e-13), "than 1e-12 of the largest bound, got step=1e-13"),
    (lambda: Float(0, 1, step=math.inf), "step must be a finite number, got inf"),
    (lambda: Float(0, 1, step="0.1"), "step must be a finite number, got '0.1'"),
    (lambda: Float(0, 1, step=True), "step must be a finite number, got True"),
    (lambda: Float(2e-308, 1.0, log=True, step=1.0), "high / low at most 1e300"),
    (lambda: Int(0, 10, step=3), "the nearest valid high is 9"),
    (lambda: Int(0, 10, step=4), "the nearest valid high is 12"),
    (lambda: Int(0, 10, step=11), "`step <= high - low` must hold, got low=0, high=10, step=11"),
    (lambda: Int(0, 10, step=2.5), "step of an Int must be an integer, got 2.5"),
    (lambda: Int(0, 10, step=0), "`step > 0` must hold, got step=0"),
    (lambda: Int(0, 10, step=None), "step must be a finite number, got None"),
    (lambda: Int(1, 1 + 2**51, log=True, step=2), "an Int on a log scale has at most 10**12 values"),
    (lambda: Float(0, 1, fidelity=True, context=True), "must not be both a fidelity and a context"),
    (lambda: Int(0, 1, fidelity=True, context=True), "must not be both a fidelity and a context"),
    (lambda: Choice(["a"], context="yes"), "context must be True or False, got 'yes'"),
    (lambda: Space({"t": Float(0, 1, context=True)}), "no fidelity and no context, got ['t'] alone"),
    (
        lambda: Space({"t": Choice([1, 2], context=True), "s": Int(1, 9, fidelity=True)}),
        "no fidelity and no context, got ['t', 's'] alone",
    ),
    (lambda: Space.from_dict({"k": {"type": "choice", "options": [1], "step": 1}}), "has wrong fields"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_step_or_context_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_value_is_allowed_with_any_step() -> None:
    space = Space({"x": Float(2, 2, step=0.5), "n": Int(3, 3, step=7), "y": Float(0, 1, step=0.5)})
    assert space.levels == (1, 1, 3)
    assert space.varying.names == ("y",)
    assert space.check({"x": 2, "n": 3, "y": 0.5}) == {"x": 2.0, "n": 3, "y": 0.5}
    assert space.decode(torch.full((1, 3), 0.4)) == [{"x": 2.0, "n": 3, "y": 0.5}]
    assert Space.from_dict(space.to_dict()) == space


def test_values_are_equally_likely_and_octaves_on_a_log_scale() -> None:
    space = Space(
        {
            "x": Float(0, 0.5, step=0.1),
            "n": Int(-10, 15, step=5),
            "y": Float(0.5, 511.5, log=True, step=0.5),
        }
    )
    like = torch.empty(0, space.dim, dtype=torch.float64)
    rows = sample_random(space, 18_000, like, Seeds.of(0, 0))
    x, n, y = zip(*[point.values() for point in space.decode(rows)], strict=True)
    for column in (x, n):
        _, counts = np.unique(np.array(column), return_counts=True)
        assert len(counts) == 6
        assert abs(counts / 3_000 - 1).max() < 0.1
    counts = np.histogram(y, bins=[2.0**k for k in range(-1, 10)])[0]
    assert abs(counts / 1_800 - 1).max() < 0.12


def test_a_search_finds_the_best_value_and_repeats_none(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1, step=0.05), "n": Int(0, 100, step=10), "c": Float(0.1, 1, True, 0.1)})

    def loss(params: dict[str, Any]) -> float:
        x, n, c = params["x"] - 0.32, params["n"] / 100 - 0.72, math.log10(params["c"] / 0.41)
        return x**2 + n**2 + c**2

    with closing(Optimizer(space, seed=0, storage=tmp_path / "run.db")) as opt:
        for _ in range(25):
            trial = opt.ask()
            opt.tell(trial, loss(trial.params))
    with closing(Optimizer.resume(tmp_path / "run.db")) as opt:
        points = [trial.params for trial in opt.trials]
        assert [space.check(point) for point in points] == points
        assert len({tuple(point.values()) for point in points}) == 25
        assert opt.best.params == {"x": 0.3, "n": 70, "c": 0.4}
        assert opt.ask(fixed={"x": 0.1 + 0.2}).params["x"] == 0.3


def test_a_small_space_is_exhausted() -> None:
    space = Space({"x": Float(-0.1, 0.1, step=0.1), "n": Int(2, 8, step=6, log=True)})
    opt = Optimizer(space, seed=0)
    for _ in range(6):
        trial = opt.ask()
        opt.tell(trial, trial.params["x"] * trial.params["n"])
    asked = {(trial.params["x"], trial.params["n"]) for trial in opt.trials}
    assert asked == {(x, n) for x in (-0.1, 0.0, 0.1) for n in (2, 8)}
    with pytest.raises(SpaceExhausted, match="all 6 points of the space have been suggested"):
        opt.ask()


def test_a_fidelity_may_have_steps() -> None:
    share = Float(0.1, 1, step=0.3, fidelity=True)
    space = Space({"x": Float(0, 1), "share": share, "epochs": Int(9, 81, step=9, fidelity=True)})
    assert space.target_fidelity == {"share": 1.0, "epochs": 81}
    assert space.fidelities == (1, 2)
    assert torch.equal(space.encode([space.at_target({"x": 0.0})])[:, 1:], torch.ones(1, 2).double())
    opt = Optimizer(space, seed=0)
    for _ in range(5):
        trial = opt.ask()
        assert space.check(trial.params) == trial.params
        opt.tell(trial, (trial.params["x"] - 0.3) ** 2 + 1 / trial.params["epochs"])
    assert opt.recommend().items() >= {"share": 1.0, "epochs": 81}.items()


def test_forms_without_them_are_as_before(tmp_path: Path) -> None:
    old = {
        "x": {"type": "float", "low": 0.0, "high": 1.0, "log": False},
        "n": {"type": "int", "low": 1, "high": 9, "log": True, "fidelity": True},
        "k": {"type": "choice", "options": ["a", 1], "ordered": False},
    }
    new = Space({"x": Float(0, 1), "n": Int(1, 9, True, 1, fidelity=True), "k": Choice(["a", 1])})
    assert json.dumps(new.to_dict()) == json.dumps(old)
    assert repr(Space.from_dict(old)["x"]) == "Float(low=0.0, high=1.0, log=False, fidelity=False)"
    file = tmp_path / "space.toml"
    file.write_text(
        '[x]\ntype = "float"\nlow = 0\nhigh = 1\nstep = 0.25\n'
        '[n]\ntype = "int"\nlow = 0\nhigh = 9\nstep = 3\n'
        '[t]\ntype = "float"\nlow = -10\nhigh = 40\ncontext = true\n'
        '[shift]\ntype = "choice"\noptions = ["day", "night"]\ncontext = true\n'
    )
    space = Space.from_file(file)
    expected = {
        "x": Float(0, 1, step=0.25),
        "n": Int(0, 9, step=3),
        "t": Float(-10, 40, context=True),
        "shift": Choice(["day", "night"], context=True),
    }
    assert space == Space(expected)
    assert dict(space) == expected
    assert space["shift"].to_dict()["context"] is True
    assert eval(repr(space["shift"])) == space["shift"]


def test_contexts_are_named_in_order_and_do_not_vary_alone() -> None:
    space = Space({"t": Float(-10, 40, context=True), "x": Int(3, 3), "day": Choice([1, 2], context=True)})
    assert space.contexts == ("t", "day")
    assert space.fidelities == ()
    assert space.varying is space
    assert space.with_fixed({"t": 20.0}).contexts == ("day",)
    assert Space({"x": Float(0, 1)}).contexts == ()


def test_options_that_are_numbers_come_back_as_written() -> None:
    options = [0.1 + 0.2, 0.3, 1, 2.5, 1e-3, 10**6]
    for ordered in (False, True):
        choice = Choice(options, ordered=ordered)
        space = Space({"k": choice, "x": Float(0, 1)})
        points = [{"k": option, "x": 0.5} for option in options]
        decoded = [point["k"] for point in space.decode(space.encode(points))]
        stored = Space.from_dict(json.loads(json.dumps(space.to_dict()))).check(points[0])["k"]
        assert [(type(value), repr(value)) for value in decoded] == [(type(v), repr(v)) for v in options]
        assert repr(stored) == "0.30000000000000004"
        assert space.unordered == (() if ordered else (0,))
        with pytest.raises(SpaceError, match="the value must be one of"):
            choice.check(0.30000000000000001 + 1e-10)


def test_points_of_other_libraries_are_rounded_to_steps() -> None:
    space = Space({"x": Float(0, 1, step=0.1), "n": Int(0, 9, step=3), "y": Float(0, 1), "m": Int(0, 9)})
    point = inside(space, {"x": 0.3499, "n": 5, "y": 1.0 + 1e-12, "m": 5})
    assert point == {"x": 0.3, "n": 6, "y": 1.0, "m": 5}
    with pytest.raises(SpaceError, match=r"must be an integer, got 5\.5"):
        inside(space, {"x": 0.3, "n": 6, "y": 1.0, "m": 5.5})


def test_problems_with_steps_keep_them() -> None:
    problem = get_problem("branin")
    name, parameter = next(iter(problem.space))
    assert isinstance(parameter, Float)
    coarse = Float(parameter.low, parameter.high, step=(parameter.high - parameter.low) / 4)
    other = replace(
        problem, space=Space({**problem.space.parameters, name: coarse}), minimum=None, minimizers=()
    )
    assert shifted(other, 1).space[name] == coarse
    with pytest.raises(ValueError, match="only Float columns without a step can be reduced"):
        mixed(other, integers=(0,))

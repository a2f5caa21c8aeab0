"""Values as people write them, at every door: taken and given back as they are, or refused in a sentence."""

import enum
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.bench import run_suite
from bo_suite.cli import app
from bo_suite.errors import DataError, SpaceError, TrialError, UnknownParameter
from bo_suite.integrations.botorch import BoTorchAcquisition, ProcessModel
from bo_suite.integrations.botorch_surrogate import BoTorchSurrogate
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.optuna_trials import to_distribution, to_translation
from bo_suite.surrogates import SGPR, SVGP
from bo_suite.surrogates.variational.likelihoods import BernoulliLogit, MonteCarloLikelihood
from bo_suite.surrogates.variational.training import Adam
from bo_suite.values.scalars import flag

SPACE = Space({"x": Float(0, 1), "n": Int(1, 9), "k": Choice(["a", "b"]), "depth": Choice([None, 5, 10])})


class Colour(str, enum.Enum):  # noqa: UP042 (it is what people write)
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Plain(enum.Enum):
    ONE = 1


class Name(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


# Flags.

BOOLS = (np.bool_(True), np.True_, np.array(True), torch.tensor(True))
NO_BOOLS = ("false", "true", "no", "linear", "", 1, 0, 1.0, None, [], [True], np.array([True]), np.int64(1))
NO_BOOLS += (torch.tensor(1), np.ma.masked, pd.NA, Plain.ONE)


@pytest.mark.parametrize("value", NO_BOOLS, ids=repr)
def test_a_flag_is_no_truth(value: Any) -> None:
    with pytest.raises(SpaceError, match="log must be True or False, got "):
        flag("log", value)


@pytest.mark.parametrize("value", BOOLS, ids=repr)
def test_bools_of_numpy_and_torch_become_bools(value: Any) -> None:
    for parameter, name in (
        (Float(1, 2, log=value, fidelity=value), "log"),
        (Int(1, 2, log=value, fidelity=value), "fidelity"),
        (Choice(["a", "b"], ordered=value), "ordered"),
    ):
        assert getattr(parameter, name) is True
    assert Space({"x": Float(1, 2, log=value)}).fingerprint == Space({"x": Float(1, 2, log=True)}).fingerprint


def failed(transient: Any) -> Any:
    optimizer = Optimizer(SPACE)
    return optimizer.fail(optimizer.ask(), "lost", transient=transient)


def begun(one: Any, **flags: Any) -> None:
    """What `__init__` does; itself it would have its types checked by jaxtyping, here in the tests alone."""
    vars(one).update(flags)
    one.__post_init__()


FLAGS: dict[str, Callable[[Any], Any]] = {
    "Float log": lambda value: Float(1, 2, log=value),
    "Float fidelity": lambda value: Float(1, 2, fidelity=value),
    "Int log": lambda value: Int(1, 2, log=value),
    "Int fidelity": lambda value: Int(1, 2, fidelity=value),
    "Choice ordered": lambda value: Choice([1, 2], ordered=value),
    "form log": lambda value: Space.from_dict({"x": {"type": "int", "low": 1, "high": 2, "log": value}}),
    "form fidelity": lambda value: Space.from_dict(
        {"x": {"type": "int", "low": 1, "high": 2, "fidelity": value}}
    ),
    "form ordered": lambda value: Space.from_dict(
        {"x": {"type": "choice", "options": ["a"], "ordered": value}}
    ),
    "minimize progress": lambda value: minimize(lambda params: 0.0, SPACE, 1, progress=value),
    "run_suite progress": lambda value: run_suite("branin", "random", [0], 1, "nowhere", progress=value),
    "fail transient": failed,
    "SVGP": lambda value: begun(SVGP(), learn_inducing=value),
    "SGPR": lambda value: begun(SGPR(), learn_inducing=value),
    "BernoulliLogit": lambda value: begun(BernoulliLogit(), polya_gamma=value),
    "MonteCarloLikelihood": lambda value: begun(MonteCarloLikelihood(lambda y, f: f), log_concave=value),
    "Adam": lambda value: begun(Adam(), whitened=value),
    "BoTorchAcquisition": lambda value: BoTorchAcquisition(print, differentiable=value),
    "BoTorchSurrogate": lambda value: BoTorchSurrogate(print, fit_model=value),
    "ProcessModel": lambda value: ProcessModel(None, negate=value),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("door", FLAGS)
def test_every_flag_that_a_user_gives_is_a_bool(door: str) -> None:
    for value in ("false", "no", 1, 0, None):
        with pytest.raises((SpaceError, TrialError, DataError), match="must be True or False, got "):
            FLAGS[door](value)


def test_flags_of_space_files(tmp_path: Path) -> None:
    for name, text in (
        ("a.toml", '[x]\ntype = "float"\nlow = 1\nhigh = 2\nlog = "false"'),
        ("a.json", '{"x": {"type": "int", "low": 1, "high": 2, "fidelity": 1}}'),
        ("b.json", '{"x": {"type": "choice", "options": [1, 2], "ordered": "no"}}'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(SpaceError, match=r"parameter 'x': .* must be True or False, got"):
            Space.from_file(tmp_path / name)


# Options.

plain_options = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(), max_size=5),
    st.text(st.sampled_from("a\0\ud800\udfff'\"\\\n\x1b$é"), max_size=4),  # also what is no UTF-8
    st.sampled_from(
        [-0.0, 0, 1, True, 1.0, 2**53, 2.0**53, 2**53 + 1, 2**63, 1e308, 5e-324, "1", "True", ""]
    ),
)
scalars = st.one_of(
    st.integers(-128, 127).map(np.int8),
    st.integers(-(2**62), 2**62).map(np.int64),
    st.floats(-1e4, 1e4, width=16).map(np.float16),
    st.floats(-1e4, 1e4, width=32).map(np.float32),
    st.floats(-1e30, 1e30).map(np.float64),
    st.booleans().map(np.bool_),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3).map(np.str_),
    st.integers(-5, 5).map(torch.tensor),
    st.floats(-9, 9, width=32).map(torch.tensor),
    st.integers(-5, 5).map(np.array),
)
objects = st.sampled_from(
    [Colour.RED, Size.SMALL, Plain.ONE, Name("a"), Count(3), Share(0.5), 10**400, print]
)
many = st.lists(st.one_of(plain_options, scalars, plain_options, objects), min_size=1, max_size=5)

_files = count()


def exactly(value: Any) -> tuple[type, str]:
    return type(value), repr(value)


def python(option: Any) -> Any:
    """What an option is in Python."""
    return option.item() if isinstance(option, np.generic | np.ndarray | torch.Tensor) else option


def is_option(option: Any) -> bool:
    return type(python(option)) in (str, int, float, bool, type(None)) and python(option) != 10**400


def has_equals(options: list[Any]) -> bool:
    values = [python(option) for option in options]
    return any(one == other for place, one in enumerate(values) for other in values[:place])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=many)
def test_options_come_back_as_they_were_given_or_are_refused(options: list[Any], tmp_path: Path) -> None:
    if not all(map(is_option, options)) or has_equals(options):
        with pytest.raises(SpaceError) as caught:
            Choice(options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return
    choice = Choice(options)  # type: ignore[arg-type]
    expected = [exactly(python(option)) for option in options]
    assert [exactly(option) for option in choice.options] == expected
    assert [exactly(choice.check(option)) for option in options] == expected
    space = Space({"k": choice, "x": Float(0, 1)})
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert [exactly(option) for option in again["k"].options] == expected  # type: ignore[union-attr]
    assert [
        exactly(p["k"]) for p in space.decode(space.encode([{"k": o, "x": 0.5} for o in choice.options]))
    ] == (expected)
    path = tmp_path / f"{next(_files)}.db"
    with closing(Optimizer(space, storage=path)) as stored:
        for where in (stored, Optimizer(space)):
            for option in options:
                where.add({"k": option, "x": 0.5}, 1.0)
            assert [exactly(trial.params["k"]) for trial in where.trials] == expected
    with closing(Optimizer.resume(path)) as resumed:
        assert [exactly(trial.params["k"]) for trial in resumed.trials] == expected
    shown = json.loads(CliRunner().invoke(app, ["trials", str(path), "--json"]).stdout)
    assert [exactly(trial["params"]["k"]) for trial in shown] == expected
    distribution = to_distribution(choice)
    text = optuna.distributions.distribution_to_json(distribution)
    for one in (distribution, optuna.distributions.json_to_distribution(text)):
        translation = to_translation({"k": one, "x": to_distribution(Float(0, 1))})
        there = [{"k": option, "x": 0.5} for option in choice.options]
        known = [point if "k" in translation.dimensions else {"x": point["x"]} for point in there]
        back = [translation.theirs(translation.ours(point))["k"] for point in known]
        assert [exactly(option) for option in back] == expected


@settings(deadline=None, max_examples=100)
@given(options=many)
def test_translators_give_back_the_very_objects(options: list[Any]) -> None:
    for translation in (translated({"k": options}), *ray_translations(options)):
        space = translation.space
        levels = space.encoding.positions(0, np.arange(space.levels[0] or 0))
        found = [translation.theirs(point)["k"] for point in space.decode(levels[:, None])]
        assert len(found) == len(options)
        assert all(one is other for one, other in zip(found, options, strict=True))


def ray_translations(options: list[Any]) -> list[Any]:
    try:
        from ray import tune

        from bo_suite.integrations.ray_space import translated as of_ray
    except ImportError:
        return []
    return [of_ray({"k": tune.choice(options)})[0]]


@pytest.mark.parametrize("option", [Colour.RED, Size.SMALL, Name("a"), Count(3), Share(0.5)], ids=repr)
def test_what_no_file_gives_back_is_refused(option: Any) -> None:
    with pytest.raises(SpaceError, match=r"must be a plain str, int or float, got .* of type .*; give names"):
        Choice([option, "b"])


@pytest.mark.parametrize(
    "option", [Plain.ONE, print, {}, [], (1, 2), b"a", 1j, Fraction(1, 3), np.datetime64("2020-01-01", "ns")]
)
def test_what_is_no_text_and_no_number_is_refused(option: Any) -> None:
    with pytest.raises(SpaceError, match="must be a string, a finite number, a bool or None, got "):
        Choice([option, "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([1, True], "got True twice, since 1 == True"),
        ([1, 1.0], "got 1.0 twice, since 1 == 1.0"),
        ([0.0, -0.0], "got -0.0 twice, since 0.0 == -0.0"),
        ([False, 0], "got 0 twice, since False == 0"),
        ([np.int64(1), True], "got True twice, since 1 == True"),
        (["a", np.str_("a")], "got 'a' twice"),
    ],
)
def test_options_that_are_equal_are_refused_with_the_reason(options: Any, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Choice(options)
    assert str(caught.value) == f"the options of a Choice must differ, {message}"


def test_lists_of_options() -> None:
    for options in (
        range(3),
        np.arange(3),
        torch.arange(3),
        pd.Series([0, 1, 2]),
        pd.Index([0, 1, 2]),
        [0, 1, 2],
    ):
        assert [exactly(one) for one in Choice(options).options] == [exactly(one) for one in range(3)]
    for options in ("abc", b"abc", {0, 1}, {0: 1}, 3, None, np.zeros((2, 2)), iter([1]), Colour, print):
        with pytest.raises(SpaceError, match="must be a list, got"):
            Choice(options)
    with pytest.raises(SpaceError, match="at most 1000000 options, got 1000000000000"):
        Choice(range(10**12))


# Values.

SHARE, COUNT, LISTED = Float(0, 0.1), Int(1, 20), Choice([0.1, 0.2, 5])
TAKEN = [
    (SHARE, np.float32(0.1), 0.1),
    (SHARE, np.nextafter(np.float32(0.1), np.float32(1)), 0.1),
    (SHARE, float(np.float32(0.1)), 0.1),
    (SHARE, torch.tensor(0.1), 0.1),
    (SHARE, torch.tensor(0.1).item(), 0.1),
    (SHARE, torch.tensor(0.1, dtype=torch.bfloat16), 0.1),
    (SHARE, torch.linspace(0, 0.1, 7)[-1], 0.1),
    (SHARE, np.array(0.05), 0.05),
    (SHARE, np.float64(0.05), 0.05),
    (SHARE, 0, 0.0),
    (SHARE, np.array(0.1, dtype=np.float32), 0.1),
    (Float(0, 0.7), np.float16(0.7), 0.7),
    (Float(-0.1, 0), np.float32(-0.1), -0.1),
    (Float(1e-5, 0.1, log=True), np.float32(1e-5), 1e-5),
    (Float(0.1, 0.1), np.float32(0.1), 0.1),
    (Int(1, 2**24 + 3), np.float32(2**24 + 3), 2**24 + 3),
    (COUNT, np.int8(3), 3),
    (COUNT, np.uint64(3), 3),
    (COUNT, np.float32(3.0), 3),
    (COUNT, np.array(3), 3),
    (COUNT, torch.tensor(3), 3),
    (COUNT, torch.tensor(3.0, dtype=torch.float64), 3),
    (COUNT, 3.0, 3),
    (LISTED, np.float32(0.1), 0.1),
    (LISTED, torch.tensor(0.2), 0.2),
    (LISTED, np.int64(5), 5),
    (LISTED, 5.0, 5),
    (LISTED, np.array(5), 5),
    (Choice([None, 5]), float("nan"), None),
    (Choice([None, 5]), np.float64("nan"), None),
    (Choice([True, False]), np.bool_(False), False),
    (Choice(["red", "b"]), Colour.RED, "red"),
    (Choice(["red", "b"]), np.str_("red"), "red"),
]


@pytest.mark.parametrize(("parameter", "value", "expected"), TAKEN, ids=repr)
def test_a_value_is_taken_for_what_it_means(parameter: Any, value: Any, expected: Any) -> None:
    assert exactly(parameter.check(value)) == exactly(expected)


REFUSED = [
    (SHARE, np.float32(0.1001), r"`0.0 <= value <= 0.1` must hold, got np.float32\(0.1001\)"),
    (SHARE, 0.1 + 1e-9, "`0.0 <= value <= 0.1` must hold, got 0.100000001"),
    (SHARE, np.float32(-1e-9), "must hold"),
    (SHARE, np.float32("inf"), "must be a finite number"),
    (SHARE, np.array([0.05]), "must be a finite number"),
    (SHARE, np.bool_(True), "must be a finite number"),
    (SHARE, torch.tensor(True), "must be a finite number"),
    (SHARE, np.ma.masked, "must be a finite number"),
    (SHARE, np.timedelta64(0, "ns"), "must be a finite number"),
    (SHARE, "0.05", "must be a finite number"),
    (SHARE, pd.NA, "must be a finite number"),
    (SHARE, None, "must be a finite number"),
    (COUNT, 2.5, "must be an integer, got 2.5"),
    (COUNT, torch.tensor(2.5), "must be an integer"),
    (COUNT, np.float32(20.001), "must be an integer"),
    (COUNT, 21, "`1 <= value <= 20` must hold, got 21"),
    (COUNT, np.float32(21), "`1 <= value <= 20` must hold"),
    (COUNT, True, "must be a finite number"),
    (COUNT, 10**400, "must be a finite number"),
    (LISTED, np.float32(0.15), "must be one of"),
    (LISTED, float("nan"), "must be one of"),
    (LISTED, [], "must be one of"),
    (LISTED, np.array([5]), "must be one of"),
    (Choice(["a", "b"]), "A", r"must be one of \['a', 'b'\], got 'A'"),
    (Choice([None, 5]), pd.NA, "must be one of"),
]


@pytest.mark.parametrize(("parameter", "value", "message"), REFUSED, ids=repr)
def test_a_value_that_means_nothing_is_refused(parameter: Any, value: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parameter.check(value)


def test_bounds_of_numpy_and_torch() -> None:
    rest = [("step", 1), ("fidelity", False), ("context", False), ("when", None)]
    expected = [("low", 1), ("high", 5), ("log", False), *rest]
    for low, high in ((np.int64(1), np.int8(5)), (np.array(1), torch.tensor(5)), (1.0, np.float32(5.0))):
        assert [*vars(Int(low, high)).items()] == expected
        assert [exactly(one) for one in vars(Int(low, high)).values()] == [exactly(v) for _, v in expected]
        assert exactly(Float(low, high).high) == exactly(5.0)
    for low in (np.array([1]), np.bool_(True), torch.tensor([1, 2]), "1"):
        with pytest.raises(SpaceError, match="low must be a finite number"):
            Int(low, 5)
    with pytest.raises(SpaceError, match="low of an Int must be an integer"):
        Int(torch.tensor(1.5), 5)


class Rowlike:
    """Names and values, as of rows of sqlite3."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def keys(self) -> list[str]:
        return list(self._content)

    def __getitem__(self, name: str) -> Any:
        return self._content[name]


def test_rows_are_points() -> None:
    frame = pd.DataFrame({"k": ["a", "b"], "x": [0.5, 1.0], "n": [3, 4], "depth": [None, 5]})
    expected = [{"x": 0.5, "n": 3, "k": "a", "depth": None}, {"x": 1.0, "n": 4, "k": "b", "depth": 5}]
    optimizer = Optimizer(SPACE)
    for _, row in frame.iterrows():
        optimizer.add(row, 1.0)
    assert [trial.params for trial in optimizer.trials] == expected
    assert [SPACE.check(row) for row in frame.to_dict("records")] == expected
    assert SPACE.check(Rowlike(expected[0])) == expected[0]
    numbers = Space({"x": Float(0, 1), "n": Int(1, 9)})
    for _, row in frame[["x", "n"]].iterrows():  # the integers became floats
        assert type(numbers.check(row)["n"]) is int
    with pytest.raises(SpaceError, match=r"unknown \['value'\]"):
        numbers.check(pd.Series({"x": 0.5, "n": 3, "value": 1.0}))
    with pytest.raises(SpaceError, match=r"missing \['n'\]"):
        numbers.check(pd.Series({"x": 0.5}))
    for point in ([("x", 0.5), ("n", 3)], "x", None, dict, np.array([0.5, 3]), frame):
        with pytest.raises(SpaceError):
            numbers.check(point)


@pytest.mark.parametrize(
    "options", [range(1, 20), range(3), range(0, 100, 5), range(-7, 8, 7), range(20, 0, -1), range(9, -9, -4)]
)
def test_a_range_is_its_integers_in_order(options: range) -> None:
    translation = translated({"n": options})
    (levels,) = translation.space.levels
    assert levels == len(options)
    rows = translation.space.encoding.positions(0, np.arange(levels))[:, None]
    found = [translation.theirs(point)["n"] for point in translation.space.decode(rows)]
    assert [exactly(one) for one in found] == [exactly(one) for one in sorted(options)]
    assert translation.space.unordered == ()
    for option in options:
        assert translation.theirs(translation.ours({"n": option})) == {"n": option}
    with pytest.raises(SpaceError):
        translation.ours({"n": max(options) + 1})


def test_a_range_without_integers_is_refused() -> None:
    with pytest.raises(SpaceError, match="parameter 'n': must have at least one option"):
        translated({"n": range(0)})


# A space as a dict.


def test_a_space_answers_what_a_dict_answers() -> None:
    assert len(SPACE) == 4
    assert SPACE.names == ("x", "n", "k", "depth")
    assert SPACE["n"] == Int(1, 9)
    assert "x" in SPACE
    assert "y" not in SPACE
    assert 3 not in SPACE
    assert [] not in SPACE
    assert dict(iter(SPACE)) == SPACE.parameters
    for name in ("y", 3, None, [], ("x",)):
        with pytest.raises(UnknownParameter) as caught:
            SPACE[name]
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, SpaceError)
        assert str(caught.value).startswith("a name must be one of ['x', 'n', 'k', 'depth'], got ")


def test_spaces_that_differ_in_the_type_of_an_option_alone_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    Optimizer(Space({"k": Choice([1, 2])}), storage=path).close()
    with pytest.raises(Exception, match=r"another space: 'k': .*\(1, 2\).*got .*\(True, 2\)"):
        Optimizer(Space({"k": Choice([True, 2])}), storage=path)


# Size.


def seconds(function: Callable[[], Any]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def ratio(function: Callable[[int], Callable[[], Any]], few: int, many: int) -> float:
    """How much longer many take than few, in the best of three tries each."""
    return min(seconds(function(many)) for _ in range(3)) / min(seconds(function(few)) for _ in range(3))


def options_checked(options: Sequence[Any]) -> Callable[[], Any]:
    def work() -> None:
        choice = Choice(options)  # type: ignore[arg-type]
        space = Space({"k": choice})
        points = [space.check({"k": option}) for option in options]
        space.encode(points)
        assert space.fingerprint == Space.from_dict(space.to_dict()).fingerprint

    return work


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_the_time_of_options_is_linear_in_their_number(kind: str) -> None:
    def work(size: int) -> Callable[[], Any]:
        return options_checked(range(size) if kind == "numbers" else [f"option {i}" for i in range(size)])

    assert ratio(work, 2_000, 32_000) < 48  # 16 times as many


def space_used(size: int) -> Callable[[], Any]:
    def work() -> None:
        space = Space({f"p{i}": Int(1, 9) if i % 2 else Float(0, 1) for i in range(size)})
        points = space.decode(space.encoding.sample_from_unit(torch.rand(2, size, dtype=torch.float64)))
        assert [space.check(point) for point in points] == points
        space.encode(points)
        for column in range(1, size, 2):
            space.encoding.positions(column, np.arange(9))
        assert space.fidelities == ()
        assert space.fingerprint

    return work


@pytest.mark.slow
def test_the_time_of_a_space_is_linear_in_its_parameters() -> None:
    assert ratio(space_used, 500, 8_000) < 48  # 16 times as many


def test_many_options_are_asked_for_and_resumed(tmp_path: Path) -> None:
    space = Space({"k": Choice([f"option {i}" for i in range(100_000)])})
    with closing(Optimizer(space, storage=tmp_path / "run.db")) as optimizer:
        optimizer.tell(optimizer.ask(), 1.0)
    with closing(Optimizer.resume(tmp_path / "run.db")) as resumed:
        assert resumed.space == space
        assert resumed.ask().params["k"] in space["k"].options  # type: ignore[union-attr]

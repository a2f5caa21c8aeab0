"""Outcomes by name in CSV: read with what was not measured and what failed, and written to be read back."""

import math
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import ArgumentError, DataError, TableError
from bo_suite.storage.csv_files import PastTrials, csv_text, read_csv
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Observation

SPACE = Space({"x": Float(0.0, 1.0)})
GOALS = Goals.of({"error": "minimize", "gain": "maximize"}, {"memory": (None, 8.0), "works": True})


def read(tmp_path: Path, text: str, **options: object) -> PastTrials:
    path = tmp_path / "past.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return read_csv(path, SPACE, **{"goals": GOALS} | options)  # type: ignore[arg-type]


def test_blank_cells_were_not_measured_and_nan_failed(tmp_path: Path) -> None:
    text = (
        "x,value_error,std_error,gain,value_memory,works,reason\n"
        "0.25,0.5,0.1,2,3,true,\n"
        "0.5,nan,,2,,FALSE,\n"
        "0.75,,,,,,out of memory\n"
        "1,,,,9,NaN,\n"
    )
    past = read(tmp_path, text)
    assert past.unused == ()
    assert past.observations == (
        Observation({"x": 0.25}, {"error": 0.5, "gain": 2, "memory": 3, "works": 1.0}, {"error": 0.1}),
        Observation({"x": 0.5}, {"error": math.nan, "gain": 2, "works": 0.0}),
        Observation({"x": 0.75}, None, reason="out of memory"),
        Observation({"x": 1.0}, {"memory": 9, "works": math.nan}),
    )
    trials = Optimizer(SPACE, direction=GOALS.direction, constraints=GOALS.limits).add_all(past.observations)
    assert trials[1].outcomes == {"error": None, "gain": 2.0, "works": 0.0}
    assert (trials[2].state, trials[3].outcomes) == ("failed", {"memory": 9.0, "works": None})


def test_headings_of_outcomes_are_named_where_they_differ(tmp_path: Path) -> None:
    text = "x,error rate,gain\n0.5,1,2\n"
    past = read(tmp_path, text, value={"error": "error rate"})
    assert past.observations == (Observation({"x": 0.5}, {"error": 1, "gain": 2}),)
    one = read(tmp_path, text, value="gain", goals=Goals.of({"loss": "minimize"}))
    assert one.observations == (Observation({"x": 0.5}, {"loss": 2}),)
    limited = read(tmp_path, "x,value,memory\n0.5,1,2\n", goals=Goals.of("minimize", {"memory": (None, 8)}))
    assert limited.observations == (Observation({"x": 0.5}, {"value": 1, "memory": 2}),)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("x,error\n", {}, "the outcome 'gain' must have a column in .*, got no 'value_gain' among"),
        ("x,error,gain\n", {"value": {"works": "ok"}}, "the outcome 'works' .* got no 'ok' among"),
        ("x,error,gain\n", {"value": "error"}, "`value` must be headings by name of an outcome"),
        ("x,error,gain\n", {"value": {"eror": "error"}}, "outcomes must be among .*, got unknown 'eror'"),
        ("x,error,gain\n", {"value": {"gain": "error"}}, "a column must have one use, got 'error'"),
    ],
)
def test_columns_that_are_missing_or_used_twice(
    tmp_path: Path, text: str, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, text, **options)


def test_every_bad_row_is_listed_with_its_line(tmp_path: Path) -> None:
    text = "x,error,gain,std_gain,state\n1,,,,\n1,nan,nan,,\n1,low,2,,\n1,1,2,-1,\n1,1,,,failed\n1,inf,,,\n"
    with pytest.raises(TableError) as caught:
        read(tmp_path, text)
    words = (
        "it has no value (a row that failed needs a reason, or the state 'failed')",
        "at least one outcome must be a finite number",
        "the outcome 'error' must be a finite number, or NaN if its measurement failed, got 'low'",
        "a std must be a finite number >= 0, got -1",
        "a failed row must have no value, got {'error': 1}",
        "the outcome 'error' must be a finite number, or NaN if its measurement failed, got 'inf'",
    )
    for line, (fault, word) in enumerate(zip(caught.value.faults, words, strict=True), 2):
        assert fault.startswith(f"line {line}: ")
        assert word in fault


def test_a_table_without_the_names_of_outcomes_is_refused() -> None:
    optimizer = Optimizer(SPACE, direction=GOALS.direction, constraints=GOALS.limits)
    optimizer.add({"x": 0.5}, {"error": 1.0})
    with pytest.raises(ArgumentError, match="need goals that name them, got minimize"):
        csv_text(optimizer.trials, SPACE)


NAMES = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Goals, str, list[dict[str, float]], list[float]]:
    names = draw(
        st.lists(NAMES | st.sampled_from(["x", "std", "value", "id"]), min_size=2, max_size=4, unique=True)
    )
    goals = Goals.of(dict.fromkeys(names[:-1], "maximize"), {names[-1]: (0.0, None)})
    told = st.dictionaries(st.sampled_from(names), NUMBERS | st.just(math.nan), min_size=1).filter(
        lambda outcomes: not all(map(math.isnan, outcomes.values()))
    )
    parameter = draw(st.sampled_from(["x", "value", "std_x", f"value_{names[0]}", names[0], names[-1]]))
    return goals, parameter, draw(st.lists(told, max_size=4)), draw(st.lists(NUMBERS.map(abs), min_size=4))


@settings(max_examples=60, deadline=None)
@given(run=runs())
def test_what_is_written_is_read_back(
    run: tuple[Goals, str, list[dict[str, float]], list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    goals, parameter, outcomes, stds = run
    space = Space({parameter: Float(0.0, 1.0)})
    with closing(Optimizer(space, direction=goals.direction, constraints=goals.limits)) as optimizer:
        for told, std in zip(outcomes, stds, strict=False):
            optimizer.add({parameter: 0.5}, told, dict.fromkeys(told, std))
        optimizer.add_failed({parameter: 0.25}, "broken")
        trials = optimizer.trials
        path = tmp_path_factory.mktemp("table") / "trials.csv"
        path.write_bytes(csv_text(trials, space, goals).encode("utf-8", "surrogatepass"))
        past = read_csv(path, space, goals=goals)
        assert past.unused == ()
        again = optimizer.add_all(past.observations)
    for before, after in zip(trials, again, strict=True):
        assert (before.params, before.state, before.reason) == (after.params, after.state, after.reason)
        assert (before.value, before.std) == (after.value, after.std)
        assert (before.outcomes, before.stds) == (after.outcomes, after.stds)

"""Trials as CSV: read from other tools as a whole or not at all, and written so that they are read back."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.errors import DataError, StorageError, TableError, UnknownParameter
from bo_suite.storage.csv_files import PastTrials, csv_text, read_csv, read_points, write_csv
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header, Observation, Trial

SPACE = Space({"lr": Float(1e-5, 0.1, log=True), "depth": Int(1, 12), "act": Choice(["relu", None])})
GOOD = "lr,depth,act,value\n0.01,3,relu,0.5\n0.02,4,,-0.25\n"


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path: Path, text: str | bytes, space: Space = SPACE, **options: object) -> PastTrials:
    return read_csv(written(tmp_path / "past.csv", text), space, **options)  # type: ignore[arg-type]


def faults_of(tmp_path: Path, text: str, space: Space = SPACE) -> tuple[str, ...]:
    with pytest.raises(TableError) as caught:
        read(tmp_path, text, space)
    return caught.value.faults


EXPECTED = (
    Observation({"lr": 0.01, "depth": 3, "act": "relu"}, 0.5),
    Observation({"lr": 0.02, "depth": 4, "act": None}, -0.25),
)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace(",", ";"),
        GOOD.replace(",", ";").replace(".", ","),
        GOOD.replace(",", "\t"),
        GOOD.replace("lr,depth", " param_lr , depth "),
        "\n" + GOOD.replace("\n0.02", "\n\n,,,\n0.02"),
        'value,act,depth,"lr"\n0.5,relu,3,0.01\n-.25,None,4.0,2e-2\n',
    ],
)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, text: str | bytes) -> None:
    assert read(tmp_path, text).observations == EXPECTED


def test_columns_are_named_where_they_differ(tmp_path: Path) -> None:
    text = GOOD.replace("lr,", "learning rate,").replace("value", "yield").replace("act", "act ")
    past = read(tmp_path, text, columns={"lr": "learning rate"}, value="yield")
    assert past.observations == EXPECTED
    assert (past.unused, past.left_out) == ((), {})


def test_failures_noise_and_what_is_left_out(tmp_path: Path) -> None:
    text = (
        "id,lr,depth,act,value,std,state,reason,note,note\n"
        "0,0.01,3,relu,0.5,0.1,finished,,a,b\n"
        "1,0.01,3,relu,,,Failed,,a,b\n"
        "2,0.01,3,relu,,,,out of memory,a,b\n"
        "3,0.01,3,relu,,,running,,a,b\n"
        "4,9999,3,nothing,,,withdrawn,,a,b\n"
        "5,0.01,3,relu,0.5,,,,a,b\n"
    )
    point = {"lr": 0.01, "depth": 3, "act": "relu"}
    past = read(tmp_path, text)
    assert past.observations == (
        Observation(point, 0.5, 0.1),
        Observation(point, None, reason="failed"),
        Observation(point, None, reason="out of memory"),
        Observation(point, 0.5),
    )
    assert past.left_out == {"running": 1, "withdrawn": 1}
    assert past.unused == ("note", "note")


def test_every_bad_row_is_listed_with_its_line(tmp_path: Path) -> None:
    text = (
        "id,lr,depth,act,value,std,state,reason\n"
        "0,0.01,3,relu,0.5,,,\n"
        "1,0.5,3,relu,0.5,,,\n"
        "2,0.01,3,tanh,0.5,,,\n"
        "3,,three,relu,0.5,,,\n"
        '4,0.01,3,relu,nan,,,"two\nlines"\n'
        "5,0.01,3,relu,,,,\n"
        "0,0.01,3,relu,0.5,,,\n"
        "7,0.01,3,relu\n"
        "8,0.01,3,relu,0.5,-1,,\n"
        "9,0.01,3,relu,0.5,,failed,\n"
        "10,0.01,3,relu,0.5,,lost,\n"
        "11,0.01,3,relu,1e999,,,\n"
    )
    faults = faults_of(tmp_path, text)
    assert [fault.split(":")[0] for fault in faults] == [
        f"line {line}" for line in (3, 4, 5, 6, *range(8, 15))
    ]
    for fault, words in zip(
        faults,
        (
            "parameter 'lr': `1e-05 <= value <= 0.1` must hold, got 0.5",
            "parameter 'act': the value must be one of ['relu', None], got 'tanh'",
            "parameter 'lr': it has no value; parameter 'depth': an Int must be a finite number, got 'three'",
            "a value must be a finite number (use fail() if there is none), got 'nan'",
            "it has no value (a row that failed needs a reason, or the state 'failed')",
            "its id '0' is that of line 2",
            "it must have 8 cells, got 4",
            "a std must be a finite number >= 0, got -1",
            "a failed row must have no value, got 0.5",
            "'withdrawn', 'stopped', 'paused'], got 'lost'",
            "got inf",
        ),
        strict=True,
    ):
        assert words in fault


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must begin with a row of headings"),
        ("lr,value\n1,2\n", r"must have a column in .*, got none for \['depth', 'act'\]"),
        ("lr,depth,act,y\n", "the outcome must have a column in .*, got no 'value' among the headings"),
        ("lr,lr,depth,act,value\n", "headings must differ, got 'lr' twice"),
        ('lr,depth,act,value\n"0.1"x,2,relu,1\n', "cannot be read"),
        (b"lr,depth,act,value\n\xff,2,relu,1\n", "must be UTF-8 text"),
    ],
)
def test_a_table_without_its_columns_is_refused(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, text)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: .*No such file"):
        read_csv(tmp_path / "none.csv", SPACE)
    with pytest.raises(UnknownParameter, match="got 'rate'"):
        read(tmp_path, GOOD, columns={"rate": "lr"})
    with pytest.raises(DataError, match="got none for \\['lr'\\]"):
        read(tmp_path, GOOD, columns={"lr": "rate"})
    with pytest.raises(DataError, match="a column must have one use, got 'value'"):
        read(tmp_path, "x,value\n1,2\n", Space({"x": Float(0, 1), "value": Float(0, 1)}))
    with pytest.raises(StorageError, match="cannot be written"):
        write_csv([], SPACE, tmp_path / "none" / "out.csv")


def test_points_need_no_outcome_and_may_lie_outside(tmp_path: Path) -> None:
    file = written(tmp_path / "points.csv", "lr,depth,act\n0.5,3,relu\n")
    assert read_points(file, SPACE) == [{"lr": 0.5, "depth": 3, "act": "relu"}]
    written(file, "lr,depth,act\n-1,3,relu\n0.1,3,tanh\n")
    with pytest.raises(TableError, match=r"got 2 that are not\nline 2: .*\nline 3: "):
        read_points(file, SPACE)


HOSTILE = (
    *("", " ", "=1+1", "'=1", "-2+3", "a,b", "a;b", 'a"b', "two\nlines\r\n", "\r", "\0", "\udc80", "\ufeff"),
    *("None", "1", "1.0", "true", "+", "ä", "\t"),
)
NAMES = ("id", "value", "std", "param_x", "x", "=cmd", " y ", "'", "a,b\n", "\udc80", "state", "Größe")


@st.composite
def observations(draw: st.DrawFn, space: Space) -> Observation:
    values = {
        name: st.sampled_from(parameter.options)
        if isinstance(parameter, Choice)
        else st.integers(parameter.low, parameter.high)
        if isinstance(parameter, Int)
        else st.floats(parameter.low, parameter.high)
        for name, parameter in space
    }
    point = {name: draw(value) for name, value in values.items()}
    if draw(st.booleans()):
        return Observation(point, None, reason=draw(st.sampled_from(HOSTILE)) or "failed")
    value, std = st.floats(-1e300, 1e300), st.one_of(st.none(), st.floats(0, 1e300))
    return Observation(point, draw(value), draw(std))


def stored(space: Space, rows: Sequence[Observation]) -> list[Trial]:
    with closing(History.open(None, Header(space, 0, "minimize", None, None))) as history:
        return history.add_all(rows)


def outcomes(trials: list[Trial]) -> list[str]:
    return [repr((list(t.params.items()), t.value, t.std, t.state, t.reason)) for t in trials]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_written_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kinds = [Float(-1e300, 1e300), Float(1e-300, 1.0, log=True), Int(-9, 9), Choice([None, 1, 0.5, *HOSTILE])]
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    space = Space({name: data.draw(st.sampled_from(kinds)) for name in names})
    trials = stored(space, data.draw(st.lists(observations(space), max_size=5)))
    file = tmp_path_factory.getbasetemp() / "out.csv"
    write_csv(trials, space, file)
    again = read_csv(file, space)
    assert outcomes(stored(space, again.observations)) == outcomes(trials)
    assert (again.unused, again.left_out) == ((), {})


def test_what_teaches_nothing_is_written_and_left_out(tmp_path: Path) -> None:
    with closing(Optimizer(SPACE)) as optimizer:
        first, second, third, _, fifth, sixth = optimizer.ask(6)
        optimizer.tell(first, 1.0)
        optimizer._history.report(fifth.id, 3, 2.0, verdict="stop")
        optimizer._history.report(sixth.id, 3, 2.0, verdict="pause")
        optimizer.fail(second, "connection lost", transient=True)
        optimizer.withdraw(third)
        text = csv_text(optimizer.trials, SPACE)
    assert text.splitlines()[0] == "id,lr,depth,act,value,std,state,reason,transient"
    past = read(tmp_path, text)
    left_out = ("failed by chance", "withdrawn", "running", "stopped", "paused")
    assert past.left_out == dict.fromkeys(left_out, 1)
    assert past.observations == (Observation(first.params, 1.0),)


def test_what_pandas_writes_of_a_run_is_read(tmp_path: Path) -> None:
    with closing(Optimizer(SPACE)) as optimizer:
        for value in (1.5, 0.25):
            optimizer.tell(optimizer.ask(), value)
        optimizer.fail(optimizer.ask(), "no memory")
        optimizer.ask()
        optimizer.to_frame().to_csv(tmp_path / "frame.csv", index=False)
        trials = optimizer.trials[:3]
    past = read_csv(tmp_path / "frame.csv", SPACE)
    assert [row.params for row in past.observations] == [trial.params for trial in trials]
    assert [row.value for row in past.observations] == [1.5, 0.25, None]
    assert past.left_out == {"running": 1}


def test_no_text_is_a_formula_of_a_spreadsheet() -> None:
    space = Space({"=1+1": Choice(["=cmd", "-2", "a"]), "b": Float(-1, 1)})
    text = csv_text(stored(space, [Observation({"=1+1": "=cmd", "b": -0.5}, None, reason="@x")]), space)
    assert text.splitlines() == ["id,param_=1+1,param_b,value,std,state,reason", "0,'=cmd,-0.5,,,failed,'@x"]

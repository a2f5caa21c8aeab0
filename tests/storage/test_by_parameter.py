"""Gradients and standard deviations by parameter: what is refused, and how files and tables hold them."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from histories import HEADER, POINT, add, ask, change

from bo_suite import Choice, Float, Int, Space
from bo_suite.errors import StorageError, TableError, TrialError
from bo_suite.storage.csv_files import csv_text, read_csv, write_csv
from bo_suite.storage.goals import Goals
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header, Observation, record

TREE = Space(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "size": Float(0.0, 1.0, step=0.25),
        "depth": Int(1, 12),
        "kernel": Choice(["rbf", "poly"]),
        "order": Choice(["low", "high"], ordered=True),
        "degree": Float(1.0, 5.0, when={"kernel": "poly"}),
    }
)
AT = {"lr": 0.01, "size": 0.5, "depth": 3, "kernel": "rbf", "order": "low"}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "choice": ({"gradient": {"kernel": 1.0}}, "must be by a Float, got one by 'kernel', which is a Choice"),
    "ordered choice": (
        {"gradient": {"order": 1.0}},
        "must be by a Float, got one by 'order', which is a Choice",
    ),
    "int": ({"gradient": {"depth": 1.0}}, "must be by a Float, got one by 'depth', which is an Int"),
    "unknown": ({"gradient": {"rate": 1.0}}, "one of .'lr', .*, got 'rate'"),
    "inactive": ({"gradient": {"degree": 1.0}}, "active at the point, got 'degree', which is not"),
    "nan": ({"gradient": {"lr": float("nan")}}, "the derivative by 'lr' must be a finite number"),
    "infinite": ({"gradient": {"lr": float("inf")}}, "the derivative by 'lr' must be a finite number"),
    "text": ({"gradient": {"lr": "2"}}, "the derivative by 'lr' must be a finite number"),
    "list": (
        {"gradient": [1.0, 2.0]},
        r"a gradient must be a dict .*, such as \{'lr': 0.1\}, got \[1.0, 2.0\]",
    ),
    "number": ({"gradient": 1.0}, "a gradient must be a dict"),
    "std of a choice": ({"params_std": {"kernel": 0.1}}, "must be of Floats and Ints, got one of 'kernel'"),
    "negative std": ({"params_std": {"lr": -0.1}}, "the params_std of 'lr' must be a finite number >= 0"),
    "infinite std": ({"params_std": {"lr": float("inf")}}, "the params_std of 'lr' must be a finite number"),
    "std of an unknown": ({"params_std": {"rate": 0.1}}, "params_std must be a dict .*, got 'rate'"),
    "std of an inactive": ({"params_std": {"degree": 0.1}}, "active at the point, got 'degree'"),
    "list of stds": ({"params_std": [0.1]}, "params_std must be a dict"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_by_every_verb_and_changes_nothing(case: str) -> None:
    told, law = REFUSED[case]
    history = History.open(None, replace(HEADER, space=TREE))
    (trial,) = history.insert([AT], [{}], expected=0) or []
    finished = add(history, AT, 1.0)
    before = history.trials()
    for verb in (
        lambda: history.tell(trial.id, 1.0, **told),
        lambda: history.amend(finished.id, 2.0, **told),
        lambda: history.add_all([Observation(AT, 1.0, **told)]),
    ):
        with pytest.raises(TrialError, match=law):
            verb()
    assert history.trials() == before
    assert not history.changes()


def test_any_numbers_of_active_parameters_are_stored_in_their_order() -> None:
    history = History.open(None, replace(HEADER, space=TREE))
    gradient, params_std = {"size": 2, "lr": -0.0}, {"depth": 1, "lr": 0}
    told = history.add_all([Observation(AT, 1.0, gradient=gradient, params_std=params_std)])[0]
    assert told.gradient == {"lr": 0.0, "size": 2.0}
    assert list(told.gradient or {}) == ["lr", "size"]
    assert told.params_std == {"lr": 0.0, "depth": 1.0}
    assert record(told)["gradient"] == {"lr": 0.0, "size": 2.0}
    empty = history.add_all([Observation(AT, 1.0, gradient={}, params_std={})])[0]
    assert (empty.gradient, empty.params_std) == (None, None)
    assert "gradient" not in record(empty)
    copy = told.gradient
    assert copy is not None
    copy["lr"] = 5.0  # type: ignore[index]
    assert told.gradient == {"lr": 0.0, "size": 2.0}


def named(direction: Any, constraints: Any = None) -> Header:
    return replace(HEADER, direction=direction, constraints=constraints)


def test_a_gradient_is_that_of_the_only_objective() -> None:
    several = History.open(None, named({"error": "minimize", "speed": "maximize"}))
    outcomes: Any = {"error": 1.0, "speed": 2.0}
    law = "must be that of a single objective, got one with the objectives 'error', 'speed'"
    with pytest.raises(TrialError, match=law):
        several.add_all([Observation(POINT, outcomes, gradient={"lr": 1.0})])
    allowed = several.add_all([Observation(POINT, outcomes, params_std={"lr": 1.0})])[0]
    assert allowed.params_std == {"lr": 1.0}
    single = History.open(None, named({"error": "minimize"}, {"memory": [None, 8.0]}))
    told = single.tell(ask(single).id, {"error": 1.0, "memory": 2.0}, gradient={"lr": 1.0})
    assert told.gradient == {"lr": 1.0}
    running = ask(single)
    with pytest.raises(TrialError, match="must come with the value that it belongs to"):
        single.tell(running.id, {"memory": 2.0}, gradient={"lr": 1.0})
    other = single.amend(told.id, {"memory": 3.0})
    assert other.gradient == {"lr": 1.0}, "the objective has stayed"
    assert single.amend(told.id, {"error": 0.5}).gradient is None


def test_a_gradient_goes_with_its_value_and_what_was_set_stays() -> None:
    history = History.open(None, HEADER)
    told = history.tell(ask(history).id, 1.0, gradient={"lr": 2.0}, params_std={"depth": 1})
    assert history.amend(told.id, 1.0, std=0.1).gradient == {"lr": 2.0}
    amended = history.amend(told.id, 1.5)
    assert (amended.gradient, amended.params_std, amended.std) == (None, {"depth": 1.0}, 0.1)
    again = history.amend(told.id, 1.5, gradient={"lr": 3.0}, params_std={})
    assert (again.gradient, again.params_std) == ({"lr": 3.0}, None)
    assert history.amend(told.id, 1.5, gradient={}).gradient is None
    changes = history.changes()
    assert [change.before.get("gradient") for change in changes] == ['{"lr": 2.0}'] * 2 + [
        None,
        '{"lr": 3.0}',
    ]
    assert [change.before.get("params_std") for change in changes] == ['{"depth": 1.0}'] * 3 + [None]
    history.amend(told.id, 2.0, gradient={"lr": 4.0}, params_std={"lr": 0.1})
    forgotten = history.forget(told.id, "wrong")
    assert (forgotten.state, forgotten.gradient, forgotten.params_std) == ("withdrawn", None, None)
    assert history.changes()[-1].before["gradient"] == '{"lr": 4.0}'
    assert history.amend(told.id, 2.0).gradient is None


DAMAGE = {
    "gradient is no number": ("gradient", '{"lr": "x"}', "gradient: must be finite numbers by name"),
    "gradient is infinite": ("gradient", '{"lr": Infinity}', "gradient: must be finite numbers by name"),
    "gradient is empty": ("gradient", "{}", "gradient: must be finite numbers by name"),
    "std is negative": ("params_std", '{"lr": -1.0}', "params_std: must be finite numbers >= 0 by name"),
    "another number": ("gradient", '{"lr": 3.0}', "gradient: changed since it was stored"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, tmp_path: Path) -> None:
    field, text, fault = DAMAGE[case]
    path = tmp_path / "run.db"
    with closing(History.open(path, HEADER)) as history:
        history.tell(ask(history).id, 1.0, gradient={"lr": 2.0}, params_std={"lr": 0.1})
    change(path, f"UPDATE trials SET {field} = ? WHERE id = 0", text)
    with (
        pytest.raises(StorageError, match=f"trial 0 of .* with .*{fault}"),
        closing(History.open(path, None)) as one,
    ):
        one.trials()


def test_a_failed_trial_has_none(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(History.open(path, HEADER)) as history:
        history.fail(ask(history).id, "no")
    change(path, "UPDATE trials SET gradient = ? WHERE id = 0", '{"lr": 2.0}')
    with (
        pytest.raises(StorageError, match="of the value of a finished trial"),
        closing(History.open(path, None)) as one,
    ):
        one.trials()


def observations(history: History) -> list[Any]:
    return [(one.params, one.value, one.gradient, one.params_std) for one in history.trials()]


def test_tables_hold_both_and_are_read_back(tmp_path: Path) -> None:
    history = History.open(None, replace(HEADER, space=TREE))
    poly = AT | {"kernel": "poly", "degree": 2.0}
    history.add_all(
        [
            Observation(AT, 1.0, gradient={"lr": -2.5e-7}, params_std={"depth": 2}),
            Observation(poly, 2.0, gradient={"degree": 0.1, "lr": 1e300}),
            Observation(AT, 3.0),
        ]
    )
    write_csv(history.trials(), TREE, tmp_path / "t.csv")
    headings = (tmp_path / "t.csv").read_text().splitlines()[0].split(",")
    assert headings[-5:] == ["gradient_lr", "gradient_degree", "params_std_depth", "state", "reason"]
    past = read_csv(tmp_path / "t.csv", TREE)
    assert past.unused == ()
    other = History.open(None, replace(HEADER, space=TREE))
    other.add_all(past.observations)
    assert observations(other) == observations(history)
    without = History.open(None, replace(HEADER, space=TREE))
    add(without, AT, 1.0)
    assert "gradient" not in csv_text(without.trials(), TREE)


def test_a_parameter_may_be_named_like_such_a_column(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1), "gradient_x": Float(0, 1), "params_std_x": Float(0, 1)})
    point = {"x": 0.1, "gradient_x": 0.2, "params_std_x": 0.3}
    history = History.open(None, replace(HEADER, space=space))
    history.add_all([Observation(point, 1.0, gradient={"x": 4.0, "gradient_x": 5.0}, params_std={"x": 6.0})])
    write_csv(history.trials(), space, tmp_path / "t.csv")
    (one,) = read_csv(tmp_path / "t.csv", space).observations
    assert one.params == point
    assert one.gradient == {"x": 4.0, "gradient_x": 5.0}
    assert one.params_std == {"x": 6.0}
    (tmp_path / "plain.csv").write_text("x,gradient_x,params_std_x,value\n0.1,0.2,0.3,1.0\n")
    (plain,) = read_csv(tmp_path / "plain.csv", space).observations
    assert (plain.params, plain.gradient, plain.params_std) == (point, None, None)


@pytest.mark.parametrize(
    ("heading", "cell", "law"),
    [
        ("gradient_kernel", "1", "which is a Choice"),
        ("gradient_lr", "steep", "the derivative by 'lr' must be a finite number"),
        ("params_std_lr", "-1", "the params_std of 'lr' must be"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(heading: str, cell: str, law: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"lr,depth,kernel,value,{heading}\n0.1,3,rbf,1.0,{cell}\n0.1,3,rbf,1.0,\n")
    with pytest.raises(TableError) as raised:
        read_csv(path, HEADER.space, goals=Goals.of("minimize"))
    (fault,) = raised.value.faults
    assert fault.startswith("line 2: ")
    assert law in fault


def test_the_columns_are_json_objects() -> None:
    history = History.open(None, HEADER)
    told = history.tell(ask(history).id, 1.0, gradient={"lr": 2.0})
    row = history._table.row(told.id)
    assert json.loads(row.gradient or "") == {"lr": 2.0}
    assert row.params_std is None

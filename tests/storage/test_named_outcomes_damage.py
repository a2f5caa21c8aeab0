"""Damage to a file with outcomes by name: an error that says what and where, or the right trials."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import POINT, SPACE, change, change_at_random, killed_at, select

from bo_suite import Optimizer
from bo_suite.acquisition import UpperConfidenceBound
from bo_suite.errors import StorageError
from bo_suite.storage.trial import record

LIMITS = {"memory": (None, 8.0), "works": True}
TOLD: list[dict[str, Any]] = [
    {"error": 0.5, "memory": 4.0, "works": True},
    {"error": 0.25, "memory": 9.0},
    {"error": float("nan"), "memory": 2.0},
    {"works": False},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials 0 to 3 are finished, 4 has failed, 5 runs."""
    path = tmp_path_factory.mktemp("damage") / "run.db"
    with closing(opened(path)) as optimizer:
        for depth, told in enumerate(TOLD, 1):
            optimizer.add(POINT | {"depth": depth}, told, {name: 0.5 for name in told if name == "error"})
        optimizer.add_failed(POINT, "out of memory")
        optimizer.ask()
    return path


def opened(path: Path) -> Optimizer:
    return Optimizer(
        SPACE, UpperConfidenceBound(), 3, {"error": "minimize"}, storage=path, constraints=LIMITS
    )


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "run.db"))


def contents(path: Path) -> list[dict[str, Any]]:
    with closing(Optimizer.resume(path)) as optimizer:
        return [record(trial) for trial in optimizer.trials]


def test_it_holds_what_was_told(path: Path) -> None:
    found = contents(path)
    assert [form["outcomes"] for form in found] == [
        {"error": 0.5, "memory": 4.0, "works": 1.0},
        {"error": 0.25, "memory": 9.0},
        {"error": None, "memory": 2.0},
        {"works": 0.0},
        None,
        None,
    ]
    assert [form["value"] for form in found] == [0.5, 0.25, None, None, None, None]
    assert [form["stds"] for form in found] == [{"error": 0.5}, {"error": 0.5}, None, None, None, None]
    with closing(Optimizer.resume(path)) as optimizer:
        assert optimizer.direction == {"error": "minimize"}
        assert optimizer.goals.limits == {"memory": [None, 8.0], "works": True}
        assert optimizer.best.id == 0


ROWS: list[tuple[str, int, Any]] = [
    *(
        ("outcomes", 0, value)
        for value in ("{", "", "null", "[]", "{}", "3", 5, b"\xff", b"{}", "[" * 99_999)
    ),
    *(("outcomes", 0, json.dumps({"error": value})) for value in ("0.5", [0.5], True, float("inf"), 10**400)),
    ("outcomes", 0, '{"error": NaN}'),
    ("outcomes", 0, '{"error": 1e999}'),
    ("outcomes", 0, None),
    ("outcomes", 2, None),
    ("outcomes", 4, '{"error": 0.5}'),
    ("outcomes", 5, '{"error": 0.5}'),
    ("outcomes", 1, '{"error": 0.125, "memory": 9.0}'),
    ("outcomes", 1, '{"error": 0.25}'),
    *(("stds", 0, value) for value in ("{", "", "null", "[]", "{}", "3", 5, b"\xff")),
    *(("stds", 0, json.dumps({"error": value})) for value in (-0.5, None, "0.5", float("inf"), True)),
    ("stds", 4, '{"error": 0.5}'),
    ("stds", 5, '{"error": 0.5}'),
    ("stds", 0, None),
    ("stds", 1, '{"error": 0.75}'),
    ("value", 0, 0.125),
    ("value", 0, None),
    ("value", 2, 0.125),
    ("state", 3, "running"),
]
"""A column, the trial, and what was not stored there."""


def short(value: object) -> str:
    return repr(value)[:24]


@pytest.mark.parametrize(("column", "trial", "value"), ROWS, ids=short)
@pytest.mark.parametrize("open_before", [False, True], ids=["opened later", "open"])
def test_a_field_that_does_not_fit_is_named(
    path: Path, column: str, trial: int, value: Any, open_before: bool
) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        if open_before:
            assert change(path, f"UPDATE trials SET {column} = ? WHERE id = ?", value, trial) == 1
            for call in (lambda: optimizer.tell(5, {"error": 1.0}), lambda: optimizer.best):
                with suppress(StorageError):
                    call()
        else:
            change(path, f"UPDATE trials SET {column} = ? WHERE id = ?", value, trial)
        with pytest.raises(StorageError) as caught:
            _ = optimizer.trials
    text = str(caught.value)
    assert re.search(rf"\btrial {trial}\b", text), text
    assert len(text) < 1000
    named = text.replace(str(path), "")
    assert re.search(rf"\b({column}|value|std|outcomes|stds|ended)\b", named), text


META: list[tuple[str, Any]] = [
    *(
        ("direction", value)
        for value in (
            *('{"error": "sideways"}', '{"error": null}', '{"": "minimize"}', '"minimize"', "{}", "[]"),
            *('{"error": "maximize"}', '{"value": "minimize"}', '{"loss": "minimize"}', "{", ""),
        )
    ),
    *(
        ("constraints", value)
        for value in (
            *("{}", "[]", "5", '"x"', "true", "{", "", b"\xff", "null", '{"memory": [null, null]}'),
            *('{"memory": [9.0, 8.0]}', '{"memory": [8.0, 8.0]}', '{"memory": 8.0}', '{"": [0, 1]}'),
            *('{"memory": ["a", 8.0]}', '{"memory": [NaN, 8.0]}', '{"memory": [-Infinity, 8.0]}'),
            *('{"works": false}', '{"memory": [null, 7.0], "works": true}', "[" * 99_999),
        )
    ),
]
"""A key of the header, and what was not stored there."""


@pytest.mark.parametrize(("key", "value"), META, ids=short)
def test_a_key_of_the_header_that_does_not_fit_is_named(path: Path, key: str, value: Any) -> None:
    assert change(path, "UPDATE meta SET value = ? WHERE key = ?", value, key) == 1
    for open_it in (Optimizer.resume, opened):
        with pytest.raises(StorageError) as caught:
            open_it(path)
        text = str(caught.value).replace(str(path), "")
        assert re.search(rf"\b({key}|seal)\b", text), text
        assert len(text) < 1000


def test_constraints_that_are_missing_are_an_error(path: Path) -> None:
    assert change(path, "DELETE FROM meta WHERE key = 'constraints'") == 1
    with pytest.raises(StorageError, match="seal"):
        Optimizer.resume(path)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_fields_that_are_damaged_are_an_error_or_harmless(count: int, made: Path, tmp_path: Path) -> None:
    right, errors = contents(made), 0
    for number in range(count):
        path = Path(shutil.copy(made, tmp_path / f"{number}.db"))
        what = change_at_random(path, np.random.default_rng((number, 23)))
        try:
            found = contents(path)
        except StorageError:
            errors += 1
        else:
            assert found == right, what
        path.unlink()
    assert errors > count / 2


def test_every_field_of_the_table_is_sealed(made: Path, path: Path) -> None:
    names = [name for (_, name, *_) in select(made, "PRAGMA table_info(trials)")]
    for name in names[1:]:
        for trial in range(6):
            shutil.copy(made, path)
            with suppress(OverflowError):
                change(path, f"UPDATE trials SET {name} = '0.0625' WHERE id = ?", trial)
            with pytest.raises(StorageError, match=f"trial {trial} "):
                contents(path)


CALLS: dict[str, Callable[[Optimizer], Any]] = {
    "tell": lambda optimizer: optimizer.tell(5, {"error": 0.75, "memory": 1.0}, {"error": 0.5}),
    "amend": lambda optimizer: optimizer.amend(1, {"memory": 7.0}),
    "forget": lambda optimizer: optimizer.forget(0),
    "add": lambda optimizer: optimizer.add(POINT, {"works": True}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_statement_leaves_all_outcomes_or_those_before(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    whole, before, found = path.read_bytes(), contents(path), []
    stop, copy = 0, tmp_path / "copy.db"
    while killed_at(stop, path, copy, CALLS[call], monkeypatch):
        found.append(outcomes(copy))
        for file in (*tmp_path.glob("copy.db*"), *tmp_path.glob("run.db*")):
            file.unlink()
        path.write_bytes(whole)
        stop += 1
    after = outcomes(path)
    assert stop >= 6
    assert after != [(form["state"], form["outcomes"], form["stds"]) for form in before]
    assert after in found, "after the commit"
    assert all(one in (after, found[0]) for one in found)
    assert found[0] == [(form["state"], form["outcomes"], form["stds"]) for form in before]


def outcomes(path: Path) -> list[tuple[Any, Any, Any]]:
    return [(form["state"], form["outcomes"], form["stds"]) for form in contents(path)]

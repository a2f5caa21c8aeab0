"""Damage to a history file: an error of ours that says what and where, or the right trials; nothing else."""

import json
import re
import shutil
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import (
    DATA,
    OLD,
    SPACE,
    change,
    change_at_random,
    make_history,
    old_history,
    outcome_of,
    seen,
    select,
    stored,
)
from test_random_damage import damaged

from bo_suite import Optimizer
from bo_suite.acquisition import UpperConfidenceBound
from bo_suite.errors import StorageError

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "run.db"
    make_history(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "run.db"))


def read(path: Path) -> list[Any]:
    with closing(Optimizer.resume(path)) as optimizer:
        return optimizer.trials


def point(**changes: Any) -> str:
    return json.dumps({"lr": 0.003, "depth": 4, "kernel": "rbf"} | changes)


ROWS: list[tuple[str, int, Any]] = [
    *(("params", 1, value) for value in ("{", "", "null", "[]", "3", DEEP, 5, b"\xff\x00", b"{}")),
    ("params", 1, json.dumps({"lr": 0.003, "depth": 4, "kernel": "rbf", "more": 1})),
    ("params", 1, json.dumps({"rate": 0.003, "depth": 4, "kernel": "rbf"})),
    ("params", 1, json.dumps({"lr": 0.003, "depth": 4})),
    *(("params", 1, point(**changes)) for changes in ({"lr": 2.0}, {"lr": 0}, {"lr": "x"}, {"lr": [0.1]})),
    *(("params", 1, point(**changes)) for changes in ({"depth": 13}, {"depth": 4.5}, {"depth": True})),
    *(("params", 1, point(**changes)) for changes in ({"depth": 10**400}, {"lr": 10**400}, {"kernel": 1})),
    *(("params", 1, point(**changes)) for changes in ({"lr": float("nan")}, {"lr": float("inf")})),
    ("params", 1, point().replace("0.003", "1e999")),
    ("params", 1, point().replace("0.003", "9" * 5000)),
    *(("state", 1, value) for value in ("sideways", "", 3, b"finished")),
    *(("value", 1, value) for value in (float("inf"), float("-inf"), "high", b"\0", None)),
    *(("value", 11, value) for value in (0.5, float("inf"))),
    *(("value", 3, value) for value in (0.5, "x")),
    *(("std", 6, value) for value in (-1.0, float("inf"), "wide", b"1")),
    *(("std", 3, value) for value in (0.5, "x")),
    *(("reason", 3, value) for value in (None, b"\xff")),
    ("reason", 1, "it finished"),
    ("reason", 11, "it runs"),
    *(("attempt", 1, value) for value in (0, -3, "first", 1.5, b"1")),
    *(("asked", 1, value) for value in (7, -1, "yes", 0.5)),
    *(("provenance", 10, value) for value in ("{", "", "[]", "3", DEEP, 5, b"\xff")),
    ("provenance", 10, json.dumps({"hyperparameters": ["a"], "observations": 5})),
    ("provenance", 10, json.dumps({"hyperparameters": "0.1", "observations": 5})),
    ("provenance", 10, '{"hyperparameters": [NaN], "observations": 5}'),
    ("provenance", 10, json.dumps({"hyperparameters": [0.1]})),
    ("provenance", 10, json.dumps({"hyperparameters": [0.1], "observations": -1})),
    ("provenance", 10, json.dumps({"hyperparameters": [0.1], "observations": "all"})),
    ("provenance", 10, json.dumps({"success": [0.1], "observations": 5})),
    *(("started", 1, value) for value in ("today", float("inf"), b"\0")),
    *(("ended", 1, value) for value in ("today", float("inf"), None)),
    ("ended", 11, 5.0),
    *(("owner", 11, value) for value in ("x", "", "host:pid:1:abc", f"host:{'9' * 30}:1:abc", 7, b"h:1:1:a")),
    *(("revision", 1, value) for value in (0, -5, "last", 0.5)),
]
"""A column, the trial, and what does not fit there in any version."""

SEALED: list[tuple[str, int, Any]] = [
    ("params", 1, point()),
    ("state", 3, "withdrawn"),
    ("value", 1, 0.5),
    ("value", 1, 1),
    ("std", 1, 0.5),
    ("std", 6, None),
    *(("reason", 3, value) for value in ("another", 5)),
    ("attempt", 1, 2),
    ("asked", 1, 0),
    ("provenance", 10, "{}"),
    ("started", 1, 5.0),
    ("ended", 1, 5.0),
    ("owner", 11, "host:1:2:abc"),
    ("revision", 1, 999),
    ("revision", 1, 2**63 - 1),
    *(("transient", 3, value) for value in (5, "x", 1)),
    ("transient", 1, 1),
    *(("traceback", 3, value) for value in ("x", 5)),
    ("traceback", 1, "x"),
    *(("seal", 1, value) for value in ("", "x", 7, b"\0", "0" * 60)),
]
"""What fits, but was not stored, and the columns that version 0.8.0 does not have."""


def short(value: object) -> str:
    return repr(value)[:24]


def refused(path: Path, column: str, trial: int) -> None:
    with pytest.raises(StorageError) as caught:
        read(path)
    text = str(caught.value)
    assert re.search(rf"\btrial {trial}\b", text), text
    assert re.search(rf"\b{column}\b", text.replace(str(path), "")), text
    assert len(text) < 1000
    assert "\n" not in text


@pytest.mark.parametrize(("column", "trial", "value"), [*ROWS, *SEALED], ids=short)
def test_a_field_that_does_not_fit_is_named(path: Path, column: str, trial: int, value: Any) -> None:
    assert change(path, f"UPDATE trials SET {column} = ? WHERE id = ?", value, trial) == 1
    refused(path, column, trial)


@pytest.mark.parametrize(("column", "trial", "value"), ROWS, ids=short)
def test_a_field_of_0_8_0_that_does_not_fit_is_named(
    tmp_path: Path, column: str, trial: int, value: Any
) -> None:
    """Its rows have no seals: a change that leaves content valid cannot be seen."""
    path = old_history(tmp_path)
    assert change(path, f"UPDATE trials SET {column} = ? WHERE id = ?", value, trial) == 1
    refused(path, column, trial)


@pytest.mark.parametrize(("column", "trial", "value"), [*ROWS[::5], *SEALED[::2], SEALED[14]], ids=short)
def test_a_field_is_named_under_an_open_optimizer(path: Path, column: str, trial: int, value: Any) -> None:
    """Rows are looked at when something is written to them, or read for the first time."""
    with closing(Optimizer.resume(path)) as optimizer:
        assert change(path, f"UPDATE trials SET {column} = ? WHERE id = ?", value, trial) == 1
        for call in (lambda: optimizer.trials, lambda: optimizer.tell(11, 0.5), lambda: optimizer.best):
            with suppress(StorageError):
                call()
        with pytest.raises(StorageError, match=f"trial {trial} "):
            _ = optimizer.trials


META: list[tuple[str, Any]] = [
    *(("seed", value) for value in ('"abc"', "1.5", "true", "null", "[]", "{", "", b"\xff", DEEP)),
    *(("direction", value) for value in ('"sideways"', "5", "null", '["maximize"]', "maximize", "{}")),
    *(("budget", value) for value in ("-1", "0", '"many"', "1.5", "true", "[]")),
    ("acquisition", json.dumps({"type": "bo_suite.run.evaluate:evaluate", "fields": {}})),
    ("acquisition", json.dumps({"type": "bo_suite.surrogates.auto:AutoGP", "fields": {}})),
    ("acquisition", json.dumps({"type": "os:system", "fields": {"command": "true"}})),
    *(("acquisition", value) for value in ("5", '"logei"', "[]", "{}", '{"type": 5, "fields": 5}', DEEP)),
    *(("space", value) for value in ("{}", "[]", "5", "null", '{"x": 5}', '{"x": {"type": "Float"}}', DEEP)),
    *(("fingerprint", value) for value in ('"abc"', "5", "null", "[]")),
    *(("schema", value) for value in ("0", "99", '"x"', "-1", "1.5", "true", "null", "{")),
]
"""A key of the header, and what does not fit there in any version."""

SEALED_META: list[tuple[str, Any]] = [
    *(("seed", value) for value in ("4", 5)),
    ("direction", '"minimize"'),
    ("budget", "21"),
    ("budget", "null"),
    ("acquisition", "null"),
    ("schema", "1"),
    *(("run", value) for value in ('""', "5", "null", '"another"', "{")),
    *(("seal", value) for value in ('"0"', "5", "null", "", b"5")),
    *(("seed", value) for value in (b"3", " 3")),
]


def refused_header(path: Path, key: str) -> None:
    for open_it in (Optimizer.resume, fresh):
        with pytest.raises(StorageError) as caught:
            open_it(path)
        text = str(caught.value).replace(str(path), "")
        assert re.search(rf"\b({key}|seal)\b", text), text
        assert len(text) < 1000


def fresh(path: Path) -> Optimizer:
    return Optimizer(SPACE, None, 3, "maximize", storage=path)


@pytest.mark.parametrize(("key", "value"), [*META, *SEALED_META], ids=short)
def test_a_key_of_the_header_that_does_not_fit_is_named(path: Path, key: str, value: Any) -> None:
    assert change(path, "UPDATE meta SET value = ? WHERE key = ?", value, key) == 1
    refused_header(path, key)


@pytest.mark.parametrize(("key", "value"), META, ids=short)
def test_a_key_of_the_header_of_0_8_0_that_does_not_fit_is_named(
    tmp_path: Path, key: str, value: Any
) -> None:
    path = old_history(tmp_path)
    assert change(path, "UPDATE meta SET value = ? WHERE key = ?", value, key) == 1
    refused_header(path, key)


@pytest.mark.parametrize("old", [False, True], ids=["now", "0.8.0"])
def test_a_key_of_the_header_that_is_missing_is_named(path: Path, tmp_path: Path, old: bool) -> None:
    whole = (DATA / OLD).read_bytes() if old else path.read_bytes()
    newer = ("initial", "repeats", "since", "extended", "constraints", "scheduler")
    newer += ("run", "seal") if old else ()
    keys = [key for (key,) in select(path, "SELECT key FROM meta") if key not in newer]
    assert len(keys) == 7 + 2 * (not old)
    for key in keys:
        path.write_bytes(whole)
        assert change(path, "DELETE FROM meta WHERE key = ?", key) == 1
        refused_header(path, key)


@pytest.mark.parametrize("key", [None, 5, b"seed", "more"])
def test_a_key_of_the_header_that_is_not_ours_is_refused(path: Path, key: Any) -> None:
    change(path, "INSERT INTO meta VALUES (?, '5')", key)
    refused_header(path, "header")


# At random.

COUNTS = [pytest.param(40, id="40"), pytest.param(1000, id="1000", marks=pytest.mark.slow)]


def openings(number: int) -> Any:
    return Optimizer.resume if number % 2 else fresh


@pytest.mark.parametrize("count", COUNTS)
def test_bytes_that_are_damaged_are_an_error_or_harmless(count: int, made: Path, tmp_path: Path) -> None:
    content, right, found = made.read_bytes(), seen(read(made)), Counter[str]()
    for number in range(count):
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged(content, np.random.default_rng((number, 17))))
        came = outcome_of(openings(number), path, right, ask=number % 10 == 0)
        assert came in ("error", "right"), f"damage {number} is {came}"
        found[came] += 1
        remove(path)
    print(f"bytes: {dict(found)}")
    assert found["error"] > count / 4


@pytest.mark.parametrize("count", COUNTS)
def test_fields_that_are_damaged_are_an_error_or_harmless(count: int, made: Path, tmp_path: Path) -> None:
    right, found = seen(read(made)), Counter[str]()
    for number in range(count):
        path = Path(shutil.copy(made, tmp_path / f"{number}.db"))
        what = change_at_random(path, np.random.default_rng((number, 18)))
        came = outcome_of(openings(number), path, right, ask=number % 10 == 0)
        assert came in ("error", "right"), f"damage {number}, {what}, is {came}"
        found[came] += 1
        remove(path)
    print(f"fields: {dict(found)}")
    assert found["error"] > count / 2


@pytest.mark.parametrize("count", COUNTS)
def test_damage_to_a_file_of_0_8_0_raises_nothing_but_our_errors(count: int, tmp_path: Path) -> None:
    """Values that fit are taken for what was stored: there are no seals."""
    content, right, found = (DATA / OLD).read_bytes(), stored(OLD), Counter[str]()
    for number in range(count):
        path, draw = tmp_path / f"{number}.db", np.random.default_rng((number, 19))
        what = "bytes"
        if number % 2:
            path.write_bytes(damaged(content, draw))
        else:
            path.write_bytes(content)
            what = change_at_random(path, draw)
        came = outcome_of(Optimizer.resume, path, right, ask=number % 10 == 0)
        assert came in ("error", "right", "WRONG"), f"damage {number}, {what}, is {came}"
        found[came] += 1
        remove(path)
    print(f"0.8.0: {dict(found)}")
    assert found["error"] > count / 4


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_the_classes_of_outcomes(path: Path) -> None:
    right = seen(read(path))
    assert outcome_of(Optimizer.resume, path, ["other"] * 11 + right[-1:], ask=False) == "WRONG"

    def broken(path: Path) -> Optimizer:
        raise KeyError(path)

    assert outcome_of(broken, path, right, ask=False) == "KeyError"
    with closing(Optimizer(SPACE, UpperConfidenceBound(), storage=path.with_name("new.db"))) as optimizer:
        optimizer.ask()

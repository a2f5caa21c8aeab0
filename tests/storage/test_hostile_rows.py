"""Rows that another user of a shared database has written: an error or other data, never code that runs."""

import json
import math
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from histories import HEADER, ask
from postgres_server import Server

from bo_suite import Optimizer
from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.storage.headers import write_header
from bo_suite.storage.history import History
from bo_suite.storage.rows import Row, sealed
from bo_suite.study.status import status_of

HOSTILE = ("os:system", "subprocess.Popen", "builtins:exec", "__import__('os').system('touch owned')")


@pytest.fixture
def history(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.chdir(tmp_path)
    with closing(History.open(postgres_url, HEADER)) as opened:
        ask(opened)
        yield opened
    assert list(tmp_path.iterdir()) == [], "nothing was run"


def used(url: str) -> None:
    """Does with a run what a worker does."""
    with closing(Optimizer.resume(url)) as optimizer:
        for trial in [*optimizer.reclaim(), optimizer.ask(), optimizer.ask()]:
            optimizer.tell(trial, 0.5)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_acquisition_of_another_program_is_not_imported(
    history: History, postgres_url: str, name: str
) -> None:
    database = history._table.database
    forms: list[Any] = [
        name,
        {"class": name, "fields": {"args": ["touch owned"]}},
        {"UpperConfidenceBound": {"beta": {name: {"args": "touch owned"}}}},
        [name, ["touch owned"]],
    ]
    for form in forms:
        object.__setattr__(history.header, "acquisition", form)
        database.atomically(lambda: write_header(database, history.header))
        with pytest.raises(BoSuiteError):
            used(postgres_url)


@pytest.mark.parametrize(
    "changes",
    [
        {"params": '{"lr": "__import__(\'os\')", "depth": 4, "kernel": "rbf"}'},
        {"params": '{"__class__": "os.system", "lr": 0.003, "depth": 4, "kernel": "rbf"}'},
        {"provenance": json.dumps({"hyperparameters": ["touch owned"], "observations": 3})},
        {"provenance": json.dumps({"hyperparameters": [0.0] * 10_000, "observations": 10**15})},
        {"provenance": json.dumps({"acquisition": "os:system", "why": {"text": "\u001b]0;owned\u0007"}})},
        {"owner": "os.system('touch owned')"},
        {"state": "finished", "value": 1e308, "ended": 1e300, "started": -1e300},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_trial_of_another_program_does_no_harm(
    history: History, postgres_url: str, postgres_server: Server, changes: dict[str, Any]
) -> None:
    (row,) = history._table.rows("WHERE id = 0")
    hostile = sealed(row._replace(**changes))
    names = (*Row._fields, "seal")
    setters = ", ".join(f"{name} = %s" for name in names)
    schema = f'"bo_suite_run_{postgres_url.partition("run=")[2]}"'
    postgres_server.execute(
        f"UPDATE {schema}.trials SET {setters} WHERE id = 0", *hostile, database="bo_suite"
    )
    with suppress(BoSuiteError, TypeError, ValueError):  # who can forge a seal can spoil a run
        used(postgres_url)


def test_a_queued_point_of_another_program_is_refused(history: History, postgres_url: str) -> None:
    text = json.dumps({"lr": "__import__('os').system('touch owned')"})
    seal = f"{crc32(repr(text).encode()):08x}"
    database = history._table.database
    database.atomically(
        lambda: database.write("INSERT INTO queue (params, seal) VALUES (?, ?)", (text, seal))
    )
    with pytest.raises(BoSuiteError):
        used(postgres_url)


@pytest.mark.parametrize("text", ["[1]", "[" * 100_000, "7", "nonsense"])
def test_a_queued_point_that_is_none_is_refused(history: History, postgres_url: str, text: str) -> None:
    seal = f"{crc32(repr(text).encode()):08x}"
    database = history._table.database
    database.atomically(
        lambda: database.write("INSERT INTO queue (params, seal) VALUES (?, ?)", (text, seal))
    )
    with pytest.raises(StorageError, match=r"queued point 1 of postgresql.* must be"):
        used(postgres_url)


@pytest.mark.parametrize(
    ("trial", "action", "made", "before", "after"),
    [
        (0, "late", 1.0, "[" * 100_000, "{}"),
        (0, "late", 1.0, "[1]", "3"),
        (0, "late", 1.0, "{}", "{}"),
        (0, "late", 1.0, '{"state": "running"}', '{"state": "finished", "value": "1"}'),
        (0, "late", 1.0, '{"state": "running"}', '{"state": "finished", "outcomes": "[1]"}'),
        (0, "late", 1.0, '{"state": "running"}', '{"state": "failed", "attempt": "x"}'),
        (0, "late", math.inf, '{"state": "running"}', '{"state": "failed"}'),
        (None, "late", 1.0, '{"state": "running"}', '{"state": "failed"}'),
        (0, "extend", 1.0, '{"state": "running"}', '{"state": "failed"}'),
        (0, "eval", 1.0, '{"state": "running"}', '{"state": "failed"}'),
    ],
)
def test_a_change_that_is_none_is_refused(
    history: History, trial: int | None, action: str, made: float, before: str, after: str
) -> None:
    content = (1, trial, action, "a@b", made, before, after)
    seal = f"{crc32(repr(content).encode()):08x}"
    database = history._table.database
    database.atomically(
        lambda: database.write("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*content, seal))
    )
    with pytest.raises(StorageError, match="change 1 "):
        status_of(history)


def test_a_run_without_its_counter_is_refused(history: History) -> None:
    database = history._table.database
    database.atomically(lambda: database.write("DELETE FROM commits"))
    with pytest.raises(StorageError, match="the run was removed"):
        history.trials()

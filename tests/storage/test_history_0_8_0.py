"""Histories of version 0.8.0: read as they are, migrated by the first write, whole whatever happens.

Their rows have no seals, their tables no withdrawn trials, and what is in them may still be in a log beside.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import (
    CONTENTS,
    DATA,
    OLD,
    OLD_FIELDS,
    OLD_FINISHED,
    POINT,
    SPACE,
    change,
    old_history,
    seen,
    select,
    stored,
)

from bo_suite import Optimizer
from bo_suite.acquisition import UpperConfidenceBound
from bo_suite.errors import StorageError
from bo_suite.storage import database as module
from bo_suite.storage.history import History
from bo_suite.storage.schema import VERSION
from bo_suite.storage.sqlite import SqliteDatabase
from bo_suite.surrogates import AutoGP


def with_log(folder: Path, name: str = OLD) -> Path:
    """A file in write-ahead mode whose rows are in the log beside it alone, as a kill leaves them."""
    made, path = folder / "made.db", folder / "run.db"
    shutil.copy(DATA / name, made)
    rows, meta = select(made, "SELECT * FROM trials"), select(made, "SELECT * FROM meta")
    tables = [sql for (sql,) in select(made, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    application = select(made, "PRAGMA application_id")[0][0]
    made.unlink()
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in (f"PRAGMA application_id = {application}", *tables):
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        connection.executemany(f"INSERT INTO trials VALUES ({', '.join('?' * 13)})", rows)
        shutil.copy(made, path)
        shutil.copy(f"{made}-wal", f"{path}-wal")
    return path


@pytest.fixture(params=["file", "log"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return old_history(tmp_path) if request.param == "file" else with_log(tmp_path)


def version(path: Path) -> int:
    return int(select(path, "SELECT value FROM meta WHERE key = 'schema'")[0][0])


def test_the_files_are_what_they_are_said_to_be() -> None:
    for name in (OLD, OLD_FINISHED):
        assert (DATA / name).stat().st_size < 40_000
        assert len(CONTENTS[name]["trials"]) == 12
        assert (DATA / name).read_bytes()[18:20] == b"\2\2", "write-ahead mode"
    states = {form["state"] for form in CONTENTS[OLD]["trials"]}
    assert states == {"running", "finished", "failed"}
    assert {form["state"] for form in CONTENTS[OLD_FINISHED]["trials"]} == {"running", "finished"}


def test_it_opens_with_the_same_trials(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        assert seen(optimizer.trials) == stored(OLD)
        assert not any(trial.transient for trial in optimizer.trials)
        assert (optimizer.direction, optimizer.space) == ("maximize", SPACE)
        header = optimizer._history.header
        assert (header.seed, header.budget, header.run) == (3, 20, "")
        surrogate = AutoGP(handover=1000)  # as it was then
        assert optimizer._suggester.acquisition == UpperConfidenceBound(surrogate=surrogate, beta=1.5)
        best = max(CONTENTS[OLD]["trials"], key=lambda form: form["value"] or -9.0)
        assert optimizer.best.id == best["id"]
        assert len(optimizer.to_frame()) == 12
    assert version(path) == 1, "reading migrates nothing"
    with closing(Optimizer(SPACE, None, 3, "maximize", storage=path)) as optimizer:
        assert seen(optimizer.trials) == stored(OLD)


def test_opening_what_may_only_be_read_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_history(tmp_path)
    before = path.read_bytes()

    def barred(self: SqliteDatabase) -> None:
        raise module.NotWritable(f"not writable: {self.name}")

    monkeypatch.setattr(SqliteDatabase, "check_folder", barred)
    with closing(Optimizer.resume(path)) as optimizer:
        assert seen(optimizer.trials) == stored(OLD)
        for call in (optimizer.ask, lambda: optimizer.tell(11, 1.0), lambda: optimizer.add(POINT, 1.0)):
            with pytest.raises(StorageError, match=r"^the storage is read-only and cannot be changed, got"):
                call()
    assert path.read_bytes() == before


def test_the_next_suggestion_is_that_of_0_8_0(tmp_path: Path) -> None:
    """Where no trial has failed: failures are modelled in another way now."""
    for open_it in (
        lambda path: Optimizer.resume(path),
        lambda path: Optimizer(SPACE, None, 3, "maximize", storage=path),
    ):
        with closing(open_it(old_history(tmp_path, OLD_FINISHED))) as optimizer:
            trial, following = optimizer.ask(), CONTENTS[OLD_FINISHED]["next"]
            assert (trial.id, trial.params) == (following["id"], following["params"])
            assert "fallback" not in trial.provenance


WRITES: dict[str, Any] = {
    "ask": lambda optimizer: optimizer.ask(),
    "tell": lambda optimizer: optimizer.tell(11, 0.5, 0.25),
    "fail": lambda optimizer: optimizer.fail(11, "why", transient=True),
    "withdraw": lambda optimizer: optimizer.withdraw(11),
    "add": lambda optimizer: optimizer.add(POINT, 0.5),
    "add_failed": lambda optimizer: optimizer.add_failed(POINT, "why"),
    "reclaim": lambda optimizer: optimizer.reclaim()[0],
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_the_first_write_migrates_it(path: Path, write: Any) -> None:
    with closing(Optimizer.resume(path)) as optimizer, closing(Optimizer.resume(path)) as other:
        assert seen(other.trials) == stored(OLD)
        trial = write(optimizer)
        others = [text for number, text in enumerate(stored(OLD)) if number != trial.id]
        for one in (optimizer, other):
            assert [text for text in seen(one.trials) if text != seen([trial])[0]] == others
            assert one.trials[trial.id] == trial
        assert version(path) == VERSION
        names = [name for (_, name, *_) in select(path, "PRAGMA table_info(trials)")]
        newer = ["transient", "traceback", "outcomes", "stds", "spent", "gradient", "params_std", "seal"]
        assert names == [*OLD_FIELDS, "owner", "revision", *newer]
        assert select(path, "SELECT name FROM sqlite_master WHERE name LIKE '%_new'") == []
        assert other.add(POINT, 0.25).id == len(optimizer.trials) - 1, "who had it open before goes on"
    with closing(Optimizer.resume(path)) as optimizer:
        assert optimizer.trial(trial.id) == trial
        assert optimizer._history.header.run
    change(path, "UPDATE trials SET value = 9.5 WHERE id = 1")
    with closing(Optimizer.resume(path)) as optimizer, pytest.raises(StorageError, match=r"trial 1 .* value"):
        _ = optimizer.trials


def moments(path: Path, monkeypatch: pytest.MonkeyPatch, write: Any) -> list[str]:
    """The statements of a write."""
    noted: list[str] = []
    with closing(Optimizer.resume(path)) as optimizer:
        monkeypatch.setattr(module, "_failpoint", noted.append)
        write(optimizer)
        monkeypatch.setattr(module, "_failpoint", module._no_failpoint)
    return noted


class Killed(BaseException):
    """Stands for the end of a process."""


def killed_copies(path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[tuple[str, Path]]:
    """The files that a kill leaves, at statements of the first write."""
    spare = path.with_name("whole.db")
    shutil.copy(path, spare)
    statements = moments(path, monkeypatch, WRITES["tell"])
    assert any("CREATE TABLE trials_new" in one for one in statements)
    assert any("DROP TABLE trials" in one for one in statements)
    for stop in (*range(0, len(statements) - 1, step), len(statements) - 1):
        for file in path.parent.glob("run.db*"):
            file.unlink()
        shutil.copy(spare, path)
        copy = path.with_name(f"copy-{stop}.db")
        count = 0

        def kill(moment: str, stop: int = stop, copy: Path = copy) -> None:
            nonlocal count
            if count == stop:  # what is on the disk now is what a killed process leaves
                for file in path.parent.glob("run.db*"):
                    if not file.name.endswith("-turns"):
                        shutil.copy(file, file.with_name(file.name.replace("run.db", copy.name)))
                count += 1
                raise Killed
            count += 1

        with closing(Optimizer.resume(path)) as optimizer:
            monkeypatch.setattr(module, "_failpoint", kill)
            try:
                WRITES["tell"](optimizer)
                raise AssertionError("no kill")
            except Killed:
                pass
            finally:
                monkeypatch.setattr(module, "_failpoint", module._no_failpoint)
        yield statements[stop], copy


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_during_the_migration_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path, states = old_history(tmp_path), set()
    for moment, copy in killed_copies(path, monkeypatch, step):
        with closing(Optimizer.resume(copy)) as optimizer:
            trials = optimizer.trials
            assert seen(trials)[:11] == stored(OLD)[:11], moment
            assert len(trials) == 12, moment
            states.add((version(copy), trials[11].state))
            if trials[11].state == "running":
                assert seen(trials) == stored(OLD)
                optimizer.tell(11, 0.5)
            assert optimizer.trials[11].value == 0.5
        assert version(copy) == VERSION
    assert states == {(1, "running"), (VERSION, "running"), (VERSION, "finished")}


DAMAGE = [
    ("UPDATE trials SET params = '{}' WHERE id = 4", "trial 4 .* params"),
    ("UPDATE trials SET std = -1 WHERE id = 6", "trial 6 .* std"),
    ("UPDATE trials SET provenance = '[]' WHERE id = 10", "trial 10 .* provenance"),
    ("UPDATE trials SET owner = 'x' WHERE id = 11", "trial 11 .* owner"),
]


@pytest.mark.parametrize(("statement", "message"), DAMAGE)
def test_one_that_is_damaged_is_refused_unchanged(tmp_path: Path, statement: str, message: str) -> None:
    path = old_history(tmp_path)
    change(path, statement)
    with closing(Optimizer.resume(path)) as optimizer:
        rows = select(path, "SELECT * FROM trials"), select(path, "SELECT * FROM meta")
        for call in (optimizer.ask, lambda: optimizer.tell(3, 1.0), lambda: optimizer.add(POINT, 1.0)):
            with pytest.raises(StorageError, match=message):
                call()
            assert (select(path, "SELECT * FROM trials"), select(path, "SELECT * FROM meta")) == rows
    assert version(path) == 1


@pytest.mark.parametrize("budget", [None, 30])
def test_a_change_of_the_budget_migrates_it_or_is_refused(tmp_path: Path, budget: int | None) -> None:
    path = old_history(tmp_path)
    with closing(Optimizer(SPACE, None, 3, "maximize", budget, path)) as optimizer:
        assert seen(optimizer.trials) == stored(OLD)
    assert version(path) == (1 if budget is None else VERSION)
    path = old_history(tmp_path)
    change(path, DAMAGE[0][0])
    if budget is not None:
        with pytest.raises(StorageError, match=DAMAGE[0][1]):
            Optimizer(SPACE, None, 3, "maximize", budget, path)
    assert version(path) == 1


def test_a_copy_without_its_log_is_refused_and_never_new(tmp_path: Path) -> None:
    path = with_log(tmp_path)
    Path(f"{path}-wal").unlink()
    before = path.read_bytes()
    assert before[18:20] == b"\2\2"
    message = r"run\.db was copied without its log: copy .*run\.db-wal"
    for open_it in (
        lambda: Optimizer.resume(path),
        lambda: Optimizer(SPACE, None, 3, "maximize", storage=path),
        lambda: History.open(path, None),
    ):
        with pytest.raises(StorageError, match=message):
            open_it()
        assert path.read_bytes() == before

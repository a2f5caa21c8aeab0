"""Histories of schema 4, whose trials have no named outcomes: read as they are, migrated by a write."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from histories import FOURTH, FOURTH_CONTENTS, SPACE, change, killed_at, old_history, select

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import StorageError
from bo_suite.storage import database as module
from bo_suite.storage.schema import VERSION
from bo_suite.storage.sqlite import SqliteDatabase
from bo_suite.storage.trial import record

POINT = {"lr": 0.01, "depth": 2, "kernel": "rbf", "width": 3.0}
TRIALS = [form | {"outcomes": None, "stds": None} for form in FOURTH_CONTENTS["trials"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_history(tmp_path, FOURTH)


def version(path: Path) -> int:
    return int(select(path, "SELECT value FROM meta WHERE key = 'schema'")[0][0])


def contents(optimizer: Optimizer) -> dict[str, Any]:
    changes = [asdict(change) for change in optimizer._history.changes()]
    return {
        "trials": list(map(record, optimizer.trials)),
        "queue": optimizer.queue,
        "changes": [
            change | {name: dict(change[name]) for name in ("before", "after")} for change in changes
        ],
    }


STORED = {"trials": TRIALS} | {name: FOURTH_CONTENTS[name] for name in ("queue", "changes")}


def test_it_is_read_as_it_is_and_the_next_suggestions_are_those_of_its_version(path: Path) -> None:
    assert len(STORED["changes"]) == 3
    assert len(STORED["queue"]) == 2
    space = Space(dict(SPACE) | {"width": Float(1, 4)})
    openings: list[Callable[[], Optimizer]] = [
        lambda: Optimizer.resume(path),
        lambda: Optimizer(space, None, 3, "maximize", storage=path),
    ]
    for open_it in openings:
        with closing(open_it()) as optimizer:
            assert contents(optimizer) == STORED
            assert str(optimizer.goals) == "maximize"
            assert optimizer.best.value == max(form["value"] or -9.0 for form in TRIALS)
            assert len(optimizer.to_frame(history=True)) == 3
        assert version(path) == 4, "reading migrates nothing"
    with closing(Optimizer.resume(path)) as optimizer:
        asked = [optimizer.ask() for _ in FOURTH_CONTENTS["next"]]
    assert [{"id": one.id, "params": one.params} for one in asked] == FOURTH_CONTENTS["next"]
    assert not any("fallback" in trial.provenance for trial in asked)


def test_a_read_only_file_shows_its_queue_and_its_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def barred(self: SqliteDatabase) -> None:
        raise module.NotWritable(f"not writable: {self.name}")

    monkeypatch.setattr(SqliteDatabase, "check_folder", barred)
    with closing(Optimizer.resume(path)) as optimizer:
        assert contents(optimizer) == STORED
        for call in (optimizer.ask, optimizer.dequeue, lambda: optimizer.tell(11, 1.0)):
            with pytest.raises(StorageError, match="the storage is read-only and cannot be changed"):
                call()
        assert contents(optimizer) == STORED
    assert path.read_bytes() == before


WRITES: dict[str, Callable[[Optimizer], Any]] = {
    "tell": lambda optimizer: optimizer.tell(11, 0.5, 0.25),
    "fail": lambda optimizer: optimizer.fail(11, "no"),
    "add": lambda optimizer: optimizer.add(POINT, 0.5),
    "amend": lambda optimizer: optimizer.amend(2, 0.5),
    "forget": lambda optimizer: optimizer.forget(2),
    "enqueue": lambda optimizer: optimizer.enqueue(POINT),
    "dequeue": lambda optimizer: optimizer.dequeue(),
    "extend": lambda optimizer: optimizer.extend({"width": Float(1, 5)}),
    "ask": lambda optimizer: optimizer.ask(),
}


@pytest.mark.parametrize("write", WRITES)
def test_any_write_migrates_it_and_loses_nothing(path: Path, write: str) -> None:
    with closing(Optimizer.resume(path)) as optimizer, closing(Optimizer.resume(path)) as other:
        assert contents(other) == STORED
        WRITES[write](optimizer)
        assert version(path) == VERSION
        found = contents(other)
        assert contents(optimizer) == found
    with closing(Optimizer.resume(path)) as optimizer:
        assert contents(optimizer) == found
        assert optimizer._history.header.run != ""
    same = [new == old for new, old in zip(found["trials"], STORED["trials"], strict=False)]
    assert sum(same) >= 11, "one trial at most has changed"
    assert found["changes"][:3] == STORED["changes"]
    names = [name for (_, name, *_) in select(path, "PRAGMA table_info(trials)")]
    newer = ["traceback", "outcomes", "stds", "spent", "gradient", "params_std", "seal"]
    assert names[-7:] == newer


@pytest.mark.parametrize(("column", "value"), [("value", 0.5), ("std", 9.0), ("ended", 5.0), ("seal", "")])
def test_what_its_seals_do_not_fit_is_named_and_not_migrated(path: Path, column: str, value: Any) -> None:
    change(path, f"UPDATE trials SET {column} = ? WHERE id = 2", value)
    law = rf"trial 2 of .* with .*\b{column}\b"
    with closing(Optimizer.resume(path)) as optimizer:
        for call in (lambda: optimizer.trials, lambda: optimizer.tell(11, 0.5)):
            with pytest.raises(StorageError, match=law):
                call()
    assert version(path) == 4


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_during_the_migration_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    states, stop, alive = set(), 0, False
    while not alive:
        path, copy = old_history(tmp_path, FOURTH), tmp_path / f"copy-{stop}.db"
        alive = not killed_at(stop, path, copy, WRITES["tell"], monkeypatch)
        for file in tmp_path.glob("run.db*"):
            file.unlink()
        stop += step
        if alive:
            break
        with closing(Optimizer.resume(copy)) as optimizer:
            found = contents(optimizer)
            told = found["trials"][11]["state"] == "finished"
            states.add((version(copy), told))
            assert found | {"trials": found["trials"][:11]} == STORED | {"trials": TRIALS[:11]}
            if not told:
                assert found == STORED
                optimizer.tell(11, 0.5)
            assert optimizer.trial(11).value == 0.5
    assert stop > 30
    assert {(4, False), (VERSION, False)} <= states

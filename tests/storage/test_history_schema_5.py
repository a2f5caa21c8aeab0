"""Histories of schema 5, which have no reports: read as they are, migrated by a write."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from histories import FIFTH, FIFTH_CONTENTS, change, killed_at, old_history, select

from bo_suite import Optimizer
from bo_suite.errors import StorageError
from bo_suite.run.schedulers import ASHA
from bo_suite.storage.history import History
from bo_suite.storage.schema import VERSION
from bo_suite.storage.trial import record

STORED = {name: FIFTH_CONTENTS[name] for name in ("trials", "queue", "changes")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_history(tmp_path, FIFTH)


def version(path: Path) -> int:
    return int(select(path, "SELECT value FROM meta WHERE key = 'schema'")[0][0])


def contents(history: History) -> dict[str, Any]:
    changes = [asdict(change) for change in history.changes()]
    return {
        "trials": list(map(record, history.trials())),
        "queue": [queued.params for queued in history.queue()],
        "changes": [one | {name: dict(one[name]) for name in ("before", "after")} for one in changes],
    }


def test_it_is_read_as_it_is_and_the_next_suggestions_are_those_of_its_version(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        assert contents(optimizer._history) == STORED
        assert optimizer.scheduler is None
        assert len(optimizer.to_frame(reports=True)) == 0
        assert version(path) == 5, "reading migrates nothing"
        asked = optimizer.ask(2)
    assert [{"id": one.id, "params": one.params} for one in asked] == FIFTH_CONTENTS["next"]
    assert version(path) == VERSION


WRITES: dict[str, Callable[[History], Any]] = {
    "report": lambda history: history.report(11, 3, 0.5, verdict="continue"),
    "fail": lambda history: history.fail(11, "no"),
    "dequeue": lambda history: history.dequeue(),
}


@pytest.mark.parametrize("write", WRITES)
def test_any_write_migrates_it_for_all_who_have_it_open_and_loses_nothing(path: Path, write: str) -> None:
    with closing(History.open(path, None)) as history, closing(History.open(path, None)) as other:
        assert contents(other) == STORED
        WRITES[write](history)
        assert version(path) == VERSION
        assert contents(other) == contents(history)
        assert contents(other)["trials"][:11] == STORED["trials"][:11]
        assert other.trial(11).step == (3 if write == "report" else 0)


def test_a_kill_during_the_migration_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, alive, stop = set(), False, 0
    while not alive:
        path, copy = old_history(tmp_path, FIFTH), tmp_path / f"copy-{stop}.db"
        alive = not killed_at(stop, path, copy, lambda one: one.report(11, 3, 0.5), monkeypatch)
        stop += 9
        if alive:
            break
        with closing(History.open(copy, None)) as history:
            assert contents(history)["trials"][:11] == STORED["trials"][:11]
            states.add((version(copy), history.trial(11).step))
            if history.trial(11).step == 0:
                assert history.report(11, 3, 0.5).step == 3
    assert {(5, 0), (VERSION, 0)} <= states


def test_a_file_of_version_5_gets_no_scheduler_with_its_constraint(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        space = optimizer.space
    goals: Any = {"error": "minimize"}, {"memory": (None, 8.0)}
    with pytest.raises(ValueError, match="a scheduler needs one objective without constraints"):
        Optimizer(space, None, 3, goals[0], storage=path, constraints=goals[1], scheduler=ASHA(52))
    assert version(path) == 5


def test_a_damaged_row_is_named_and_not_migrated(path: Path) -> None:
    change(path, "UPDATE trials SET outcomes = ? WHERE id = 2", '{"error": 9.0}')
    law = r"trial 2 of .* with .*outcomes"
    with closing(History.open(path, None)) as history, pytest.raises(StorageError, match=law):
        history.report(11, 3, 0.5)
    assert version(path) == 5

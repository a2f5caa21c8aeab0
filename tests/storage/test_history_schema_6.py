"""Histories of schema 6, which have no gradients: read as they are, migrated by a write."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from histories import SIXTH, SIXTH_CONTENTS, change, killed_at, old_history, select

from bo_suite import Optimizer
from bo_suite.errors import StorageError
from bo_suite.storage.history import History
from bo_suite.storage.schema import VERSION
from bo_suite.storage.trial import record

STORED = {name: SIXTH_CONTENTS[name] for name in ("trials", "queue", "changes")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_history(tmp_path, SIXTH)


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
        assert all((one.gradient, one.params_std) == (None, None) for one in optimizer.trials)
        assert version(path) == 6, "reading migrates nothing"
        asked = optimizer.ask(2)
    assert [{"id": one.id, "params": one.params} for one in asked] == SIXTH_CONTENTS["next"]
    assert version(path) == VERSION


WRITES: dict[str, Callable[[History], Any]] = {
    "tell": lambda history: history.tell(11, -0.3, gradient={"lr": 0.1}, params_std={"depth": 1}),
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
        last = other.trials()[11]
        assert (last.gradient, last.params_std) == (
            ({"lr": 0.1}, {"depth": 1.0}) if write == "tell" else (None, None)
        )


def test_a_kill_during_the_migration_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(one: Any) -> Any:
        return one.tell(11, -0.3, gradient={"lr": 0.1})

    states, alive, stop = set(), False, 0
    while not alive:
        path, copy = old_history(tmp_path, SIXTH), tmp_path / f"copy-{stop}.db"
        alive = not killed_at(stop, path, copy, told, monkeypatch)
        stop += 11
        if alive:
            break
        with closing(History.open(copy, None)) as history:
            assert contents(history)["trials"][:11] == STORED["trials"][:11]
            states.add((version(copy), history.trials()[11].gradient is None))
            if history.trials()[11].state == "running":
                assert told(history).gradient == {"lr": 0.1}
    assert {(6, True), (VERSION, True)} <= states


def test_a_damaged_row_is_named_and_not_migrated(path: Path) -> None:
    change(path, "UPDATE trials SET value = 9.0 WHERE id = 2")
    law = r"trial 2 of .* with value: changed since it was stored"
    with closing(History.open(path, None)) as history, pytest.raises(StorageError, match=law):
        history.fail(11, "no")
    assert version(path) == 6

"""Histories of schema 2, whose rows have seals and no tracebacks: read as they are, migrated by a write."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import SECOND, SECOND_CONTENTS, SPACE, change, old_history, select

from bo_suite import Optimizer
from bo_suite.errors import StorageError
from bo_suite.storage.schema import VERSION
from bo_suite.storage.trial import Trial, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_history(tmp_path, SECOND)


def seen(trials: list[Trial]) -> list[dict[str, Any]]:
    """What trials say, as far as schema 2 does."""
    forms = [record(trial) for trial in trials]
    assert all(form.pop(name) is None for form in forms for name in ("traceback", "outcomes", "stds"))
    return forms


def version(path: Path) -> int:
    return int(select(path, "SELECT value FROM meta WHERE key = 'schema'")[0][0])


def test_it_opens_with_the_same_trials_and_the_next_suggestion(path: Path) -> None:
    for open_it in (Optimizer.resume, lambda file: Optimizer(SPACE, None, 3, "maximize", storage=file)):
        with closing(open_it(path)) as optimizer:
            assert seen(optimizer.trials) == SECOND_CONTENTS["trials"]
        assert version(path) == 2, "reading migrates nothing"
    with closing(Optimizer.resume(path)) as optimizer:
        trial, following = optimizer.ask(), SECOND_CONTENTS["next"]
        assert (trial.id, trial.params) == (following["id"], following["params"])


def test_the_first_write_migrates_it_for_all_who_have_it_open(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer, closing(Optimizer.resume(path)) as other:
        run = optimizer._history.header.run
        assert seen(other.trials) == SECOND_CONTENTS["trials"]
        failed = optimizer.fail(11, "why", traceback="line 1")
        assert version(path) == VERSION
        names = [name for (_, name, *_) in select(path, "PRAGMA table_info(trials)")]
        newer = ["transient", "traceback", "outcomes", "stds", "spent", "gradient", "params_std", "seal"]
        assert names[-8:] == newer
        for one in (optimizer, other):
            assert seen(one.trials[:11]) == SECOND_CONTENTS["trials"][:11]
            assert one.trials[11] == failed
            assert one.trials[11].traceback == "line 1"
        assert other.add({"lr": 0.01, "depth": 2, "kernel": "rbf"}, 0.5).id == 12
        assert other._history.header.run == run
    with closing(Optimizer.resume(path)) as optimizer:
        assert optimizer.trials[11].traceback == "line 1"
        assert optimizer._history.header.run == run
    change(path, "UPDATE trials SET traceback = 'line 2' WHERE id = 11")
    with (
        closing(Optimizer.resume(path)) as optimizer,
        pytest.raises(StorageError, match=r"trial 11 .* traceback"),
    ):
        _ = optimizer.trials


@pytest.mark.parametrize("field", ["value = 0.5", "reason = 'other'", "transient = 1", "seal = 'x'"])
def test_one_that_was_changed_is_refused_and_not_migrated(path: Path, field: str) -> None:
    number = 1 if field.startswith("value") else 3
    change(path, f"UPDATE trials SET {field} WHERE id = {number}")
    with closing(Optimizer.resume(path)) as optimizer:
        for call in (lambda: optimizer.trials, lambda: optimizer.tell(11, 1.0), optimizer.ask):
            with pytest.raises(StorageError, match=rf"\btrial {number}\b"):
                call()
    assert version(path) == 2


def test_another_history_in_its_place_is_not_taken_for_it(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        count = len(optimizer.trials)
        change(path, "UPDATE meta SET value = '\"another\"' WHERE key = 'run'")
        with pytest.raises(StorageError, match="now holds another history"):
            optimizer.tell(11, 1.0)
    assert count == 12
    assert version(path) == 2

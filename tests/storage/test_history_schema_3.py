"""Histories of schema 3, which have no queue and no log of changes: read as they are, migrated by a write."""

from contextlib import closing
from pathlib import Path

import pytest
from histories import THIRD, THIRD_CONTENTS, old_history, select

from bo_suite import Optimizer
from bo_suite.storage.schema import VERSION
from bo_suite.storage.trial import record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_history(tmp_path, THIRD)


def version(path: Path) -> int:
    return int(select(path, "SELECT value FROM meta WHERE key = 'schema'")[0][0])


def test_it_opens_with_the_same_trials_an_empty_queue_and_the_next_suggestion(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer:
        assert [record(trial) for trial in optimizer.trials] == [
            form | {"outcomes": None, "stds": None} for form in THIRD_CONTENTS["trials"]
        ]
        assert optimizer.queue == []
        assert len(optimizer.to_frame(history=True)) == 0
        assert version(path) == 3, "reading migrates nothing"
        trial, following = optimizer.ask(), THIRD_CONTENTS["next"]
        assert (trial.id, trial.params) == (following["id"], following["params"])


def test_queueing_migrates_it_for_all_who_have_it_open(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer, closing(Optimizer.resume(path)) as other:
        assert other.queue == []
        optimizer.enqueue({"kernel": "poly"})
        assert version(path) == VERSION
        assert other.queue == [{"kernel": "poly"}]
        assert other.ask().params["kernel"] == "poly"
        assert optimizer.queue == []
        assert other.amend(11, 0.5).value == 0.5
        assert optimizer.trial(11).value == 0.5

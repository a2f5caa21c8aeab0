"""Leases: who is silent loses its trials, who comes back too late is told so, and nothing told is lost."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import HEADER, POINT, ask

from bo_suite import Optimizer
from bo_suite.errors import SupersededError, TrialError
from bo_suite.storage import history as history_module
from bo_suite.storage import leases
from bo_suite.storage.addresses import Lease
from bo_suite.storage.history import History
from bo_suite.system import owners

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])

Opener = Callable[[float], History]
"""Opens the same run again, with leases of so many seconds."""


@pytest.fixture(params=["disk", "postgresql"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opener]:
    """Opens the run as if each history were of another host, where no process can be seen."""
    monkeypatch.setattr("bo_suite.storage.leases.has_live_owner", lambda owner, open_owners: True)
    monkeypatch.setattr("bo_suite.storage.leases.is_at_work", lambda owner: False)
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    histories = []

    def history(seconds: float) -> History:
        if url is not None:
            histories.append(History.open(f"{url}&lease={seconds}&heartbeat={seconds / 3}", HEADER))
        else:
            monkeypatch.setattr("bo_suite.storage.history.Lease", lambda: Lease(seconds, seconds / 3))
            histories.append(History.open(tmp_path / "run.db", HEADER))
        return histories[-1]

    yield history
    for one in histories:
        one.close()


def until(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What a call returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def silence(history: History) -> None:
    """Ends the heartbeat of a history, as a stop of its process does."""
    history._holding._heartbeat.stop()


def test_a_trial_stays_with_who_renews_its_lease(opened: Opener) -> None:
    mine, theirs = opened(0.6), opened(0.6)
    trial = ask(mine)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert theirs.reclaim() == []
        time.sleep(0.1)
    (holder,) = theirs.holders()
    assert holder.owner == mine.owner
    assert holder.expires is not None
    assert holder.started < holder.renewed < holder.expires
    assert mine.tell(trial.id, 0.5).attempt == 1


def test_an_expired_lease_is_taken_over_once_and_the_late_outcome_is_kept(opened: Opener) -> None:
    mine, theirs, others = opened(0.3), opened(60.0), opened(60.0)
    trial, second = ask(mine), ask(mine, depth=2)
    silence(mine)
    (taken,) = until(lambda: theirs.reclaim(most=1))
    assert (taken.id, taken.attempt, taken.params) == (trial.id, 2, trial.params)
    (rest,) = others.reclaim()
    assert (rest.id, rest.attempt) == (second.id, 2)
    assert theirs.reclaim() == []
    assert mine.owner not in {holder.owner for holder in theirs.holders()}, "nothing is left of it"
    for late in (lambda: mine.tell(trial.id, 7.0, attempt=1), lambda: mine.tell(trial.id, 8.0)):
        with pytest.raises(SupersededError, match=r"was handed out again as attempt 2, got attempt 1$"):
            late()
        assert mine.trials()[0].state == "running"
    assert theirs.tell(trial.id, 0.5, attempt=2).value == 0.5
    with pytest.raises(SupersededError):
        mine.fail(trial.id, "out of memory", attempt=1, traceback="line 1")
    assert mine.trials()[0].value == 0.5
    kept = [one for one in theirs.changes() if one.action == "late"]
    assert [(one.trial, one.after["attempt"], one.after["state"]) for one in kept] == [
        (0, 1, "finished"),
        (0, 1, "finished"),
        (0, 1, "failed"),
    ]
    assert [one.after.get("value") for one in kept] == [7.0, 8.0, None]
    assert kept[2].after["reason"] == "out of memory"
    assert kept[2].before["value"] == 0.5


def test_a_late_outcome_is_in_the_frame(opened: Opener) -> None:
    mine, theirs = opened(0.3), opened(60.0)
    trial = ask(mine)
    silence(mine)
    until(theirs.reclaim)
    with pytest.raises(SupersededError):
        mine.tell(trial.id, 7.0)
    with (
        closing(Optimizer.resume(str(theirs.place)))
        if isinstance(theirs.place, Path)
        else closing(Optimizer.resume(theirs.place)) as optimizer
    ):
        frame = optimizer.to_frame(history=True)
    assert frame["action"].tolist() == ["late"]
    assert frame["after_value"].tolist() == [7.0]


def test_a_lease_that_has_expired_and_was_not_taken_is_still_good(opened: Opener) -> None:
    mine = opened(0.2)
    trial = ask(mine)
    silence(mine)
    time.sleep(0.4)
    assert mine.tell(trial.id, 0.5).attempt == 1


def test_a_point_that_nobody_survives_fails_after_three_attempts(opened: Opener) -> None:
    first = opened(0.2)
    trial = ask(first)
    silence(first)
    for attempt in (2, 3):
        other = opened(0.2)
        (taken,) = until(other.reclaim)
        assert taken.attempt == attempt
        silence(other)
    last = opened(60.0)
    until(lambda: last.reclaim() or last.trials()[0].state == "failed")
    (failed,) = last.trials()
    assert (failed.id, failed.state, failed.attempt) == (trial.id, "failed", 3)
    assert failed.reason == leases.USED_UP.format(3)


def test_held_trials_wait_for_ever(opened: Opener) -> None:
    mine, theirs = opened(0.2), opened(60.0)
    trial = ask(mine)
    mine.hold()
    mine.close()
    time.sleep(0.5)
    assert theirs.reclaim() == []
    assert theirs.holders()[0].expires is None
    assert theirs.tell(trial.id, 0.5).value == 0.5


def test_held_trials_stay_held_when_more_are_asked_for(opened: Opener) -> None:
    mine, theirs = opened(0.3), opened(60.0)
    held = ask(mine)
    mine.hold()
    later = ask(mine)
    silence(mine)
    (taken,) = until(theirs.reclaim)
    assert taken.id == later.id
    assert theirs.reclaim() == []
    assert mine.tell(held.id, 0.5).value == 0.5


class Holder:
    """What a heartbeat asks; with `late` it begins to hold something while it is asked for the first time."""

    def __init__(self, seconds: float, late: bool = False) -> None:
        self.held, self.late, self.beats = not late, late, 0
        self.heartbeat = leases.Heartbeat(self.beat, seconds)
        self.heartbeat.start()

    def beat(self) -> bool:
        held = self.held
        self.beats += held
        if self.late and not held:
            self.held = True
            self.heartbeat.start()
        return held


def test_a_trial_that_begins_as_the_heartbeat_ends_has_one() -> None:
    holder = Holder(0.01, late=True)
    until(lambda: holder.beats > 2)
    holder.heartbeat.stop()


def test_a_heartbeat_may_be_very_slow() -> None:
    holder = Holder(1e12)
    thread = holder.heartbeat._thread
    assert thread is not None
    thread.join(0.1)
    assert thread.is_alive()
    holder.heartbeat.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_a_trial_that_is_handed_back_is_asked_next(opened: Opener) -> None:
    mine, theirs = opened(60.0), opened(60.0)
    trial = ask(mine)
    assert mine.withdraw(trial.id, attempt=1, requeue=True).state == "withdrawn"
    assert [queued.params for queued in theirs.queue()] == [POINT]
    with pytest.raises(TrialError, match="a trial ends once"):
        mine.withdraw(trial.id, attempt=1, requeue=True)


def test_a_heartbeat_ends_with_what_it_holds(opened: Opener) -> None:
    mine = opened(0.3)
    trial = ask(mine)
    thread = mine._holding._heartbeat._thread
    assert thread is not None
    assert thread.is_alive()
    mine.tell(trial.id, 0.5)
    thread.join(5)
    assert not thread.is_alive()
    ask(mine)
    assert mine._holding._heartbeat._thread is not thread, "and begins again"


def _evaluate(place: Any, ready: Any, resume: Any) -> None:
    history_module.Lease = lambda: Lease(0.9, 0.3)  # type: ignore[assignment, misc]
    history = History.open(place, HEADER)
    ask(history)
    ready.set()
    assert resume.wait(60)
    try:
        history.tell(0, 7.0)
    except SupersededError:
        os._exit(17)


@pytest.mark.parametrize("kind", ["disk", "postgresql"])
def test_a_process_that_is_stopped_for_longer_than_its_lease_loses_its_trial(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ready, resume = processes.Event(), processes.Event()
    place: Any = tmp_path / "run.db"
    if kind == "postgresql":
        place = f"{request.getfixturevalue('postgres_url')}&lease=0.9&heartbeat=0.3"
    child = processes.Process(target=_evaluate, args=(place, ready, resume))
    child.start()
    try:
        assert ready.wait(60)
        with closing(History.open(place, HEADER)) as history:
            time.sleep(1.2)
            assert history.reclaim() == [], "it lives"
            assert child.pid is not None
            os.kill(child.pid, signal.SIGSTOP)
            (taken,) = until(history.reclaim)
            os.kill(child.pid, signal.SIGCONT)
            resume.set()
            child.join(60)
            assert child.exitcode == 17, "its outcome came too late"
            assert history.tell(taken.id, 0.5).value == 0.5
            assert [one.after["value"] for one in history.changes()] == [7.0]
    finally:
        child.kill()
        child.join()


def test_a_process_on_this_host_that_cannot_renew_keeps_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bo_suite.storage.history.Lease", lambda: Lease(0.1, 0.03))
    mine, theirs = (History.open(tmp_path / "run.db", HEADER) for _ in range(2))
    trial = ask(mine)
    silence(mine)
    time.sleep(0.2)
    assert theirs.reclaim() == []
    assert mine.tell(trial.id, 0.5).attempt == 1
    mine.close()
    theirs.close()


def test_a_closed_history_of_a_file_gives_its_trials_free_at_once(tmp_path: Path) -> None:
    mine, theirs = (History.open(tmp_path / "run.db", HEADER) for _ in range(2))
    trial = ask(mine)
    assert theirs.reclaim() == []
    mine.close()
    assert [one.id for one in theirs.reclaim()] == [trial.id]
    assert owners.is_own(theirs.owner)
    theirs.close()

"""The contract of `Storage`: every implementation passes these tests; add one to KINDS and `opener`."""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from histories import HEADER, POINT, SPACE, add, ask
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite import Int, Space
from bo_suite.errors import SpaceError, StorageError, SupersededError, TrialError
from bo_suite.storage.history import History
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Header, Observation, Report, Trial

KINDS = ["disk", "memory", "postgresql"]
"""What stores a history."""

SHARED = ["disk", "postgresql"]
"""Those that processes may share."""

Opener = Callable[[Header], Storage]

NAMED = replace(
    HEADER, direction={"error": "minimize", "speed": "maximize"}, constraints={"memory": [None, 8.0]}
)
"""Of a run with several objectives and a constraint."""


def opener(kind: str, request: Any, folder: Path) -> Opener:
    """What opens an empty storage of a kind with a header, and later the same one."""
    if kind == "memory":
        return lambda header: History.open(None, header)
    place = folder / "run.db" if kind == "disk" else request.getfixturevalue("postgres_url")
    return lambda header: History.open(place, header)


@pytest.fixture(params=SHARED)
def open_shared(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    return opener(request.param, request, tmp_path)


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    opened = opener(request.param, request, tmp_path)(HEADER)
    yield opened
    opened.close()


@pytest.fixture(params=KINDS)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    opened = opener(request.param, request, tmp_path)(NAMED)
    yield opened
    opened.close()


def test_trials_are_numbered_in_order_of_asking(storage: Storage) -> None:
    before = time.time()
    first, second = storage.insert([POINT, POINT | {"depth": 5}], [{"fit_ms": 1.5}, {}], expected=0) or []
    added = add(storage, {"kernel": "poly", "depth": 1, "lr": 0.1}, 2.0, std=0.5)
    told = storage.tell(second.id, -7.25, std=0.0)
    failed = storage.fail(first.id, "out of memory")
    assert storage.trials() == [failed, told, added]
    assert [trial.id for trial in storage.trials()] == [0, 1, 2]
    assert (first.state, first.value, first.attempt, first.asked, first.ended) == (
        "running",
        None,
        1,
        True,
        None,
    )
    assert (told.state, told.value, told.std, told.params["depth"]) == ("finished", -7.25, 0.0, 5)
    assert (failed.state, failed.reason, failed.value) == ("failed", "out of memory", None)
    assert failed.provenance == {"fit_ms": 1.5}
    assert (added.asked, added.state, added.std) == (False, "finished", 0.5)
    assert list(added.params) == list(SPACE.parameters), "canonical order"
    assert told.ended is not None
    assert before <= told.started <= told.ended <= time.time()


def test_queued_points_are_kept_in_order_until_trials_replace_them(storage: Storage) -> None:
    assert storage.queue() == []
    first, second = storage.enqueue([{"kernel": "poly"}, POINT])
    (third,) = storage.enqueue([{"depth": 3}])
    assert storage.queue() == [first, second, third]
    assert list(second.params) == list(SPACE.parameters), "canonical order"
    with pytest.raises(SpaceError, match="'depth'"):
        storage.enqueue([POINT, {"depth": 99}])
    assert len(storage.queue()) == 3, "all or none"
    assert storage.insert([POINT], [{}], expected=0, queued=[second.id]) is not None
    assert storage.insert([POINT], [{}], expected=1, queued=[first.id, second.id]) is None, "one is gone"
    assert storage.insert([POINT], [{}], expected=0, queued=[first.id]) is None, "another id is next"
    assert len(storage.trials()) == 1
    assert storage.queue() == [first, third]
    assert storage.dequeue() == [first, third]
    assert storage.queue() == []
    assert storage.enqueue([POINT])[0].id > third.id, "ids are never used again"


def test_an_outcome_is_amended_in_any_state_and_what_was_there_is_kept(storage: Storage) -> None:
    running, failed, told = ask(storage), ask(storage, depth=2), ask(storage, depth=3)
    storage.fail(failed.id, "out of memory", transient=True, traceback="line 1")
    storage.tell(told.id, 1.0, std=0.25)
    before = time.time()
    amended = [storage.amend(trial.id, 7.0) for trial in (running, failed, told)]
    assert storage.trials() == amended
    assert [(one.state, one.value, one.std) for one in amended] == [
        ("finished", 7.0, None),
        ("finished", 7.0, None),
        ("finished", 7.0, 0.25),
    ]
    assert all(one.ended is not None and one.reason is None and not one.transient for one in amended)
    assert amended[1].traceback is None
    changes = storage.changes()
    assert [(change.id, change.trial, change.action) for change in changes] == [
        (1, 0, "amend"),
        (2, 1, "amend"),
        (3, 2, "amend"),
    ]
    assert [change.before["state"] for change in changes] == ["running", "failed", "finished"]
    assert (changes[1].before["reason"], changes[2].before["value"]) == ("out of memory", 1.0)
    assert all(change.after["value"] == 7.0 and "@" in change.author for change in changes)
    assert all(before <= change.made <= time.time() for change in changes)
    storage.amend(told.id, 7.0)
    assert len(storage.changes()) == 3, "nothing has changed"
    with pytest.raises(TrialError, match="already finished"):
        storage.tell(running.id, 1.0)
    for call in (lambda: storage.amend(99, 1.0), lambda: storage.forget(99, "typo")):
        with pytest.raises(TrialError, match="unknown id 99"):
            call()
    with pytest.raises(TrialError, match="finite"):
        storage.amend(0, math.nan)
    assert storage.trials() == amended


def test_a_forgotten_trial_is_withdrawn_and_can_be_restored(storage: Storage) -> None:
    trial = storage.tell(ask(storage).id, 1.0, std=0.25)
    forgotten = storage.forget(trial.id, "wrong bottle")
    assert (forgotten.state, forgotten.value, forgotten.std) == ("withdrawn", None, None)
    assert forgotten.reason == "wrong bottle"
    assert not forgotten.informative
    assert storage.forget(trial.id, "again") == forgotten
    assert [change.action for change in storage.changes()] == ["forget"]
    assert storage.amend(trial.id, 1.0, 0.25).value == trial.value
    with pytest.raises(TrialError, match="withdrawn"):
        storage.tell(storage.forget(ask(storage).id, "never mind").id, 1.0)


def test_the_space_is_replaced_and_earlier_points_stay(storage: Storage) -> None:
    add(storage, POINT | {"depth": 12}, 1.0)
    storage.enqueue([{"depth": 5}])
    wider = Space(dict(SPACE) | {"depth": Int(1, 5), "width": Int(1, 4)})
    with pytest.raises(StorageError, match="changed the space"):
        storage.extend(wider, wider, {"width": 2})
    with pytest.raises(SpaceError, match="queued"):
        storage.extend(SPACE, Space(dict(wider) | {"depth": Int(1, 4)}), {"width": 2})
    assert storage.header.space == SPACE
    storage.extend(SPACE, wider, {"width": 2})
    assert storage.header.space == wider
    assert storage.trials()[0].params == POINT | {"depth": 12, "width": 2}
    assert storage.insert([POINT], [{}], expected=0) is None, "the id"
    with pytest.raises(SpaceError, match="depth"):
        storage.insert([POINT | {"depth": 12, "width": 2}], [{}], expected=1)
    (change,) = storage.changes()
    assert (change.trial, change.action, change.before) == (None, "extend", SPACE.to_dict())
    assert change.after == wider.to_dict()


def test_a_trial_can_be_hashed_and_none_shares_its_dict_with_the_cache(storage: Storage) -> None:
    trial = ask(storage)
    trial.params["lr"] = 9.9
    assert storage.trials()[0].params == POINT
    assert {trial: 1}[trial] == 1


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "add", "tell", "fail", "list"]), st.integers(0, 9)), max_size=40
    )
)
def test_any_sequence_of_calls_agrees_with_a_plain_list(steps: list[tuple[str, int]]) -> None:
    storage, states = History.open(None, HEADER), []
    for step, number in steps:
        if step == "ask":
            ask(storage, depth=number + 1)
            states.append(("running", None))
        elif step == "add":
            add(storage, POINT, number)
            states.append(("finished", number))
        elif step == "list":
            assert [(trial.state, trial.value) for trial in storage.trials()] == states
        elif number < len(states) and states[number][0] == "running":
            ended = storage.tell(number, 0.5) if step == "tell" else storage.fail(number, "no")
            states[number] = (ended.state, ended.value)
        else:
            with pytest.raises(TrialError):
                storage.tell(number, 0.5) if step == "tell" else storage.fail(number, "no")
    assert [(trial.state, trial.value) for trial in storage.trials()] == states
    assert [trial.id for trial in storage.trials()] == list(range(len(states)))
    storage.close()


@pytest.mark.parametrize("number", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), 0.5, np.float64(0.5)])
def test_any_one_number_is_a_value(storage: Storage, number: Any) -> None:
    told = storage.tell(ask(storage).id, number, number)
    assert (told.value, told.std, type(told.value)) == (0.5, 0.5, float)
    assert math.copysign(1, add(storage, POINT, -0.0).value or 0.0) == 1, "SQLite keeps no sign of a zero"


def test_a_trial_ends_once(storage: Storage) -> None:
    first, second = ask(storage), ask(storage)
    storage.tell(first.id, 0.25)
    storage.fail(second.id, "broke")
    before = storage.trials()
    for end in (lambda n: storage.tell(n, 0.25), lambda n: storage.fail(n, "again")):
        with pytest.raises(
            TrialError, match=r"^a trial ends once: trial 0 is already finished, with value 0.25$"
        ):
            end(0)
        with pytest.raises(TrialError, match=r"^a trial ends once: trial 1 is already failed \(broke\)$"):
            end(1)
    assert storage.trials() == before


@pytest.mark.parametrize("number", [1, -1, 2**63, -(2**63), 10**30, np.int64(1)])
def test_an_unknown_trial_is_refused(storage: Storage, number: int) -> None:
    trial = ask(storage)
    with pytest.raises(
        TrialError, match=f"^a trial must be one of the 1 of the history, got unknown id {number}$"
    ):
        storage.tell(number, 1.0)
    assert storage.trials() == [trial]


def test_a_batch_is_stored_whole_or_not_at_all(storage: Storage) -> None:
    with pytest.raises(SpaceError, match="missing"):
        storage.insert([POINT, {"lr": 0.1}], [{}, {}], expected=0)
    with pytest.raises(SpaceError, match="must hold"):
        add(storage, POINT | {"depth": 13}, 1.0)
    assert storage.trials() == []
    assert storage.insert([], [], expected=0) == []


@pytest.mark.parametrize("bad", [math.nan, [math.inf], object(), torch.ones(1)])
def test_provenance_is_json_without_nan(storage: Storage, bad: Any) -> None:
    with pytest.raises(TrialError, match=r"^provenance must be JSON without NaN or infinity, got"):
        storage.insert([POINT], [{"key": bad}], expected=None)
    assert storage.trials() == []


def test_a_reason_may_hold_what_is_no_utf8(storage: Storage) -> None:
    assert storage.fail(ask(storage).id, "bad \udcff name\0").reason == "bad \\udcff name\\x00"


def test_a_closed_storage_says_so(storage: Storage) -> None:
    storage.close()
    storage.close()
    with pytest.raises(StorageError, match=r"was closed; open it again$"):
        storage.trials()


def test_threads_share_a_history(storage: Storage) -> None:
    def work() -> None:
        for _ in range(25):
            storage.tell(ask(storage).id, 1.0)
            storage.trials()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.id for trial in storage.trials()] == list(range(100))
    assert {trial.state for trial in storage.trials()} == {"finished"}


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        *(
            ((bad,), r"^a value must be a finite number \(use fail\(\) if there is none")
            for bad in (math.nan, math.inf, -math.inf, "1.0", None, True, 10**400, torch.ones(2), 1j)
        ),
        *(
            ((1.0, bad), r"^a std must be a finite number >= 0, got")
            for bad in (math.nan, math.inf, -1e-9, "1")
        ),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_outcome_that_is_not_finite_is_refused(storage: Storage, outcome: Any, message: str) -> None:
    trial = ask(storage)
    for call in (lambda: storage.tell(trial.id, *outcome), lambda: add(storage, POINT, *outcome)):
        with pytest.raises(TrialError, match=message):
            call()
    assert storage.trials() == [trial]


def test_a_taken_id_writes_nothing(open_shared: Opener) -> None:
    mine, theirs = (open_shared(HEADER) for _ in range(2))
    assert theirs.trials() == []
    assert mine.insert([POINT], [{}], expected=0) is not None
    assert theirs.insert([POINT, POINT], [{}, {}], expected=0) is None
    assert len(theirs.trials()) == 1
    assert [trial.id for trial in theirs.insert([POINT, POINT], [{}, {}], expected=1) or []] == [1, 2]
    mine.close()
    theirs.close()


def test_the_other_verbs(storage: Storage) -> None:
    with storage.turn() as own:
        assert own
        trial = ask(storage)
    assert storage.trial(trial.id) == trial
    assert storage.trial(1) is None
    withdrawn = storage.withdraw(trial.id)
    failed = storage.add_all([Observation(POINT, None, reason="broken")])[0]
    assert (withdrawn.state, withdrawn.reason) == ("withdrawn", "withdrawn")
    assert (failed.state, failed.reason, failed.asked) == ("failed", "broken", False)
    by_chance = storage.fail(ask(storage).id, "lost", transient=True, traceback="in line 1")
    assert (by_chance.transient, by_chance.traceback) == (True, "in line 1")
    assert storage.trials() == [withdrawn, failed, by_chance]
    assert storage.reclaim() == []
    assert storage.header == HEADER


def test_outcomes_are_stored_by_name(named: Storage) -> None:
    assert named.header == NAMED
    assert named.header.goals.names == ("error", "speed", "memory")
    whole, partial, failed = ask(named), ask(named, depth=2), ask(named, depth=3)
    told = named.tell(whole.id, {"memory": 4, "speed": 3.0, "error": 0.5}, {"error": 0.25})
    part = named.tell(partial.id, {"error": math.nan, "speed": 2.0})
    added = add(named, POINT, {"error": 0.1, "speed": 9.0, "memory": None}, {"speed": 0.0})
    lost = named.fail(failed.id, "out of memory")
    assert named.trials() == [told, part, lost, added]
    assert told.outcomes == {"error": 0.5, "speed": 3.0, "memory": 4.0}
    assert list(told.outcomes) == ["error", "speed", "memory"], "the order of the goals"
    assert (told.value, told.std, told.stds) == (None, None, {"error": 0.25})
    assert (part.state, part.outcomes, part.stds) == ("finished", {"error": None, "speed": 2.0}, None)
    assert (added.outcomes, added.stds) == ({"error": 0.1, "speed": 9.0}, {"speed": 0.0})
    assert (lost.outcomes, lost.stds) == (None, None)
    with pytest.raises(TrialError, match="already finished"):
        named.tell(whole.id, {"error": 0.5})


def test_outcomes_that_break_a_rule_change_nothing(named: Storage) -> None:
    trial = ask(named)
    for told, std in (
        (0.5, None),
        ({"error": math.inf}, None),
        ({"error": 0.5, "loss": 1.0}, None),
        ({"error": math.nan}, None),
        ({}, None),
        ({"error": 0.5}, 0.5),
        ({"error": 0.5}, {"error": -0.5}),
    ):
        for call in (lambda: named.tell(trial.id, told, std), lambda: add(named, POINT, told, std)):  # noqa: B023
            with pytest.raises(TrialError):
                call()
    with pytest.raises(TrialError):
        named.amend(trial.id, {"loss": 1.0})
    assert named.trials() == [trial]
    assert named.changes() == []


def test_outcomes_are_amended_and_forgotten_by_name(named: Storage) -> None:
    first, second = ask(named), ask(named, depth=2)
    named.tell(first.id, {"error": 0.5, "speed": 3.0}, {"error": 0.25})
    amended = named.amend(first.id, {"speed": 4.0, "memory": 2.0}, {"speed": 0.5})
    assert amended.outcomes == {"error": 0.5, "speed": 4.0, "memory": 2.0}
    assert amended.stds == {"error": 0.25, "speed": 0.5}
    assert named.amend(first.id, {"speed": 4.0}) == amended
    assert len(named.changes()) == 1, "nothing has changed"
    assert named.amend(second.id, {"error": 1.0}).outcomes == {"error": 1.0}, "a running trial is finished"
    forgotten = named.forget(first.id, "typo")
    assert (forgotten.outcomes, forgotten.stds, forgotten.state) == (None, None, "withdrawn")
    assert named.amend(first.id, amended.outcomes, amended.stds) == amended
    changes = named.changes()
    assert [change.action for change in changes] == ["amend", "amend", "forget", "amend"]
    assert json.loads(changes[2].before["outcomes"]) == amended.outcomes
    assert json.loads(changes[2].before["stds"]) == amended.stds
    assert changes[2].after["outcomes"] is None


def test_no_trial_shares_its_outcomes_with_the_cache(named: Storage) -> None:
    told = named.tell(ask(named).id, {"error": 0.5, "speed": 1.0}, {"error": 0.5})
    told.outcomes["error"] = 9.0  # type: ignore[index]
    told.stds["error"] = 9.0  # type: ignore[index]
    assert named.trials()[0].outcomes == {"error": 0.5, "speed": 1.0}
    assert named.trials()[0].stds == {"error": 0.5}


def test_goals_of_another_run_are_refused(open_shared: Opener) -> None:
    open_shared(NAMED).close()
    for changes, law in (
        ({"direction": "minimize"}, "another direction"),
        ({"direction": {"error": "minimize"}}, "another direction"),
        ({"constraints": None}, "another constraints"),
        ({"constraints": {"memory": [None, 9.0]}}, "another constraints"),
    ):
        with pytest.raises(StorageError, match=law):
            open_shared(replace(NAMED, **changes))
    again = open_shared(NAMED)
    assert again.header == NAMED
    again.close()


def fields_of(trial: Trial) -> list[tuple[int, float, int, str | None]]:
    return [(one.step, one.value, one.attempt, one.verdict) for one in trial.reports]


def test_reports_are_stored_by_step(storage: Storage) -> None:
    trial, other = ask(storage), ask(storage, depth=2)
    assert (trial.reports, trial.step) == ((), 0)
    first = storage.report(trial.id, 1, 0.75, seconds=2, verdict="continue")
    second = storage.report(trial.id, np.int64(3), np.float32(0.5), seconds=5.5)
    assert (second.state, second.value, second.ended, second.step) == ("running", None, None, 3)
    assert second.reports == (
        Report(1, 0.75, 2.0, 1, "continue"),
        Report(3, 0.5, 5.5, 1, None),
    )
    assert second.reports[:1] == first.reports
    decided = storage.decide(trial.id, 3, "continue")
    assert (decided.state, fields_of(decided)[1]) == ("running", (3, 0.5, 1, "continue"))
    assert storage.trials() == [decided, other]
    timed = storage.report(other.id, 1, 1.0, verdict="continue")
    assert 0.0 <= timed.reports[0].seconds < 600.0, "since it was handed out"
    told = storage.tell(trial.id, 0.25)
    assert (told.value, told.reports) == (0.25, decided.reports)
    assert storage.trials() == [told, timed]
    assert storage.trial(trial.id) == told


@pytest.mark.parametrize(("verdict", "state"), [("stop", "stopped"), ("pause", "paused")])
def test_a_verdict_ends_the_attempt_with_the_value_of_the_report(
    storage: Storage, verdict: Any, state: str
) -> None:
    trial, atonce = ask(storage), ask(storage, depth=2)
    storage.report(trial.id, 1, 0.75, verdict="continue")
    storage.report(trial.id, 3, 0.5)
    ended = storage.decide(trial.id, 3, verdict)
    assert (ended.state, ended.value, ended.std, ended.step) == (state, 0.5, None, 3)
    assert fields_of(ended)[-1] == (3, 0.5, 1, verdict)
    assert ended.ended is not None
    same = storage.report(atonce.id, 2, 0.5, verdict=verdict)
    assert (same.state, same.value) == (state, 0.5)
    assert storage.trials() == [ended, same]
    calls = (
        lambda: storage.report(trial.id, 4, 0.5),
        lambda: storage.decide(trial.id, 3, "continue"),
        lambda: storage.tell(trial.id, 0.5),
        lambda: storage.fail(trial.id, "no"),
        lambda: storage.withdraw(trial.id),
    )
    for call in calls:
        with pytest.raises(TrialError, match=f"trial 0 is already {state}"):
            call()
    assert storage.trials() == [ended, same]
    assert all(not holder.trials for holder in storage.holders()), "nothing runs"
    amended = storage.amend(trial.id, 0.25)
    assert (amended.state, amended.value, amended.reports) == ("finished", 0.25, ended.reports)
    forgotten = storage.forget(atonce.id, "wrong bottle")
    assert (forgotten.state, forgotten.value, forgotten.reports) == ("withdrawn", None, same.reports)
    assert storage.trials() == [amended, forgotten]


def test_a_paused_trial_is_continued_once_and_its_earlier_attempt_is_over(storage: Storage) -> None:
    trial = ask(storage)
    storage.report(trial.id, 1, 0.75, seconds=10.0, verdict="continue")
    storage.report(trial.id, 3, 0.5, seconds=30.0, verdict="pause")
    assert storage.promote(trial.id, 2) is None, "it is at attempt 1"
    again = storage.promote(trial.id, 1)
    assert again is not None
    assert (again.state, again.attempt, again.step, again.value, again.ended) == ("running", 2, 3, None, None)
    assert storage.promote(trial.id, 1) is None
    assert storage.trials() == [again]
    assert [holder.trials for holder in storage.holders()] == [(0,)]
    for late in (
        lambda: storage.report(trial.id, 4, 0.5, attempt=1),
        lambda: storage.decide(trial.id, 3, "stop", attempt=1),
        lambda: storage.tell(trial.id, 0.5, attempt=1),
    ):
        with pytest.raises(SupersededError, match="handed out again as attempt 2"):
            late()
    restarted = storage.report(trial.id, 1, 0.7, verdict="continue")
    assert fields_of(restarted) == [(1, 0.7, 2, "continue"), (3, 0.5, 1, "pause")]
    assert 30.0 <= restarted.reports[0].seconds < 630.0, "earlier attempts count"
    repeated = storage.report(trial.id, 3, 0.4)
    assert (repeated.state, fields_of(repeated)[1]) == ("running", (3, 0.4, 2, "pause")), "it stands"
    with pytest.raises(TrialError, match="step 3 of trial 0, which is decided already"):
        storage.decide(trial.id, 3, "stop")
    last = storage.report(trial.id, 4, 0.3, verdict="continue")
    assert storage.tell(trial.id, 0.3, attempt=2).reports == last.reports
    assert storage.promote(trial.id, 2) is None
    with pytest.raises(TrialError, match="unknown id 9"):
        storage.promote(9, 1)


def test_reports_that_break_a_rule_change_nothing(storage: Storage) -> None:
    storage.report(ask(storage).id, 3, 0.5)
    before = storage.trials()
    for arguments, message in (
        ((0, 3, 0.5), "the steps of an attempt must increase, got step 3 of trial 0 after step 3"),
        ((0, 2, 0.5), "the steps of an attempt must increase, got step 2 of trial 0 after step 3"),
        ((0, 0, 0.5), "`step >= 1` must hold, got 0"),
        ((0, 4.0, 0.5), "step must be an integer, got 4.0"),
        ((0, True, 0.5), "step must be an integer, got True"),
        ((0, 2**70, 0.5), "must hold"),
        ((0, 4, math.nan), "the value of a report must be a finite number, at step 4, got nan"),
        ((0, 4, "0.5"), "must be a finite number"),
        ((0, 4, 0.5, -1.0), "seconds must be a finite number >= 0, got -1.0"),
        ((0, 4, 0.5, math.inf), "seconds must be a finite number >= 0, got inf"),
        ((0, 4, 0.5, None, None, "end"), "a verdict must be one of continue, stop, pause, got 'end'"),
        ((1, 4, 0.5), "unknown id 1"),
    ):
        with pytest.raises(TrialError, match=re.escape(message)):
            storage.report(*arguments)  # type: ignore[arg-type]
    for step, verdict, message in (
        (4, "stop", "got step 4 of trial 0, which is not reported by this attempt"),
        (3, "end", "a verdict must be one of"),
        (0, "stop", "`step >= 1` must hold"),
    ):
        with pytest.raises(TrialError, match=re.escape(message)):
            storage.decide(0, step, verdict)  # type: ignore[arg-type]
    assert storage.trials() == before
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        storage.report(0, 4, 0.5)


def test_processes_see_the_reports_of_each_other(open_shared: Opener) -> None:
    one, two = open_shared(HEADER), open_shared(HEADER)
    first, second = ask(one), ask(two, depth=2)
    assert len(one.trials()) == len(two.trials()) == 2
    for step in (1, 2, 4):
        one.report(first.id, step, 1.0 / step, seconds=step, verdict="continue")
        two.report(second.id, step, 2.0 / step, seconds=step, verdict="pause" if step == 4 else "continue")
        assert one.trials() == two.trials()
    assert [trial.step for trial in one.trials()] == [4, 4]
    again = one.promote(second.id, 1)
    assert two.promote(second.id, 1) is None, "the other was faster"
    assert two.trial(second.id) == again
    with pytest.raises(SupersededError):
        two.report(second.id, 5, 0.1, attempt=1)
    third = open_shared(HEADER)
    assert third.trials() == one.trials() == two.trials()
    for opened in (one, two, third):
        opened.close()


def test_pauses_are_not_deaths(tmp_path: Path) -> None:
    """Two attempts end by a pause, three by a death, which are as many as are allowed."""
    open_shared = opener("disk", None, tmp_path)
    storage = open_shared(HEADER)
    trial = ask(storage)
    for step in (1, 3):
        storage.report(trial.id, step, 0.5, seconds=step, verdict="pause")
        assert storage.promote(trial.id, trial.attempt + (step == 3)) is not None
    for attempt in (4, 5):
        storage.close()
        storage = open_shared(HEADER)
        (taken,) = storage.reclaim(attempts=3)
        assert (taken.attempt, taken.step) == (attempt, 3)
    assert storage.report(trial.id, 9, 0.4).reports[-1].seconds >= 3.0
    storage.close()
    storage = open_shared(HEADER)
    assert storage.reclaim(attempts=3) == []
    assert [(one.state, one.reason, one.step) for one in storage.trials()] == [
        ("failed", "3 processes died while evaluating it", 9)
    ]
    storage.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["report", "decide", "promote", "tell", "ask"]),
            st.integers(0, 2),
            st.integers(1, 4),
            st.sampled_from(["continue", "stop", "pause", None]),
        ),
        max_size=30,
    )
)
def test_any_sequence_of_reports_agrees_with_plain_dicts(steps: list[tuple[str, int, int, Any]]) -> None:
    storage = History.open(None, HEADER)
    reports: list[dict[int, tuple[float, int, str | None]]] = []
    states: list[list[Any]] = []
    for count, (verb, number, step, verdict) in enumerate(steps):
        value = float(count)
        if verb == "ask":
            ask(storage, depth=1 + count % 12)
            reports.append({})
            states.append(["running", None, 1])
            continue
        if number >= len(states):
            continue
        own, state = reports[number], states[number]
        runs = state[0] == "running"
        applies = {
            "report": runs and step > max((at for at, one in own.items() if one[1] == state[2]), default=0),
            "decide": runs and step in own and own[step][1:] == (state[2], None) and verdict is not None,
            "promote": True,
            "tell": runs,
        }[verb]
        calls: dict[str, Callable[[], Any]] = {
            "report": lambda: storage.report(number, step, value, 0.0, verdict=verdict),  # noqa: B023
            "decide": lambda: storage.decide(number, step, verdict),  # noqa: B023
            "promote": lambda: storage.promote(number, state[2]),  # noqa: B023
            "tell": lambda: storage.tell(number, value),  # noqa: B023
        }
        if not applies:
            with pytest.raises(TrialError):
                calls[verb]()
            continue
        calls[verb]()
        if verb == "promote":
            states[number] = ["running", None, state[2] + 1] if state[0] == "paused" else state
            continue
        if verb == "tell":
            states[number][:2] = ["finished", value]
            continue
        stands = own[step][2] if step in own else None
        value = own[step][0] if verb == "decide" else value
        own[step] = (value, state[2], verdict if stands is None else stands)
        if stands is None and verdict in ("stop", "pause"):
            states[number][:2] = ["stopped" if verdict == "stop" else "paused", value]
    found = storage.trials()
    assert [[one.state, one.value, one.attempt] for one in found] == states
    assert [{r.step: (r.value, r.attempt, r.verdict) for r in one.reports} for one in found] == reports
    assert all(list(own) == sorted(own) for own in ([r.step for r in one.reports] for one in found))
    storage.close()


def test_what_is_known_by_parameter_goes_with_its_attempt(storage: Storage) -> None:
    """A trial that is handed out again has none; what a late attempt tells is a change."""
    first = ask(storage)
    told = storage.tell(first.id, 1.0, 0.1, first.attempt, {"lr": 2.0}, {"depth": 1})
    assert (told.gradient, told.params_std) == ({"lr": 2.0}, {"depth": 1.0})
    assert storage.trial(first.id) == told
    (added,) = storage.add_all([Observation(POINT, 2.0, gradient={"lr": 1.0}, params_std={"lr": 0.5})])
    assert (added.gradient, added.params_std) == ({"lr": 1.0}, {"lr": 0.5})
    amended = storage.amend(first.id, 3.0, gradient={"lr": 4.0}, params_std={"lr": 0.25})
    assert (amended.gradient, amended.params_std) == ({"lr": 4.0}, {"lr": 0.25})
    running = storage.report(ask(storage).id, 1, 0.5, verdict="pause")
    assert running.state == "paused"
    again = storage.promote(running.id, running.attempt)
    assert again is not None
    assert (again.gradient, again.params_std) == (None, None)
    with pytest.raises(SupersededError):
        storage.tell(running.id, 1.0, None, running.attempt, {"lr": 2.0})
    late = storage.changes()[-1]
    assert (late.action, late.after["gradient"]) == ("late", '{"lr": 2.0}')
    assert storage.trial(running.id) == again

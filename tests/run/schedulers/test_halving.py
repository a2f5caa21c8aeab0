"""Asynchronous halving against brute force, its guarantees, and the contract of a scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import ArgumentError
from bo_suite.run.schedulers import ASHA, PASHA, Hyperband, MedianRule, PromotionASHA
from bo_suite.storage.trial import Report, State, Trial
from bo_suite.study.scheduling import Progress, Scheduler
from bo_suite.testing import check_scheduler

LINE = Space({"x": Float(0.0, 1.0)})


def trial_of(number: int, state: State, values: dict[int, float]) -> Trial:
    """A trial with reports by step."""
    reports = tuple(Report(step, value, float(step), 1, "continue") for step, value in values.items())
    ended = None if state == "running" else 1.0
    value = reports[-1].value if state in ("finished", "stopped", "paused") else None
    reason = "why" if state in ("failed", "withdrawn") else None
    return Trial(number, {}, state, value, None, reason, 1, True, {}, 0.0, ended, reports=reports)


def progress_of(trials: Sequence[Trial], sign: float = 1.0) -> Progress:
    return Progress(trials, 0, sign, lambda: None)


def at_rung(losses: Sequence[float], states: Sequence[State], rung: int = 3) -> list[Trial]:
    return [
        trial_of(number, state, {rung: loss})
        for number, (loss, state) in enumerate(zip(losses, states, strict=True))
    ]


LOSSES = st.lists(st.integers(-4, 4), min_size=1, max_size=14)
STATES = st.sampled_from(["running", "finished", "failed", "withdrawn", "stopped", "paused"])


@given(LOSSES, st.integers(2, 4), st.data())
def test_asha_is_its_rule_by_brute_force(losses: list[int], factor: int, data: Any) -> None:
    states = [data.draw(STATES) for _ in losses[:-1]] + ["running"]
    trials = at_rung([float(loss) for loss in losses], states)
    scheduler, mirrored = (
        ASHA(9, 3, factor),
        [trial_of(t.id, t.state, {3: -t.reports[0].value}) for t in trials],
    )
    present = [loss for loss, state in zip(losses, states, strict=True) if state != "withdrawn"]
    better = sum(loss < losses[-1] for loss in present)
    goes_on = len(present) < factor or better < max(1, len(present) // factor)
    expected = "continue" if goes_on else "stop"
    assert scheduler.verdict(trials[-1], progress_of(trials)) == expected
    assert scheduler.verdict(mirrored[-1], progress_of(mirrored, -1.0)) == expected
    if losses[-1] == min(present):
        assert goes_on, "the best of a rung is never stopped"


def test_asha_judges_at_the_highest_rung_that_was_reached() -> None:
    trials = [trial_of(number, "running", {1: 1.0, 3: 9.0 - number}) for number in range(3)]
    leaper = trial_of(3, "running", {5: 7.5})
    scheduler = ASHA(30)
    assert scheduler.rungs(leaper, progress_of([])) == (1, 3, 9, 27)
    assert scheduler.verdict(leaper, progress_of([*trials, leaper])) == "stop", "worse than 7 at rung 3"
    leaper = trial_of(3, "running", {5: 6.5})
    assert scheduler.verdict(leaper, progress_of([*trials, leaper])) == "continue"


@given(st.integers(1, 200), st.integers(1, 20), st.integers(2, 5))
def test_rungs_are_powers_below_the_last_step(span: int, first: int, factor: int) -> None:
    last = first + span
    expected = tuple(first * factor**k for k in range(20) if first * factor**k < last)
    for scheduler in (ASHA(last, first, factor), PromotionASHA(last, first, factor)):
        assert scheduler.rungs(trial_of(0, "running", {}), progress_of([])) == expected


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=3), max_size=14), st.data())
def test_promotion_is_its_rule_by_brute_force(curves: list[list[int]], data: Any) -> None:
    """Trials with a value at each of one to three rungs; the last one is where a paused one waits."""
    rungs, factor = (1, 2, 4), 2
    states = [data.draw(st.sampled_from(["paused", "running", "finished", "failed"])) for _ in curves]
    trials = [
        trial_of(number, state, {rungs[k]: float(value) for k, value in enumerate(curve)})
        for number, (curve, state) in enumerate(zip(curves, states, strict=True))
    ]
    expected = None
    for k in (0, 1, 2):
        there = sorted((curve[k], number) for number, curve in enumerate(curves) if len(curve) > k)
        for _, number in there[: len(there) // factor][::-1]:
            if states[number] == "paused" and len(curves[number]) == k + 1:
                expected = number
    scheduler = PromotionASHA(8, 1, factor)
    assert scheduler.promoted(progress_of(trials)) == expected
    assert all(scheduler.verdict(trial, progress_of(trials)) == "pause" for trial in trials)


def slow_starter(number: int, step: int) -> float:
    """Curves of which that of trial 1 begins as the second best of six, and ends as the best."""
    return {0: 1.0, 1: 2.0 - 0.2 * step}.get(number, 2.0 + number)


@pytest.mark.parametrize("scheduler", [ASHA(9), PromotionASHA(9)])
def test_a_slow_starter_gets_its_chance(scheduler: Scheduler) -> None:
    optimizer = Optimizer(LINE, scheduler=scheduler)
    optimizer.enqueue([{"x": 0.1 * number} for number in range(6)])
    steps = 0
    trials = optimizer.ask(6)
    while trials:
        trial = trials.pop(0)
        for step in range(trial.step + 1, 10):
            steps += 1
            if optimizer.report(trial, step, slow_starter(trial.id, step)) == "stop":
                break
        else:
            optimizer.tell(trial, slow_starter(trial.id, 9))
        if not trials and any(one.state == "paused" for one in optimizer.trials):
            trials = [one for one in optimizer.ask(2) if one.step]
    reached = [trial.step for trial in optimizer.trials]
    assert reached[1] >= 3 * reached[2]
    assert steps < 6 * 9 / 2, "most is saved"
    if isinstance(scheduler, ASHA):
        assert optimizer.best.id == 1


@pytest.mark.parametrize("kind", [ASHA, PromotionASHA])
def test_arguments_that_make_no_rungs_are_refused(kind: Any) -> None:
    for arguments, law in (
        ((1,), "max_step must be above min_step, the first rung, got max_step = 1 and min_step = 1"),
        ((9, 27), "max_step must be above min_step, the first rung, got max_step = 9 and min_step = 27"),
        ((9, 0), "`min_step >= 1` must hold, got 0"),
        ((9, 1, 1), "`factor >= 2` must hold, got 1"),
        ((9.5,), "max_step must be an integer, got 9.5"),
        ((9, 1, 2.5), "factor must be an integer, got 2.5"),
    ):
        with pytest.raises(ArgumentError, match=law):
            kind(*arguments)
    assert kind(max_step=52).factor == 3


@pytest.mark.parametrize(
    "scheduler",
    [
        ASHA(9, 2, 2),
        PromotionASHA(52),
        Hyperband(27),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (ASHA(52), PASHA(52), MedianRule(52))),
    ],
    ids=repr,
)
def test_ours_keep_the_contract(scheduler: Scheduler) -> None:
    check_scheduler(scheduler)


@dataclass(frozen=True)
class Faulty:
    """A scheduler that breaks one rule."""

    max_step: Any = 9
    ladder: Any = (1, 3)
    answer: Any = "continue"
    promote: Any = None

    def rungs(self, trial: Trial, progress: Progress) -> Any:
        return self.ladder

    def verdict(self, trial: Trial, progress: Progress) -> Any:
        return self.answer(trial, progress) if callable(self.answer) else self.answer

    def promoted(self, progress: Progress) -> Any:
        return self.promote


def by_value(trial: Trial, progress: Progress) -> str:
    """Takes no notice of the direction."""
    return "stop" if trial.reports[-1].value > 0.3 else "continue"


def by_turns() -> Any:
    """Answers otherwise each time."""
    answers = iter(("continue", "stop") * 1000)
    return lambda trial, progress: next(answers)


@pytest.mark.parametrize(
    ("scheduler", "law"),
    [
        (Faulty(max_step=0), "max_step must be an integer of at least 1, got 0"),
        (Faulty(ladder=(3, 1)), r"rungs must be ascending integers in \[1, 9\), got \[3, 1\]"),
        (Faulty(ladder=(1, 9)), r"rungs must be ascending integers in \[1, 9\), got \[1, 9\]"),
        (Faulty(answer="end"), "a verdict must be one of .*, got 'end'"),
        (Faulty(answer=by_turns()), "a verdict must be the same at every call, got 'continue', then 'stop'"),
        (Faulty(answer="stop"), "a trial must get beyond the first step"),
        (Faulty(answer=by_value), "answers must be the same if values are negated"),
        (Faulty(answer="pause", promote=99), r"must be one of the paused ones, \[0.*, got 99"),
        (object(), "it must be a Scheduler"),
    ],
)
def test_the_check_finds_what_is_wrong(scheduler: Any, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_scheduler(scheduler)

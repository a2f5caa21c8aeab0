"""The contract of a scheduler."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bo_suite.errors import BudgetSpent
from bo_suite.space.parameters import Float
from bo_suite.space.space import Space
from bo_suite.storage.trial import VERDICTS, Trial, Verdict
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.scheduling import Progress, Scheduler
from bo_suite.testing.require import require

_TRIALS, _WORKERS, _REPORTS = 16, 3, 30
"""Of a run: number of trials, of those that run at a time, and most reports of one."""

_LINE = Space({"x": Float(0.0, 1.0)})

Event = tuple[int, int, str]
"""Of a run: the trial, the step of its report, and the answer."""


def check_scheduler(scheduler: Scheduler) -> None:
    """Check that a scheduler is what `Scheduler` promises, in runs of a few trials with known curves.

    Its rungs are ascending steps below max_step; a verdict is "continue", "stop" or "pause"; what it promotes
    is a paused trial. The same progress gets the same answers, and so does a run in which all values are
    negated and larger ones are better. Some trial gets beyond the first step.

    Args:
        scheduler: a frozen configuration; the runs make a few hundred reports.

    Raises:
        AssertionError: a broken rule; the message gives the rule and the values.
    """
    require(isinstance(scheduler, Scheduler), f"it must be a Scheduler, got {scheduler!r:.200}")
    last = scheduler.max_step
    require(
        isinstance(last, int) and last >= 1, f"max_step must be an integer of at least 1, got {last!r:.50}"
    )
    events = _run(scheduler, "minimize")
    first = min(step for _, step, _ in events)
    require(any(step > first for _, step, _ in events), "a trial must get beyond the first step")
    mirrored = _run(scheduler, "maximize")
    require(events == mirrored, "answers must be the same if values are negated and larger ones are better")


def _run(scheduler: Scheduler, direction: str) -> list[Event]:
    """What happens in a run whose trials take turns, each with one report."""
    optimizer = Optimizer(_LINE, direction=direction, seed=3, scheduler=_Watched(scheduler))
    optimizer.enqueue([{"x": (0.5 + 0.618034 * number) % 1.0} for number in range(_TRIALS)])
    last = scheduler.max_step
    steps = sorted({-(-last * (number + 1) // _REPORTS) for number in range(_REPORTS)})
    sign = 1.0 if direction == "minimize" else -1.0
    running: list[Trial] = []
    events: list[Event] = []
    while True:
        while len(running) < _WORKERS and (trial := _asked(optimizer)) is not None:
            running.append(trial)
        if not running:
            break
        trial = running.pop(0)
        step = next(step for step in steps if step > optimizer.trial(trial.id).step)
        value = sign * _curve(trial.params["x"], step / last)
        answer = optimizer.report(trial, step, value, seconds=float(step))
        events.append((trial.id, step, answer))
        if answer == "continue" and step == last:
            optimizer.tell(trial, value)
        elif answer == "continue":
            running.append(trial)
    optimizer.close()
    return events


def _asked(optimizer: Optimizer) -> Trial | None:
    """The next trial, one of the queued points; None if there is none left."""
    try:
        return optimizer.ask(budget=_TRIALS)
    except BudgetSpent:
        return None


def _curve(x: float, share: float) -> float:
    """A decaying curve; those that end lower begin higher, so that curves cross."""
    return (x - 0.3) ** 2 + (0.2 + 0.5 * abs(math.sin(9.0 * x))) * math.exp(-5.0 * share)


@dataclass(frozen=True)
class _Watched:
    """A scheduler whose answers are checked, and asked for twice."""

    scheduler: Scheduler

    @property
    def max_step(self) -> int:
        return self.scheduler.max_step

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        rungs = list(self.scheduler.rungs(trial, progress))
        law = f"rungs must be ascending integers in [1, {self.max_step}), got {rungs!r:.200}"
        whole = all(isinstance(rung, int) and 1 <= rung < self.max_step for rung in rungs)
        require(whole and rungs == sorted(set(rungs)), law)
        require(rungs == list(self.scheduler.rungs(trial, progress)), "rungs must be the same at every call")
        return rungs

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        verdict = self.scheduler.verdict(trial, progress)
        require(verdict in VERDICTS, f"a verdict must be one of {list(VERDICTS)}, got {verdict!r:.50}")
        again = self.scheduler.verdict(trial, progress)
        require(
            verdict == again, f"a verdict must be the same at every call, got {verdict!r}, then {again!r}"
        )
        return verdict

    def promoted(self, progress: Progress) -> int | None:
        number = self.scheduler.promoted(progress)
        paused = [trial.id for trial in progress.trials if trial.state == "paused"]
        law = f"a promoted trial must be one of the paused ones, {paused}, got {number!r:.50}"
        require(number is None or number in paused, law)
        again = self.scheduler.promoted(progress)
        require(
            number == again, f"the promoted trial must be the same at every call, got {number}, then {again}"
        )
        return number

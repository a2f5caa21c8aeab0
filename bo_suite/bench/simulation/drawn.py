"""Random search, with any scheduler or none."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import numpy as np
import torch

from bo_suite.bench.simulation.tuner import CurveTask, Job
from bo_suite.space.space import Params
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.scheduling import Progress, Scheduler


@dataclass(frozen=True)
class RandomCurves:
    """Independent uniform draws, stopped by a scheduler: what any model has to beat.

    It keeps its trials in lists of its own: far faster than an Optimizer, and a check of it.

    Attributes:
        name: identifies the method.
        scheduler: makes the scheduler of a last step, such as the class `ASHA`; None for whole evaluations.
    """

    name: str = "random"
    scheduler: Callable[[int], Scheduler] | None = None

    def start_curves(self, task: CurveTask) -> "DrawnTrials":
        """The draws of the task's seed."""
        generator = np.random.default_rng(task.seed)
        space = task.space

        def draw() -> Params:
            unit = torch.from_numpy(generator.random((1, space.dim)))
            return space.decode(space.encoding.sample_from_unit(unit))[0]

        return DrawnTrials(task, draw, None if self.scheduler is None else self.scheduler(task.max_step))


class DrawnTrials:
    """The run of `RandomCurves`, or of any function that draws points.

    Args:
        task: the task.
        draw: returns the next new point.
        scheduler: decides which trials go on; None if all do.
    """

    def __init__(self, task: CurveTask, draw: Callable[[], Params], scheduler: Scheduler | None) -> None:
        self._draw = draw
        self._scheduler = scheduler
        self._trials: list[Trial] = []
        sign = 1.0 if task.direction == "minimize" else -1.0
        self._progress = Progress(self._trials, task.seed, sign, _no_model)

    def ask(self) -> Job:
        """The trial that the scheduler promotes, or a new one."""
        number = None if self._scheduler is None else self._scheduler.promoted(self._progress)
        if number is None:
            number = len(self._trials)
            self._trials.append(_new_trial(number, self._draw()))
        else:
            trial = self._trials[number]
            self._trials[number] = replace(trial, state="running", attempt=trial.attempt + 1)
        trial = self._trials[number]
        return Job(number, dict(trial.params), trial.step)

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        """Stores the report, and asks the scheduler if it crosses a rung."""
        before = self._trials[trial]
        reports = (*before.reports, Report(step, value, seconds, before.attempt))
        now = self._trials[trial] = replace(before, reports=reports)
        if self._scheduler is None or step >= self._scheduler.max_step:
            return "continue"
        rungs = self._scheduler.rungs(now, self._progress)
        if not any(before.step < rung <= step for rung in rungs):
            return "continue"
        verdict = self._scheduler.verdict(now, self._progress)
        reports = (*before.reports, replace(reports[-1], verdict=verdict))
        state: Literal["running", "stopped", "paused"]
        state = {"continue": "running", "stop": "stopped", "pause": "paused"}[verdict]  # type: ignore[assignment]
        ended = None if verdict == "continue" else value
        self._trials[trial] = replace(now, reports=reports, state=state, value=ended)
        return "continue" if verdict == "continue" else "stop"

    def tell(self, trial: int, value: float) -> None:
        """Ends the trial."""
        self._trials[trial] = replace(self._trials[trial], state="finished", value=value)


def _new_trial(number: int, params: Params) -> Trial:
    return Trial(
        id=number,
        params=params,
        state="running",
        value=None,
        std=None,
        reason=None,
        attempt=1,
        asked=True,
        provenance={},
        started=0.0,
        ended=None,
    )


def _no_model() -> NoReturn:
    raise AssertionError("random search has no model of the curves")

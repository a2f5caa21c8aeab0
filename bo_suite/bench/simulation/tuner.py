"""The protocol of a tuner: it hands out jobs, takes their reports, and says which of them go on."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from bo_suite.problems.curves.base import LearningCurves
from bo_suite.space.space import Params, Space


@dataclass(frozen=True)
class Job:
    """A trial that a free worker evaluates.

    Attributes:
        id: of the trial, which its reports name.
        params: its point.
        step: the steps of it that are done: 0, or the last one before it was paused.
    """

    id: int
    params: Params
    step: int = 0


@runtime_checkable
class Tuner(Protocol):
    """The run of a method on one problem; it sees no clock but the seconds of its trials."""

    def ask(self) -> Job | None:
        """What a free worker does next; None if there is nothing to do before the next report."""

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        """Takes an outcome after a step and decides whether the trial goes on.

        Args:
            trial: the id of a job that is being evaluated.
            step: the number of the step, from 1 to `max_step`; what is returned at the last one is ignored.
            value: the outcome, in the problem's direction.
            seconds: that the trial has been evaluated for up to this step, pauses left out.
        """

    def tell(self, trial: int, value: float) -> None:
        """Takes the outcome of a trial that has reached the last step, after its report."""


@dataclass(frozen=True)
class CurveTask:
    """The input of a method on learning curves.

    Attributes:
        space: to search.
        direction: whether smaller or larger outcomes are better.
        max_step: number of steps of a whole evaluation.
        seed: of the run.
    """

    space: Space
    direction: Literal["minimize", "maximize"]
    max_step: int
    seed: int

    @staticmethod
    def of(problem: LearningCurves, seed: int) -> "CurveTask":
        """The task of a problem, from a seed."""
        return CurveTask(problem.space, problem.direction, problem.max_step, seed)


@runtime_checkable
class CurveMethod(Protocol):
    """A frozen configuration of a tuner."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    def start_curves(self, task: CurveTask) -> Tuner:
        """Starts a run on a task."""

"""Runs the tuner of another library without side effects on this process."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from bo_suite.bench.method import inside
from bo_suite.bench.peers.seeded import OwnGenerators
from bo_suite.bench.simulation.tuner import CurveTask, Job, Tuner


class SeededTuner:
    """A `Tuner` of a library, with points, warnings and generators as in `SeededPeer`."""

    def __init__(self, make: Callable[[CurveTask], Tuner], task: CurveTask) -> None:
        self._space = task.space
        self._own = OwnGenerators(task.seed)
        with self._own.in_place():
            self._library = make(task)

    def ask(self) -> Job | None:
        """What a free worker does next, at a point of the space."""
        with self._own.in_place():
            job = self._library.ask()
        return job and replace(job, params=inside(self._space, job.params))

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        """Takes an outcome after a step and decides whether the trial goes on."""
        with self._own.in_place():
            return self._library.report(trial, step, value, seconds)

    def tell(self, trial: int, value: float) -> None:
        """Takes the outcome of a trial that has reached the last step."""
        with self._own.in_place():
            self._library.tell(trial, value)

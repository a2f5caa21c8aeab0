"""The simulated clock: workers, and a queue of the steps that they end."""

import heapq
import math
from dataclasses import dataclass, field
from typing import Literal

from bo_suite.bench.simulation.result import Event, SimulatedTrial, Simulation
from bo_suite.bench.simulation.tuner import Job, Tuner
from bo_suite.errors import DataError
from bo_suite.problems.curves.base import Curve, LearningCurves
from bo_suite.values.describe import described
from bo_suite.values.numbers import number_of, require_int


def simulate(
    problem: LearningCurves, tuner: Tuner, workers: int = 1, seconds: float | None = None
) -> Simulation:
    """Runs a tuner on learning curves with workers side by side, in simulated time.

    A free worker asks the tuner for a job, and ends each step of it when the curve says. Each step is
    reported at that instant. A trial that is stopped, or has reached the last step, leaves its worker free at
    once. A trial that is handed out again goes on from its last step and takes the time of the further steps
    only. The tuner itself takes no simulated time. Steps that end at the same instant are reported in the
    order of the ids of their trials; workers that are free at the same instant ask in their order.
    A worker that gets no job asks again after each report. Equal tuners give equal simulations.

    Args:
        problem: the learning curves.
        tuner: a new one, with nothing told to it.
        workers: number of trials that are evaluated side by side.
        seconds: simulated time at which the run ends, whatever is running then. None if it ends only when the
            tuner has no more jobs and no trial is running.

    Returns:
        All reports up to that time, in order, and all trials.

    Raises:
        DataError: workers < 1, seconds are not above 0, or the tuner hands out a trial that is running or a
            step that the trial has not reached.
    """
    require_int("workers", workers, at_least=1, error=DataError)
    end = math.inf if seconds is None else number_of(seconds)
    if end is None or not end > 0.0:
        raise DataError(f"`seconds > 0` must hold, or seconds must be None, got {described(seconds)}")
    return _Clock(problem, tuner, end).run(workers)


@dataclass
class _Evaluation:
    """A trial with its curve, and how far it is."""

    job: Job
    curve: Curve
    first: float  # simulated time at which it was handed out first
    started: float  # and last
    worker: int
    step: int = 0
    base: int = 0  # steps that were done when it was handed out last
    fate: Literal["finished", "stopped", "running"] = "running"

    def moment(self, step: int) -> float:
        """The simulated time at which a step ends."""
        before = float(self.curve.seconds[self.base - 1]) if self.base else 0.0
        return self.started + (float(self.curve.seconds[step - 1]) - before)


@dataclass
class _Clock:
    """The state of a simulation."""

    problem: LearningCurves
    tuner: Tuner
    end: float
    queue: list[tuple[float, int]] = field(default_factory=list)  # (time, trial) of the steps that end next
    evaluations: dict[int, _Evaluation] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def run(self, workers: int) -> Simulation:
        """Simulates until the end."""
        now = 0.0
        idle = self._filled(list(range(workers)), now)
        while self.queue and self.queue[0][0] <= self.end:
            now, number = heapq.heappop(self.queue)
            free = self._reported(self.evaluations[number], now)
            idle = self._filled(sorted([*idle, *free]), now)
        problem, trials = self.problem, tuple(self._trial(one) for one in self.evaluations.values())
        over = now if math.isinf(self.end) else self.end
        return Simulation(problem.direction, problem.max_step, workers, over, tuple(self.events), trials)

    def _filled(self, idle: list[int], now: float) -> list[int]:
        """The workers that get no job; the others begin one."""
        for index, worker in enumerate(idle):
            if (job := self.tuner.ask()) is None:
                return idle[index:]
            self._begin(job, worker, now)
        return []

    def _begin(self, job: Job, worker: int, now: float) -> None:
        evaluation = self.evaluations.get(job.id)
        if evaluation is None:
            evaluation = _Evaluation(job, self.problem.curve(job.params), now, now, worker)
            self.evaluations[job.id] = evaluation
        elif evaluation.fate != "stopped":
            raise DataError(
                f"a trial that is handed out again must be stopped, got {job.id}, {evaluation.fate}"
            )
        if job.step != evaluation.step:
            raise DataError(f"trial {job.id} must go on from step {evaluation.step}, got {job.step}")
        evaluation.started, evaluation.worker, evaluation.base = now, worker, job.step
        evaluation.fate = "running"
        heapq.heappush(self.queue, (evaluation.moment(job.step + 1), job.id))

    def _reported(self, evaluation: _Evaluation, now: float) -> list[int]:
        """The worker, if it is free after the report of a step that has ended."""
        evaluation.step = step = evaluation.step + 1
        number, worker = evaluation.job.id, evaluation.worker
        value, seconds = float(evaluation.curve.values[step - 1]), float(evaluation.curve.seconds[step - 1])
        self.events.append(Event(now, number, step, value, worker))
        verdict = self.tuner.report(number, step, value, seconds)
        if step == self.problem.max_step:
            self.tuner.tell(number, value)
            evaluation.fate = "finished"
        elif verdict == "stop":
            evaluation.fate = "stopped"
        else:
            heapq.heappush(self.queue, (evaluation.moment(step + 1), number))
            return []
        return [worker]

    def _trial(self, one: _Evaluation) -> SimulatedTrial:
        final = float(one.curve.values[-1])
        return SimulatedTrial(one.job.id, one.job.params, one.first, one.step, one.fate, final)

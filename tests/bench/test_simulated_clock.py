"""Simulated time: schedules by hand, a plain loop over ticks, and bad tuners."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite import Choice, Optimizer, Space
from bo_suite.bench import simulate
from bo_suite.bench.simulation import (
    BoSuiteCurves,
    CurveTask,
    DrawnTrials,
    Event,
    Job,
    OptimizerTuner,
    RandomCurves,
    Simulation,
)
from bo_suite.errors import DataError
from bo_suite.problems.curves import Curve, LearningCurves, SlowStarters
from bo_suite.run.schedulers import ASHA, PASHA, Hyperband, MedianRule, PromotionASHA
from bo_suite.space.space import Params
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress


@dataclass(frozen=True)
class Listed:
    """Curves in a list: values and the seconds of each step, of the points 0, 1, ..."""

    values: tuple[tuple[float, ...], ...]
    paces: tuple[int, ...]
    name: str = "listed"
    direction: Literal["minimize", "maximize"] = "minimize"

    @property
    def space(self) -> Space:
        return Space({"i": Choice(tuple(range(len(self.values))), ordered=True)})

    @property
    def max_step(self) -> int:
        return len(self.values[0])

    def curve(self, params: Params) -> Curve:
        pace, values = self.paces[params["i"]], np.array(self.values[params["i"]], dtype=float)
        return Curve(values, pace * np.arange(1.0, len(values) + 1))


@dataclass
class Scripted:
    """Hands out points in order; halves at given rungs: a trial must be among the better half of those seen.

    With `pausing` a trial that is not is paused; one is promoted as soon as it belongs to the better half.
    """

    count: int
    rungs: tuple[int, ...]
    pausing: bool = False
    seen: dict[int, dict[int, float]] = field(default_factory=dict)
    paused: dict[int, int] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)
    handed: int = 0

    def good(self, trial: int, rung: int) -> bool:
        losses = self.seen[rung]
        better = sum(loss < losses[trial] for loss in losses.values())
        return better < max(1, len(losses) // 2)

    def ask(self) -> Job | None:
        for trial, rung in sorted(self.paused.items()):
            if self.good(trial, rung):
                del self.paused[trial]
                return Job(trial, {"i": trial}, rung)
        if self.handed == self.count:
            return None
        self.handed += 1
        return Job(self.handed - 1, {"i": self.handed - 1})

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        if step not in self.rungs:
            return "continue"
        self.seen.setdefault(step, {})[trial] = value
        if self.good(trial, step):
            return "continue"
        if self.pausing:
            self.paused[trial] = step
        return "stop"

    def tell(self, trial: int, value: float) -> None:
        self.told.append(trial)


FOUR = Listed(
    values=((5.0, 4.0, 3.0, 2.0), (6.0, 5.0, 5.0, 5.0), (4.0, 3.5, 3.0, 1.0), (4.5, 3.0, 2.0, 1.5)),
    paces=(2, 1, 3, 1),
)


def shown(simulation: Simulation) -> list[tuple[float, int, int]]:
    return [(event.seconds, event.trial, event.step) for event in simulation.events]


def test_a_schedule_of_one_worker_by_hand() -> None:
    tuner = Scripted(4, rungs=(1, 2))
    simulation = simulate(FOUR, tuner)
    expected = [
        *[(2.0, 0, 1), (4.0, 0, 2), (6.0, 0, 3), (8.0, 0, 4)],
        (9.0, 1, 1),  # 6 is behind 5: stopped
        *[(12.0, 2, 1), (15.0, 2, 2), (18.0, 2, 3), (21.0, 2, 4)],
        *[(22.0, 3, 1), (23.0, 3, 2), (24.0, 3, 3), (25.0, 3, 4)],
    ]
    assert shown(simulation) == expected
    assert [trial.fate for trial in simulation.trials] == ["finished", "stopped", "finished", "finished"]
    assert tuner.told == [0, 2, 3]
    assert simulation.incumbents() == [(8.0, 2.0), (21.0, 1.0)]
    assert simulation.incumbents(any_step=True)[:3] == [(2.0, 5.0), (4.0, 4.0), (6.0, 3.0)]
    assert simulation.seconds == 25.0
    assert [trial.final for trial in simulation.trials] == [2.0, 5.0, 1.0, 1.5]


def test_a_schedule_of_two_workers_by_hand() -> None:
    simulation = simulate(FOUR, Scripted(4, rungs=(1, 2)), workers=2)
    expected = [
        (1.0, 1, 1),  # the first at its rung goes on
        (2.0, 0, 1),  # ties are reported by id; 5 is ahead of 6
        (2.0, 1, 2),  # the first at step 2
        (3.0, 1, 3),
        (4.0, 0, 2),
        (4.0, 1, 4),  # finished: worker 1 begins trial 2
        (6.0, 0, 3),
        (7.0, 2, 1),
        (8.0, 0, 4),  # worker 0 begins trial 3
        (9.0, 3, 1),
        (10.0, 2, 2),
        (10.0, 3, 2),
        (11.0, 3, 3),
        (12.0, 3, 4),
        (13.0, 2, 3),
        (16.0, 2, 4),
    ]
    assert shown(simulation) == expected
    assert [event.worker for event in simulation.events if event.trial == 3] == [0, 0, 0, 0]
    assert simulation.events[7] == Event(7.0, 2, 1, 4.0, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_asha_keeps_the_schedules_that_were_found_by_hand(workers: int) -> None:
    by_hand = shown(simulate(FOUR, Scripted(4, rungs=(1, 2)), workers))
    points = iter([{"i": number % 4} for number in range(10)])
    listed = DrawnTrials(CurveTask.of(FOUR, 0), lambda: next(points), ASHA(4, factor=2))
    optimizer = Optimizer(FOUR.space, scheduler=ASHA(4, factor=2), budget=4)
    optimizer.enqueue([{"i": number} for number in range(4)])
    for tuner in (listed, OptimizerTuner(optimizer)):
        simulation = simulate(FOUR, tuner, workers, seconds=by_hand[-1][0])
        assert [event for event in shown(simulation) if event[1] < 4] == by_hand


def test_a_paused_trial_goes_on_from_its_step_and_pays_for_the_rest_only() -> None:
    problem = Listed(values=((1.0, 1.0), (2.0, 0.0), (3.0, 3.0), (4.0, 4.0)), paces=(3, 2, 1, 1))
    simulation = simulate(problem, Scripted(4, rungs=(1,), pausing=True))
    expected = [
        *[(3.0, 0, 1), (6.0, 0, 2)],
        *[(8.0, 1, 1), (9.0, 2, 1), (10.0, 3, 1)],  # at four losses, two are the better half
        (12.0, 1, 2),
    ]
    assert shown(simulation) == expected
    assert [trial.fate for trial in simulation.trials] == ["finished", "finished", "stopped", "stopped"]
    assert [trial.step for trial in simulation.trials] == [2, 2, 1, 1]
    assert simulation.trials[1].started == 6.0


def test_nothing_is_reported_after_the_end() -> None:
    simulation = simulate(FOUR, Scripted(4, rungs=(1, 2)), seconds=9.5)
    assert shown(simulation)[-1] == (9.0, 1, 1)
    assert [trial.fate for trial in simulation.trials] == ["finished", "stopped", "running"]
    assert simulation.seconds == 9.5
    assert simulation.trials[-1].step == 0
    assert simulation.time_to(2.5) == 8.0
    assert simulation.time_to(3.5, any_step=True) == 6.0
    assert simulation.time_to(0.5) == math.inf
    assert simulation.best_at(7.9) is None
    assert simulation.best_at(8.0) == 2.0
    assert simulation.best_at(7.9, any_step=True) == 3.0


def test_larger_outcomes_may_be_better() -> None:
    problem = Listed(values=((1.0, 2.0), (3.0, 1.5)), paces=(1, 1), direction="maximize")
    simulation = simulate(problem, Scripted(2, rungs=()))
    assert simulation.incumbents() == [(2.0, 2.0)]
    assert simulation.incumbents(any_step=True) == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert simulation.time_to(1.8) == 2.0


def by_ticks(problem: Listed, tuner: Scripted, workers: int, seconds: int) -> list[tuple[float, int, int]]:
    """A simulation in whole seconds: at each, the running trials in the order of their ids."""
    running: dict[int, tuple[int, int]] = {}  # trial -> (steps done, second at which the next one ends)
    free, reports = workers, []

    def fill(now: int) -> None:
        nonlocal free
        while free and (job := tuner.ask()) is not None:
            free -= 1
            running[job.id] = (job.step, now + problem.paces[job.params["i"]])

    fill(0)
    for now in range(1, seconds + 1):
        for trial in sorted(running):
            step, ends = running[trial]
            if ends != now:
                continue
            step += 1
            reports.append((float(now), trial, step))
            verdict = tuner.report(trial, step, problem.values[trial][step - 1], 0.0)
            if step == problem.max_step or verdict == "stop":
                del running[trial]
                free += 1
            else:
                running[trial] = (step, now + problem.paces[trial])
            fill(now)
    return reports


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_plain_loop_over_seconds_gives_the_same_reports(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    loss = st.integers(0, 20).map(float)
    values = data.draw(st.lists(st.tuples(*[loss] * 5), min_size=count, max_size=count))
    paces = data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    problem = Listed(tuple(values), tuple(paces))
    workers, pausing = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    seconds = data.draw(st.integers(1, 100))
    simulation = simulate(problem, Scripted(count, (1, 3), pausing), workers, seconds)
    assert shown(simulation) == by_ticks(problem, Scripted(count, (1, 3), pausing), workers, seconds)


@dataclass
class Given:
    """Hands out the jobs of a list."""

    jobs: list[Job]

    def ask(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        return "stop"

    def tell(self, trial: int, value: float) -> None:
        raise AssertionError("no trial reaches its last step")


@pytest.mark.parametrize(
    ("jobs", "law"),
    [
        ([(0, 0), (0, 0)], r"must be stopped, got 0, running"),
        ([(0, 0), (1, 1)], r"trial 1 must go on from step 0, got 1"),
    ],
)
def test_a_tuner_that_hands_out_what_it_cannot_is_refused(jobs: Sequence[tuple[int, int]], law: str) -> None:
    listed = [Job(number, {"i": number}, step) for number, step in jobs]
    with pytest.raises(DataError, match=law):
        simulate(FOUR, Given(listed), workers=2)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="`workers >= 1` must hold, got 0"):
        simulate(FOUR, Given([]), workers=0)
    for seconds in (0.0, -1.0, math.nan, "soon"):
        with pytest.raises(DataError, match="`seconds > 0` must hold"):
            simulate(FOUR, Given([]), seconds=seconds)  # type: ignore[arg-type]


def test_a_run_without_jobs_is_empty() -> None:
    simulation = simulate(FOUR, Given([]), workers=3)
    assert simulation == Simulation("minimize", 4, 3, 0.0, (), ())
    assert simulation.to_frame().columns.tolist() == ["seconds", "trial", "step", "value", "worker"]


@dataclass(frozen=True)
class Halving:
    """Stops at step 3 what is behind the median."""

    max_step: int

    def rungs(self, trial: Trial, progress: Progress) -> tuple[int, ...]:
        return (3,)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        losses: Mapping[int, float] = progress.losses(3)
        return "continue" if losses[trial.id] <= float(np.median(list(losses.values()))) else "stop"

    def promoted(self, progress: Progress) -> int | None:
        return None


def test_random_search_with_a_scheduler_is_reproducible_and_stops_trials() -> None:
    problem: LearningCurves = SlowStarters(9)
    method = RandomCurves("halving", Halving)
    runs = [
        simulate(problem, method.start_curves(CurveTask.of(problem, seed)), workers=3, seconds=200.0)
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    frame = runs[0].trials_frame()
    stopped = frame["fate"] == "stopped"
    assert 0.2 < stopped.mean() < 0.8
    assert (frame.loc[stopped, "step"] == 3).all()
    assert (frame.loc[frame["fate"] == "finished", "step"] == 9).all()
    assert (frame["fate"] == "running").sum() == 3


def test_random_search_without_a_scheduler_ends_every_curve() -> None:
    problem = SlowStarters(4)
    simulation = simulate(problem, RandomCurves().start_curves(CurveTask.of(problem, 0)), seconds=60.0)
    assert [trial.fate for trial in simulation.trials[:-1]] == ["finished"] * (len(simulation.trials) - 1)
    assert len(simulation.trials) > 3


def test_an_optimizer_without_a_scheduler_is_told_whole_evaluations() -> None:
    problem = SlowStarters(3)
    tuner = BoSuiteCurves().start_curves(CurveTask.of(problem, 0))
    simulation = simulate(problem, tuner, workers=2, seconds=12.0)
    finished = [trial for trial in tuner.optimizer.trials if trial.state == "finished"]
    assert [trial.value for trial in finished] == [t.final for t in simulation.trials if t.fate == "finished"]
    assert len(tuner.optimizer.trials) == len(finished) + 2


@pytest.mark.parametrize("make", [ASHA, Hyperband, MedianRule, PASHA, PromotionASHA])
def test_an_optimizer_and_plain_lists_decide_alike(make: type) -> None:
    problem = SlowStarters(10)
    optimizer = Optimizer(problem.space, scheduler=make(10), initial=1000)  # Sobol points alone
    stored = simulate(problem, OptimizerTuner(optimizer), workers=3, seconds=40.0)
    points = iter([dict(trial.params) for trial in sorted(stored.trials, key=lambda trial: trial.id)])
    task = CurveTask.of(problem, 0)
    listed = simulate(problem, DrawnTrials(task, lambda: next(points), make(10)), workers=3, seconds=40.0)
    assert stored == listed
    trials = {trial.id: trial for trial in optimizer.trials}
    fates = {"finished": "finished", "stopped": "stopped", "paused": "stopped", "running": "running"}
    assert [fates[trials[one.id].state] for one in stored.trials] == [one.fate for one in stored.trials]
    seconds = {one.id: problem.curve(one.params).seconds for one in stored.trials}
    for trial in trials.values():
        assert [report.seconds for report in trial.reports] == list(seconds[trial.id][: trial.step])
    assert len({one.fate for one in stored.trials}) > 1

"""Stopping by learning curves."""

from itertools import pairwise

import numpy as np
import pytest

from bo_suite.bench.simulation import BoSuiteCurves, CurveTask, simulate
from bo_suite.errors import ArgumentError
from bo_suite.problems.curves import SlowStarters
from bo_suite.run.schedulers import CurveStopping
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.curves import curve_belief
from bo_suite.study.scheduling import Progress
from bo_suite.testing import check_scheduler

T = 40
STEPS = np.arange(1, T + 1)


def loss(floor, speed):
    return floor + (1.0 - floor) * np.exp(-speed * STEPS / T)


def trial(number, curve, steps=T, state="finished"):
    reports = tuple(Report(t, float(curve[t - 1]), float(t), 1) for t in range(1, steps + 1))
    value = None if state == "running" else float(curve[steps - 1])
    return Trial(number, {"x": 0.0}, state, value, None, None, 1, True, {}, 0.0, 1.0, reports=reports)


def progress(trials):
    return Progress(trials, 0, 1.0, lambda: curve_belief(trials, 1.0, T))


def verdict(scheduler, others, one):
    trials = [*others, one]
    return scheduler.verdict(one, progress(trials))


SLOW = [trial(n, loss(0.02 + 0.02 * n, 4.0 + 0.3 * n)) for n in range(5)]
FAST = [trial(5 + n, loss(0.3 + 0.05 * n, 15.0 + n)) for n in range(5)]


def test_what_is_hardly_going_to_be_the_best_is_stopped():
    one = trial(10, loss(0.45, 16.0), 20, "running")
    assert verdict(CurveStopping(T), [*SLOW, *FAST], one) == "stop"


def test_a_slow_starter_goes_on_once_slow_starters_have_become_good():
    """At step 8 it is behind all fast curves, which successive halving would prefer."""
    slow = trial(10, loss(0.01, 4.0), 8, "running")
    assert slow.reports[-1].value > max(one.reports[7].value for one in FAST[:1])
    assert verdict(CurveStopping(T), [*SLOW, *FAST], slow) == "continue"


def test_before_enough_trials_have_finished_all_go_on():
    one = trial(10, loss(0.9, 16.0), 20, "running")
    assert verdict(CurveStopping(T, finished=11), [*SLOW, *FAST], one) == "continue"
    assert verdict(CurveStopping(T, finished=10), [*SLOW, *FAST], one) == "stop"


def test_the_best_at_a_step_goes_on_whatever_the_model_says():
    others = [trial(n, loss(0.3 + 0.01 * n, 10.0)) for n in range(10)]
    one = trial(10, loss(0.29, 10.2), 12, "running")
    assert verdict(CurveStopping(T, threshold=0.999), others, one) == "continue"


def test_the_threshold_is_a_probability_of_improvement():
    one = trial(10, loss(0.06, 5.0), 8, "running")
    trials = [*SLOW, *FAST, one]
    chance = curve_belief(trials, 1.0, T).probability_of_improvement(one)
    assert 0.0 < chance < 1.0
    assert CurveStopping(T, threshold=0.999 * chance).verdict(one, progress(trials)) == "continue"
    assert CurveStopping(T, threshold=1.001 * chance).verdict(one, progress(trials)) == "stop"


@pytest.mark.parametrize("last", [2, 3, 10, 52, 1000])
def test_steps_ascend_from_the_first_below_the_last(last):
    scheduler = CurveStopping(last)
    rungs = scheduler.rungs(SLOW[0], progress(SLOW))
    assert list(rungs) == sorted(set(rungs))
    assert rungs[0] == scheduler.min_step
    assert rungs[-1] < last
    assert all(after / before < 2.1 for before, after in pairwise(rungs))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_step": 1},
        {"max_step": 10, "min_step": 10},
        {"max_step": 10, "threshold": 0.0},
        {"max_step": 10, "threshold": 1.0},
        {"max_step": 10, "threshold": "high"},
        {"max_step": 10, "finished": 0},
        {"max_step": 10.5},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ArgumentError):
        CurveStopping(**arguments)


def test_it_is_a_scheduler():
    check_scheduler(CurveStopping(9, 4, finished=5))


def test_a_run_finds_a_slow_starter_that_halving_would_stop():
    problem = SlowStarters(27)
    own = BoSuiteCurves("own", lambda last: CurveStopping(last, 3))
    run = simulate(problem, own.start_curves(CurveTask.of(problem, 0)), 4, 150.0)
    finals = [one.final for one in run.trials]
    best = run.trials[int(np.argmin(finals))]
    assert best.fate != "stopped"
    assert sum(one.fate == "stopped" for one in run.trials) > 0
    assert min(finals) < 0.16

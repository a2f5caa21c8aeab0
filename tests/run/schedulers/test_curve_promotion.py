"""Promotion by learning curves."""

from dataclasses import replace

import numpy as np
import pytest

from bo_suite.errors import ArgumentError
from bo_suite.run.schedulers import CurvePromotion
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.curves import curve_belief
from bo_suite.study.scheduling import Progress
from bo_suite.testing import check_scheduler

T = 27
STEPS = np.arange(1, T + 1)


def trial(number, floor, speed, steps, state="paused", step_seconds=1.0):
    curve = floor + (1.0 - floor) * np.exp(-speed * STEPS / T)
    reports = tuple(Report(t, float(curve[t - 1]), step_seconds * t, 1, "pause") for t in range(1, steps + 1))
    value = float(curve[steps - 1])
    return Trial(number, {"x": 0.0}, state, value, None, None, 1, True, {}, 0.0, 1.0, reports=reports)


def promoted(scheduler, trials):
    return scheduler.promoted(Progress(trials, 0, 1.0, lambda: curve_belief(trials, 1.0, T)))


SLOW = [trial(n, 0.02 + 0.02 * n, 4.0 + 0.3 * n, T, "finished") for n in range(3)]
FAST = [trial(3 + n, 0.3 + 0.05 * n, 15.0 + n, T, "finished") for n in range(3)]


def test_the_one_goes_on_that_is_expected_to_become_best():
    paused = [trial(6 + n, 0.4, 16.0, 9) for n in range(16)]
    slow = trial(22, 0.01, 4.0, 9)
    assert promoted(CurvePromotion(T, 9), [*SLOW, *FAST, *paused, slow]) == 22


def test_of_equal_curves_the_one_that_takes_less_time_goes_on():
    paused = [trial(6 + n, 0.05, 4.0, 9, step_seconds=2.0 - 0.1 * n) for n in range(16)]
    assert promoted(CurvePromotion(T, 9), [*SLOW, *FAST, *paused]) == 21


def test_one_of_factor_goes_on_at_a_rung():
    scheduler = CurvePromotion(T, 9)
    trials = [trial(n, 0.05 + 0.05 * n, 4.0, 9) for n in range(7)]
    gone = 0
    while (number := promoted(scheduler, trials)) is not None:
        trials[number] = replace(trials[number], state="running")
        gone += 1
    assert gone == 2
    assert promoted(scheduler, trials[:2]) is None


def test_without_a_finished_trial_the_best_expectation_goes_on():
    trials = [trial(n, 0.4 - 0.1 * n, 10.0, 3) for n in range(4)]
    assert promoted(CurvePromotion(T, 3), trials) == 3


def test_nothing_goes_on_if_nothing_is_paused():
    assert promoted(CurvePromotion(T, 9), [*SLOW, *FAST]) is None


def test_wrong_arguments_are_refused():
    with pytest.raises(ArgumentError):
        CurvePromotion(9, 9)


def test_it_is_a_scheduler():
    check_scheduler(CurvePromotion(9, 3))

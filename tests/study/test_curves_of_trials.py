"""What learning curves say about outcomes at the last step, and what a surrogate sees of them."""

import math

import numpy as np
import pytest
import torch

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.data import Curves
from bo_suite.problems.curves import SlowStarters
from bo_suite.run.schedulers import ASHA
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.curves import LearningCurves, seconds_per_step
from bo_suite.study.observations import Observations
from bo_suite.study.provenance import fingerprint
from bo_suite.surrogates import EmpiricalPrior

T = 27
PROBLEM = SlowStarters(T)


def trial(number, steps, state="stopped", sign=1.0, every=1):
    """A trial that has reported the first steps of its curve."""
    params = {"rate": 10.0 ** -(0.3 * number % 3), "width": 4 + (37 * number) % 200}
    values, seconds = PROBLEM.curve(params)
    reported = range(every, steps + 1, every)
    reports = tuple(Report(t, sign * values[t - 1], seconds[t - 1], 1, "continue") for t in reported)
    value = None if state == "running" else sign * float(values[steps - 1])
    return Trial(number, params, state, value, None, None, 1, True, {}, 0.0, 1.0, reports=reports)


def some_trials(sign=1.0):
    whole = [trial(number, T, "finished", sign) for number in range(8)]
    return [*whole, *(trial(number, 3 + number % 7, "stopped", sign) for number in range(8, 20))]


def test_the_mean_and_variance_are_those_of_the_normal_distribution_given_the_reports():
    curves = LearningCurves.of(some_trials(), 1.0, T)
    prior = EmpiricalPrior.fit(Curves(curves.y[:, :0], curves.steps, curves.y), weight=6.0, tolerance=1e-4)
    mean, covariance = prior.values.numpy(), prior.covariance.numpy()
    for index in (8, 13, 19):
        y = curves.y[index].numpy()
        seen = ~np.isnan(y)
        weights = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen, -1])
        # the prior was learnt before the values were standardised; the expected outcome moves with the scale
        assert float(curves.mean[index]) == pytest.approx(mean[-1] + weights @ (y - mean)[seen], abs=0.02)
        left = 3.5 * (covariance[-1, -1] - weights @ covariance[seen, -1])
        assert float(curves.variance[index]) == pytest.approx(left, rel=0.1, abs=1e-4)


def test_an_unfinished_curve_is_an_observation_that_takes_the_prior_to_its_expectation():
    curves = LearningCurves.of(some_trials(), 1.0, T)
    unfinished = ~curves.noise.isnan()
    value, noise = curves.value[unfinished], curves.noise[unfinished]
    mean, variance = curves.mean[unfinished], curves.variance[unfinished]
    precision = 1.0 / variance - 1.0 / noise  # of the prior, the same for all
    assert torch.allclose(precision, precision[:1].expand_as(precision), rtol=1e-6)
    location = (mean / variance - value / noise) / precision
    assert torch.allclose(location, location[:1].expand_as(location), atol=1e-6)


def test_outcomes_of_finished_trials_are_on_the_scale_of_the_transform():
    trials = some_trials()
    curves = LearningCurves.of(trials, 1.0, T)
    told = torch.tensor([one.value for one in trials[:8]], dtype=torch.float64)
    assert torch.allclose(curves.value[:8], curves.transform(told))
    assert float(curves.value.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(curves.value.std(correction=0)) == pytest.approx(1.0)
    assert curves.noise[:8].isnan().all()


def test_a_direction_is_a_sign():
    small, large = LearningCurves.of(some_trials(), 1.0, T), LearningCurves.of(some_trials(-1.0), -1.0, T)
    assert torch.equal(small.value, large.value)
    assert torch.equal(small.variance, large.variance)


def test_reports_after_every_third_step_say_about_the_same():
    whole = [trial(number, T, "finished") for number in range(8)]
    dense = LearningCurves.of([*whole, trial(9, 12)], 1.0, T)
    sparse = LearningCurves.of([*whole, trial(9, 12, every=3)], 1.0, T)
    assert float(sparse.mean[-1]) == pytest.approx(float(dense.mean[-1]), abs=0.3)


def test_the_probability_of_improvement_follows_the_curve():
    trials = some_trials()
    best = min(trials[:8], key=lambda one: one.value)
    point = best.params
    values, seconds = PROBLEM.curve(point)

    def running(shift):
        reports = tuple(Report(t, values[t - 1] + shift, seconds[t - 1], 1) for t in range(1, 19))
        return Trial(30, point, "running", None, None, None, 1, True, {}, 0.0, None, reports=reports)

    chances = []
    for shift in (-0.1, 0.0, 0.3):
        one = running(shift)
        chances.append(LearningCurves.of([*trials, one], 1.0, T).probability_of_improvement(one))
    assert chances[0] > 0.8
    assert 0.01 < chances[1] < 0.99
    assert chances[2] < 0.05


def test_without_a_finished_trial_each_may_be_the_best():
    one = trial(0, 5)
    assert LearningCurves.of([one], 1.0, T).probability_of_improvement(one) == 1.0


def test_without_an_unfinished_report_there_is_nothing_to_say():
    assert LearningCurves.of([trial(0, T, "finished")], 1.0, T) is None
    assert LearningCurves.of([], 1.0, T) is None


def test_constant_curves_are_no_obstacle():
    reports = tuple(Report(t, 1.0, float(t), 1) for t in range(1, 6))
    trials = [
        Trial(
            n,
            {"rate": 0.1, "width": 5 + n},
            "stopped",
            1.0,
            None,
            None,
            1,
            True,
            {},
            0.0,
            1.0,
            reports=reports,
        )
        for n in range(3)
    ]
    curves = LearningCurves.of(trials, 1.0, T)
    assert torch.isfinite(curves.value).all()
    assert torch.isfinite(curves.noise).all()


def test_ten_thousand_steps_are_compared_at_a_few():
    reports = tuple(Report(t, 1.0 / t, float(t), 1) for t in range(1, 10_001))
    one = Trial(
        0, {"rate": 0.1, "width": 5}, "stopped", 1e-4, None, None, 1, True, {}, 0.0, 1.0, reports=reports
    )
    assert len(LearningCurves.of([one], 1.0, 20_000).steps) <= 13


def reporting(number, steps, state="running"):
    """A trial with the values 1 / step at some steps."""
    reports = tuple(Report(step, 1.0 / step, float(step), 1, "continue") for step in steps)
    params = {"rate": 0.1, "width": 5 + number}
    return Trial(number, params, state, None, None, None, 1, True, {}, 0.0, None, reports=reports)


def test_a_trial_with_few_reports_is_seen_wherever_they_are():
    long = [reporting(number, range(1, 101), "stopped") for number in range(3)]
    few = [reporting(3, (3,)), reporting(4, (6, 7)), reporting(5, (91, 92))]
    curves = LearningCurves.of([*long, *few], 1.0, 100)
    assert (~curves.y.isnan()).any(-1).all()
    alone = LearningCurves.of([reporting(0, (4,))], 1.0, 100)
    assert torch.isfinite(alone.value).all()


def test_what_is_above_the_last_step_is_not_compared():
    """The scheduler of a run was replaced by one with fewer steps."""
    trials = [reporting(0, range(5, 101, 5)), reporting(1, (60, 70)), trial(2, T, "finished")]
    curves = LearningCurves.of(trials, 1.0, 50)
    assert [one.id for one in curves.trials] == [0, 2]
    assert float(curves.steps[-1]) == 1.0
    assert bool((curves.steps > 0.0).all())
    assert LearningCurves.of(trials[1:], 1.0, 50) is None


def test_a_dataset_has_observations_of_unfinished_trials():
    trials = [*some_trials(), trial(20, 15, "running"), trial(21, 1, "running"), trial(22, 0, "running")]
    observations = Observations(PROBLEM.space, Optimizer(PROBLEM.space).goals, torch.device("cpu"), T)
    data = observations.dataset(trials)
    assert data.curves.x.shape[-2] == 22  # all that have reported
    assert data.x.shape[-2] + data.pending.shape[-2] == 23
    assert data.pending.shape[-2] == 2  # the one without a report, and the one that has just begun
    assert int(data.noise.isnan().sum()) == 8
    assert data.stopped.shape[-2] == 12
    assert torch.allclose(
        data.curves.seconds, torch.tensor(list(map(seconds_per_step, trials[:22]))).to(data.x)
    )
    loss = torch.tensor([trials[0].value], dtype=torch.float64)
    assert torch.allclose(observations.transform(trials)(loss), data.y[:1])


def test_a_running_trial_that_has_reported_the_last_step_is_an_observation():
    trials = [*some_trials(), trial(20, T, "running")]
    curves = LearningCurves.of(trials, 1.0, T)
    assert bool(curves.observed[-1])
    assert bool(curves.noise[-1].isnan())


def test_of_very_many_unfinished_trials_the_best_half_and_some_others_count():
    trials = [trial(0, T, "finished"), *(trial(number, 3) for number in range(1, 300))]
    curves = LearningCurves.of(trials, 1.0, T)
    observed = curves.observed
    assert observed[0]
    assert int(observed.sum()) == 201
    best = curves.mean[1:].argsort(stable=True)[:100] + 1
    assert observed[best].all()
    worst = int(curves.mean[1:].argsort(stable=True)[-1]) + 1
    assert observed[worst]


def test_known_noise_of_a_finished_trial_stays_known():
    trials = some_trials()
    noisy = Trial(
        **{**vars(trials[0]), "std": 0.01, "reports": trials[0].reports, "params": trials[0].params}
    )
    observations = Observations(PROBLEM.space, Optimizer(PROBLEM.space).goals, torch.device("cpu"), T)
    data = observations.dataset([noisy, *trials[1:]])
    slope = (data.noise[0] / 0.01**2).sqrt()
    transform = observations.transform([noisy, *trials[1:]])
    value = torch.tensor([noisy.value], dtype=torch.float64)
    difference = (transform(value + 1e-6) - transform(value - 1e-6)) / 2e-6
    assert float(slope) == pytest.approx(float(difference[0]), rel=1e-3)


def test_a_fit_to_reports_depends_on_the_last_one():
    before, after = [trial(0, 3, "running")], [trial(0, 4, "running")]
    acquisition = AdaptiveImprovement()
    assert fingerprint(acquisition, before) == fingerprint(acquisition, after)
    assert fingerprint(acquisition, before, reports=True) != fingerprint(acquisition, after, reports=True)


def test_seconds_of_a_step_are_those_of_the_last_report():
    assert seconds_per_step(trial(3, 7)) == pytest.approx(PROBLEM.curve(trial(3, 7).params).seconds[0])
    assert math.isnan(seconds_per_step(trial(3, 0, "running")))


def test_an_optimizer_learns_from_stopped_trials():
    """Where trials are stopped for their first steps, few are suggested after."""
    optimizer = Optimizer(Space({"x": Float(0.0, 1.0)}), scheduler=ASHA(9), seed=1, initial=6)
    for _ in range(16):
        one = optimizer.ask()
        for step in range(1, 10):
            value = (one.params["x"] - 0.8) ** 2 + 1.0 / step
            if optimizer.report(one, step, value) == "stop":
                break
        else:
            optimizer.tell(one, (one.params["x"] - 0.8) ** 2)
    suggested = [one.params["x"] for one in optimizer.trials[6:]]
    assert len(set(suggested)) == len(suggested)
    assert np.median(np.abs(np.array(suggested) - 0.8)) < 0.1
    assert any(one.state == "stopped" for one in optimizer.trials)
    assert optimizer.best.value < 1e-3

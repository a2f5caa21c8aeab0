"""Hyperband, PASHA and the median rule: against plain definitions, and what none of them may stop."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite.errors import ArgumentError
from bo_suite.run.schedulers import ASHA, PASHA, Hyperband, MedianRule, PromotionASHA
from bo_suite.storage.trial import Report, State, Trial
from bo_suite.study.scheduling import Progress, Scheduler

Curves = Sequence[Sequence[float]]


def trial(number: int, values: Sequence[float], state: State = "running") -> Trial:
    reports = tuple(Report(step, value, float(step), 1) for step, value in enumerate(values, start=1))
    return Trial(
        id=number,
        params={"x": 0.5},
        state=state,
        value=None,
        std=None,
        reason=None,
        attempt=1,
        asked=True,
        provenance={},
        started=0.0,
        ended=None,
        reports=reports,
    )


def progress_of(trials: Sequence[Trial], seed: int = 0, sign: float = 1.0) -> Progress:
    return Progress(trials, seed, sign, lambda: None)


def evaluated(scheduler: Scheduler, curves: Curves, order: Sequence[int]) -> Progress:
    """The trials of whole curves, whose steps come in an order; as they are when no one goes on.

    Args:
        scheduler: the scheduler.
        curves: a curve each trial.
        order: of which trial the next step is, by position among those that run.
    """
    trials = [trial(number, ()) for number in range(len(curves))]
    progress = progress_of(trials)
    for pick in order:
        running = [one for one in trials if one.state == "running"]
        if not running:
            if (number := scheduler.promoted(progress)) is None:
                return progress
            trials[number] = replace(trials[number], state="running")
            continue
        one = running[pick % len(running)]
        step = one.step + 1
        report = Report(step, curves[one.id][step - 1], float(step), 1)
        now = trials[one.id] = replace(one, reports=(*one.reports, report))
        if step == scheduler.max_step:
            trials[one.id] = replace(now, state="finished")
        elif step in scheduler.rungs(now, progress):
            verdict = scheduler.verdict(now, progress)
            state: dict[str, State] = {"continue": "running", "stop": "stopped", "pause": "paused"}
            trials[one.id] = replace(now, state=state[verdict])
    return progress


def drawn_curves(data: st.DataObject, count: int, steps: int) -> list[list[float]]:
    loss = st.integers(-6, 6).map(float)
    return data.draw(st.lists(st.lists(loss, min_size=steps, max_size=steps), min_size=count, max_size=count))


STOPPING: list[Callable[[int], Scheduler]] = [ASHA, Hyperband, lambda n: MedianRule(n, 2, min_trials=2)]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(STOPPING))
def test_the_best_at_a_rung_is_never_stopped_there(
    data: st.DataObject, make: Callable[[int], Scheduler]
) -> None:
    scheduler, count = make(10), data.draw(st.integers(1, 12))
    order = data.draw(st.lists(st.integers(0, count), min_size=1, max_size=120))
    progress = evaluated(scheduler, drawn_curves(data, count, 10), order)
    for one in progress.trials:
        if one.state == "stopped":
            rung = one.step
            earlier = [loss for number, loss in progress.losses(rung).items() if number != one.id]
            assert min(earlier) < progress.loss(one, rung)  # someone there is better


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([PromotionASHA, PASHA]))
def test_the_best_paused_trial_of_a_rung_is_promoted_first(
    data: st.DataObject, make: Callable[[int], Scheduler]
) -> None:
    scheduler, count = make(10), data.draw(st.integers(1, 12))
    order = data.draw(st.lists(st.integers(0, count), min_size=1, max_size=120))
    progress = evaluated(scheduler, drawn_curves(data, count, 10), order)
    number = scheduler.promoted(progress)
    if number is not None:
        promoted = progress.trials[number]
        assert promoted.state == "paused"
        same = [one for one in progress.trials if one.state == "paused" and one.step == promoted.step]
        assert min(one.reports[-1].value for one in same) == promoted.reports[-1].value
        better = sum(one.step >= promoted.step for one in progress.trials)
        assert better >= 3


def test_shares_of_the_brackets_are_hyperbands() -> None:
    counts = np.array([81.0, 33.75, 15.0, 7.5, 5.0])  # 5 / (h + 1) * 3^h for h = 4, ..., 0
    assert Hyperband(81).shares == pytest.approx(counts / counts.sum())
    assert sum(Hyperband(81).shares) == pytest.approx(1.0)


def test_brackets_are_drawn_with_their_shares_from_seed_and_id_alone() -> None:
    scheduler = Hyperband(52)
    drawn = np.array([scheduler.bracket(number, seed=3) for number in range(4000)])
    shares = np.array(scheduler.shares)
    deviations = np.sqrt(shares * (1 - shares) / len(drawn))
    assert (np.abs(np.bincount(drawn, minlength=5) / len(drawn) - shares) < 5 * deviations).all()
    other = np.array([scheduler.bracket(number, seed=4) for number in range(4000)])
    agreement = (drawn == other).mean()  # of independent draws: the sum of the squared shares
    assert abs(agreement - (shares**2).sum()) < 0.05
    rungs = (1, 3, 9, 27)
    progress = progress_of([], seed=3)
    for number in range(50):
        assert tuple(scheduler.rungs(trial(number, ()), progress)) == rungs[drawn[number] :]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_hyperband_is_halving_within_each_bracket(data: st.DataObject) -> None:
    scheduler, count = Hyperband(10, factor=2), data.draw(st.integers(1, 25))
    step = data.draw(st.sampled_from([1, 2, 4, 8]))
    values = data.draw(st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count))
    trials = [trial(number, [value] * step) for number, value in enumerate(values)]
    progress = progress_of(trials, seed=data.draw(st.integers(0, 9)))
    for one in trials:
        if step not in scheduler.rungs(one, progress):
            continue
        own = scheduler.bracket(one.id, progress.seed)
        inside = [two for two in trials if scheduler.bracket(two.id, progress.seed) == own]
        ahead = sum(values[two.id] < values[one.id] for two in inside)
        expected = "continue" if len(inside) < 2 or ahead < len(inside) // 2 else "stop"
        assert scheduler.verdict(one, progress) == expected


SLOW = [9.0] * 4 + [0.0] * 6
"""Behind all others for four steps, ahead of them then."""


def crossing(count: int) -> list[list[float]]:
    return [SLOW if number % 3 == 0 else [5.0 + number / 100] * 10 for number in range(count)]


def test_a_slow_starter_gets_its_chance_in_a_later_bracket() -> None:
    order = [0] * 2000  # one trial after another
    halved = evaluated(ASHA(10), crossing(60), order)
    assert {one.state for one in halved.trials[3::3]} == {"stopped"}
    scheduler = Hyperband(10)
    banded = evaluated(scheduler, crossing(60), order)
    late = [one for one in banded.trials[::3] if scheduler.bracket(one.id, 0) >= 2]
    assert len(late) >= 2
    assert {one.state for one in late} == {"finished"}


def test_a_slow_starter_gets_its_chance_under_the_median_rule() -> None:
    order = [0] * 2000
    early = evaluated(MedianRule(10, min_step=2), crossing(60), order)
    assert "stopped" in {one.state for one in early.trials[::3]}
    late = evaluated(MedianRule(10, min_step=5), crossing(60), order)
    assert {one.state for one in late.trials[::3]} == {"finished"}
    assert "stopped" in {one.state for one in late.trials[1::3]}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_median_rule_is_as_defined(data: st.DataObject) -> None:
    count, steps = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 6))
    sign = data.draw(st.sampled_from([1.0, -1.0]))
    curves = np.array(drawn_curves(data, count, steps))
    scheduler = MedianRule(8, min_step=2, min_trials=3)
    trials = [trial(number, curve) for number, curve in enumerate(curves)]
    losses = sign * curves
    others = losses[1:].mean(axis=1)
    stopped = losses[0].min() > np.median(others) and losses[0, -1] > losses[1:, -1].min()
    expected = "stop" if stopped and count > 3 else "continue"
    assert scheduler.verdict(trials[0], progress_of(trials, sign=sign)) == expected


def test_the_mean_of_the_largest_losses_is_finite() -> None:
    trials = [trial(0, [1.7e308] * 3), trial(1, [1.0e308] * 3)]
    assert MedianRule(9, min_trials=1).verdict(trials[0], progress_of(trials)) == "stop"


def test_the_steps_of_the_median_rule() -> None:
    rungs = MedianRule(52).rungs(trial(0, ()), progress_of([]))
    assert (rungs[0], rungs[1], rungs[-1]) == (6, 7, 51)
    assert list(MedianRule(10, 3, every=3).rungs(trial(0, ()), progress_of([]))) == [3, 6, 9]


def paused(curves: Curves) -> Progress:
    return progress_of([trial(number, curve, "paused") for number, curve in enumerate(curves)])


def test_the_top_of_pasha_rises_only_if_the_ranking_changes() -> None:
    scheduler = PASHA(30)
    assert scheduler.top(progress_of([])) == 3
    agreeing = [[3.0, 3.0, 3.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.5], [4.0], [5.0], [6.0]]
    assert scheduler.top(paused(agreeing)) == 3
    swapped = [[3.0, 3.0, 1.0], *agreeing[1:]]
    assert scheduler.top(paused(swapped)) == 9
    assert scheduler.promoted(paused(agreeing)) is None
    assert scheduler.promoted(paused(swapped)) == 0
    steady = [[3.0] * 9, *([float(k)] * 3 for k in (4, 5, 6))]
    assert scheduler.top(paused(steady)) == 9  # where a trial is, the top stays
    far = [[1.0] * 8 + [2.0], [2.0] * 8 + [1.0], [3.0] * 3]
    assert scheduler.top(paused(far)) == 27
    last = [[1.0] * 26 + [2.0], [2.0] * 26 + [1.0], [3.0] * 9]
    assert scheduler.top(paused(last)) == 30


def test_noise_of_curves_that_cross_twice_does_not_raise_the_top() -> None:
    scheduler = PASHA(30, min_step=3)
    noisy = [
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0],
        [1.5] * 9,
        [5.0] * 9,
    ]
    assert scheduler.top(paused(noisy)) == 9  # ranks alike at 3 and 9
    swapped = [[*noisy[0][:8], 2.0], *noisy[1:]]
    assert scheduler.top(paused(swapped)) == 9  # 0.5 apart at 3, as epsilon is at 9
    wider = [[*noisy[0][:2], 0.5, *noisy[0][3:8], 2.0], *noisy[1:]]
    assert scheduler.top(paused(wider)) == 27  # 1 apart at 3: more than epsilon


def soft_groups_agree(below: Sequence[float], top: Sequence[float], epsilon: float) -> bool:
    """By groups: at each position of the level below, the trials within epsilon of the one there."""
    ranked = sorted(range(len(below)), key=lambda i: below[i])
    groups = [{j for j in ranked if abs(below[j] - below[i]) <= epsilon} for i in ranked]
    best = sorted(range(len(top)), key=lambda i: (top[i], i))
    return all(number in group for number, group in zip(best, groups, strict=True))


def double_crossings(curves: np.ndarray) -> list[float]:
    """|gap| at the last step of pairs with c ahead, behind, ahead at three steps, by brute force."""
    distances = []
    for i in range(len(curves)):
        for j in range(i):
            gaps = curves[i] - curves[j]
            steps = range(len(gaps))
            triples = [(a, b, c) for a in steps for b in steps for c in steps if a < b < c]
            if any(gaps[a] * gaps[b] < 0 and gaps[b] * gaps[c] < 0 for a, b, c in triples):
                distances.append(abs(gaps[-1]))
    return distances


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_soft_ranking_of_pasha_is_as_defined(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    curves = np.array(drawn_curves(data, count, 4))
    crossings = double_crossings(curves)
    epsilon = float(np.quantile(crossings, 0.9)) if crossings else 0.0
    settled = soft_groups_agree(curves[:, 1], curves[:, 3], epsilon)
    assert PASHA(100, min_step=2, factor=2).top(paused(curves)) == (4 if settled else 8)


@pytest.mark.parametrize("make", [Hyperband, PASHA, MedianRule])
def test_a_last_step_below_the_first_rung_is_refused(make: Callable[..., Scheduler]) -> None:
    with pytest.raises(ArgumentError, match="max_step must be above min_step"):
        make(3, min_step=3)
    with pytest.raises(ArgumentError, match="min_step"):
        make(3, min_step=0)
    with pytest.raises(ArgumentError, match="max_step must be an integer"):
        make(2.5)

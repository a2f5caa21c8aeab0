"""Statistics of a suite, against scipy, against truth, and by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bench_suites import ended, one_row, suite
from scipy import stats

from bo_suite.bench.bootstrap import median_interval
from bo_suite.bench.pairs import pairs
from bo_suite.bench.signed_ranks import (
    differences,
    holm,
    rank_biserial,
    rank_biserial_interval,
    seeds_needed,
    signed_rank_p,
)
from bo_suite.bench.statistics import compare
from bo_suite.bench.trajectories import trajectories
from bo_suite.errors import DataError

INF = math.inf


def strata(problems: int, seeds: int) -> np.ndarray:
    return np.repeat(np.arange(problems), seeds)


# Runs and what they leave


def test_the_incumbent_is_the_noise_free_value_of_the_best_observation_if_it_is_recorded() -> None:
    true = np.array([np.nan, 3.0, 5.0, 2.0]).reshape(1, 1, 1, 4)
    noise = np.array([0.0, 1.0, -2.0, 1.5]).reshape(1, 1, 1, 4)  # observed: none, 4, 3, 3.5
    paths = trajectories(suite(true, best=1.0, noise=noise))
    np.testing.assert_array_equal(paths.incumbent, [[np.nan, 3.0, 5.0, 5.0]])
    np.testing.assert_array_equal(paths.regret, [[np.nan, 2.0, 4.0, 4.0]])
    np.testing.assert_array_equal(paths.normalized, [[np.nan, 1.0, 2.0, 2.0]])
    np.testing.assert_allclose(paths.optimizer_seconds, [0.75 * np.arange(1, 5)])
    without = suite(np.array([3.0, 2.0]).reshape(1, 1, 1, 2))
    without.evaluations["true_value"] = np.nan
    np.testing.assert_array_equal(trajectories(without).incumbent, [[3.0, 2.0]])  # as observed


def test_regret_is_to_the_best_value_found_where_none_is_known_and_never_negative() -> None:
    values = np.array([[4.0, 2.0], [6.0, 5.0]]).reshape(1, 2, 1, 2)
    np.testing.assert_array_equal(compare(suite(values, best=np.nan)).finals["regret"], [0.0, 3.0])
    np.testing.assert_array_equal(compare(suite(values, best=3.0)).finals["regret"], [0.0, 2.0])
    # The reference is the median of the first values, 5, so the span is 3.
    np.testing.assert_allclose(compare(suite(values, best=np.nan)).finals["normalized"], [0.0, 1.0])


def test_a_crashed_unit_counts_as_the_worst_and_one_that_timed_out_keeps_its_incumbent() -> None:
    records = suite(np.full((1, 2, 2, 4), 1.0) * np.array([8.0, 4.0, 2.0, 1.0]))
    records = ended(records, "m0", 0, state="crashed", after=2)
    records = ended(records, "m1", 1, state="timed out", after=3)
    final = compare(records).finals
    assert list(final["incumbent"]) == [INF, 1.0, 1.0, 2.0]
    assert one_row(final, method="m0", seed=0)[["regret", "normalized", "auc"]].tolist() == [INF] * 3
    paths = trajectories(records)  # rows m0 0, m0 1, m1 0, m1 1
    assert paths.incumbent[0].tolist() == [8.0, 4.0, 4.0, 4.0]
    assert paths.regret[0].tolist() == [8.0, 4.0, INF, INF]
    assert paths.normalized[0].tolist() == [1.0, 0.5, INF, INF]
    assert paths.incumbent[3].tolist() == [8.0, 4.0, 2.0, 2.0]
    assert paths.optimizer_seconds[3].tolist()[2:] == [3 * 0.75] * 2
    failed = compare(records).failures.set_index("method")
    assert failed.loc["m0", ["crashed", "timed_out", "finished"]].tolist() == [1, 0, 1]
    assert failed.loc["m1", ["timed_out", "reason"]].tolist() == [1, "timed out it was"]


def test_the_area_under_the_curve_is_the_mean_logarithm_of_the_normalised_regret() -> None:
    values = np.array([1.0, 0.1, 0.001, 0.0]).reshape(1, 1, 1, 4)
    assert compare(suite(values)).finals["auc"].item() == pytest.approx((0 - 1 - 3 - 9) / 4)
    # Evaluations before the first success count as the largest regret of any run. First values: 1, 100 and 1.
    values = np.array([[np.nan, 1.0], [100.0, 1.0], [1.0, 1.0]]).reshape(1, 3, 1, 2)
    assert compare(suite(values)).finals["auc"].tolist() == [1.0, 1.0, 0.0]


def test_budgets_may_differ_between_problems() -> None:
    records = suite(np.broadcast_to(np.array([4.0, 2.0, 1.0]), (2, 2, 2, 3)))
    records.problems["budget"] = [2, 3]
    assert compare(records).curves.groupby("problem")["evaluation"].max().tolist() == [2, 3]
    assert compare(records).finals["incumbent"].tolist() == [2.0] * 4 + [1.0] * 4


def test_records_that_do_not_fit_together_are_refused() -> None:
    records = suite(np.ones((1, 2, 2, 2)))
    twice = pd.concat([records.evaluations] * 2)
    for damaged, message in (
        (replace(records, units=records.units.iloc[:0]), "at least one unit that has ended"),
        (replace(records, evaluations=twice), "more than once"),
        (replace(records, problems=records.problems.iloc[:0]), "but not the problem"),
        (ended(records, "m0", 0, state="paused", after=1), "state"),
    ):
        with pytest.raises(DataError, match=message):
            compare(damaged)


# Medians, curves and profiles


@pytest.mark.parametrize("count", [6, 7, 19, 20])
def test_the_interval_of_a_median_is_that_of_every_possible_resample(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    low, high = median_interval(values)
    if count <= 7:
        resamples = np.array(list(itertools.product(values, repeat=count)))
    else:
        resamples = np.random.default_rng(0).choice(values, (40_000, count))
    medians = np.sort(np.median(resamples, axis=1))
    share = len(medians) / 40
    slack = 0.0 if count <= 7 else 6 * math.sqrt(share)
    for end, place in ((low, share), (high, len(medians) - share)):
        assert np.searchsorted(medians, end * (1 - 1e-12)) <= place + slack
        assert np.searchsorted(medians, end * (1 + 1e-12)) >= place - slack


def test_the_interval_of_a_median_agrees_with_scipy_and_covers() -> None:
    generator = np.random.default_rng(3)
    values = generator.exponential(size=(2000, 20))
    low, high = median_interval(values)
    covered = ((low <= math.log(2)) & (math.log(2) <= high)).mean()
    assert 0.92 < covered < 0.98
    peer = stats.bootstrap((values[0],), np.median, n_resamples=20_000, method="percentile", rng=generator)
    np.testing.assert_allclose((low[0], high[0]), peer.confidence_interval, rtol=0.02)


def test_the_interval_of_a_median_takes_infinities() -> None:
    assert median_interval(np.array([1.0, 2.0, 3.0, INF, INF, INF])) == (1.5, INF)


def test_intervals_are_given_only_from_as_many_seeds_on_as_let_them_cover() -> None:
    generator = np.random.default_rng(9)
    low, high = median_interval(generator.normal(size=(4000, 6)))
    assert ((low < 0.0) & (high > 0.0)).mean() > 0.88
    assert np.isnan(median_interval(generator.normal(size=(3, 5)))).all()
    values = generator.normal(size=29)
    assert np.isnan(rank_biserial_interval(values[:-20], strata(3, 3))).all()
    uneven = np.repeat([0, 1, 2], [20, 5, 4])
    assert np.isnan(rank_biserial_interval(values, uneven)).all()
    assert np.isfinite(rank_biserial_interval(values[:25], uneven[:25])).all()
    few, enough = (suite(generator.lognormal(size=(2, 2, seeds, 3))) for seeds in (4, 5))
    for records, given in ((few, False), (enough, True)):
        assert compare(records).overall_curves["normalized_low"].notna().all() == given
        assert compare(records).ranks.table["low"].notna().all() == given
        assert compare(records).curves["regret_low"].isna().all()
        assert compare(records).summary["low"].isna().all()


def test_curves_hold_the_medians_of_the_runs() -> None:
    records = suite(np.random.default_rng(0).lognormal(size=(2, 2, 6, 6)))
    paths, found = trajectories(records).normalized.reshape(2, 2, 6, 6), compare(records).curves
    np.testing.assert_allclose(found["normalized"], np.median(paths, axis=2).ravel())
    assert (found["normalized_low"] <= found["normalized"]).all()
    assert (found["normalized"] <= found["normalized_high"]).all()
    overall = compare(records).overall_curves
    np.testing.assert_allclose(overall["normalized"], np.median(paths, axis=(0, 2)).ravel())
    assert (overall["normalized_low"] < overall["normalized_high"]).all()


def test_curves_and_profiles_lose_a_run_from_its_crash_on_and_agree_with_what_counts_in_the_end() -> None:
    records = suite(np.full((1, 2, 2, 3), 1.0) * np.array([8.0, 0.0, 0.0]))
    for seed, after in ((0, 2), (1, 3)):  # the second after its last evaluation
        records = ended(records, "m0", seed, state="crashed", after=after)
        records = ended(records, "m1", seed, state="timed out", after=after)
    final = compare(records).finals.groupby("method")["normalized"].median()
    assert final.tolist() == [INF, 0.0]
    overall, own = compare(records).overall_curves, compare(records).curves
    for frame in (overall, own):
        steps = frame.pivot(index="method", columns="evaluation", values="normalized")
        assert steps.loc["m0"].tolist() == [1.0, 0.0, INF]
        assert steps[3].tolist() == final.tolist()
    shares = compare(records).profile.pivot(index="method", columns="evaluation", values="share")
    np.testing.assert_allclose(shares, [[1 / 41, 1.0, 0.0], [1 / 41, 1.0, 1.0]])
    timed = compare(records).profile_over_time.groupby("method")["share"].last()
    assert timed.tolist() == [0.0, 1.0]
    later = compare(records).overall_curves_over_time.groupby("method")["normalized"].last()
    assert later.tolist() == final.tolist()


def test_regret_is_normalised_by_the_first_regrets_that_there_are() -> None:
    values = np.array([[0.0, 0.0], [0.0, 0.0], [8.0, 4.0]]).reshape(1, 3, 1, 2)
    assert compare(suite(values)).finals["normalized"].tolist() == [0.0, 0.0, 0.5]
    noise = np.array([0.0, -5.0]).reshape(1, 1, 1, 2)  # which leads away from the minimum
    misled = suite(np.array([[0.0, 4.0], [0.0, 2.0]]).reshape(1, 2, 1, 2), noise=noise)
    assert compare(misled).finals["normalized"].tolist() == [1.0, 0.5]
    nothing = compare(suite(np.zeros((1, 2, 1, 2)))).finals
    assert nothing["normalized"].tolist() == [0.0, 0.0]


def test_curves_over_time_are_steps_of_the_optimiser_seconds() -> None:
    records = suite(np.array([[8.0, 4.0, 2.0], [8.0, 4.0, 1.0]]).reshape(1, 2, 1, 3))
    slow = records.evaluations["method"] == "m1"
    records.evaluations.loc[slow, "ask_seconds"] = 99.75
    own = dict(list(compare(records).overall_curves_over_time.groupby("method")))
    times = own["m0"]["optimizer_seconds"].to_numpy()
    assert times[0] == pytest.approx(0.75)
    assert times[-1] == pytest.approx(300.0)
    fast = np.array([1.0, 0.5, 0.25])[np.minimum(times / 0.75 + 1e-9, 3).astype(int) - 1]
    np.testing.assert_array_equal(own["m0"]["normalized"], fast)
    steps = np.array([INF, 1.0, 0.5, 0.125])[(times / 100 + 1e-9).astype(int)]
    np.testing.assert_array_equal(own["m1"]["normalized"], steps)


def test_a_profile_is_the_share_of_targets_reached_which_stay_reached_if_noise_misleads() -> None:
    values = np.array([[1.0, 10**-1.05, 1e-9], [1.0, 1.0, 0.1]]).reshape(1, 2, 1, 3)
    found = compare(suite(values))
    shares = found.profile.pivot(index="method", columns="evaluation", values="share")
    np.testing.assert_allclose(shares, np.array([[1, 11, 41], [1, 1, 11]]) / 41)
    assert found.profile_over_time.groupby("method")["share"].max().tolist() == pytest.approx([1.0, 11 / 41])
    misled = suite(np.array([1.0, 1e-5, 0.5]).reshape(1, 1, 1, 3), noise=np.array([0.0, 0.0, -1.0]))
    assert compare(misled).profile["share"].tolist() == pytest.approx([1 / 41, 1.0, 1.0])


# Tests, effects and corrections


@pytest.mark.parametrize(
    ("count", "shift", "method"),
    [*((n, 0.4, "exact") for n in (4, 9, 12, 20, 45)), (1500, 0.03, "asymptotic")],
)
def test_the_signed_rank_test_is_wilcoxons_on_one_problem(count: int, shift: float, method: str) -> None:
    values = np.random.default_rng(count).normal(shift, size=count)
    expected = stats.wilcoxon(values, method=method, correction=False).pvalue
    assert signed_rank_p(values, np.zeros(count)) == pytest.approx(expected, rel=1e-9)


def test_many_strata_of_different_sizes_have_no_common_denominator_that_fits() -> None:
    labels = np.repeat(np.arange(10), [20, 23, 27, 30, 33, 37, 41, 46, 52, 58])
    values = np.random.default_rng(2).normal(0.1, size=len(labels))
    own = [stats.rankdata(abs(values[labels == k])) for k in range(10)]
    ranks = np.concatenate([one / one.sum() for one in own])
    expected = 2 * stats.norm.sf(abs(np.sign(values) @ ranks) / np.linalg.norm(ranks))
    assert signed_rank_p(values, labels) == pytest.approx(expected, rel=1e-9)


def test_ties_are_ranked_as_pratt_ranks_them() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 3.0, 3.0, -5.0, 7.0])
    method = stats.PermutationMethod(n_resamples=10_000)  # all of the 2^10 there are
    expected = stats.wilcoxon(values, zero_method="pratt", method=method).pvalue
    assert signed_rank_p(values, np.zeros(10)) == pytest.approx(expected, rel=1e-9)


def test_the_stratified_test_is_that_of_all_sign_flips_with_problems_of_equal_weight() -> None:
    labels = np.array([0] * 6 + [1] * 4 + [2] * 2)
    values = np.array([1.0, -2.0, 3.0, 3.0, 5.0, 0.0, INF, 1.0, -3.0, 2.0, 0.5, INF])
    weights = np.concatenate([stats.rankdata(np.abs(values[labels == k])) for k in range(3)])
    weights = weights / np.array([6 * 7 / 2, 4 * 5 / 2, 2 * 3 / 2])[labels] * (values != 0)
    flips = np.array(list(itertools.product([-1, 1], repeat=12)))
    observed = abs(np.sign(values) @ weights)
    assert signed_rank_p(values, labels) == pytest.approx((abs(flips @ weights) >= observed - 1e-9).mean())
    assert rank_biserial(values, labels) == pytest.approx(np.sign(values) @ weights / 3)


def test_no_level_is_exceeded_over_all_outcomes_that_are_equally_likely() -> None:
    sizes, labels = np.array([1.0, 2.0, 2.0, 4.0, 7.0, 1.0, 1.0, 3.0, 9.0]), np.array([0] * 5 + [1] * 4)
    flips = np.array(list(itertools.product([-1, 1], repeat=9)))
    p = np.sort([signed_rank_p(flip * sizes, labels) for flip in flips])
    assert (np.searchsorted(p, p * (1 + 1e-9)) / len(p) <= p * (1 + 1e-9)).all()
    assert p[0] == pytest.approx(2 / 2**9)


def test_crashes_are_the_worst_and_tie_with_each_other() -> None:
    gains = differences([INF, 1.0, INF, 2.0], [1.0, INF, INF, 2.0])
    np.testing.assert_array_equal(gains, [INF, -INF, 0.0, 0.0])
    assert signed_rank_p(gains, np.zeros(4)) == 1.0
    assert signed_rank_p(np.zeros(7), np.zeros(7)) == 1.0
    with pytest.raises(DataError, match="NaN"):
        signed_rank_p([np.nan, 1.0], [0, 0])


def test_the_rank_biserial_correlation_by_hand() -> None:
    assert rank_biserial([3.0, -1.0, 2.0, 4.0], np.zeros(4)) == pytest.approx((3 + 2 + 4 - 1) / 10)
    assert rank_biserial([1.0, 2.0, -5.0], [0, 0, 1]) == 0.0


def test_the_interval_of_the_effect_covers_it_and_repeats() -> None:
    generator = np.random.default_rng(5)
    labels = strata(4, 15)
    truth = rank_biserial(generator.normal(0.4, size=4000), np.zeros(4000))
    ends = np.array([rank_biserial_interval(generator.normal(0.4, size=60), labels) for _ in range(200)])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert covered > 0.88
    values = generator.normal(size=60)
    assert rank_biserial_interval(values, labels) == rank_biserial_interval(values, labels)


def test_holms_correction_on_a_worked_example() -> None:
    # Holm's steps of 0.01, 0.04, 0.03, 0.005: 4 x 0.005, 3 x 0.01, 2 x 0.03, then no less than that.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.9]), [0.04, np.nan, 0.9])


@pytest.mark.parametrize(("problems", "shift"), [(1, 0.5), (5, 0.3), (10, 0.15)])
def test_the_seeds_said_to_be_needed_give_the_power(problems: int, shift: float) -> None:
    generator = np.random.default_rng(problems)
    effect = rank_biserial(generator.normal(shift, size=20_000), np.zeros(20_000))
    seeds = seeds_needed(effect, problems, 0.05)
    assert seeds is not None
    labels = strata(problems, seeds)
    found = [signed_rank_p(generator.normal(shift, size=len(labels)), labels) < 0.05 for _ in range(400)]
    assert 0.73 < np.mean(found) < 0.9


def test_fewer_problems_need_more_seeds_and_a_negligible_effect_more_than_anyone_has() -> None:
    assert seeds_needed(0.0, 10, 0.05) is seeds_needed(0.001, 10, 0.05) is None
    few, many = seeds_needed(0.5, 10, 0.05), seeds_needed(0.5, 1, 0.05)
    assert (few or 0) > 0
    assert many == pytest.approx(10 * (few or 0), rel=0.25)


# Calibration: the two measures a comparison has to meet


def false_alarms(shape: tuple[int, int], methods: int, suites: int) -> int:
    """Suites of identical methods in which any two are told apart."""
    generator = np.random.default_rng(11)
    labels = strata(*shape)
    pairs = list(itertools.combinations(range(methods), 2))
    alarms = 0
    for _ in range(suites):
        outcomes = generator.lognormal(size=(methods, len(labels)))
        p = [signed_rank_p(outcomes[b] - outcomes[a], labels) for a, b in pairs]
        alarms += bool((holm(p) < 0.05).any())
    return alarms


@pytest.mark.parametrize("shape", [(10, 20), (3, 5), (1, 20)])
@pytest.mark.parametrize("methods", [2, 6])
def test_identical_methods_are_rarely_called_different(shape: tuple[int, int], methods: int) -> None:
    alarms = false_alarms(shape, methods, 1000 if methods == 2 else 300)
    suites = 1000 if methods == 2 else 300
    assert stats.binomtest(alarms, suites, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 20), (10, 20)])
def test_a_difference_of_one_standard_deviation_is_found_with_twenty_seeds(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(12)
    labels = strata(*shape)
    outcomes = generator.normal(size=(2, 1000, len(labels)))
    found = [signed_rank_p(gains, labels) < 0.05 for gains in outcomes[0] + 1.0 - outcomes[1]]
    assert np.mean(found) >= 0.8


def test_whole_suites_are_judged_by_the_same_test() -> None:
    generator = np.random.default_rng(13)
    alarms = 0
    for _ in range(40):
        values = generator.lognormal(size=(3, 2, 5, 2))
        row = pairs(trajectories(suite(values))).iloc[0]
        best = values.min(axis=-1)
        assert row["p"] == signed_rank_p((best[:, 1] - best[:, 0]).ravel(), strata(3, 5))
        alarms += row["separated"]
    assert alarms <= 6
    values = generator.normal(10.0, size=(1, 2, 200, 1)) + np.array([0.0, 1.0]).reshape(1, 2, 1, 1)
    row = compare(suite(values)).pairs.iloc[0]
    assert row["separated"]
    assert row["effect"] > 0
    assert row["better"] == "m0"

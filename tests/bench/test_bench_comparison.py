"""Ranks, pairs and sentences about whole suites, also of suites in which something went wrong."""

import math

import numpy as np
import pandas as pd
import pytest
from bench_suites import ended, one_row, suite, without
from scipy import stats

from bo_suite.bench.pairs import outcomes as outcomes_of
from bo_suite.bench.ranks import critical_difference, friedman_p, ranks
from bo_suite.bench.records import Records
from bo_suite.bench.sentences import pair_sentences
from bo_suite.bench.statistics import Comparison, compare
from bo_suite.bench.trajectories import trajectories

INF = math.inf


def single(outcomes: np.ndarray) -> Records:
    """A suite of one evaluation a unit: (problem, method, seed)."""
    return suite(outcomes[..., None])


def said(comparison: Comparison, *starts: str) -> bool:
    """Whether there is a sentence with each start."""
    return all(any(one.startswith(start) for one in comparison.sentences) for start in starts)


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_the_critical_difference_is_that_of_demsars_table(methods: int, q: float) -> None:
    difference = critical_difference(methods, 14)
    assert difference / math.sqrt(methods * (methods + 1) / (6 * 14)) == pytest.approx(q, abs=8e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_friedmans_test_is_that_of_the_textbook(tied: bool) -> None:
    values = np.random.default_rng(0).normal(size=(12, 4)) + np.array([0.0, 0.3, 0.6, 0.9])
    values = np.round(values) if tied else values
    sums = stats.rankdata(values, axis=1).sum(axis=0)
    squares = (stats.rankdata(values, axis=1) ** 2).sum() - 12 * 4 * 5**2 / 4
    statistic = 3 * ((sums - 12 * 5 / 2) ** 2).sum() / squares  # Conover (1999), equation 5.8.4
    assert friedman_p(values) == pytest.approx(stats.chi2.sf(statistic, 3))


def test_friedmans_test_of_two_methods_or_of_ties_alone() -> None:
    gains = np.array([1.0, 2.0, -1.0, 3.0, 0.0, INF])
    # 4 wins, 1 loss: (4 - 1)^2 / (4 + 1) with one degree of freedom.
    assert friedman_p(np.stack([np.zeros(6), gains], axis=1)) == pytest.approx(stats.chi2.sf(9 / 5, 1))
    assert friedman_p(np.ones((5, 3))) == friedman_p(np.full((5, 2), INF)) == 1.0
    assert math.isnan(friedman_p(np.ones((5, 1))))


def test_mean_ranks_by_hand_with_ties_to_nine_digits() -> None:
    outcomes = np.array([[[1.0, 5.0], [1.0 + 1e-12, 3.0], [2.0, 4.0]]])  # ranks 1.5 1.5 3 and 3 1 2
    found = compare(single(outcomes)).ranks
    assert found.table.set_index("method")["mean_rank"].to_dict() == {"m0": 2.25, "m1": 1.25, "m2": 2.5}
    assert (found.problems, found.seeds, found.pairs, found.left_out) == (1, 2, 2, 0)
    # Medians 3, 2 and 3 over the seeds.
    assert found.table.set_index("method")["problem_rank"].to_dict() == {"m0": 2.5, "m1": 1.0, "m2": 2.5}
    assert found.table["method"].tolist() == ["m1", "m0", "m2"]


def test_intervals_of_mean_ranks_cover_the_truth() -> None:
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(60):
        table = ranks(trajectories(single(generator.normal(size=(3, 3, 10))))).table
        covered += ((table["low"] <= 2.0) & (table["high"] >= 2.0)).tolist()
    assert np.mean(covered) > 0.88


def test_ranks_and_pairs_leave_out_what_some_method_has_not_run_and_say_so() -> None:
    records = without(single(np.random.default_rng(2).lognormal(size=(2, 3, 5))), "m1", 3)
    comparison = compare(records)
    assert (comparison.ranks.pairs, comparison.ranks.left_out) == (9, 1)
    table = comparison.pairs
    assert one_row(table, first="m0", second="m1")[["pairs", "left_out"]].tolist() == [9, 1]
    assert one_row(table, first="m0", second="m2")[["pairs", "left_out"]].tolist() == [10, 0]
    assert said(comparison, "1 of 10 (problem, seed) were not run")


def test_methods_that_share_no_unit_are_not_compared() -> None:
    records = without(without(single(np.ones((1, 2, 2))), "m0", 0), "m1", 1)
    comparison = compare(records)
    row = comparison.pairs.iloc[0]
    assert (row["pairs"], row["separated"], row["seeds_needed"]) == (0, False, None)
    assert "nothing compares them" in pair_sentences(comparison)[0]
    assert comparison.ranks.table["mean_rank"].isna().all()
    assert comparison.profile.empty
    assert comparison.overall_curves.empty
    assert "no common ranks" in str(comparison)


def test_a_method_that_crashes_loses_and_this_is_said() -> None:
    generator = np.random.default_rng(3)
    records = single(generator.lognormal(size=(1, 2, 12)) * np.array([1.0, 100.0]).reshape(1, 2, 1))
    for seed in range(12):
        records = ended(records, "m0", seed, state="crashed", after=seed % 2)
    comparison = compare(records)
    assert comparison.pairs["losses"].item() == 12
    assert comparison.pairs["separated"].item()
    assert one_row(comparison.summary, method="m0")[["regret", "low", "high", "crashed"]].tolist() == [
        INF
    ] * 3 + [12]
    assert comparison.ranks.table["method"].tolist() == ["m1", "m0"]
    ending = "12 units crashed (m0) and counted as the worst outcome; the first: crashed it was."
    assert ending in comparison.sentences
    assert said(comparison, "The data separate m1 from m0.")
    assert "m1 reached lower regret than m0 in 12 of 12 pairs" in pair_sentences(comparison)[0]


def test_where_all_crash_or_all_are_alike_nothing_is_separated() -> None:
    alike = single(np.ones((2, 3, 4)))
    crashed = Records(
        alike.problems,
        alike.units.assign(state="crashed", reason="broke"),
        alike.evaluations.iloc[:0],
        pd.DataFrame(),
    )
    for records in (alike, crashed):
        comparison = compare(records)
        assert not comparison.pairs["separated"].any()
        assert (comparison.pairs["ties"] == 8).all()
        assert comparison.ranks.friedman_p == 1.0
        assert comparison.ranks.table["mean_rank"].tolist() == [2.0] * 3
    led = [str(compare(records)) for records in (alike, crashed)]
    assert "m0, m1 and m2 share the best mean rank" in led[0]
    assert "m0 and m1 reached the same regret in all 8 pairs." in led[0]
    assert "best mean rank" not in led[1]
    assert "No method leads" in led[1]
    assert (comparison.pairs["neither"] == 8).all()
    assert "both crashed or found nothing in all 8 pairs" in pair_sentences(comparison)[0]
    assert (comparison.curves["normalized"] == INF).all()
    assert (comparison.profile["share"] == 0.0).all()
    assert comparison.failures["reason"].tolist() == ["broke"] * 3


def test_a_single_method_problem_or_seed_is_summarised_and_its_limits_said() -> None:
    generator = np.random.default_rng(4)
    one_method = {seeds: compare(single(generator.lognormal(size=(6, 1, seeds)))) for seeds in (5, 6)}
    assert one_method[5].pairs.empty
    assert math.isnan(one_method[5].ranks.critical_difference)
    assert said(one_method[5], "There is one method only")
    assert any(sentence.endswith("which needs 6.") for sentence in one_method[5].sentences)
    assert not any("interval" in sentence for sentence in one_method[6].sentences)
    one_seed = compare(single(generator.lognormal(size=(2, 2, 1))))
    assert one_seed.summary[["low", "high"]].isna().all(axis=None)
    assert one_seed.ranks.table[["low", "high"]].isna().all(axis=None)
    assert one_seed.overall_curves["normalized_low"].isna().all()
    few = (
        "With 1 seed there is no interval of a problem's median, which needs 6, and none of ranks and effects"
    )
    assert said(one_seed, few)
    assert any("even the clearest difference" in sentence for sentence in one_seed.sentences)
    one_problem = compare(single(generator.lognormal(size=(1, 2, 8))))
    assert said(one_problem, "1 problem cannot show how the methods do on others.")


def test_an_unknown_minimum_is_said() -> None:
    records = suite(np.random.default_rng(5).lognormal(size=(1, 2, 3, 2)), best=np.nan)
    comparison = compare(records)
    assert comparison.finals["regret"].min() == 0.0
    assert said(comparison, "The minimum of p0 is not known")


def test_failed_evaluations_are_counted_and_their_first_reason_given() -> None:
    values = np.array([[np.nan, 1.0], [2.0, 1.0]]).reshape(1, 2, 1, 2)
    comparison = compare(suite(values))
    assert comparison.failures["failed_evaluations"].tolist() == [1, 0]
    assert comparison.failures["reason"].tolist() == ["no outcome", None]
    assert "1 evaluation had no outcome and used up budget." in comparison.sentences


def test_the_summary_holds_medians_with_intervals_and_seconds_per_suggestion() -> None:
    records = suite(np.arange(1.0, 8.0).reshape(1, 1, 7, 1))
    row = compare(records).summary.iloc[0]
    assert row[["seeds", "regret", "low", "high"]].tolist() == [7, 4.0, 2.0, 6.0]
    assert row["suggestion_seconds"] == 0.75


def test_a_clear_leader_is_named_with_whom_the_data_separate_it_from() -> None:
    outcomes = np.random.default_rng(6).lognormal(size=(5, 3, 20)) * np.array([1.0, 1.0, 20.0]).reshape(
        1, 3, 1
    )
    comparison = compare(single(outcomes))
    leader, second = comparison.ranks.table["method"].iloc[:2]
    assert comparison.ranks.table["method"].iloc[2] == "m2"
    assert f"The data separate {leader} from m2." in comparison.sentences
    unclear = next(s for s in comparison.sentences if s.startswith("These data do not separate"))
    assert leader in unclear
    assert second in unclear
    assert "after Holm's correction for 3 comparisons" in unclear


def test_a_leader_on_the_losing_side_of_a_separated_pair_is_not_called_separated_from_it() -> None:
    steps = np.arange(1.0, 31.0)
    gains = np.where(steps <= 16, 1e-3 * steps, -steps)  # more wins, by far smaller
    outcomes = 100.0 - np.stack([gains, np.zeros(30)])[None]
    comparison = compare(single(outcomes))
    pair = comparison.pairs.iloc[0]
    assert comparison.ranks.table["method"].iloc[0] == "m0"
    assert pair["separated"]
    assert (pair["effect"] < 0, pair["better"]) == (True, "m1")
    assert pair_sentences(comparison)[0] in comparison.sentences
    assert said(comparison, "m1 reached lower regret than m0 in 14 of 30 pairs, by larger differences")
    assert not said(comparison, "The data separate")


def test_rounding_errors_about_a_minimum_of_zero_are_ties_and_larger_differences_are_none() -> None:
    first = np.full((1, 2, 8), 10.0)
    for apart, ties in ((4e-16, 8), (2e-9, 8), (2e-8, 0)):
        ends = np.broadcast_to(np.array([0.0, apart]).reshape(1, 2, 1), (1, 2, 8))
        row = compare(suite(np.stack([first, ends], axis=-1))).pairs.iloc[0]
        assert row["ties"] == ties
        unknown = suite(np.stack([first, ends], axis=-1), best=np.nan)
        assert compare(unknown).pairs["ties"].item() == 0  # nine significant digits tell them apart
    crashed = ended(single(np.array([[[1.0, 2.0], [3.0, 2.0]]])), "m0", 0, state="crashed", after=0)
    assert outcomes_of(trajectories(crashed)).to_numpy().tolist() == [[INF, 3.0], [2.0, 2.0]]


def test_a_known_minimum_that_runs_have_beaten_is_said() -> None:
    values = np.random.default_rng(10).lognormal(size=(2, 2, 6, 3))
    values[1, 0, 2, 1] = -0.25
    comparison = compare(suite(values))
    assert comparison.findings.beaten == {"p1": pytest.approx(0.25)}
    assert said(comparison, "Runs found less than the best known value of p1 (by 0.250)")
    values[1, 0, 2, 1] = -1e-12
    assert compare(suite(values)).findings.beaten == {}


def test_ties_of_crashes_are_counted_among_ties() -> None:
    records = single(np.ones((1, 2, 6)))
    for method in ("m0", "m1"):
        records = ended(records, method, 2, state="crashed", after=0)
    comparison = compare(records)
    assert comparison.pairs.iloc[0][["ties", "neither"]].tolist() == [6, 1]
    assert (
        "the same regret in all 6 pairs; in 1 both crashed or found nothing" in pair_sentences(comparison)[0]
    )


def test_medians_of_the_text_are_over_the_units_that_every_method_has_run() -> None:
    outcomes = np.full((1, 2, 4), 8.0)
    outcomes[0, 0, 2:] = 800.0  # where only the first was run
    records = without(without(single(outcomes), "m1", 2), "m1", 3)
    rows = [line.split() for line in str(compare(records)).splitlines()[1:3]]
    assert rows[0][2:4] == rows[1][2:4]


def test_units_that_ended_before_their_budget_was_spent_are_counted_with_a_reason() -> None:
    records = ended(suite(np.ones((1, 2, 6, 3))), "m1", 4, state="finished", after=2)
    records.units.loc[records.units["reason"].notna(), "reason"] = "Traceback\n  deep\nno more points.\n"
    comparison = compare(records)
    assert comparison.failures["ended_early"].tolist() == [0, 1]
    assert comparison.failures["finished"].tolist() == [6, 6]
    ending = "1 unit ended before the budget was spent (m1) and counted with what had been found by then"
    assert f"{ending}; the first: no more points." in comparison.sentences


def test_too_few_problems_for_the_critical_difference_are_said() -> None:
    outcomes = np.broadcast_to(np.arange(1.0, 3.0).reshape(1, 2, 1), (6, 2, 6))
    found = {count: compare(single(outcomes[:count])) for count in (3, 4)}
    few = "3 problems are too few to separate any two of 2 methods by their ranks over problems (Friedman's"
    assert found[3].ranks.few
    assert said(found[3], few)
    assert not found[4].ranks.few
    assert said(found[4], "Over problems, ranks that differ by less")


def test_the_seeds_that_are_needed_are_not_told_from_fewer_than_six_pairs() -> None:
    outcomes = np.random.default_rng(11).lognormal(size=(1, 2, 6))
    five, six = (compare(single(outcomes[..., :seeds])) for seeds in (5, 6))
    assert five.pairs["seeds_needed"].item() is None
    assert pair_sentences(five)[0].endswith(": the pairs are too few to say how many seeds would.")
    assert f"about {six.pairs['seeds_needed'].item():,} seeds would" in pair_sentences(six)[0]


def test_mean_ranks_that_were_all_alike_have_no_interval() -> None:
    outcomes = np.random.default_rng(12).lognormal(size=(1, 3, 8)) * np.array([1, 1, 1e9]).reshape(1, 3, 1)
    table = compare(single(outcomes)).ranks.table.set_index("method")
    assert table["low"].isna().to_dict() == {"m0": False, "m1": False, "m2": True}
    assert "95% interval" not in compare(single(outcomes[:, [0, 2]])).sentences[1]


def test_seconds_that_are_shares_of_runs_at_once_are_called_so() -> None:
    records = single(np.ones((1, 3, 6)))
    note = "Seconds of m0 and m2 are shares of up to 6 runs at once; with --seeds-per-batch 1"
    assert not said(compare(records), "Seconds of")
    records.units.loc[records.units["method"] != "m1", "replicates"] = 6
    assert said(compare(records), note)


def test_pairs_on_single_problems_are_corrected_over_all_problems() -> None:
    outcomes = np.random.default_rng(7).lognormal(size=(3, 2, 10))
    outcomes[1, 1] *= 1e3
    table = compare(single(outcomes)).per_problem_pairs
    assert table["problem"].tolist() == ["p0", "p1", "p2"]
    assert table["separated"].tolist() == [False, True, False]
    assert table["p_holm"].iloc[1] == pytest.approx(3 * 2 / 2**10)


def test_a_table_read_with_other_types_is_compared_alike() -> None:
    records = single(np.random.default_rng(8).lognormal(size=(2, 2, 6)))
    columns = ["problem", "method"]
    other = Records(
        records.problems,
        records.units.astype(dict.fromkeys(columns, "category")),
        records.evaluations.astype(dict.fromkeys(columns, "category")).sample(frac=1.0, random_state=0),
        records.environments,
    )
    assert str(compare(other)) == str(compare(records))

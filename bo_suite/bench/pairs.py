"""Each pair of methods: who found less, by how much it counts, and whether the data tell the two apart."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from bo_suite.bench.records import Records
from bo_suite.bench.signed_ranks import (
    differences,
    holm,
    rank_biserial,
    rank_biserial_interval,
    seeds_needed,
    signed_rank_p,
)
from bo_suite.bench.trajectories import finals, trajectories
from bo_suite.bench.wording import chance

ALPHA = 0.05
_LEAST_PAIRS = 6  # fewer cannot be separated, and say too little of what would be
_COLUMNS = [
    *("first", "second", "problems", "pairs", "left_out", "wins", "ties", "losses", "neither"),
    *("effect", "low", "high", "p", "p_holm", "separated", "seeds_needed", "sentence"),
]


def pairs(records: Records) -> pd.DataFrame:
    """Each pair of methods, compared on the (problem, seed) that both have run.

    The outcome of a run is its final incumbent, see `outcomes`; a crashed run is inf, worse than any other
    and equal to another crashed one. The columns:

    - first, second: the methods; problems, pairs: how many both have run; left_out: the (problem, seed)
      that only one of them has.
    - wins, ties, losses: pairs in which first found less, the same, more; neither: ties in which both
      crashed, or found nothing.
    - effect: `rank_biserial` within problems, 1 where first always found less; low, high: its interval, NaN
      where a problem has fewer than 5 pairs.
    - p: of `signed_rank_p`, each problem a stratum; NaN where there are no pairs.
    - p_holm: Holm's correction of p over the rows; separated: p_holm < 0.05.
    - seeds_needed: seeds a problem for 80% power at the level 0.05 / rows, would the effect stay; None
      where that is more than 10,000, or there are fewer than 6 pairs.
    - sentence: the result in words; its p is p_holm.

    Raises:
        DataError: records that do not fit together.
    """
    table = outcomes(records)
    rows = [_compared(table, first, second) for first, second in _each(table)]
    return _corrected(pd.DataFrame(rows))


def per_problem_pairs(records: Records) -> pd.DataFrame:
    """As `pairs`, on each problem alone, with its name in the column problem.

    Holm's correction is over all rows, of all problems.

    Raises:
        DataError: records that do not fit together.
    """
    table = outcomes(records)
    rows = []
    for problem, part in table.groupby("problem"):
        for first, second in _each(part):
            rows.append({"problem": problem, **_compared(part, first, second)})
    return _corrected(pd.DataFrame(rows)).reindex(columns=["problem", *_COLUMNS])


def outcomes(records: Records) -> pd.DataFrame:
    """What runs found, but for rounding: a row a (problem, seed), a column a method, NaN where not run.

    On a problem whose best_known value is known, final incumbents within 1e-9 of its span, see `runs`, above
    another are that other: rounding errors about a minimum of 0 are ties as well. On others, and where the
    span is 0, they are rounded to 9 significant digits. inf for a run that crashed or found nothing.

    Raises:
        DataError: records that do not fit together.
    """
    table = finals(records)
    units = trajectories(records).units  # in the same order
    for _, own in units.groupby("problem"):
        values, span = table.loc[own.index, "incumbent"].tolist(), float(own["span"].iloc[0])
        known = span > 0.0 and not own["best_known"].isna().any()
        rounded = _tied(values, 1e-9 * span) if known else [float(f"{value:.9g}") for value in values]
        table.loc[own.index, "incumbent"] = rounded
    return table.pivot(index=["problem", "seed"], columns="method", values="incumbent")


def _tied(values: list[float], width: float) -> list[float]:
    """The values, each of which is the smallest that is left where it lies within the width above that."""
    found, kept = values.copy(), -math.inf
    for place in sorted(range(len(values)), key=values.__getitem__):
        kept = values[place] if values[place] - kept > width else kept
        found[place] = kept
    return found


def _each(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(combinations([str(name) for name in table.columns[table.notna().any()]], 2))


def _compared(table: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """One row of the table, before correction."""
    a, b = table[first].to_numpy(), table[second].to_numpy()
    both = ~np.isnan(a) & ~np.isnan(b)
    strata = np.unique(table.index.get_level_values("problem")[both].astype(str), return_inverse=True)[1]
    gains = differences(b[both], a[both])
    made = bool(both.any())
    low, high = rank_biserial_interval(gains, strata) if made else (math.nan, math.nan)
    return {
        "first": first,
        "second": second,
        "problems": len(np.unique(strata)),
        "pairs": int(both.sum()),
        "left_out": int((np.isnan(a) != np.isnan(b)).sum()),
        "wins": int((gains > 0).sum()),
        "ties": int((gains == 0).sum()),
        "losses": int((gains < 0).sum()),
        "neither": int((np.isinf(a) & np.isinf(b)).sum()),
        "effect": rank_biserial(gains, strata) if made else math.nan,
        "low": low,
        "high": high,
        "p": signed_rank_p(gains, strata) if made else math.nan,
    }


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what depends on all its rows."""
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["separated"] = table["p_holm"] < ALPHA
    tests = int(table["p"].notna().sum())
    rows = table.to_dict("records")
    seeds = [_seeds(row, tests) for row in rows]
    table["seeds_needed"] = pd.Series(seeds, dtype=object)
    table["sentence"] = [_sentence(row, need, tests) for row, need in zip(rows, seeds, strict=True)]
    return table


def _seeds(row: dict[Any, Any], tests: int) -> int | None:
    if row["pairs"] < _LEAST_PAIRS:
        return None
    needed = seeds_needed(row["effect"], row["problems"], ALPHA / tests)
    if needed is None or row["separated"]:
        return needed
    return max(needed, int(row["pairs"] // row["problems"]) + 1)


def _sentence(row: dict[Any, Any], needed: int | None, tests: int) -> str:
    first, second = row["first"], row["second"]
    if not row["pairs"]:
        return f"{first} and {second} have run no problem with the same seed: nothing compares them."
    p = chance(row["p_holm"])
    if row["separated"]:
        better, worse, wins, losses = first, second, row["wins"], row["losses"]
        if row["effect"] < 0:
            better, worse, wins, losses = second, first, losses, wins
        note = ", the larger differences among them" if wins <= losses else ""
        return f"{better} reached lower regret than {worse} in {wins} of {row['pairs']} pairs{note} ({p})."
    every = f"all {row['pairs']:,} pairs" if row["pairs"] > 1 else "the one pair"
    if row["neither"] == row["pairs"]:
        return f"{first} and {second} both crashed, or found nothing, in {every}: nothing compares them."
    if row["ties"] == row["pairs"]:
        both = f", of which both crashed, or found nothing, in {row['neither']:,}" if row["neither"] else ""
        return f"{first} and {second} reached the same regret in {every}{both}."
    after = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    where = " a problem" if row["problems"] > 1 else ""
    said = f"These data do not separate {first} and {second} ({p}{after})"
    if row["pairs"] < _LEAST_PAIRS:
        return f"{said}: too few pairs to say how many seeds would."
    hope = f"about {needed:,} seeds{where} would" if needed else f"not even 10,000 seeds{where} would"
    return f"{said}; {hope}, were the difference as it seems here."

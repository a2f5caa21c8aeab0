"""Each pair of methods: which found less, how large the effect is, and whether the data separate the two."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from bo_suite.bench.signed_ranks import (
    differences,
    holm,
    rank_biserial,
    rank_biserial_interval,
    seeds_needed,
    signed_rank_p,
)
from bo_suite.bench.trajectories import Trajectories, finals

ALPHA = 0.05
LEAST_PAIRS = 6  # fewer pairs cannot be separated, and are too few to estimate how many would be
_COLUMNS = [
    *("first", "second", "problems", "pairs", "left_out", "wins", "ties", "losses", "neither"),
    *("effect", "low", "high", "p", "p_holm", "separated", "better", "seeds_needed"),
]


def pairs(paths: Trajectories) -> pd.DataFrame:
    """Compares each pair of methods on the (problem, seed) that both have run.

    The outcome of a run is its final incumbent, see `outcomes`; a crashed run counts as inf, worse than any
    other and equal to another crashed one. The columns:

    - first, second: the methods; problems, pairs: how many both have run; left_out: number of (problem, seed)
      that only one of them has run.
    - wins, ties, losses: pairs in which first found less, the same, more; neither: ties in which both crashed
      or found nothing.
    - effect: `rank_biserial` within problems, 1 if first always found less; low, high: its interval, NaN if a
      problem has fewer than 5 pairs.
    - p: of `signed_rank_p` with each problem as a stratum; NaN if there are no pairs.
    - p_holm: Holm's correction of p over the rows; separated: whether p_holm < 0.05; better: the method with
      the lower regret, None if not separated.
    - seeds_needed: seeds a problem for 80% power at the level 0.05 / rows if the effect stays as it is; None
      if that is more than 10,000, or there are fewer than 6 pairs.
    """
    table = outcomes(paths)
    rows = [_compared(table, first, second) for first, second in _each(table)]
    return _corrected(pd.DataFrame(rows))


def per_problem_pairs(paths: Trajectories) -> pd.DataFrame:
    """Compares each pair of methods on each problem alone: the columns of `pairs`, and problem.

    Holm's correction is over all rows of all problems.
    """
    rows = []
    for problem, table in outcomes(paths).groupby("problem"):
        rows += [{"problem": problem, **_compared(table, first, second)} for first, second in _each(table)]
    return _corrected(pd.DataFrame(rows)).reindex(columns=["problem", *_COLUMNS])


def outcomes(paths: Trajectories) -> pd.DataFrame:
    """Final incumbents without rounding errors: a row a (problem, seed), a column a method, NaN if not run.

    On a problem whose best_known value is known, an incumbent within 1e-9 of the problem's span above a
    smaller one counts as equal to it, so that rounding errors about a minimum of 0 are ties as well.
    On other problems, and if the span is 0, incumbents are rounded to 9 significant digits. A run that
    crashed or found nothing counts as inf.
    """
    table = finals(paths)  # in the order of the units
    for _, own in paths.units.groupby("problem"):
        values, span = table.loc[own.index, "incumbent"].tolist(), float(own["span"].iloc[0])
        has_scale = span > 0.0 and not own["best_known"].isna().any()
        rounded = _tied(values, 1e-9 * span) if has_scale else [float(f"{value:.9g}") for value in values]
        table.loc[own.index, "incumbent"] = rounded
    return table.pivot(index=["problem", "seed"], columns="method", values="incumbent")


def _tied(values: list[float], width: float) -> list[float]:
    """The values in ascending groups, each at most `width` wide and replaced by its smallest value."""
    tied, smallest = values.copy(), -math.inf
    for index in sorted(range(len(values)), key=values.__getitem__):
        smallest = values[index] if values[index] - smallest > width else smallest
        tied[index] = smallest
    return tied


def _each(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(combinations([str(name) for name in table.columns[table.notna().any()]], 2))


def _compared(table: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """One row of the table, before the correction."""
    a, b = table[first].to_numpy(), table[second].to_numpy()
    both = ~np.isnan(a) & ~np.isnan(b)
    strata = np.unique(table.index.get_level_values("problem")[both].astype(str), return_inverse=True)[1]
    gains = differences(b[both], a[both])
    any_pairs = bool(both.any())
    low, high = rank_biserial_interval(gains, strata) if any_pairs else (math.nan, math.nan)
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
        "effect": rank_biserial(gains, strata) if any_pairs else math.nan,
        "low": low,
        "high": high,
        "p": signed_rank_p(gains, strata) if any_pairs else math.nan,
    }


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that depend on all its rows."""
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["separated"] = table["p_holm"] < ALPHA
    tests, rows = int(table["p"].notna().sum()), table.to_dict("records")
    table["better"] = pd.Series([_better(row) for row in rows], dtype=object)
    table["seeds_needed"] = pd.Series([_seeds_needed(row, tests) for row in rows], dtype=object)
    return table


def _better(row: dict[Any, Any]) -> str | None:
    if not row["separated"]:
        return None
    return str(row["first"] if row["effect"] > 0 else row["second"])


def _seeds_needed(row: dict[Any, Any], tests: int) -> int | None:
    if row["pairs"] < LEAST_PAIRS:
        return None
    needed = seeds_needed(row["effect"], row["problems"], ALPHA / tests)
    if needed is None or row["separated"]:
        return needed
    return max(needed, int(row["pairs"] // row["problems"]) + 1)

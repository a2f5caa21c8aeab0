"""Which evaluations of a suite were feasible, and how soon."""

import json
from typing import Any

import numpy as np
import pandas as pd

from bo_suite.storage.goals import Goals

_UNIT = ["problem", "method", "seed"]


def stored_goals(text: str) -> Goals:
    """The goals in the column `goals` of the problems of `Records`."""
    form = json.loads(text)
    return Goals.of(form["direction"], form["constraints"])


def feasible(problems: pd.DataFrame, evaluations: pd.DataFrame) -> "pd.Series[Any]":
    """Whether each evaluation is feasible; None for one that failed, or has no outcomes by name."""
    with_goals = problems[problems["goals"].notna()]
    goals = {
        str(name): stored_goals(str(text))
        for name, text in zip(with_goals["problem"], with_goals["goals"], strict=True)
    }
    rows = zip(evaluations["problem"], evaluations["outcomes"], strict=True)
    met = [None if text is None else goals[str(name)].is_feasible(json.loads(text)) for name, text in rows]
    return pd.Series(met, index=evaluations.index, dtype=object)


def first_feasible(
    problems: pd.DataFrame, units: pd.DataFrame, evaluations: pd.DataFrame
) -> "pd.Series[float]":
    """Number of the first feasible evaluation of each unit; inf without one, NaN without constraints."""
    texts = problems[problems["goals"].notna()]
    constrained = {
        str(name)
        for name, text in zip(texts["problem"], texts["goals"], strict=True)
        if stored_goals(str(text)).constraints
    }
    met = evaluations[evaluations["feasible"] == True]  # noqa: E712 (None is neither)
    first = met.groupby(_UNIT)["evaluation"].min().to_dict()
    keys = zip(*(units[name] for name in _UNIT), strict=True)
    numbers = [first.get(key, np.inf) if str(key[0]) in constrained else np.nan for key in keys]
    return pd.Series(numbers, index=units.index, dtype=float)


def feasibility(units: pd.DataFrame) -> pd.DataFrame:
    """How soon each method had a feasible point: a row a (problem, method) with constraints.

    seeds: number of units; feasible: of those with a feasible point; first_feasible: median over the seeds
    of the number of the first feasible evaluation, inf where half of the units have none.

    Args:
        units: of `Records`.
    """
    columns = ["problem", "method", "seeds", "feasible", "first_feasible"]
    own = units[units["first_feasible"].notna()] if "first_feasible" in units else units[:0]
    rows = [
        (
            *key,
            len(group),
            int(np.isfinite(group["first_feasible"]).sum()),
            float(np.median(group["first_feasible"])),
        )
        for key, group in own.groupby(["problem", "method"])
    ]
    return pd.DataFrame(rows, columns=columns)

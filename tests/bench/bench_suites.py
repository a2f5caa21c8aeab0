"""Records of suites that were never run, for tests of what is made of records."""

import numpy as np
import pandas as pd

from bo_suite.bench.records import Records


def suite(values: np.ndarray, *, best: float = 0.0, noise: np.ndarray | float = 0.0) -> Records:
    """The records of values (problem, method, seed, evaluation); NaN for an evaluation that failed."""
    problems = [f"p{index}" for index in range(values.shape[0])]
    sides = [problems, [f"m{index}" for index in range(values.shape[1])], range(values.shape[2])]
    units = pd.MultiIndex.from_product(sides, names=["problem", "method", "seed"]).to_frame(index=False)
    steps = range(1, values.shape[3] + 1)
    names = ["problem", "method", "seed", "evaluation"]
    evaluations = pd.MultiIndex.from_product([*sides, steps], names=names).to_frame(index=False)
    true = values.ravel()
    evaluations = evaluations.assign(
        value=true + np.broadcast_to(noise, values.shape).ravel(),
        true_value=true,
        ask_seconds=0.5,
        tell_seconds=0.25,
        evaluate_seconds=2.0,
        failure=[None if np.isfinite(value) else "no outcome" for value in true],
    )
    table = pd.DataFrame(
        {
            "problem": problems,
            "minimum": best,
            "best_known": best,
            "noise": 0.0,
            "noise_model": None,
            "dim": 2,
            "budget": values.shape[3],
        }
    )
    reasons = pd.Series([None] * len(units), dtype=object)
    units = units.assign(state="finished", reason=reasons, replicates=1)
    return Records(table, units, evaluations, pd.DataFrame())


def ended(records: Records, method: str, seed: int, *, state: str, after: int) -> Records:
    """The records where one unit of p0 ended early."""
    units, rows = records.units.copy(), records.evaluations
    units.loc[_of(units, method, seed), ["state", "reason"]] = [state, f"{state} it was"]
    kept = rows[~(_of(rows, method, seed) & (rows["evaluation"] > after))]
    return Records(records.problems, units, kept, records.environments)


def without(records: Records, method: str, seed: int) -> Records:
    """The records where one unit of p0 was never run."""
    units, rows = records.units, records.evaluations
    kept = units[~_of(units, method, seed)], rows[~_of(rows, method, seed)]
    return Records(records.problems, *kept, records.environments)


def _of(frame: pd.DataFrame, method: str, seed: int) -> pd.Series:
    return (frame["problem"] == "p0") & (frame["method"] == method) & (frame["seed"] == seed)


def one_row(frame: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]

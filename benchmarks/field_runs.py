"""The stored runs of benchmarks/field.py, with normalised regrets and their resampled medians."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bo_suite.bench.bootstrap import RESAMPLES
from bo_suite.bench.pairs import pairs
from bo_suite.bench.records import Records
from bo_suite.bench.trajectories import finals, trajectories
from bo_suite.problems.field import field_references

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of one or more classes.

    Attributes:
        records: of the suites, in one.
        classes: the class of each problem, by name.
        table: a row a run: class, problem, method, seed, state, seconds, and regret, the normalised regret
            (final - best known) / (typical - best known); inf of a run that crashed or found no value.
        estimated: problems without a stored best known and typical value, which are estimated from the runs.
    """

    records: Records
    classes: dict[str, str]
    table: pd.DataFrame
    estimated: tuple[str, ...]

    def of(self, methods: Sequence[str]) -> "Runs":
        """The runs of some methods."""
        return self._where(self.table["method"].isin(methods), self.records.units["method"].isin(methods))

    def on(self, problem_class: str) -> "Runs":
        """The runs on one class."""
        names = {name for name, own in self.classes.items() if own == problem_class}
        return self._where(self.table["problem"].isin(names), self.records.units["problem"].isin(names))

    def common(self) -> "Runs":
        """The runs on the problems that every method has run."""
        counts = self.table.groupby("problem")["method"].nunique()
        names = set(counts.index[counts == self.table["method"].nunique()])
        if not names:
            raise SystemExit("no problem has runs of all methods")
        return self._where(self.table["problem"].isin(names), self.records.units["problem"].isin(names))

    def _where(self, rows: pd.Series, units: pd.Series) -> "Runs":
        records = replace(self.records, units=self.records.units[units])
        return replace(self, records=records, table=self.table[rows])

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """The corrected signed-rank test of each pair of methods."""
        return pairs(trajectories(self.records))


def read(folders: Sequence[Path], classes: Sequence[str], *, visited: bool = False) -> Runs:
    """The runs that are stored in the folders.

    A method that several folders have is named METHOD@FOLDER.

    Args:
        folders: of `run`.
        classes: to read; a class without runs is left out.
        visited: the result of a run is the smallest noiseless value that it visited, not the noiseless value
            at its best observed one.
    """
    several: list[tuple[str, str, Records]] = []
    for folder in folders:
        for name in classes:
            if (folder / name / "suite.db").exists():
                several.append((name, folder.name, Records.read(folder / name)))
    several = [entry for entry in several if len(entry[2].units)]
    if not several:
        raise SystemExit(f"no runs of {', '.join(classes)} in {', '.join(map(str, folders))}")
    owners: dict[str, set[str]] = {}
    for _, folder_name, records in several:
        for method in set(records.units["method"]):
            owners.setdefault(method, set()).add(folder_name)
    joined = _joined([(folder_name, records) for _, folder_name, records in several], owners)
    if visited:
        joined = replace(
            joined, evaluations=joined.evaluations.assign(value=joined.evaluations["true_value"])
        )
    problem_classes = {
        problem: name for name, _, records in several for problem in records.problems["problem"]
    }
    return _with_regrets(joined, problem_classes)


def _joined(several: Sequence[tuple[str, Records]], owners: dict[str, set[str]]) -> Records:
    def named(frame: pd.DataFrame, folder: str) -> pd.DataFrame:
        shared = [f"{name}@{folder}" if len(owners[name]) > 1 else name for name in frame["method"]]
        return frame.assign(method=shared)

    return Records(
        problems=pd.concat([records.problems for _, records in several]).drop_duplicates("problem"),
        units=pd.concat([named(records.units, folder) for folder, records in several], ignore_index=True),
        evaluations=pd.concat(
            [named(records.evaluations, folder) for folder, records in several], ignore_index=True
        ),
        environments=several[0][1].environments,
    )


def _with_regrets(records: Records, classes: dict[str, str]) -> Runs:
    table = finals(trajectories(records)).drop(columns=["regret", "normalized", "auc"])
    seconds = records.units[["problem", "method", "seed", "seconds"]]
    table = table.merge(seconds, on=["problem", "method", "seed"])
    table.insert(0, "class", table["problem"].map(classes))
    draws = records.evaluations[records.evaluations["method"].str.startswith("random")]
    medians = draws.groupby("problem")["true_value"].median()
    smallest = records.evaluations.groupby("problem")["true_value"].min()
    references, estimated = stored_references(), []
    for problem in sorted(set(table["problem"])):
        if problem not in references:
            estimated.append(problem)
            references[problem] = smallest[problem], medians.get(problem, np.nan)
    best = table["problem"].map({name: pair[0] for name, pair in references.items()})
    typical = table["problem"].map({name: pair[1] for name, pair in references.items()})
    table["regret"] = (table["incumbent"] - best) / (typical - best)
    return Runs(records, classes, table, tuple(estimated))


def stored_references() -> dict[str, tuple[float, float]]:
    """The best known and the typical value of each problem."""
    return {name: (one.best_known, one.typical) for name, one in field_references().items()}


@dataclass(frozen=True, eq=False)
class Medians:
    """Medians over seeds of the normalised regrets, and the same of resampled seeds.

    Attributes:
        problems, methods: names, in the order of rows and columns.
        classes: the class of each problem.
        values: (problems, methods); NaN where a method has no run.
        resampled: (resamples, problems, methods).
        shares: how often each resample of the problems has each problem.
    """

    problems: tuple[str, ...]
    methods: tuple[str, ...]
    classes: tuple[str, ...]
    values: Array
    resampled: Array
    shares: npt.NDArray[np.int64]

    def mean(self, of_one: Array, of_resampled: Array) -> tuple[Array, Array]:
        """The mean over problems of each column, and of each resample, without NaN."""
        weights = self.shares[:, :, None] * ~np.isnan(of_resampled)
        sums = (weights * np.nan_to_num(of_resampled)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            resampled = sums / weights.sum(axis=1)
        present = ~np.isnan(of_one)
        with np.errstate(invalid="ignore"):
            return np.where(present, of_one, 0.0).sum(axis=0) / present.sum(axis=0), resampled


def medians(table: pd.DataFrame) -> Medians:
    """Medians of a table of runs, with 1000 resamples of the problems and of each method's seeds on each."""
    generator = np.random.default_rng(0)
    names = table.drop_duplicates("problem").sort_values(["class", "problem"])
    problems, methods = tuple(names["problem"]), tuple(sorted(set(table["method"])))
    values = np.full((len(problems), len(methods)), np.nan)
    resampled = np.full((RESAMPLES, *values.shape), np.nan)
    for (problem, method), own in table.groupby(["problem", "method"]):
        cell = problems.index(problem), methods.index(method)
        regrets = own["regret"].to_numpy(dtype=np.float64)
        values[cell] = np.median(regrets)
        draws = generator.integers(len(regrets), size=(RESAMPLES, len(regrets)))
        resampled[:, *cell] = np.median(regrets[draws], axis=1)
    even = np.full(len(problems), 1 / len(problems))
    shares = generator.multinomial(len(problems), even, RESAMPLES)
    return Medians(problems, methods, tuple(names["class"]), values, resampled, shares)


def ranks(values: Array) -> Array:
    """Ranks along the last axis from 0, the smallest, to 1; ties share the mean rank, NaN stays.

    Values that differ by less than a rounding error of 1e-9 are tied. Of one method alone there is no rank.
    """
    rounded = np.round(values, 9)
    below = (rounded[..., None, :] < rounded[..., :, None]).sum(axis=-1)
    tied = (rounded[..., None, :] == rounded[..., :, None]).sum(axis=-1) - 1
    others = (~np.isnan(values)).sum(axis=-1, keepdims=True) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(np.isnan(values) | (others < 1), np.nan, (below + tied / 2) / others))

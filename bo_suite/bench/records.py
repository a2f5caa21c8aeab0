"""The results of a suite, as tables."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bo_suite.bench.feasibility import feasible, first_feasible
from bo_suite.bench.rows import COLUMNS, Row, checked_rows
from bo_suite.bench.store import FILE, suite_database, suite_place
from bo_suite.errors import StorageError
from bo_suite.storage.addresses import Location


@dataclass(frozen=True, eq=False)
class Records:
    """The results of a suite.

    Attributes:
        problems: a row a problem: problem, minimum (NaN if unknown), best_known (the minimum, else the
            smallest known value, else NaN), noise (standard deviation), noise_model
            (text, None for Gaussian noise), dim, budget, goals (JSON of direction, constraints and
            reference; None for one value). Minimum and best_known of several outcomes are merits.
        units: a row a (problem, method, seed): state ("finished", "crashed" or "timed out"), reason (why it
            ended early, else None), seconds (its wall time, divided by the number of replicates that ran at
            once), replicates (how many ran at once as one program), environment (a row of environments),
            first_feasible (number of the first feasible evaluation; inf without one, NaN if nothing is
            constrained).
        evaluations: a row an evaluation: problem, method, seed, evaluation (1, 2, ...), params (JSON), value
            (as observed, NaN if it failed), true_value (without noise, NaN if it failed), regret (true_value
            - minimum, NaN if unknown), ask_seconds, evaluate_seconds, tell_seconds, provenance (JSON),
            failure (text, else None), outcomes (JSON, by name; else None) and feasible (True or False; None
            without outcomes). With outcomes, value and true_value are the merit of the evaluations so far.
        environments: a row an environment: environment, python, platform, device, threads, commit, command,
            versions (JSON, of the libraries).
    """

    problems: pd.DataFrame
    units: pd.DataFrame
    evaluations: pd.DataFrame
    environments: pd.DataFrame

    @staticmethod
    def read(folder: Location) -> "Records":
        """The records of all ended units of a suite.

        Args:
            folder: the folder or the address of the suite.

        Raises:
            StorageError: there are no records, or they cannot be read.
        """
        place = suite_place(folder)
        if isinstance(place, Path) and not (place / FILE).is_file():
            raise StorageError(
                f"the folder of a suite must hold {FILE}, which `bo-suite bench` makes, got {str(folder)!r}"
            )
        with closing(suite_database(place, create=False)) as database:
            database.read_only()
            rows = checked_rows(database)
        with_units = {row[0] for row in rows.units}
        problems = _frame("problems", [row for row in rows.problems if row[0] in with_units])
        units = _frame("units", [row for row in rows.units if row[3] != "running"]).drop(columns="owner")
        evaluations = _frame("evaluations", rows.evaluations)
        environments = _frame("environments", rows.environments)
        numbers = ["value", "true_value", "regret"]
        evaluations[numbers] = evaluations[numbers].astype(float)
        units["reason"], evaluations["failure"] = _texts(units["reason"]), _texts(evaluations["failure"])
        fields = ("minimum", "best_known", "noise", "noise_model", "dim", "budget", "goals")
        problems = _unfolded(problems, fields).astype({"minimum": float, "best_known": float})
        problems["noise_model"], problems["goals"] = (
            _texts(problems["noise_model"]),
            _texts(problems["goals"]),
        )
        evaluations["outcomes"] = _texts(evaluations["outcomes"])
        evaluations["feasible"] = feasible(problems, evaluations)
        units["first_feasible"] = first_feasible(problems, units, evaluations)
        return Records(
            problems,
            units,
            evaluations,
            _unfolded(
                environments, ("python", "platform", "device", "threads", "commit", "command", "versions")
            ),
        )


def _frame(table: str, rows: list[Row]) -> pd.DataFrame:
    """The rows as a table, without their hashes."""
    return pd.DataFrame.from_records(
        [row[:-1] for row in rows], columns=list(COLUMNS[table]), coerce_float=True
    )


def _texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The column with None for a missing text; some versions of pandas turn that into NaN."""
    return column.astype(object).where(column.notna(), None)


def _unfolded(table: pd.DataFrame, fields: tuple[str, ...]) -> pd.DataFrame:
    """The table with the fields of its JSON column `form` as columns."""
    forms = [json.loads(form) for form in table.pop("form")]
    for field in fields:
        values = [form.get(field) for form in forms]
        table[field] = [json.dumps(value) if isinstance(value, dict) else value for value in values]
    return table

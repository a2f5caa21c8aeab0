"""What a suite has measured, as tables."""

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bo_suite.bench.rows import COLUMNS, Row, check_version, read_rows
from bo_suite.bench.store import FILE
from bo_suite.errors import StorageError
from bo_suite.storage.paths import local_path


@dataclass(frozen=True, eq=False)
class Records:
    """What a suite has measured.

    Attributes:
        problems: a row a problem: problem, minimum (NaN where not known), best_known (the minimum, or else
            the smallest value known, or NaN), noise (standard deviation), dim, budget.
        units: a row a (problem, method, seed): state ("finished", "crashed" or "timed out"), reason (why it
            ended early, None where it did not), seconds (its wall time; of a share, where several replicates
            ran at once), replicates (how many ran at once as one program), environment (a row of
            environments).
        evaluations: a row an evaluation: problem, method, seed, evaluation (1, 2, ...), params (JSON), value
            (as observed, NaN where it failed), true_value (without noise, NaN where it failed), regret
            (true_value - minimum, NaN where that is not known), ask_seconds, evaluate_seconds, tell_seconds,
            provenance (JSON), failure (text, None where there was none).
        environments: a row an environment: environment, python, platform, device, threads, commit, command,
            versions (JSON, of the libraries).
    """

    problems: pd.DataFrame
    units: pd.DataFrame
    evaluations: pd.DataFrame
    environments: pd.DataFrame

    @staticmethod
    def read(folder: str | Path) -> "Records":
        """The records in the folder of a suite, of units that have ended.

        Raises:
            StorageError: no records there, or none that can be read.
        """
        path = local_path("the folder of a suite", folder) / FILE
        if not path.is_file():
            raise StorageError(
                f"the folder of a suite must hold {FILE}, which `bo-suite bench` makes, got {str(folder)!r}"
            )
        # a folder that cannot be written to has no place for what readers share
        mode = "mode=ro" if os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as connection:
                connection.execute("BEGIN")  # one state of it, while others may be writing
                found = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
                rows = read_rows(connection, str(path), check_version(str(path), found))
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter for a text that is damaged
            raise StorageError(f"{path} must be the records of a suite: {error}") from error
        with_units = {row[0] for row in rows.units}
        problems = _frame("problems", [row for row in rows.problems if row[0] in with_units])
        units = _frame("units", [row for row in rows.units if row[3] != "running"]).drop(columns="owner")
        evaluations, environments = (
            _frame("evaluations", rows.evaluations),
            _frame("environments", rows.environments),
        )
        numbers = ["value", "true_value", "regret"]
        evaluations[numbers] = evaluations[numbers].astype(float)
        units["reason"], evaluations["failure"] = _texts(units["reason"]), _texts(evaluations["failure"])
        return Records(
            _unfolded(problems, ("minimum", "best_known", "noise", "dim", "budget")).astype(
                {"minimum": float, "best_known": float}
            ),
            units,
            evaluations,
            _unfolded(
                environments, ("python", "platform", "device", "threads", "commit", "command", "versions")
            ),
        )


def _frame(table: str, rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, without their hashes."""
    return pd.DataFrame.from_records(
        [row[:-1] for row in rows], columns=list(COLUMNS[table]), coerce_float=True
    )


def _texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """With None where there is no text, which some versions of pandas turn into NaN."""
    return column.astype(object).where(column.notna(), None)


def _unfolded(table: pd.DataFrame, fields: tuple[str, ...]) -> pd.DataFrame:
    """With fields of the JSON in a column `form` in columns of their own."""
    forms = [json.loads(form) for form in table.pop("form")]
    for field in fields:
        values = [form.get(field) for form in forms]
        table[field] = [json.dumps(value) if isinstance(value, dict) else value for value in values]
    return table

"""Histories to damage, to cut and to migrate: of this version, and the stored ones of version 0.8.0."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import UpperConfidenceBound
from bo_suite.errors import StorageError, TrialError
from bo_suite.storage import database
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Header, Observation, Trial

DATA = Path(__file__).parent / "data"

OLD = "history_0_8_0.db"
"""Finished, failed, added and running trials."""

OLD_FINISHED = "history_0_8_0_finished.db"
"""The same without failed ones, so that this version suggests what 0.8.0 does."""

SECOND = "history_schema_2.db"
"""What `make_history` made when files had schema 2: no tracebacks yet."""

SECOND_CONTENTS = json.loads((DATA / "history_schema_2.json").read_text())
"""Its trials, and the trial that was asked next."""

THIRD = "history_schema_3.db"
"""What `make_history` made when files had schema 3: no queue and no changes yet."""

THIRD_CONTENTS = json.loads((DATA / "history_schema_3.json").read_text())
"""Its trials, and the trial that was asked next."""

FOURTH = "history_schema_4.db"
"""What `make_history` made when files had schema 4, without names of outcomes: then trial 1 was amended and
trial 9 forgotten, the space got a parameter, and two partial points were queued."""

FOURTH_CONTENTS = json.loads((DATA / "history_schema_4.json").read_text())
"""Its trials, queue and changes, and the trials that were asked next."""

FIFTH = "history_schema_5.db"
"""Twelve trials with outcomes by name of when files had schema 5, without reports: 0 is added, 3 and 8 have
failed, 5 failed by chance, 7 was withdrawn, 11 runs, and 1 was amended; a partial point is queued."""

FIFTH_CONTENTS = json.loads((DATA / "history_schema_5.json").read_text())
"""Its trials, queue and changes, and the trials that were asked next."""

SIXTH = "history_schema_6.db"
"""Twelve trials of when files had schema 6, without gradients, in a run with ASHA(9) that maximises: 0 is
added, 3 has failed, 4 to 6 and 8 to 10 were stopped, 7 was withdrawn, 11 runs and has reported, 1 was
amended; a partial point is queued."""

SIXTH_CONTENTS = json.loads((DATA / "history_schema_6.json").read_text())
"""Its trials, queue and changes, and the trials that were asked next."""

CONTENTS = json.loads((DATA / "history_0_8_0.json").read_text())
"""By file: its trials, and the trial that 0.8.0 asks next."""

SPACE = Space({"lr": Float(1e-5, 1.0, log=True), "depth": Int(1, 12), "kernel": Choice(["rbf", "poly"])})
POINT = {"lr": 0.003, "depth": 4, "kernel": "rbf"}
HEADER = Header(SPACE, seed=3, direction="minimize", budget=None, acquisition=None)

OLD_FIELDS = (
    *("id", "params", "state", "value", "std", "reason", "attempt", "asked", "provenance"),
    *("started", "ended"),
)
"""Those of a trial of version 0.8.0."""


def ask(storage: Storage, **changes: Any) -> Trial:
    """A running trial at POINT with changes."""
    trials = storage.insert([POINT | changes], [{}], expected=None)
    assert trials is not None
    return trials[0]


def add(storage: Storage, params: dict[str, Any], value: Any, std: Any = None) -> Trial:
    """A finished trial that was not asked for."""
    return storage.add_all([Observation(params, value, std)])[0]


def outcome(params: dict[str, Any]) -> float:
    distance = (params["lr"] - 0.01) ** 2 + 0.1 * (params["depth"] - 4) ** 2
    return float(-distance - 0.5 * (params["kernel"] == "poly"))


def make_history(path: Path) -> None:
    """Twelve trials: 0 is added, 3 and 8 have failed, 5 failed by chance, 7 was withdrawn, 11 runs."""
    with closing(Optimizer(SPACE, UpperConfidenceBound(beta=1.5), 3, "maximize", 20, path)) as optimizer:
        optimizer.add(POINT, -0.25, std=0.125)
        for number in range(1, 12):
            trial = optimizer.ask()
            if number in (3, 8):
                optimizer.fail(trial, f"out of memory: ünit {number}")
            elif number == 5:
                optimizer.fail(trial, "connection lost", transient=True)
            elif number == 7:
                optimizer.withdraw(trial)
            elif number != 11:
                optimizer.tell(trial, outcome(trial.params), std=None if number % 3 else 0.01)


def old_history(folder: Path, name: str = OLD) -> Path:
    """A copy of a file of version 0.8.0."""
    return Path(shutil.copy(DATA / name, folder / "run.db"))


def change(path: Path, statement: str, *values: Any) -> int:
    """Changes a file by plain SQL, whatever its tables demand; the number of rows changed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA synchronous = OFF")
        changed = connection.execute(statement, values).rowcount
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return changed


class Killed(BaseException):
    """Stands for the end of a process."""


def killed_at(
    stop: int, path: Path, copy: Path, call: Callable[[Optimizer], Any], patch: pytest.MonkeyPatch
) -> bool:
    """Calls a method of an Optimizer, and copies what a kill leaves on the disk.

    Args:
        stop: the kill comes at this moment, before or after a statement that writes.
        path: the file.
        copy: where the copy goes.
        call: the method.
        patch: of the test.

    Returns:
        False if the call has ended before.
    """
    moments = count()

    def kill(moment: str) -> None:
        if next(moments) == stop:
            for file in path.parent.glob(f"{path.name}*"):
                if not file.name.endswith("-turns"):
                    shutil.copy(file, file.with_name(file.name.replace(path.name, copy.name)))
            raise Killed

    with closing(Optimizer.resume(path)) as optimizer:
        patch.setattr(database, "_failpoint", kill)
        try:
            call(optimizer)
        except Killed:
            return True
        finally:
            patch.setattr(database, "_failpoint", database._no_failpoint)
    return False


def select(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def seen(trials: list[Any]) -> list[str]:
    """What trials say, as far as version 0.8.0 does, too."""
    return [repr([getattr(trial, name) for name in OLD_FIELDS]) for trial in trials]


def stored(name: str) -> list[str]:
    """What the trials of a file of version 0.8.0 say."""
    return [repr([form[field] for field in OLD_FIELDS]) for form in CONTENTS[name]["trials"]]


def outcome_of(open_it: Callable[[Path], Any], path: Path, right: list[str], ask: bool) -> str:
    """What damage came to: "error", "right" or "WRONG"; an exception that is not ours by its name.

    Args:
        open_it: gives an Optimizer.
        path: the file.
        right: what its trials say without damage; the last one runs.
        ask: whether to ask, which takes some time.
    """
    optimizer = None
    try:
        optimizer = open_it(path)
        found = seen(optimizer.trials)
        best = optimizer.best
        told = optimizer.tell(len(right) - 1, 0.125)
        if ask:
            optimizer.ask()
        after = seen(optimizer.trials)
    except StorageError:
        return "error"
    except TrialError:  # the trial to be told does not run any more
        return "WRONG"
    except Exception as error:
        return type(error).__name__
    finally:
        if optimizer is not None:
            optimizer.close()
    whole = found == right and seen([best])[0] in right and told.value == 0.125
    whole = whole and after[: len(right)] == [*right[:-1], *seen([told])] and len(after) == len(right) + ask
    return "right" if whole else "WRONG"


VALUES = (
    *(0, 1, -1, 7, 2**63 - 1, 0.5, -1e300, 1e300, float("inf")),
    *("", "x", "0", "null", "{}", "[]", "-1"),
)


def change_at_random(path: Path, draw: np.random.Generator) -> str:
    """Changes one field of one row by plain SQL, and says which."""
    table = "trials" if draw.random() < 0.8 else "meta"
    rows = select(path, f"SELECT rowid, * FROM {table}")
    names = [name for (_, name, *_) in select(path, f"PRAGMA table_info({table})")]
    row = rows[draw.integers(len(rows))]
    column = int(draw.integers(len(names)))
    kind, old = int(draw.integers(4)), row[column + 1]
    new: Any = VALUES[draw.integers(len(VALUES))]
    if kind == 0:
        new = rows[draw.integers(len(rows))][column + 1]
    elif kind == 1 and isinstance(old, str) and old:
        place = int(draw.integers(len(old)))
        new = old[:place] + chr(int(draw.integers(32, 127))) + old[place + 1 :]
    elif kind == 1 and isinstance(old, int | float):
        new = old + 1
    elif kind == 2:
        new = draw.bytes(5)
    try:
        change(path, f"UPDATE {table} SET {names[column]} = ? WHERE rowid = ?", new, row[0])
    except (sqlite3.IntegrityError, sqlite3.OperationalError, OverflowError):
        return "refused by SQLite"
    return f"{table}.{names[column]} of row {row[0]}: {old!r:.60} to {new!r:.60}"

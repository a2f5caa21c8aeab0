"""Edits of what a history holds already: the outcome of a trial, and the space."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bo_suite.errors import SpaceError, StorageError
from bo_suite.space.space import Params, Space
from bo_suite.storage.by_parameter import ByParameter
from bo_suite.storage.changes import Action, outcome_of, write_change
from bo_suite.storage.goals import Noise, Told
from bo_suite.storage.queue import read_queue
from bo_suite.storage.rows import Row
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Header, Trial


def change(
    table: TrialTable, action: Action, number: int, changed_to: Callable[[Row], dict[str, Any]]
) -> Trial:
    """Sets the outcome of a trial in any state, within a transaction, and logs the change if it is one."""
    row = table.row(number)
    outcome = changed_to(row)
    known = row.state == outcome["state"] == "withdrawn"
    if not known and any(getattr(row, name) != value for name, value in outcome.items()):
        ended = table.database.now() if row.ended is None else row.ended
        changed = table.put(row, ended=ended, revision=table.next_revision(), **outcome)
        write_change(table.database, action, number, outcome_of(row), outcome_of(changed))
        if row.state != "running":  # earlier fits are no start for the next one
            table.put_header(replace(table.header, since=table.largest("id") + 1))
        row = changed
    return table.trial_of(row)


def corrected(row: Row, header: Header, value: Told, std: Noise, known: ByParameter) -> dict[str, Any]:
    """The fields of a row whose outcome is corrected; arguments and errors as `History.amend`."""
    goals = header.goals
    outcomes, stds = (json.loads(text or "{}") for text in (row.outcomes, row.stds))
    outcome = goals.amended(value, std, outcomes, stds)
    if std is None and row.outcomes is None:
        outcome["std"] = row.std
    by_parameter = known.stored(header.space, goals, row.params, outcome["value"])
    if known.gradient is None and outcome["value"] == row.value:
        by_parameter["gradient"] = row.gradient
    if known.params_std is None:
        by_parameter["params_std"] = row.params_std
    outcome |= by_parameter
    return outcome | {"state": "finished", "reason": None, "transient": 0, "traceback": None}


def forgotten(reason: str) -> dict[str, Any]:
    """The fields of a row that is withdrawn, whatever its state, and loses its outcome."""
    lost = ("value", "std", "outcomes", "stds", "gradient", "params_std", "traceback")
    return {**dict.fromkeys(lost), "state": "withdrawn", "reason": reason, "transient": 0}


def replace_space(table: TrialTable, before: Space, space: Space, values: Params) -> None:
    """Replaces the space, within a transaction; arguments and errors as `History.extend`."""
    if table.header.space != before:
        raise StorageError("another process has just changed the space; look at it, and try again")
    if table.largest("id") >= 0:
        revision = table.next_revision()
        for row in table.rows("ORDER BY id"):
            point = space.accept(json.loads(row.params), values)
            table.put(row, params=json.dumps(point, allow_nan=False), revision=revision)
    for queued in read_queue(table.database):
        try:
            space.check_some(queued.params)
        except SpaceError as error:
            rule = "queued points must lie in the new space (Optimizer.dequeue removes them)"
            raise SpaceError(f"{rule}, got {queued.params}: {error}") from error
    write_change(table.database, "extend", None, before.to_dict(), space.to_dict())
    table.put_header(replace(table.header, space=space, since=table.largest("id") + 1, extended=True))

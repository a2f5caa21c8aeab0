"""Rows of trials that a history gets: suggested points, and observations from elsewhere."""

import json
from collections.abc import Iterable
from typing import Any

from bo_suite.storage.holding import Holding
from bo_suite.storage.rows import Row
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Header, Observation
from bo_suite.values.describe import plain_text


def observed_row(observation: Observation, header: Header, now: float) -> Row:
    """The row of an observation from elsewhere, without its id.

    Raises:
        SpaceError: its point is not complete or not in the space.
        TrialError: its outcome breaks a rule.
    """
    space = header.space.unlisted  # what is not suggested still teaches
    point = json.dumps(space.check(observation.params), allow_nan=False)
    if observation.reason is not None:
        return Row(params=point, state="failed", reason=plain_text(observation.reason), ended=now)
    told: Any = observation.value  # the check refuses None
    return Row(params=point, state="finished", ended=now, **header.goals.stored(told, observation.std))


def append(table: TrialTable, holding: Holding, rows: Iterable[Row]) -> list[Row]:
    """Writes rows with the next ids, within a transaction, each as soon as it is made.

    A server ends a transaction in which nothing happens for seconds.
    """
    first = table.largest("id") + 1
    shared = {"started": table.database.now(), "owner": holding.owner, "revision": table.next_revision()}
    table.reports.remove_from(first)
    written = [table.put(row, id=number, **shared) for number, row in enumerate(rows, first)]
    if any(row.state == "running" for row in written):
        holding.begin()
    return written

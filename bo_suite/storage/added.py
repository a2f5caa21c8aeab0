"""What a history gets: rows of suggested points and of observations from elsewhere, and queued points."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bo_suite.space.space import Params
from bo_suite.storage.by_parameter import ByParameter
from bo_suite.storage.holding import Holding
from bo_suite.storage.queue import read_queue, write_queued
from bo_suite.storage.rows import Row
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Header, Observation, Queued
from bo_suite.values.describe import plain_text


def asked_row(point: Params, provenance: str, header: Header) -> Row:
    """The row of a suggested point, without its id; raises a SpaceError unless it is a point of the space."""
    params = json.dumps(header.space.check(point), allow_nan=False)
    return Row(params=params, asked=1, provenance=provenance)


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
    outcome = header.goals.stored(told, observation.std)
    known = ByParameter(observation.gradient, observation.params_std)
    outcome |= known.stored(space, header.goals, point, outcome["value"])
    return Row(params=point, state="finished", ended=now, **outcome)


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


def queued_points(table: TrialTable, points: Sequence[Params], *, repeats: bool) -> list[Queued]:
    """Queues points, within a transaction; arguments and errors as `History.enqueue`."""
    checked = [table.header.space.check_some(point) for point in points]
    if not repeats:
        present = [json.loads(row.params) for row in table.rows("ORDER BY id")]
        present += [queued.params for queued in read_queue(table.database)]
        checked = [p for p in checked if not any(p.items() <= other.items() for other in present)]
    return write_queued(table.database, checked)

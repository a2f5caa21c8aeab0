"""Trials on disk or in memory: the history is the only state of an optimiser.

A history on disk is one SQLite file (standard library, rollback journal, synchronous EXTRA); `path=None`
keeps the same tables in memory. Every write is one short `BEGIN IMMEDIATE` transaction, so any number of
processes on one machine may share a file; no lock is held while the caller computes. Keep the file on a local
disk.

A running trial belongs to the `History` that handed it out, its owner. An owner is dead if its process on
this host is gone (or its process id now belongs to a process with another start time), or if it is a closed
or collected `History` of this process. Owners on other hosts, in other containers and in other living
processes count as alive.
"""

import json
import operator
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bo_suite.errors import SpaceError, StorageError
from bo_suite.space.space import Params, Space
from bo_suite.storage.changes import Action, Change, outcome_of, read_changes, write_change
from bo_suite.storage.database import BUSY_TIMEOUT_S
from bo_suite.storage.goals import Noise, Told
from bo_suite.storage.paths import check_path, storage_path
from bo_suite.storage.queue import read_queue, remove_queued, write_queued
from bo_suite.storage.rows import Row, trial_of
from bo_suite.storage.schema import WITH_QUEUE
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Header, Observation, Queued, Snapshot, Trial
from bo_suite.storage.turns import Turns
from bo_suite.storage.validation import (
    check_may_end,
    provenance_json,
    require_traceback,
)
from bo_suite.system.owners import has_live_owner, new_owner
from bo_suite.values.describe import plain_text

_opened: "weakref.WeakSet[History]" = weakref.WeakSet()


class History:
    """The trials of one optimiser, in a file or in memory; threads and forked processes may share it.

    Implements `Storage`. Use `History.open`. Every public method raises StorageError if the file cannot be
    read or written, or is damaged; a write that fails is rolled back, and the history stays usable.
    """

    def __init__(self, path: Path | None, header: Header | None, functions: Sequence[Any] = ()) -> None:
        self.path = path
        self._owner = (os.getpid(), new_owner())
        self._table = TrialTable(path, header, functions)
        self._turns = Turns(path)
        _opened.add(self)

    @property
    def header(self) -> Header:
        """Space, seed, goals and settings, as they are now or, once it is closed, as they were last read.

        Another process may change the space.
        """
        if not self._table.database.closed:
            with self._table.database.session():
                self._table.read_header()
        return self._table.header

    @staticmethod
    def open(path: str | Path | None, header: Header | None, functions: Sequence[Any] = ()) -> "History":
        """The history in a file, which is created if it is missing; in memory if the path is None.

        Args:
            path: a file on a local disk, or None.
            header: space, seed and goals must equal those of an existing file; a budget and an
                acquisition that are not None replace those of the file. If the header is None, the file
                must exist, and may be read-only.
            functions: the constraint functions of the space if the header is None; without them the points
                of the file can be read, and no new one can be chosen.

        Raises:
            StorageError: the folder is missing or read-only, or the file is not a history, is damaged, is
                from a newer version, or belongs to another space, seed or goals.
        """
        file = storage_path(path)
        if file is not None or header is None:
            check_path(file, must_exist=header is None)
        return History(file, header, functions)

    @property
    def owner(self) -> str:
        """Name of the owner of the trials that this history hands out; a forked child has another one."""
        if self._owner[0] != os.getpid():
            self._owner = (os.getpid(), new_owner())
        return self._owner[1]

    def trials(self) -> list[Trial]:
        """All trials, ordered by id, as a new list; reads only rows that changed since the last call.

        Ids have gaps if rows were deleted from the file. If another process has changed the space, the header
        is read again too.
        """
        return self._table.trials()

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None if there is no such trial."""
        return self._table.trial(number)

    def snapshot(self) -> Snapshot:
        """Header, trials and queue at one instant."""
        with self._table.database.transaction("DEFERRED"):
            trials, queue = self.trials(), self.queue()
            return Snapshot(self._table.header, trials, queue)

    def queue(self) -> list[Queued]:
        """The points that are asked next, in order."""
        with self._table.database.session():
            self._table.read_changes()
            return read_queue(self._table.database) if self._table.header.schema >= WITH_QUEUE else []

    def changes(self) -> list[Change]:
        """What was amended, forgotten and extended, in order of making."""
        with self._table.database.session():
            self._table.read_changes()
            return read_changes(self._table.database) if self._table.header.schema >= WITH_QUEUE else []

    def turn(self) -> AbstractContextManager[bool]:
        """Waits until earlier callers have left their turns; yields False if that took over a minute."""
        return self._turns.turn(BUSY_TIMEOUT_S)

    def insert(
        self,
        params: Sequence[Params],
        provenance: Sequence[Mapping[str, Any]],
        *,
        expected: int | None,
        space: Space | None = None,
        queued: Sequence[int] = (),
    ) -> list[Trial] | None:
        """Stores points as running trials of this process, all or none of them.

        Args:
            params: points of the space.
            provenance: one mapping a point, in JSON values.
            expected: the id of the first new trial; None skips the check.
            space: the space that the points were chosen in; None skips the check.
            queued: ids of queued points, which these points replace.

        Returns:
            The trials; None, with nothing written, if the points were chosen from an earlier state: the next
            id is not `expected`, a queued point is gone, or the space has changed.

        Raises:
            SpaceError: a point is not complete or not in the space.
            TrialError: a provenance is not JSON.
        """
        table, sources = self._table, list(map(provenance_json, provenance))
        with table.transaction():
            if space not in (None, table.header.space) or expected not in (None, table.largest("id") + 1):
                return None
            rows = [
                Row(params=self._point(point), asked=1, provenance=source)
                for point, source in zip(params, sources, strict=True)
            ]
            if not remove_queued(table.database, queued):
                return None
            return self._append(rows)

    def add_all(self, observations: Sequence[Observation]) -> list[Trial]:
        """Stores observations that were not asked for, all or none of them, as finished and failed trials.

        Raises:
            SpaceError: a point is not complete or not in the space.
            TrialError: a value or a std is not finite, or a std is below 0.
        """
        with self._table.transaction():
            return self._append([self._added(observation) for observation in observations])

    def enqueue(self, points: Sequence[Params], *, repeats: bool = True) -> list[Queued]:
        """Stores points to be asked next, after those that are queued already, and returns them.

        Args:
            points: points of the space, or parts of points.
            repeats: whether to queue points too that a trial or a queued point has already.

        Raises:
            SpaceError: a parameter is unknown, or does not have the value.
        """
        with self._table.transaction():
            checked = [self._table.header.space.check_some(point) for point in points]
            if not repeats:
                present = [json.loads(row.params) for row in self._table.rows("ORDER BY id")]
                present += [queued.params for queued in read_queue(self._table.database)]
                checked = [p for p in checked if not any(p.items() <= other.items() for other in present)]
            return write_queued(self._table.database, checked)

    def dequeue(self) -> list[Queued]:
        """Removes all queued points, and returns them."""
        with self._table.transaction():
            queued = read_queue(self._table.database)
            remove_queued(self._table.database, [point.id for point in queued])
            return queued

    def tell(self, trial: int, value: Told, std: Noise = None, attempt: int | None = None) -> Trial:
        """Finishes a running trial; on return the value is on the disk.

        Args:
            trial: its id.
            value: the outcome, or outcomes by name.
            std: standard deviation of its noise, or these by name.
            attempt: the attempt that was evaluated; None if there was one alone, or for that of this history.

        Raises:
            TrialError: the outcome breaks a rule of `Goals.stored`, or the trial is unknown, has ended or was
                handed out again; its state does not change.
        """
        return self._end(trial, attempt, "finished", **self._table.header.goals.stored(value, std))

    def fail(
        self,
        trial: int,
        reason: str,
        attempt: int | None = None,
        *,
        transient: bool = False,
        traceback: str | None = None,
    ) -> Trial:
        """Ends a running trial that has no value.

        Args:
            trial: its id.
            reason: why it has no value.
            attempt: as in `tell`.
            transient: whether it failed by chance, so that nothing is learnt about its point.
            traceback: of the exception, as text.

        Raises:
            TrialError: as in `tell`, or the traceback is not a string.
        """
        text = require_traceback(traceback)
        outcome: dict[str, Any] = {
            "reason": plain_text(reason),
            "transient": int(bool(transient)),
            "traceback": text,
        }
        return self._end(trial, attempt, "failed", **outcome)

    def withdraw(
        self, trial: int, reason: str = "withdrawn", attempt: int | None = None, *, requeue: bool = False
    ) -> Trial:
        """Ends a running trial that will not be evaluated; arguments and errors as in `fail`.

        With `requeue` its point is queued in the same transaction, unless it is outside of a narrowed space.
        """
        return self._end(trial, attempt, "withdrawn", requeue, reason=plain_text(reason))

    def amend(self, trial: int, value: Told, std: Noise = None) -> Trial:
        """Sets the outcome of a trial in any state, which is finished then; `changes` has what was there.

        Args:
            trial: its id.
            value: the outcome.
            std: standard deviation of its noise; None for the stored one. Of outcomes by name, those that are
                not given stay.

        Raises:
            TrialError: the value or the std is not finite, or the trial is unknown.
        """

        def corrected(row: Row) -> dict[str, Any]:
            outcomes, stds = (json.loads(text or "{}") for text in (row.outcomes, row.stds))
            outcome = self._table.header.goals.amended(value, std, outcomes, stds)
            if std is None and row.outcomes is None:
                outcome["std"] = row.std
            return outcome | {"state": "finished", "reason": None, "transient": 0, "traceback": None}

        return self._change("amend", trial, corrected)

    def forget(self, trial: int, reason: str) -> Trial:
        """Withdraws a trial in any state, and removes its outcome; `changes` has what was there.

        Raises:
            TrialError: the trial is unknown.
        """
        outcome: dict[str, Any] = dict.fromkeys(("value", "std", "outcomes", "stds", "traceback"))
        outcome |= {"state": "withdrawn", "reason": plain_text(reason), "transient": 0}
        return self._change("forget", trial, lambda _: outcome)

    def extend(self, before: Space, space: Space, values: Params) -> None:
        """Replaces the space; points of earlier trials stay, also those outside of the new space.

        Args:
            before: the space that the new one was made from.
            space: the new space. It has all parameters of the present one, and maybe more.
            values: by name, of the new parameters in all earlier trials in which they are active.

        Raises:
            SpaceError: an earlier point cannot be one of the new space, or a queued one is outside of it.
            StorageError: the space is not `before` any more.
        """
        table = self._table
        with table.transaction():
            if self._table.header.space != before:
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

    def reclaim(self, most: int | None = None) -> list[Trial]:
        """Takes over running trials of dead owners, each as one more attempt, and returns them.

        Args:
            most: maximum number of trials, the first ones; None for all.
        """
        table = self._table
        with table.transaction():
            open_owners = {history.owner for history in list(_opened)}
            running = table.rows("WHERE state = 'running' ORDER BY id")
            lost = [row for row in running if not has_live_owner(row.owner, open_owners)]
            revision, now = table.next_revision(), time.time()
            taken = [
                table.put(row, attempt=row.attempt + 1, started=now, owner=self.owner, revision=revision)
                for row in lost[:most]
            ]
            return [trial_of(row, self._table.header.run) for row in taken]

    def close(self) -> None:
        """Closes the file; running trials stay running."""
        _opened.discard(self)
        self._table.database.close()
        self._turns.forget()

    def _point(self, params: Params) -> str:
        return json.dumps(self._table.header.space.check(params), allow_nan=False)

    def _added(self, observation: Observation) -> Row:
        """The row of an observation from elsewhere, without its id."""
        now, space = time.time(), self._table.header.space.unlisted  # what is not suggested still teaches
        point = json.dumps(space.check(observation.params), allow_nan=False)
        if observation.reason is not None:
            return Row(params=point, state="failed", reason=plain_text(observation.reason), ended=now)
        told: Any = observation.value  # the check refuses None
        outcome = self._table.header.goals.stored(told, observation.std)
        return Row(params=point, state="finished", ended=now, **outcome)

    def _append(self, rows: Sequence[Row]) -> list[Trial]:
        """Writes rows with new ids, within a transaction."""
        table = self._table
        shared = {"started": time.time(), "owner": self.owner, "revision": table.next_revision()}
        first = table.largest("id") + 1
        written = [table.put(row, id=number, **shared) for number, row in enumerate(rows, first)]
        return [trial_of(row, self._table.header.run) for row in written]

    def _end(
        self, trial: int, attempt: int | None, state: str, requeue: bool = False, **outcome: Any
    ) -> Trial:
        table, number = self._table, operator.index(trial)
        with table.transaction():
            row = table.row(number)
            check_may_end(row, attempt, self.owner)
            revision = table.next_revision()
            ended = table.put(row, state=state, ended=time.time(), revision=revision, **outcome)
            if requeue:
                with suppress(SpaceError):
                    point = table.header.space.check_some(json.loads(row.params))
                    write_queued(table.database, [point])
            return trial_of(ended, self._table.header.run)

    def _change(self, action: Action, trial: int, changed_to: Callable[[Row], dict[str, Any]]) -> Trial:
        """Sets the outcome of a trial in any state, and logs the change if it is one."""
        table, number = self._table, operator.index(trial)
        with table.transaction():
            row = table.row(number)
            outcome = changed_to(row)
            known = row.state == outcome["state"] == "withdrawn"
            if not known and any(getattr(row, name) != value for name, value in outcome.items()):
                ended = time.time() if row.ended is None else row.ended
                changed = table.put(row, ended=ended, revision=table.next_revision(), **outcome)
                write_change(table.database, action, number, outcome_of(row), outcome_of(changed))
                if row.state != "running":  # earlier fits are no start for the next one
                    table.put_header(replace(self._table.header, since=table.largest("id") + 1))
                row = changed
            return trial_of(row, self._table.header.run)

"""Trials in a file, a database or memory: the history is the only state of an optimiser.

A history on disk is one SQLite file (standard library, rollback journal, synchronous EXTRA); a path of None
keeps the same tables in memory, and an address has them in a PostgreSQL database. Every write is one short
transaction, so any number of processes may share a history; no lock is held while the caller computes. Keep a
file on a local disk.
"""

import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, SupportsFloat

from bo_suite.space.space import Params, Space
from bo_suite.storage.added import append, asked_row, observed_row, queued_points
from bo_suite.storage.addresses import Address, Lease, Location
from bo_suite.storage.attempts import Attempts, checked_report, checked_step, checked_verdict
from bo_suite.storage.by_parameter import ByName, ByParameter
from bo_suite.storage.changes import Change, read_changes
from bo_suite.storage.database import BUSY_TIMEOUT_S
from bo_suite.storage.edits import change, corrected, forgotten, replace_space
from bo_suite.storage.goals import Noise, Told
from bo_suite.storage.holding import Holding
from bo_suite.storage.leases import ATTEMPTS, Holder
from bo_suite.storage.paths import check_path, storage_place
from bo_suite.storage.queue import read_queue, remove_all_queued, remove_queued
from bo_suite.storage.rows import Row
from bo_suite.storage.schema import WITH_QUEUE
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Header, Observation, Queued, Snapshot, Trial, Verdict
from bo_suite.storage.turns import turns_at
from bo_suite.storage.validation import provenance_json, require_traceback
from bo_suite.values.describe import plain_text


class History:
    """The trials of one optimiser, in a file, a database or memory, shared by threads and forked processes.

    Implements `Storage`. Use `History.open`. Every public method raises StorageError if the file cannot be
    read or written, or is damaged; a write that fails is rolled back, and the history stays usable.
    """

    def __init__(
        self, place: Path | Address | None, header: Header | None, functions: Sequence[Any] = ()
    ) -> None:
        self.place = place
        self._table = TrialTable(place, header, functions)
        self._turns = turns_at(place, self._table.database)
        self._holding = Holding(self._table, place.lease if isinstance(place, Address) else Lease())
        self._attempts = Attempts(self._table, self._holding)

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
    def open(path: Location | None, header: Header | None, functions: Sequence[Any] = ()) -> "History":
        """The history at a place, which is created if it is missing; in memory if the path is None.

        Args:
            path: a file on a local disk, an address postgresql://user@host/database?run=NAME, or None.
            header: space, seed and goals must equal those of an existing file; a budget and an
                acquisition that are not None replace those of the file. If the header is None, the file
                must exist, and may be read-only.
            functions: the constraint functions of the space if the header is None; without them the points
                of the file can be read, and no new one can be chosen.

        Raises:
            StorageError: the folder is missing or read-only, or the file is not a history, is damaged, is
                from a newer version, or belongs to another space, seed or goals.
        """
        place = storage_place(path)
        if isinstance(place, Path) or (place is None and header is None):
            check_path(place, must_exist=header is None)
        return History(place, header, functions)

    @property
    def owner(self) -> str:
        """Name of the owner of the trials that this history hands out; a forked child has another one."""
        return self._holding.owner

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
        return self._table.database.atomically(self._seen, writes=False)

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

        def inserted() -> list[Row] | None:
            header, first = table.header, table.largest("id") + 1
            if space not in (None, header.space) or expected not in (None, first):
                return None
            rows = [asked_row(*pair, header) for pair in zip(params, sources, strict=True)]
            return append(table, self._holding, rows) if remove_queued(table.database, queued) else None

        rows = table.stored(inserted)
        trials = None if rows is None else list(map(table.trial_of, rows))
        self._holding.add(trials or ())
        return trials

    def add_all(self, observations: Sequence[Observation]) -> list[Trial]:
        """Stores observations that were not asked for, all or none of them, as finished and failed trials.

        Raises:
            SpaceError: a point is not complete or not in the space.
            TrialError: a value or a std is not finite, or a std is below 0.
        """
        table = self._table

        def added() -> list[Row]:
            now, header = self.now(), table.header
            return append(table, self._holding, (observed_row(one, header, now) for one in observations))

        rows = table.stored(added)
        return list(map(table.trial_of, rows))

    def enqueue(self, points: Sequence[Params], *, repeats: bool = True) -> list[Queued]:
        """Stores points to be asked next, after those that are queued already, and returns them.

        Args:
            points: points of the space, or parts of points.
            repeats: whether to queue points too that a trial or a queued point has already.

        Raises:
            SpaceError: a parameter is unknown, or does not have the value.
        """

        return self._table.stored(lambda: queued_points(self._table, points, repeats=repeats))

    def dequeue(self) -> list[Queued]:
        """Removes all queued points, and returns them."""

        return self._table.stored(lambda: remove_all_queued(self._table.database))

    def tell(
        self,
        trial: int,
        value: Told,
        std: Noise = None,
        attempt: int | None = None,
        gradient: ByName = None,
        params_std: ByName = None,
    ) -> Trial:
        """Finishes a running trial; on return the value is on the disk.

        Args:
            trial: its id.
            value: the outcome, or outcomes by name.
            std: standard deviation of its noise, or these by name.
            attempt: the attempt that was evaluated; None if there was one alone, or for that of this history.
            gradient: derivatives of the value of the only objective by some parameters.
            params_std: standard deviations of what was really set, of some parameters.

        Raises:
            TrialError: the outcome breaks a rule of `Goals.stored` or `ByParameter.stored`, or the trial is
                unknown, has ended or was handed out again; its state does not change.
        """
        table, known = self._table, ByParameter(gradient, params_std)
        outcome = table.header.goals.stored(value, std)

        def ending(row: Row) -> dict[str, Any]:
            header = table.header
            by_parameter = known.stored(header.space, header.goals, row.params, outcome["value"])
            return {"state": "finished", **outcome, **by_parameter}

        return self._attempts.end(trial, attempt, ending)

    def report(
        self,
        trial: int,
        step: int,
        value: SupportsFloat,
        seconds: SupportsFloat | None = None,
        attempt: int | None = None,
        verdict: Verdict | None = None,
    ) -> Trial:
        """Stores an intermediate outcome of a running trial; on return it is on the disk.

        The value replaces that of an earlier attempt at the same step, whose verdict stands.

        Args:
            trial: its id.
            step: number of the step, from 1 on; increases within an attempt.
            value: the outcome after the step.
            seconds: that the evaluation took so far; None for those of this attempt, and of earlier ones up
                to their last report.
            attempt: as in `tell`.
            verdict: what is decided, which takes effect as in `decide`; None to decide later.

        Raises:
            SupersededError: another attempt is the current one.
            TrialError: an argument breaks a rule, or the trial is unknown or has ended.
        """
        return self._attempts.report(trial, checked_report(step, value, seconds, verdict), attempt)

    def decide(self, trial: int, step: int, verdict: Verdict, attempt: int | None = None) -> Trial:
        """Stores the verdict of a report that has none.

        "stop" and "pause" end the attempt: the trial is stopped or paused, and has the value of the report.

        Raises:
            SupersededError: another attempt is the current one.
            TrialError: there is no such report of this attempt, or it is decided, or the trial has ended.
        """
        return self._attempts.decide(trial, checked_step(step), checked_verdict(verdict), attempt)

    def promote(self, trial: int, expected_attempt: int) -> Trial | None:
        """Continues a paused trial as one more attempt, which belongs to this history.

        Returns:
            The running trial; None, with nothing written, if it is not paused at that attempt any more.

        Raises:
            TrialError: the trial is unknown.
        """
        return self._attempts.promote(trial, expected_attempt)

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
            "state": "failed",
            "reason": plain_text(reason),
            "transient": int(bool(transient)),
            "traceback": text,
        }
        return self._attempts.end(trial, attempt, lambda _: outcome)

    def withdraw(
        self, trial: int, reason: str = "withdrawn", attempt: int | None = None, *, requeue: bool = False
    ) -> Trial:
        """Ends a running trial that will not be evaluated; arguments and errors as in `fail`.

        With `requeue` its point is queued in the same transaction, unless it is outside of a narrowed space.
        """
        outcome = {"state": "withdrawn", "reason": plain_text(reason)}
        return self._attempts.end(trial, attempt, lambda _: outcome, requeue)

    def amend(
        self, trial: int, value: Told, std: Noise = None, gradient: ByName = None, params_std: ByName = None
    ) -> Trial:
        """Sets the outcome of a trial in any state, which is finished then; `changes` has what was there.

        Args:
            trial: its id.
            value: the outcome.
            std: standard deviation of its noise; None for the stored one. Of outcomes by name, those that are
                not given stay.
            gradient: of the value; None for none, or for the stored one if the value stays as it is.
            params_std: as in `tell`; None for the stored ones.

        Raises:
            TrialError: the value or the std is not finite, or the trial is unknown, or as in `tell`.
        """
        table, number, known = self._table, operator.index(trial), ByParameter(gradient, params_std)

        def amended(row: Row) -> dict[str, Any]:
            return corrected(row, table.header, value, std, known)

        return table.stored(lambda: change(table, "amend", number, amended))

    def forget(self, trial: int, reason: str) -> Trial:
        """Withdraws a trial in any state, and removes its outcome; `changes` has what was there.

        Raises:
            TrialError: the trial is unknown.
        """
        number, outcome = operator.index(trial), forgotten(plain_text(reason))
        return self._table.stored(lambda: change(self._table, "forget", number, lambda _: outcome))

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
        self._table.stored(lambda: replace_space(self._table, before, space, values))

    def reclaim(self, most: int | None = None, attempts: int | None = ATTEMPTS) -> list[Trial]:
        """Takes over running trials of dead owners and of expired leases, each as one more attempt.

        Args:
            most: number of trials to take over; None for all.
            attempts: number of attempts after which a trial is failed instead; None for any number.
        """
        if not self._table.database.atomically(self._holding.abandoned, writes=False):
            return []
        taken = self._table.stored(lambda: self._holding.take(most, attempts))
        self._holding.add(taken)
        return taken

    def hold(self) -> None:
        """Keeps the running trials of this history until they are told, also when this process has ended."""
        self._holding.keep()

    def holders(self) -> list[Holder]:
        """Who holds running trials, and until when."""
        return self._table.database.atomically(self._holding.holders, writes=False)

    def now(self) -> float:
        """Unix seconds, by the clock of the times of trials and leases."""
        return self._table.database.now()

    def close(self) -> None:
        """Closes the storage; running trials stay running."""
        self._holding.close()
        self._table.database.close()
        self._turns.forget()

    def _seen(self) -> Snapshot:
        table, trials = self._table, self._table.trials()
        queue = read_queue(table.database) if table.header.schema >= WITH_QUEUE else []
        return Snapshot(table.header, trials, queue)

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, SupportsFloat, cast

from bo_suite.errors import StorageError, TrialError
from bo_suite.space.space import Params
from bo_suite.storage import database as db
from bo_suite.storage import schema
from bo_suite.storage.content import is_whole
from bo_suite.storage.headers import agreed_header, migrated, row_error, stored_header, stored_run
from bo_suite.storage.paths import check_path, storage_path
from bo_suite.storage.rows import Row, StoredRow, content_of, fault_in, sealed, trial_of
from bo_suite.storage.trial import Header, Trial
from bo_suite.storage.turns import Turns
from bo_suite.storage.validation import (
    check_may_end,
    provenance_json,
    require_outcome,
    require_traceback,
)
from bo_suite.system.owners import has_live_owner, new_owner
from bo_suite.values.describe import plain_text

_MOST = 2**62
"""Above all ids and revisions; a larger number is damage, and close to the limit of SQLite."""

_opened: "weakref.WeakSet[History]" = weakref.WeakSet()


class History:
    """The trials of one optimiser, in a file or in memory; threads and forked processes may share it.

    Implements `Storage`. Use `History.open`. Every public method raises StorageError if the file cannot be
    read or written, or is damaged; a write that fails is rolled back, and the history stays usable.
    """

    header: Header

    def __init__(self, path: Path | None, header: Header | None) -> None:
        self.path = path
        self._owner = (os.getpid(), new_owner())
        self._trials: dict[int, Trial] = {}
        self._written: list[Row] = []  # by the current transaction
        self._revision, self._version = 0, -1  # everything up to these was read
        self._newest, self._highest = 0, 0  # the largest revision in the file, and the largest ever seen
        self._database = db.Database(path, create=header is not None)
        self._turns = Turns(path)
        _opened.add(self)
        try:
            self.header = self._open_file(header)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def open(path: str | Path | None, header: Header | None) -> "History":
        """The history in a file, which is created if it is missing; in memory if the path is None.

        Args:
            path: a file on a local disk, or None.
            header: space, seed and direction must equal those of an existing file; a budget and an
                acquisition that are not None replace those of the file. If the header is None, the file
                must exist, and may be read-only.

        Raises:
            StorageError: the folder is missing or read-only, or the file is not a history, is damaged, is
                from a newer version, or belongs to another space, seed or direction.
        """
        file = storage_path(path)
        if file is not None or header is None:
            check_path(file, must_exist=header is None)
        return History(file, header)

    @property
    def owner(self) -> str:
        """Name of the owner of the trials that this history hands out; a forked child has another one."""
        if self._owner[0] != os.getpid():
            self._owner = (os.getpid(), new_owner())
        return self._owner[1]

    def trials(self) -> list[Trial]:
        """All trials, ordered by id, as a new list; reads only rows that changed since the last call.

        Ids have gaps if rows were deleted from the file.
        """
        with self._database.session():
            version = self._database.number("PRAGMA data_version")  # counts other connections' commits
            if version != self._version:
                self._refresh()
                self._version = version
            return list(self._trials.values())

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None if there is no such trial."""
        self.trials()
        return self._trials.get(number)

    def turn(self) -> AbstractContextManager[bool]:
        """Waits until earlier callers have left their turns; yields False if that took over a minute."""
        return self._turns.turn(db.BUSY_TIMEOUT_S)

    def insert(
        self, params: Sequence[Params], provenance: Sequence[Mapping[str, Any]], *, expected: int | None
    ) -> list[Trial] | None:
        """Stores points as running trials of this process, all or none of them.

        Args:
            params: points of the space.
            provenance: one mapping a point, in JSON values.
            expected: the id of the first new trial; None skips the check.

        Returns:
            The trials; None if the next id is not `expected`, since another process has stored a trial:
            then nothing is written.

        Raises:
            SpaceError: a point is not complete or not in the space.
            TrialError: a provenance is not JSON.
        """
        sources = map(provenance_json, provenance)
        points = map(self._point, params)
        rows = [
            Row(params=point, asked=1, provenance=source)
            for point, source in zip(points, sources, strict=True)
        ]
        return self._append(rows, expected)

    def add(self, params: Params, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores an observation that was not asked for, as a finished trial.

        Raises:
            SpaceError: the point is not complete or not in the space.
            TrialError: the value or the std is not finite, or the std is below 0.
        """
        return self._add(params, "finished", **require_outcome(value, std))

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure that was not asked for; raises SpaceError as `add` does."""
        return self._add(params, "failed", reason=plain_text(reason))

    def tell(
        self, trial: int, value: SupportsFloat, std: SupportsFloat | None = None, attempt: int | None = None
    ) -> Trial:
        """Finishes a running trial; on return the value is on the disk.

        Args:
            trial: its id.
            value: the outcome.
            std: standard deviation of its noise.
            attempt: the attempt that was evaluated; None if there was one alone, or for that of this history.

        Raises:
            TrialError: the value or the std is not finite, or the trial is unknown, has ended or was handed
                out again; its state does not change.
        """
        return self._end(trial, attempt, "finished", **require_outcome(value, std))

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
        outcome = {"reason": plain_text(reason), "transient": int(bool(transient)), "traceback": text}
        return self._end(trial, attempt, "failed", **outcome)

    def withdraw(self, trial: int, reason: str = "withdrawn", attempt: int | None = None) -> Trial:
        """Ends a running trial that will not be evaluated; arguments and errors as in `fail`."""
        return self._end(trial, attempt, "withdrawn", reason=plain_text(reason))

    def reclaim(self) -> list[Trial]:
        """Takes over the running trials of dead owners, each as one more attempt, and returns them."""
        with self._transaction():
            running = self._rows("WHERE state = 'running' ORDER BY id")
            revision, now = self._next_revision(), time.time()
            open_owners = {history.owner for history in list(_opened)}
            taken = [
                self._put(row, attempt=row.attempt + 1, started=now, owner=self.owner, revision=revision)
                for row in running
                if not has_live_owner(row.owner, open_owners)
            ]
            return [trial_of(row, self.header.run) for row in taken]

    def close(self) -> None:
        """Closes the file; running trials stay running."""
        _opened.discard(self)
        self._database.close()
        self._turns.forget()

    def _open_file(self, expected: Header | None) -> Header:
        """The header of the file, which is created or updated."""
        database = self._database
        try:
            stored = self._checked_header(expected)  # before any write: the file may not be ours
            database.check_folder()
            database.configure()
            with database.transaction():
                stored = stored_header(database, expected)
                if expected is not None:
                    expected = agreed_header(database, expected, stored)
                database.write("DELETE FROM meta WHERE 0")  # BEGIN alone is no test of a read-only file
        except db.NotWritable:
            if expected is not None:
                raise
            database.read_only()
            stored = self._checked_header(None)
        return expected or cast(Header, stored)  # stored_header raises if both are None

    def _checked_header(self, expected: Header | None) -> Header | None:
        """The header of the file, after a check of its structure."""
        database = self._database
        with database.transaction("DEFERRED"):  # one state, while another process may be creating it
            stored = stored_header(database, expected)
            try:
                database.check_integrity()
            except StorageError:
                if stored is not None:  # SQLite does not say which row is damaged
                    self.header = stored
                    self._rows("ORDER BY id")
                raise
        return stored

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction that writes, after the file was migrated to this version."""
        if self.header.schema < schema.VERSION:
            with self._database.transaction():
                self._check_run()
                self.header = migrated(self._database, self.header)
        with self._database.session():
            self._written = []
            with self._database.transaction():
                try:
                    self._check_run()
                    if self._largest("revision") < self._newest:
                        self._refresh()
                    yield
                finally:
                    self._version = -1  # data_version does not count our own commits
            self._remember_written()

    def _refresh(self) -> None:
        """Reads the rows that have changed, or all rows if some were deleted."""
        rows = self._rows("WHERE revision > ? ORDER BY id", self._revision)
        last = next(reversed(self._trials), -1)
        new = [row.id for row in rows if row.id not in self._trials]
        ((count, revision, row),) = self._database.execute("SELECT count(*), max(revision), id FROM trials")
        newest = self._checked_number("revision", revision, row)
        deleted = count != len(self._trials) + len(new) or newest < self._newest
        if deleted or (new and new[0] < last):
            rows = self._rows("ORDER BY id")
            self._check_course(rows)
            self._highest = max(self._highest, self._newest)
            self._trials, self._revision, self._newest = {}, 0, 0
        self._remember(rows)
        self._revision = self._newest

    def _remember(self, rows: list[Row]) -> None:
        """Updates the trials in memory; rows of new trials come last."""
        run = self.header.run
        self._trials.update({row.id: trial_of(row, run) for row in rows})
        self._newest = max([self._newest, *(row.revision for row in rows)])

    def _remember_written(self) -> None:
        """Updates the trials in memory by the rows just written, except ids that would be out of order.

        These are read at the next call of `trials`.
        """
        last = next(reversed(self._trials), -1)
        self._remember([row for row in self._written if row.id in self._trials or row.id > last])
        self._newest = max([self._newest, *(row.revision for row in self._written)])

    def _check_run(self) -> None:
        """Raises a StorageError if another history has replaced the file."""
        if self.path is not None and self.header.run not in ("", stored_run(self._database)):
            raise self._replaced("another history")

    def _check_course(self, rows: list[Row]) -> None:
        """Raises a StorageError if an ended trial is running in the file, which then is an older copy."""
        for row in rows:
            before = self._trials.get(row.id)
            if before is not None and row.state == "running" and before.state != "running":
                raise self._replaced(f"an earlier state of trial {row.id}")

    def _replaced(self, content: str) -> StorageError:
        return StorageError(
            f"{self._database.name} was replaced while it was open, and now holds {content}; nothing more is "
            "stored"
        )

    def _rows(self, condition: str, *values: Any) -> list[Row]:
        """Rows of the file, after a check of each."""
        try:
            rows = self._database.execute(f"SELECT * FROM trials {condition}", values)
        except db.NotText:
            self._check(self._database.texts("SELECT * FROM trials ORDER BY id"))
            raise
        self._check(rows)
        return list(map(content_of, rows))

    def _check(self, rows: list[StoredRow]) -> None:
        for row in rows:
            if (fault := fault_in(row, self.header.space)) is not None:
                raise row_error(self._database, row[0], fault)

    def _next_revision(self) -> int:
        """A number above all revisions so far, also those of rows that were deleted from the file."""
        return max(self._largest("revision"), self._newest, self._highest) + 1

    def _largest(self, column: str) -> int:
        """The largest number in a column; -1 if there are no rows."""
        ((number, row),) = self._database.execute(f"SELECT max({column}), id FROM trials")
        return self._checked_number(column, number, row)

    def _checked_number(self, column: str, number: Any, row: Any) -> int:
        if number is not None and not (is_whole(number) and number < _MOST):
            raise row_error(self._database, row, f"{column}: must be an integer < 2^62, got {number!r:.50}")
        return -1 if number is None else int(number)

    def _point(self, params: Params) -> str:
        return json.dumps(self.header.space.check(params), allow_nan=False)

    def _put(self, row: Row, **changes: Any) -> Row:
        """Writes a row with changes, and returns it."""
        changed = row._replace(**changes)
        self._database.write(schema.PUT, sealed(changed))
        self._written.append(changed)
        return changed

    def _add(self, params: Params, state: str, **outcome: Any) -> Trial:
        row = Row(params=self._point(params), state=state, ended=time.time(), **outcome)
        return cast(list[Trial], self._append([row], None))[0]

    def _append(self, rows: Sequence[Row], expected: int | None) -> list[Trial] | None:
        """Writes rows with new ids; returns None, with nothing written, if the next id is not `expected`."""
        with self._transaction():
            first = self._largest("id") + 1
            if expected is not None and expected != first:
                return None
            shared = {"started": time.time(), "owner": self.owner, "revision": self._next_revision()}
            written = [self._put(row, id=number, **shared) for number, row in enumerate(rows, first)]
            return [trial_of(row, self.header.run) for row in written]

    def _end(self, trial: int, attempt: int | None, state: str, **outcome: Any) -> Trial:
        number = operator.index(trial)
        with self._transaction():
            rows = self._rows("WHERE id = ?", number) if abs(number) < 2**63 else []
            if not rows:
                count = self._database.number("SELECT count(*) FROM trials")
                raise TrialError(
                    f"a trial must be one of the {count} of the history, got unknown id {number}"
                )
            row = rows[0]
            check_may_end(row, attempt, self.owner)
            revision = self._next_revision()
            ended = self._put(row, state=state, ended=time.time(), revision=revision, **outcome)
            return trial_of(ended, self.header.run)

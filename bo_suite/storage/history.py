"""Trials on disk: the history is the only state of an optimiser.

One SQLite file (standard library, rollback journal, synchronous EXTRA); `path=None` keeps the same tables in
memory. Every write is one short `BEGIN IMMEDIATE` transaction, so any number of processes on one machine may
share a file; nothing of SQLite's is held while the caller computes. Keep the file on a local disk.

A running trial belongs to the `History` that handed it out. The owner counts as dead when its process,
on this host, is gone (or its number now names a process with another start time), or when it is a
closed or collected `History` of this very process. Owners on other hosts or in other containers, and owners
in other processes that live on, count as alive.
"""

import json
import operator
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, SupportsFloat, cast

from bo_suite.errors import StorageError, TrialError
from bo_suite.space.space import Params
from bo_suite.storage import schema
from bo_suite.storage.content import is_whole
from bo_suite.storage.database import Database
from bo_suite.storage.headers import agreed_header, migrated, row_error, stored_header, stored_run
from bo_suite.storage.paths import check_place, storage_path
from bo_suite.storage.rows import COLUMNS, Row, content_of, fault_in, sealed, trial_of
from bo_suite.storage.trial import Header, Trial, checked_outcome, checked_traceback, provenance_text
from bo_suite.storage.turns import Turns
from bo_suite.system.owners import is_alive, is_own, new_owner
from bo_suite.values.describe import SHORT, shortened


def _in_care(owner: str) -> bool:
    """Whether somebody may still end the trials of an owner."""
    if is_own(owner):
        return any(history.owner == owner for history in list(_opened))
    return is_alive(owner)


_MOST = 2**62
"""Above all ids and revisions: what is larger is damage, and soon too large for SQLite."""

_opened: "weakref.WeakSet[History]" = weakref.WeakSet()


class History:
    """The trials of one optimiser, in a file or in memory; safe to share by threads and across a fork.

    Use `History.open`. Every public method raises StorageError when the file cannot be read or written, or
    holds what does not fit; a write that fails is rolled back, and the history remains usable.
    """

    header: Header

    def __init__(self, path: Path | None, header: Header | None) -> None:
        self.path = path
        self._owner = (os.getpid(), new_owner())
        self._trials: dict[int, Trial] = {}
        self._written: list[Row] = []  # by the transaction that goes on
        self._revision, self._version = 0, -1  # all up to these have been read
        self._known, self._highest = 0, 0  # the largest revision in the file, and of all there have been
        self._database = Database(path, create=header is not None)
        self._turns = Turns(path)
        _opened.add(self)
        try:
            self.header = self._begun(header)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def open(path: str | Path | None, header: Header | None) -> "History":
        """The history in a file, created where there is none; in memory where the path is None.

        Args:
            path: a file on a local disk, or None.
            header: what the history must belong to: space, seed and direction are compared with an
                existing file, a budget and an acquisition that are not None replace its own; None: the file
                must exist, and may be one that can only be read.

        Raises:
            StorageError: a missing or read-only folder, a file that is no history, is damaged, is from a
                newer version, or belongs to another space, seed or direction.
        """
        file = storage_path(path)
        if file is not None or header is None:
            check_place(file, there=header is None)
        return History(file, header)

    @property
    def owner(self) -> str:
        """Who the trials belong to that this history hands out; a forked child has a name of its own."""
        if self._owner[0] != os.getpid():
            self._owner = (os.getpid(), new_owner())
        return self._owner[1]

    def trials(self) -> list[Trial]:
        """All trials, ordered by id; only rows that changed since the last call are read.

        Ids may have gaps, where rows were taken out of the file. The list is the caller's.
        """
        with self._database.session():
            version = self._database.number("PRAGMA data_version")  # other connections' commits
            if version != self._version:
                self._refresh()
                self._version = version
            return list(self._trials.values())

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None where there is none."""
        self.trials()
        return self._trials.get(number)

    def turn(self) -> AbstractContextManager[bool]:
        """Waits until those who asked before are done; whether that was so within a minute."""
        return self._turns.turn(schema.PATIENCE)

    def insert(
        self, params: Sequence[Params], provenance: Sequence[Mapping[str, Any]], *, expected: int | None
    ) -> list[Trial] | None:
        """Stores points as running trials of this process, all or none of them.

        Args:
            params: points of the space.
            provenance: one mapping a point, in JSON values.
            expected: the id the first one is going to have; None skips the check.

        Returns:
            The trials; None, with nothing written, when another process took the id `expected`.

        Raises:
            SpaceError: a point that is not complete or not in the space.
            TrialError: provenance that is no JSON.
        """
        pairs = zip(params, provenance, strict=True)
        return self._append(
            [(self._point(p), "running", None, None, None, True, provenance_text(o), None) for p, o in pairs],
            expected,
        )

    def add(self, params: Params, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores an observation that was not asked for, as a finished trial.

        Raises:
            SpaceError: a point that is not complete or not in the space.
            TrialError: a value or std that is not finite, or a std below 0.
        """
        return self._add(params, "finished", *checked_outcome(value, std), None)

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure that was not asked for; raises SpaceError as `add` does."""
        return self._add(params, "failed", None, None, schema.storable(reason))

    def tell(
        self, trial: int, value: SupportsFloat, std: SupportsFloat | None = None, attempt: int | None = None
    ) -> Trial:
        """Finishes a running trial; on return the value is on the disk.

        Args:
            trial: its id.
            value: the outcome.
            std: standard deviation of its noise.
            attempt: the attempt that was evaluated; None stands for the only one there was, or the one of
                this history.

        Raises:
            TrialError: a value or std that is not finite, or a trial that is unknown, has ended or was
                handed out again since; it keeps its state.
        """
        return self._end(trial, attempt, "finished", *checked_outcome(value, std), None)

    def fail(
        self,
        trial: int,
        reason: str,
        attempt: int | None = None,
        *,
        transient: bool = False,
        traceback: str | None = None,
    ) -> Trial:
        """Ends a running trial that has no value, by chance if `transient`; arguments as of `tell`."""
        said = {"transient": int(bool(transient)), "traceback": checked_traceback(traceback)}
        return self._end(trial, attempt, "failed", None, None, schema.storable(reason), **said)

    def withdraw(self, trial: int, reason: str = "withdrawn", attempt: int | None = None) -> Trial:
        """Ends a running trial that is not going to be evaluated; arguments as of `fail`."""
        return self._end(trial, attempt, "withdrawn", None, None, schema.storable(reason))

    def reclaim(self) -> list[Trial]:
        """Takes over the running trials of dead owners, each as one more attempt, and returns them."""
        with self._transaction():
            running = self._rows("WHERE state = 'running' ORDER BY id")
            revision, now = self._next_revision(), time.time()
            taken = [
                self._put(row, attempt=row[6] + 1, started=now, owner=self.owner, revision=revision)
                for row in running
                if not _in_care(row[11])
            ]
            return [trial_of(row, self.header.run) for row in taken]

    def close(self) -> None:
        """Lets go of the file; running trials stay running."""
        _opened.discard(self)
        self._database.close()
        self._turns.forget()

    def _begun(self, given: Header | None) -> Header:
        """The header of the file, which is made or brought up to date."""
        database = self._database
        try:
            stored = self._intact(given)  # before the first write: a file that is not ours stays as it is
            database.check_folder()
            database.configure()
            with database.transaction():
                stored = stored_header(database, given)
                if given is not None:
                    given = agreed_header(database, given, stored)
                database.write("DELETE FROM meta WHERE 0")  # BEGIN alone is no test of a read-only file
        except StorageError as error:
            if given is not None or schema.BARRED not in str(error):
                raise
            database.read_only()
            stored = self._intact(None)
        return given or cast(Header, stored)  # one of them is there, says stored_header

    def _intact(self, given: Header | None) -> Header | None:
        """The header in a file whose structure has been checked."""
        database = self._database
        with database.transaction("DEFERRED"):  # reads one state of it, while others may be creating it
            stored = stored_header(database, given)
            report = database.execute("PRAGMA integrity_check(1)")[0][0]  # 5 microseconds a trial
            if report != "ok":
                if stored is not None and report.startswith("CHECK"):  # a row that SQLite does not name
                    self.header = stored
                    self._rows("ORDER BY id")
                law = schema.LAWS[sqlite3.SQLITE_CORRUPT]
                raise StorageError(f"{law}, got {database.name}: {report.splitlines()[-1]}")
        return stored

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One that writes, to a file of this version."""
        if self.header.schema < schema.VERSION:
            with self._database.transaction():
                self._check_run()
                self.header = migrated(self._database, self.header)
        with self._database.session():
            self._written = []
            with self._database.transaction():
                try:
                    self._check_run()
                    if self._largest("revision") < self._known:
                        self._refresh()
                    yield
                finally:
                    self._version = -1  # data_version does not count our own commits
            self._note_written()

    def _refresh(self) -> None:
        """Reads the rows that have changed, or all of them where some are gone."""
        rows = self._rows("WHERE revision > ? ORDER BY id", self._revision)
        last = next(reversed(self._trials), -1)
        new = [row[0] for row in rows if row[0] not in self._trials]
        ((count, revision, row),) = self._database.execute("SELECT count(*), max(revision), id FROM trials")
        gone = count != len(self._trials) + len(new) or self._whole("revision", revision, row) < self._known
        if gone or (new and new[0] < last):
            rows = self._rows("ORDER BY id")
            self._check_course(rows)
            self._highest = max(self._highest, self._known)
            self._trials, self._revision, self._known = {}, 0, 0
        self._note(rows)
        self._revision = self._known

    def _note(self, rows: list[Row]) -> None:
        """Takes in rows that are in the file; those that are new come last."""
        run = self.header.run
        self._trials.update({row[0]: trial_of(row, run) for row in rows})
        self._known = max([self._known, *(row[12] for row in rows)])

    def _note_written(self) -> None:
        """Takes in rows of our own, as far as those before them are known: the others are read later."""
        last = next(reversed(self._trials), -1)
        self._note([row for row in self._written if row[0] in self._trials or row[0] > last])
        self._known = max([self._known, *(row[12] for row in self._written)])

    def _check_run(self) -> None:
        """Refuses a file that another history has taken the place of."""
        if self.path is not None and self.header.run not in ("", stored_run(self._database)):
            raise self._replaced("another history")

    def _check_course(self, rows: list[Row]) -> None:
        """Refuses rows of trials that have ended, and run in the file: it holds an earlier state."""
        for row in rows:
            before = self._trials.get(row[0])
            if before is not None and row[2] == "running" and before.state != "running":
                raise self._replaced(f"an earlier state of trial {row[0]}")

    def _replaced(self, content: str) -> StorageError:
        return StorageError(
            f"the storage must stay what it was while it is open, got {self._database.name}, "
            f"which holds {content} now: nothing more is stored"
        )

    def _rows(self, condition: str, *values: Any) -> list[Row]:
        """The content of rows, which have been checked."""
        try:
            rows = self._database.execute(f"SELECT * FROM trials {condition}", values)
        except StorageError as error:
            if "decode" not in str(error):
                raise
            self._check(self._database.texts("SELECT * FROM trials ORDER BY id"))
            raise
        self._check(rows)
        return list(map(content_of, rows))

    def _check(self, rows: list[Row]) -> None:
        for row in rows:
            if (fault := fault_in(row, self.header.space)) is not None:
                raise row_error(self._database, row[0], fault)

    def _next_revision(self) -> int:
        """Above all there have been: rows that are taken out of the file take theirs with them."""
        return max(self._largest("revision"), self._known, self._highest) + 1

    def _largest(self, column: str) -> int:
        """The largest number in a column; -1 where there are no rows."""
        ((number, row),) = self._database.execute(f"SELECT max({column}), id FROM trials")
        return self._whole(column, number, row)

    def _whole(self, column: str, number: Any, row: Any) -> int:
        if number is not None and not (is_whole(number) and number < _MOST):
            raise row_error(self._database, row, f"{column}: must be an integer < 2^62, got {number!r:.50}")
        return -1 if number is None else int(number)

    def _point(self, params: Params) -> str:
        return json.dumps(self.header.space.check(params), allow_nan=False)

    def _put(self, row: Row, **changes: Any) -> Row:
        """Writes a row, with changes, and returns it."""
        changed = tuple(changes.get(name, value) for name, value in zip(COLUMNS, row, strict=True))
        self._database.write(schema.PUT, sealed(changed))
        self._written.append(changed)
        return changed

    def _add(self, params: Params, *outcome: Any) -> Trial:
        return cast(
            list[Trial], self._append([(self._point(params), *outcome, False, "{}", time.time())], None)
        )[0]

    def _append(self, rows: Sequence[tuple[Any, ...]], expected: int | None) -> list[Trial] | None:
        with self._transaction():
            first = self._largest("id") + 1
            if expected is not None and expected != first:
                return None
            now, end = time.time(), (self.owner, self._next_revision(), 0, None)
            made = [
                (number, params, *outcome, 1, int(asked), provenance, now, ended, *end)
                for number, (params, *outcome, asked, provenance, ended) in enumerate(rows, first)
            ]
            return [trial_of(self._put(row), self.header.run) for row in made]

    def _end(self, trial: int, attempt: int | None, state: str, *outcome: Any, **said: Any) -> Trial:
        number = operator.index(trial)
        with self._transaction():
            rows = self._rows("WHERE id = ?", number) if abs(number) < 2**63 else []
            if not rows:
                count = self._database.number("SELECT count(*) FROM trials")
                raise TrialError(
                    f"a trial must be one of the {count} of the history, got unknown id {number}"
                )
            there = trial_of(rows[0], self.header.run)
            if attempt is None and there.attempt > 1 and rows[0][11] != self.owner:
                raise TrialError(
                    f"the attempt must be named where a trial was handed out again, got trial {number}, "
                    f"which is at attempt {there.attempt}"
                )
            if attempt is not None and attempt != there.attempt:
                raise TrialError(
                    f"only the current attempt ends a trial: trial {number} was handed out again as attempt "
                    f"{there.attempt}, got attempt {attempt}"
                )
            if there.state != "running":
                reason = shortened(there.reason or "", SHORT)
                how = f"with value {there.value}" if there.state == "finished" else f"({reason})"
                raise TrialError(f"a trial ends once: trial {number} is {there.state} already, {how}")
            said |= zip(("value", "std", "reason"), outcome, strict=True)
            said |= {"state": state, "ended": time.time(), "revision": self._next_revision()}
            return trial_of(self._put(rows[0], **said), self.header.run)

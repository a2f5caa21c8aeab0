"""The rows of a history file, with the trials that were read from it; what `History`'s verbs are made of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from bo_suite.errors import StorageError, TrialError
from bo_suite.storage import schema
from bo_suite.storage.addresses import Address
from bo_suite.storage.content import is_whole
from bo_suite.storage.database import NotText, NotWritable, opened
from bo_suite.storage.headers import (
    agreed_header,
    migrated,
    replaced_error,
    row_error,
    stored_header,
    stored_marks,
    write_header,
)
from bo_suite.storage.reports import ReportTable, with_reports
from bo_suite.storage.rows import Row, StoredRow, content_of, fault_in, sealed, trial_of
from bo_suite.storage.trial import Header, Trial

T = TypeVar("T")

_MOST = 2**62
"""Above all ids and revisions; a larger number is damage, and close to the limit of SQLite."""


class TrialTable:
    """The tables of a history: its header, and its trials as they were last read.

    Attributes:
        header: as it was last read or written; another process may change it.
        database: the file, the server, or memory.
        reports: of the trials, as they were last read; within `stored`, all of them.

    Args:
        place: the file, the address of the server, or None.
        header: what the file must agree with, or is created with; None if it must exist.
        functions: the constraint functions of the space, of which the file has the names.

    Raises:
        StorageError: as `History.open`.
    """

    header: Header

    def __init__(
        self, place: Path | Address | None, header: Header | None, functions: Sequence[Any] = ()
    ) -> None:
        self._functions = functions if header is None else header.space.constraints.functions
        self._trials: dict[int, Trial] = {}
        self._written: list[Row] = []  # by the current transaction
        self._revision, self._version = 0, -1  # everything up to these was read
        self._newest, self._highest = 0, 0  # the largest revision in the file, and the largest ever seen
        self._latest = 0  # the largest revision before the current transaction
        self._has_leases = False
        self.database = opened(place, create=header is not None, content="a history")
        self.reports = ReportTable(self.database)
        try:
            self.header = self._open_file(header)
            _, self._seal = stored_marks(self.database)
        except BaseException:
            self.database.close()
            raise

    def trials(self) -> list[Trial]:
        """All trials in order of id, as a new list; reads only rows that changed since the last call."""
        with self.database.session():
            self.read_changes()
            return list(self._trials.values())

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None if there is no such trial."""
        with self.database.session():
            self.read_changes()
            return self._trials.get(number)

    def read_changes(self) -> None:
        """Reads the header and the rows again, if another connection has written since."""
        version = self.database.version()
        if version != self._version:
            self.database.atomically(self._read_again, writes=False)
            self._version = version

    def stored(self, work: Callable[[], T]) -> T:
        """What `work` returns, from a transaction that writes; a file is brought to this version before.

        Args:
            work: what to do; on a server it may run again, where nothing was stored.
        """
        if self.header.schema < schema.VERSION:
            self.database.atomically(self._migrate)
        with self.database.session():
            before, version = (self.header, self._seal), self._version

            def whole() -> T:
                self._written = []
                self.reports.drop_written()
                self.header, self._seal = before
                self._read_own_header()
                self._latest = self.largest("revision")
                if self._latest < self._newest:
                    self._refresh()
                self._read_reports()
                if not self._has_leases and "leases" not in self.database.tables():
                    self.database.write(schema.LEASES.format(**self.database.types))
                return work()

            try:
                result = self.database.atomically(whole)
            except BaseException:
                self.header, self._seal = before  # what was written may be undone: it is read again
                self.reports.drop_written()
                raise
            finally:
                self._version = -1  # it is read again
            self._has_leases = True
            self._remember_written()
            self._version = self.database.version_after(version)
            return result

    @property
    def has_leases(self) -> bool:
        """Whether there is a table of leases, which a file of an earlier version gets when it is written."""
        self._has_leases = self._has_leases or "leases" in self.database.tables()
        return self._has_leases

    def rows(self, condition: str, *values: Any) -> list[Row]:
        """Rows of the file, after a check of each."""
        try:
            rows = self.database.execute(f"SELECT * FROM trials {condition}", values)
        except NotText:
            self._check(self.database.texts("SELECT * FROM trials ORDER BY id"))
            raise
        self._check(rows)
        return list(map(content_of, rows))

    def row(self, number: int) -> Row:
        """The row of a trial.

        Raises:
            TrialError: there is no such trial.
        """
        rows = self.rows("WHERE id = ?", number) if abs(number) < 2**63 else []
        if not rows:
            count = self.database.number("SELECT count(*) FROM trials")
            raise TrialError(f"a trial must be one of the {count} of the history, got unknown id {number}")
        return rows[0]

    def put(self, row: Row, **changes: Any) -> Row:
        """Writes a row with changes, and returns it."""
        changed = row._replace(**changes)
        self.database.write(schema.PUT, sealed(changed))
        self._written.append(changed)
        return changed

    def trial_of(self, row: Row) -> Trial:
        """The trial of a row, with its reports."""
        return trial_of(row, self.header.run, self.reports.of(row.id))

    def put_header(self, header: Header) -> None:
        """Writes another header."""
        write_header(self.database, header)
        self.header, (_, self._seal) = header, stored_marks(self.database)

    def next_revision(self) -> int:
        """A number above all revisions before this transaction, also those of rows that were deleted."""
        return max(self._latest, self._newest, self._highest) + 1

    def largest(self, column: str) -> int:
        """The largest number in a column; -1 if there are no rows."""
        rows = self.database.execute(f"SELECT {column}, id FROM trials ORDER BY {column} DESC LIMIT 1")
        for number, row in rows:
            if not (is_whole(number) and number < _MOST):
                fault = f"{column}: must be an integer < 2^62, got {number!r:.50}"
                raise row_error(self.database, row, fault)
            return int(number)
        return -1

    def _open_file(self, expected: Header | None) -> Header:
        """The header of the file, which is created or updated."""
        database = self.database

        def agreed() -> Header | None:
            stored = stored_header(database, expected)
            if expected is not None:
                stored = agreed_header(database, expected, stored)
            database.write("DELETE FROM meta WHERE key = ''")  # BEGIN is no test of a read-only file
            return stored

        try:
            self._checked_header(expected)  # before any write: the file may not be ours
            database.prepare()
            found = database.atomically(agreed)
        except NotWritable:
            if expected is not None:
                raise
            database.read_only()
            found = self._checked_header(None)
        return self._with_functions(cast(Header, found))  # stored_header raises if there is none

    def _checked_header(self, expected: Header | None) -> Header | None:
        """The header of the file, after a check of its structure."""
        database = self.database

        def checked() -> Header | None:
            stored = stored_header(database, expected)
            try:
                database.check_integrity()
            except StorageError:
                if stored is not None:  # SQLite does not say which row is damaged
                    self.header = stored
                    self.rows("ORDER BY id")
                    self._read_reports()
                raise
            return stored

        return database.atomically(checked, writes=False)  # one state, while another process creates it

    def _migrate(self) -> None:
        self._read_own_header()
        self.header = migrated(self.database, self.header)
        _, self._seal = stored_marks(self.database)

    def _read_again(self) -> None:
        self.read_header()
        self._refresh()

    def _refresh(self) -> None:
        """Reads the rows that have changed, or all rows if some were deleted."""
        rows = self.rows("WHERE revision > ? ORDER BY id", self._revision)
        last = next(reversed(self._trials), -1)
        new = [row.id for row in rows if row.id not in self._trials]
        count = self.database.number("SELECT count(*) FROM trials")
        deleted = count != len(self._trials) + len(new) or self.largest("revision") < self._newest
        if deleted or (new and new[0] < last):
            rows = self.rows("ORDER BY id")
            self._check_course(rows)
            self._highest = max(self._highest, self._newest)
            self._trials, self._revision, self._newest = {}, 0, 0
            self.reports.distrust()
        self._read_reports()
        self._remember(rows)
        self._revision = self._newest

    def _read_reports(self) -> None:
        """Reads the reports that have changed, and updates their trials in memory."""
        if self.header.schema >= schema.WITH_REPORTS:
            self._update_reports(self.reports.read())

    def _update_reports(self, changed: Iterable[int]) -> None:
        for number in changed:
            if (trial := self._trials.get(number)) is not None:
                self._trials[number] = with_reports(trial, self.reports.of(number))

    def _remember(self, rows: list[Row]) -> None:
        """Updates the trials in memory; rows of new trials come last."""
        self._trials.update({row.id: self.trial_of(row) for row in rows})
        self._newest = max([self._newest, *(row.revision for row in rows)])

    def _remember_written(self) -> None:
        """Updates the trials in memory by the rows just written, except ids that would be out of order.

        These are read at the next call of `trials`.
        """
        self._update_reports(self.reports.remember_written())
        last = next(reversed(self._trials), -1)
        self._remember([row for row in self._written if row.id in self._trials or row.id > last])
        self._newest = max([self._newest, *(row.revision for row in self._written)])

    def read_header(self) -> None:
        """Reads the header again if another process has changed it, such as the space."""
        self._read_header_with(stored_marks(self.database)[1])

    def _read_own_header(self) -> None:
        """The same, after a check that no other history has replaced the file."""
        run, seal = stored_marks(self.database)
        if self.database.shared and self.header.run not in ("", run):
            raise replaced_error(self.database, "another history")
        self._read_header_with(seal)

    def _read_header_with(self, seal: str) -> None:
        if seal != self._seal:
            stored = stored_header(self.database, None)
            if stored is not None and self.header.run in ("", stored.run):
                self.header, self._seal = self._with_functions(stored), seal

    def _with_functions(self, header: Header) -> Header:
        """The header with the constraint functions of its space."""
        if not self._functions:
            return header
        return replace(header, space=header.space.with_functions(self._functions))

    def _check_course(self, rows: list[Row]) -> None:
        """Raises a StorageError if an ended trial is running in the file, which then is an older copy.

        A paused trial may have been continued as another attempt."""
        for row in rows:
            before = self._trials.get(row.id)
            if before is None or row.state != "running":
                continue
            continued = before.state == "paused" and row.attempt > before.attempt
            if (before.state != "running" and not continued) or row.attempt < before.attempt:
                raise replaced_error(self.database, f"an earlier state of trial {row.id}")

    def _check(self, rows: list[StoredRow]) -> None:
        canonical = self.header.canonical
        for row in rows:
            if (fault := fault_in(row, canonical)) is not None:
                raise row_error(self.database, row[0], fault)

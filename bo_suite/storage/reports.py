"""Intermediate outcomes of trials, one row a step; in memory as they were last read."""

from collections.abc import Mapping, Set
from typing import Any
from zlib import crc32

from bo_suite.storage import schema
from bo_suite.storage.content import is_number, is_whole
from bo_suite.storage.database import Database
from bo_suite.storage.headers import replaced_error, row_error
from bo_suite.storage.trial import VERDICTS, Report, Trial


class ReportTable:
    """The table of reports: each row has a revision, so only rows that are new or changed are read again.

    Args:
        database: the file, the server, or memory.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reports: dict[int, tuple[Report, ...]] = {}
        self._revision, self._highest = 0, 0  # the last one that was read, and the largest ever seen
        self._stale = False  # whether everything is read again
        self._written: list[tuple[int, Report]] = []  # by the current transaction

    def of(self, trial: int) -> tuple[Report, ...]:
        """The reports of a trial by ascending step, with those that the transaction has written."""
        reports = self._reports.get(trial, ())
        for number, report in self._written:
            if number == trial:
                reports = _merged(reports, {report.step: report})
        return reports

    def read(self) -> Set[int]:
        """Reads what has changed, before a transaction writes; returns the ids of the trials concerned.

        Raises:
            StorageError: a row is damaged, or reports are gone, so that the file is an older copy.
        """
        database = self._database
        rows = database.execute("SELECT trial, revision FROM reports ORDER BY revision DESC LIMIT 1")
        for number, revision in rows:
            if not is_whole(revision, 1):
                raise row_error(database, number, f"a report of revision {revision!r:.50}")
        last = rows[0][1] if rows else 0
        if last == self._revision and not self._stale:
            return frozenset()
        after = self._revision if last > self._revision and not self._stale else 0
        query = "SELECT * FROM reports WHERE revision > ? ORDER BY trial, step"
        added: dict[int, dict[int, Report]] = {}
        for row in database.execute(query, (after,)):
            self._check(row)
            added.setdefault(row[0], {})[row[1]] = Report(*row[1:6])
        if after == 0:
            present = {number for (number,) in database.execute("SELECT id FROM trials")}
            for number, before in self._reports.items():
                if number in present and not added.get(number, {}).keys() >= {one.step for one in before}:
                    raise replaced_error(database, f"an earlier state of trial {number}")
            self._reports, self._stale = {}, False
        for number, reports in added.items():
            self._reports[number] = _merged(self._reports.get(number, ()), reports)
        self._highest, self._revision = max(self._highest, self._revision), last
        return added.keys()

    def distrust(self) -> None:
        """Reads everything at the next `read`, after rows of trials were deleted."""
        self._stale = True

    def put(self, trial: int, report: Report) -> None:
        """Writes a report in place of that of the same step, within a transaction that has called `read`."""
        revision = max(self._revision, self._highest) + 1 + len(self._written)
        content = (
            *(trial, report.step, report.value, report.seconds, report.attempt, report.verdict),
            revision,
        )
        self._database.write(schema.PUT_REPORT, (*content, _seal(content)))
        self._written.append((trial, report))

    def remove_from(self, first: int) -> None:
        """Removes reports of trials that are not there any more, whose ids new trials get."""
        if any(number >= first for number in self._reports):
            self._database.write("DELETE FROM reports WHERE trial >= ?", (first,))
            self._reports = {number: own for number, own in self._reports.items() if number < first}

    def drop_written(self) -> None:
        """Forgets what was written by a transaction that begins again, or was not stored."""
        self._written = []

    def remember_written(self) -> Set[int]:
        """Updates the reports in memory by what was stored; the ids of their trials."""
        written, self._written = self._written, []
        for number, report in written:
            self._reports[number] = _merged(self._reports.get(number, ()), {report.step: report})
        if written:
            self._revision = max(self._revision, self._highest) + len(written)
        return {number for number, _ in written}

    def _check(self, row: tuple[Any, ...]) -> None:
        """Raises a StorageError unless a row is as it was stored: anybody may have written it."""
        trial, step, value, seconds, attempt, verdict, _, seal = row
        fault = None
        if seal != _seal(row[:-1]):
            fault = f"a report of step {step!r:.20} that differs from its seal"
        elif not (
            is_whole(trial, 0)
            and is_whole(step, 1)
            and is_number(value)
            and is_number(seconds)
            and seconds >= 0
            and is_whole(attempt, 1)
            and (verdict is None or verdict in VERDICTS)
        ):
            fault = f"a report of step {step!r:.20} that bo_suite has not made"
        if fault is not None:
            raise row_error(self._database, trial, fault)


def with_reports(trial: Trial, reports: tuple[Report, ...]) -> Trial:
    """The trial with other reports."""
    changed = object.__new__(Trial)
    changed.__dict__.update(trial.__dict__, reports=reports)
    return changed


def _merged(before: tuple[Report, ...], reports: Mapping[int, Report]) -> tuple[Report, ...]:
    """Reports by ascending step, with others by step in place of those of the same step."""
    if not before or min(reports) > before[-1].step:
        return (*before, *(reports[step] for step in sorted(reports)))
    merged = {report.step: report for report in before} | dict(reports)
    return tuple(merged[step] for step in sorted(merged))


def _seal(content: tuple[Any, ...]) -> str:
    return f"{crc32(repr(content).encode()):08x}"

"""What happens to a trial that is being evaluated: it reports, it ends, it pauses and is continued."""

import json
import math
import operator
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any, SupportsFloat

from bo_suite.errors import SpaceError, SupersededError, TrialError
from bo_suite.storage.changes import outcome_of, write_change
from bo_suite.storage.holding import Holding
from bo_suite.storage.queue import write_queued
from bo_suite.storage.rows import Row
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import VERDICTS, Report, State, Trial, Verdict
from bo_suite.storage.validation import check_is_current
from bo_suite.values.describe import described
from bo_suite.values.numbers import require_finite, require_int

LARGEST_STEP = 2**53
"""Above all steps that can be reported."""

_AFTER: dict[Verdict, State] = {"stop": "stopped", "pause": "paused"}
"""The state of a trial after a verdict that ends its attempt."""


class Attempts:
    """The verbs on running trials of one history; each is one transaction.

    Args:
        table: the tables of the history.
        holding: the trials that were handed out here.
    """

    def __init__(self, table: TrialTable, holding: Holding) -> None:
        self._table, self._holding = table, holding

    def end(
        self,
        trial: int,
        attempt: int | None,
        ending: Callable[[Row], dict[str, Any]],
        requeue: bool = False,
    ) -> Trial:
        """Ends a running trial, whose point may be queued; a late outcome is kept as a change.

        Args:
            trial: its id.
            attempt: as in `History.tell`.
            ending: the state and the outcome that the row of the trial gets.
            requeue: whether to queue its point.
        """
        table, number = self._table, operator.index(trial)
        attempt = self._attempt(number, attempt)

        def ended() -> Trial | SupersededError:
            row = table.row(number)
            try:
                check_is_current("a trial ends once", row, attempt, self._holding.owner)
            except SupersededError as error:
                late = {"attempt": attempt, **ending(row)}
                write_change(table.database, "late", number, outcome_of(row), late)
                return error
            if requeue:
                with suppress(SpaceError):
                    point = table.header.space.check_some(json.loads(row.params))
                    write_queued(table.database, [point])
            return self._ended(row, ending(row))

        result = table.stored(ended)
        if isinstance(result, SupersededError):
            raise result
        self._holding.remove(number)
        return result

    def report(self, trial: int, report: Report, attempt: int | None) -> Trial:
        """Stores a report of a running trial; a verdict in it takes effect.

        Args:
            trial: its id.
            report: the report, whose attempt is not used. Seconds of NaN are those since the attempt was
                handed out, and those that earlier attempts took.
            attempt: the attempt that reports, as in `History.tell`.
        """
        table, number = self._table, operator.index(trial)
        attempt = self._attempt(number, attempt)

        def stored() -> Trial:
            row = table.row(number)
            check_is_current("only a running trial is reported", row, attempt, self._holding.owner)
            earlier = table.reports.of(number)
            last = next((one.step for one in reversed(earlier) if one.attempt == row.attempt), 0)
            if report.step <= last:
                raise TrialError(
                    f"the steps of an attempt must increase, got step {report.step} of trial {number} after "
                    f"step {last}"
                )
            again = takewhile(lambda one: one.step >= report.step, reversed(earlier))
            decided = next((one.verdict for one in again if one.step == report.step), None)
            seconds = report.seconds
            if math.isnan(seconds):
                seconds = row.spent + max(table.database.now() - row.started, 0.0)
            verdict = report.verdict if decided is None else decided
            complete = replace(report, seconds=seconds, attempt=row.attempt, verdict=verdict)
            table.reports.put(number, complete)
            return table.trial_of(row) if decided is not None else self._judged(row, complete)

        return self._released(table.stored(stored))

    def decide(self, trial: int, step: int, verdict: Verdict, attempt: int | None) -> Trial:
        """Stores the verdict of a report that has none, which takes effect; arguments as in `report`."""
        table, number = self._table, operator.index(trial)
        attempt = self._attempt(number, attempt)

        def stored() -> Trial:
            row = table.row(number)
            check_is_current("only a running trial is judged", row, attempt, self._holding.owner)
            report = next((one for one in table.reports.of(number) if one.step == step), None)
            if report is None or report.attempt != row.attempt or report.verdict is not None:
                fault = "decided already" if report and report.verdict else "not reported by this attempt"
                law = "a verdict must be of a report without one"
                raise TrialError(f"{law}, got step {step} of trial {number}, which is {fault}")
            report = replace(report, verdict=verdict)
            table.reports.put(number, report)
            return self._judged(row, report)

        return self._released(table.stored(stored))

    def promote(self, trial: int, expected: int) -> Trial | None:
        """Continues a paused trial as another attempt of this history; None if it is not paused any more."""
        table, number = self._table, operator.index(trial)

        def promoted() -> Trial | None:
            row = table.row(number)
            if row.state != "paused" or row.attempt != expected:
                return None
            again = row._replace(value=None, std=None, outcomes=None, stds=None, ended=None)
            trial = table.trial_of(self._holding.handed_out(again))
            self._holding.begin()
            return trial

        continued = table.stored(promoted)
        self._holding.add([] if continued is None else [continued])
        return continued

    def _attempt(self, number: int, attempt: int | None) -> int | None:
        """The attempt that was named, or that of this history."""
        return self._holding.attempt(number) if attempt is None else attempt

    def _judged(self, row: Row, report: Report) -> Trial:
        """The trial of a row after the verdict of its last report, within a transaction."""
        if (state := _AFTER.get(report.verdict or "continue")) is None:
            return self._table.trial_of(row)
        return self._ended(row, {"state": state, **self._table.header.goals.stored(report.value)})

    def _ended(self, row: Row, outcome: dict[str, Any]) -> Trial:
        """The trial of a row that ends, within a transaction."""
        now, revision = self._table.database.now(), self._table.next_revision()
        return self._table.trial_of(self._table.put(row, ended=now, revision=revision, **outcome))

    def _released(self, trial: Trial) -> Trial:
        """The trial, which is not held any more if it does not run."""
        if trial.state != "running":
            self._holding.remove(trial.id)
        return trial


def checked_report(
    step: object, value: SupportsFloat, seconds: SupportsFloat | None, verdict: object
) -> Report:
    """A report of the arguments of `History.report`, of no attempt yet.

    Raises:
        TrialError: an argument breaks a rule.
    """
    number = checked_step(step)
    finite = require_finite(f"the value of a report must be a finite number, at step {number}", value)
    took = math.nan if seconds is None else require_finite("seconds must be a finite number >= 0", seconds)
    if took < 0.0:
        raise TrialError(f"seconds must be a finite number >= 0, got {described(seconds)}")
    return Report(number, finite, took, 0, None if verdict is None else checked_verdict(verdict))


def checked_step(step: object) -> int:
    """The number of a step; a TrialError if it is not an integer from 1 on."""
    number = require_int("step", step, at_least=1)
    if number >= LARGEST_STEP:
        raise TrialError(f"`step < 2^53` must hold, got {described(step)}")
    return number


def checked_verdict(verdict: object) -> Verdict:
    """The verdict; a TrialError if it is none."""
    for known in VERDICTS:
        if isinstance(verdict, str) and verdict == known:
            return known
    raise TrialError(f"a verdict must be one of {', '.join(VERDICTS)}, got {described(verdict)}")

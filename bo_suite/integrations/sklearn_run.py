"""The loop of a search of scikit-learn: which candidates are evaluated next, and what is told of them."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from bo_suite.integrations.folds import Journal, Record
from bo_suite.integrations.sklearn_fit import CrossValidation, task
from bo_suite.integrations.sklearn_steps import Candidate, Steps
from bo_suite.integrations.translate import Translation
from bo_suite.run.stopping import reason_to_stop
from bo_suite.space.listing import exhausted
from bo_suite.space.space import Params
from bo_suite.storage.goals import VALUE
from bo_suite.storage.leases import ATTEMPTS, USED_UP
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer

logger = logging.getLogger("bo_suite")


@dataclass
class SearchRun:
    """One search: batches of trials are asked for, evaluated and told.

    Attributes:
        steps: how candidates are fitted in steps; None if each is fitted at once.
        report: scikit-learn's report of the last failed fit.
    """

    search: Any
    optimizer: Optimizer
    translation: Translation
    journal: Journal
    evaluate: CrossValidation
    steps: Steps | None = None
    report: str = field(default="", init=False)

    def go(self, starts: list[Params], context: Any) -> str | None:
        """Search until n_iter candidates have ended.

        Args:
            starts: points to ask for first.
            context: for the callbacks of scikit-learn itself.

        Returns:
            Why the search ended earlier; None if it did not.
        """
        started, timeout = time.monotonic(), self.search.timeout
        interrupted, starts = self._reclaimed(), [*starts]
        while (remaining := self.search.n_iter - (count := len(self.ended()))) > 0:
            if timeout is not None and count and time.monotonic() - started >= timeout:
                return f"the timeout of {timeout} seconds"
            size = min(self.search.n_points, remaining)
            batch, interrupted = interrupted[:size], interrupted[size:]
            batch += self._ask_starts(starts, size - len(batch))
            if missing := min(size - len(batch), self._new_points({})):
                batch += self.optimizer.ask(missing)
            if not batch:
                return str(exhausted(self.optimizer.space))
            with task(context, self.search, "batch", 0):
                reason = self._evaluate(batch)
            if reason is not None:
                return reason
        return None

    def ended(self) -> list[tuple[Trial, Record]]:
        """Ended trials that a search has evaluated, with their records."""
        records = self.journal.records
        trials = [trial for trial in self.optimizer.trials if trial.state != "running"]
        return [(trial, records[trial.id]) for trial in trials if trial.id in records]

    def _ask_starts(self, starts: list[Params], count: int) -> list[Trial]:
        """Remove points from `starts`, and ask for at most `count` that are new."""
        trials: list[Trial] = []
        while starts and len(trials) < count:
            point = starts.pop(0)
            if self._new_points(point):
                trials.append(self.optimizer.ask(fixed=point))
            else:
                logger.warning("the starting point %s is skipped: it was evaluated already", point)
        return trials

    def _new_points(self, fixed: Params) -> int:
        """Number of points with the fixed values that were not evaluated; none is evaluated twice."""
        cardinality = self.optimizer.space.with_fixed(fixed).cardinality
        if cardinality is None:
            return int(self.search.n_points)
        evaluated = [trial.params for trial in self.optimizer.trials if trial.informative]
        return cardinality - len({str(params) for params in evaluated if fixed.items() <= params.items()})

    def _evaluate(self, batch: list[Trial]) -> str | None:
        """Evaluate and tell the trials; return a callback's reason to end the search."""
        if self.steps is not None:
            return self._evaluate_in_steps(batch, self.steps)
        reasons = []
        points = [self.translation.theirs(trial.params) for trial in batch]
        for trial, score in zip(batch, self.evaluate(points), strict=True):
            self.report = score.report or self.report
            self.journal.add(trial.id, score.record)
            ended = self._end(trial, score.record)
            reasons.append(reason_to_stop(self.search.callbacks, self.optimizer, ended))
        return next(filter(None, reasons), None)

    def _evaluate_in_steps(self, batch: list[Trial], steps: Steps) -> str | None:
        """Fit the trials from rung to rung, side by side, until each is stopped or has all steps."""
        optimizer, reasons = self.optimizer, []
        candidates = [Candidate(trial, self.translation.theirs(trial.params)) for trial in batch]
        while candidates:
            going, scores = [], steps.advance(candidates, self.evaluate, optimizer)
            for candidate, score in zip(candidates, scores, strict=True):
                trial, record = candidate.trial, score.record
                self.report = score.report or self.report
                self.journal.add(trial.id, record)
                if record.reason is None:
                    value = self.evaluate.goals.means(record.folds)[VALUE]
                    if steps.goes_on(candidate, value, optimizer):
                        going.append(candidate)
                        continue
                ended = optimizer.trial(trial.id)
                if ended.state == "running":
                    ended = self._end(trial, record)
                reasons.append(reason_to_stop(self.search.callbacks, optimizer, ended))
            candidates = going
        return next(filter(None, reasons), None)

    def _is_whole(self, trial: Trial) -> bool:
        """Whether the record of a running trial is that of its end."""
        record = self.journal.records.get(trial.id)
        if record is None or record.reason is not None or self.steps is None:
            return record is not None
        return trial.step == self.steps.scheduler.max_step

    def _reclaimed(self) -> list[Trial]:
        """Trials whose process died, except those that are on record or killed too many processes."""
        interrupted = []
        for trial in self.optimizer.reclaim(attempts=None):
            if not self._is_whole(trial) and trial.attempt > ATTEMPTS:
                record = Record([], USED_UP.format(ATTEMPTS))
                self.journal.add(trial.id, record)
            if self._is_whole(trial):  # it died between two writes
                self._end(trial, self.journal.records[trial.id])
            else:
                interrupted.append(trial)
        return interrupted

    def _end(self, trial: Trial, record: Record) -> Trial:
        """Tell the optimizer what is on record."""
        if record.reason is not None:
            return self.optimizer.fail(trial, record.reason)
        finished = [pair for pair in self.ended() if pair[0].state == "finished"] + [(trial, record)]
        rows = self.optimizer.space.encode([one.params for one, _ in finished]).numpy()
        outcome, std = self.evaluate.goals.told(rows, [one.folds for _, one in finished])
        return self.optimizer.tell(trial, outcome, std)

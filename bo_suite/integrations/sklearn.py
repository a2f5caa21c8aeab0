"""Hyperparameter search inside scikit-learn: RandomizedSearchCV's place, with suggestions of an Optimizer."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._split import _yields_constant_splits
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _num_samples

from bo_suite.acquisition import Acquisition
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.folds import Fold, Journal, Record, Splits, each, fold_noise
from bo_suite.integrations.sklearn_fit import drawn, fingerprint, kept, splitter, task
from bo_suite.integrations.starts import not_asked
from bo_suite.integrations.translate import Translation
from bo_suite.run.running import ATTEMPTS
from bo_suite.run.stopping import Callback, check_callbacks, reason_to_stop
from bo_suite.space.candidates import exhausted
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import LONGEST, described, shortened

logger = logging.getLogger("bo_suite")


class BOSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search for the hyperparameters of highest cross-validated score, by Bayesian optimisation.

    Used like RandomizedSearchCV, and with its attributes. Every candidate is scored on the same splits: those
    of `cv`, drawn once. Its value is the mean of its test scores over the folds, and its noise is told as
    `bo_suite.integrations.folds.fold_noise` finds it. With several metrics, the one that `refit` names guides
    the search; where `refit` is False or a function, it is the first of `scoring`.

    A candidate whose fits all fail, or whose mean score is not finite, is a failed trial: the search goes on,
    stays away from there, and the candidate has its row of `cv_results_`, with `error_score`. With
    `error_score="raise"` the estimator's own error ends the search.

    Run again with the same storage, a search goes on where it was killed: candidates that have finished keep
    their rows and are not evaluated again, those that were being evaluated come first, and `n_iter` counts
    them all. Beside the history PATH there are PATH.folds.jsonl and PATH.splits.npz: keep and delete them
    together. A changed space, seed or name of a metric and other data are refused and so, once a candidate is
    evaluated, are other splits. So in a nested cross-validation give each outer fold a path of its own, or
    `storage=None`. It cannot be seen whether the estimator, a distribution that is searched by its quantiles,
    objects in a list of options or the definition of a metric have changed: take another path then. One
    search a path at a time.

    Args:
        estimator: what is fitted.
        search_space: a Space, or a dict as `bo_suite.integrations.distributions.translated` takes.
        n_iter: number of candidates, at most.
        n_points: candidates that are asked for together and evaluated side by side, with `n_jobs` processes.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: as of
            RandomizedSearchCV.
        acquisition: how to choose; the Optimizer's default when None.
        storage: a file that keeps the search; None keeps it in memory.
        timeout: seconds after which no further batch is begun; at least one candidate is evaluated.
        callbacks: each is called with the Optimizer and the trial after every trial that has ended, in
            order; a string that it returns ends the search once the batch is told.
        random_state: the same int gives the same candidates; None draws from numpy's global state or, with a
            storage, stands for 0.
        points_to_evaluate: parameters of the first candidates, such as the estimator's defaults, in the
            values that the estimator takes; of a dict that lacks some, these are chosen given the others.
            They count among the n_iter.

    Attributes:
        cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_,
            multimetric_: as of RandomizedSearchCV.
        trials_: all trials of the history, with their states, values, noise and reasons of failure.
        stopped_: why the search ended before n_iter candidates, or None.

    Raises:
        ValueError: arguments that break a rule, a parameter that the estimator does not have, or no candidate
            that could be fitted.
        StorageError: a storage that cannot be used, or belongs to another search.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "search_space": [Space, Mapping],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_points": [Interval(Integral, 1, None, closed="left")],
        "acquisition": "no_validation",  # the Optimizer's
        "storage": [str, os.PathLike, None],
        "timeout": [Interval(Real, 0, None, closed="neither"), None],
        "callbacks": [list, tuple],
        "random_state": ["random_state"],
        "points_to_evaluate": [list, tuple],
    }

    def __init__(
        self,
        estimator: Any,
        search_space: Space | Mapping[str, Any],
        n_iter: int = 32,
        n_points: int = 1,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        acquisition: Acquisition | None = None,
        storage: str | Path | None = None,
        timeout: float | None = None,
        callbacks: Sequence[Callback] = (),
        random_state: Any = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.search_space = search_space
        self.n_iter = n_iter
        self.n_points = n_points
        self.acquisition = acquisition
        self.storage = storage
        self.timeout = timeout
        self.callbacks = callbacks
        self.random_state = random_state
        self.points_to_evaluate = points_to_evaluate
        super().__init__(
            estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    @property
    def total_iterations(self) -> int:
        """Number of candidates, at most."""
        return self.n_iter

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None) -> None:
        """Called by `fit` of BaseSearchCV, which makes `cv_results_` and the best of what is left behind."""
        translation = translated(self.search_space)
        _check_names(self.estimator, list(translation.dimensions))
        check_callbacks(self.callbacks)
        starts = [translation.start(point) for point in self.points_to_evaluate]
        optimizer = Optimizer(
            translation.space, self.acquisition, self._seed(), "maximize", self.n_iter, self.storage
        )
        try:
            given, folds = splitter(self, evaluate_candidates)
            data = None if self.storage is None else fingerprint(evaluate_candidates)
            journal = Journal.open(self.storage, bool(optimizer.trials), folds, self._scoring(), data)
            splits = _Frozen(given, journal)
            if optimizer.trials:  # refuses other splits although nothing may be left to evaluate
                drawn(evaluate_candidates, splits)
            batch = _Batch(self, evaluate_candidates, splits, folds)
            run = _Run(self, optimizer, translation, journal, batch, not_asked(starts, optimizer.trials))
            with task(callback_ctx, self, "search", None) as batch.context:
                self.stopped_ = run.go()
            self.trials_ = optimizer.trials
            self._leave(run, batch)
        finally:
            optimizer.close()

    def _scoring(self) -> str:
        """What is scored and what guides the search, by name: of a function, its own."""
        scoring = self.scoring
        if isinstance(scoring, Mapping):
            scoring = {name: _named(one) for name, one in scoring.items()}
        elif not isinstance(scoring, str | list | tuple | set):
            scoring = _named(scoring)
        named = sorted(scoring) if isinstance(scoring, set) else scoring
        return f"{named}, {self.refit}" if isinstance(self.refit, str) else f"{named}"

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        if self.random_state is None and self.storage is not None:
            return 0
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _leave(self, run: "_Run", batch: "_Batch") -> None:
        """Puts one row a candidate, in order of asking, in the place of those that this fit has evaluated."""
        ended = run.ended()
        fitted = [record.folds[0] for _, record in ended if record.folds]
        if not fitted:
            reason = ended[-1][1].reason if ended else self.stopped_
            law = "at least one candidate must be fitted"
            raise batch.error or ValueError(f"{law}, got {len(ended)} that were not, the last: {reason}")
        blank = _blank(fitted[0], self.error_score, self.return_train_score)
        rows, results = kept(batch.evaluate, "all_out"), kept(batch.evaluate, "results")
        rows[:] = [{**blank, **fold} for _, record in ended for fold in record.folds or [blank] * batch.folds]
        points = [run.translation.theirs(trial.params) for trial, _ in ended]
        results.clear()
        results.update(self._format_results(points, batch.folds, rows))


class _Frozen:
    """A splitter's splits, drawn when they are first needed, and then always the same."""

    def __init__(self, splitter: Any, journal: Journal) -> None:
        self._splitter = splitter
        self._journal = journal
        self._drawn: Splits | None = None

    def split(self, X: Any, y: Any = None, **params: Any) -> Splits:
        if self._drawn is None:
            splits = self._splitter.split(X, y, **params)
            drawn = [(np.asarray(train), np.asarray(test)) for train, test in splits]
            constant = _yields_constant_splits(self._splitter)
            self._drawn = self._journal.splits(drawn, _num_samples(X), constant)
        return self._drawn


@dataclass
class _Batch:
    """Evaluates points side by side; `error` is the last one of a batch in which every fit failed."""

    search: BOSearchCV
    evaluate: Callable[..., Any]
    splits: _Frozen
    folds: int
    context: Any = None
    error: ValueError | None = None

    def __call__(self, points: list[dict[str, Any]]) -> list[Record]:
        count, rows = self.folds, kept(self.evaluate, "all_out")
        before = len(rows)
        with task(self.context, self.search, "batch", len(points) * count) as context:
            if (error := self._try(points, {} if context is None else {"callback_ctx": context})) is not None:
                self.error = error
                warnings.warn(str(error), FitFailedWarning, stacklevel=2)
                return [Record([], _last_line(str(error)))] * len(points)
        new = rows[before:]
        return [self._record(new[first : first + count]) for first in range(0, len(new), count)]

    def _try(self, points: list[dict[str, Any]], context: dict[str, Any]) -> ValueError | None:
        """The error of scikit-learn that no fit has succeeded, if it has raised that one."""
        law = f"All the {len(points) * self.folds} fits failed."
        try:
            with warnings.catch_warnings():  # said once, of all candidates, when the search has ended
                warnings.filterwarnings("ignore", "One or more of the .* scores are non-finite")
                self.evaluate(points, cv=self.splits, **context)
        except ValueError as error:
            if self.search.error_score == "raise" or not str(error).lstrip().startswith(law):
                raise
            return error
        return None

    def _record(self, rows: list[dict[str, Any]]) -> Record:
        """What came of one candidate.

        Raises:
            ValueError: a metric to go by is not among those that a function has returned.
        """
        if isinstance(scores := rows[0]["test_scores"], Mapping):
            self.search._check_refit_for_multimetric(scores)
        mean = float(np.mean(_guiding(rows, self.search.refit)))
        errors = [row["fit_error"] for row in rows if row["fit_error"] is not None]
        if len(errors) == len(rows) or (errors and not np.isfinite(mean)):
            return Record.of(rows, _last_line(errors[0]))
        return Record.of(rows, None if np.isfinite(mean) else f"its mean test score is {mean}")


@dataclass
class _Run:
    """One search: batches of trials asked for, evaluated and told."""

    search: BOSearchCV
    optimizer: Optimizer
    translation: Translation
    journal: Journal
    evaluate: Callable[[list[dict[str, Any]]], list[Record]]
    starts: list[Params]

    def go(self) -> str | None:
        """Searches until n_iter candidates have ended; the reason if it ends before."""
        started, timeout = time.monotonic(), self.search.timeout
        again = self._lost()
        while (left := self.search.n_iter - (done := len(self.ended()))) > 0:
            if timeout is not None and done and time.monotonic() - started >= timeout:
                return f"the timeout of {timeout} seconds"
            count = min(self.search.n_points, left)
            batch, again = again[:count], again[count:]
            batch += self._begun(count - len(batch))
            if wanted := min(count - len(batch), self._new_points()):
                batch += self.optimizer.ask(wanted)
            if not batch:
                return str(exhausted(self.optimizer.space))
            if (reason := self._evaluated(batch)) is not None:
                return reason
        return None

    def _begun(self, count: int) -> list[Trial]:
        """Trials of points to start from, so many at most."""
        trials: list[Trial] = []
        while self.starts and len(trials) < count:
            point = self.starts.pop(0)
            if self._new_points(point):
                trials.append(self.optimizer.ask(fixed=point))
            else:
                logger.warning("the point %s to start from is left out, since it is known", point)
        return trials

    def _new_points(self, fixed: Params | None = None) -> int:
        """How many points, with what is fixed, were not evaluated yet: folds are, so that none is again."""
        held = fixed or {}
        points = self.optimizer.space.with_fixed(held).cardinality
        if points is None:
            return self.search.n_points
        known = (trial.params for trial in self.optimizer.trials if trial.informative)
        return points - len({str(one) for one in known if held.items() <= one.items()})

    def ended(self) -> list[tuple[Trial, Record]]:
        """Trials that have ended and what came of them, but for those that were not evaluated by a search."""
        records = self.journal.records
        trials = [trial for trial in self.optimizer.trials if trial.state != "running"]
        return [(trial, records[trial.id]) for trial in trials if trial.id in records]

    def _evaluated(self, batch: list[Trial]) -> str | None:
        """Evaluates and tells the trials; the reason of a callback to end the search."""
        reasons = []
        points = [self.translation.theirs(trial.params) for trial in batch]
        for trial, record in zip(batch, self.evaluate(points), strict=True):
            self.journal.add(trial.id, record)
            ended = self._end(trial, record)
            reasons.append(reason_to_stop(self.search.callbacks, self.optimizer, ended))
        return next(filter(None, reasons), None)

    def _lost(self) -> list[Trial]:
        """Trials that a dead process was evaluating, but for those that no process has survived."""
        lost = []
        for trial in self.optimizer.reclaim():
            if trial.id not in self.journal.records and trial.attempt > ATTEMPTS:
                record = Record([], f"{ATTEMPTS} processes died while evaluating it")
                self.journal.add(trial.id, record)
            if trial.id in self.journal.records:  # it died between two writes
                self._end(trial, self.journal.records[trial.id])
            else:
                lost.append(trial)
        return lost

    def _end(self, trial: Trial, record: Record) -> Trial:
        """Tells what is on record."""
        if record.reason is not None:
            return self.optimizer.fail(trial, record.reason)
        told = [pair for pair in self.ended() if pair[0].value is not None] + [(trial, record)]
        scores = np.asarray([_guiding(one.folds, self.search.refit) for _, one in told])
        rows = self.optimizer.space.encode([one.params for one, _ in told]).numpy()
        return self.optimizer.tell(trial, float(scores[-1].mean()), fold_noise(rows, scores))


def _guiding(folds: Sequence[Mapping[str, Any]], refit: Any) -> list[float]:
    """The test score of each fold, by the metric that guides the search."""
    scores = [fold["test_scores"] for fold in folds]
    if not isinstance(scores[0], Mapping):
        return scores
    name = refit if isinstance(refit, str) else next(iter(scores[0]))
    return [score[name] for score in scores]


def _blank(fold: Fold, error_score: float, train: bool) -> Fold:
    """The row of a fold of which nothing is known, with the metrics of another one."""
    missing = {"train_scores": each(fold["test_scores"], lambda _: error_score)} if train else {}
    scores = each(fold["test_scores"], lambda _: error_score)
    return {"fit_time": np.nan, "score_time": np.nan, "test_scores": scores, **missing}


def _named(scorer: Any) -> str:
    """A name of a scorer that the next process gives it, too."""
    return scorer if isinstance(scorer, str) else str(getattr(scorer, "__qualname__", type(scorer).__name__))


def _check_names(estimator: Any, names: list[str]) -> None:
    """Raises a ValueError where a parameter is not the estimator's, nor of one that is searched."""
    known = clone(estimator).get_params()
    for name in names:
        parts = name.split("__")
        outer = {"__".join(parts[:depth]) for depth in range(1, len(parts))}
        if name not in known and not outer.intersection(names):
            law = f"a parameter must be one of {sorted(known)} of {described(estimator)}"
            raise ValueError(f"{law}, got {name!r}")


def _last_line(text: str) -> str:
    return shortened(text.strip().rpartition("\n")[2], LONGEST)

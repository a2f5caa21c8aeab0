"""Hyperparameter search for scikit-learn, used like RandomizedSearchCV."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state

from bo_suite.acquisition import Acquisition
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.folds import Journal
from bo_suite.integrations.sklearn_fit import CrossValidation, FitCall, task, with_callbacks
from bo_suite.integrations.sklearn_goals import SearchGoals
from bo_suite.integrations.sklearn_results import (
    best_index,
    constant_fold,
    cv_results,
    scorers_of,
)
from bo_suite.integrations.sklearn_run import SearchRun
from bo_suite.integrations.sklearn_steps import Steps
from bo_suite.integrations.starts import not_asked
from bo_suite.integrations.translate import Translation
from bo_suite.run.stopping import Callback, check_callbacks
from bo_suite.space.space import Params, Space
from bo_suite.storage.paths import local_path
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.scheduling import Scheduler
from bo_suite.values.describe import described
from bo_suite.values.numbers import require_int

logger = logging.getLogger("bo_suite")


class BOSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search for the hyperparameters of highest cross-validated score, by Bayesian optimisation.

    It is used like RandomizedSearchCV and has the same attributes. Every candidate is scored on the same
    splits, drawn once from `cv`. The value of a trial is the mean test score over the folds, and its noise is
    estimated by `bo_suite.integrations.folds.fold_noise`. With several metrics, the one that `refit` names
    guides the search; if `refit` is False or a function, the first of `scoring` does. With `objectives` the
    search looks for the Pareto front of several metrics instead; `refit` chooses the best candidate alone.
    Parameters of `fit`
    reach the estimator, and reach scorers only with metadata routing, as in `cross_validate`.

    A candidate is a failed trial if all its fits fail or its mean score is not finite. The search continues
    and avoids the region, and the candidate has a row with `error_score` in `cv_results_`. With
    `error_score="raise"` the estimator's own error ends the search.

    With a storage, a search that is run again resumes: finished candidates keep their rows, interrupted ones
    are evaluated first, and `n_iter` counts all of them. The files PATH.folds.jsonl and PATH.splits.npz
    belong to the history PATH: keep or delete all three. A search refuses the storage of another space, seed,
    metric name, data set or, once a candidate is evaluated, other splits. So give each outer fold of a nested
    cross-validation its own path, or `storage=None`. A change of the estimator, of a distribution that is
    searched by its quantiles, of objects in a list of options or of the definition of a metric is not
    noticed: use a new path. Run one search for each path at a time.

    Args:
        estimator: what is fitted.
        search_space: a Space, or a dict that `bo_suite.integrations.distributions.translated` accepts, or a
            list of these, of which each candidate has one, as in GridSearchCV.
        n_iter: largest number of candidates.
        n_points: candidates that are suggested together and evaluated side by side, in `n_jobs` processes.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: as in
            RandomizedSearchCV.
        acquisition: chooses the candidates; None for the Optimizer's default.
        storage: path of the history file, beside which the folds are stored; None to store nothing.
        timeout: seconds after which no new batch begins; at least one candidate is evaluated.
        callbacks: each is called with the Optimizer and the trial after each ended trial, in order; if one
            returns a string, the search ends after the batch.
        random_state: the same int gives the same candidates. None draws a seed from numpy's global state,
            or is 0 with a storage.
        objectives: metrics of `scoring`, "fit_time" or "score_time" to optimise together: a list, in which
            metrics are maximised and times minimised, or a dict of "maximize" or "minimize" by name. A single
            metric is named "score". None for the metric that guides.
        constraints: intervals (low, high) by name of a metric or time, in which its mean over the folds must
            lie; None for an end that is open.
        points_to_evaluate: parameters of the first candidates, such as the estimator's defaults, in values of
            the estimator; missing parameters are chosen given the others. They count among the n_iter.
        scheduler: stops candidates while they are fitted, such as ASHA(max_step=100); with `step`. One that
            pauses candidates is refused, and so are several objectives or constraints.
        step: what the scheduler counts: the name of a parameter such as "n_estimators", of an estimator whose
            `warm_start` goes on to a larger number; or "partial_fit" for calls of that method with all
            training data. Each candidate is fitted from rung to rung and scored there; its value is the mean
            over the folds at its last step. The best candidate is one that has all steps, if there is one,
            and `best_estimator_` is fitted with all steps.

    Attributes:
        cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_,
            multimetric_: as in RandomizedSearchCV. With a scheduler `cv_results_` has the column "n_steps".
        pareto_: indices of the candidates that meet the constraints and that no other one dominates.
        trials_: all trials of the history, with states, values, noise and reasons of failure.
        stopped_: why the search ended before n_iter candidates, or None.

    Raises:
        ValueError: an argument breaks a rule, the estimator lacks a parameter, or no candidate was fitted.
        StorageError: the storage cannot be used, or belongs to another search.
    """

    def __init__(
        self,
        estimator: Any,
        search_space: Space | Mapping[str, Any] | Sequence[Space | Mapping[str, Any]],
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
        objectives: Sequence[str] | Mapping[str, str] | None = None,
        constraints: Mapping[str, Any] | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
        scheduler: Scheduler | None = None,
        step: str | None = None,
    ) -> None:
        self.search_space = search_space
        self.n_iter = n_iter
        self.n_points = n_points
        self.acquisition = acquisition
        self.storage = storage
        self.timeout = timeout
        self.callbacks = callbacks
        self.random_state = random_state
        self.objectives = objectives
        self.constraints = constraints
        self.points_to_evaluate = points_to_evaluate
        self.scheduler = scheduler
        self.step = step
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
        """Largest number of candidates."""
        return self.n_iter

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> "BOSearchCV":
        """Search, and fit the best candidate to all data.

        Args:
            X: inputs.
            y: targets; None if the estimator needs none.
            **params: passed to `fit` of the estimator, with metadata routing also to scorers and splitter;
                `groups` go to the splitter.

        Returns:
            This search.
        """
        self._check_settings()
        translation = translated(self.search_space)
        _check_names(self.estimator, translation.all_names)
        starts = [translation.start(point) for point in self.points_to_evaluate]
        self.scorer_ = scorers_of(self.estimator, self.scoring, self.refit)
        call = FitCall.of(self, X, y, params)
        with task(None, self, "fit", 1 + bool(self.refit)) as context:
            steps = self._search(call, translation, starts, context)
            if self.refit:
                with task(context, self, "refit-with-best-params", 0):
                    self._fit_best(call, steps)
        return self

    def _search(
        self, call: FitCall, translation: Translation, starts: list[Params], context: Any
    ) -> Steps | None:
        """Evaluate candidates, and set the attributes that need no refit; return how they are fitted."""
        seed = self._seed()
        steps = Steps.of(self, translation.all_names, seed)
        splitter = check_cv(self.cv, call.y, classifier=is_classifier(self.estimator))
        splits = call.splits(splitter)
        goals = SearchGoals.of(self.objectives, self.constraints, self.refit, self._metrics())
        optimizer = Optimizer(
            translation.space,
            self.acquisition,
            seed,
            goals.goals.direction,
            self.n_iter,
            self.storage,
            constraints=goals.goals.limits,
            scheduler=self.scheduler,
        )
        with closing(optimizer), task(context, self, "search", None) as search_context:
            data = None if self.storage is None else call.fingerprint()
            journal = Journal.open(
                self.storage, bool(optimizer.trials), len(splits), self._scoring_names(), data
            )
            splits = journal.splits(splits, call.samples, _is_constant(splitter))
            evaluate = CrossValidation(self, call, splits, splitter, goals)
            run = SearchRun(self, optimizer, translation, journal, evaluate, steps)
            self.stopped_ = run.go(not_asked(starts, optimizer.trials), search_context)
            self.trials_ = optimizer.trials
            self.n_splits_ = len(splits)
            self._set_results(run)
        return steps

    def _set_results(self, run: SearchRun) -> None:
        """Set `cv_results_` and the best candidate.

        Raises:
            ValueError: no candidate was fitted.
        """
        ended = run.ended()
        fold = next((record.folds[0] for _, record in ended if record.folds), None)
        if fold is None:
            reason = run.report or (ended[-1][1].reason if ended else self.stopped_)
            raise ValueError(
                f"No candidate was fitted. All the {self.n_splits_} fits failed, with:\n{reason}"
            )
        blank = constant_fold(fold, self.error_score)
        points = [run.translation.theirs(trial.params) for trial, _ in ended]
        folds = [record.folds or [blank] * self.n_splits_ for _, record in ended]
        self.cv_results_ = cv_results(points, folds)
        if run.steps is not None:
            self.cv_results_["n_steps"] = np.array([trial.step for trial, _ in ended])
        front = {trial.id for trial in run.optimizer.pareto}
        self.pareto_ = np.flatnonzero([trial.id in front for trial, _ in ended])
        self.multimetric_ = isinstance(fold["test_scores"], Mapping)
        if self.refit or not self.multimetric_:
            metric = self.refit if self.multimetric_ else "score"
            feasible = run.evaluate.goals.feasible(folds)
            if run.steps is not None:
                feasible = np.array([trial.state == "finished" for trial, _ in ended])
            self.best_index_ = best_index(self.cv_results_, self.refit, metric, feasible)
            self.best_params_ = points[self.best_index_]
            if not callable(self.refit):
                self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]

    def _fit_best(self, call: FitCall, steps: Steps | None) -> None:
        """Fit the best candidate to all data."""
        self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        targets = () if call.y is None else (call.y,)
        fit = self.best_estimator_.fit if steps is None else steps.whole(self.best_estimator_, call)
        started = time.time()
        fit(call.X, *targets, **call.fit_params)
        self.refit_time_ = time.time() - started
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _check_settings(self) -> None:
        """Raise a ValueError if a setting that no other function checks breaks a rule."""
        require_int("n_iter", self.n_iter, at_least=1)
        require_int("n_points", self.n_points, at_least=1)
        check_random_state(self.random_state)
        check_callbacks(self.callbacks)
        timeout, error_score = self.timeout, self.error_score
        if isinstance(self.storage, str | os.PathLike):
            local_path("the storage of a search, beside which it stores folds,", self.storage)
        for name, valid, law in (
            ("callbacks", isinstance(self.callbacks, list | tuple), "a list"),
            ("points_to_evaluate", isinstance(self.points_to_evaluate, list | tuple), "a list"),
            (
                "storage",
                self.storage is None or isinstance(self.storage, str | os.PathLike),
                "a path or None",
            ),
            (
                "timeout",
                timeout is None or (isinstance(timeout, int | float | np.number) and timeout > 0),
                "seconds > 0 or None",
            ),
            ("error_score", error_score == "raise" or isinstance(error_score, Real), '"raise" or a number'),
        ):
            if not valid:
                raise ValueError(f"{name} must be {law}, got {described(getattr(self, name))}")

    def _scoring_names(self) -> str:
        """Names of the metrics, and of the one that guides the search, as stored in the journal."""
        scoring = self.scoring
        if isinstance(scoring, Mapping):
            scoring = {name: _scorer_name(scorer) for name, scorer in scoring.items()}
        elif not isinstance(scoring, str | list | tuple | set):
            scoring = _scorer_name(scoring)
        names = sorted(scoring) if isinstance(scoring, set) else scoring
        named = f"{names}, {self.refit}" if isinstance(self.refit, str) else f"{names}"
        return named if self.step is None else f"{named}, in steps of {self.step}"

    def _metrics(self) -> list[str] | None:
        """Names of the metrics; None of a function, which may return several."""
        return (
            list(self.scorer_)
            if isinstance(self.scorer_, dict)
            else None
            if callable(self.scoring)
            else ["score"]
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        if self.random_state is None and self.storage is not None:
            return 0
        return int(check_random_state(self.random_state).randint(2**31 - 1))


def _scorer_name(scorer: Any) -> str:
    """A name of a scorer that is the same in every process."""
    return scorer if isinstance(scorer, str) else str(getattr(scorer, "__qualname__", type(scorer).__name__))


def _is_constant(splitter: Any) -> bool:
    """Whether a splitter draws the same splits every time: it has a seed, or does not shuffle."""
    seeded = isinstance(getattr(splitter, "random_state", 0), Integral)
    return seeded or not getattr(splitter, "shuffle", True)


def _check_names(estimator: Any, names: Sequence[str]) -> None:
    """Raise a ValueError if a parameter is neither the estimator's nor part of another searched parameter."""
    own = clone(estimator).get_params()
    for name in names:
        parts = name.split("__")
        outer = {"__".join(parts[:depth]) for depth in range(1, len(parts))}
        if name not in own and not outer.intersection(names):
            law = f"a parameter must be one of {sorted(own)} of {described(estimator)}"
            raise ValueError(f"{law}, got {name!r}")

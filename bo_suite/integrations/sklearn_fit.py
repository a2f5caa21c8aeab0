"""Cross-validation of candidates on fixed splits, by `cross_validate` of scikit-learn."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import cross_validate
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import get_routing_for_object, process_routing
from sklearn.utils.parallel import Parallel, delayed

from bo_suite.integrations.fingerprints import data_fingerprint
from bo_suite.integrations.folds import Fold, Record, Splits
from bo_suite.integrations.sklearn_goals import SearchGoals
from bo_suite.integrations.sklearn_results import check_refit, constant_fold, guiding_scores
from bo_suite.values.describe import LONGEST, shortened

try:
    from sklearn.callback import with_callbacks
except ImportError:  # scikit-learn < 1.9

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method unchanged: there are no callbacks to tear down."""
        return method


__all__ = ["CandidateScore", "CrossValidation", "FitCall", "OneSplit", "scored", "task", "with_callbacks"]

_ALL_FAILED = re.compile(r"\s*All the \d+ fits failed")
"""How the message of `cross_validate` begins if the estimator could not be fitted on any split."""


@dataclass(frozen=True, eq=False)
class FitCall:
    """The arguments of one call of `fit`, and where scikit-learn routes them.

    Attributes:
        X: inputs.
        y: targets, or None.
        params: what `cross_validate` receives.
        fit_params: what `fit` of the estimator receives.
        score_params: what the scorers receive.
        split_params: what the splitter receives.
    """

    X: Any
    y: Any
    params: dict[str, Any]
    fit_params: Mapping[str, Any]
    score_params: Mapping[str, Any]
    split_params: Mapping[str, Any]

    @staticmethod
    def of(search: Any, X: Any, y: Any, params: dict[str, Any]) -> "FitCall":
        """Check that lengths agree, and route `params` as `search` does."""
        X, y = indexable(X, y)
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(search, "fit", **params)
            return FitCall(X, y, params, routed.estimator.fit, routed.scorer.score, routed.splitter.split)
        fit_params = {name: value for name, value in params.items() if name != "groups"}
        return FitCall(X, y, fit_params, fit_params, {}, {"groups": params.get("groups")})

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.X.shape[0]) if hasattr(self.X, "shape") else len(self.X)

    def fingerprint(self) -> str:
        """Hash of the data, with weights, groups and other parameters of `fit`."""
        return data_fingerprint(self.X, self.y, self.fit_params, self.score_params, self.split_params)

    def splits(self, splitter: Any) -> Splits:
        """Draw the splits of the data.

        Raises:
            ValueError: the splitter yields none.
        """
        pairs = splitter.split(self.X, self.y, **self.split_params)
        splits = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
        if not splits:
            raise ValueError(f"cv must yield at least one split, got none from {splitter!r}")
        return splits


@dataclass(frozen=True)
class CandidateScore:
    """The outcome of one candidate.

    Attributes:
        record: its folds, or why it has none.
        report: scikit-learn's report of the last failed fit; "" if none failed.
    """

    record: Record
    report: str = ""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Cross-validates candidates side by side, every one on the same splits.

    Attributes:
        search: the search, with its settings.
        call: the data.
        splits: training and test rows of each fold.
        splitter: what the splits were drawn by.
        goals: what the search aims at.
    """

    search: Any
    call: FitCall
    splits: Splits
    splitter: Any
    goals: SearchGoals

    def __call__(self, points: Sequence[Mapping[str, Any]]) -> list[CandidateScore]:
        """Score each point.

        Raises:
            Exception: the estimator's own error, if `error_score` is "raise".
            ValueError: `refit` names none of the metrics that a scoring function returned.
        """
        search, count = self.search, len(self.splits)
        if search.verbose > 0:
            total = len(points) * count
            print(f"Fitting {count} folds for each of {len(points)} candidates, totalling {total} fits")
        arguments = [(search.estimator, point) for point in points for _ in self.splits]
        fits = self.parallel(_fit_and_score, arguments)
        return [self.score(point, fits[k * count : (k + 1) * count]) for k, point in enumerate(points)]

    def parallel(self, fit: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function for each candidate on each split, in `n_jobs` processes.

        Args:
            fit: takes its arguments, the data, a splitter of one split, and arguments of `cross_validate`.
            arguments: of each call, in order of the candidates and then of the splits.
        """
        search = self.search
        routed = get_config()["enable_metadata_routing"]
        routing = get_routing_for_object(self.splitter) if routed else None
        settings = {
            "params": self.call.params,
            "scoring": search.scoring,
            "error_score": search.error_score,
            "return_train_score": search.return_train_score,
        }
        results: list[Any] = Parallel(n_jobs=search.n_jobs, pre_dispatch=search.pre_dispatch)(
            delayed(fit)(*own, self.call, OneSplit(*split, routing), settings)
            for own, split in zip(arguments, cycle(self.splits), strict=False)
        )
        return results

    def score(self, point: Mapping[str, Any], fits: list[Fold]) -> CandidateScore:
        """Combine the folds of one candidate; folds that could not be fitted have `error_score`."""
        search = self.search
        reports = [fit["report"] for fit in fits if "report" in fit]
        if reports:
            text = f"{len(reports)} of {len(fits)} fits of {point} failed, the last one with:\n{reports[-1]}"
            warnings.warn(text, FitFailedWarning, stacklevel=2)
        fitted = next((fit for fit in fits if "report" not in fit), None)
        if fitted is None:
            return CandidateScore(Record([], _last_line(reports[0])), reports[-1])
        if isinstance(fitted["test_scores"], Mapping):
            check_refit(search.refit, list(fitted["test_scores"]))
        blank = constant_fold(fitted, search.error_score)
        folds = [blank | fit if "report" in fit else fit for fit in fits]
        fault = self.goals.fault(folds)
        reason = _last_line(reports[0]) if fault is not None and reports else fault
        if search.verbose > 1:
            mean = float(np.mean(guiding_scores(folds, search.refit)))
            print(f"[CV] {point}: mean test score {mean:.6g}")
        return CandidateScore(Record.of(folds, reason), reports[-1] if reports else "")


@dataclass(frozen=True, eq=False)
class OneSplit:
    """A splitter of one split, with the metadata requests of the splitter that drew it."""

    train: np.ndarray
    test: np.ndarray
    routing: Any

    def split(self, X: Any, y: Any = None, **params: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield self.train, self.test

    def get_n_splits(self, X: Any = None, y: Any = None, **params: Any) -> int:
        return 1

    def get_metadata_routing(self) -> Any:
        return self.routing


def _fit_and_score(
    estimator: Any, point: Mapping[str, Any], call: FitCall, split: OneSplit, settings: dict[str, Any]
) -> Fold:
    """Fit and score one candidate on one split."""
    return scored(clone(estimator).set_params(**clone(point, safe=False)), call, split, settings)


def scored(candidate: Any, call: FitCall, split: OneSplit, settings: dict[str, Any]) -> Fold:
    """Fit and score an estimator on one split; a fit that failed has a `report` and no scores."""
    started = time.perf_counter()
    try:
        result = cross_validate(candidate, call.X, call.y, cv=split, **settings)
    except ValueError as error:
        if settings["error_score"] == "raise" or not _ALL_FAILED.match(str(error)):
            raise
        report = str(error).partition("failed with the following error:\n")[2] or str(error)
        return {"fit_time": time.perf_counter() - started, "score_time": 0.0, "report": report}
    fold: Fold = {name: float(result[name][0]) for name in ("fit_time", "score_time")}
    metrics = [name.removeprefix("test_") for name in result if name.startswith("test_")]
    for kind in ("test", "train") if settings["return_train_score"] else ("test",):
        scores = {metric: float(result[f"{kind}_{metric}"][0]) for metric in metrics}
        fold[f"{kind}_scores"] = scores["score"] if metrics == ["score"] else scores
    return fold


def _last_line(text: str) -> str:
    return shortened(text.strip().rpartition("\n")[2], LONGEST)


@contextmanager
def task(parent: Any, search: Any, name: str, subtasks: int | None) -> Iterator[Any]:
    """A part of the fit that callbacks of scikit-learn >= 1.9 are told about.

    Args:
        parent: the context of the task that this one is a part of; None for `fit` itself.
        search: the search.
        name: of the task.
        subtasks: number of parts of its own; None if that is unknown.

    Yields:
        The context of the task; None in versions without callbacks.
    """
    if not hasattr(search, "set_callbacks"):
        yield None
        return
    if parent is None:
        context = search._init_callback_context(name, max_subtasks=subtasks)
    else:
        context = parent.subcontext(task_name=name, max_subtasks=subtasks)
    context.call_on_fit_task_begin(estimator=search)
    yield context
    context.call_on_fit_task_end(estimator=search)

"""Estimators of scikit-learn that are fitted in steps, so that a scheduler can stop them on the way."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from bo_suite.integrations.ending import check_ending
from bo_suite.integrations.folds import Fold
from bo_suite.integrations.sklearn_fit import CandidateScore, CrossValidation, FitCall, OneSplit, scored
from bo_suite.storage.trial import Trial
from bo_suite.study.curves import LearningCurves, curve_belief
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.scheduling import Progress, Scheduler
from bo_suite.values.describe import described

_CALLS = "partial_fit"
"""In place of a parameter: steps are calls of this method."""

_TOTAL_MAX_ITER = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
"""Estimators whose `max_iter` is a total: that of others counts from anew in each fit."""


@dataclass(eq=False)
class Candidate:
    """A candidate on its way.

    Attributes:
        trial: as it was asked for.
        point: its parameters.
        fitted: its estimator on each fold, None where the last fit failed; empty before the first step.
        folds: times so far, and scores at `step`.
        step: up to which it is fitted.
    """

    trial: Trial
    point: Mapping[str, Any]
    fitted: list[Any] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    step: int = 0


@dataclass(frozen=True, eq=False)
class Steps:
    """How the candidates of a search are fitted in steps.

    Attributes:
        estimator: the search's.
        name: of the parameter that counts steps, or "partial_fit".
        scheduler: says which candidates go on.
        seed: of the search.
    """

    estimator: Any
    name: str
    scheduler: Scheduler
    seed: int

    @staticmethod
    def of(search: Any, names: Sequence[str], seed: int) -> "Steps | None":
        """The steps of a search; None if it has no scheduler.

        Args:
            search: with its settings.
            names: of the searched parameters.
            seed: of the search.

        Raises:
            ValueError: the scheduler or the step breaks a rule.
        """
        scheduler, name, estimator = search.scheduler, search.step, search.estimator
        if scheduler is None and name is None:
            return None
        if scheduler is None or not isinstance(name, str):
            law = "a search in steps needs a scheduler, and a step such as 'n_estimators' or 'partial_fit'"
            raise ValueError(f"{law}, got scheduler = {described(scheduler)} and step = {described(name)}")
        check_ending(
            scheduler, "a search needs a scheduler that ends candidates, since it keeps no paused ones"
        )
        if name != _CALLS:
            _check_parameter(clone(estimator), name, names)
        elif not hasattr(estimator, _CALLS):
            raise ValueError(f"the step counts calls of partial_fit, which {described(estimator)} lacks")
        return Steps(estimator, name, scheduler, seed)

    def advance(
        self, candidates: Sequence[Candidate], evaluate: CrossValidation, optimizer: Optimizer
    ) -> list[CandidateScore]:
        """Fit each candidate up to its next rung, or to the last step, and score it there.

        Raises:
            Exception: the estimator's own error, if `error_score` is "raise".
        """
        count = len(evaluate.splits)
        targets = [self._target(one, optimizer) for one in candidates]
        stages = [
            self._stage(one, target, fold, evaluate.call)
            for one, target in zip(candidates, targets, strict=True)
            for fold in range(count)
        ]
        fits = evaluate.parallel(_fit_more, stages)
        scores = []
        for index, (one, target) in enumerate(zip(candidates, targets, strict=True)):
            own = fits[index * count : (index + 1) * count]
            before = one.folds or [{"fit_time": 0.0, "score_time": 0.0}] * count
            one.folds = [_with_time_of(old, new) for old, (_, new) in zip(before, own, strict=True)]
            one.fitted, one.step = [estimator for estimator, _ in own], target
            scores.append(evaluate.score(one.point, one.folds))
        return scores

    def goes_on(self, candidate: Candidate, value: float, optimizer: Optimizer) -> bool:
        """Report the value of a candidate at its step; return whether it is to be fitted further."""
        seconds = sum(fold["fit_time"] + fold["score_time"] for fold in candidate.folds)
        answer = optimizer.report(candidate.trial, candidate.step, value, seconds)
        return answer == "continue" and candidate.step < self.scheduler.max_step

    def whole(self, estimator: Any, call: FitCall) -> Callable[..., Any]:
        """What fits an estimator with all steps, from the beginning."""
        last = self.scheduler.max_step
        if self.name == _CALLS:
            return partial(_partial_fits, last, _classes(estimator, call), estimator)
        fit: Callable[..., Any] = estimator.set_params(**{self.name: last}).fit
        return fit

    def _target(self, candidate: Candidate, optimizer: Optimizer) -> int:
        """The step up to which a candidate is fitted next."""
        trials, last = optimizer.trials, self.scheduler.max_step
        sign = optimizer.goals.objectives[0].sign
        trial = next(one for one in trials if one.id == candidate.trial.id)

        def curves() -> LearningCurves:
            return curve_belief(trials, sign, last)

        rungs = self.scheduler.rungs(trial, Progress(trials, self.seed, sign, curves))
        above = bisect_right(rungs, candidate.step)
        return int(rungs[above]) if above < len(rungs) else last

    def _stage(self, candidate: Candidate, target: int, fold: int, call: FitCall) -> tuple[Any, ...]:
        """The arguments of `_fit_more` for a fold of a candidate."""
        estimator, done = candidate.fitted[fold] if candidate.fitted else None, candidate.step
        if estimator is None:  # at the beginning, or the last fit failed
            estimator, done = clone(self.estimator).set_params(**clone(candidate.point, safe=False)), 0
        if self.name == _CALLS:
            return estimator, partial(_partial_fits, target - done, _classes(estimator, call))
        return estimator.set_params(**{self.name: target, _warm_start(self.name): True}), None


def _check_parameter(estimator: Any, name: str, searched: Sequence[str]) -> None:
    """Raise a ValueError unless a parameter can count the steps of an estimator."""
    own, outer = estimator.get_params(), name.rpartition("__")[0]
    warm = _warm_start(name)
    if name not in own or warm not in own:
        law = "the step must be a parameter of an estimator with warm_start, or 'partial_fit'"
        raise ValueError(f"{law}, got {name!r} of {described(estimator)}")
    counted = own[outer] if outer else estimator
    if name.rpartition("__")[2] == "max_iter" and not isinstance(counted, _TOTAL_MAX_ITER):
        law = f"max_iter of {type(counted).__name__} is counted anew in each fit, so it cannot be the step"
        raise ValueError(f"{law}: use step='partial_fit'" if hasattr(counted, _CALLS) else law)
    taken = {
        name,
        warm,
        *("__".join(outer.split("__")[: depth + 1]) for depth in range(outer.count("__") + 1)),
    }
    if both := sorted(taken.intersection(searched)):
        raise ValueError(f"what is fitted in steps of {name!r} must not be searched, got {both} in the space")


def _warm_start(name: str) -> str:
    """The parameter that says whether a fit goes on, of the estimator that has another one."""
    outer, separator, _ = name.rpartition("__")
    return f"{outer}{separator}warm_start"


def _with_time_of(before: Fold, fold: Fold) -> Fold:
    """A fold with the times of the steps before."""
    return fold | {name: before[name] + fold[name] for name in ("fit_time", "score_time")}


def _classes(estimator: Any, call: FitCall) -> Any:
    """All classes, of which the first call of `partial_fit` must know; None if there are none."""
    return np.unique(call.y) if is_classifier(estimator) else None


def _partial_fits(count: int, classes: Any, estimator: Any, X: Any, y: Any = None, **params: Any) -> Any:
    """Call `partial_fit` several times."""
    if classes is not None:
        params["classes"] = classes
    for _ in range(count):
        estimator.partial_fit(X, y, **params)
    return estimator


def _fit_more(
    estimator: Any, fit: Callable[..., Any] | None, call: FitCall, split: OneSplit, settings: dict[str, Any]
) -> tuple[Any, Fold]:
    """Fit an estimator further on one split and score it; return it, None if that failed, and the fold.

    Args:
        estimator: fitted up to the step before.
        fit: called with the estimator in place of its own `fit`, if it is not None.
        call: the data.
        split: training and test rows.
        settings: of `cross_validate`.
    """
    with _kept(estimator, fit):
        fold = scored(estimator, call, split, settings)
    return (None if "report" in fold else estimator), fold


@contextmanager
def _kept(estimator: Any, fit: Callable[..., Any] | None) -> Iterator[None]:
    """Within, a clone of an estimator is the estimator itself, and `fit` may be another function."""
    own: dict[str, Any] = {"__sklearn_clone__": lambda: estimator}
    if fit is not None:
        own["fit"] = partial(fit, estimator)
    vars(estimator).update(own)
    try:
        yield
    finally:
        for name in own:
            del vars(estimator)[name]

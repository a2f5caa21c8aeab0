"""What a search of scikit-learn aims at: metrics and times as objectives and constraints, by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_suite.errors import TrialError
from bo_suite.integrations.folds import Fold, fold_noise
from bo_suite.integrations.sklearn_results import guiding_scores
from bo_suite.storage.goals import VALUE, Goals, Noise, Told
from bo_suite.values.describe import described

TIMES = ("fit_time", "score_time")
"""Outcomes of every candidate beside its metrics, in seconds."""


@dataclass(frozen=True)
class SearchGoals:
    """Goals in terms of the folds of a candidate.

    Attributes:
        goals: objectives and constraints by name of a metric or of a time; the only objective without a name
            is the metric that guides the search.
        refit: of the search; names that metric.
    """

    goals: Goals
    refit: Any

    @staticmethod
    def of(objectives: Any, constraints: Any, refit: Any, metrics: Sequence[str] | None) -> "SearchGoals":
        """The goals of a search.

        Args:
            objectives: names, or directions by name; None for the metric that guides. Metrics in a list are
                maximised and times minimised.
            constraints: intervals by name, as of an Optimizer.
            refit: names the metric that guides.
            metrics: names of the metrics; None if only the first evaluation tells them.

        Raises:
            TrialError: an argument breaks a rule of `Goals.of`, or a name is of no metric.
        """
        if isinstance(objectives, list | tuple):
            objectives = {name: "minimize" if name in TIMES else "maximize" for name in objectives}
        if objectives is not None and not isinstance(objectives, Mapping):
            law = "objectives must be a list of metrics, or a dict of directions by name of a metric"
            raise TrialError(f"{law}, got {described(objectives)}")
        found = SearchGoals(Goals.of("maximize" if objectives is None else objectives, constraints), refit)
        if metrics is not None:
            found.check(metrics)
        return found

    def check(self, metrics: Sequence[str]) -> None:
        """Raises a TrialError if an objective or a constraint is of no metric and of no time."""
        known = [*metrics, *TIMES]
        if unknown := [name for name in self.goals.names if name not in (*known, VALUE)]:
            law = f"objectives and constraints must be of {', '.join(map(repr, known))}"
            raise TrialError(f"{law}, got {', '.join(map(repr, unknown))}")

    def scores(self, folds: Sequence[Fold]) -> dict[str, np.ndarray]:
        """The numbers of each outcome on the folds, by name.

        Raises:
            TrialError: there is no such metric.
        """
        scores = [fold["test_scores"] for fold in folds]
        by_metric = scores if isinstance(scores[0], Mapping) else [{"score": score} for score in scores]
        self.check(list(by_metric[0]))
        found = {}
        for name in self.goals.names:
            if name == VALUE:
                found[name] = np.asarray(guiding_scores(folds, self.refit))
            else:
                found[name] = np.asarray(
                    [
                        fold[name] if name in TIMES else one[name]
                        for fold, one in zip(folds, by_metric, strict=True)
                    ]
                )
        return found

    def means(self, folds: Sequence[Fold]) -> dict[str, float]:
        """The mean over folds of each outcome; NaN if it is not finite."""
        means = {name: float(scores.mean()) for name, scores in self.scores(folds).items()}
        return {name: mean if math.isfinite(mean) else math.nan for name, mean in means.items()}

    def fault(self, folds: Sequence[Fold]) -> str | None:
        """Why a candidate has no value; None if a mean of an objective is finite."""
        scores = self.scores(folds)
        means = {one.name: float(scores[one.name].mean()) for one in self.goals.objectives}
        if any(map(math.isfinite, means.values())):
            return None
        if list(means) == [VALUE]:
            return f"its mean test score is {means[VALUE]}"
        return "its means are " + ", ".join(f"{name} {mean}" for name, mean in means.items())

    def told(self, rows: np.ndarray, candidates: Sequence[Sequence[Fold]]) -> tuple[Told, Noise]:
        """The outcome of the last candidate and the standard deviations of its noise, as `tell` takes them.

        Args:
            rows: encoded candidates in order.
            candidates: the folds of each.
        """
        means, scores = self.means(candidates[-1]), [self.scores(folds) for folds in candidates]
        stds: dict[str, float | None] = {}
        for name in means:
            numbers = np.asarray([one[name] for one in scores])
            finite = np.isfinite(numbers).all(-1)
            stds[name] = fold_noise(rows[finite], numbers[finite]) if finite[-1] else None
        return (means, stds) if self.goals.named else (means[VALUE], stds[VALUE])

    def feasible(self, candidates: Sequence[Sequence[Fold]]) -> np.ndarray:
        """Which candidates meet all constraints."""
        if not self.goals.constraints:
            return np.ones(len(candidates), dtype=bool)
        means = [self.means(folds) for folds in candidates]
        return np.array([self.goals.is_feasible(one) for one in means], dtype=bool)

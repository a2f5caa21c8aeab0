"""`cv_results_` of a search, and its best candidate, as scikit-learn defines them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import check_scoring

from bo_suite.integrations.folds import Fold, map_scores


def scorers_of(estimator: Any, scoring: Any, refit: Any) -> Any:
    """The attribute `scorer_`: a scorer, or a dict of scorers by metric.

    Raises:
        ValueError: an unknown scorer, or `refit` names none of several metrics.
        TypeError: `scoring` is None and the estimator has no `score`.
    """
    if callable(scoring):
        return scoring
    if scoring is None or isinstance(scoring, str):
        return check_scoring(estimator, scoring=scoring)
    named = scoring if isinstance(scoring, Mapping) else {name: name for name in scoring}
    check_refit(refit, list(named))
    return {name: check_scoring(estimator, scoring=scorer) for name, scorer in named.items()}


def check_refit(refit: Any, metrics: Sequence[str]) -> None:
    """Raise a ValueError unless `refit` chooses among several metrics, or is False."""
    if refit is not False and not callable(refit) and not (isinstance(refit, str) and refit in metrics):
        raise ValueError(
            f"with several metrics, refit must be one of {list(metrics)}, a function or False, got {refit!r}"
        )


def guiding_scores(folds: Sequence[Fold], refit: Any) -> list[float]:
    """The test score of each fold, by the metric that guides the search: that of `refit`, or the first."""
    scores = [fold["test_scores"] for fold in folds]
    if not isinstance(scores[0], Mapping):
        return scores
    metric = refit if isinstance(refit, str) else next(iter(scores[0]))
    return [score[metric] for score in scores]


def constant_fold(fold: Fold, score: float) -> Fold:
    """A fold with the metrics of another: every score is `score`, and its times are NaN."""
    names = [name for name in ("test_scores", "train_scores") if name in fold]
    scores: Fold = {name: map_scores(fold[name], lambda _: score) for name in names}
    return {"fit_time": np.nan, "score_time": np.nan, **scores}


def cv_results(points: list[dict[str, Any]], candidates: Sequence[Sequence[Fold]]) -> dict[str, Any]:
    """The attribute `cv_results_`: columns of parameters, times, scores and ranks.

    Args:
        points: the parameters of each candidate.
        candidates: the folds of each candidate, all with the same metrics.
    """
    results: dict[str, Any] = {}
    for name in ("fit_time", "score_time"):
        _add_mean_and_std(results, name, np.array([[fold[name] for fold in folds] for folds in candidates]))
    for name in dict.fromkeys(name for point in points for name in point):
        results[f"param_{name}"] = _parameter_column(points, name)
    results["params"] = points
    first = candidates[0][0]
    several = isinstance(first["test_scores"], Mapping)
    for metric in first["test_scores"] if several else ["score"]:
        for kind in ("test", "train") if "train_scores" in first else ("test",):
            folds_scores = [[fold[f"{kind}_scores"] for fold in folds] for folds in candidates]
            scores = np.array([[one[metric] if several else one for one in row] for row in folds_scores])
            for index, column in enumerate(scores.T):
                results[f"split{index}_{kind}_{metric}"] = column
            means = _add_mean_and_std(results, f"{kind}_{metric}", scores)
            if not np.isfinite(means).all():
                warnings.warn(f"One or more of the {kind} scores are non-finite: {means}", stacklevel=2)
            if kind == "test":
                results[f"rank_test_{metric}"] = _ranks(means)
    return results


def best_index(results: Mapping[str, Any], refit: Any, metric: str, feasible: np.ndarray) -> int:
    """The index of the best candidate: by `refit` if that is a function, or else by the rank.

    Args:
        results: `cv_results_`.
        refit: of the search.
        metric: whose rank counts.
        feasible: which candidates count; if none is feasible, all count.

    Raises:
        TypeError: the function returns no integer.
        IndexError: it returns no index of a candidate.
    """
    if not callable(refit):
        ranks = results[f"rank_test_{metric}"]
        return int(np.where(feasible | ~feasible.any(), ranks, ranks.max() + 1).argmin())
    index = refit(results)
    if not isinstance(index, int | np.integer):
        raise TypeError(f"the function refit must return an integer, got {index!r}")
    if not 0 <= index < len(results["params"]):
        raise IndexError(f"the function refit must return an index of {len(results['params'])}, got {index}")
    return int(index)


def _add_mean_and_std(results: dict[str, Any], name: str, values: np.ndarray) -> np.ndarray:
    """Add both over the columns of `values`; return the means."""
    means = np.average(values, axis=1)
    results[f"mean_{name}"] = means
    results[f"std_{name}"] = np.sqrt(np.average((values - means[:, None]) ** 2, axis=1))
    return means


def _ranks(means: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the lowest; NaN ranks last."""
    if np.isnan(means).all():
        return np.ones(len(means), dtype=np.int32)
    worst = np.nanmin(means) - 1.0
    ranks: np.ndarray = rankdata(-np.where(np.isnan(means), worst, means), method="min").astype(np.int32)
    return ranks


def _parameter_column(points: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The values of one parameter, masked in candidates that lack it; of numbers in a dtype of numbers."""
    indices = [index for index, point in enumerate(points) if name in point]
    values = [points[index][name] for index in indices]
    numeric = all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values)
    dtype = np.array(values).dtype if numeric else object
    column = np.ma.MaskedArray(np.empty(len(points), dtype=dtype), mask=True)
    for index, value in zip(indices, values, strict=True):
        column[index] = value
    return column

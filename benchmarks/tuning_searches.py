"""Searches over cross-validation for benchmarks/tuning.py, run one by one into the records of a suite."""

import math
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import RandomizedSearchCV

from bo_suite.bench.environment import command, environment
from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.jobs import Limits, check_or_store
from bo_suite.bench.method import inside
from bo_suite.bench.store import Store
from bo_suite.bench.unit import Unit, seed_on
from bo_suite.linalg.environment import one_thread
from bo_suite.problems import Problem, get_problem
from bo_suite.problems.tuning import TUNING
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Space


class Model(BaseEstimator):
    """A tuning problem's model as an estimator whose parameters are the problem's own."""

    def __init__(self, problem: str = "svm_digits", values: dict[str, Any] | None = None) -> None:
        self.problem = problem
        self.values = values

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The problem and, where deep, each of its parameters, None while it has no value."""
        own = {"problem": self.problem, "values": self.values}
        names = TUNING[self.problem].space.parameters if deep else ()
        return own | {name: (self.values or {}).get(name) for name in names}

    def set_params(self, **params: Any) -> "Model":
        """Sets parameters of the problem."""
        self.values = (self.values or {}) | params
        return self

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Model":
        """Fits the model of the values."""
        model = TUNING[self.problem]
        self.model_ = model.estimator(inside(model.space, self.values or {})).fit(x, y)
        return self


def score(model: Model, x: np.ndarray, y: np.ndarray) -> float:
    """The problem's score of a fitted model, larger is better."""
    return float(get_scorer(TUNING[model.problem].scoring)(model.model_, x, y))


@dataclass(frozen=True)
class Draws:
    """A parameter as a distribution of scipy's kind."""

    parameter: Parameter

    def rvs(self, random_state: Any = None) -> Any:
        """A value, uniform on the parameter's scale."""
        space = Space({"x": self.parameter})
        row = torch.tensor([[random_state.random_sample()]], dtype=torch.float64)
        return space.decode(space.encoding.sample_from_unit(row))[0]["x"]


def _randomized(given: dict[str, Any], space: Space) -> Any:
    return RandomizedSearchCV(
        param_distributions={name: Draws(parameter) for name, parameter in space}, **given
    )


def _skopt_dimension(parameter: Parameter) -> Any:
    kinds = import_module("skopt.space")
    if isinstance(parameter, Choice):
        return kinds.Categorical(list(parameter.options))
    kind = kinds.Real if isinstance(parameter, Float) else kinds.Integer
    return kind(parameter.low, parameter.high, prior="log-uniform" if parameter.log else "uniform")


def _skopt(given: dict[str, Any], space: Space) -> Any:
    dimensions = {name: _skopt_dimension(parameter) for name, parameter in space}
    return import_module("skopt").BayesSearchCV(search_spaces=dimensions, n_points=1, **given)


def _bo_suite(given: dict[str, Any], space: Space) -> Any:
    kind = import_module("bo_suite.integrations.sklearn").BOSearchCV
    return kind(search_space=space, n_points=1, **given)


SEARCHES: dict[str, Callable[[dict[str, Any], Space], Any]] = {
    "BOSearchCV": _bo_suite,
    "RandomizedSearchCV": _randomized,
    "BayesSearchCV": _skopt,
}
"""What makes a search of common arguments and a space, by name."""


@dataclass(frozen=True)
class Search:
    """A search over cross-validation as the records know it."""

    name: str


def run_search(name: str, problem: Problem, seed: int, budget: int) -> Unit:
    """The record of one search; nothing that it raises gets out.

    Its folds are frozen as indices, and its models fitted here, one after the other. The seconds of a trial
    are a share of what the whole search took beyond fits and scores.
    """
    began, done = time.perf_counter(), ()
    state, reason = "finished", None
    try:
        search = _made(name, problem, seed, budget)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            search.fit(*TUNING[problem.name].data())
        done = _evaluations(problem, search, time.perf_counter() - began)
    except Exception:
        state, reason = "crashed", traceback.format_exc()[-2000:]
    return Unit(problem.name, name, seed, state, reason, time.perf_counter() - began, 1, tuple(done))


def _made(name: str, problem: Problem, seed: int, budget: int) -> Any:
    model = TUNING[problem.name]
    given = {
        "estimator": Model(problem.name),
        "n_iter": budget,
        "scoring": score,
        "cv": list(model.folds().split(*model.data())),
        "refit": False,
        "random_state": seed_on(problem.name, seed),
    }
    return SEARCHES[name](given, problem.space)


def _evaluations(problem: Problem, search: Any, seconds: float) -> list[Evaluation]:
    """What the search has tried, in order."""
    found, model = search.cv_results_, TUNING[problem.name]
    times = search.n_splits_ * (np.asarray(found["mean_fit_time"]) + np.asarray(found["mean_score_time"]))
    share = (seconds - float(np.nansum(times))) / len(times)
    done = []
    for params, mean, spent in zip(found["params"], found["mean_test_score"], times, strict=True):
        loss = model.loss(float(mean))
        failure = None if math.isfinite(loss) else "a fit failed"
        value = None if failure else loss
        point = inside(problem.space, params)
        done.append(Evaluation(point, value, value, share, float(np.nan_to_num(spent)), 0.0, {}, failure))
    return done


def run_searches(
    problems: Sequence[str], methods: Sequence[str], seeds: Sequence[int], budget: int, out: Path
) -> None:
    """Runs every search on every problem with every seed, seed by seed; what has ended is in the folder."""
    found = [get_problem(name) for name in problems]
    with closing(Store(out)) as store, one_thread():
        check_or_store(store, found, [Search(name) for name in methods], Limits(budget))
        for seed in seeds:
            for problem in found:
                for name in methods:
                    if store.claim([(problem.name, name, seed)]):
                        unit = run_search(name, problem, seed, budget)
                        store.finish([unit], environment(), command(), problem.minimum)
                        print(f"{problem.name} {name} seed {seed}: {unit.state}, {unit.seconds:.1f} s")

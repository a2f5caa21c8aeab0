"""What `fit` of scikit-learn's BaseSearchCV keeps to itself: its data, its splitter, the rows of its fits."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bo_suite.integrations.fingerprints import data_fingerprint
from bo_suite.integrations.folds import Splits


def kept(evaluate: Callable[..., Any], name: str) -> Any:
    """A variable of the `fit` that `evaluate` is a part of.

    What is evaluated is left for `fit` there alone, and there is no other way to leave it the rows of
    candidates whose batch has failed or that an earlier process has evaluated.
    """
    return inspect.getclosurevars(evaluate).nonlocals[name]


def fingerprint(evaluate: Callable[..., Any]) -> str:
    """Of the data that `fit` was given, with weights, groups and other parameters of its fits."""
    routed = kept(evaluate, "routed_params")
    given = (routed.estimator.fit, routed.scorer.score, routed.splitter.split)
    return data_fingerprint(kept(evaluate, "X"), kept(evaluate, "y"), *given)


def drawn(evaluate: Callable[..., Any], splits: Any) -> Splits:
    """The splits of a splitter on the data that `fit` was given."""
    found: Splits = splits.split(
        kept(evaluate, "X"), kept(evaluate, "y"), **kept(evaluate, "routed_params").splitter.split
    )
    return found


def splitter(search: Any, evaluate: Callable[..., Any]) -> tuple[Any, int]:
    """What `fit` has made of `cv`, which may be a generator and of no use again, and the number of folds."""
    held = inspect.getclosurevars(evaluate).nonlocals
    if "cv_orig" in held:  # scikit-learn 1.5
        return held["cv_orig"], held["n_splits"]
    return search._checked_cv_orig, search.n_splits_


@contextmanager
def task(parent: Any, owner: Any, name: str, subtasks: int | None) -> Iterator[Any]:
    """A part of the fit, for the callbacks of scikit-learn 1.9 and later."""
    if parent is None:
        yield None
        return
    task = parent.subcontext(task_name=name, max_subtasks=subtasks, sequential_subtasks=name == "search")
    task.call_on_fit_task_begin(estimator=owner)
    yield task
    task.call_on_fit_task_end(estimator=owner)

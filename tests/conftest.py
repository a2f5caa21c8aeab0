"""Shapes and types of the functions on tensors are checked while the tests run.

A check takes longer than most functions do. So a function is checked in its first calls of each test, and in
every call where slow tests run too. Modules that take what a user types are left out: their own messages are
what is tested.
"""

import gc
import inspect
import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache, partial, wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and torch load: two busy cores, many small matrices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gpytorch and linear_operator warn when imported
    import gpytorch  # noqa: F401

import jaxtyping
import pytest

if TYPE_CHECKING:
    from postgres_server import Server

_COMPILED = "compiled"  # numba can not keep what the hook has wrapped
_ACQUISITION = Path(__file__).parents[1] / "bo_suite" / "acquisition"
_CHECKED = [
    *("data", "kernels", "linalg.factor", "optim", "surrogates", "classifiers"),
    *(
        "space.candidates",
        "space.encoding",
        "study.importance",
        "study.observations",
        "study.outcomes",
        "study.recommend",
        "study.step",
    ),
    *(f"acquisition.{path.stem}" for path in sorted(_ACQUISITION.glob("*.py")) if path.stem != _COMPILED),
]

_checks_per_test: float = 3
_calls: Counter[str] = Counter()
"""How often each function was called in the test that runs, up to the number of calls that are checked."""

_jaxtyped = jaxtyping.jaxtyped


def _check_first_calls(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """What the import hook decorates functions and classes with, instead of `jaxtyped`."""
    if function is None:
        return partial(_check_first_calls, typechecker=typechecker)
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_check_first_calls(function.__func__, typechecker=typechecker))
    if inspect.isclass(function):
        if is_dataclass(function):
            function.__init__ = _check_first_calls(function.__init__, typechecker=typechecker)
        return function

    name = f"{function.__module__}.{function.__qualname__}"  # one for all functions that a nested `def` makes
    if "<locals>" in name and _calls[name] >= _checks_per_test:
        return function

    @cache
    def checked() -> Callable[..., Any]:
        return _jaxtyped(function, typechecker=typechecker)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _calls[name] >= _checks_per_test:
            return function(*args, **kwargs)
        _calls[name] += 1
        return checked()(*args, **kwargs)

    return call


jaxtyping.jaxtyped = _check_first_calls
jaxtyping.install_import_hook([f"bo_suite.{name}" for name in _CHECKED], "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    global _checks_per_test
    if config.option.markexpr != "not slow":
        _checks_per_test = math.inf


def pytest_collection_finish() -> None:
    """Takes what the imports have made, half a million objects, out of what the garbage collector walks."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _checks_from_the_first_call() -> None:
    _calls.clear()


@pytest.fixture(autouse=True)
def _log_level_as_it_was() -> Iterator[None]:
    """A script or a notebook that is run may set the level of our logger."""
    logger = logging.getLogger("bo_suite")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["Server"]:
    """A PostgreSQL, started when the first test of this process asks for it."""
    from postgres_server import Server

    with Server() as server:
        yield server


_run_numbers = count()


@pytest.fixture
def postgres_url(postgres_server: "Server") -> str:
    """The URL of a run that no other test uses."""
    return postgres_server.url(run=f"test_{next(_run_numbers)}")

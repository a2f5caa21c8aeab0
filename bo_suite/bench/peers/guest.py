"""What a library's optimiser is given to live with the rest of the process, and what it lacks."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch

from bo_suite.bench.method import Task, inside
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space
from bo_suite.system.locks import FairLock

_one_at_a_time = FairLock()
"""The generators and the filter of warnings are the process's: of several threads, one has them at a time."""


class Library(Protocol):
    """A library's optimiser, told of points as it returned them or as the space has them."""

    def ask(self) -> Params:
        """The next point, up to rounding a point of the space."""

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last."""

    def fail(self, params: Params) -> None:
        """Takes that the point that was asked last has no outcome."""

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""


class Guest:
    """A `Run` of a library: its points lie in the space, and the process is as it was before each call.

    Its warnings are silenced, and it alone has the global random generators of Python, NumPy and PyTorch
    that it draws from: they are seeded by the task, put in place for a call, and those of the process put
    back after it. So runs side by side, in threads too, draw what each draws alone.
    """

    def __init__(self, make: Callable[[Task], Library], task: Task) -> None:
        self._space = task.space
        with _one_at_a_time:
            outside = _generators()
            _seed(task.seed)
            self._generators = _generators()
            _restore(outside)
        with self._apart():
            self._library = make(task)

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""
        with self._apart():
            return inside(self._space, self._library.ask())

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last."""
        with self._apart():
            self._library.tell(params, value)

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcome."""
        with self._apart():
            self._library.fail(params)

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""
        with self._apart():
            self._library.add(params, value)

    def provenance(self) -> dict[str, Any]:
        """Nothing: libraries do not say."""
        return {}

    @contextmanager
    def _apart(self) -> Iterator[None]:
        with _one_at_a_time:
            outside = _generators()
            _restore(self._generators)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield
            finally:
                self._generators = _generators()
                _restore(outside)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that libraries draw from)
    torch.manual_seed(seed)


def _generators() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _restore(states: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


class Penalty:
    """Outcomes for a library that knows no failures: the worst value so far stands in for one.

    Points that fail before there is any value wait for the first, and take it.
    """

    def __init__(self, observe: Callable[[Any, float], None]) -> None:
        self._observe = observe
        self._worst: float | None = None
        self._waiting: list[Any] = []

    @property
    def waiting(self) -> int:
        """How many points have failed without any value to stand in."""
        return len(self._waiting)

    def tell(self, point: Any, value: float) -> None:
        """Passes on the value of a point, in the library's own form."""
        self._worst = value if self._worst is None else max(self._worst, value)
        self._observe(point, value)
        failed, self._waiting = self._waiting, []
        for other in failed:
            self._observe(other, self._worst)

    def fail(self, point: Any) -> None:
        """Passes on that a point has no value."""
        if self._worst is None:
            self._waiting.append(point)
        else:
            self._observe(point, self._worst)


def to_levels(space: Space, params: Params) -> dict[str, Any]:
    """The point with the place of each option instead of the option, for libraries that want numbers."""
    return {
        name: parameter.options.index(params[name]) if isinstance(parameter, Choice) else params[name]
        for name, parameter in space
    }


def from_levels(space: Space, levels: dict[str, Any]) -> Params:
    """The point with options instead of their places."""
    return {
        name: parameter.options[int(levels[name])] if isinstance(parameter, Choice) else levels[name]
        for name, parameter in space
    }

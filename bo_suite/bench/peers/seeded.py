"""Runs the optimiser of another library without side effects on this process."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch

from bo_suite.bench.method import OutcomeTask, Task, inside
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space
from bo_suite.system.locks import FairLock

_one_at_a_time = FairLock()
"""The random generators and the warning filter belong to the process, so one thread at a time uses them."""


class Library(Protocol):
    """The optimiser of a library; it is given points as it returned them or as the space has them."""

    def ask(self) -> Params:
        """The next point, up to rounding a point of the space."""

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last."""

    def fail(self, params: Params) -> None:
        """Takes that the point that was asked last has no outcome."""

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""


class OutcomeLibrary(Protocol):
    """The optimiser of a library for several outcomes; it is given points as it returned them."""

    def ask(self) -> Params:
        """The next point, up to rounding a point of the space."""

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        """Takes the outcomes of the point that was asked last."""

    def fail(self, params: Params) -> None:
        """Takes that the point that was asked last has no outcomes."""


class SeededPeer:
    """A `Run` of a library whose points lie in the space, and which leaves the process as it was.

    Its warnings are silenced. The library draws from random generators of its own, see `OwnGenerators`.
    """

    def __init__(self, make: Callable[[Task], Library], task: Task) -> None:
        self._space = task.space
        self._own = OwnGenerators(task.seed)
        with self._own.in_place():
            self._library = make(task)

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""
        with self._own.in_place():
            return inside(self._space, self._library.ask())

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last."""
        with self._own.in_place():
            self._library.tell(params, value)

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcome."""
        with self._own.in_place():
            self._library.fail(params)

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""
        with self._own.in_place():
            self._library.add(params, value)

    def provenance(self) -> dict[str, Any]:
        """Nothing: libraries record none."""
        return {}


class SeededOutcomes:
    """An `OutcomeRun` of a library, with points, warnings and generators as in `SeededPeer`."""

    def __init__(self, make: Callable[[OutcomeTask], OutcomeLibrary], task: OutcomeTask) -> None:
        self._space = task.space
        self._own = OwnGenerators(task.seed)
        with self._own.in_place():
            self._library = make(task)

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""
        with self._own.in_place():
            return inside(self._space, self._library.ask())

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        """Takes the outcomes of the point that was asked last."""
        with self._own.in_place():
            self._library.tell(params, outcomes)

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcomes."""
        with self._own.in_place():
            self._library.fail(params)

    def provenance(self) -> dict[str, Any]:
        """Nothing: libraries record none."""
        return {}


class OwnGenerators:
    """The states of the global random generators of Python, NumPy and PyTorch that a library draws from.

    They are seeded by the task, put in place for each call, and replaced by those of the process after it. So
    runs side by side, in threads too, draw what each draws alone.
    """

    def __init__(self, seed: int) -> None:
        with _one_at_a_time:
            process_state = _generators()
            _seed(seed)
            self._generators = _generators()
            _restore(process_state)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While a call of the library runs; its warnings are silenced."""
        with _one_at_a_time:
            process_state = _generators()
            _restore(self._generators)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield
            finally:
                self._generators = _generators()
                _restore(process_state)


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
    """Replaces failures by the worst value so far, for a library without failures.

    Points that fail before there is any value wait for the first, and take it.
    """

    def __init__(self, observe: Callable[[Any, float], None]) -> None:
        self._observe = observe
        self._worst: float | None = None
        self._waiting: list[Any] = []

    @property
    def waiting(self) -> int:
        """Number of failed points that wait for a value."""
        return len(self._waiting)

    def tell(self, point: Any, value: float) -> None:
        """Passes on the value of a point, which has the library's own form."""
        self._worst = value if self._worst is None else max(self._worst, value)
        self._observe(point, value)
        failed, self._waiting = self._waiting, []
        for other in failed:
            self._observe(other, self._worst)

    def fail(self, point: Any) -> None:
        """Passes on the worst value for a point without one."""
        if self._worst is None:
            self._waiting.append(point)
        else:
            self._observe(point, self._worst)


def to_levels(space: Space, params: Params) -> dict[str, Any]:
    """The point with the index of each option instead of the option, for libraries that need numbers."""
    return {
        name: parameter.options.index(params[name]) if isinstance(parameter, Choice) else params[name]
        for name, parameter in space
        if name in params
    }


def from_levels(space: Space, levels: dict[str, Any]) -> Params:
    """The point with options instead of their indices."""
    return {
        name: parameter.options[int(levels[name])] if isinstance(parameter, Choice) else levels[name]
        for name, parameter in space
        if name in levels
    }

"""pycma's evolution strategy."""

import math
from collections import deque
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import Penalty, SeededPeer
from bo_suite.errors import DataError
from bo_suite.space.space import Params


@dataclass(frozen=True)
class PyCma:
    """pycma's CMAEvolutionStrategy on the unit cube with bounds, one population after the other.

    It starts at the centre with a step of a quarter of the range, as its documentation advises. All else is
    at its defaults, and it is not restarted. Discrete columns are continuous for pycma and mapped to levels
    of equal shares. A failure counts as the worst value so far. A space of one column gets an irrelevant
    second one, as the library needs two.

    Hansen (2016), "The CMA Evolution Strategy: A Tutorial".
    """

    name: str = "pycma"

    def start(self, task: Task) -> SeededPeer:
        """A strategy of the task's seed."""
        return SeededPeer(_Strategy, task)


class _Strategy:
    def __init__(self, task: Task) -> None:
        self._space = task.space
        columns = max(task.space.dim, 2)
        # With NaN pycma keeps the generator as seeded for the task; 0 would seed it from the clock.
        options = {"bounds": [0.0, 1.0], "seed": math.nan, "verbose": -9}
        make = import_module("cma").CMAEvolutionStrategy
        self._strategy = make([0.5] * columns, 0.25, options)
        self._queue: deque[np.ndarray] = deque()
        self._told: list[tuple[np.ndarray, float]] = []
        self._outcomes = Penalty(self._observe)

    def ask(self) -> Params:
        if not self._queue:
            self._queue.extend(self._strategy.ask())
        row = torch.as_tensor(self._queue[0][: self._space.dim], dtype=torch.float64)
        return self._space.decode(self._space.encoding.sample_from_unit(row[None]))[0]

    def _observe(self, row: np.ndarray, value: float) -> None:
        self._told.append((row, value))
        if len(self._told) == self._strategy.popsize:
            rows, values = zip(*self._told, strict=True)
            self._strategy.tell(list(rows), list(values))
            self._told = []

    def tell(self, params: Params, value: float) -> None:
        self._outcomes.tell(self._queue.popleft(), value)

    def fail(self, params: Params) -> None:
        self._outcomes.fail(self._queue.popleft())

    def add(self, params: Params, value: float) -> None:
        raise DataError("an evolution strategy cannot take an observation that it did not suggest")

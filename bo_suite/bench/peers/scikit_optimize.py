"""scikit-optimize's Optimizer."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import Penalty, SeededPeer, from_levels, to_levels
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params


@dataclass(frozen=True)
class ScikitOptimize:
    """scikit-optimize's Optimizer: a Gaussian process, and a hedge that chooses among three acquisitions.

    The first ten points are random. Options are passed by index: as categories or, if ordered, as integers. A
    failure counts as the worst value so far.
    """

    name: str = "scikit_optimize"

    def start(self, task: Task) -> SeededPeer:
        """An optimiser of the task's seed."""
        return SeededPeer(_Optimizer, task)


def _dimension(kinds: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        last = parameter.levels - 1
        line = parameter.ordered and last > 0
        return kinds.Integer(0, last) if line else kinds.Categorical(list(range(last + 1)))
    kind = kinds.Real if isinstance(parameter, Float) else kinds.Integer
    return kind(parameter.low, parameter.high, prior="log-uniform" if parameter.log else "uniform")


class _Optimizer:
    def __init__(self, task: Task) -> None:
        skopt = import_module("skopt")
        self._space = task.space
        dimensions = [_dimension(skopt.space, parameter) for _, parameter in task.space]
        self._optimizer = skopt.Optimizer(dimensions, random_state=task.seed)
        self._outcomes = Penalty(lambda point, value: self._optimizer.tell(point, value))
        self._point: list[Any] = []

    def ask(self) -> Params:
        # Without the value of its last point, the library would return the same point again.
        failing = self._outcomes.waiting > 0
        self._point = self._optimizer.space.rvs()[0] if failing else self._optimizer.ask()
        return from_levels(self._space, dict(zip(self._space.parameters, self._point, strict=True)))

    def tell(self, params: Params, value: float) -> None:
        self._outcomes.tell(self._point, value)

    def fail(self, params: Params) -> None:
        self._outcomes.fail(self._point)

    def add(self, params: Params, value: float) -> None:
        self._outcomes.tell(list(to_levels(self._space, params).values()), value)

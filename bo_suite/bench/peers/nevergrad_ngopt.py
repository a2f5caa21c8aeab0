"""Nevergrad's NGOpt."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import SeededPeer
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params


@dataclass(frozen=True)
class NevergradNGOpt:
    """Nevergrad's NGOpt, which chooses an algorithm by dimension, budget, kinds of parameters and noise.

    Ordered choices are TransitionChoice. A failure counts as the worst value so far; before the first value
    it counts as infinite, which NGOpt clips. It cannot be left out: some of the algorithms need the value of
    the last point before the next `ask`.

    Meunier et al. (2022), "Black-Box Optimization Revisited: Improving Algorithm Selection Wizards through
    Massive Benchmarking".
    """

    name: str = "nevergrad"

    def start(self, task: Task) -> SeededPeer:
        """NGOpt of the task's seed and budget, for one worker."""
        return SeededPeer(_NGOpt, task)


def _parameter(kinds: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        kind = kinds.TransitionChoice if parameter.ordered else kinds.Choice
        return kind(list(parameter.options))
    scalar = kinds.Log if parameter.log else kinds.Scalar
    number = scalar(lower=parameter.low, upper=parameter.high)
    return number if isinstance(parameter, Float) else number.set_integer_casting()


class _NGOpt:
    def __init__(self, task: Task) -> None:
        nevergrad = import_module("nevergrad")
        space = nevergrad.p.Dict(**{name: _parameter(nevergrad.p, p) for name, p in task.space})
        space.random_state = np.random.RandomState(task.seed % 2**32)
        space.function.deterministic = not task.noisy
        self._optimizer = nevergrad.optimizers.NGOpt(parametrization=space, budget=task.budget)
        self._worst = -math.inf
        self._candidate: Any = None

    def ask(self) -> Params:
        self._candidate = self._optimizer.ask()
        return dict(self._candidate.value)

    def tell(self, params: Params, value: float) -> None:
        self._observe(self._candidate, value)

    def _observe(self, candidate: Any, value: float) -> None:
        self._worst = max(self._worst, value)
        self._optimizer.tell(candidate, value)

    def fail(self, params: Params) -> None:
        self._optimizer.tell(self._candidate, math.inf if self._worst == -math.inf else self._worst)

    def add(self, params: Params, value: float) -> None:
        self._observe(self._optimizer.parametrization.spawn_child(new_value=dict(params)), value)

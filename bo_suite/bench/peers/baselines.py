"""Methods that ignore outcomes, which any optimiser has to beat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.quasirandom import SobolEngine

from bo_suite.bench.method import OutcomeTask, Task
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class Random:
    """Independent uniform draws on the scale of each parameter; levels are equally likely."""

    name: str = "random"

    def accepts(self, goals: Goals) -> bool:
        """Any goals, as outcomes are ignored."""
        return True

    def start(self, task: Task) -> "Draws":
        """The draws of the task's seed."""
        return self.start_outcomes(task)

    def start_outcomes(self, task: Task | OutcomeTask) -> "Draws":
        """The draws of the task's seed."""
        generator = np.random.default_rng(task.seed)
        return Draws(task.space, lambda: torch.from_numpy(generator.random((1, task.space.dim))))


@dataclass(frozen=True)
class Sobol:
    """A scrambled Sobol sequence, mapped to levels as uniform draws are.

    Owen (1998), "Scrambling Sobol' and Niederreiter-Xing points".
    """

    name: str = "sobol"

    def accepts(self, goals: Goals) -> bool:
        """Any goals, as outcomes are ignored."""
        return True

    def start(self, task: Task) -> "Draws":
        """The sequence scrambled by the task's seed."""
        return self.start_outcomes(task)

    def start_outcomes(self, task: Task | OutcomeTask) -> "Draws":
        """The sequence scrambled by the task's seed."""
        engine = SobolEngine(task.space.dim, scramble=True, seed=task.seed)
        return Draws(task.space, lambda: engine.draw(1, dtype=torch.float64))


class Draws:
    """A run that returns one draw after another and ignores outcomes."""

    def __init__(self, space: Space, draw: Callable[[], torch.Tensor]) -> None:
        self._space = space
        self._draw = draw

    def ask(self) -> Params:
        """The next draw."""
        return self._space.decode(self._space.encoding.sample_from_unit(self._draw()))[0]

    def tell(self, params: Params, value: float | Mapping[str, float]) -> None:
        """Does nothing."""

    def fail(self, params: Params, reason: str) -> None:
        """Does nothing."""

    def add(self, params: Params, value: float) -> None:
        """Does nothing."""

    def provenance(self) -> dict[str, Any]:
        """No provenance."""
        return {}

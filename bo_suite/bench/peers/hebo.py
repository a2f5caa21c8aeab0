"""HEBO."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import SeededPeer, from_levels, to_levels
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params


@dataclass(frozen=True)
class Hebo:
    """HEBO: a Gaussian process with input and output warping, and a front of three acquisitions.

    Options are passed by index: as categories or, if ordered, as integers. A failure is an observation that
    is not finite, which HEBO drops. Version 0.3.6 needs numpy < 1.25, so it runs from an
    interpreter of its own, `SubprocessMethod("hebo", PYTHON)`: with `pip install HEBO 'numpy<1.25'
    'pandas<2.2' 'scipy<1.12' 'scikit-learn<1.4' 'matplotlib<3.8' torch jaxtyping threadpoolctl` there;
    without the bounds pip searches for very long.

    Cowen-Rivers et al. (2022), "HEBO: Pushing the Limits of Sample-Efficient Hyperparameter Optimisation".
    """

    name: str = "hebo"

    def start(self, task: Task) -> SeededPeer:
        """HEBO of the task's seed."""
        return SeededPeer(_Hebo, task)


def _record(name: str, parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Choice):
        last = parameter.levels - 1
        if parameter.ordered and last > 0:
            return {"name": name, "type": "int", "lb": 0, "ub": last}
        return {"name": name, "type": "cat", "categories": list(range(last + 1))}
    kinds = ("pow", "num") if isinstance(parameter, Float) else ("pow_int", "int")
    kind = kinds[0] if parameter.log else kinds[1]
    return {"name": name, "type": kind, "lb": parameter.low, "ub": parameter.high}


class _Hebo:
    def __init__(self, task: Task) -> None:
        self._space = task.space
        spaces = import_module("hebo.design_space.design_space")
        design = spaces.DesignSpace().parse([_record(*pair) for pair in task.space])
        make = import_module("hebo.optimizers.hebo").HEBO
        self._optimizer = make(design, scramble_seed=task.seed)
        self._frame: Any = None

    def ask(self) -> Params:
        self._frame = self._optimizer.suggest(n_suggestions=1)
        return from_levels(self._space, {name: self._frame[name].iloc[0] for name in self._space.parameters})

    def tell(self, params: Params, value: float) -> None:
        self._optimizer.observe(self._frame, np.array([[value]]))

    def fail(self, params: Params) -> None:
        self._optimizer.observe(self._frame, np.array([[np.inf]]))

    def add(self, params: Params, value: float) -> None:
        frame = import_module("pandas").DataFrame([to_levels(self._space, params)])
        self._optimizer.observe(frame, np.array([[value]]))

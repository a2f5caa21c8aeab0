"""Ax's Client."""

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import SeededPeer
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params

_KINDS = {str: "str", bool: "bool", int: "int", float: "float"}


@dataclass(frozen=True)
class AxClient:
    """Ax's Client, configured with space, objective and seed alone.

    A failed trial is abandoned; Ax does not suggest its point again.

    Olson et al. (2025), "Ax: A Platform for Adaptive Experimentation".
    """

    name: str = "ax"

    def start(self, task: Task) -> SeededPeer:
        """A client of the task's seed."""
        return SeededPeer(_Client, task)


def _config(configs: Any, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return configs.ChoiceParameterConfig(
            name=name,
            values=list(parameter.options),
            parameter_type=_KINDS[type(parameter.options[0])],
            is_ordered=parameter.ordered,
        )
    return configs.RangeParameterConfig(
        name=name,
        bounds=(parameter.low, parameter.high),
        parameter_type="float" if isinstance(parameter, Float) else "int",
        scaling="log" if parameter.log else "linear",
    )


class _Client:
    def __init__(self, task: Task) -> None:
        client, configs = import_module("ax.api.client"), import_module("ax.api.configs")
        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "ax"]:
            logging.getLogger(name).setLevel(logging.ERROR)  # each of these loggers has its own level
        self._client = client.Client(random_seed=task.seed)
        self._client.configure_experiment(parameters=[_config(configs, *pair) for pair in task.space])
        self._client.configure_optimization(objective="-loss")
        self._index = -1

    def ask(self) -> Params:
        ((self._index, params),) = self._client.get_next_trials(max_trials=1).items()
        return dict(params)

    def tell(self, params: Params, value: float) -> None:
        self._client.complete_trial(self._index, raw_data={"loss": value})

    def fail(self, params: Params) -> None:
        self._client.mark_trial_abandoned(self._index)

    def add(self, params: Params, value: float) -> None:
        index = self._client.attach_trial(params)
        self._client.complete_trial(index, raw_data={"loss": value})

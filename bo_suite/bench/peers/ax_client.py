"""Ax's Client."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import OutcomeTask, Task
from bo_suite.bench.peers.seeded import SeededOutcomes, SeededPeer
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals

_KINDS = {str: "str", bool: "bool", int: "int", float: "float"}


@dataclass(frozen=True)
class AxClient:
    """Ax's Client, configured with space, objectives, constraints and seed alone.

    Thresholds of several objectives are inferred, as by default. A failed trial is abandoned; Ax does not
    suggest its point again.

    Olson et al. (2025), "Ax: A Platform for Adaptive Experimentation".
    """

    name: str = "ax"

    def start(self, task: Task) -> SeededPeer:
        """A client of the task's seed."""
        return SeededPeer(_Client, task)

    def accepts(self, goals: Goals) -> bool:
        """Any goals."""
        return True

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """A client of the task's seed with its objectives and constraints."""
        return SeededOutcomes(_OutcomeClient, task)


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


def _client(space: Space, seed: int) -> Any:
    client, configs = import_module("ax.api.client"), import_module("ax.api.configs")
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "ax"]:
        logging.getLogger(name).setLevel(logging.ERROR)  # each of these loggers has its own level
    made = client.Client(random_seed=seed)
    made.configure_experiment(parameters=[_config(configs, *pair) for pair in space])
    return made


class _Client:
    def __init__(self, task: Task) -> None:
        self._client = _client(task.space, task.seed)
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


class _OutcomeClient:
    def __init__(self, task: OutcomeTask) -> None:
        self._client = _client(task.space, task.seed)
        # Ax parses names as formulas, so outcomes are numbered.
        self._metrics = {name: f"outcome{index}" for index, name in enumerate(task.goals.names)}
        signs = {"minimize": "-", "maximize": ""}
        objectives = [signs[one.direction] + self._metrics[one.name] for one in task.goals.objectives]
        limits = []
        for one in task.goals.constraints:
            metric = self._metrics[one.name]
            limits += [f"{metric} >= {one.low!r}"] if math.isfinite(one.low) else []
            limits += [f"{metric} <= {one.high!r}"] if math.isfinite(one.high) else []
        self._client.configure_optimization(
            objective=", ".join(objectives), outcome_constraints=limits or None
        )
        self._index = -1

    def ask(self) -> Params:
        ((self._index, params),) = self._client.get_next_trials(max_trials=1).items()
        return dict(params)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        measured = {self._metrics[name]: value for name, value in outcomes.items()}
        self._client.complete_trial(self._index, raw_data=measured)

    def fail(self, params: Params) -> None:
        self._client.mark_trial_abandoned(self._index)

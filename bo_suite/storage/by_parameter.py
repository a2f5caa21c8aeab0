"""Numbers by name of a parameter that come with an outcome: its gradient, and how exactly a point was set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat

from bo_suite.errors import TrialError
from bo_suite.storage.goals import Goals
from bo_suite.values.describe import described
from bo_suite.values.numbers import is_mapping, require_finite

if TYPE_CHECKING:  # a worker process has no space
    from bo_suite.space.space import Params, Space

ByName = Mapping[str, SupportsFloat] | None
"""Numbers by name of a parameter, in the user's units, as a user tells them; None without any."""

Kinds = Mapping[str, str]
""""Float", "Int" or "Choice" by name of a parameter."""


@dataclass(frozen=True)
class ByParameter:
    """What is told of an evaluation beside its outcome, by name of a parameter and in the user's units.

    Attributes:
        gradient: derivatives of the value by parameters, each while the others stay; any of them.
        params_std: standard deviations of what was really set; that of any other parameter is 0.
    """

    gradient: ByName = None
    params_std: ByName = None

    def stored(self, space: "Space", goals: Goals, params: str, value: float | None) -> dict[str, str | None]:
        """The fields `gradient` and `params_std` of the row of a finished trial.

        Args:
            space: of the run.
            goals: of the run.
            params: the point of the trial as JSON text.
            value: of the only objective; None if it was not measured.

        Raises:
            TrialError: a rule of `checked_gradient` or `checked_params_std` is broken, or there is a gradient
                and no value of a single objective.
        """
        gradient = params_std = None
        if self.gradient is not None or self.params_std is not None:
            kinds, point = kinds_of(space), json.loads(params)
            gradient = checked_gradient(self.gradient, goals, kinds, point)
            params_std = checked_params_std(self.params_std, kinds, point)
        if gradient and value is None:
            raise TrialError(
                "a gradient must come with the value that it belongs to, got none of the objective"
            )
        return {
            "gradient": json.dumps(gradient) if gradient else None,
            "params_std": json.dumps(params_std) if params_std else None,
        }


def kinds_of(space: "Space") -> Kinds:
    """The kinds of the parameters of a space."""
    return {name: type(parameter).__name__ for name, parameter in space}


def checked_gradient(told: object, goals: Goals, kinds: Kinds, point: "Params") -> dict[str, float]:
    """The derivatives of a gradient as floats; {} if there is none.

    Args:
        told: derivatives by name, or None.
        goals: of the run.
        kinds: of its parameters.
        point: where the derivatives are, which has the active parameters alone.

    Raises:
        TrialError: it is no dict, there are several objectives, a name is not that of an active Float, or a
            number is not finite.
    """
    if told is None:
        return {}
    law = "a gradient must be a dict of derivatives by name of a parameter"
    derivatives = _by_name(law, told, kinds, point)
    if derivatives and goals.several:
        names = ", ".join(repr(one.name) for one in goals.objectives)
        raise TrialError(
            f"a gradient must be that of a single objective, got one with the objectives {names}"
        )
    for name in derivatives:
        if kinds[name] != "Float":
            raise TrialError(
                f"a derivative must be by a Float, got one by {name!r}, which is {_a(kinds[name])}"
            )
    requirement = "the derivative by {!r} must be a finite number (leave out what is unknown)"
    return {name: require_finite(requirement.format(name), one) for name, one in derivatives.items()}


def checked_params_std(told: object, kinds: Kinds, point: "Params") -> dict[str, float]:
    """The standard deviations of parameters as floats; {} if there is none.

    Args:
        told: standard deviations by name, or None.
        kinds: of the parameters of the run.
        point: that was to be set, which has the active parameters alone.

    Raises:
        TrialError: it is no dict, a name is not that of an active Float or Int, or a number is below 0 or not
            finite.
    """
    if told is None:
        return {}
    law = "params_std must be a dict of standard deviations by name of a parameter"
    deviations = {}
    for name, one in _by_name(law, told, kinds, point).items():
        if kinds[name] == "Choice":
            law = "params_std must be of Floats and Ints"
            raise TrialError(f"{law}, got one of {name!r}, which is {_a(kinds[name])}")
        requirement = f"the params_std of {name!r} must be a finite number >= 0"
        deviations[name] = require_finite(requirement, one)
        if deviations[name] < 0.0:
            raise TrialError(f"{requirement}, got {deviations[name]}")
    return deviations


def _by_name(law: str, told: object, kinds: Kinds, point: "Params") -> dict[str, object]:
    """What was told, in the order of the parameters; a TrialError unless all of these are active."""
    if not is_mapping(told):
        example = next(iter(kinds))
        raise TrialError(f"{law}, such as {{{example!r}: 0.1}}, got {described(told)}")
    if unknown := [name for name in told if name not in kinds]:
        raise TrialError(f"{law}, one of {described(list(kinds))}, got {described(unknown[0])}")
    if inactive := [name for name in told if name not in point]:
        raise TrialError(f"{law} that is active at the point, got {inactive[0]!r}, which is not")
    return {name: told[name] for name in kinds if name in told}


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "Int" else f"a {kind}"

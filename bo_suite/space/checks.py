"""Checks of what a Space is given: parameters, and points."""

from collections.abc import Mapping
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.values.describe import described
from bo_suite.values.scalars import named_values


def check_parameters(parameters: object) -> None:
    """Raises a SpaceError unless parameters span a space."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise SpaceError(f"a Space needs a dict with at least one parameter, got {described(parameters)}")
    for name, parameter in parameters.items():
        if not isinstance(name, str) or not name:
            raise SpaceError(f"a parameter's name must be a non-empty string, got {described(name)}")
        if not isinstance(parameter, Float | Int | Choice | Fixed):
            raise SpaceError(f"parameter {name!r} must be a Float, Int or Choice, got {described(parameter)}")
    if not any(map(is_chosen, parameters.values())):
        contexts = any(parameter.context for parameter in parameters.values())
        kinds = "no fidelity and no context" if contexts else "no fidelity"
        raise SpaceError(f"a Space needs a parameter that is {kinds}, got {list(parameters)} alone")


def is_chosen(parameter: Parameter | Fixed) -> bool:
    """Whether a search chooses the value for the outcome's sake."""
    return not parameter.context and (isinstance(parameter, Choice) or not parameter.fidelity)


def canonical(
    parameters: Mapping[str, Parameter], params: object, *, partial: bool = False, outside: bool = False
) -> dict[str, Any]:
    """A point in canonical form: its parameters in order.

    Args:
        parameters: by name.
        params: a dict, or a row with names such as a pandas Series.
        partial: whether parameters may be missing.
        outside: whether values may be outside of their ranges.

    Raises:
        SpaceError: a parameter is missing, unknown, out of range or of the wrong type.
    """
    values = named_values(params)
    missing = [name for name in parameters if name not in values]
    if missing and not partial:
        raise SpaceError(f"every parameter must be given, missing {missing}")
    if unknown := [name for name in values if not isinstance(name, str) or name not in parameters]:
        raise SpaceError(f"parameters must be among {list(parameters)}, got unknown {described(unknown)}")
    point: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name not in values:
            continue
        try:
            point[name] = parameter.accept(values[name]) if outside else parameter.check(values[name])
        except SpaceError as error:
            raise SpaceError(f"parameter {name!r}: {error}") from error
    return point

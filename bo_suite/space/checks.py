"""Checks of the parameters that a Space is given."""

from collections.abc import Mapping

from bo_suite.errors import SpaceError
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.values.describe import described

MOST_PARAMETERS = 21_201
"""Dimensions of torch's Sobol sequences, with which a search begins."""


def check_parameters(parameters: object) -> None:
    """Raises a SpaceError unless there are parameters with names."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise SpaceError(f"a Space needs a dict with at least one parameter, got {described(parameters)}")
    for name, parameter in parameters.items():
        if not isinstance(name, str) or not name:
            raise SpaceError(f"a parameter's name must be a non-empty string, got {described(name)}")
        if not isinstance(parameter, Float | Int | Choice | Fixed):
            raise SpaceError(f"parameter {name!r} must be a Float, Int or Choice, got {described(parameter)}")


def check_roles(parameters: Mapping[str, Parameter | Fixed]) -> None:
    """Raises a SpaceError if there is nothing to choose."""
    if not any(map(is_chosen, parameters.values())):
        contexts = any(parameter.context for parameter in parameters.values())
        kinds = "no fidelity and no context" if contexts else "no fidelity"
        raise SpaceError(f"a Space needs a parameter that is {kinds}, got {list(parameters)} alone")


def is_chosen(parameter: Parameter | Fixed) -> bool:
    """Whether a search chooses the value for the outcome's sake."""
    return not parameter.context and (isinstance(parameter, Choice) or not parameter.fidelity)


def check_searchable(dim: int) -> None:
    """Raises a SpaceError if there are more parameters than a Sobol sequence has dimensions."""
    if dim > MOST_PARAMETERS:
        raise SpaceError(
            f"a search takes at most {MOST_PARAMETERS:,} parameters, the dimensions of a Sobol sequence, "
            f"got a Space of {dim:,}; leave out the least important"
        )

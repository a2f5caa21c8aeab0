"""A space as text."""

from collections.abc import Iterable
from dataclasses import replace

from bo_suite.space.constraints import Constraints
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Parameter
from bo_suite.values.describe import described, visible
from bo_suite.values.display import shown_line, shown_list, shown_value

_NEW_LINE = "\n    "
"""What is before a condition in the repr of a space."""


def shown_space(parameters: Iterable[tuple[str, Parameter]], constraints: Constraints) -> str:
    """The repr of a space."""
    items = shown_list([f"{name!r}: {_shown(parameter, _NEW_LINE)}," for name, parameter in parameters])
    lines = [line for item in items for line in item.split("\n")]
    listed = "" if constraints.table is None else f", candidates={constraints.table!r}"
    end = f"}}, constraints={constraints!r}{listed})" if constraints.stated else f"}}{listed})"
    return "\n".join(["Space({", *(shown_line(f"    {line}") for line in lines), shown_line(end)])


def shown_rows(
    parameters: Iterable[tuple[str, Parameter]], constraints: Constraints
) -> list[tuple[str, str]]:
    """The rows of a table of a space: its parameters, then its constraints."""
    return [(name, _shown(parameter, " ")) for name, parameter in parameters] + constraints.rows


def _shown(parameter: Parameter | Fixed, separator: str) -> str:
    """A parameter as text, with a separator before its condition."""
    if parameter.when is None or isinstance(parameter, Fixed):
        return shown_value(parameter)
    always = shown_value(replace(parameter, when=None)).removesuffix(")")
    return f"{always},{separator}when={visible(described(parameter.when, 60))})"

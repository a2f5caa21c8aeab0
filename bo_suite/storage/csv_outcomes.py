"""Outcomes, and what is known by parameter, as columns of a table: their headings, and what cells say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bo_suite.errors import DataError
from bo_suite.space.text import number_in
from bo_suite.storage.goals import VALUE, Goals
from bo_suite.values.describe import described

_WORDS = {"nan": math.nan, "true": 1.0, "false": 0.0}
"""Texts that stand for numbers in the cell of an outcome by name."""


@dataclass(frozen=True)
class OutcomeColumns:
    """Which column, counted from 0, holds what.

    Attributes:
        values: by name of an outcome.
        stds: of their noise.
        gradient: derivatives by name of a parameter.
        params_std: standard deviations of what was really set, by name of a parameter.
    """

    values: Mapping[str, int] = field(default_factory=dict)
    stds: Mapping[str, int] = field(default_factory=dict)
    gradient: Mapping[str, int] = field(default_factory=dict)
    params_std: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> list[int]:
        """All columns that are read."""
        named = (self.values, self.stds, self.gradient, self.params_std)
        return [at for columns in named for at in columns.values()]


def outcome_heading(kind: str, name: str) -> str:
    """The heading of an outcome: `kind_NAME`, or the kind alone if the objective has no name.

    Args:
        kind: "value" or "std".
        name: of the outcome.
    """
    return kind if name == VALUE else f"{kind}_{name}"


def parameter_heading(kind: str, name: str) -> str:
    """The heading of what is known by parameter: `kind_NAME`, the kind "gradient" or "params_std"."""
    return f"{kind}_{name}"


def value_headings(goals: Goals, headings: str | Mapping[str, str] | None) -> dict[str, str]:
    """The headings that a user gives, by name of an outcome.

    Args:
        goals: of the run.
        headings: of the only objective, or of outcomes by name; None if there are none.

    Raises:
        DataError: a name is unknown, or none is given and there are several objectives.
    """
    if headings is None:
        return {}
    if isinstance(headings, str):
        if goals.several:
            law = f"`value` must be headings by name of an outcome, one of {list(goals.names)}"
            raise DataError(f"{law}, got {described(headings)}")
        return {goals.objectives[0].name: headings}
    if unknown := [name for name in headings if name not in goals.names]:
        raise DataError(f"outcomes must be among {list(goals.names)}, got unknown {described(unknown[0])}")
    return dict(headings)


def number_of_cell(text: str, decimal: str, named: bool) -> float | str | None:
    """The number in the cell of an outcome, its text if it is none, or None if the cell is blank.

    Args:
        text: of the cell.
        decimal: "," if a comma may stand for the decimal point.
        named: whether the outcome has a name: "nan", and "true" and "false" for a label, are numbers then.
    """
    word = text.strip().lower()
    if named and word in _WORDS:
        return _WORDS[word]
    number = number_in(text, decimal)
    return (text if word else None) if number is None else number


def told_in(goals: Goals, cells: Mapping[str, float | str | None]) -> Any:
    """What cells tell: a number or text, these by name, or None if all are blank."""
    told = {name: value for name, value in cells.items() if value is not None}
    if not told:
        return None
    return told if goals.named else told[goals.objectives[0].name]


def outcome_cells(goals: Goals, numbers: Mapping[str, float | None]) -> list[object]:
    """Cells in the order of the goals: "nan" for an outcome that is None, a blank for a missing one."""
    texts = {name: "nan" if number is None else number for name, number in numbers.items()}
    return [texts.get(name) for name in goals.names]

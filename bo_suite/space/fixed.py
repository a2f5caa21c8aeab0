"""A parameter fixed at one value, while a search chooses the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bo_suite.space.parameters import Choice, Float, Parameter, Value


@dataclass(frozen=True)
class Fixed:
    """A parameter with a single value, encoded at the position that the original parameter gives it.

    Rows of a space with a Fixed are rows of the original space too, so a model of the latter scores them.

    Attributes:
        parameter: the original Float, Int or Choice.
        value: one of its values, in canonical form.
    """

    parameter: Parameter
    value: Value

    levels: ClassVar[int] = 1
    fidelity: ClassVar[bool] = False
    context: ClassVar[bool] = False

    @property
    def when(self) -> Mapping[str, Any] | None:
        """The condition of the parameter."""
        return self.parameter.when

    def check(self, value: object) -> Value:
        """The value in canonical form; raises SpaceError if the parameter does not have it."""
        return self.parameter.check(value)

    def accept(self, value: object) -> Value:
        """The value of a past trial in canonical form."""
        return self.parameter.accept(value)

    def encode(self, value: Value) -> float:
        """Position of the value in [0, 1]."""
        return self.parameter.encode(self.value)  # type: ignore[arg-type]

    def decode(self, unit: float) -> Value:
        """The value, whatever the position."""
        return self.value

    def position(self, level: np.ndarray) -> np.ndarray:
        """The position, for every level."""
        return np.full(np.shape(level), self.encode(self.value))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """Level 0, for every position."""
        return np.zeros(np.shape(unit))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Level 0, for every draw."""
        return np.zeros(np.shape(uniform))

    def to_dict(self) -> dict[str, Any]:
        """JSON form of the parameter, with the value."""
        return self.parameter.to_dict() | {"fixed": self.value}


def encoded(parameter: Parameter) -> Parameter:
    """The parameter that a column encodes: a Float with one value becomes a Choice of it."""
    if isinstance(parameter, Float) and parameter.levels == 1:
        return Choice((parameter.low,), ordered=True, when=parameter.when)
    return parameter

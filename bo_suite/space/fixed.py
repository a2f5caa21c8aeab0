"""A parameter at one value: what a search takes as given while it chooses the others."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bo_suite.space.parameters import Parameter, Value


@dataclass(frozen=True)
class Fixed:
    """A parameter that has a single level, its value, where the parameter encodes it.

    Rows of a space with it are rows of the space without it, so a model of the latter scores them.

    Attributes:
        parameter: the Float, Int or Choice.
        value: one of its values, in canonical form.
    """

    parameter: Parameter
    value: Value

    levels: ClassVar[int] = 1
    fidelity: ClassVar[bool] = False

    def check(self, value: object) -> Value:
        """The value; raises SpaceError where it is none of the parameter's."""
        return self.parameter.check(value)

    def encode(self, value: Value) -> float:
        """Position of the value in [0, 1]."""
        return self.parameter.encode(self.value)  # type: ignore[arg-type]

    def decode(self, unit: float) -> Value:
        """The value, of any position."""
        return self.value

    def position(self, level: np.ndarray) -> np.ndarray:
        """The position, for each level."""
        return np.full(np.shape(level), self.encode(self.value))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """Level 0, for each position."""
        return np.zeros(np.shape(unit))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Level 0, for each draw."""
        return np.zeros(np.shape(uniform))

    def to_dict(self) -> dict[str, Any]:
        """The form of the parameter, and the value."""
        return self.parameter.to_dict() | {"fixed": self.value}

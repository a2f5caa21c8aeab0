"""Tables of measurements by others: yields of a chemical reaction, and times of a kernel on graphics cards.

The tables lie beside this module with their licences. `benchmarks/field_tables.py` makes them.
"""

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from bo_suite.problems.base import Problem
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space


@dataclass(frozen=True, eq=False)
class MeasuredTable:
    """Measurements at every point of a finite space.

    Attributes:
        space: of Choices alone.
        measurements: of the points in the order of their options, the last parameter fastest: a number, or
            the reason why there is none.
    """

    space: Space
    measurements: tuple[float | str, ...]

    def value(self, params: Params) -> float:
        """The measurement at a point.

        Raises:
            RuntimeError: there is none; the message says why.
        """
        index = 0
        for name, parameter in self.space:
            assert isinstance(parameter, Choice)
            index = index * parameter.levels + parameter.index(params[name])
        measurement = self.measurements[index]
        if isinstance(measurement, str):
            raise RuntimeError(measurement)
        return measurement

    @property
    def minimum(self) -> float:
        """The smallest measurement."""
        return min(number for number in self.measurements if not isinstance(number, str))


@cache
def measured_table(name: str) -> MeasuredTable:
    """The table of a name, such as `buchwald_a` or `convolution_A100`."""
    file = resources.files("bo_suite.problems.field").joinpath("data", f"{name}.json.gz")
    content: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    space = Space(
        {
            name: Choice(tuple(options), ordered=name in content["ordered"])
            for name, options in content["parameters"].items()
        }
    )
    reasons = content["reasons"]
    measurements = (
        reasons[entry] if isinstance(entry, str) else content["sign"] * entry
        for entry in content["measurements"]
    )
    return MeasuredTable(space, tuple(measurements))


@dataclass(frozen=True)
class TableValue:
    """The measurement at a point in the table of a name; pickled as the name alone."""

    name: str

    def __call__(self, params: Params) -> float:
        return measured_table(self.name).value(params)


def table_problem(name: str) -> Problem:
    """The problem of a table, smaller is better: the time, or minus the yield in percent."""
    table = measured_table(name)
    return Problem(name, table.space, TableValue(name), table.minimum)

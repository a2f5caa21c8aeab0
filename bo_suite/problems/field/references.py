"""What regrets on the problems of the suite `field` are measured from, and divided by.

`data/references.csv` holds them; `benchmarks/field_optima.py` makes it. A best value that was only seen can
be improved, so it is no field of the problem: records name the problem that they were made with, and a run
continues only on an equal one.
"""

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources

from bo_suite.errors import DataError


@dataclass(frozen=True)
class Reference:
    """Values of a problem without noise.

    A regret is normalised as (value - best_known) / (typical - best_known): 0 at the best known value, 1 at
    that of a typical random point.

    Attributes:
        best_known: the minimum, or the smallest value seen.
        exact: whether it is the minimum.
        typical: the median of 200 uniform points, without those that fail.
    """

    best_known: float
    exact: bool
    typical: float

    def __post_init__(self) -> None:
        if not self.best_known < self.typical:
            raise DataError(
                f"`best_known < typical` must hold, got best_known={self.best_known!r}, "
                f"typical={self.typical!r}"
            )


@cache
def field_references() -> dict[str, Reference]:
    """The references of the problems of the suite `field`, by name."""
    text = resources.files("bo_suite.problems.field").joinpath("data", "references.csv").read_text()
    return {
        row["problem"]: Reference(float(row["best_known"]), row["kind"] == "exact", float(row["typical"]))
        for row in csv.DictReader(io.StringIO(text))
    }

"""What a score expects of one row, to say why it was chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.surrogates.process import Process


@dataclass(frozen=True, eq=False)
class Forecast:
    """The function at one row, on the scale of a process.

    Attributes:
        mean: posterior mean, averaged over fantasies.
        var: posterior variance.
        prior_var: variance before any observation.
        best: value to improve on, averaged over fantasies.
        outcomes: values on the process's scale as outcomes on the scale of the data.
    """

    mean: jt.Float[Tensor, " 1"]
    var: jt.Float[Tensor, " 1"]
    prior_var: jt.Float[Tensor, " 1"]
    best: jt.Float[Tensor, " 1"]
    outcomes: Callable[[Tensor], Tensor]


@runtime_checkable
class Forecaster(Protocol):
    """A score that can say what it expects; an acquisition's score need not be one."""

    def forecast(self, row: jt.Float[Tensor, "1 d"]) -> Forecast:
        """What is expected of an evaluation of one run at the row."""


def forecast_of(
    process: Process,
    best: jt.Float[Tensor, "*s 1"],
    row: jt.Float[Tensor, "1 d"],
    outcomes: Callable[[Tensor], Tensor],
) -> Forecast:
    """The Forecast of a process that is to improve on `best`; fantasies of it are leading dimensions."""
    mean, var = process.mean_and_var(row)
    return Forecast(
        mean.reshape(-1, 1).mean(0), var, process.scale.reshape(1), best.reshape(-1, 1).mean(0), outcomes
    )

"""What happened in a simulated run, and how good it was at each time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from bo_suite.space.space import Params

if TYPE_CHECKING:
    import pandas as pd


class Event(NamedTuple):
    """A report.

    Attributes:
        seconds: simulated time of the run.
        trial: id of the trial.
        step: number of the step.
        value: the outcome after the step.
        worker: number of the worker, from 0 on.
    """

    seconds: float
    trial: int
    step: int
    value: float
    worker: int


@dataclass(frozen=True)
class SimulatedTrial:
    """A trial of a simulated run.

    Attributes:
        id: of the trial.
        params: its point.
        started: simulated time at which it was handed out first.
        step: the last step that it reported; 0 if the run ended before.
        fate: "finished" at the last step, "stopped" before it (or paused), "running" when the run ended.
        final: the outcome of its whole curve at the last step, whether it got there or not. Tuners do not see
            this.
    """

    id: int
    params: Params
    started: float
    step: int
    fate: Literal["finished", "stopped", "running"]
    final: float


@dataclass(frozen=True)
class Simulation:
    """A simulated run.

    Attributes:
        direction: whether smaller or larger outcomes are better.
        max_step: number of steps of a whole evaluation.
        workers: number of workers.
        seconds: simulated time at which the run ended.
        events: the reports, in the order of the simulation.
        trials: ordered by the time at which they were handed out.
    """

    direction: Literal["minimize", "maximize"]
    max_step: int
    workers: int
    seconds: float
    events: tuple[Event, ...]
    trials: tuple[SimulatedTrial, ...]

    @property
    def sign(self) -> float:
        """1 if smaller outcomes are better, -1 if larger ones are."""
        return 1.0 if self.direction == "minimize" else -1.0

    def incumbents(self, any_step: bool = False) -> list[tuple[float, float]]:
        """(seconds, value) of each improvement of the best outcome, by time.

        Args:
            any_step: whether outcomes at all steps count; otherwise those at the last step alone.
        """
        return list(self._improvements(any_step))

    def _improvements(self, any_step: bool) -> Iterator[tuple[float, float]]:
        best = math.inf
        for event in self.events:
            if (any_step or event.step == self.max_step) and self.sign * event.value < best:
                best = self.sign * event.value
                yield event.seconds, event.value

    def best_at(self, seconds: float, any_step: bool = False) -> float | None:
        """The best outcome at a simulated time; None before the first one. `any_step` as in `incumbents`."""
        earlier = [value for moment, value in self._improvements(any_step) if moment <= seconds]
        return earlier[-1] if earlier else None

    def time_to(self, value: float, any_step: bool = False) -> float:
        """The first simulated time with an outcome at least as good; inf if there was none."""
        threshold = self.sign * value
        good = (at for at, found in self._improvements(any_step) if self.sign * found <= threshold)
        return next(good, math.inf)

    def to_frame(self) -> "pd.DataFrame":
        """The events: a row a report, with columns seconds, trial, step, value and worker."""
        import pandas as pd

        return pd.DataFrame(self.events, columns=list(Event._fields))

    def trials_frame(self) -> "pd.DataFrame":
        """The trials: a row a trial, with its parameters as param_NAME and the fields of `SimulatedTrial`."""
        import pandas as pd

        rows = [
            {"id": one.id, "started": one.started, "step": one.step, "fate": one.fate, "final": one.final}
            | {f"param_{name}": value for name, value in one.params.items()}
            for one in self.trials
        ]
        return pd.DataFrame(rows)

"""Trials in, the next points out: for an Optimizer with its history, or for another keeper of trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, SteinBatch
from bo_suite.acquisition.base import require_support
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.linalg.environment import one_thread, thread_environment
from bo_suite.space.candidates import is_exhausted
from bo_suite.space.parameters import Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial, next_id
from bo_suite.study.initial import initial_size, initial_steps
from bo_suite.study.observations import Observations
from bo_suite.study.provenance import fingerprint, last_start, provenance_of
from bo_suite.study.step import Step, batch_steps, next_steps
from bo_suite.surrogates import WarmStart
from bo_suite.values.describe import described


@dataclass(frozen=True)
class Suggestion:
    """A point to evaluate, and how it was chosen, in JSON values."""

    params: Params
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Suggester:
    """Suggests points given trials, whoever keeps these; holds nothing that changes what it suggests.

    Attributes:
        space: where to search.
        acquisition: how to choose.
        seed: the same seed and trials give the same points.
        direction: "minimize" or "maximize".
        initial: number of initial points, observations from elsewhere counted in.
        device: where surrogates live.
        searched: the space of the parameters that vary; rows are of it.
        observations: trials as data.

    Raises:
        DataError: an acquisition that does not support what the space has.
        SpaceError: a space of too many parameters.
    """

    space: Space
    acquisition: Acquisition
    seed: int = 0
    direction: str = "minimize"
    initial: int = initial_size(None)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    searched: Space = field(init=False, repr=False, compare=False)
    observations: Observations = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_support(self.acquisition, self.space.aspects)
        searched = self.space.varying
        searched.check_searchable()
        object.__setattr__(self, "searched", searched)
        object.__setattr__(self, "observations", Observations(searched, self.direction, self.device))

    def suggest(
        self,
        trials: Sequence[Trial],
        count: int = 1,
        batch: SteinBatch | None = None,
        number: int | None = None,
        constraints: Mapping[int, Sequence[float]] | None = None,
        fixed: Mapping[str, Value] | None = None,
    ) -> list[Suggestion]:
        """The next points, each given those before as pending; fewer where a finite space has no more.

        Args:
            trials: all that is known, in order of id.
            count: of points.
            batch: chooses them jointly, once the initial points are over.
            number: of the first point, which its random numbers come from; the id that follows when None.
            constraints: values by the id of a trial, at most 0 where they are met.
            fixed: values that some parameters have in each point; the others are chosen given these.

        Raises:
            DataError: constraints that the acquisition does not support.
            SpaceExhausted: a finite space has no new point left.
            SpaceError: a fixed parameter that is unknown, or a value that is none of it.
        """
        first = next_id(trials) if number is None else number
        informative = [trial for trial in trials if trial.informative]
        held = self.space.check_some(fixed or {})
        varying = {name: value for name, value in held.items() if name in self.searched}
        space = self.searched.with_fixed(varying) if varying else self.searched
        finished = any(trial.state == "finished" for trial in informative)
        fitted_to = fingerprint(self.acquisition, informative, constraints)
        start = last_start(informative, fitted_to, self.device)
        steps: list[Step] = []
        sources: list[dict[str, Any]] = []
        with thread_environment(), one_thread():
            observed = self.observations.dataset(informative, constraints)
            while len(steps) < count:
                data = observed.with_pending([step.row for step in steps])
                index, left = first + len(steps), count - len(steps)
                initial = len(informative) + len(steps) < self.initial or not finished
                try:
                    if initial and not (finished and is_exhausted(space, data.taken)):
                        new = initial_steps(space, data, (self.seed,), index)
                    else:
                        new = self._steps(data, space, index, start, batch, left)
                except SpaceExhausted:
                    if steps:  # the last points of a finite space, fewer than were asked for
                        break
                    raise
                for step in new:
                    source = provenance_of(step, first + len(steps), data, self.acquisition, fitted_to)
                    sources.append(source | ({"fixed": list(held)} if held else {}))
                    steps.append(step)
                    start = step.settled_start or start
            points = [self.point(step.row) | held for step in steps]
        return [Suggestion(point, source) for point, source in zip(points, sources, strict=True)]

    def _steps(
        self,
        data: Dataset,
        space: Space,
        index: int,
        start: WarmStart | None,
        batch: SteinBatch | None,
        count: int,
    ) -> list[Step]:
        """The next step, or up to `count` of them by `batch`."""
        seeds = Seeds.of(self.seed, index)
        if batch is None:
            return next_steps(data, space, self.acquisition, seeds, [start])
        return batch_steps(data, space, self.acquisition, seeds, start, batch, count)

    def point(self, row: Tensor) -> Params:
        """The point of a row of `searched`."""
        return self.space.decode(self.space.widened(row[None]))[0]


def check_acquisition(acquisition: object) -> None:
    """Raises a TrialError unless an acquisition is one."""
    if isinstance(acquisition, type) or not isinstance(acquisition, Acquisition):
        law = "an acquisition must be an object with a `build` method"
        raise TrialError(f"{law}, got {described(acquisition)}")

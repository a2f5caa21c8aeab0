"""The next points given trials, for an Optimizer or for another library that stores the trials."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, SteinBatch
from bo_suite.acquisition.base import learns_from_derivatives, require_support
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.linalg.environment import one_thread, thread_environment
from bo_suite.space.branches import due
from bo_suite.space.candidates import is_exhausted, sample_random
from bo_suite.space.checks import check_searchable
from bo_suite.space.parameters import Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import MINIMIZE, Goals
from bo_suite.storage.trial import Queued, Trial, next_id
from bo_suite.study.initial import USUAL, initial_steps
from bo_suite.study.observations import Observations
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.provenance import fingerprint, last_start, provenance_of
from bo_suite.study.reasons import why
from bo_suite.study.repeats import repeat_instead
from bo_suite.study.step import Step, batch_steps, next_steps
from bo_suite.surrogates import WarmStart
from bo_suite.values.describe import described

logger = logging.getLogger("bo_suite")


@dataclass(frozen=True)
class Suggestion:
    """A point to evaluate, and how it was chosen in JSON values.

    Attributes:
        params: the point.
        provenance: how it was chosen.
        queued: id of the queued point that it is, or completes; None if it was not queued.
    """

    params: Params
    provenance: dict[str, Any]
    queued: int | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether the point may be that of another trial."""
        return self.queued is not None or bool(self.provenance.get("repeat"))


@dataclass(frozen=True)
class _Request:
    """What a part of one call of `suggest` asks for: some points, or the completion of a queued one.

    Attributes:
        space: the searched space, with fixed parameters.
        values: of the fixed parameters.
        first: number of the first point, from which its random numbers derive.
        count: number of points.
        initial: number of initial points that are still to come.
        skipped: number of earlier points that were queued whole, and so took no place in the initial design.
        batch: chooses points jointly; None to choose one after another.
        queued: the point to complete, if any.
    """

    space: Space
    values: Params
    first: int
    count: int
    initial: int
    skipped: int
    batch: SteinBatch | None
    queued: Queued | None = None

    @property
    def is_whole(self) -> bool:
        """Whether a queued point has all active parameters."""
        return self.queued is not None and not self.space.open_columns


@dataclass(frozen=True)
class Suggester:
    """Suggests points given trials; has no state that affects the suggestions.

    Attributes:
        space: the user's space.
        acquisition: chooses the points.
        seed: equal seeds and trials give equal points.
        goals: objectives and constraints.
        initial: number of initial points; observations from elsewhere count.
        since: id of the first trial whose fit may start the next one: earlier ones had another past.
        repeats: whether a point may be evaluated again, under noise, before the space is exhausted.
        device: device of the surrogates.
        max_step: the last step of a whole evaluation, if a scheduler judges what trials report.
        searched: the space of the parameters that vary, in which rows are encoded.
        observations: makes Datasets of trials.

    Raises:
        DataError: the acquisition does not support an aspect of the space.
        SpaceError: the space has too many parameters.
    """

    space: Space
    acquisition: Acquisition
    seed: int = 0
    goals: Goals = MINIMIZE
    initial: int = USUAL
    since: int = 0
    repeats: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_step: int | None = None
    searched: Space = field(init=False, repr=False, compare=False)
    observations: Observations = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_support(self.acquisition, self.space.aspects | self.goals.aspects)
        searched = self.space.varying
        check_searchable(searched.dim)
        object.__setattr__(self, "searched", searched)
        object.__setattr__(
            self, "observations", Observations(searched, self.goals, self.device, self.max_step)
        )

    def suggest(
        self,
        trials: Sequence[Trial],
        count: int = 1,
        batch: SteinBatch | None = None,
        number: int | None = None,
        fixed: Mapping[str, Value] | None = None,
        queue: Sequence[Queued] = (),
    ) -> list[Suggestion]:
        """The next points, each given the earlier ones as pending; fewer if a finite space has no more.

        Args:
            trials: all trials, in order of id.
            count: number of points.
            batch: chooses points jointly, after the initial points.
            number: of the first point, from which its random numbers derive; None for the next trial id.
            fixed: values of some parameters in every point; the others are chosen given these.
            queue: points that come first, in order, but those with other values than the fixed ones.

        Raises:
            SpaceExhausted: a finite space has no new point left.
            SpaceError: a fixed parameter is unknown, or does not have the value.
        """
        informative = [trial for trial in trials if trial.informative]
        fitted_to = fingerprint(self.acquisition, informative, reports=self.max_step is not None)
        start = last_start([one for one in informative if one.id >= self.since], fitted_to, self.device)
        first = next_id(trials) if number is None else number
        requests = self._requests(informative, first, count, self.space.check_some(fixed or {}), queue, batch)
        suggestions: list[Suggestion] = []
        with thread_environment(), one_thread():
            data = self.observations.dataset(informative)
            transform = self.observations.transform(informative) if self._explains(data) else None
            if data.gradient is not None and not learns_from_derivatives(self.acquisition):
                _say_ignored(type(self.acquisition).__name__)
            for request in requests:
                try:
                    steps = self._steps(data, request, start)
                except SpaceExhausted:
                    if suggestions:  # a finite space has fewer points left than requested
                        break
                    raise
                for index, step in enumerate(steps, request.first):
                    source = provenance_of(step, index, data, self.acquisition, fitted_to)
                    suggestions.append(self._suggestion(step, request, source, data, transform))
                    start = step.settled_start or start
                data = data.with_pending([step.row for step in steps])
        return suggestions

    def _explains(self, data: Dataset) -> bool:
        """Whether the outcome of a point can be predicted: there is one objective, with an observation."""
        return data.y.numel() > 0 and not self.goals.several

    def _requests(
        self,
        informative: Sequence[Trial],
        first: int,
        count: int,
        fixed: Params,
        queue: Sequence[Queued],
        batch: SteinBatch | None,
    ) -> list[_Request]:
        """One request for each queued point that agrees with the fixed values, and one for the others."""
        agreeing = [point for point in queue if all(point.params.get(n, v) == v for n, v in fixed.items())]
        left = self.initial - len(informative)
        skipped = sum(trial.provenance.get("source") == "queue" for trial in informative) if left > 0 else 0
        requests: list[_Request] = []
        for queued in agreeing[:count]:
            done, values = len(requests), self.space.check_some(fixed | queued.params)
            space = self.searched_with(values)
            requests.append(_Request(space, values, first + done, 1, left - done, skipped, None, queued))
            skipped += requests[-1].is_whole
        if (done := len(requests)) < count:
            space, rest = self.searched_with(fixed), count - done
            requests.append(_Request(space, fixed, first + done, rest, left - done, skipped, batch))
        return requests

    def _suggestion(
        self,
        step: Step,
        request: _Request,
        source: dict[str, Any],
        data: Dataset,
        transform: OutcomeTransform | None,
    ) -> Suggestion:
        """The suggestion of a step, with its provenance completed."""
        if request.values and step.source != "queue":
            source["fixed"] = list(request.values)
            source |= {"queued": True} if request.queued is not None else {}
        if step.source == "acquisition" and data.y.numel():
            source["why"] = why(step, data, transform, self.goals)
        queued = None if request.queued is None else request.queued.id
        return Suggestion(self.point(step.row) | request.values, source, queued)

    def _steps(self, data: Dataset, request: _Request, start: WarmStart | None) -> list[Step]:
        """The requested steps; a queued point is completed by the model, at random if all that is taken."""
        if request.is_whole:
            return [Step(sample_random(request.space, 1, data.x, Seeds.of(self.seed, 0))[0], "queue")]
        try:
            return self._new_steps(data, request, start)
        except SpaceExhausted:
            if request.queued is None:
                raise
        seeds = Seeds.of(self.seed, request.first).split("queue")
        return [Step(sample_random(request.space, 1, data.x, seeds)[0], "queue", repeat=True)]

    def searched_with(self, values: Mapping[str, Value]) -> Space:
        """The searched space with some parameters fixed, of those that vary."""
        varying = {name: value for name, value in values.items() if name in self.searched}
        return self.searched.with_fixed(varying) if varying else self.searched

    def _new_steps(self, data: Dataset, request: _Request, start: WarmStart | None) -> list[Step]:
        """The requested steps, each given the rows of the earlier ones as pending."""
        steps: list[Step] = []
        while len(steps) < request.count:
            pending = data.with_pending([step.row for step in steps])
            try:
                new = self._next_steps(pending, request, len(steps), start)
            except SpaceExhausted:
                if steps:  # a finite space has fewer points left than requested
                    break
                raise
            for step in new:
                steps.append(step)
                start = step.settled_start or start
        return steps

    def _next_steps(self, data: Dataset, request: _Request, done: int, start: WarmStart | None) -> list[Step]:
        """The step after `done` steps of a request, or several steps by its batch."""
        space, index, finished = request.space, request.first + done, data.x.shape[-2] > 0
        initial = done < request.initial or not finished
        if initial and not (finished and is_exhausted(space, data.taken)):
            return initial_steps(space, data, (self.seed,), index - request.skipped)
        seeds = Seeds.of(self.seed, index)
        if request.batch is None or due(space, data.taken, seeds) is not None:
            (step,) = next_steps(data, space, self.acquisition, seeds, [start])
            return [self._repeated(step, data, space, seeds) if self.repeats else step]
        left = request.count - done
        return batch_steps(data, space, self.acquisition, seeds, start, request.batch, left)

    def _repeated(self, step: Step, data: Dataset, space: Space, seeds: Seeds) -> Step:
        """The step to a point that was evaluated before, where that teaches more than the new one."""
        data = replace(data, columns=space.restricted(data.columns))
        chosen = step.source == "acquisition" and "branch" not in step.notes
        again = repeat_instead(step.row, data, seeds) if chosen else None
        if again is None:
            return step
        notes = {
            **step.notes,
            "rule": f"repeat, {again.ratio:.3g} times the knowledge gradient of a new point",
        }
        return replace(step, row=again.row, repeat=True, notes=notes, forecast=None, chance=None)

    def point(self, row: Tensor) -> Params:
        """The point of a row of `searched`."""
        return self.space.decode(self.space.widened(row[None]))[0]


@cache
def _say_ignored(name: str) -> None:
    """Logs once for each acquisition that derivatives are not used."""
    logger.warning(
        "the derivatives of trials are stored but not used, since %s does not learn from them: "
        "acquisitions with an AutoGP or an ExactGP do",
        name,
    )


def check_acquisition(acquisition: object) -> None:
    """Raises a TrialError unless the object is an acquisition."""
    if isinstance(acquisition, type) or not isinstance(acquisition, Acquisition):
        law = "an acquisition must be an object with a `build` method"
        raise TrialError(f"{law}, got {described(acquisition)}")

"""Trials in, the next points out: for an Optimizer with its history, or a translator with another."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, KnowledgeGradient, LogExpectedImprovement, SteinBatch
from bo_suite.data import Dataset, OutcomeTransform, Seeds
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim.maximize import check_columns
from bo_suite.space.parameters import Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial, next_id
from bo_suite.storage.trial import round_hyperparameters as kept
from bo_suite.study.suggest import Suggestion, design, suggest, suggest_batch
from bo_suite.surrogates import WarmStart
from bo_suite.values.describe import described

_CPU: Any = {"dtype": torch.float64, "device": "cpu"}
"""Where trials are encoded, whatever the defaults."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""What the same object is not called by in another process."""


@dataclass(frozen=True)
class Proposal:
    """A point to evaluate, and what it came from, in JSON values."""

    params: Params
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Proposer:
    """Proposes points given trials, whoever keeps these; holds nothing that changes what it proposes.

    Attributes:
        space: where to search.
        acquisition: how to choose.
        seed: the same seed and trials give the same points.
        direction: "minimize" or "maximize".
        budget: the number of evaluations planned, if known: a small one shortens the space-filling start.
        device: where surrogates live.
        searched: the space of the parameters that vary; rows are of it.
    """

    space: Space
    acquisition: Acquisition
    seed: int = 0
    direction: str = "minimize"
    budget: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    searched: Space = field(init=False, repr=False, compare=False)
    _encoded: "_Encoded" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "searched", self.space.varying)
        check_columns(self.searched)
        object.__setattr__(self, "_encoded", _Encoded(self.searched))

    def propose(
        self,
        trials: Sequence[Trial],
        count: int = 1,
        batch: SteinBatch | None = None,
        number: int | None = None,
        constraints: Mapping[int, Sequence[float]] | None = None,
        fixed: Mapping[str, Value] | None = None,
    ) -> list[Proposal]:
        """The next points, each given those before as pending; fewer where a finite space has no more.

        Args:
            trials: what is known, in order of id; one that has ended must have the same params in all calls.
            count: of points.
            batch: chooses them jointly, once the space-filling start is over.
            number: of the first point, which its random numbers come from; the id that follows when None.
            constraints: values by the id of a trial, at most 0 where they are met; for acquisitions that take
                note of them.
            fixed: values that some parameters have in each point; the others are chosen given these.

        Raises:
            SpaceExhausted: a finite space has no new point left.
            SpaceError: a fixed parameter that is unknown, or a value that is none of it.
        """
        first = next_id(trials) if number is None else number
        with numerical_environment():
            informative = [trial for trial in trials if trial.informative]
            return self._propose(informative, count, batch, first, constraints, fixed or {})

    def _propose(
        self,
        trials: Sequence[Trial],
        count: int,
        batch: SteinBatch | None,
        first: int,
        constraints: Mapping[int, Sequence[float]] | None,
        fixed: Mapping[str, Value],
    ) -> list[Proposal]:
        held = self.space.check_some(fixed)
        varying = {name: value for name, value in held.items() if name in self.searched}
        space = self.searched.with_fixed(varying) if varying else self.searched
        seen = self._fingerprint(trials, constraints)
        start = self._last_fit(trials, seen)
        steps: list[Suggestion] = []
        sources: list[dict[str, Any]] = []
        finished = any(trial.state == "finished" for trial in trials)
        known = self.dataset(trials, constraints)
        while len(steps) < count:
            data = known.with_pending([step.rows for step in steps])
            seeds = Seeds.of(self.seed, first + len(steps))
            try:
                early = len(trials) + len(steps) < design_size(self.budget) or not finished
                if early and not (finished and _is_full(space, data)):
                    found = [design(space, data, self.seed, first + len(steps))]
                elif batch is None:
                    found = [suggest(data, space, self.acquisition, seeds, start)]
                else:
                    left = count - len(steps)
                    found = suggest_batch(data, space, self.acquisition, seeds, start, batch, left)
            except SpaceExhausted:
                if steps:  # the last points of a finite space, fewer than were asked for
                    break
                raise
            for step in found:
                source = self._provenance(step, first + len(steps), data.x.shape[-2], seen)
                sources.append(source | ({"fixed": list(held)} if held else {}))
                steps.append(step)
                start = self.warm_start(sources[-1], seen) or start
        points = [self.point(step.rows) | held for step in steps]
        return [Proposal(point, source) for point, source in zip(points, sources, strict=True)]

    def point(self, row: Tensor) -> Params:
        """The point of a row."""
        return self.space.decode(self.space.widened(row[None]))[0]

    def dataset(
        self,
        trials: Sequence[Trial],
        constraints: Mapping[int, Sequence[float]] | None = None,
    ) -> Dataset:
        """Encoded trials in order: finished ones are observations, failed ones failures.

        Args:
            trials: what is known; running ones are pending.
            constraints: values by the id of a trial.
        """
        finished = [trial for trial in trials if trial.state == "finished"]
        failed = [trial for trial in trials if trial.state == "failed" and trial.informative]
        running = [trial for trial in trials if trial.state == "running"]
        y, noise = self._outcomes(finished)
        return Dataset(
            self._encoded.rows(finished).to(self.device),
            y.to(self.device),
            None if noise is None else noise.to(self.device),
            self.searched.encode([trial.params for trial in running]).to(self.device),
            self.searched.unordered,
            self.searched.levels,
            self.searched.fidelities,
            None if not constraints else _limits(finished, constraints).to(self.device),
            self._encoded.rows(failed).to(self.device) if failed else None,
        )

    def transform(self, trials: Sequence[Trial]) -> OutcomeTransform:
        """What maps outcomes, smaller being better, to the surrogate's scale; a trial must have finished."""
        return OutcomeTransform.fit(self._told(trials))

    def _told(self, trials: Sequence[Trial]) -> Tensor:
        """Outcomes, the smaller the better."""
        sign = 1.0 if self.direction == "minimize" else -1.0
        return sign * torch.tensor([t.value for t in trials if t.value is not None], **_CPU)

    def _outcomes(self, finished: Sequence[Trial]) -> tuple[Tensor, Tensor | None]:
        """Transformed outcomes and, where any was told, their noise variances."""
        told = self._told(finished)
        if not len(told):
            return told, None
        transform = OutcomeTransform.fit(told)
        if all(trial.std is None for trial in finished):
            return transform(told), None
        stds = [math.nan if trial.std is None else trial.std for trial in finished]
        return transform(told), transform.noise(told, torch.tensor(stds, **_CPU))

    def _fingerprint(self, trials: Sequence[Trial], constraints: Mapping[int, Sequence[float]] | None) -> str:
        """What a fit depends on, in brief: the acquisition, outcomes and failures, but no pending trial."""
        digest = hashlib.blake2b(_ADDRESS.sub("", repr(self.acquisition)).encode(), digest_size=8)
        for trial in trials:
            if trial.state != "running":
                limits = (constraints or {}).get(trial.id, ())
                digest.update(repr((trial.id, trial.value, trial.std, *limits)).encode())
        return digest.hexdigest()

    def _provenance(self, step: Suggestion, number: int, observations: int, seen: str) -> dict[str, Any]:
        source: dict[str, Any] = {"source": step.source, "number": number, "observations": observations}
        if step.source != "design":
            source["acquisition"] = repr(self.acquisition)
        if step.source == "acquisition":
            source["fit_ms"] = round(1e3 * step.fit_seconds, 3)
            source["search_ms"] = round(1e3 * step.search_seconds, 3)
        if step.hyperparameters is not None:
            source["hyperparameters"] = kept(step.hyperparameters.tolist())
            source["data"] = seen
        if step.success is not None:
            source["success"] = kept(step.success.hyperparameters.tolist())
            source["failures"] = step.success.observations - observations
        if step.repeat:
            source["repeat"] = True
        if step.reason is not None:
            source["fallback"] = step.reason
        return source

    def _last_fit(self, trials: Sequence[Trial], seen: str) -> WarmStart | None:
        for trial in reversed(trials):
            if start := self.warm_start(trial.provenance, seen):
                return start
        return None

    def warm_start(self, provenance: Mapping[str, Any], seen: str | None = None) -> WarmStart | None:
        """What a suggestion has left for the next one, as a history keeps it.

        Args:
            provenance: of the suggestion.
            seen: the fingerprint of what the next fit sees; where it is that of the suggestion, its
                hyperparameters are settled.
        """
        if "hyperparameters" not in provenance:
            return None
        count = provenance["observations"]
        success = None
        if "success" in provenance:
            success = WarmStart(self._vector(provenance["success"]), count + provenance["failures"])
        settled = seen is not None and provenance.get("data") == seen
        return WarmStart(self._vector(provenance["hyperparameters"]), count, success, settled)

    def _vector(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)


def _is_full(space: Space, data: Dataset) -> bool:
    """Whether each point of a finite space is told, pending or failed."""
    if space.cardinality is None:
        return False
    columns = dict(space.fixed)
    rows = torch.unique(data.taken, dim=0)
    held = (rows[:, list(columns)] == rows.new_tensor(list(columns.values()))).all(-1)
    return int(held.sum()) >= space.cardinality


class _Encoded:
    """Rows of trials, each encoded once."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: tuple[dict[int, int], Tensor] = ({}, space.encode([]))

    def rows(self, trials: Sequence[Trial]) -> Tensor:
        """The rows of trials, by their ids."""
        index, rows = self._known
        new = [trial for trial in trials if trial.id not in index]
        if new:
            fresh = {trial.id: len(rows) + place for place, trial in enumerate(new)}
            index = {**index, **fresh}
            rows = torch.cat((rows, self._space.encode([trial.params for trial in new])))
            self._known = index, rows  # at once, for other threads
        places = [index[trial.id] for trial in trials]
        return rows[torch.tensor(places, dtype=torch.long, device="cpu")]


def _limits(finished: Sequence[Trial], constraints: Mapping[int, Sequence[float]]) -> Tensor:
    """Values of the constraints, NaN for trials that have none."""
    unknown = [math.nan] * max(map(len, constraints.values()))
    return torch.tensor([constraints.get(trial.id, unknown) for trial in finished], **_CPU)


def check_acquisition(acquisition: object) -> None:
    """Raises a TrialError unless an acquisition is one."""
    if isinstance(acquisition, type) or not isinstance(acquisition, Acquisition):
        law = "an acquisition must be an object with a `build` method"
        raise TrialError(f"{law}, got {described(acquisition)}")


def default_acquisition(space: Space) -> Acquisition:
    """LogExpectedImprovement; KnowledgeGradient where the space has fidelities."""
    return KnowledgeGradient() if space.fidelities else LogExpectedImprovement()


def design_size(budget: int | None) -> int:
    """Number of points of the space-filling start, outside observations counted in."""
    return 6 if budget is None else max(2, min(6, budget // 3))

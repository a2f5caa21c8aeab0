"""Trials in, the next points out: for an Optimizer with its history, or a translator with another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, KnowledgeGradient, LogExpectedImprovement, SteinBatch
from bo_suite.data import Dataset, OutcomeTransform, Seeds
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space import Params, Space
from bo_suite.suggest import Suggestion, design, suggest, suggest_batch
from bo_suite.surrogates import WarmStart
from bo_suite.trials import Trial, kept

_CPU: Any = {"dtype": torch.float64, "device": "cpu"}
"""Where trials are encoded, whatever the defaults."""


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
    """

    space: Space
    acquisition: Acquisition
    seed: int = 0
    direction: str = "minimize"
    budget: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _rows: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def propose(
        self,
        trials: Sequence[Trial],
        count: int = 1,
        batch: SteinBatch | None = None,
        number: int | None = None,
        constraints: Mapping[int, Sequence[float]] | None = None,
    ) -> list[Proposal]:
        """The next points, each given those before as pending; fewer where a finite space has no more.

        Args:
            trials: what is known, in order of id; no two of one id may have different params, in any call.
            count: of points.
            batch: chooses them jointly, once the space-filling start is over.
            number: of the first point, which its random numbers come from; that of the trials when None.
            constraints: values by the id of a trial, at most 0 where they are met; for acquisitions that take
                note of them.

        Raises:
            SpaceExhausted: a finite space has no new point left.
        """
        with numerical_environment():
            return self._propose(trials, count, batch, len(trials) if number is None else number, constraints)

    def _propose(
        self,
        trials: Sequence[Trial],
        count: int,
        batch: SteinBatch | None,
        first: int,
        constraints: Mapping[int, Sequence[float]] | None,
    ) -> list[Proposal]:
        start = self._last_fit(trials)
        steps: list[Suggestion] = []
        sources: list[dict[str, Any]] = []
        finished = any(trial.state == "finished" for trial in trials)
        while len(steps) < count:
            data = self.dataset(trials, [step.rows for step in steps], constraints)
            seeds = Seeds.of(self.seed, first + len(steps))
            try:
                if len(trials) + len(steps) < design_size(self.budget) or not finished:
                    found = [design(self.space, data, self.seed, first + len(steps))]
                elif batch is None:
                    found = [suggest(data, self.space, self.acquisition, seeds, start)]
                else:
                    left = count - len(steps)
                    found = suggest_batch(data, self.space, self.acquisition, seeds, start, batch, left)
            except SpaceExhausted:
                if steps:  # the last points of a finite space, fewer than were asked for
                    break
                raise
            for step in found:
                sources.append(self._provenance(step, first + len(steps), data.x.shape[-2]))
                steps.append(step)
                start = self.warm_start(sources[-1]) or start
        points = [self.space.decode(step.rows[None])[0] for step in steps]
        return [Proposal(point, source) for point, source in zip(points, sources, strict=True)]

    def dataset(
        self,
        trials: Sequence[Trial],
        extra: Sequence[Tensor] = (),
        constraints: Mapping[int, Sequence[float]] | None = None,
    ) -> Dataset:
        """Encoded trials in order; failed ones count as bad as the worst finished one.

        Args:
            trials: what is known; running ones are pending.
            extra: rows that are pending, too.
            constraints: values by the id of a trial.
        """
        for trial in trials:
            if trial.id not in self._rows:
                self._rows[trial.id] = self.space.encode([trial.params])[0]
        ended = [trial for trial in trials if trial.state != "running"]
        running = [self._rows[trial.id] for trial in trials if trial.state == "running"]
        empty = torch.zeros(0, self.space.dim, **_CPU)
        x = torch.stack([self._rows[trial.id] for trial in ended]) if ended else empty
        pending = torch.stack(running) if running else empty
        y, noise = self._outcomes(ended)
        pending = torch.cat((pending.to(self.device), *(row[None].to(self.device) for row in extra)))
        return Dataset(
            x.to(self.device),
            y.to(self.device),
            None if noise is None else noise.to(self.device),
            pending,
            self.space.unordered,
            self.space.levels,
            self.space.fidelities,
            None if not constraints else _limits(ended, constraints).to(self.device),
        )

    def transform(self, trials: Sequence[Trial]) -> OutcomeTransform:
        """What maps outcomes, smaller being better, to the surrogate's scale; a trial must have finished."""
        return OutcomeTransform.fit(self._told(trials))

    def _told(self, trials: Sequence[Trial]) -> Tensor:
        """Outcomes, the smaller the better."""
        sign = 1.0 if self.direction == "minimize" else -1.0
        return sign * torch.tensor([t.value for t in trials if t.value is not None], **_CPU)

    def _outcomes(self, ended: Sequence[Trial]) -> tuple[Tensor, Tensor | None]:
        """Transformed outcomes and, where any was told, their noise variances."""
        told = self._told(ended)
        y = torch.zeros(len(ended), **_CPU)
        if not len(told):
            return y, None
        transform = OutcomeTransform.fit(told)
        finished = torch.tensor(
            [trial.state == "finished" for trial in ended], dtype=torch.bool, device="cpu"
        )
        y[finished] = transform(told)
        y[~finished] = y[finished].max()
        if all(trial.std is None for trial in ended):
            return y, None
        std = torch.tensor([torch.nan if t.std is None else t.std for t in ended], **_CPU)
        noise = torch.full_like(y, torch.nan)
        noise[finished] = transform.noise(told, std[finished])
        return y, noise

    def _provenance(self, step: Suggestion, number: int, observations: int) -> dict[str, Any]:
        source: dict[str, Any] = {"source": step.source, "number": number, "observations": observations}
        if step.source != "design":
            source["acquisition"] = repr(self.acquisition)
        if step.source == "acquisition":
            source["fit_ms"] = round(1e3 * step.fit_seconds, 3)
            source["search_ms"] = round(1e3 * step.search_seconds, 3)
        if step.hyperparameters is not None:
            source["hyperparameters"] = kept(step.hyperparameters.tolist())
        if step.reason is not None:
            source["fallback"] = step.reason
        return source

    def _last_fit(self, trials: Sequence[Trial]) -> WarmStart | None:
        for trial in reversed(trials):
            if start := self.warm_start(trial.provenance):
                return start
        return None

    def warm_start(self, provenance: Mapping[str, Any]) -> WarmStart | None:
        """What a suggestion has left for the next one, as a history keeps it."""
        if "hyperparameters" not in provenance:
            return None
        found = torch.tensor(provenance["hyperparameters"], dtype=torch.float64, device=self.device)
        return WarmStart(found, provenance["observations"])


def _limits(ended: Sequence[Trial], constraints: Mapping[int, Sequence[float]]) -> Tensor:
    """Values of the constraints, NaN for trials that have none."""
    unknown = [math.nan] * max(map(len, constraints.values()))
    return torch.tensor([constraints.get(trial.id, unknown) for trial in ended], **_CPU)


def check_acquisition(acquisition: object) -> None:
    """Raises a TrialError unless an acquisition is one."""
    if isinstance(acquisition, type) or not isinstance(acquisition, Acquisition):
        raise TrialError(f"an acquisition must be an object with a `build` method, got {acquisition!r}")


def default_acquisition(space: Space) -> Acquisition:
    """LogExpectedImprovement; KnowledgeGradient where the space has fidelities."""
    return KnowledgeGradient() if space.fidelities else LogExpectedImprovement()


def design_size(budget: int | None) -> int:
    """Number of points of the space-filling start, outside observations counted in."""
    return 6 if budget is None else max(2, min(6, budget // 3))

"""Trials, or outcomes of replicates, as the data that a surrogate is fitted to."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial
from bo_suite.study.outcomes import OutcomeTransform

_CPU: Any = {"dtype": torch.float64, "device": "cpu"}
"""Where trials are encoded, whatever the defaults."""

_MOST_FORGOTTEN = 1000
"""Rows that are held of trials that are asked for no more."""


def dataset_of(
    space: Space,
    x: jt.Float[Tensor, "*b n d"],
    values: jt.Float[Tensor, "*b n"],
    std: jt.Float[Tensor, "*b n"] | None = None,
    *,
    pending: jt.Float[Tensor, "*b p d"] | None = None,
    failures: jt.Float[Tensor, "*b f d"] | None = None,
    constraints: jt.Float[Tensor, "*b n c"] | None = None,
) -> Dataset:
    """The data of one run or of several: outcomes on the surrogate's scale, and the kinds of columns.

    Args:
        space: whose rows they are.
        x: observed rows.
        values: their outcomes, smaller is better.
        std: standard deviations of their noise, NaN where not known.
        pending: rows that are being evaluated.
        failures: rows whose evaluation has failed.
        constraints: values, at most 0 where they are met, NaN where not known.
    """
    y, noise = values, None
    if values.shape[-1]:
        transform = OutcomeTransform.fit(values)
        y = transform(values)
        noise = None if std is None else transform.noise(values, std)
    return Dataset(
        x,
        y,
        noise,
        x[..., :0, :] if pending is None else pending,
        space.unordered,
        space.levels,
        space.fidelities,
        constraints,
        failures,
    )


class Observations:
    """The trials of one space and direction as data; each trial is encoded once.

    Trials are immutable, so the rows that are held here change nothing but the time that it takes.

    Args:
        space: of the parameters that vary.
        direction: "minimize" or "maximize".
        device: where surrogates live.
    """

    def __init__(self, space: Space, direction: str, device: torch.device) -> None:
        self._space, self._device = space, device
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._encoded: tuple[dict[int, tuple[Trial, int]], Tensor] = ({}, space.encode([]))

    def dataset(
        self, trials: Sequence[Trial], constraints: Mapping[int, Sequence[float]] | None = None
    ) -> Dataset:
        """The trials in order: finished ones are observed, failed ones failures, running ones pending.

        Args:
            trials: any of the space.
            constraints: values by the id of a trial, at most 0 where they are met.
        """
        finished = [trial for trial in trials if trial.state == "finished"]
        failed = [trial for trial in trials if trial.state == "failed" and trial.informative]
        running = [trial for trial in trials if trial.state == "running"]
        rows = self._rows([*finished, *failed])
        std = None
        if any(trial.std is not None for trial in finished):
            std = torch.tensor([math.nan if trial.std is None else trial.std for trial in finished], **_CPU)
        data = dataset_of(
            self._space,
            rows[: len(finished)],
            self._outcomes(finished),
            std,
            pending=self._space.encode([trial.params for trial in running]),
            failures=rows[len(finished) :] if failed else None,
            constraints=_constraint_values(finished, constraints) if constraints else None,
        )
        return data.to(self._device)

    def transform(self, trials: Sequence[Trial]) -> OutcomeTransform:
        """What maps outcomes, smaller being better, to the surrogate's scale; a trial must have finished."""
        return OutcomeTransform.fit(self._outcomes([trial for trial in trials if trial.value is not None]))

    def _outcomes(self, finished: Sequence[Trial]) -> Tensor:
        """Outcomes, smaller is better."""
        return self._sign * torch.tensor([trial.value for trial in finished], **_CPU)

    def _rows(self, trials: Sequence[Trial]) -> Tensor:
        """The rows of trials, by object: an id may be that of another trial in another list."""
        index, rows = self._encoded
        if len(index) > _MOST_FORGOTTEN + 2 * len(trials):
            index, rows = {}, rows[:0]
        new = [trial for trial in trials if index.get(id(trial), (None, 0))[0] is not trial]
        if new:
            index = index | {id(trial): (trial, len(rows) + count) for count, trial in enumerate(new)}
            rows = torch.cat((rows, self._space.encode([trial.params for trial in new])))
            self._encoded = index, rows  # at once, for other threads
        indices = [index[id(trial)][1] for trial in trials]
        return rows[torch.tensor(indices, dtype=torch.long, device="cpu")]


def _constraint_values(finished: Sequence[Trial], constraints: Mapping[int, Sequence[float]]) -> Tensor:
    """Values of the constraints, NaN for trials that have none."""
    unknown = [math.nan] * max(map(len, constraints.values()))
    return torch.tensor([constraints.get(trial.id, unknown) for trial in finished], **_CPU)

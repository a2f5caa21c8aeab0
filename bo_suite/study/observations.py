"""Trials, or outcomes of replicates, as the Dataset that a surrogate is fitted to."""

import math
from collections.abc import Sequence
from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, Curves, Dataset
from bo_suite.space.space import Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.curves import LearningCurves, is_measured, is_partial, seconds_per_step
from bo_suite.study.encoded import EncodedTrials
from bo_suite.study.named import NamedOutcomes
from bo_suite.study.outcomes import OutcomeTransform

_MOST_FORGOTTEN = 1000
"""Unused rows that are stored: all rows are dropped at this number plus twice the number of trials."""


def dataset_of(
    space: Space,
    x: jt.Float[Tensor, "*b n d"],
    values: jt.Float[Tensor, "*b n"],
    std: jt.Float[Tensor, "*b n"] | None = None,
    outside: jt.Bool[Tensor, " n"] | None = None,
) -> Dataset:
    """The Dataset of one run or of several, with outcomes on the surrogate's scale.

    Args:
        space: of the rows.
        x: observed rows.
        values: outcomes, smaller is better.
        std: standard deviations of their noise, NaN if unknown.
        outside: which rows of one run are outside of the space; None if none is.
    """
    y, noise = values, None
    if values.shape[-1]:
        transform = _transform(values, outside)
        y = transform(values)
        noise = None if std is None else transform.noise(values, std)
    return Dataset(x, y, noise, columns=space.columns, outside=outside)


def _transform(values: Tensor, outside: Tensor | None, early: int | None = None) -> OutcomeTransform:
    """The transform of outcomes; if all rows are outside, as if all were inside."""
    reachable = None if outside is None or bool(outside.all()) else ~outside
    return OutcomeTransform.fit(values, reachable, early)


class Observations:
    """Makes Datasets of trials of one space and one set of goals; each trial is encoded once.

    Trials are immutable, so the rows stored here affect nothing but speed.

    Args:
        space: of the parameters that vary.
        goals: objectives and constraints.
        device: device of the Datasets.
        max_step: the last step of a whole evaluation; None if nothing is learnt from reports.
    """

    def __init__(self, space: Space, goals: Goals, device: torch.device, max_step: int | None = None) -> None:
        self._space, self._goals, self._device, self._max_step = space, goals, device, max_step
        self._latest: tuple[tuple[Trial, ...], LearningCurves | None] = ((), None)
        self._encoded: tuple[dict[int, tuple[Trial, int]], EncodedTrials] = {}, EncodedTrials.of(space, ())

    def dataset(self, trials: Sequence[Trial]) -> Dataset:
        """The trials in order: finished trials are observations, failed ones failures, running ones pending.

        A finished trial in which the measurement of an outcome failed is a failure too. What unfinished
        trials have reported is an observation with noise, as `LearningCurves` says; the points of stopped and
        paused ones are taken. The curves themselves are `Dataset.curves`. Gradients and `x_std` are those of
        finished trials.
        """
        if (curves := self.curves(trials)) is not None:
            return self._with_curves(trials, curves).to(self._device)
        finished = [trial for trial in trials if trial.state == "finished"]
        failed = [trial for trial in trials if trial.state == "failed" and trial.informative]
        running = [trial for trial in trials if trial.state == "running"]
        stopped = [trial for trial in trials if trial.state in ("stopped", "paused")]
        rows = self._rows([*finished, *failed, *stopped])
        n, ended = len(finished), len(finished) + len(failed)
        observed, failures = rows.at(slice(n)), rows.x[n:ended]
        if self._goals.named:
            named = NamedOutcomes.of(self._goals, finished)
            data = self._named(named, observed)
            failures = torch.cat((failures, observed.x[named.broken]))
        else:
            std = [math.nan if trial.std is None else trial.std for trial in finished]
            data = self._single(observed, self.losses(finished), torch.tensor(std, **CPU_DOUBLES))
        data = replace(
            data,
            columns=replace(self._space.columns, narrowed=bool(rows.outside.any())),
            pending=self._space.encode([trial.params for trial in running]),
            failures=failures if len(failures) else None,
            stopped=rows.x[ended:] if stopped else None,
        )
        return data.to(self._device)

    def transform(self, trials: Sequence[Trial], early: int | None = None) -> OutcomeTransform:
        """The map from outcomes (smaller is better) to the surrogate's scale; needs one of the objective.

        With `early`, which curves ignore, its cap is not below that of so many first outcomes.
        """
        if (curves := self.curves(trials)) is not None:
            return curves.transform
        measured = [trial for trial in trials if trial.measured]
        return _transform(self.losses(measured), _if_any(self._rows(measured).outside), early)

    def observed(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials whose outcomes are the rows of `dataset`, in their order, with one objective.

        These are the finished ones. If others have reported, those that count as observations are among them.
        """
        if (curves := self.curves(trials)) is None:
            return [trial for trial in trials if trial.measured]
        known = curves.observed.tolist()
        return [trial for trial, is_known in zip(curves.trials, known, strict=True) if is_known]

    def curves(self, trials: Sequence[Trial]) -> LearningCurves | None:
        """The learning curves of trials; None if no unfinished one has reported, or reports are not used."""
        if self._max_step is None or not any(map(is_partial, trials)):
            return None
        key = tuple(trials)
        if self._latest[0] != key:
            curves = LearningCurves.of(key, self._sign, self._max_step)
            self._latest = key, curves  # in one assignment
        return self._latest[1]

    def _with_curves(self, trials: Sequence[Trial], curves: LearningCurves) -> Dataset:
        """Observations of trials some of which have reported."""
        failed = [
            trial
            for trial in trials
            if (trial.state == "failed" and trial.informative)
            or (trial.state == "finished" and not is_measured(trial))
        ]
        ended = [trial for trial in trials if trial.state in ("stopped", "paused")]
        rows = self._rows([*curves.trials, *failed, *ended])
        n, observed = len(curves.trials), curves.observed
        at = rows.at(slice(n)).at(observed)
        at_rows = {trial.id for trial in self.observed(trials)}
        pending = [one.params for one in trials if one.state == "running" and one.id not in at_rows]
        taken = rows.x[n + len(failed) :]
        stds = torch.tensor([one.std or math.nan for one in curves.trials], **CPU_DOUBLES)
        seconds = torch.tensor([seconds_per_step(one) for one in curves.trials], **CPU_DOUBLES)
        losses = curves.transform.inverse(curves.value)  # for the slope of the transform there
        noise = torch.where(stds.isnan(), curves.noise, curves.transform.noise(losses, stds))[observed]
        return Dataset(
            at.x,
            curves.value[observed],
            None if bool(noise.isnan().all()) else noise,
            self._space.encode(pending),
            replace(self._space.columns, narrowed=bool(rows.outside.any())),
            failures=rows.x[n : n + len(failed)] if failed else None,
            outside=_if_any(at.outside),
            curves=Curves(rows.x[:n], curves.steps, curves.y, seconds),
            stopped=taken if len(taken) else None,
            gradient=self._gradient(at, self.losses(curves.trials)[observed], curves.transform),
            x_std=at.known_x_std,
        )

    def losses(self, trials: Sequence[Trial]) -> Tensor:
        """Values of the only objective, smaller is better; NaN where there is none."""
        values = [math.nan if trial.value is None else trial.value for trial in trials]
        return self._sign * torch.tensor(values, **CPU_DOUBLES)

    @property
    def _sign(self) -> float:
        """1 if smaller values of the only objective are better, or else -1."""
        return self._goals.objectives[0].sign

    def _single(self, rows: EncodedTrials, losses: Tensor, stds: Tensor) -> Dataset:
        """Observations of one objective."""
        known, outside = None if bool(stds.isnan().all()) else stds, _if_any(rows.outside)
        data = dataset_of(self._space, rows.x, losses, known, outside)
        gradient = None
        if rows.known_gradient is not None:
            gradient = self._gradient(rows, losses, _transform(losses, outside))
        return replace(data, gradient=gradient, x_std=rows.known_x_std)

    def _gradient(self, rows: EncodedTrials, losses: Tensor, transform: OutcomeTransform) -> Tensor | None:
        """Gradients of losses on the surrogate's scale; None if all are unknown, or beyond the cap."""
        if rows.known_gradient is None:
            return None
        gradient = transform.gradient(losses, self._sign * rows.gradient)
        return None if bool(gradient.isnan().all()) else gradient

    def _named(self, named: NamedOutcomes, rows: EncodedTrials) -> Dataset:
        """Observations of outcomes by name; those of the objectives are rows of the Dataset itself."""
        measured = (~named.losses.isnan()).any(0)
        outcomes, at = named.encoded(rows.x) if len(rows.x) else None, rows.at(measured)
        if self._goals.several:
            rank = named.rank[measured] if len(rows.x) else rows.x[:, 0]
            outside = _if_any(at.outside)
            data = Dataset(at.x, rank, columns=self._space.columns, outside=outside, x_std=at.known_x_std)
        else:
            data = self._single(at, named.losses[0, measured], named.stds[0, measured])
        violation = None if outcomes is None else outcomes.violation
        return replace(data, outcomes=outcomes, violation=None if violation is None else violation[measured])

    def _rows(self, trials: Sequence[Trial]) -> EncodedTrials:
        """The rows of trials, stored by object since lists of trials may share ids."""
        index, rows = self._encoded
        if len(index) > _MOST_FORGOTTEN + 2 * len(trials):
            index, rows = {}, rows.at(slice(0))
        new = [trial for trial in trials if index.get(id(trial), (None, 0))[0] is not trial]
        if new:
            index = index | {id(trial): (trial, len(rows.x) + count) for count, trial in enumerate(new)}
            rows = rows.joined(EncodedTrials.of(self._space, new))
            self._encoded = index, rows  # in one assignment, as other threads read both
        return rows.at(
            torch.tensor([index[id(trial)][1] for trial in trials], dtype=torch.long, device="cpu")
        )


def _if_any(outside: Tensor) -> Tensor | None:
    """The flags, or None if none is set."""
    return outside if bool(outside.any()) else None

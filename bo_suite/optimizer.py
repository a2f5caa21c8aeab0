"""The sequential loop: ask for a point, tell its outcome, over a history that can be resumed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pandas as pd
import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, KnowledgeGradient, LogExpectedImprovement, SteinBatch
from bo_suite.acquisition.form import from_form, to_form
from bo_suite.data import Dataset, OutcomeTransform, Seeds
from bo_suite.errors import SpaceError, SpaceExhausted, TrialError
from bo_suite.history import History
from bo_suite.space import Params, Space
from bo_suite.suggest import Suggestion, design, recommend, suggest, suggest_batch
from bo_suite.surrogates import WarmStart
from bo_suite.trials import Header, Trial, best_trial, kept, to_frame, whole_number

_PATIENT_ASKS = 2
"""Times that an ask starts again because another process asked meanwhile, before any new point will do."""


class Optimizer:
    """Suggests points and learns from their outcomes; the only mutable object of the package.

    Args:
        space: where to search.
        acquisition: how to choose; when None, that of the storage, or else LogExpectedImprovement
            (KnowledgeGradient where the space has fidelities).
        seed: the same seed and data give the same suggestions.
        direction: "minimize" or "maximize".
        budget: the number of evaluations planned, if known: a small one shortens the space-filling start.
        storage: a file that keeps the history, created or continued; None keeps it in memory.
        device: where surrogates live ("cpu", "cuda").

    Raises:
        SpaceError, TrialError: arguments that break a rule.
        StorageError: a file that cannot be used, or that belongs to another space, seed or direction.
    """

    def __init__(
        self,
        space: Space,
        acquisition: Acquisition | None = None,
        seed: int = 0,
        direction: str = "minimize",
        budget: int | None = None,
        storage: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        if not isinstance(space, Space):
            raise SpaceError(f"an Optimizer needs a Space, got {space!r}")
        if direction not in ("minimize", "maximize"):
            raise TrialError(f"direction must be 'minimize' or 'maximize', got {direction!r}")
        planned = None if budget is None else whole_number("budget", budget, at_least=1)
        if acquisition is not None and (
            isinstance(acquisition, type) or not isinstance(acquisition, Acquisition)
        ):
            raise TrialError(f"an acquisition must be an object with a `build` method, got {acquisition!r}")
        torch.empty(0, device=device)  # a device that is not there is refused before a file is made
        form = None if acquisition is None else to_form(acquisition)
        header = Header(space, whole_number("seed", seed), direction, planned, form)
        self._begin(History.open(storage, header), acquisition, device)

    @staticmethod
    def resume(path: str | Path, acquisition: Acquisition | None = None, device: str = "cpu") -> "Optimizer":
        """The optimiser of a history file, exactly as it was.

        Args:
            path: the file.
            acquisition: needed only where it has parts from outside the package, such as a kernel.
            device: where surrogates live.

        Raises:
            StorageError: a file that is missing, is no history, or needs its acquisition given.
        """
        history = History.open(path, None)
        optimizer = object.__new__(Optimizer)
        optimizer._begin(history, acquisition, device)
        return optimizer

    def _begin(self, history: History, acquisition: Acquisition | None, device: str) -> None:
        self._history = history
        stored = history.header.acquisition
        if acquisition is None and stored is None:
            acquisition = KnowledgeGradient() if self.space.fidelities else LogExpectedImprovement()
        elif acquisition is None:
            acquisition = from_form(stored)
        self._acquisition: Acquisition = acquisition
        self._device = torch.device(device)
        self._sign = 1.0 if history.header.direction == "minimize" else -1.0
        self._rows: dict[int, Tensor] = {}

    @property
    def space(self) -> Space:
        """Where the search goes on."""
        return self._history.header.space

    @property
    def direction(self) -> str:
        """ "minimize" or "maximize"."""
        return self._history.header.direction

    @property
    def trials(self) -> list[Trial]:
        """All trials, ordered by id."""
        return self._history.trials()

    @property
    def best(self) -> Trial:
        """The finished trial with the best value, of those at the target where the space has fidelities.

        Raises:
            TrialError: no such trial has finished.
        """
        return best_trial(self.trials, self.direction, self.space)

    @overload
    def ask(self) -> Trial: ...
    @overload
    def ask(self, count: int, batch: SteinBatch | None = None) -> list[Trial]: ...
    def ask(self, count: int | None = None, batch: SteinBatch | None = None) -> Trial | list[Trial]:
        """The next trial, or a list of `count` of them that are to be evaluated side by side.

        Points are chosen one after the other, each given those before as pending; or, once the space-filling
        start is over, jointly by `batch`, which is for `Bore`: it takes the score for a logit. The list is
        shorter where a finite space has fewer new points left.

        On return the complete points are stored as running, and later suggestions take them into account.

        Raises:
            SpaceExhausted: a finite space has no new point left.
            TrialError: count < 1, a batch of another kind, or one in a space with fidelities.
        """
        if batch is not None and (self.space.fidelities or not isinstance(batch, SteinBatch)):
            raise TrialError(f"a batch must be a SteinBatch(), and no fidelity in the space, got {batch!r}")
        number = 1 if count is None else whole_number("count", count, at_least=1)
        asks = 0
        while True:
            trials = self._history.trials()
            points, sources = self._suggest(trials, number, batch)
            asked = self._history.insert(points, sources, expected=len(trials))
            asks += 1
            if asked is None and asks >= _PATIENT_ASKS:
                asked = self._settle(points, sources)
            if asked is not None:
                return asked if count is not None else asked[0]

    def _settle(self, points: list[Params], sources: list[dict[str, Any]]) -> list[Trial] | None:
        """Stores points found without knowing the latest of other processes, if none of them is a repeat."""
        for _ in range(_PATIENT_ASKS):
            known = self._history.trials()
            if any(trial.params in points for trial in known):
                return None
            asked = self._history.insert(points, sources, expected=len(known))
            if asked is not None:
                return asked
        return None

    def tell(self, trial: Trial | int, value: float, std: float | None = None) -> Trial:
        """Stores the outcome of a running trial; on return it survives a crash of the process or the machine.

        Args:
            trial: the trial, or its id.
            value: the outcome, in the user's units and direction.
            std: standard deviation of its noise, if known.

        Raises:
            TrialError: a value that is not finite, or a trial that is unknown or has ended.
        """
        number, attempt = self._which(trial)
        return self._history.tell(number, value, std, attempt)

    def fail(self, trial: Trial | int, reason: str) -> Trial:
        """Stores that a running trial has no outcome; later suggestions stay away from its point.

        Raises:
            TrialError: a trial that is unknown or has ended.
        """
        number, attempt = self._which(trial)
        return self._history.fail(number, reason, attempt)

    def add(self, params: Params, value: float, std: float | None = None) -> Trial:
        """Stores an observation from elsewhere as a finished trial.

        Raises:
            SpaceError: a parameter missing, unknown or out of range.
            TrialError: a value that is not finite.
        """
        return self._history.add(params, value, std)

    def reclaim(self) -> list[Trial]:
        """Running trials whose process has died, now in the care of this one, to be evaluated again."""
        return self._history.reclaim()

    def recommend(self) -> Params:
        """The point of smallest posterior mean plus one standard deviation by an AutoGP, evaluated or not.

        Under noise it is better than `best`, the luckiest observation. Without, it is the best point or one
        predicted to be better by more than the doubt about it. Its fidelities are at the target.

        Raises:
            TrialError: no trial has finished.
        """
        trials = self.trials
        ended = [trial for trial in trials if trial.state != "running"]
        finished = [place for place, trial in enumerate(ended) if trial.state == "finished"]
        if not finished:
            raise TrialError(
                f"nothing can be recommended before a trial has finished, got {len(trials)} trials"
            )
        seeds = Seeds.of(self._history.header.seed, len(trials))
        row = recommend(self._dataset(trials, []), self.space, torch.tensor(finished), seeds)
        return self.space.decode(row[None])[0]

    def to_frame(self) -> pd.DataFrame:
        """One row a trial: id, state, value, std, its parameters as `param_NAME`, and what became of it."""
        return to_frame(self.trials)

    def close(self) -> None:
        """Lets go of the storage."""
        self._history.close()

    def _which(self, trial: Trial | int) -> tuple[int, int | None]:
        """Id and, where a Trial was given, attempt."""
        if not isinstance(trial, Trial):
            return whole_number("a trial's id", trial), None
        known = self._history.trials()
        if trial.id < len(known) and known[trial.id].params != trial.params:
            raise TrialError(f"trial {trial.id} must be one of this history, got that of another")
        return trial.id, trial.attempt

    def _suggest(
        self, trials: Sequence[Trial], count: int, batch: SteinBatch | None
    ) -> tuple[list[Params], list[dict[str, Any]]]:
        """Points of the next trials, each given the ones before as pending, and their provenance."""
        header = self._history.header
        start = self._last_fit(trials)
        steps: list[Suggestion] = []
        sources: list[dict[str, Any]] = []
        finished = any(trial.state == "finished" for trial in trials)
        while len(steps) < count:
            number = len(trials) + len(steps)
            data = self._dataset(trials, [step.rows for step in steps])
            seeds = Seeds.of(header.seed, number)
            try:
                if number < design_size(header.budget) or not finished:
                    found = [design(header.space, data, header.seed, number)]
                elif batch is None:
                    found = [suggest(data, header.space, self._acquisition, seeds, start)]
                else:
                    left = count - len(steps)
                    found = suggest_batch(data, header.space, self._acquisition, seeds, start, batch, left)
            except SpaceExhausted:
                if steps:  # the last points of a finite space, fewer than were asked for
                    break
                raise
            for step in found:
                sources.append(self._provenance(step, len(trials) + len(steps), data.x.shape[-2]))
                steps.append(step)
                start = self._start(sources[-1]) or start
        return [header.space.decode(step.rows[None])[0] for step in steps], sources

    def _provenance(self, step: Suggestion, number: int, observations: int) -> dict[str, Any]:
        source: dict[str, Any] = {"source": step.source, "number": number, "observations": observations}
        if step.source != "design":
            source["acquisition"] = repr(self._acquisition)
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
            if start := self._start(trial.provenance):
                return start
        return None

    def _start(self, provenance: Mapping[str, Any]) -> WarmStart | None:
        """What a suggestion has left for the next one, as a history keeps it."""
        if "hyperparameters" not in provenance:
            return None
        found = torch.tensor(provenance["hyperparameters"], dtype=torch.float64, device=self._device)
        return WarmStart(found, provenance["observations"])

    def _dataset(self, trials: Sequence[Trial], extra: Sequence[Tensor]) -> Dataset:
        """Encoded trials in order of id; failed ones count as bad as the worst finished one."""
        for trial in trials:
            if trial.id not in self._rows:
                self._rows[trial.id] = self.space.encode([trial.params])[0]
        ended = [trial for trial in trials if trial.state != "running"]
        running = [self._rows[trial.id] for trial in trials if trial.state == "running"]
        empty = torch.zeros(0, self.space.dim, dtype=torch.float64)
        x = torch.stack([self._rows[trial.id] for trial in ended]) if ended else empty
        pending = torch.stack(running) if running else empty
        y, noise = self._outcomes(ended)
        pending = torch.cat((pending.to(self._device), *(row[None].to(self._device) for row in extra)))
        return Dataset(
            x.to(self._device),
            y.to(self._device),
            None if noise is None else noise.to(self._device),
            pending,
            self.space.unordered,
            self.space.levels,
            self.space.fidelities,
        )

    def _outcomes(self, ended: Sequence[Trial]) -> tuple[Tensor, Tensor | None]:
        """Transformed outcomes and, where any was told, their noise variances."""
        values = [trial.value for trial in ended if trial.value is not None]
        if not values:
            return torch.zeros(len(ended), dtype=torch.float64), None
        told = self._sign * torch.tensor(values, dtype=torch.float64)
        transform = OutcomeTransform.fit(told)
        finished = torch.tensor([trial.state == "finished" for trial in ended])
        y = torch.zeros(len(ended), dtype=torch.float64)
        y[finished] = transform(told)
        y[~finished] = y[finished].max()
        if all(trial.std is None for trial in ended):
            return y, None
        std = torch.tensor([torch.nan if t.std is None else t.std for t in ended], dtype=torch.float64)
        noise = torch.full_like(y, torch.nan)
        noise[finished] = transform.noise(told, std[finished])
        return y, noise


def design_size(budget: int | None) -> int:
    """Number of points of the space-filling start, outside observations counted in."""
    return 6 if budget is None else max(2, min(6, budget // 3))

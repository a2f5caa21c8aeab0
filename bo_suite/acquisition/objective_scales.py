"""The scale on which a Gaussian process predicts each of several objectives best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bo_suite.acquisition.several import joined, outcome_dataset, split_start
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs import OutputsChoice
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, Surrogate, WarmStart

_MOST = 200
"""Most observations that scales are compared on: each objective has a fit of its own for each scale."""


@dataclass(frozen=True, eq=False)
class FittedObjectives:
    """Several objectives on the chosen scales, and their processes.

    Attributes:
        data: with these objectives in its `outcomes`.
        batch: the objectives as replicates.
        process: fitted to the batch.
        hyperparameters: of all fits, one vector a run.
        linear: which objectives are on the linear scale.
        together: whether all objectives are one process.
    """

    data: Dataset
    batch: Dataset
    process: Process
    hyperparameters: Hyperparameters
    linear: tuple[bool, ...]
    together: bool = False

    @staticmethod
    def of(surrogate: Surrogate, data: Dataset, seeds: Seeds, start: WarmStart | None) -> "FittedObjectives":
        """The objectives, each on the given or on the linear scale: the one with the higher evidence.

        Both scales are fitted as one batch. The evidence is the sum of the log densities of observations
        given all others, over the better half of the rows, as densities on the linear scale. Observations at
        the cap do not count, since their number is not known. Beyond 200 observations, and with a surrogate
        other than AutoGP, the given scale is taken. On the chosen scales, the objectives are one process if
        that predicts them better (see `OutputsChoice`).

        Args:
            surrogate: of the objectives.
            data: of one run with several objectives.
            seeds: of the fit.
            start: of an earlier choice.

        Raises:
            FitError, NumericalError: a fit fails.
        """
        outcomes = data.outcomes
        assert outcomes is not None, "data without outcomes have no objectives"
        k, given = outcomes.objectives, outcome_dataset(data, 0, outcomes.objectives)
        comparable = isinstance(surrogate, AutoGP) and outcomes.x.shape[-2] <= min(_MOST, surrogate.handover)
        if outcomes.linear is None or not isinstance(surrogate, AutoGP) or not comparable:
            of_scales, of_all = _parts(start, data, surrogate, k)
            process = surrogate.fit(given, seeds, split_start(of_scales, data, k))
            every, flags = joined(process.hyperparameters), (False,) * k
            if not comparable or not isinstance(surrogate, AutoGP) or not isinstance(process, ExactProcess):
                return FittedObjectives(data, given, process, every, flags)
            choice = OutputsChoice.of(surrogate.exact, given, process, seeds, split_start(of_all, data, k))
            return FittedObjectives._chosen(data, given, choice, every, flags)
        linear = _on_linear_scale(data, outcomes)
        both = _stacked(given, outcome_dataset(linear, 0, k))
        of_scales, of_all = _parts(start, data, surrogate, 2 * k)
        earlier = split_start(of_scales, data, 2 * k)
        if earlier is not None:
            vectors = earlier.hyperparameters.unflatten(0, (2, k))
            earlier = replace(earlier, hyperparameters=vectors)
        fitted = surrogate.exact.fit(both, seeds, earlier)
        chosen = _evidence(fitted, both, data, outcomes).argmax(0)
        every = joined(fitted.hyperparameters.flatten(0, 1))
        index = torch.arange(k, device=chosen.device)
        noise = None if both.noise is None else both.noise[chosen, index]
        batch = Dataset(given.x, both.y[chosen, index], noise, columns=given.columns)
        process = surrogate.exact.process(batch, fitted.hyperparameters[chosen, index])
        flags = tuple(bool(one) for one in chosen)
        choice = OutputsChoice.of(surrogate.exact, batch, process, seeds, split_start(of_all, data, k))
        return FittedObjectives._chosen(_with_scales(data, linear, flags), batch, choice, every, flags)

    @staticmethod
    def _chosen(
        data: Dataset, batch: Dataset, choice: OutputsChoice, every: Tensor, flags: tuple[bool, ...]
    ) -> "FittedObjectives":
        if choice.hyperparameters is not None:
            every = torch.cat((every, joined(choice.hyperparameters)), -1)
        return FittedObjectives(data, batch, choice.process, every, flags, bool(choice.together))


def _parts(
    start: WarmStart | None, data: Dataset, surrogate: Surrogate, count: int
) -> tuple[WarmStart | None, WarmStart | None]:
    """The start of `count` separate fits, and that of all objectives together; None if there is none."""
    if start is None or not isinstance(surrogate, AutoGP):
        return start, None
    size = count * surrogate.exact.start(data).shape[-1]
    of_fits, of_all = start.hyperparameters[..., :size], start.hyperparameters[..., size:]
    rest = replace(start, hyperparameters=of_all) if of_all.shape[-1] else None
    return replace(start, hyperparameters=of_fits), rest


def _on_linear_scale(data: Dataset, outcomes: Outcomes) -> Dataset:
    """The data with the objectives on the linear scale."""
    linear, k = outcomes.linear, outcomes.objectives
    assert linear is not None, "there is a linear scale"
    noise = outcomes.noise
    if noise is not None:
        of_objectives = noise[:k] * (-2.0 * linear.log_slope).exp()
        noise = torch.cat((of_objectives, noise[k:]))
    y = torch.cat((linear.y, outcomes.y[k:]))
    return replace(data, outcomes=replace(outcomes, y=y, noise=noise, scaled=linear.scaled))


def _stacked(given: Dataset, linear: Dataset) -> Dataset:
    """Both scales as a leading dimension."""
    noise = None
    if given.noise is not None and linear.noise is not None:
        noise = torch.stack((given.noise, linear.noise))
    x = given.x.expand(2, *given.x.shape)
    return Dataset(x, torch.stack((given.y, linear.y)), noise, columns=given.columns)


def _evidence(fitted: ExactProcess, both: Dataset, data: Dataset, outcomes: Outcomes) -> Tensor:
    """Sum of log p(y_i | the others), as densities on the linear scale: (2, k)."""
    linear, k = outcomes.linear, outcomes.objectives
    assert linear is not None, "there is a linear scale"
    mean, var = leave_one_out(fitted, both.y)
    density = -0.5 * ((both.y - mean).square() / var + var.log())
    density = torch.stack((density[0] + linear.log_slope, density[1]))
    counted = ~linear.y.isnan() & (linear.y < linear.y.nan_to_num(-torch.inf).amax(-1, keepdim=True))
    if data.y.shape == outcomes.y[0].shape:  # else some rows lack all objectives
        counted = counted & (data.y <= data.y.quantile(0.5))
    return torch.where(counted[None], density, 0.0).sum(-1)[:, :k]


def _with_scales(data: Dataset, linear: Dataset, flags: tuple[bool, ...]) -> Dataset:
    """The data with each objective on its chosen scale."""
    outcomes, other = data.outcomes, linear.outcomes
    assert outcomes is not None, "data without outcomes have no objectives"
    assert other is not None, "data without outcomes have no objectives"
    rest = (False,) * (outcomes.y.shape[-2] - len(flags))
    pick = torch.tensor((*flags, *rest), device=outcomes.y.device)[:, None]
    noise = outcomes.noise
    if noise is not None and other.noise is not None:
        noise = torch.where(pick, other.noise, noise)
    given, on_line = outcomes.scaled, other.scaled
    assert given is not None, "objectives with a linear scale have a map to both"
    assert on_line is not None, "objectives with a linear scale have a map to both"

    def scaled(values: Sequence[float]) -> list[float]:
        pairs = zip(flags, given(values), on_line(values), strict=True)
        return [second if flag else first for flag, first, second in pairs]

    return replace(
        data, outcomes=replace(outcomes, y=torch.where(pick, other.y, outcomes.y), noise=noise, scaled=scaled)
    )

"""Exact regression on configurations and steps, with the exponential-decay kernel."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import ExponentialDecay
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.curves.at_step import AtStep
from bo_suite.surrogates.curves.groups import curves_of
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.warm_start import has_grown

_IGNORED = 1e14
"""Noise variance of the rows that fill up a replicate with fewer observations than another."""

_ROUNDING = 1e-9
"""Relative error of a power of the factor."""


@dataclass(frozen=True)
class DecayGP:
    """One Gaussian process over configurations and steps, as MOBSTER has it (Klein, Tiao et al. 2020).

    y = f(x) + γ exp(-λ r) + noise at step r, with the kernel and mean of `ExponentialDecay`. Unlike in
    `FreezeThaw`, the decay is the same for all configurations, up to noise. Rows are observed outcomes, so
    that the cost is cubic in their number: of each curve only some steps are used, in geometric progression.

    `fit` reads `Dataset.curves`; observations without curves are outcomes at the last step. The process that
    it returns is that of the outcome at the last step; its `at` gives other steps, and its `joint` all.

    Attributes:
        level: f: its kernel, mean and noise, with their priors, and the number of restarts.
        factor: of the steps on the grid, those are used that are the largest ones not above 1, 1 / factor,
            1 / factor², and so on; and of each curve its last step.

    Raises:
        DataError: factor <= 1.
    """

    level: ExactGP = field(default_factory=ExactGP)
    factor: float = 2.0

    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.factor > 1.0:
            raise DataError(f"`factor > 1` must hold, got {self.factor}")

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> AtStep:
        """The posterior process at the best hyperparameters that the restarts reach.

        Raises:
            FitError: no observation, or no restart with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        stacked = self._stacked(data)
        if start is not None:  # `observations` counts those of data.x
            count = 1 if has_grown(start.observations, data.x.shape[-2]) else stacked.x.shape[-2]
            start = replace(start, observations=count)
        return AtStep(self._exact(data).fit(stacked, seeds, start))

    def process(self, data: Dataset, hyperparameters: Hyperparameters) -> AtStep:
        """The posterior process at given hyperparameters (theta of `ExponentialDecay`, log noise)."""
        return AtStep(self._exact(data).process(self._stacked(data), hyperparameters))

    def start(self, data: Dataset) -> Tensor:
        """Where a search starts."""
        return self._exact(data).start(self._stacked(data))

    def _exact(self, data: Dataset) -> ExactGP:
        """The regression on rows (x, r)."""
        kernel, mean = ExponentialDecay(kernel_for(self.level.kernel, data.columns)), self.level.mean
        return replace(self.level, kernel=kernel, mean=_of_configuration(mean) if callable(mean) else mean)

    def _stacked(self, data: Dataset) -> Dataset:
        """Rows (x, r) with their outcomes."""
        curves = curves_of(data)
        used = _used(curves, self.factor)
        if not bool(used.flatten(-2).any(-1).all()):
            raise FitError("a DecayGP needs at least one observation in each replicate, got none")
        flat, steps = used.flatten(-2), len(curves.steps)
        index = flat.byte().argsort(dim=-1, descending=True, stable=True)[..., : int(flat.sum(-1).max())]
        valid = flat.gather(-1, index)
        of_curve = (index // steps)[..., None].expand(*index.shape, curves.x.shape[-1])
        x = torch.cat((curves.x.gather(-2, of_curve), curves.steps[index % steps][..., None]), -1)
        y = curves.y.flatten(-2).gather(-1, index)
        if bool(valid.all()):
            return Dataset(x, y)
        # the largest outcome is the one that never tells that a function is constant in steps
        largest = torch.where(valid, y, -torch.inf).amax(-1, keepdim=True)
        noise = torch.where(valid, torch.nan, _IGNORED).to(y)
        return Dataset(x, torch.where(valid, y, largest), noise)


def _used(curves: Curves, factor: float) -> Tensor:
    """Which outcomes are used."""
    steps, observed = curves.steps, curves.observed
    in_progression = torch.zeros_like(steps, dtype=torch.bool)
    bound = 1.0
    while bound >= float(steps[0]):
        in_progression[int((steps <= bound * (1.0 + _ROUNDING)).sum()) - 1] = True
        bound /= factor
    order = torch.arange(1, len(steps) + 1, device=steps.device)
    ends = (observed * order).amax(-1, keepdim=True)
    return observed & (in_progression | (order == ends))


def _of_configuration(mean: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean function as one of rows (x, r)."""
    return lambda rows: mean(rows[..., :-1])

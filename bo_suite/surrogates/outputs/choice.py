"""Whether several outputs are predicted better together than each by itself."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import MISSING, Dataset, Seeds
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs.coregionalised import CoregionalisedGP
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, WarmStart

_STRONG = 3.0
"""Outputs are taken together if the log density of their outcomes is higher by this, a factor of 20. With
less, predictions of new outcomes measured worse from few observations (see benchmarks/README.md)."""

_MOST_ROWS = 200
"""Most rows of complete outcomes that are fitted together."""

_MOST_ENTRIES = 150
"""Most outcomes that are fitted together where some are missing, which takes the cube of their number."""


@dataclass(frozen=True, eq=False)
class OutputsChoice:
    """The outputs as separate processes or as one, whichever predicts outcomes better, in each replicate.

    Attributes:
        process: of all outputs, a leading dimension.
        together: in which replicates the outputs are one process.
        hyperparameters: of the fit of all outputs together; None if it was not made.
    """

    process: Process
    together: jt.Bool[Tensor, "*b"]
    hyperparameters: jt.Float[Tensor, "p *b h"] | None

    @staticmethod
    def of(
        surrogate: ExactGP, data: Dataset, separate: ExactProcess, seeds: Seeds, start: WarmStart | None
    ) -> "OutputsChoice":
        """The choice by the log density of each outcome given all outcomes of other rows.

        A row is left out whole, since a new row has no outcome yet. With one output, many rows, or a
        surrogate with a kernel or mean of its own, the separate processes are taken.

        Args:
            surrogate: of the separate outputs.
            data: outcomes, the outputs as their first dimension.
            separate: fitted to these.
            seeds: of the fit.
            start: of an earlier fit of all outputs together.

        Raises:
            FitError, NumericalError: the fit fails.
        """
        none = torch.zeros(data.batch_shape[1:], dtype=torch.bool, device=data.x.device)
        if surrogate.kernel is not None or surrogate.mean is not None or not _few_enough(data):
            return OutputsChoice(separate, none, None)
        model = CoregionalisedGP(noise_location=surrogate.noise_location, noise_spread=surrogate.noise_spread)
        one = model.fit(data, seeds, start, separate)
        together = _density(data, *one.leave_one_out(data.y)) > _STRONG + _density(
            data, *leave_one_out(separate, data.y)
        )
        if bool(together.all()):
            return OutputsChoice(one, together, one.hyperparameters)
        if not bool(together.any()):
            return OutputsChoice(separate, together, one.hyperparameters)
        return OutputsChoice(EitherProcess(separate, one, together), together, one.hyperparameters)


@dataclass(frozen=True, eq=False)
class EitherProcess:
    """The outputs as one process in some replicates, and as separate processes in the others.

    Attributes:
        separate: of each output by itself.
        one: of all outputs together.
        together: in which replicates it is the latter.
    """

    separate: Process
    one: Process
    together: jt.Bool[Tensor, "*b"]

    @property
    def noise(self) -> jt.Float[Tensor, "*pb"]:
        """Variance of a further observation of each output."""
        return torch.where(self.together, self.one.noise, self.separate.noise)

    @property
    def scale(self) -> jt.Float[Tensor, "*pb"]:
        """Prior variance of each output."""
        return torch.where(self.together, self.one.scale, self.separate.scale)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the separate processes."""
        return self.separate.hyperparameters

    def mean(self, x: jt.Float[Tensor, "p *b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of each output at its rows."""
        return self.mean_and_var(x)[0]

    def var(self, x: jt.Float[Tensor, "p *b m d"]) -> jt.Float[Tensor, "p *b m"]:
        """Posterior variance of each output at its rows, at least 0."""
        return self.mean_and_var(x)[1]

    def mean_and_var(
        self, x: jt.Float[Tensor, "p *b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "p *b m"]]:
        """Posterior mean and variance, differentiable once by x."""
        both = zip(self.one.mean_and_var(x), self.separate.mean_and_var(x), strict=True)
        mean, var = (torch.where(self.together[..., None], *pair) for pair in both)
        return mean, var

    def cov(
        self, x1: jt.Float[Tensor, "p *b m d"], x2: jt.Float[Tensor, "p *b k d"]
    ) -> jt.Float[Tensor, "p *b m k"]:
        """Posterior covariance of each output."""
        one, separate = (process.cov(x1, x2) for process in (self.one, self.separate))
        return torch.where(self.together[..., None, None], one, separate)

    def condition(
        self,
        x: jt.Float[Tensor, "p *b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "p *b q"] | None = None,
    ) -> "EitherProcess":
        """The process given more observations of all outputs."""
        one, separate = (process.condition(x, y, noise) for process in (self.one, self.separate))
        return replace(self, one=one, separate=separate)


def _few_enough(data: Dataset) -> bool:
    """Whether the data have several outputs, and few enough outcomes to fit all together."""
    p, n = len(data.y), data.y.shape[-1]
    if p < 2 or n > _MOST_ROWS:
        return False
    return n * p <= _MOST_ENTRIES or data.noise is None or bool(data.noise.isnan().all())


def _density(data: Dataset, mean: Tensor, var: Tensor) -> Tensor:
    """The log density of all outcomes that were measured, up to a constant."""
    density = -0.5 * ((data.y - mean).square() / var + var.log())
    if data.noise is not None:
        density = torch.where(data.noise >= MISSING, 0.0, density)
    return density.sum((0, -1))

"""What the model of a run believes about the function, in the user's units and direction."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import ArgumentError, SpaceError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.activity import Activation, Seen
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Finished, Trial
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.recommend import finished_trials, recommended_row, surrogate_of
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates.process import ROWS_AT_ONCE, Process, Surrogate
from bo_suite.surrogates.variational.quadrature import expectation
from bo_suite.values.describe import described
from bo_suite.values.numbers import number_of

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

    Points = Mapping[str, Any] | Sequence[Mapping[str, Any]] | pd.DataFrame
    """One point, several, or a table with a column for each parameter."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Moments and central intervals at m points, in the user's units, on the CPU.

    Attributes:
        mean: of the function without noise.
        std: standard deviation of the function without noise.
        low: lower end of its interval.
        high: upper end of its interval.
        observation_std: standard deviation of a new observation.
        observation_low: lower end of the interval of a new observation.
        observation_high: upper end of the interval of a new observation.
    """

    mean: jt.Float64[Tensor, " m"]
    std: jt.Float64[Tensor, " m"]
    low: jt.Float64[Tensor, " m"]
    high: jt.Float64[Tensor, " m"]
    observation_std: jt.Float64[Tensor, " m"]
    observation_low: jt.Float64[Tensor, " m"]
    observation_high: jt.Float64[Tensor, " m"]


@dataclass(frozen=True, eq=False)
class Belief:
    """The model of a run, fitted to its finished trials.

    The process lives on the surrogate's scale: encoded rows of `searched`, and outcomes, smaller is better,
    mapped by `transform`. On that scale an outcome above the transform's cap counts as equal to the cap, so
    nothing is known beyond it. Everything in the user's units is therefore about min(f, cap), or
    max(f, cap) if larger is better.

    Attributes:
        space: the user's space.
        direction: "minimize" or "maximize".
        trials: the finished trials.
        data: what the process was fitted to.
        surrogate: the configuration that was fitted.
        process: the fitted process.
        transform: the map from outcomes, smaller is better, to the scale of the process.
        seeds: of the fit, and of what is drawn from it.
        rows: index of the row of `data` of each trial; other rows are of trials that have only reported.
    """

    space: Space
    direction: str
    trials: tuple[Finished, ...]
    data: Dataset
    surrogate: Surrogate
    process: Process
    transform: OutcomeTransform
    seeds: Seeds
    rows: jt.Int64[Tensor, " n"]

    @cached_property
    def searched(self) -> Space:
        """The space of the parameters that vary, whose rows the process takes."""
        return self.space.varying

    @property
    def sign(self) -> float:
        """1 if smaller outcomes are better, or else -1."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def observation_noise(self) -> jt.Float64[Tensor, ""]:
        """Variance of the noise of a new observation, on the surrogate's scale and on the CPU.

        It is the median of the variances that were told, if more than half of the outcomes have one: then
        few outcomes, or none, show the noise that the process fits. Otherwise it is that of the process.
        """
        if self.data.noise is not None:
            told = self.data.noise[~self.data.noise.isnan()]
            if 2 * len(told) > len(self.data.y):
                return told.cpu().double().quantile(0.5)
        return self.process.noise.cpu().double()

    def moments(
        self, rows: jt.Float[Tensor, "m d"]
    ) -> tuple[jt.Float64[Tensor, " m"], jt.Float64[Tensor, " m"]]:
        """Posterior mean and variance of the latent function, on the surrogate's scale and on the CPU."""
        with numerical_environment(), torch.no_grad():
            blocks = [self.process.mean_and_var(block.to(self.data.x)) for block in rows.split(ROWS_AT_ONCE)]
            mean, var = (torch.cat(moments).cpu().double() for moments in zip(*blocks, strict=True))
            return mean, var.clamp(min=0.0)

    def values(self, z: jt.Float[Tensor, "*b m"]) -> jt.Float64[Tensor, "*b m"]:
        """Values on the surrogate's scale in the user's units, at most the cap; finite."""
        return self.sign * self.transform.capped_inverse(z)

    def capped(self, values: jt.Float64[Tensor, "*b m"]) -> jt.Float64[Tensor, "*b m"]:
        """Outcomes in the user's units; those beyond the cap become the cap, as in the model."""
        losses = self.sign * values
        cap, unit = self.transform.cap.cpu(), self.transform.unit.cpu()
        return self.sign * torch.where(losses / unit > cap, cap * unit, losses)

    def at(self, rows: jt.Float[Tensor, "m d"], interval: float = 0.9) -> Prediction:
        """Predictions at encoded rows of `searched`.

        The interval's ends are the quantiles (1 ± interval) / 2 of the process, mapped to the user's units.
        Means and standard deviations there are integrals over the normal distribution of the process. A new
        observation has the variance `observation_noise` beside that of the function.

        Args:
            rows: of `searched`.
            interval: probability of the intervals.
        """
        mean, var = self.moments(rows)
        noise = self.observation_noise
        function_mean, function_std = self._mean_and_std(mean, var)
        _, observation_std = self._mean_and_std(mean, var + noise)
        share = torch.tensor(0.5 * (1.0 + interval), dtype=torch.float64, device="cpu")
        width = torch.special.ndtri(share)
        return Prediction(
            function_mean,
            function_std,
            *self._ends(mean, width * var.sqrt()),
            observation_std,
            *self._ends(mean, width * (var + noise).sqrt()),
        )

    def predict(self, points: "Points", interval: float = 0.9) -> "pd.DataFrame":
        """What the model predicts at points, in the user's units; one row a point.

        Columns: `mean`, `std`, `low` and `high` of the function without noise; `observation_std`,
        `observation_low` and `observation_high` of a new observation, whose noise has the median of the
        variances that were told, if most outcomes have one; and `outside`, whether the point lies outside of
        the space, where the model extrapolates. Nothing is known beyond the cap of the outcomes
        (the upper quartile plus twice its distance from the best): no number goes beyond it.

        Args:
            points: a dict, a list of dicts, or a DataFrame, whose index the result has.
            interval: probability of the intervals.

        Raises:
            SpaceError: a parameter is missing, unknown, or has a wrong value.
            ArgumentError: `0 < interval < 1` does not hold.
        """
        import pandas as pd

        share = number_of(interval)
        if share is None or not 0.0 < share < 1.0:
            raise ArgumentError(f"`0 < interval < 1` must hold, got {described(interval)}")
        index = points.index if isinstance(points, pd.DataFrame) else None
        rows, outside = self._rows_of(_listed(points))
        prediction = self.at(rows, share)
        columns = {name: values.numpy() for name, values in vars(prediction).items()}
        return pd.DataFrame({**columns, "outside": outside}, index=index)

    def importance(self) -> "pd.DataFrame":
        """How much of the variation of the function each parameter explains, the most important first.

        The index holds the names of the parameters, without fidelities, which are at their target. Columns:

        - `main`: first-order Sobol index, the share of the variance that the parameter explains alone;
        - `total`: total Sobol index, its share together with all interactions that it is part of;
        - `low`, `high`: 90 % interval of `total` over draws from the posterior; NaN if it has none;
        - `ped_anova`: a second opinion without a model, from how far the best quarter of the trials is from
          being spread evenly (Watanabe et al. 2023); its sum is 1. It is right much less often.

        Indices are those of the posterior mean of a fit of their own, to outcomes in the user's units: there
        a sum stays a sum, which it does not on the scale of the process. Bad outliers do not dominate:
        outcomes beyond the upper decile plus twice its distance from the best count as the worst of the
        others. All values of a parameter are equally likely, on its own scale. If the mean is constant, all
        indices are 0.

        Raises:
            TrialError: fewer than three trials are finished.
            FitError, NumericalError: the model cannot be fitted.
        """
        from bo_suite.study.importance import importance_of

        return importance_of(self)

    def recommended(self) -> Params:
        """The point of smallest mean plus one standard deviation, as `Optimizer.recommend` returns it.

        Contexts are those of the latest finished trial whose contexts are in the space.
        """
        values = self.latest_contexts()
        fixed = {name: value for name, value in values.items() if name in self.searched}
        space = self.searched.with_fixed(fixed) if fixed else self.searched
        data = replace(self.data, columns=space.restricted(self.data.columns))
        return self.point(recommended_row(self.process, data, space, self.seeds)) | values

    def encode(self, points: Sequence[Params]) -> jt.Float64[Tensor, "m d"]:
        """The rows of `searched` of points in canonical form."""
        return self.searched.encode(points)

    def along(self, point: Params, changes: Sequence[Params]) -> jt.Float64[Tensor, "m d"]:
        """The rows of a point with some values changed, a row for each change.

        Parameters that a change activates are as in the best trial that agrees most.
        """
        columns, rows = self.searched.columns, self.encode([point]).repeat(len(changes), 1)
        held = columns.active(rows)
        for row, change in zip(rows, changes, strict=True):
            for name, value in change.items():
                row[self.searched.names.index(name)] = self.searched[name].encode(value)
        if not columns.conditions:
            return rows
        seen = Seen.of(self.searched, self.data.to(rows.device))
        return Activation(self.searched, seen, self.seeds.split("along")).both(rows, held)[1]

    def point(self, row: jt.Float[Tensor, " d"]) -> Params:
        """The point of a row of `searched`."""
        return self.space.decode(self.space.widened(row[None]))[0]

    def latest_contexts(self) -> Params:
        """The contexts of the latest finished trial that has them in the space; none before there is one."""
        names = self.space.contexts
        for trial in reversed(self.trials if names else ()):
            values = {name: value for name, value in trial.params.items() if name in names}
            with suppress(SpaceError):  # the space was narrowed
                return self.space.check_some(values)
        return {}

    def _rows_of(self, points: Sequence[Any]) -> tuple[Tensor, list[bool]]:
        """The rows of points, and which of these lie outside of the space."""
        accepted = [self.space.accept(point) for point in points]
        return self.encode(accepted), [not self.space.contains(point) for point in accepted]

    def _mean_and_std(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation in the user's units, of N(mean, var) on the surrogate's scale."""
        unit = self.transform.unit.cpu()  # squares of outcomes of 1e300 would overflow

        def relative(z: Tensor) -> Tensor:
            return self.values(z) / unit

        centre = expectation(relative, mean, var)
        square = expectation(lambda z: (relative(z) - centre[:, None]).square(), mean, var)
        return centre * unit, square.sqrt() * unit

    def _ends(self, mean: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Values of mean ± width, the lower first."""
        ends = self.values(mean - width), self.values(mean + width)
        return ends if self.direction == "minimize" else (ends[1], ends[0])


def belief_of(suggester: Suggester, trials: Sequence[Trial]) -> Belief:
    """The model of a run, by the acquisition's surrogate or, if it has none, an AutoGP.

    Raises:
        TrialError: no trial is finished.
        FitError, NumericalError: the model cannot be fitted.
    """
    finished = finished_trials(trials, "there is no model")
    data = suggester.observations.dataset(trials)
    surrogate = surrogate_of(suggester.acquisition)
    seeds = Seeds.of(suggester.seed, len(trials))
    with numerical_environment(), torch.no_grad():
        process = surrogate.fit(data, seeds)
    transform = suggester.observations.transform(trials)
    observed = [trial.measured for trial in suggester.observations.observed(trials)]
    return Belief(
        suggester.space,
        suggester.goals.objectives[0].direction,
        tuple(finished),
        data,
        surrogate,
        process,
        transform,
        seeds,
        torch.tensor(observed, device=data.x.device).nonzero()[:, 0],
    )


def _listed(points: "Points") -> Sequence[Any]:
    """The points one by one."""
    import pandas as pd

    if isinstance(points, pd.DataFrame):
        return points.to_dict("records")
    return points if isinstance(points, list | tuple) else [points]

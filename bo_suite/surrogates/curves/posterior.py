"""What a model of curves knows after its fit: of the levels everywhere, and of each curve at each step."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Curves
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import ExactProcess, Hyperparameters


@dataclass(frozen=True, eq=False)
class CurvesProcess:
    """The process of the outcome at the last step, over configurations, and the posterior of each curve.

    As a `Process`, it is `target`. Given its level a_i and its observations, curve i without noise is
    m(t) + w_i(t) a_i + s_i(t) + d_i(t), with w = 1 - K_tT C⁻¹ 1, s = K_tT C⁻¹ (y - m) and a deviation d_i of
    covariance K - K_tT C⁻¹ K_Tt. Deviations of different curves are independent.

    Attributes:
        target: level of a configuration at the last step, m(1) + a(x); its noise is the variance of an
            observed outcome about it.
        hyperparameters: where the next fit may start.
        curves: that were fitted.
        step_mean: m.
        covariance: K, of the deviations of a curve without observations.
        observation_noise: variance of a report about its curve.
        slope: w.
        shift: s.
        spread: variance of d.
    """

    target: ExactProcess
    hyperparameters: Hyperparameters
    curves: Curves
    step_mean: jt.Float[Tensor, "*b t"]
    covariance: jt.Float[Tensor, "*b t t"]
    observation_noise: jt.Float[Tensor, "*b"]
    slope: jt.Float[Tensor, "*b n t"]
    shift: jt.Float[Tensor, "*b n t"]
    spread: jt.Float[Tensor, "*b n t"]

    def curve(self, index: int) -> tuple[jt.Float[Tensor, "*b t"], jt.Float[Tensor, "*b t t"]]:
        """Posterior mean and covariance of one curve at all steps, without the noise of reports."""
        x = self.curves.x[..., index, :][..., None, :]
        level, variance = self._level(x)
        slope = self.slope[..., index, :]
        mean = self.step_mean + slope * level + self.shift[..., index, :]
        cov = slope[..., :, None] * slope[..., None, :] * variance[..., None]
        return mean, cov + self._deviation(index)

    def all_curves(self) -> tuple[jt.Float[Tensor, "*b n t"], jt.Float[Tensor, "*b n t"]]:
        """Posterior mean and variance of every curve at all steps, without the noise of reports."""
        level, variance = self._level(self.curves.x)
        mean = self.step_mean[..., None, :] + self.slope * level[..., None] + self.shift
        return mean, self.slope.square() * variance[..., None] + self.spread.clamp(min=0.0)

    def at_step(self, step: int) -> tuple[jt.Float[Tensor, "*b n"], jt.Float[Tensor, "*b n n"]]:
        """Posterior mean and joint covariance of all curves at one step of the grid, without noise.

        Args:
            step: index on the grid; -1 for the last step.
        """
        level, slope, x = self._level(self.curves.x)[0], self.slope[..., step], self.curves.x
        mean = self.step_mean[..., step, None] + slope * level + self.shift[..., step]
        cov = slope[..., :, None] * slope[..., None, :] * self.target.cov(x, x)
        return mean, cov + torch.diag_embed(self.spread[..., step].clamp(min=0.0))

    def cross(self, x: jt.Float[Tensor, "*b m d"], step: int) -> jt.Float[Tensor, "*b n m"]:
        """Covariance of each curve at one step of the grid with the level of other configurations."""
        return self.slope[..., step, None] * self.target.cov(self.curves.x, x)

    def _level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of a(x)."""
        mean, variance = self.target.mean_and_var(x)
        return mean - self.step_mean[..., -1:], variance

    def _deviation(self, index: int) -> Tensor:
        """K - K_tT C⁻¹ K_Tt of one curve."""
        seen = self.curves.observed[..., index, :]
        both = seen[..., :, None] & seen[..., None, :]
        diagonal = torch.where(seen, self.observation_noise[..., None], 1.0)
        chol, _ = jittered_cholesky(torch.where(both, self.covariance, 0.0) + torch.diag_embed(diagonal))
        white = solve_lower(chol, torch.where(seen[..., :, None], self.covariance, 0.0))
        return self.covariance - white.mT @ white

    @property
    def noise(self) -> jt.Float[Tensor, "*b"]:
        """Variance of an outcome at the last step about the level."""
        return self.target.noise

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the level."""
        return self.target.scale

    @property
    def basis(self) -> Basis:
        """The rows whose covariances the level is written in."""
        return self.target.basis

    @property
    def white(self) -> jt.Float[Tensor, "*sb n"]:
        """Whitened residuals of the levels."""
        return self.target.white

    @property
    def prior_mean(self) -> PriorMean:
        """Mean of the level before any observation."""
        return self.target.prior_mean

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior mean of the level."""
        return self.target.mean(x)

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of the level, at least 0."""
        return self.target.var(x)

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*b m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance of the level, differentiable by x."""
        return self.target.mean_and_var(x)

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of the level."""
        return self.target.cov(x1, x2)

    def lookahead(self, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
        """Moments at any rows with their covariances to the points."""
        return self.target.lookahead(points)

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> ExactProcess:
        """The process of the level given more outcomes at the last step."""
        return self.target.condition(x, y, noise)

"""A process over configurations and steps, seen at one step."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.surrogates.process import Hyperparameters, Process


@dataclass(frozen=True, eq=False)
class AtStep:
    """The process over configurations x that a process over rows (x, r) is at a fixed r.

    Attributes:
        joint: the process over rows (x, r).
        step: r, in units of the largest step; one number, or one for each replicate.
    """

    joint: Process
    step: float | jt.Float[Tensor, "*b"] = 1.0

    def at(self, step: float | jt.Float[Tensor, "*b"]) -> "AtStep":
        """The same process at another step."""
        return replace(self, step=step)

    def rows(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m e"]:
        """The rows (x, r): e = d + 1."""
        step = torch.as_tensor(self.step, dtype=x.dtype, device=x.device)
        return torch.cat((x, step[..., None, None].expand(*x.shape[:-1], 1)), -1)

    @property
    def noise(self) -> jt.Float[Tensor, "*b"]:
        """Variance of an observation about the latent function."""
        return self.joint.noise

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the latent function, at the first observed row."""
        return self.joint.scale

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Where the next fit may start."""
        return self.joint.hyperparameters

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean at the step."""
        return self.joint.mean(self.rows(x))

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance at the step, at least 0."""
        return self.joint.var(self.rows(x))

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance at the step, differentiable by x."""
        return self.joint.mean_and_var(self.rows(x))

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance at the step."""
        return self.joint.cov(self.rows(x1), self.rows(x2))

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "AtStep":
        """The process given more outcomes at the step."""
        return replace(self, joint=self.joint.condition(self.rows(x), y, noise))

"""The state of a variational fit, and natural-gradient steps of q on all data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.process import ROWS_AT_ONCE
from bo_suite.surrogates.subsample import observations_at
from bo_suite.surrogates.variational.elbo import Model, Whitened
from bo_suite.surrogates.variational.natural import riemannian_step

_CONVERGED = 1e-6
"""Rise of the bound below which natural-gradient steps have converged."""


@dataclass(frozen=True, eq=False)
class VariationalState:
    """Hyperparameters, inducing variables and q(v) at one moment of a fit.

    Attributes:
        eta: free parameters of the prior and the likelihood (`Model`).
        variables: u.
        linear: linear natural parameter of q(v), precision times mean.
        precision: of q(v).
    """

    eta: jt.Float[Tensor, "*b p"]
    variables: InducingVariables
    linear: jt.Float[Tensor, "*b m"]
    precision: jt.Float[Tensor, "*b m m"]

    @staticmethod
    def prior(eta: jt.Float[Tensor, "*b p"], variables: InducingVariables) -> "VariationalState":
        """The state with q(v) = N(0, I)."""
        eye = torch.eye(variables.count, dtype=eta.dtype, device=eta.device)
        precision = eye.expand(*eta.shape[:-1], *eye.shape).clone()
        return VariationalState(eta, variables, torch.zeros_like(precision[..., 0]), precision)

    @property
    def chol(self) -> jt.Float[Tensor, "*b m m"]:
        """Factor L_B of the precision.

        Raises:
            NumericalError: it is not positive definite.
        """
        chol, info = torch.linalg.cholesky_ex(self.precision)
        if bool(info.any()):
            raise NumericalError("the precision of q must be positive definite; take smaller natural steps")
        return chol  # type: ignore[no-any-return]

    @property
    def q(self) -> Whitened:
        """q(v) by its mean and root."""
        chol = self.chol
        eye = torch.eye(chol.shape[-1], dtype=chol.dtype, device=chol.device).expand_as(chol)
        root = solve_lower(chol, eye)
        return Whitened((root.mT @ (root @ self.linear[..., None]))[..., 0], root)


@dataclass(frozen=True, eq=False)
class VariationalProblem:
    """A model and the data that it is fitted to.

    Attributes:
        model: prior and likelihood.
        data: observations.
        learn_inducing: whether the parameters of u move.
        seeds: of the order of the observations in an epoch.
    """

    model: Model
    data: Dataset
    learn_inducing: bool
    seeds: Seeds

    def elbo_and_sites(self, state: VariationalState) -> tuple[jt.Float[Tensor, "*b"], Tensor, Tensor]:
        """The evidence lower bound on all data, without log priors, and the sums of the sites."""
        q = state.q
        value = -q.divergence
        linear, precision = torch.zeros_like(state.linear), torch.zeros_like(state.precision)
        for first in range(0, self.data.y.shape[-1], ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            expectation = self.model.expectation(state.eta, state.variables, q, self.data, rows)
            expectation.require_definite()
            value = value + expectation.value
            linear, precision = linear + expectation.site_sums[0], precision + expectation.site_sums[1]
        return value, linear, precision

    def bound(self, state: VariationalState) -> jt.Float[Tensor, "*b"]:
        """The evidence lower bound on all data, without log priors."""
        return self.elbo_and_sites(state)[0]

    def natural_step(
        self, state: VariationalState, linear: Tensor, precision: Tensor, rate: float
    ) -> VariationalState:
        """One damped natural-gradient step of q(v) towards the optimum given the summed sites.

        When sites may have negative precisions, it is the step of Lin, Schmidt and Khan (2020), which stays
        positive definite: the mean then moves by rate P_new⁻¹ (linear - precision mean - mean).
        """
        target = precision.clone()
        target.diagonal(dim1=-2, dim2=-1).add_(1.0)
        if self.model.likelihood.log_concave:
            return replace(
                state,
                linear=torch.lerp(state.linear, linear, rate),
                precision=torch.lerp(state.precision, target, rate),
            )
        mean = state.q.mean
        uphill = linear - (target @ mean[..., None])[..., 0]
        new_precision = riemannian_step(state.precision, target, rate)
        new_linear = (new_precision @ mean[..., None])[..., 0] + rate * uphill
        return replace(state, linear=new_linear, precision=new_precision)

    def converge(self, state: VariationalState, rate: float, most: int) -> VariationalState:
        """At most `most` natural-gradient steps of q(v) on all data, until the bound no longer rises.

        One step reaches the optimum of a conjugate likelihood. For others, a step that lowers the bound is
        undone, and the rate is halved (Khan and Lin 2017).
        """
        value, linear, precision = self.elbo_and_sites(state)
        if self.model.likelihood.conjugate:
            return self.natural_step(state, linear, precision, 1.0)
        for _ in range(most):
            step = self.natural_step(state, linear, precision, rate)
            new_value, new_linear, new_precision = self.elbo_and_sites(step)
            better = new_value >= value - 1e-9 * value.abs()
            if not bool(better.all()):
                rate *= 0.5
            rise = torch.where(better, new_value - value, 0.0)
            of_vectors, of_matrices = better[..., None], better[..., None, None]
            state = replace(
                state,
                linear=torch.where(of_vectors, step.linear, state.linear),
                precision=torch.where(of_matrices, step.precision, state.precision),
            )
            value = torch.where(better, new_value, value)
            linear = torch.where(of_vectors, new_linear, linear)
            precision = torch.where(of_matrices, new_precision, precision)
            if bool(better.all()) and float(rise.max()) < _CONVERGED:
                break
        return state

    def batches(self, size: int | None, steps: int) -> Iterator[tuple[Dataset, float]]:
        """A batch and its weight n / size for each step. Every epoch has a random order.

        Args:
            size: observations in a batch; None for all.
            steps: number of batches.
        """
        n = self.data.y.shape[-1]
        if size is None or size >= n:
            yield from ((self.data, 1.0) for _ in range(steps))
            return
        done, epoch = 0, 0
        while done < steps:
            order = self.seeds.split(f"epoch {epoch}").uniform((n,), self.data.y).argsort(-1)
            for first in range(0, n, size)[: steps - done]:
                index = order[..., first : first + size]
                yield observations_at(self.data, index), n / index.shape[-1]
                done += 1
            epoch += 1

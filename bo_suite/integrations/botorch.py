"""Processes as BoTorch models, and BoTorch acquisitions here; BoTorch models are in `botorch_surrogate`."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition.base import refuse_constraints, refuse_fidelities
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.integrations.botorch_process import ConditionedProcess
from bo_suite.integrations.botorch_surrogate import BoTorchSurrogate, seeded
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, Process, Surrogate, WarmStart
from bo_suite.values.describe import described
from bo_suite.values.scalars import check_flags, flag

try:
    from botorch.acquisition import AcquisitionFunction, OneShotAcquisitionFunction
    from botorch.exceptions.errors import BotorchTensorDimensionError, InputDataError, UnsupportedError
    from botorch.models.model import Model
    from botorch.posteriors import GPyTorchPosterior
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.distributions import MultivariateNormal
    from linear_operator import to_linear_operator
    from linear_operator.utils.warnings import NumericalWarning
except ModuleNotFoundError as error:  # a dependency of the package itself
    raise ImportError(
        "ProcessModel and BoTorchAcquisition need botorch, which `pip install bo-suite` brings"
    ) from error

__all__ = ["BoTorchAcquisition", "BoTorchScore", "BoTorchSurrogate", "ProcessModel", "Seen"]

_ROWS = 512
"""Rows that a BoTorch acquisition scores at once: it may hold a covariance with all data for each."""


class ProcessModel(Model):  # type: ignore[misc]
    """A fitted process as a BoTorch model of one outcome.

    Processes are of outcomes to be minimised, and BoTorch maximises: with `negate` the model is that of the
    outcomes times -1, and what is told to it (`best_f`, observations to condition on) must be negated too.
    Otherwise it is the process as it is, for `maximize=False` or a `posterior_transform`.

    Posteriors are joint over q, and differentiable once by X, and by the X and Y that the model was
    conditioned on: gradients are never detached, `propagate_grads` or not. Replicates of the process are the
    model's batch shape. There are no parameters, so `state_dict` is empty; `to` moves what is known.

    Args:
        process: without fantasies, and expressed in rows (`Pathwise`), as those of `ExactGP` or `SVGP` are.
        negate: whether outcomes are negated, so that larger is better.

    Raises:
        DataError: a process with fantasies, or of another kind.
    """

    def __init__(self, process: Process, negate: bool = False) -> None:
        super().__init__()
        self._conditioned = ConditionedProcess.of(process, -1.0 if flag("negate", negate, DataError) else 1.0)

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """Of the replicates, with fantasies in front."""
        return self._conditioned.batch_shape

    @property
    def train_inputs(self) -> tuple[Tensor]:
        """The rows that the process is expressed in: its data, or the inducing inputs of a sparse one."""
        return (self._conditioned.rows,)

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:
        """Joint posterior over the q rows of each batch element of X (t-batch x q x d).

        Args:
            X: rows, whose batch dimensions broadcast with `batch_shape`.
            output_indices: None or [0].
            observation_noise: whether the process's noise is added; or noise variances (... x q x 1).
            posterior_transform: applied at last.

        Returns:
            A GPyTorchPosterior, or what the transform makes of it.
        """
        self.subset_output([0] if output_indices is None else output_indices)
        mean, cov = self._conditioned.moments(X)
        cov = _lifted(cov)
        if observation_noise is not False:
            given = observation_noise if isinstance(observation_noise, Tensor) else None
            cov = cov + torch.diag_embed(self._variance(given, mean.shape))
        posterior = GPyTorchPosterior(MultivariateNormal(mean, to_linear_operator(cov)))
        return posterior if posterior_transform is None else posterior_transform(posterior)

    def forward(self, X: Tensor) -> Any:
        """The distribution of the latent function, as a GPyTorch model in evaluation mode returns it."""
        return self.posterior(X).distribution

    def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None) -> "ProcessModel":
        """The model given observations as well, by conditioning the posterior process exactly.

        Args:
            X: rows (b x q x d), shared by the fantasies of Y.
            Y: outcomes (any further dimensions x b x q x 1), negated where the model is.
            noise: their variances, which broadcast with Y; when None, the process's noise.

        Raises:
            BotorchTensorDimensionError: shapes that do not fit together.
            InputDataError: an outcome or a variance that is not finite, or a variance below 0.
        """
        if Y.ndim < 2 or Y.shape[-1] != 1 or Y.shape[-2] != X.shape[-2]:
            raise BotorchTensorDimensionError(
                f"Y must be (... x q x 1) for X (... x q x d), got {tuple(Y.shape)} and {tuple(X.shape)}"
            )
        for what, values in (("X", X), ("Y", Y), ("noise", noise)):
            if values is not None and not bool(values.isfinite().all()):
                raise InputDataError(f"{what} must be finite, got NaN or infinity in it")
        if noise is not None and bool((noise < 0).any()):
            raise InputDataError(f"noise must be variances >= 0, got {float(noise.min())}")
        known = Y[..., 0]
        variance = self._variance(noise, X.shape[:-1])
        fresh = ProcessModel.__new__(ProcessModel)
        Model.__init__(fresh)
        fresh._conditioned = self._conditioned.given(X, known, variance)
        return fresh

    def fantasize(
        self,
        X: Tensor,
        sampler: Any,
        observation_noise: Tensor | None = None,
        propagate_grads: bool = True,
    ) -> "ProcessModel":
        """The model given samples of observations at X, one a fantasy, in a batch dimension in front.

        Args:
            X: rows (b x q x d).
            sampler: of the posterior at X.
            observation_noise: variances of the observations; when None, the process's noise.
            propagate_grads: taken for BoTorch's sake; gradients by X always flow.
        """
        if not X.shape[-2]:
            batch = torch.broadcast_shapes(X.shape[:-2], self.batch_shape)
            return self.condition_on_observations(X, X.new_empty(*sampler.sample_shape, *batch, 0, 1))
        noise = True if observation_noise is None else observation_noise
        samples = sampler(self.posterior(X, observation_noise=noise))
        return self.condition_on_observations(X, samples, observation_noise)

    def subset_output(self, idcs: list[int]) -> "ProcessModel":
        """The model itself, of its only outcome.

        Raises:
            UnsupportedError: other outcomes.
        """
        if list(idcs) not in ([0], [-1]):
            raise UnsupportedError(f"a ProcessModel has the outcome 0 only, got {idcs}")
        return self

    def _variance(self, given: Tensor | None, shape: torch.Size) -> Tensor:
        """Variances of observations, in their own shape broadcast with one (..., q)."""
        variance = self._conditioned.noise[..., None] if given is None else given[..., 0]
        return variance.expand(torch.broadcast_shapes(variance.shape, shape))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ProcessModel":
        """What `to`, `cuda` and `double` call."""
        super()._apply(fn, recurse)
        self._conditioned = self._conditioned.apply(fn)
        return self


def _lifted(cov: Tensor) -> Tensor:
    """Variances raised to the least that gpytorch takes without a warning."""
    least = 1e-10 if cov.dtype == torch.float64 else 1e-6
    diagonal = cov.diagonal(dim1=-2, dim2=-1).detach()
    return cov + torch.diag_embed((least * (1.0 + 1e-6) - diagonal).clamp(min=0.0))


@dataclass(frozen=True, eq=False)
class Seen:
    """What a BoTorch acquisition may need beside the model, all of it on the model's scale.

    Attributes:
        X: observed rows (n x d), in the unit cube.
        Y: their outcomes (n x 1), negated and standardised: larger is better.
        X_pending: rows that are being evaluated (p x d); already given to the acquisition, or to the model.
        seeds: of what is drawn.
    """

    X: Tensor
    Y: Tensor
    X_pending: Tensor
    seeds: Seeds

    @property
    def best_f(self) -> Tensor:
        """The best outcome observed."""
        return self.Y.max()

    @property
    def bounds(self) -> Tensor:
        """Of the unit cube (2 x d)."""
        return torch.stack((torch.zeros_like(self.X[0]), torch.ones_like(self.X[0])))

    def sampler(self, count: int = 128) -> Any:
        """A quasi-Monte Carlo sampler of `count` joint draws."""
        return SobolQMCNormalSampler(torch.Size([count]), seed=self.seeds.split("sampler").keys[0] % 2**31)

    def candidates(self, count: int = 512) -> Tensor:
        """Rows spread over the unit cube (count x d), such as max-value entropy search wants."""
        return self.seeds.split("candidates").sobol(count, self.X)


@dataclass(frozen=True, eq=False)
class BoTorchScore:
    """Values of BoTorch acquisitions, one a replicate, each of a batch of single rows.

    Attributes:
        acquisitions: one a replicate.
        seeds: of what an acquisition draws when it is called.
        hyperparameters: those of the fits.
        differentiable: whether autograd gives the gradient by x.
    """

    acquisitions: tuple[Any, ...]
    seeds: Seeds
    hyperparameters: Hyperparameters
    differentiable: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """The score of each row (*b, m, d): (*b, m)."""
        rows = x.reshape(len(self.acquisitions), *x.shape[-2:])
        values = [self._one(*part) for part in zip(self.acquisitions, self.seeds.keys, rows, strict=True)]
        return torch.stack(values).reshape(x.shape[:-1])

    def _one(self, acquisition: Any, key: int, rows: Tensor) -> Tensor:
        with _quiet(), seeded(key):
            return torch.cat([acquisition(part[:, None, :]) for part in rows.split(_ROWS)])


def _quiet() -> Any:
    """Without the warning of each covariance that took jitter."""
    return warnings.catch_warnings(action="ignore", category=NumericalWarning)


@dataclass(frozen=True)
class BoTorchAcquisition:
    """Any BoTorch acquisition function of one point, on any surrogate of this package.

    The factory is given a `ProcessModel` of the negated, standardised outcomes, and what was `Seen`:
    `BoTorchAcquisition(lambda model, seen: LogExpectedImprovement(model, best_f=seen.best_f))`.

    Pending points are told by `set_X_pending`. Some acquisitions, such as `qLogExpectedImprovement`, then
    score x and them jointly: that ranks points, but a pending point's own score is not below what it was.
    An acquisition that refuses them, as analytic ones do, is made anew, of the model given the posterior
    means as the pending outcomes, which lowers variances only (hallucinated observations: Desautels, Krause
    and Burdick 2014, section 4.1). Everything that is drawn follows from the seeds. Replicates are fitted
    and scored one after the other.

    Attributes:
        factory: (model, seen) to a `botorch.acquisition.AcquisitionFunction`; called more than once.
        surrogate: what is fitted to the data; a `BoTorchSurrogate` puts BoTorch at both ends.
        differentiable: whether the acquisition has gradients; without, the search is an evolution.
    """

    factory: Callable[[Any, Seen], Any]
    surrogate: Surrogate = field(default_factory=AutoGP)
    differentiable: bool = True

    def __post_init__(self) -> None:
        check_flags(self, "differentiable", error=DataError)
        if not callable(self.factory):
            raise DataError(
                f"a factory must be a function of a model and what was seen, got {described(self.factory)}"
            )

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> BoTorchScore:
        """The score given the data.

        Raises:
            DataError: data with fidelities or constraints, or a factory that does not return an acquisition
                of one point.
        """
        refuse_fidelities(self, data)
        refuse_constraints(self, data)
        parts = []
        for place in range(math.prod(data.batch_shape)):
            own = start
            if start is not None and start.hyperparameters.ndim > 1:
                own = replace(start, hyperparameters=start.hyperparameters.flatten(0, -2)[place])
            parts.append(self._one(data.replicates(place), Seeds((seeds.keys[place],)), own))
        hyperparameters = torch.stack([found for _, found in parts]).reshape(*data.batch_shape, -1)
        made = tuple(acquisition for acquisition, _ in parts)
        return BoTorchScore(made, seeds.split("calls"), hyperparameters, self.differentiable)

    def _one(self, data: Dataset, seeds: Seeds, start: WarmStart | None) -> tuple[Any, Hyperparameters]:
        process = self.surrogate.fit(data, seeds, start)
        seen = Seen(data.x, -data.y[:, None], data.pending, seeds)
        with _quiet(), seeded(seeds.split("acquisition").keys[0]):
            made = self._make(process, seen)
            if data.pending.shape[-2]:
                try:
                    made.set_X_pending(data.pending)
                except UnsupportedError:
                    with torch.no_grad():
                        process = process.condition(data.pending, process.mean(data.pending))
                    made = self._make(process, seen)
        return made, process.hyperparameters

    def _make(self, process: Process, seen: Seen) -> Any:
        made = self.factory(ProcessModel(process, negate=True), seen)
        if not isinstance(made, AcquisitionFunction):
            raise DataError(f"a factory must return a BoTorch AcquisitionFunction, got {described(made)}")
        if isinstance(made, OneShotAcquisitionFunction):
            raise DataError(
                f"an acquisition must score single points, got the one-shot {type(made).__name__}; "
                "KnowledgeGradient, or optimize_acqf with a ProcessModel, do without"
            )
        return made

"""Processes as BoTorch models, and BoTorch acquisitions as acquisitions of this package."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

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

__all__ = ["AcquisitionContext", "BoTorchAcquisition", "BoTorchScore", "BoTorchSurrogate", "ProcessModel"]

_ROWS = 512
"""Rows that a BoTorch acquisition scores at once: each may need a covariance with all data."""


class ProcessModel(Model):  # type: ignore[misc]
    """A fitted process as a BoTorch model of one outcome.

    A process models outcomes to be minimised, and BoTorch maximises: with `negate` the model is that of the
    outcomes times -1, and its `best_f` and further observations must be negated too. Without `negate` it
    models the outcomes themselves, for `maximize=False` or a `posterior_transform`.

    Posteriors are joint over q, and differentiable once by X and by the X and Y of further observations:
    gradients are never detached, whatever `propagate_grads` says. Replicates of the process are the model's
    batch shape. The model has no parameters, so `state_dict` is empty; `to` moves the data.

    Args:
        process: without fantasies, and expressed in rows (`Pathwise`), such as that of `ExactGP` or `SVGP`.
        negate: whether outcomes are negated, so that larger is better.

    Raises:
        DataError: the process has fantasies, or is of another kind.
    """

    def __init__(self, process: Process, negate: bool = False) -> None:
        super().__init__()
        self._conditioned = ConditionedProcess.of(process, -1.0 if flag("negate", negate, DataError) else 1.0)

    @property
    def num_outputs(self) -> int:
        """1."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the replicates, with fantasies in front."""
        return self._conditioned.batch_shape

    @property
    def train_inputs(self) -> tuple[Tensor]:
        """The rows of the process: its data, or the inducing inputs of a sparse process."""
        return (self._conditioned.rows,)

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:
        """Return the joint posterior over the q rows of each batch element of X (t-batch x q x d).

        Args:
            X: rows, whose batch dimensions broadcast with `batch_shape`.
            output_indices: None or [0].
            observation_noise: True to add the process's noise, or noise variances (... x q x 1).
            posterior_transform: applied to the posterior.

        Returns:
            A GPyTorchPosterior, or the transformed posterior.
        """
        self.subset_output([0] if output_indices is None else output_indices)
        mean, cov = self._conditioned.moments(X)
        cov = _lifted(cov)
        if observation_noise is not False:
            noise = observation_noise if isinstance(observation_noise, Tensor) else None
            cov = cov + torch.diag_embed(self._variance(noise, mean.shape))
        posterior = GPyTorchPosterior(MultivariateNormal(mean, to_linear_operator(cov)))
        return posterior if posterior_transform is None else posterior_transform(posterior)

    def forward(self, X: Tensor) -> Any:
        """Return the distribution of the latent function, as a GPyTorch model in evaluation mode does."""
        return self.posterior(X).distribution

    def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None) -> "ProcessModel":
        """Condition the posterior process on further observations, exactly.

        Args:
            X: rows (b x q x d), shared by the fantasies of Y.
            Y: outcomes (any further dimensions x b x q x 1), negated if the model is.
            noise: their variances, which broadcast with Y; None for the process's noise.

        Raises:
            BotorchTensorDimensionError: the shapes do not match.
            InputDataError: an outcome or a variance is not finite, or a variance is negative.
        """
        if Y.ndim < 2 or Y.shape[-1] != 1 or Y.shape[-2] != X.shape[-2]:
            raise BotorchTensorDimensionError(
                f"Y must be (... x q x 1) for X (... x q x d), got {tuple(Y.shape)} and {tuple(X.shape)}"
            )
        for name, values in (("X", X), ("Y", Y), ("noise", noise)):
            if values is not None and not bool(values.isfinite().all()):
                raise InputDataError(f"{name} must be finite, got NaN or infinity in it")
        if noise is not None and bool((noise < 0).any()):
            raise InputDataError(f"noise must be variances >= 0, got {float(noise.min())}")
        variance = self._variance(noise, X.shape[:-1])
        model = ProcessModel.__new__(ProcessModel)
        Model.__init__(model)
        model._conditioned = self._conditioned.given(X, Y[..., 0], variance)
        return model

    def fantasize(
        self,
        X: Tensor,
        sampler: Any,
        observation_noise: Tensor | None = None,
        propagate_grads: bool = True,
    ) -> "ProcessModel":
        """Condition the model on samples of observations at X, one for each fantasy, in a leading dimension.

        Args:
            X: rows (b x q x d).
            sampler: of the posterior at X.
            observation_noise: variances of the observations; None for the process's noise.
            propagate_grads: ignored; gradients by X always flow.
        """
        if not X.shape[-2]:
            batch = torch.broadcast_shapes(X.shape[:-2], self.batch_shape)
            return self.condition_on_observations(X, X.new_empty(*sampler.sample_shape, *batch, 0, 1))
        noise = True if observation_noise is None else observation_noise
        samples = sampler(self.posterior(X, observation_noise=noise))
        return self.condition_on_observations(X, samples, observation_noise)

    def subset_output(self, idcs: list[int]) -> "ProcessModel":
        """Return the model itself, which has one outcome.

        Raises:
            UnsupportedError: `idcs` names another outcome.
        """
        if list(idcs) not in ([0], [-1]):
            raise UnsupportedError(f"a ProcessModel has the outcome 0 only, got {idcs}")
        return self

    def _variance(self, noise: Tensor | None, shape: torch.Size) -> Tensor:
        """Return variances of observations, in their own shape broadcast with one (..., q)."""
        variance = self._conditioned.noise[..., None] if noise is None else noise[..., 0]
        return variance.expand(torch.broadcast_shapes(variance.shape, shape))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ProcessModel":
        """Apply a function to all tensors, as `to`, `cuda` and `double` do."""
        super()._apply(fn, recurse)
        self._conditioned = self._conditioned.apply(fn)
        return self


def _lifted(cov: Tensor) -> Tensor:
    """Raise variances to the smallest value that gpytorch accepts without a warning."""
    smallest = 1e-10 if cov.dtype == torch.float64 else 1e-6
    diagonal = cov.diagonal(dim1=-2, dim2=-1).detach()
    return cov + torch.diag_embed((smallest * (1.0 + 1e-6) - diagonal).clamp(min=0.0))


@dataclass(frozen=True, eq=False)
class AcquisitionContext:
    """Everything that a BoTorch acquisition may need beside the model, on the model's scale.

    Attributes:
        X: observed rows (n x d), in the unit cube.
        Y: their outcomes (n x 1), negated and standardised: larger is better.
        X_pending: rows that are being evaluated (p x d); the acquisition or the model has them already.
        seeds: of random numbers.
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
        """Bounds of the unit cube (2 x d)."""
        return torch.stack((torch.zeros_like(self.X[0]), torch.ones_like(self.X[0])))

    def sampler(self, count: int = 128) -> Any:
        """Make a quasi-Monte Carlo sampler of `count` joint draws."""
        return SobolQMCNormalSampler(torch.Size([count]), seed=self.seeds.split("sampler").keys[0] % 2**31)

    def candidates(self, count: int = 512) -> Tensor:
        """Spread rows over the unit cube (count x d), for example for max-value entropy search."""
        return self.seeds.split("candidates").sobol(count, self.X)


@dataclass(frozen=True, eq=False)
class BoTorchScore:
    """Scores of BoTorch acquisitions, one for each replicate.

    Attributes:
        acquisitions: one for each replicate.
        seeds: of random numbers that an acquisition draws when it is called.
        hyperparameters: of the fits.
        differentiable: whether autograd gives the gradient by x.
    """

    acquisitions: tuple[Any, ...]
    seeds: Seeds
    hyperparameters: Hyperparameters
    differentiable: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Score each row (*b, m, d): (*b, m)."""
        rows = x.reshape(len(self.acquisitions), *x.shape[-2:])
        values = list(map(_scores, self.acquisitions, self.seeds.keys, rows))
        return torch.stack(values).reshape(x.shape[:-1])


def _scores(acquisition: Any, key: int, rows: Tensor) -> Tensor:
    """Score the rows of one replicate."""
    with _quiet(), seeded(key):
        return torch.cat([acquisition(chunk[:, None, :]) for chunk in rows.split(_ROWS)])


def _quiet() -> Any:
    """Suppress gpytorch's warnings of jitter."""
    return warnings.catch_warnings(action="ignore", category=NumericalWarning)


@dataclass(frozen=True)
class BoTorchAcquisition:
    """Any BoTorch acquisition function of one point, on any surrogate of this package.

    The factory receives a `ProcessModel` of the negated, standardised outcomes, and an `AcquisitionContext`:
    `BoTorchAcquisition(lambda model, context: LogExpectedImprovement(model, best_f=context.best_f))`.

    The acquisition receives pending points by `set_X_pending`. Some acquisitions, such as
    `qLogExpectedImprovement`, then score x and the pending points jointly: this ranks points, but does not
    lower the score at a pending point. For an acquisition that refuses pending points, as analytic ones do,
    the model is conditioned on its own means there, which lowers variances only (hallucinated observations:
    Desautels, Krause and Burdick 2014, section 4.1). All random numbers follow from the seeds. Replicates are
    fitted and scored one after the other.

    Attributes:
        factory: (model, context) to a `botorch.acquisition.AcquisitionFunction`; called more than once.
        surrogate: fitted to the data; with a `BoTorchSurrogate`, model and acquisition are BoTorch's.
        differentiable: whether the acquisition has gradients; if not, the search is an evolution.
    """

    factory: Callable[[Any, AcquisitionContext], Any]
    surrogate: Surrogate = field(default_factory=AutoGP)
    differentiable: bool = True

    def __post_init__(self) -> None:
        check_flags(self, "differentiable", error=DataError)
        if not callable(self.factory):
            raise DataError(
                f"a factory must be a function of a model and a context, got {described(self.factory)}"
            )

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> BoTorchScore:
        """Build the score of the data.

        Raises:
            DataError: the factory does not return an acquisition of one point.
        """
        built = []
        for index in range(math.prod(data.batch_shape)):
            own_start = start
            if start is not None and start.hyperparameters.ndim > 1:
                own_start = replace(start, hyperparameters=start.hyperparameters.flatten(0, -2)[index])
            built.append(self._build_one(data.replicates(index), Seeds((seeds.keys[index],)), own_start))
        hyperparameters = torch.stack([values for _, values in built]).reshape(*data.batch_shape, -1)
        acquisitions = tuple(acquisition for acquisition, _ in built)
        return BoTorchScore(acquisitions, seeds.split("calls"), hyperparameters, self.differentiable)

    def _build_one(self, data: Dataset, seeds: Seeds, start: WarmStart | None) -> tuple[Any, Hyperparameters]:
        """Fit one replicate and make its acquisition."""
        process = self.surrogate.fit(data, seeds, start)
        context = AcquisitionContext(data.x, -data.y[:, None], data.pending, seeds)
        with _quiet(), seeded(seeds.split("acquisition").keys[0]):
            acquisition = self._make(process, context)
            if data.pending.shape[-2]:
                try:
                    acquisition.set_X_pending(data.pending)
                except UnsupportedError:
                    with torch.no_grad():
                        process = process.condition(data.pending, process.mean(data.pending))
                    acquisition = self._make(process, context)
        return acquisition, process.hyperparameters

    def _make(self, process: Process, context: AcquisitionContext) -> Any:
        acquisition = self.factory(ProcessModel(process, negate=True), context)
        if not isinstance(acquisition, AcquisitionFunction):
            raise DataError(
                f"a factory must return a BoTorch AcquisitionFunction, got {described(acquisition)}"
            )
        if isinstance(acquisition, OneShotAcquisitionFunction):
            raise DataError(
                f"an acquisition must score single points, got the one-shot {type(acquisition).__name__}: "
                "use KnowledgeGradient, or optimize_acqf with a ProcessModel"
            )
        return acquisition


def __getattr__(name: str) -> Any:
    if name == "Seen":
        warnings.warn("Seen is now AcquisitionContext", DeprecationWarning, stacklevel=2)
        return AcquisitionContext
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

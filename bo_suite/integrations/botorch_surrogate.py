"""BoTorch models as surrogates: fitted by BoTorch, then translated into an exact process of this package."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels.base import JointPullback, Pullback
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.linalg.environment import fresh_dtype, outside_inference_mode
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import ExactProcess, WarmStart
from bo_suite.surrogates.warm_start import has_grown
from bo_suite.values.describe import described, error_text
from bo_suite.values.scalars import check_flags

try:
    from botorch.exceptions.errors import ModelFittingError
    from botorch.exceptions.warnings import InputDataWarning
    from botorch.fit import fit_gpytorch_mll
    from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.models import ExactGP as GPyTorchExactGP
    from linear_operator.utils.errors import NotPSDError
    from linear_operator.utils.warnings import NumericalWarning
except ModuleNotFoundError as error:  # a dependency of the package itself
    raise ImportError("BoTorchSurrogate needs botorch, which `pip install bo-suite` brings") from error

_SAME = 1e-4
"""Largest difference of a translated posterior to the model's own, in prior standard deviations."""


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Inside, torch's global random numbers follow from a key; afterwards their state is the one before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield


@dataclass(frozen=True, eq=False)
class ModelKernel:
    """Prior covariances of fitted models, one a replicate, of raw rows and outcomes on the data's scale.

    theta[..., 0] is the index of the replicate's model, and the rest is a record of its parameters, which
    are not free: gradients by theta are zero. Those by rows are autograd's, through input transforms.

    Attributes:
        models: BoTorch models in evaluation mode.
        factors: of the outcome transforms; their squares scale the covariances.
    """

    models: tuple[Any, ...]
    factors: tuple[float, ...]

    def start(self, dim: int) -> Tensor:
        """An empty vector: nothing is free."""
        return torch.zeros(0, dtype=torch.float64, device="cpu")

    def bounds(self, dim: int) -> tuple[Tensor, Tensor]:
        """Two empty vectors: nothing is free."""
        return self.start(dim), self.start(dim)

    def log_prior(self, theta: Tensor, dim: int, stepped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Zero, with zero gradients."""
        return theta.new_zeros(theta.shape[:-1]), torch.zeros_like(theta)

    def gram(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Pullback]:
        """k(x, x), and zero by theta."""
        return self.cross(theta, x, x)[0], lambda weights: torch.zeros_like(theta)

    def cross(self, theta: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x by autograd."""

        def pullback(weights: Tensor) -> Tensor:
            return _gradients(lambda leaf: self._covariance(theta, leaf, z), (x,), weights)[0]

        with torch.no_grad():
            return self._covariance(theta, x, z), pullback

    def joint(self, theta: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta (zero), x and z."""

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_x, by_z = _gradients(lambda *both: self._covariance(theta, *both), (x, z), weights)
            return torch.zeros_like(theta), by_x, by_z

        with torch.no_grad():
            return self._covariance(theta, x, z), pullback

    def diagonal(self, theta: Tensor, x: Tensor) -> Tensor:
        """k(x_i, x_i)."""
        with torch.no_grad():
            return self._each(theta, (x,), _variances)

    def diagonal_gradient(self, theta: Tensor, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of sum_i weights_i k(x_i, x_i) by theta (zero) and by x."""
        (by_x,) = _gradients(lambda leaf: self._each(theta, (leaf,), _variances), (x,), weights)
        return torch.zeros_like(theta), by_x

    def frequencies(self, theta: Tensor, count: int, dim: int, seeds: Seeds) -> tuple[Tensor, Tensor]:
        """Random w, and weights 1, with k(x, z) = k(x, x) E[cos(wᵀ (x - z))], by Bochner's theorem.

        Of an RBF kernel w l is normal, of a Matérn one multivariate t with 2 nu degrees of freedom
        (Rasmussen and Williams 2006, section 4.2.1). An affine input transform x J maps w to w Jᵀ.

        Raises:
            DataError: another kernel, or an input transform that is not affine.
        """
        spectra = [_spectrum(model, dim) for model in self.models]
        width, freedom = spectra[0][0].shape[-1], spectra[0][1]
        draws = seeds.split("normal").normal((count, width + freedom), theta)
        rows = draws.reshape(len(self.models), count, -1)
        if freedom:
            rows = rows[..., :width] * rows[..., width:].square().mean(-1, keepdim=True).rsqrt()
        mapped = [row @ jacobian.to(theta).mT for row, (jacobian, _) in zip(rows, spectra, strict=True)]
        frequencies = torch.stack(mapped).reshape(*theta.shape[:-1], count, dim)
        return frequencies, torch.ones_like(frequencies[..., 0])

    def _covariance(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self._each(theta, (x, z), _covariances)

    def _each(self, theta: Tensor, rows: tuple[Tensor, ...], evaluate: Callable[..., Tensor]) -> Tensor:
        """The value of `evaluate` for each batch element's model, elements of one model together."""
        batch = torch.broadcast_shapes(theta.shape[:-1], *(each.shape[:-2] for each in rows))
        rows = tuple(each.expand(*batch, *each.shape[-2:]) for each in rows)
        if len(self.models) == 1:
            return evaluate(self.models[0], *rows) * self.factors[0] ** 2
        indices = theta[..., 0].expand(batch).flatten().long()
        flat = [each.reshape(-1, *each.shape[-2:]) for each in rows]
        order = indices.argsort(stable=True)
        values_of_models = []
        for index in indices.unique().tolist():
            of_model = [each[indices == index] for each in flat]
            values_of_models.append(evaluate(self.models[index], *of_model) * self.factors[index] ** 2)
        values = torch.cat(values_of_models)[order.argsort()]
        return values.reshape(*batch, *values.shape[1:])


def _prior(model: Any, rows: Tensor) -> Any:
    """The prior at raw rows, with a covariance that is evaluated lazily; the model is not changed."""
    targets = model.train_targets
    if targets.dtype != rows.dtype or targets.device != rows.device:
        model = copy.deepcopy(model).to(rows)
    return model.forward(model.transform_inputs(rows))


def _covariances(model: Any, x: Tensor, z: Tensor) -> Tensor:
    m = x.shape[-2]
    covariance = _prior(model, torch.cat((x, z), -2)).lazy_covariance_matrix
    dense: Tensor = covariance[..., :m, m:].to_dense()
    return dense


def _variances(model: Any, x: Tensor) -> Tensor:
    diagonal: Tensor = _prior(model, x).lazy_covariance_matrix.diagonal(dim1=-1, dim2=-2)
    return diagonal


def _gradients(
    evaluate: Callable[..., Tensor], inputs: tuple[Tensor, ...], weights: Tensor
) -> tuple[Tensor, ...]:
    """d sum(weights * value) by each input, zero if the value does not depend on it."""
    leaves = tuple(each.detach().requires_grad_() for each in inputs)
    with torch.enable_grad():
        value = evaluate(*leaves)
    if not value.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    gradients = torch.autograd.grad(value, leaves, weights.detach(), allow_unused=True)
    pairs = zip(leaves, gradients, strict=True)
    return tuple(torch.zeros_like(leaf) if by is None else torch.nan_to_num(by) for leaf, by in pairs)


def _spectrum(model: Any, dim: int) -> tuple[Tensor, int]:
    """The map (d, d') from frequencies of the kernel to those of raw rows, and 2 nu (0 for infinity)."""
    kernel: Any = getattr(model, "covar_module", None)
    base: Any = kernel.base_kernel if type(kernel) is ScaleKernel else kernel
    if type(base) not in (RBFKernel, MaternKernel):
        raise DataError(
            f"paths need an RBF or Matérn kernel, got {type(base).__name__}; "
            "acquisitions other than ThompsonSampling need none"
        )
    with torch.no_grad():
        origin = base.lengthscale.new_zeros(1, dim)
        centre = model.transform_inputs(origin)
        jacobian = model.transform_inputs(torch.eye(dim, dtype=origin.dtype, device=origin.device)) - centre
        middle = model.transform_inputs(torch.full_like(origin, 0.3)) - centre
        if not torch.allclose(middle, 0.3 * jacobian.sum(0), rtol=1e-6, atol=1e-9):
            raise DataError("paths need an affine input transform; other acquisitions need none")
        if base.active_dims is not None:
            jacobian = jacobian[:, base.active_dims]
        freedom = round(2.0 * base.nu) if type(base) is MaternKernel else 0
        return jacobian / base.lengthscale, freedom


@dataclass(frozen=True)
class BoTorchSurrogate:
    """Any exact BoTorch model of one outcome as a surrogate.

    The factory makes an unfitted model of outcomes that are to be minimised and are already standardised:
    `BoTorchSurrogate(lambda X, Y, Yvar: SingleTaskGP(X, Y, Yvar))`. It is fitted here by `fit_gpytorch_mll`,
    or by the factory if `fit_model` is False. Its prior, data and noise then become an `ExactProcess` of raw
    rows and outcomes, so that every acquisition of this package works with it; its input transforms become
    part of the kernel. The translation is compared with the model's own posterior.

    Yvar is None if no variance is given; missing variances beside given ones are replaced by the mean of
    these. A warm start begins with the earlier parameters until the data have grown by a fifth; then a fit
    begins with the factory's own. The noise of a further observation is the likelihood's, or the mean of
    given variances. Replicates are fitted one after the other. Columns of categories hold codes in [0, 1].

    Attributes:
        factory: (train_X (n x d), train_Y (n x 1), train_Yvar (n x 1) or None) to a new BoTorch model.
        fit_model: whether the model is fitted here.

    Raises:
        DataError: a factory that can not be called.
    """

    factory: Callable[[Tensor, Tensor, Tensor | None], Any]
    fit_model: bool = True

    def __post_init__(self) -> None:
        check_flags(self, "fit_model", error=DataError)
        if not callable(self.factory):
            raise DataError(f"a factory must be a function of X, Y and Yvar, got {described(self.factory)}")

    @outside_inference_mode
    @fresh_dtype()
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ExactProcess:
        """The process of the fitted model.

        Raises:
            DataError: a model that is not exact, has several outcomes or a prior mean that is not constant,
                or whose outcome transform is not affine.
            FitError: no observation, or a fit that failed.
            NumericalError: the covariance does not factorise.
        """
        if data.x.shape[-2] == 0:
            raise FitError("a BoTorchSurrogate needs at least one observation, got none")
        count = math.prod(data.batch_shape)
        settled = start is not None and start.settled
        models = [
            self._model(data.replicates(index), seeds.keys[index], _earlier(start, data, index), settled)
            for index in range(count)
        ]
        translations = [_translated(model, index) for index, model in enumerate(models)]
        processes = [process for process, _ in translations]
        for model, process in zip(models, processes, strict=True):
            _compare(model, process)
        kernel = ModelKernel(tuple(models), tuple(factor for _, factor in translations))

        def stacked(value: Callable[[ExactProcess], Tensor]) -> Tensor:
            values = torch.stack([value(process) for process in processes])
            return values.reshape(torch.Size((*data.batch_shape, *values.shape[1:])))

        theta, x, chol = (stacked(value) for value in (lambda p: p.theta, lambda p: p.x, lambda p: p.chol))
        return ExactProcess(
            Basis.of_observed(kernel, theta, x, chol),
            stacked(lambda p: p.white),
            PriorMean(stacked(lambda p: p.prior_mean.constant)),
            stacked(lambda p: p.noise),
            stacked(lambda p: p.jitter),
        )

    def _model(self, data: Dataset, key: int, earlier: Tensor | None, settled: bool) -> Any:
        """The fitted model of one replicate, in evaluation mode; settled parameters are not fitted again."""
        with warnings.catch_warnings(), seeded(key), torch.enable_grad():
            for category in (InputDataWarning, NumericalWarning):  # rows and outcomes are already scaled
                warnings.simplefilter("ignore", category)
            model = self.factory(data.x.clone(), data.y[:, None].clone(), _variances_of(data))
            _check(model, data.x)
            if self.fit_model:
                if _restore(model, earlier) and settled:
                    return model.eval()
                try:
                    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
                except (ModelFittingError, NotPSDError) as error:
                    raise FitError(f"the BoTorch model could not be fitted: {error_text(error)}") from error
        return model.eval()


def _earlier(start: WarmStart | None, data: Dataset, index: int) -> Tensor | None:
    """Parameters of a replicate's earlier model; None if the fit begins with the factory's own."""
    if start is None or has_grown(start.observations, data.x.shape[-2]):
        return None
    theta = start.hyperparameters
    return theta.expand(*data.batch_shape, theta.shape[-1]).reshape(-1, theta.shape[-1])[index, 1:-1]


def _restore(model: Any, earlier: Tensor | None) -> bool:
    """Give a model the parameters of an earlier one; return whether their number is the same."""
    parameters = list(model.parameters())
    if earlier is None or earlier.numel() != sum(one.numel() for one in parameters):
        return False
    torch.nn.utils.vector_to_parameters(earlier.to(parameters[0]), parameters)
    return True


def _variances_of(data: Dataset) -> Tensor | None:
    if data.noise is None or bool(data.noise.isnan().all()):
        return None
    return torch.where(data.noise.isnan(), data.noise.nanmean(), data.noise)[:, None].clamp(min=1e-6)


def _check(model: Any, like: Tensor) -> None:
    exact = isinstance(model, GPyTorchExactGP) and hasattr(model, "posterior")
    if not exact or model.num_outputs != 1 or tuple(model.batch_shape) or model._is_ensemble:
        raise DataError(
            "a factory must return an exact BoTorch model of one outcome, without batch shape, such as "
            f"SingleTaskGP, got {type(model).__name__}"
        )
    if not hasattr(model.likelihood, "noise"):
        raise DataError(f"a likelihood must be Gaussian, got {type(model.likelihood).__name__}")
    tensors = (*model.train_inputs, model.train_targets, *model.parameters())
    kinds = {(one.dtype, one.device) for one in tensors}
    if kinds != {(like.dtype, like.device)}:
        law = f"a model must be in the dtype and on the device of its data, {like.dtype} on {like.device}"
        raise DataError(f"{law}, got {sorted(map(str, kinds))}")


def _translated(model: Any, index: int) -> tuple[ExactProcess, float]:
    """The exact process of one model, with a kernel of its own, and the factor of its outcomes."""
    with torch.no_grad():
        rows = model.train().train_inputs[0].detach().clone()
        model.eval()
        shift, factor = _outcomes(model, rows)
        prior = _prior(model, rows)
        if prior.mean.shape != rows.shape[:-1]:
            raise DataError(f"input transforms must keep the {len(rows)} rows, got {tuple(prior.mean.shape)}")
        probe = torch.cat((_prior(model, _probes(rows)).mean, prior.mean))
        if not torch.allclose(probe, probe[:1].expand_as(probe), rtol=0.0, atol=1e-9):
            raise DataError("a model must have a constant prior mean, got one that varies with the rows")
        kernel = ModelKernel((model,), (factor,))
        parameters = [one.detach().flatten().to(rows) for one in model.parameters()]
        theta = torch.cat([rows.new_zeros(1), *parameters])
        variance = (model.likelihood.noise.detach() * factor**2).to(rows).expand(len(rows))
        covariance = kernel.cross(theta, rows, rows)[0] + torch.diag_embed(variance)
        chol, jitter = jittered_cholesky(0.5 * (covariance + covariance.mT))
        residual = factor * (model.train_targets - prior.mean)
        white = solve_lower(chol, residual[:, None])[:, 0]
        theta[0] = float(index)
        basis, mean = Basis.of_observed(kernel, theta, rows, chol), PriorMean(shift + factor * probe[0])
        return ExactProcess(basis, white, mean, variance.mean(), jitter), factor


def _outcomes(model: Any, like: Tensor) -> tuple[float, float]:
    """Shift and factor of the affine map from the model's outcomes to the data's."""
    transform = getattr(model, "outcome_transform", None)
    if transform is None:
        return 0.0, 1.0
    points = [-1.0, 0.0, 1.0, 3.0]
    values = transform.untransform(like.new_tensor(points)[:, None])[0].flatten().tolist()
    shift, factor = values[1], values[2] - values[1]
    gap = max(abs(shift + factor * one - value) for one, value in zip(points, values, strict=True))
    if not gap <= 1e-8 * (1.0 + abs(shift) + abs(factor)):
        raise DataError(f"an outcome transform must be affine, got {type(transform).__name__}")
    return shift, factor


def _probes(rows: Tensor) -> Tensor:
    """A few rows between the data, the first rows of the data, and one more row."""
    few = rows[:4]
    return torch.cat((0.7 * few + 0.3 * few.flip(0), few, torch.full_like(few[:1], 0.37)))


def _compare(model: Any, process: ExactProcess) -> None:
    """Raise DataError unless the process has the posterior of the model."""
    rows = _probes(process.x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        theirs = model.posterior(rows)
        mean, var = process.mean_and_var(rows)
        deviation = process.scale.sqrt() + process.noise.sqrt()
        gap = float(((theirs.mean[:, 0] - mean).abs() / deviation).max())
        spread = float(((theirs.variance[:, 0] - var).abs() / deviation.square()).max())
    if not (gap <= _SAME and spread <= _SAME):
        raise DataError(
            "a model's posterior must be that of its prior given its data, but its means and variances "
            f"differ from it by {gap:.2g} and {spread:.2g} of the prior's"
        )

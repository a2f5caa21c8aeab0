"""BoTorch models as surrogates: fitted there, and translated into an exact process of this package."""

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
from bo_suite.surrogates.process import ExactProcess, WarmStart
from bo_suite.surrogates.search import has_grown
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
"""By how much a translated posterior may differ from the model's own, in prior standard deviations."""


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """torch's global random numbers follow from a key inside, and are what they were after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield


@dataclass(frozen=True, eq=False)
class ModelKernel:
    """Prior covariances of fitted models, one a replicate, of raw rows and outcomes on the data's scale.

    theta[..., 0] is the place of the replicate's model, and the rest is a record of its parameters, which
    are not free: gradients by theta are zero. Those by rows are autograd's, through input transforms.

    Attributes:
        models: BoTorch models in evaluation mode.
        factors: of the outcome transforms, whose squares scale the covariances.
    """

    models: tuple[Any, ...]
    factors: tuple[float, ...]

    def start(self, dim: int) -> Tensor:
        """Nothing is free."""
        return torch.zeros(0, dtype=torch.float64, device="cpu")

    def bounds(self, dim: int) -> tuple[Tensor, Tensor]:
        """Nothing is free."""
        return self.start(dim), self.start(dim)

    def log_prior(self, theta: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Zero: it does not depend on anything."""
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
        found = [row @ jacobian.to(theta).mT for row, (jacobian, _) in zip(rows, spectra, strict=True)]
        frequencies = torch.stack(found).reshape(*theta.shape[:-1], count, dim)
        return frequencies, torch.ones_like(frequencies[..., 0])

    def _covariance(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self._each(theta, (x, z), _covariances)

    def _each(self, theta: Tensor, rows: tuple[Tensor, ...], evaluate: Callable[..., Tensor]) -> Tensor:
        """Something of the prior of each batch element's model, those of one model together."""
        batch = torch.broadcast_shapes(theta.shape[:-1], *(part.shape[:-2] for part in rows))
        rows = tuple(part.expand(*batch, *part.shape[-2:]) for part in rows)
        if len(self.models) == 1:
            return evaluate(self.models[0], *rows) * self.factors[0] ** 2
        places = theta[..., 0].expand(batch).flatten().long()
        flat = [part.reshape(-1, *part.shape[-2:]) for part in rows]
        order = places.argsort(stable=True)
        parts = []
        for place in places.unique().tolist():
            chosen = places == place
            parts.append(
                evaluate(self.models[place], *(part[chosen] for part in flat)) * self.factors[place] ** 2
            )
        values = torch.cat(parts)[order.argsort()]
        return values.reshape(*batch, *values.shape[1:])


def _prior(model: Any, rows: Tensor) -> Any:
    """The prior at raw rows, its covariance evaluated where it is looked at; the model is left as it is."""
    known = model.train_targets
    if known.dtype != rows.dtype or known.device != rows.device:
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
    """d sum(weights * value) by each input, zero where the value does not depend on it."""
    leaves = tuple(part.detach().requires_grad_() for part in inputs)
    with torch.enable_grad():
        value = evaluate(*leaves)
    if not value.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    found = torch.autograd.grad(value, leaves, weights.detach(), allow_unused=True)
    pairs = zip(leaves, found, strict=True)
    return tuple(torch.zeros_like(leaf) if one is None else torch.nan_to_num(one) for leaf, one in pairs)


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

    The factory makes an unfitted model of outcomes that are to be minimised, standardised already:
    `BoTorchSurrogate(lambda X, Y, Yvar: SingleTaskGP(X, Y, Yvar))`. It is fitted here by `fit_gpytorch_mll`
    unless `fit_model` is False: then the factory has fitted it. Its prior, data and noise are then taken over
    into an `ExactProcess`, raw rows and outcomes in and out, so that every acquisition of this
    package works with it; its input transforms become part of the kernel. The translation is compared with
    the model's own posterior.

    Yvar is None where no noise is known; unknown variances beside known ones count as the mean of these. A
    warm start begins with the former parameters, until the data have grown by a fifth; a fit from the
    factory's own then replaces it. The noise of a further observation is the likelihood's, or the mean of
    given variances. Replicates are fitted one after the other. Columns of categories hold codes in [0, 1].

    Attributes:
        factory: (train_X (n x d), train_Y (n x 1), train_Yvar (n x 1) or None) to a new BoTorch model.
        fit_model: whether the model is fitted here.
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
            DataError: a model that is not exact, single, with a constant prior mean, or whose outcome
                transform is not affine.
            FitError: no observation, or a fit that failed.
            NumericalError: the covariance does not factorise.
        """
        if data.x.shape[-2] == 0:
            raise FitError("a BoTorchSurrogate needs at least one observation, got none")
        count = math.prod(data.batch_shape)
        settled = start is not None and start.settled
        models = [
            self._model(data.replicates(place), seeds.keys[place], _former(start, data, place), settled)
            for place in range(count)
        ]
        parts = [_translated(model, place) for place, model in enumerate(models)]
        for model, (process, _) in zip(models, parts, strict=True):
            _compare(model, process)
        kernel = ModelKernel(tuple(models), tuple(factor for _, factor in parts))
        names = ("theta", "x", "chol", "white", "prior_mean", "noise", "jitter")
        shape = data.batch_shape
        stacked = []
        for name in names:
            each = torch.stack([getattr(process, name) for process, _ in parts])
            stacked.append(each.reshape(torch.Size((*shape, *each.shape[1:]))))
        return ExactProcess(kernel, *stacked)

    def _model(self, data: Dataset, key: int, former: Tensor | None, settled: bool) -> Any:
        """The fitted model of one replicate, in evaluation mode; settled parameters are left as they are."""
        with warnings.catch_warnings(), seeded(key), torch.enable_grad():
            for category in (InputDataWarning, NumericalWarning):  # rows and outcomes are scaled already
                warnings.simplefilter("ignore", category)
            model = self.factory(data.x.clone(), data.y[:, None].clone(), _variances_of(data))
            _check(model, data.x)
            if self.fit_model:
                if _restore(model, former) and settled:
                    return model.eval()
                try:
                    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
                except (ModelFittingError, NotPSDError) as error:
                    raise FitError(f"the BoTorch model could not be fitted: {error_text(error)}") from error
        return model.eval()


def _former(start: WarmStart | None, data: Dataset, place: int) -> Tensor | None:
    """Parameters of a replicate's former model, if they are to be begun with."""
    if start is None or has_grown(start.observations, data.x.shape[-2]):
        return None
    found = start.hyperparameters
    return found.expand(*data.batch_shape, found.shape[-1]).reshape(-1, found.shape[-1])[place, 1:-1]


def _restore(model: Any, former: Tensor | None) -> bool:
    """Gives a model the parameters of a former one; whether there are as many."""
    parameters = list(model.parameters())
    if former is None or former.numel() != sum(one.numel() for one in parameters):
        return False
    torch.nn.utils.vector_to_parameters(former.to(parameters[0]), parameters)
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


def _translated(model: Any, place: int) -> tuple[ExactProcess, float]:
    """The exact process of one model, as the only one of its kernel, and the factor of its outcomes."""
    with torch.no_grad():
        rows = model.train().train_inputs[0].detach().clone()
        model.eval()
        shift, factor = _outcomes(model, rows)
        prior = _prior(model, rows)
        if prior.mean.shape != rows.shape[:-1]:
            raise DataError(
                f"input transforms must keep the number of rows, got {tuple(prior.mean.shape)} of {len(rows)}"
            )
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
        theta[0] = float(place)
        mean = shift + factor * probe[0]
        return ExactProcess(kernel, theta, rows, chol, white, mean, variance.mean(), jitter), factor


def _outcomes(model: Any, like: Tensor) -> tuple[float, float]:
    """Shift and factor of the affine map from the model's outcomes to the data's."""
    transform = getattr(model, "outcome_transform", None)
    if transform is None:
        return 0.0, 1.0
    points = [-1.0, 0.0, 1.0, 3.0]
    found = transform.untransform(like.new_tensor(points)[:, None])[0].flatten().tolist()
    shift, factor = found[1], found[2] - found[1]
    gap = max(abs(shift + factor * one - value) for one, value in zip(points, found, strict=True))
    if not gap <= 1e-8 * (1.0 + abs(shift) + abs(factor)):
        raise DataError(f"an outcome transform must be affine, got {type(transform).__name__}")
    return shift, factor


def _probes(rows: Tensor) -> Tensor:
    """A few rows in between the data, and the first of these."""
    few = rows[:4]
    return torch.cat((0.7 * few + 0.3 * few.flip(0), few, torch.full_like(few[:1], 0.37)))


def _compare(model: Any, process: ExactProcess) -> None:
    """Raises unless the process has the posterior of the model."""
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
            "a model's posterior must be that of its prior given its data, "
            f"got means and variances off by {gap:.2g} and {spread:.2g} of the prior's"
        )

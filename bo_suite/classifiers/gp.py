"""Gaussian process classification by Pólya-gamma augmentation: repeated Gaussian regression."""

import math
from dataclasses import dataclass, field, replace

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.classifiers.base import WeightedExamples
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Kernel, kernel_for
from bo_suite.linalg import solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import Basis, inducing_basis, jitter_or_default
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection, check_sparse, inducing_count
from bo_suite.surrogates.noise import smallest_noise
from bo_suite.surrogates.prior_mean import MeanFunction, PriorMean, check_mean, split_mean
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.sparse import SparseProcess
from bo_suite.surrogates.subsample import spaced_indices
from bo_suite.surrogates.variational.collapsed import Collapsed, CollapsedObjective, Statistics
from bo_suite.surrogates.variational.quadrature import log_expectation, polya_gamma_mean, spread
from bo_suite.surrogates.warm_start import GRADIENT_TOLERANCE, has_grown

_MOST_INDUCING = 256
"""Largest number of inducing inputs by default, so that the cost is linear in the rows."""

_SKETCH = 1000
"""Number of rows with which a fit from afresh begins."""

_ROUNDS, _SEARCH_CYCLES, _SEARCH_EVALUATIONS = 10, 2, 5
"""Of a search from afresh: alternations, and in each of them cycles of updates and evaluations by L-BFGS."""

_REFINE_CYCLES, _REFINE_EVALUATIONS = 5, 10

_FINAL_CYCLES = 50

_SEARCH_RISE, _FIT_RISE, _EXACT_RISE = 1e-2, 1e-3, 1e-9
"""Rises of the bound in a cycle that end the updates: in a search, at the end of a fit, at given theta."""

_LARGEST_NOISE = 1e30
"""Variance of an observation without any information."""

_SMALLEST_C, _LONGEST = 1e-6, 100.0
"""Smallest c, and largest length of an extrapolation, in steps."""


def predictive_logit(
    mean: jt.Float[Tensor, "*b m"], var: jt.Float[Tensor, "*b m"]
) -> jt.Float[Tensor, "*b m"]:
    """log E[σ(f)] - log E[σ(-f)] for f ~ N(mean, var), σ(f) = 1 / (1 + e⁻ᶠ), by 80 evenly spaced nodes.

    Odd in the mean and, up to var = 1000, increasing with it, never flat. Relative error: 1e-10 up to
    var = 4, 1e-6 up to 16, 2e-3 up to 64. Values more than 8 standard deviations from the mean are ignored.
    """
    return log_expectation(logsigmoid, mean, var) - log_expectation(lambda f: logsigmoid(-f), mean, var)


@dataclass(frozen=True, eq=False)
class GPLogOdds:
    """The logit of the class probability, or an upper quantile of the latent log odds.

    Attributes:
        process: q(f), of the latent log odds.
        optimism: standard deviations added to the mean; at 0, the score is `predictive_logit`.
        bound: lower bound of the log evidence at the fitted hyperparameters.
    """

    process: SparseProcess
    optimism: float
    bound: jt.Float[Tensor, "*b"]
    differentiable: bool = field(default=True, init=False)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The kernel's theta."""
        return self.process.theta

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log E[σ(f)] - log E[σ(-f)]; with optimism, mean + optimism √var."""
        mean, var = self.process.mean_and_var(x)
        if self.optimism == 0.0:
            return predictive_logit(mean, var)
        return spread(mean, var, mean.new_tensor([self.optimism]))[..., 0]


@dataclass(frozen=True)
class GPClassifier:
    """Sparse Gaussian process with a logistic likelihood, by Pólya-gamma augmentation.

    A row of weights p and n has the log likelihood w log p(s | f) = p log σ(f) + n log σ(-f), w = p + n, s =
    p / w: a weight is a number of observations, so scaling all of them changes how certain the fit is. With
    c² = E[f²] and ω = tanh(c / 2) / (2c), the mean of PG(1, c), it is at least w ((s - ½) f - ω (f² - c²) / 2
    - c / 2 + log σ(c)) (Jaakkola and Jordan 2000; Polson, Scott and Windle 2013; Wenzel et al. 2019): up to a
    constant, a Gaussian observation (s - ½) / ω of variance 1 / (w ω). Given those, q(f) and the gradient by
    theta are those of sparse regression (Titsias 2009). A fit alternates closed-form updates of c with L-BFGS
    searches of theta at the best q of each; neither lowers the bound. A fit from afresh begins with 1,000
    rows; a warm start is trusted until the number of rows has passed another power of 1.2, and takes one
    alternation. A step takes O(n m²).

    Attributes:
        inducing: number of inducing inputs, at most that of distinct rows; when None,
            min(n, 256, 64 + ⌈4 √n⌉) for n rows.
        kernel: as for `ExactGP`.
        selection: how they are chosen; the outcome of a row, smaller being better, is -s.
        optimism: score by mean + optimism √var of the latent log odds, which explores (BORE++, Oliveira, Tiao
            and Ramos 2022); at 0, by the logit of the class probability.
        mean: prior mean of the latent log odds, as for `ExactGP`.
        jitter: as for `SGPR`.
    """

    inducing: int | None = None
    kernel: object | None = None
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.5))
    optimism: float = 0.0
    mean: float | MeanFunction | None = None
    jitter: float | None = None

    def __post_init__(self) -> None:
        check_sparse(self.inducing, self.jitter)
        check_mean(self.mean)
        if not 0 <= self.optimism < math.inf:
            raise DataError(f"`0 <= optimism < inf` must hold, got {self.optimism}")

    @outside_inference_mode
    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> GPLogOdds:
        """The log odds at the best hyperparameters found.

        Raises:
            FitError: no finite bound.
            NumericalError: the covariance of the inducing values does not factorise.
        """
        rows = self._rows(data)
        n, batch = rows.share.shape[-1], data.batch_shape
        theta = rows.kernel.start(data.x.shape[-1]).to(data.x).expand(*batch, -1)
        warm = start is not None and start.hyperparameters.shape[-1] == theta.shape[-1]
        if start is not None and warm and not has_grown(start.observations, data.x.shape[-2]):
            theta = start.hyperparameters.to(data.x).expand(*batch, -1)
        else:
            theta = self._search(rows.evenly_spaced(_SKETCH), theta, seeds.split("sketch"))
        inducing = self._select(rows, theta, self._count(n), seeds)
        c, _ = rows.update_until_converged(
            theta, inducing, torch.zeros_like(rows.share), _REFINE_CYCLES, _SEARCH_RISE
        )
        theta = rows.ascend(theta, inducing, c, _REFINE_EVALUATIONS)
        return self._finish(rows, theta, inducing, c, _FIT_RISE)

    def posterior(
        self, data: WeightedExamples, hyperparameters: Hyperparameters, inducing: jt.Float[Tensor, "*b m d"]
    ) -> GPLogOdds:
        """The log odds at given hyperparameters (the kernel's theta) and inducing inputs."""
        rows = self._rows(data)
        return self._finish(rows, hyperparameters, inducing, torch.zeros_like(rows.share), _EXACT_RISE)

    def _rows(self, data: WeightedExamples) -> "_Rows":
        kernel = kernel_for(self.kernel, _kinds(data))
        return _Rows.of(data, kernel, self.mean, jitter_or_default(self.jitter, data.x.dtype))

    def _count(self, n: int) -> int:
        return min(inducing_count(n), _MOST_INDUCING) if self.inducing is None else self.inducing

    def _select(self, rows: "_Rows", theta: Tensor, count: int, seeds: Seeds) -> Tensor:
        return self.selection.select(rows.outcomes, rows.kernel, theta, count, seeds)

    def _search(self, rows: "_Rows", theta: Tensor, seeds: Seeds) -> Tensor:
        """Theta after alternations, each with inducing inputs of its own, until the bound hardly rises."""
        count, c = self._count(rows.share.shape[-1]), torch.zeros_like(rows.share)
        before = torch.full_like(theta[..., 0], -torch.inf)
        moving = torch.ones_like(before, dtype=torch.bool)
        for _ in range(_ROUNDS):
            inducing = self._select(rows, theta, count, seeds)
            c, value = rows.update_until_converged(theta, inducing, c, _SEARCH_CYCLES, _SEARCH_RISE)
            moving = moving & ~((value - before).abs() < _SEARCH_RISE)
            if not bool(moving.any()):
                break
            new_theta = rows.ascend(theta, inducing, c, _SEARCH_EVALUATIONS)
            theta, before = torch.where(moving[..., None], new_theta, theta), value
        return theta

    def _finish(self, rows: "_Rows", theta: Tensor, inducing: Tensor, c: Tensor, rise: float) -> GPLogOdds:
        c, value = rows.update_until_converged(theta, inducing, c, _FINAL_CYCLES, rise)
        if not bool(torch.isfinite(value).all()):
            raise FitError(f"the bound is not finite ({value.tolist()}); is the kernel positive definite?")
        whitened = rows.whitened(theta, inducing)
        optimum = whitened.collapse(c)
        process = SparseProcess(
            replace(whitened.basis, precision_chol=optimum.precision_chol),
            optimum.linear,
            PriorMean(optimum.prior_mean, rows.function),
            rows.observations(c)[1].reciprocal().mean(-1).reciprocal(),
            theta,
        )
        return GPLogOdds(process, self.optimism, optimum.bound + rows.constant(c))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows with the share of label 1 and the total of their weights, and the prior of their log odds.

    `offset` holds the values of the mean function, zeros if there is none.
    """

    x: Tensor
    share: Tensor
    weight: Tensor
    columns: Columns
    kernel: Kernel
    constant_mean: float | None
    function: MeanFunction | None
    jitter: float
    offset: Tensor

    @staticmethod
    def of(
        data: WeightedExamples, kernel: Kernel, mean: float | MeanFunction | None, jitter: float
    ) -> "_Rows":
        """The rows that have a weight in some replicate."""
        weight = data.positive + data.negative
        keep = (weight > 0).reshape(-1, weight.shape[-1]).any(0)
        weight = weight[..., keep]
        share = torch.where(weight > 0, data.positive[..., keep] / weight, 0.5)
        x, (constant, function) = data.x[..., keep, :], split_mean(mean)
        offset = PriorMean(x.new_zeros(data.batch_shape), function)(x)
        return _Rows(x, share, weight, _kinds(data), kernel, constant, function, jitter, offset)

    def evenly_spaced(self, count: int) -> "_Rows":
        """At most `count` rows, evenly spaced over all."""
        index = spaced_indices(self.share.shape[-1], count, self.x.device)
        if index is None:
            return self
        share, weight, offset = (each[..., index] for each in (self.share, self.weight, self.offset))
        return replace(self, x=self.x[..., index, :], share=share, weight=weight, offset=offset)

    @property
    def outcomes(self) -> Dataset:
        """The data for the selection of inducing inputs: the rows of largest share are the best."""
        return Dataset(self.x, -self.share, columns=self.columns)

    def observations(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussian observations of the same likelihood, given c, less the mean function; and variances."""
        omega = polya_gamma_mean(c)
        noise = (self.weight * omega).reciprocal().clamp(smallest_noise(c.dtype), _LARGEST_NOISE)
        return (self.share - 0.5) / omega - self.offset, noise

    def constant(self, c: Tensor) -> Tensor:
        """Difference of the bound to that of the Gaussian observations."""
        y, noise = self.observations(c)
        y = y + self.offset
        gap = polya_gamma_mean(c) * c.square() - c
        scale = torch.log(2.0 * math.pi * noise) + y.square() / noise
        return (self.weight * (0.5 * gap + logsigmoid(c)) + 0.5 * scale).sum(-1)

    def whitened(self, theta: Tensor, inducing: Tensor) -> "_Whitened":
        """The parts of q that do not depend on c."""
        basis = inducing_basis(self.kernel, theta, Points(inducing), self.jitter)
        return _Whitened(self, basis, basis.whiten(self.x), self.kernel.diagonal(theta, self.x))

    def update_until_converged(
        self, theta: Tensor, inducing: Tensor, c: Tensor, most: int, rise: float
    ) -> tuple[Tensor, Tensor]:
        """c after at most `most` cycles of closed-form updates, and the bound with log priors.

        A cycle is two updates, an extrapolation of them and a third update there, which is undone if the
        extrapolation has lowered the bound (SQUAREM, Varadhan and Roland 2008, of log c). A replicate whose
        bound rises by less than `rise` does not change any more.
        """
        whitened = self.whitened(theta, inducing)
        prior = self.kernel.log_prior(theta, self.x.shape[-1])[0]
        value = torch.full_like(prior, -torch.inf)
        moving = torch.ones_like(prior, dtype=torch.bool)
        for _ in range(most):
            first, _ = whitened.update(c)
            second, before = whitened.update(first)
            third, after = whitened.update(_extrapolate(c, first, second))
            better = after >= before
            c = torch.where(moving[..., None], torch.where(better[..., None], third, second), c)
            new_value = torch.where(better, after, before) + prior
            value, moving = torch.where(moving, new_value, value), moving & ~(new_value - value < rise)
            if not bool(moving.any()):
                break
        return c, value

    def ascend(self, theta: Tensor, inducing: Tensor, c: Tensor, evaluations: int) -> Tensor:
        """Theta of a higher bound, with c held and q optimal."""
        y, noise = self.observations(c)
        data = Dataset(self.x, y, noise, columns=self.columns)
        objective = CollapsedObjective(
            self.kernel, data, Points(inducing), self.constant_mean, self.jitter, 0.0, 1.0, []
        )
        held = theta.new_zeros(1)  # the objective's log noise, which no observation has
        lower, upper = (torch.cat((end.to(theta), held)) for end in self.kernel.bounds(self.x.shape[-1]))
        result = minimize_batch(
            objective,
            torch.cat((theta, torch.zeros_like(theta[..., :1])), -1),
            bounds=(lower, upper),
            max_evaluations=evaluations,
            gradient_tolerance=GRADIENT_TOLERANCE,
            value_tolerance=1e-5,
        )
        return result.x[..., :-1]


def _kinds(data: WeightedExamples) -> Columns:
    """What the kernel and the selection of inducing inputs take into account."""
    return Columns(data.unordered, conditions=data.conditions, descriptors=data.descriptors)


@dataclass(frozen=True, eq=False)
class _Whitened:
    """A = L⁻¹ k(Z, X), and all else that does not change while c is updated."""

    rows: _Rows
    basis: Basis
    a: Tensor
    diagonal: Tensor

    def collapse(self, c: Tensor) -> Collapsed:
        """The optimal q(v) given c."""
        y, noise = self.rows.observations(c)
        return Collapsed.of(Statistics.of(self.a, self.diagonal, y, noise), self.rows.constant_mean)

    def update(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """√E[f²] of each row under the optimal q given c; and the bound, with the log density of the mean."""
        optimum = self.collapse(c)
        m = solve_lower(optimum.precision_chol, optimum.white[..., None], transposed=True)
        mean = (optimum.prior_mean[..., None] + self.rows.offset) + (m.mT @ self.a)[..., 0, :]
        inside = solve_lower(optimum.precision_chol, self.a).square().sum(-2)
        var = self.diagonal - self.a.square().sum(-2) + inside
        value = optimum.bound + self.rows.constant(c) - 0.5 * optimum.prior_mean.square()
        return (mean.square() + var.clamp(min=0.0)).sqrt(), value


def _extrapolate(c: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The limit of the updates c, first, second if the errors of log c continue to shrink at their rate."""
    logs = [each.clamp(min=_SMALLEST_C).log() for each in (c, first, second)]
    step, turn = logs[1] - logs[0], logs[2] - 2.0 * logs[1] + logs[0]
    length = step.norm(dim=-1, keepdim=True) / turn.norm(dim=-1, keepdim=True).clamp(min=_SMALLEST_C)
    length = length.clamp(1.0, _LONGEST)
    return torch.exp(logs[0] + 2.0 * length * step + length.square() * turn)

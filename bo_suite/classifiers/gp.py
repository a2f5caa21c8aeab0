"""Gaussian process classification by Pólya-gamma augmentation: regression on observations made anew."""

import math
from dataclasses import dataclass, field, replace

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.classifiers.base import Labelled
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Kernel, as_kernel
from bo_suite.linalg import solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.collapsed import Collapsed, CollapsedObjective, Statistics, inducing_chol, jitter_of
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection, check_sparse, inducing_count
from bo_suite.surrogates.noise import smallest_noise
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.quadrature import log_expectation, polya_gamma_mean, spread
from bo_suite.surrogates.search import has_grown
from bo_suite.surrogates.sparse import SparseProcess

_MOST_INDUCING = 256
"""Inducing inputs at most, unless more are asked for: the cost is then linear in the rows."""

_SKETCH = 1000
"""Rows with which a fit from afresh begins."""

_ROUNDS, _SEARCH_CYCLES, _SEARCH_EVALUATIONS = 10, 2, 5
"""Of a search from afresh: alternations, and what each takes of both sides."""

_REFINE_CYCLES, _REFINE_EVALUATIONS = 5, 10

_FINAL_CYCLES = 50

_CLOSE, _SETTLED, _EXACT = 1e-2, 1e-3, 1e-9
"""Rises of the bound, in a cycle of updates, that end a search, a fit, and a posterior at given theta."""

_VAGUEST = 1e30
"""Variance of an observation that tells nothing."""

_LEAST, _FARTHEST = 1e-6, 100.0
"""Smallest c, and length of a leap in steps."""


def predictive_logit(
    mean: jt.Float[Tensor, "*b m"], var: jt.Float[Tensor, "*b m"]
) -> jt.Float[Tensor, "*b m"]:
    """log E[σ(f)] - log E[σ(-f)] for f ~ N(mean, var), σ(f) = 1 / (1 + e⁻ᶠ), by 80 evenly spaced nodes.

    Odd in the mean and, up to var = 1000, increasing with it, never flat. Relative error: 1e-10 up to
    var = 4, 1e-6 up to 16, 2e-3 up to 64. What is more than 8 standard deviations from the mean
    counts as nothing.
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

    A row of weights p and n says w log p(s | f) = p log σ(f) + n log σ(-f), w = p + n, s = p / w: a weight
    is a number of observations, and scaling all of them changes how certain the fit is. With
    c² = E[f²] and ω = tanh(c / 2) / (2c), the mean of PG(1, c), it is at least
    w ((s - ½) f - ω (f² - c²) / 2 - c / 2 + log σ(c)) (Jaakkola and Jordan 2000; Polson, Scott and Windle
    2013; Wenzel et al. 2019): up to a constant, a Gaussian observation (s - ½) / ω of
    variance 1 / (w ω). Given those, q(f) and the gradient by theta are those of sparse regression (Titsias
    2009). A fit alternates closed-form updates of c with L-BFGS searches of theta at the best q of each;
    neither lowers the bound. A fit from afresh begins with 1,000 rows; a warm start is trusted until the
    number of rows has passed another power of 1.2, and takes one alternation. A step takes O(n m²).

    Attributes:
        inducing: number of inducing inputs, at most that of distinct rows; when None,
            min(n, 256, 64 + ⌈4 √n⌉) for n rows.
        kernel: as for `ExactGP`.
        selection: how they are chosen; the outcome of a row, smaller being better, is -s.
        optimism: score by mean + optimism √var of the latent log odds, which explores (BORE++, Oliveira, Tiao
            and Ramos 2022); at 0, by the logit of the class probability.
        mean: prior mean of the latent log odds; when None, the most probable one under N(0, 1).
        jitter: as for `SGPR`.
    """

    inducing: int | None = None
    kernel: object | None = None
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.5))
    optimism: float = 0.0
    mean: float | None = None
    jitter: float | None = None

    def __post_init__(self) -> None:
        check_sparse(self.inducing, self.mean, self.jitter)
        if not 0 <= self.optimism < math.inf:
            raise DataError(f"`0 <= optimism < inf` must hold, got {self.optimism}")

    @outside_inference_mode
    def fit(self, data: Labelled, seeds: Seeds, start: WarmStart | None = None) -> GPLogOdds:
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
            theta = self._search(rows.thinned(_SKETCH), theta, seeds.split("sketch"))
        inducing = self._select(rows, theta, self._count(n), seeds)
        c, _ = rows.settle(theta, inducing, torch.zeros_like(rows.share), _REFINE_CYCLES, _CLOSE)
        theta = rows.ascend(theta, inducing, c, _REFINE_EVALUATIONS)
        return self._finish(rows, theta, inducing, c, _SETTLED)

    def posterior(
        self, data: Labelled, hyperparameters: Hyperparameters, inducing: jt.Float[Tensor, "*b m d"]
    ) -> GPLogOdds:
        """The log odds at given hyperparameters (the kernel's theta) and inducing inputs."""
        rows = self._rows(data)
        return self._finish(rows, hyperparameters, inducing, torch.zeros_like(rows.share), _EXACT)

    def _rows(self, data: Labelled) -> "_Rows":
        kernel = as_kernel(self.kernel, data.unordered)
        return _Rows.of(data, kernel, self.mean, jitter_of(self.jitter, data.x.dtype))

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
            c, value = rows.settle(theta, inducing, c, _SEARCH_CYCLES, _CLOSE)
            moving = moving & ~((value - before).abs() < _CLOSE)
            if not bool(moving.any()):
                break
            found = rows.ascend(theta, inducing, c, _SEARCH_EVALUATIONS)
            theta, before = torch.where(moving[..., None], found, theta), value
        return theta

    def _finish(self, rows: "_Rows", theta: Tensor, inducing: Tensor, c: Tensor, rise: float) -> GPLogOdds:
        c, value = rows.settle(theta, inducing, c, _FINAL_CYCLES, rise)
        if not bool(torch.isfinite(value).all()):
            raise FitError(
                f"the bound must be finite, got {value.tolist()}; is the kernel positive definite?"
            )
        whitened = rows.whitened(theta, inducing)
        found = whitened.collapse(c)
        process = SparseProcess(
            rows.kernel,
            theta,
            inducing,
            whitened.chol,
            found.precision_chol,
            found.linear,
            found.prior_mean,
            rows.observations(c)[1].reciprocal().mean(-1).reciprocal(),
            theta,
        )
        return GPLogOdds(process, self.optimism, found.bound + rows.constant(c))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows with the share of label 1 and the total of their weights, and the prior of their log odds."""

    x: Tensor
    share: Tensor
    weight: Tensor
    unordered: tuple[int, ...]
    kernel: Kernel
    mean: float | None
    jitter: float

    @staticmethod
    def of(data: Labelled, kernel: Kernel, mean: float | None, jitter: float) -> "_Rows":
        """Without the rows that have no weight in any replicate."""
        weight = data.positive + data.negative
        keep = (weight > 0).reshape(-1, weight.shape[-1]).any(0)
        weight = weight[..., keep]
        share = torch.where(weight > 0, data.positive[..., keep] / weight, 0.5)
        return _Rows(data.x[..., keep, :], share, weight, data.unordered, kernel, mean, jitter)

    def thinned(self, most: int) -> "_Rows":
        """No more than `most` rows, evenly spaced over all."""
        n = self.share.shape[-1]
        if n <= most:
            return self
        keep = torch.arange(most, device=self.x.device) * n // most
        part = self.x[..., keep, :], self.share[..., keep], self.weight[..., keep]
        return replace(self, x=part[0], share=part[1], weight=part[2])

    @property
    def outcomes(self) -> Dataset:
        """What the inducing inputs are chosen from: the rows of largest share are the best."""
        return Dataset(self.x, -self.share, None, self.x[..., :0, :], self.unordered)

    def observations(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussian observations that tell the same, given c, and their variances."""
        omega = polya_gamma_mean(c)
        noise = (self.weight * omega).reciprocal()
        return (self.share - 0.5) / omega, noise.clamp(smallest_noise(c.dtype), _VAGUEST)

    def constant(self, c: Tensor) -> Tensor:
        """What the bound has more than that of the Gaussian observations."""
        y, noise = self.observations(c)
        gap = polya_gamma_mean(c) * c.square() - c
        scale = torch.log(2.0 * math.pi * noise) + y.square() / noise
        return (self.weight * (0.5 * gap + logsigmoid(c)) + 0.5 * scale).sum(-1)

    def whitened(self, theta: Tensor, inducing: Tensor) -> "_Whitened":
        """The prior's part in q at given hyperparameters."""
        chol = inducing_chol(self.kernel, theta, inducing, self.jitter)
        a = solve_lower(chol, self.kernel.cross(theta, inducing, self.x)[0])
        diagonal = self.kernel.diagonal(theta, self.x)
        return _Whitened(self, chol, a, diagonal)

    def settle(
        self, theta: Tensor, inducing: Tensor, c: Tensor, most: int, rise: float
    ) -> tuple[Tensor, Tensor]:
        """c after cycles of closed-form updates, until the bound rises by less; and that, with log priors.

        A cycle is two updates, a leap along them and an update there, or none where the leap has lowered the
        bound (SQUAREM, Varadhan and Roland 2008, of log c). A replicate that has settled stays as it is.
        """
        whitened = self.whitened(theta, inducing)
        prior = self.kernel.log_prior(theta, self.x.shape[-1])[0]
        value = torch.full_like(prior, -torch.inf)
        moving = torch.ones_like(prior, dtype=torch.bool)
        for _ in range(most):
            first, _ = whitened.update(c)
            second, before = whitened.update(first)
            third, after = whitened.update(_leap(c, first, second))
            better = after >= before
            c = torch.where(moving[..., None], torch.where(better[..., None], third, second), c)
            found = torch.where(better, after, before) + prior
            value, moving = torch.where(moving, found, value), moving & ~(found - value < rise)
            if not bool(moving.any()):
                break
        return c, value

    def ascend(self, theta: Tensor, inducing: Tensor, c: Tensor, evaluations: int) -> Tensor:
        """Theta of a higher bound, c held and q at its best."""
        y, noise = self.observations(c)
        data = Dataset(self.x, y, noise, self.x[..., :0, :], self.unordered)
        objective = CollapsedObjective(self.kernel, data, inducing, self.mean, self.jitter, 0.0, 1.0, [])
        held = theta.new_zeros(1)  # the objective's log noise, which no observation has
        lower, upper = (torch.cat((end.to(theta), held)) for end in self.kernel.bounds(self.x.shape[-1]))
        found = minimize_batch(
            objective,
            torch.cat((theta, torch.zeros_like(theta[..., :1])), -1),
            bounds=(lower, upper),
            max_evaluations=evaluations,
            gradient_tolerance=1e-2,
            value_tolerance=1e-5,
        )
        return found.x[..., :-1]


@dataclass(frozen=True, eq=False)
class _Whitened:
    """A = L⁻¹ k(Z, X), and what does not change while c is updated."""

    rows: _Rows
    chol: Tensor
    a: Tensor
    diagonal: Tensor

    def collapse(self, c: Tensor) -> Collapsed:
        """The best q(v) given c."""
        y, noise = self.rows.observations(c)
        return Collapsed.of(Statistics.of(self.a, self.diagonal, y, noise), self.rows.mean)

    def update(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """√E[f²] of each row under the best q given c; and the bound, with the prior mean's log density."""
        found = self.collapse(c)
        m = solve_lower(found.precision_chol, found.white[..., None], transposed=True)
        mean = found.prior_mean[..., None] + (m.mT @ self.a)[..., 0, :]
        inside = solve_lower(found.precision_chol, self.a).square().sum(-2)
        var = self.diagonal - self.a.square().sum(-2) + inside
        value = found.bound + self.rows.constant(c) - 0.5 * found.prior_mean.square()
        return (mean.square() + var.clamp(min=0.0)).sqrt(), value


def _leap(c: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Where the updates c, first, second lead to if the errors of log c go on to shrink as they did."""
    logs = [part.clamp(min=_LEAST).log() for part in (c, first, second)]
    step, turn = logs[1] - logs[0], logs[2] - 2.0 * logs[1] + logs[0]
    length = step.norm(dim=-1, keepdim=True) / turn.norm(dim=-1, keepdim=True).clamp(min=_LEAST)
    length = length.clamp(1.0, _FARTHEST)
    return torch.exp(logs[0] + 2.0 * length * step + length.square() * turn)

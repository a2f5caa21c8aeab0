"""Likelihoods of independent observations of a latent function, for variational processes."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import DataError
from bo_suite.surrogates.noise import log_noise_bounds, log_noise_prior, observation_noise, smallest_noise
from bo_suite.surrogates.variational import quadrature
from bo_suite.surrogates.variational.natural import conjugate_sites
from bo_suite.values.scalars import check_flags

Outcomes = jt.Float[Tensor, "*b n"]
"""Observations; values of the latent function may have more dimensions in front."""

Known = jt.Float[Tensor, "*b n"] | None
"""Given variances of observations, NaN where unknown; None if all are unknown."""

Value = jt.Float[Tensor, "*rb n"]
"""A value at each observation: of the latent function, or of its marginal N(mean, var)."""

Sites = tuple[Value, Value]
"""(linear, precision) of Gaussian factors exp(linear f - precision f² / 2)."""

Free = jt.Float[Tensor, "*rb p"]
"""A likelihood's free parameters, unconstrained but for a box; p may be 0."""


@runtime_checkable
class Likelihood(Protocol):
    """p(y | f) of independent observations y given the latent function's values f."""

    @property
    def log_concave(self) -> bool:
        """Whether log p(y | f) is concave in f, so that site precisions are never negative."""

    @property
    def conjugate(self) -> bool:
        """Whether the sites depend on no mean nor variance: one full step reaches the optimum."""

    def check(self, y: Outcomes, noise: Known) -> None:
        """Raise DataError for impossible outcomes, and for given variances that the likelihood cannot use."""

    def start(self) -> jt.Float[Tensor, " p"]:
        """Where a search for its free parameters starts, float64."""

    def bounds(self, like: Tensor) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """The box of its free parameters."""

    def log_prior(self, phi: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b"]:
        """Log prior density of its free parameters up to a constant, differentiable by autograd."""

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """E[log p(y | f)], f ~ N(mean, var); differentiable by autograd by mean, var and phi."""

    def sites(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Sites:
        """The Gaussian factor that a full natural-gradient step puts in place of p(y | f)."""

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log E[p(y | f)], f ~ N(mean, var)."""

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """E[y], f ~ N(mean, var)."""

    def latent_noise(self, phi: Free, precision: Value) -> jt.Float[Tensor, "*rb"]:
        """Variance of a Gaussian observation with as much information on f, given the sites' precisions."""


def _cvi_sites(self: Likelihood, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Sites:
    """(g - h mean, -h), g = E[d log p / df] and h = E[d² log p / df²] (Khan and Lin 2017).

    g is the derivative of the expected log density by the mean, and h twice that by the variance.
    """
    with torch.enable_grad():
        leaves = mean.detach().requires_grad_(), var.detach().clamp(min=0.0).requires_grad_()
        value = self.expected_log_density(y, *leaves, phi.detach(), noise)
        g, by_var = torch.autograd.grad(value.sum(), leaves)
    h = (2.0 * by_var).clamp(max=0.0 if self.log_concave else math.inf)  # positive by rounding alone
    return conjugate_sites(g, h, mean)


def _noise_of_sites(self: Likelihood, phi: Free, precision: Value) -> jt.Float[Tensor, "*rb"]:
    """1 / mean site precision, but at least the least noise and at most 1e6."""
    return precision.mean(-1).clamp(min=1e-6).reciprocal().clamp(min=smallest_noise(precision.dtype))


def _nothing_to_start(self: Likelihood) -> jt.Float[Tensor, " 0"]:
    return torch.zeros(0, **CPU_DOUBLES)


def _nothing_to_bound(self: Likelihood, like: Tensor) -> tuple[Free, Free]:
    return like.new_zeros(0), like.new_zeros(0)


def _flat(self: Likelihood, phi: jt.Float[Tensor, "*b 0"]) -> jt.Float[Tensor, "*b"]:
    return phi.sum(-1)


def _check_labels(self: Likelihood, y: Outcomes, noise: Known) -> None:
    _no_known_variances(noise)
    _require((y == 0) | (y == 1), y, "labels must be 0 or 1")


def _no_known_variances(noise: Tensor | None) -> None:
    if noise is not None:
        law = "known noise variances need a Gaussian likelihood"
        raise DataError(f"{law}, but {noise.shape[-1]} were given to another one")


def _require(allowed: Tensor, y: Tensor, law: str) -> None:
    if not bool(allowed.all()):
        raise DataError(f"{law}, got {float(y[~allowed][0])}")


def _check_prior(name: str, location: float, spread: float) -> None:
    if not 0 < spread < math.inf or not math.isfinite(location):
        law = f"`0 < {name}_spread` and a finite {name}_location must hold"
        raise DataError(f"{law}, got {spread} and {location}")


def _sign(y: Tensor) -> Tensor:
    return (2.0 * y - 1.0)[..., None]


@dataclass(frozen=True)
class Gaussian:
    """y = f + e, e ~ N(0, noise); phi = (log noise), used for observations without a given variance.

    Attributes:
        noise_location: median of log noise under its Cauchy prior; outcomes have variance one.
        noise_spread: half the distance between its quartiles.
    """

    noise_location: float = -6.0
    noise_spread: float = 1.0
    log_concave: bool = field(default=True, init=False)
    conjugate: bool = field(default=True, init=False)
    bounds = staticmethod(log_noise_bounds)

    def __post_init__(self) -> None:
        _check_prior("noise", self.noise_location, self.noise_spread)

    def check(self, y: Outcomes, noise: Known) -> None:
        _require(torch.isfinite(y), y, "outcomes must be finite")

    def start(self) -> jt.Float[Tensor, "1"]:
        return torch.tensor([self.noise_location], **CPU_DOUBLES)

    def log_prior(self, phi: jt.Float[Tensor, "*b 1"]) -> jt.Float[Tensor, "*b"]:
        return log_noise_prior(phi[..., 0], self.noise_location, self.noise_spread)[0]

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """-(log(2π noise) + ((y - mean)² + var) / noise) / 2."""
        level = observation_noise(phi[..., 0].exp(), noise, y.shape[-1])[0]
        return -0.5 * (torch.log(2.0 * math.pi * level) + ((y - mean).square() + var) / level)

    def sites(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Sites:
        """(y / noise, 1 / noise): the likelihood itself."""
        precision = observation_noise(phi[..., 0].exp(), noise, y.shape[-1])[0].reciprocal()
        return y * precision, precision

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log N(y | mean, var + noise)."""
        total = var + observation_noise(phi[..., 0].exp(), noise, y.shape[-1])[0]
        return -0.5 * (torch.log(2.0 * math.pi * total) + (y - mean).square() / total)

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        return mean

    def latent_noise(self, phi: Free, precision: Value) -> jt.Float[Tensor, "*rb"]:
        return phi[..., 0].exp()


@dataclass(frozen=True)
class BernoulliLogit:
    """p(y = 1 | f) = 1 / (1 + e⁻ᶠ) for labels 0 and 1.

    Attributes:
        polya_gamma: whether the expected log density is bounded from below in closed form, so that full
            natural-gradient steps never lower the bound. If not, it is computed by quadrature: up to
            var = 25 to 1e-9 and its derivatives to 2e-8, relative if they are above 1e-6.
    """

    polya_gamma: bool = True
    log_concave: bool = field(default=True, init=False)
    conjugate: bool = field(default=False, init=False)
    check = _check_labels
    start = _nothing_to_start
    bounds = _nothing_to_bound
    log_prior = _flat
    latent_noise = _noise_of_sites

    def __post_init__(self) -> None:
        check_flags(self, "polya_gamma", error=DataError)

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """E[-log(1 + e⁻ˢᶠ)], s = 2y - 1; or (y - ½) mean - log(2 cosh(c / 2)), c² = mean² + var."""
        if self.polya_gamma:
            c = (mean.square() + var + 1e-12).sqrt()
            return (y - 0.5) * mean - 0.5 * c + logsigmoid(c)
        return quadrature.expectation(lambda f: logsigmoid(_sign(y) * f), mean, var)

    def sites(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Sites:
        """(y - ½, E[ω]), ω ~ PG(1, c) (Jaakkola and Jordan 2000; Wenzel et al. 2019), if it is bounded."""
        if not self.polya_gamma:
            return _cvi_sites(self, y, mean, var, phi, noise)
        omega = quadrature.polya_gamma_mean(torch.hypot(mean, var.clamp(min=0.0).sqrt()))
        return (y - 0.5).expand(omega.shape), omega

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log E[1 / (1 + e⁻ˢᶠ)], s = 2y - 1."""
        return quadrature.log_expectation(lambda f: logsigmoid(_sign(y) * f), mean, var)

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """E[1 / (1 + e⁻ᶠ)]."""
        return quadrature.expectation(torch.sigmoid, mean, var)


@dataclass(frozen=True)
class BernoulliProbit:
    """p(y = 1 | f) = Φ(f) for labels 0 and 1.

    The expected log density is computed by quadrature: up to var = 25 to 1e-8, and its derivatives by mean
    and var to 2e-7, relative if they are above 1e-6.
    """

    log_concave: bool = field(default=True, init=False)
    conjugate: bool = field(default=False, init=False)
    check = _check_labels
    start = _nothing_to_start
    bounds = _nothing_to_bound
    log_prior = _flat
    sites = _cvi_sites
    latent_noise = _noise_of_sites

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """E[log Φ(s f)], s = 2y - 1."""
        return quadrature.expectation(lambda f: torch.special.log_ndtr(_sign(y) * f), mean, var)

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log Φ(s mean / √(1 + var)), s = 2y - 1 (Rasmussen and Williams 2006, equation 3.82)."""
        value: Tensor = torch.special.log_ndtr((2.0 * y - 1.0) * mean / (1.0 + var).sqrt())
        return value

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """Φ(mean / √(1 + var))."""
        return torch.special.ndtr(mean / (1.0 + var).sqrt())  # type: ignore[no-any-return]


@dataclass(frozen=True)
class StudentT:
    """y = f + scale e, e of Student's t with df degrees of freedom; phi = (log scale²). Not log-concave.

    log p = log t(0) - k log(1 + X² / a²), X = y - f, a² = df scale², k = (df + 1) / 2. Both expectations are
    integrals of E[exp(-t X² / a²)], which has a closed form. So they are accurate also for a scale far below
    √var, where nodes in f would miss the peak.

    Attributes:
        df: degrees of freedom.
        scale_location: median of log scale² under its Cauchy prior; outcomes have variance one.
        scale_spread: half the distance between its quartiles.
    """

    df: float = 4.0
    scale_location: float = -6.0
    scale_spread: float = 1.0
    log_concave: bool = field(default=False, init=False)
    conjugate: bool = field(default=False, init=False)
    bounds = staticmethod(log_noise_bounds)
    sites = _cvi_sites

    def __post_init__(self) -> None:
        if not 0 < self.df < math.inf:
            raise DataError(f"`0 < df` and a finite df must hold, got {self.df}")
        _check_prior("scale", self.scale_location, self.scale_spread)

    def check(self, y: Outcomes, noise: Known) -> None:
        _no_known_variances(noise)
        _require(torch.isfinite(y), y, "outcomes must be finite")

    def start(self) -> jt.Float[Tensor, "1"]:
        return torch.tensor([self.scale_location], **CPU_DOUBLES)

    def log_prior(self, phi: jt.Float[Tensor, "*b 1"]) -> jt.Float[Tensor, "*b"]:
        return log_noise_prior(phi[..., 0], self.scale_location, self.scale_spread)[0]

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log t(0) - k E[log(1 + X² / a²)]."""
        k = 0.5 * (self.df + 1.0)
        constant = math.lgamma(k) - math.lgamma(0.5 * self.df) - 0.5 * math.log(math.pi * self.df)
        return constant - 0.5 * phi[..., :1] - k * quadrature.expected_log1p(*self._ratios(y, mean, var, phi))

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log t(0) + log E[(1 + X² / a²)⁻ᵏ]."""
        power = quadrature.log_expected_power(*self._ratios(y, mean, var, phi), 0.5 * (self.df + 1.0))
        constant = math.lgamma(0.5 * self.df) + 0.5 * math.log(math.pi * self.df)
        return power - constant - 0.5 * phi[..., :1]

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """The mean; if df <= 1, for which there is no mean, the median."""
        return mean

    def latent_noise(self, phi: Free, precision: Value) -> jt.Float[Tensor, "*rb"]:
        """scale² (df + 3) / (df + 1): one over the Fisher information on f, finite for every df."""
        return phi[..., 0].exp() * ((self.df + 3.0) / (self.df + 1.0))

    def _ratios(self, y: Tensor, mean: Tensor, var: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Squared mean and variance of X / a."""
        square = self.df * phi[..., :1].exp()
        return (y - mean).square() / square, var.clamp(min=0.0) / square


@dataclass(frozen=True)
class Poisson:
    """y ~ Poisson(eᶠ): counts. An expected rate eᵘ with u > 30 counts as e³⁰ (u - 29): finite and convex."""

    log_concave: bool = field(default=True, init=False)
    conjugate: bool = field(default=False, init=False)
    start = _nothing_to_start
    bounds = _nothing_to_bound
    log_prior = _flat
    latent_noise = _noise_of_sites

    def check(self, y: Outcomes, noise: Known) -> None:
        _no_known_variances(noise)
        _require(y.isfinite() & (y >= 0) & (y == y.floor()), y, "counts must be whole numbers of at least 0")

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """y mean - exp(mean + var / 2) - log y!."""
        return y * mean - quadrature.expected_rate(mean, var)[0] - torch.lgamma(y + 1.0)

    def sites(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Sites:
        """(y - e + e mean, e), e = exp(mean + var / 2), at most e³⁰."""
        e = quadrature.expected_rate(mean, var)[1]
        return conjugate_sites(y - e, -e, mean)

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """log E[eʸᶠ exp(-eᶠ) / y!]."""
        return quadrature.log_poisson_mixture(y, mean, var)

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """exp(mean + var / 2)."""
        return quadrature.expected_rate(mean, var)[0]


@dataclass(frozen=True)
class MonteCarloLikelihood:
    """A likelihood given as a function; expectations are means over fixed f_i = mean + √var z_i.

    The z are the normal quantiles of evenly spaced probabilities, symmetric and scaled to variance one:
    exact for a log density that is quadratic in f.

    Attributes:
        log_density: log p(y | f) of y (*b, n, 1) and f (*rb, n, samples), differentiable by autograd by f.
        samples: number of draws.
        log_concave: whether log p(y | f) is concave in f.
        response: E[y | f] of f; f itself unless given.
    """

    log_density: Callable[[Tensor, Tensor], Tensor]
    samples: int = 64
    log_concave: bool = False
    response: Callable[[Tensor], Tensor] = operator.pos
    conjugate: bool = field(default=False, init=False)
    start = _nothing_to_start
    bounds = _nothing_to_bound
    log_prior = _flat
    sites = _cvi_sites
    latent_noise = _noise_of_sites

    def __post_init__(self) -> None:
        check_flags(self, "log_concave", error=DataError)
        if not self.samples >= 2:
            raise DataError(f"`samples >= 2` must hold, got {self.samples!r}")

    def check(self, y: Outcomes, noise: Known) -> None:
        _no_known_variances(noise)

    def expected_log_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """The mean of log p(y | f_i)."""
        return self.log_density(y[..., None], self._draws(mean, var)).mean(-1)

    def log_predictive_density(self, y: Outcomes, mean: Value, var: Value, phi: Free, noise: Known) -> Value:
        """The log of the mean of p(y | f_i)."""
        return self.log_density(y[..., None], self._draws(mean, var)).logsumexp(-1) - math.log(self.samples)

    def predictive_mean(self, mean: Value, var: Value, phi: Free) -> Value:
        """The mean of response(f_i)."""
        return self.response(self._draws(mean, var)).mean(-1)

    def _draws(self, mean: Tensor, var: Tensor) -> Tensor:
        return quadrature.spread(mean, var, quadrature.normal_draws(self.samples))

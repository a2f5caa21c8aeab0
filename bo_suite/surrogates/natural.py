"""Natural gradients for Gaussian variational posteriors: conjugate steps, the Bayesian learning rule, bounds.

One convention throughout. A Gaussian N(mean, cov) with precision P = cov⁻¹ has the natural parameters
η₁ = P mean (`linear`) and η₂ = -P/2 (`quadratic`), so that log q(f) = η₁ᵀf + fᵀη₂f + const. A precision is
always called so and enters η₂ halved and negated. Gradients and Hessians are those of log densities, which
are to be large, not of losses. A natural gradient is the gradient by the *expectation* parameters
(mean, cov + mean meanᵀ), which is why a step is a weighted mean of natural parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError, NumericalError
from bo_suite.linalg import jittered_cholesky, solve_lower


@dataclass(frozen=True, eq=False)
class Natural:
    """Natural parameters of Gaussians: log q(f) = linearᵀ f + fᵀ quadratic f + const.

    Attributes:
        linear: P mean.
        quadratic: -P/2, symmetric; a step may leave it indefinite, which `moments` refuses.

    Raises:
        DataError: shapes that do not fit together.
    """

    linear: jt.Float[Tensor, "*b m"]
    quadratic: jt.Float[Tensor, "*b m m"]

    def __post_init__(self) -> None:
        if self.quadratic.shape != (*self.linear.shape, self.linear.shape[-1]):
            raise DataError(
                "linear must be (*b, m) and quadratic (*b, m, m), got "
                f"{tuple(self.linear.shape)} and {tuple(self.quadratic.shape)}"
            )

    @staticmethod
    def from_moments(mean: jt.Float[Tensor, "*b m"], cov: jt.Float[Tensor, "*b m m"]) -> "Natural":
        """(cov⁻¹ mean, -cov⁻¹/2), through a Cholesky factor of cov.

        Raises:
            NumericalError: a covariance that does not factorise, jitter included.
        """
        chol, _ = jittered_cholesky(cov)
        return Natural(_solve(chol, mean), -0.5 * torch.cholesky_inverse(chol))

    @property
    def precision(self) -> jt.Float[Tensor, "*b m m"]:
        """P = -2 quadratic."""
        return -2.0 * self.quadratic

    def moments(self) -> tuple[jt.Float[Tensor, "*b m"], jt.Float[Tensor, "*b m m"]]:
        """Mean P⁻¹ linear and covariance P⁻¹, through a Cholesky factor of P.

        Raises:
            NumericalError: a precision that is not positive definite, without any jitter.
        """
        chol = _precision_cholesky(self.precision)
        return _solve(chol, self.linear), torch.cholesky_inverse(chol)


def damped_natural_update(current: Natural, target: Natural, rate: float) -> Natural:
    """η ← (1 - rate) η + rate η*, the natural-gradient step towards a target.

    Positive definite if both are; else see `riemannian_step`.

    Raises:
        DataError: a rate outside (0, 1].

    Khan and Lin (2017), where it is a mirror-descent step in the expectation parameters.
    """
    _check_rate(rate)
    return Natural(
        (1.0 - rate) * current.linear + rate * target.linear,
        (1.0 - rate) * current.quadratic + rate * target.quadratic,
    )


def conjugate_sites(
    gradient: jt.Float[Tensor, "*b n"], hessian: jt.Float[Tensor, "*b n"], mean: jt.Float[Tensor, "*b n"]
) -> tuple[jt.Float[Tensor, "*b n"], jt.Float[Tensor, "*b n"]]:
    """Gaussian sites that stand for a factorised likelihood: linear g - h mean, and precision -h.

    Args:
        gradient: g = E_q[d log p(yᵢ | fᵢ) / dfᵢ].
        hessian: h = E_q[d² log p(yᵢ | fᵢ) / dfᵢ²], the diagonal; not positive if log p is concave.
        mean: E_q[f], the prior's mean included.

    Khan and Lin (2017), with the gradients by expectation parameters of Opper and Archambeau (2009).
    """
    return gradient - hessian * mean, -hessian


def conjugate_update(
    current: Natural,
    prior: Natural,
    linear: jt.Float[Tensor, "*b n"],
    precision: jt.Float[Tensor, "*b n"],
    rate: float,
) -> Natural:
    """One damped step towards prior times sites, q being over the sites' own f.

    η₁ ← (1 - rate) η₁ + rate (η₁ of the prior + linear),
    η₂ ← (1 - rate) η₂ + rate (η₂ of the prior - diag(precision)/2).
    With a Gaussian likelihood and rate 1 it is the exact posterior, wherever it starts from.

    Args:
        current: q, whose expectations the sites were computed under.
        prior: p(f).
        linear: the sites' η₁, see `conjugate_sites`.
        precision: the sites' precision, which enters η₂ halved and negated.
        rate: in (0, 1].

    Raises:
        DataError: a rate outside (0, 1].

    Khan and Lin (2017), conjugate-computation variational inference.
    """
    target = Natural(prior.linear + linear, prior.quadratic - 0.5 * torch.diag_embed(precision))
    return damped_natural_update(current, target, rate)


def bayesian_learning_rule(
    current: Natural, gradient: jt.Float[Tensor, "*b m"], hessian: jt.Float[Tensor, "*b m m"], rate: float
) -> Natural:
    """One step of the Bayesian learning rule with a full covariance.

    η₁ ← (1 - rate) η₁ + rate (g - H mean), η₂ ← (1 - rate) η₂ + rate H/2; that is, P' = (1 - rate) P - rate H
    and mean' = mean + rate P'⁻¹ g. Where -H is not positive definite P' need not be either: see
    `riemannian_step` with target -H.

    Args:
        current: q, with moments.
        gradient: g = E_q[∇ log p(y, f)], of the log joint density, prior included.
        hessian: H = E_q[∇² log p(y, f)].
        rate: in (0, 1].

    Raises:
        DataError: a rate outside (0, 1].
        NumericalError: a current precision that is not positive definite.

    Khan and Rue (2023), the variational online Newton method.
    """
    mean = _solve(_precision_cholesky(current.precision), current.linear)
    target = Natural(gradient - (hessian @ mean[..., None])[..., 0], 0.5 * hessian)
    return damped_natural_update(current, target, rate)


def bayesian_learning_rule_diagonal(
    mean: jt.Float[Tensor, "*b m"],
    precision: jt.Float[Tensor, "*b m"],
    gradient: jt.Float[Tensor, "*b m"],
    hessian_diagonal: jt.Float[Tensor, "*b m"],
    rate: float,
) -> tuple[jt.Float[Tensor, "*b m"], jt.Float[Tensor, "*b m"]]:
    """Mean and precision after one step with a diagonal covariance, the precision positive by construction.

    p' = (p + (p + rate G)² / p) / 2 with G = -h - p, and mean' = mean + rate g / p'. The new precision
    divides, as in the full rule; for every p > 0 and rate <= 1 the mean then does not overshoot the
    maximum of a concave quadratic, since 2 rate r <= 1 + (1 - rate + rate r)² for r = -h/p > 0.

    Args:
        mean: of q.
        precision: p > 0 of q.
        gradient: g = E_q[∇ log p(y, f)], of the log joint density, prior included.
        hessian_diagonal: h = E_q of its second derivatives, of any sign.
        rate: in (0, 1].

    Raises:
        DataError: a rate outside (0, 1].

    Khan and Rue (2023), with the correction of Lin, Schmidt and Khan (2020), appendix E.3.
    """
    _check_rate(rate)
    plain = (1.0 - rate) * precision - rate * hessian_diagonal
    precision = 0.5 * (precision + plain.square() / precision)
    return mean + rate * gradient / precision, precision


def riemannian_step(
    precision: jt.Float[Tensor, "*b m m"], target: jt.Float[Tensor, "*b m m"], rate: float
) -> jt.Float[Tensor, "*b m m"]:
    """A step of a precision towards any symmetric target that stays positive definite.

    P + rate G + rate²/2 G P⁻¹ G with G = target - P, computed as (P + WᵀW)/2, where P = L Lᵀ and
    W = L⁻¹ (P + rate G): half of P plus a square. To first order in the rate it is the damped step.

    Args:
        precision: P, positive definite.
        target: symmetric, of any signs; -E_q[∇² log p(y, f)] in the Bayesian learning rule.
        rate: in (0, 1].

    Raises:
        DataError: a rate outside (0, 1].
        NumericalError: a P that is not positive definite.

    Lin, Schmidt and Khan (2020), appendix E.
    """
    _check_rate(rate)
    white = solve_lower(_precision_cholesky(precision), (1.0 - rate) * precision + rate * target)
    step = 0.5 * (precision + white.mT @ white)
    return 0.5 * (step + step.mT)


def gauss_newton_precision(
    jacobian: jt.Float[Tensor, "*b o m"], weights: jt.Float[Tensor, "*b o"] | None = None
) -> jt.Float[Tensor, "*b m m"]:
    """Jᵀ diag(w) J, which stands for minus the Hessian and is positive semidefinite for w >= 0.

    Args:
        jacobian: J, of `o` outputs by `m` parameters.
        weights: w, minus the second derivatives of the log density by the outputs; ones when None.

    Khan and Rue (2023), the generalised Gauss-Newton approximation.
    """
    right = jacobian if weights is None else weights[..., None] * jacobian
    product = jacobian.mT @ right
    return 0.5 * (product + product.mT)


def gaussian_kl(
    mean: jt.Float[Tensor, "*b m"],
    chol: jt.Float[Tensor, "*b m m"],
    prior_chol: jt.Float[Tensor, "*b m m"],
) -> jt.Float[Tensor, "*b"]:
    """KL[N(mean, S Sᵀ) || N(0, L Lᵀ)] of lower-triangular S = `chol` and L = `prior_chol`.

    (‖L⁻¹S‖² + ‖L⁻¹mean‖² - m)/2 + Σ log|Lᵢᵢ| - Σ log|Sᵢᵢ|. Neither upper triangle is read.

    Rasmussen and Williams (2006), equation A.23.
    """
    white = solve_lower(prior_chol, torch.cat((chol.tril(), mean[..., None]), -1))
    # L⁻¹S is lower triangular, with the diagonal Sᵢᵢ/Lᵢᵢ
    return whitened_kl(white[..., -1], white[..., :-1])


def whitened_kl(mean: jt.Float[Tensor, "*b m"], chol: jt.Float[Tensor, "*b m m"]) -> jt.Float[Tensor, "*b"]:
    """KL[N(mean, S Sᵀ) || N(0, I)] of a lower-triangular S = `chol`.

    (‖S‖² + ‖mean‖² - m)/2 - Σ log|Sᵢᵢ|. Both the norm and the determinant are those of the lower triangle,
    since with the upper one in S Sᵀ the diagonal would not give the determinant, nor the result a bound.

    Rasmussen and Williams (2006), equation A.23.
    """
    trace = chol.tril().square().sum((-2, -1))
    logdet = chol.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    return 0.5 * (trace + mean.square().sum(-1) - mean.shape[-1]) - logdet


def gaussian_elbo(
    y: jt.Float[Tensor, "*b n"],
    mean: jt.Float[Tensor, "*b n"],
    var: jt.Float[Tensor, "*b n"],
    noise: jt.Float[Tensor, "*b #n"],
    kl: jt.Float[Tensor, "*b"],
) -> jt.Float[Tensor, "*b"]:
    """Σᵢ E_q[log N(yᵢ | fᵢ, noise)] - kl in closed form, at most the log evidence.

    -½ Σᵢ (log(2π noise) + ((yᵢ - meanᵢ)² + varᵢ)/noise) - kl.

    Args:
        y: outcomes.
        mean: of the marginals q(fᵢ).
        var: of the same.
        noise: variance of an observation, one a replicate (trailing dimension 1) or one an observation.
        kl: KL of q from the prior.

    Opper and Archambeau (2009).
    """
    each = (2.0 * math.pi * noise).log() + ((y - mean).square() + var) / noise
    return -0.5 * each.sum(-1) - kl


def monte_carlo_elbo(
    log_likelihood: Callable[[Tensor], Tensor],
    samples: jt.Float[Tensor, "s *b n"],
    kl: jt.Float[Tensor, "*b"],
) -> jt.Float[Tensor, "*b"]:
    """mean_s log p(y | fₛ) - kl, an unbiased estimate of the bound.

    Args:
        log_likelihood: of f (s, *b, n), summed over the n observations: (s, *b).
        samples: fₛ ~ q.
        kl: KL of q from the prior.

    Raises:
        DataError: a log likelihood of another shape.

    Kingma and Welling (2014), equation 7.
    """
    value = log_likelihood(samples)
    if value.shape != samples.shape[:-1]:
        raise DataError(
            f"log_likelihood(samples) must be (s, *b) = {tuple(samples.shape[:-1])}, got {tuple(value.shape)}"
        )
    return value.mean(0) - kl


def _check_rate(rate: float) -> None:
    if not 0.0 < rate <= 1.0:
        raise DataError(f"`0 < rate <= 1` must hold, got {rate!r}")


def _solve(chol: Tensor, right: Tensor) -> Tensor:
    """(L Lᵀ)⁻¹ v of vectors v (*b, m)."""
    return solve_lower(chol, solve_lower(chol, right[..., None]), transposed=True)[..., 0]


def _precision_cholesky(precision: Tensor) -> Tensor:
    """The lower factor of a precision, never with jitter.

    The least eigenvalues of a precision are its widest directions: a jitter that is small beside its
    diagonal can exceed them by far, and would hide a step that went wrong.
    """
    chol: Tensor
    chol, info = torch.linalg.cholesky_ex(precision)
    if bool(info.any()):
        worst = int(info.flatten().argmax())
        name = f"batch element {worst} of {tuple(info.shape)}" if info.ndim else "it"
        raise NumericalError(f"a precision must be positive definite, but {name} is not; take a smaller step")
    return chol

"""Natural-gradient steps of a Gaussian q.

A natural gradient is the gradient by the expectation parameters (mean, cov + mean meanᵀ) of q. So a step is a
weighted mean of the natural parameters P mean and -P/2 of q, P = cov⁻¹, and of those of a target: the prior
times one Gaussian site for each observation.
"""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError, NumericalError
from bo_suite.linalg import solve_lower


def conjugate_sites(
    gradient: jt.Float[Tensor, "*b n"],
    hessian: jt.Float[Tensor, "*b n"],
    mean: jt.Float[Tensor, "*b n"],
) -> tuple[jt.Float[Tensor, "*b n"], jt.Float[Tensor, "*b n"]]:
    """Gaussian sites in place of a factorised likelihood: linear g - h mean, and precision -h.

    Args:
        gradient: g = E_q[d log p(yᵢ | fᵢ) / dfᵢ].
        hessian: h = E_q[d² log p(yᵢ | fᵢ) / dfᵢ²], the diagonal; not positive if log p is concave.
        mean: E_q[f], the prior's mean included.

    Khan and Lin (2017), with the gradients by expectation parameters of Opper and Archambeau (2009).
    """
    return gradient - hessian * mean, -hessian


def riemannian_step(
    precision: jt.Float[Tensor, "*b m m"], target: jt.Float[Tensor, "*b m m"], rate: float
) -> jt.Float[Tensor, "*b m m"]:
    """A step of a precision towards any symmetric target that stays positive definite.

    P + rate G + rate²/2 G P⁻¹ G with G = target - P, computed as (P + WᵀW)/2, where P = L Lᵀ and
    W = L⁻¹ (P + rate G): half of P plus a square. To first order in the rate it is the damped step
    (1 - rate) P + rate target.

    Args:
        precision: P, positive definite.
        target: symmetric, of any signs; -E_q[∇² log p(y, f)] in the Bayesian learning rule.
        rate: in (0, 1].

    Raises:
        DataError: a rate outside (0, 1].
        NumericalError: a P that is not positive definite.

    Lin, Schmidt and Khan (2020), appendix E.
    """
    if not 0.0 < rate <= 1.0:
        raise DataError(f"`0 < rate <= 1` must hold, got {rate!r}")
    # no jitter: the least eigenvalues of a precision are its widest directions, which jitter would change
    chol, info = torch.linalg.cholesky_ex(precision)
    if bool(info.any()):
        worst = int(info.flatten().argmax())
        name = f"batch element {worst} of {tuple(info.shape)}" if info.ndim else "it"
        raise NumericalError(f"a precision must be positive definite, but {name} is not; take a smaller step")
    white = solve_lower(chol, (1.0 - rate) * precision + rate * target)
    step = 0.5 * (precision + white.mT @ white)
    return 0.5 * (step + step.mT)

"""Leave-one-out predictions of an exact Gaussian process, in closed form."""

import jaxtyping as jt
import torch

from bo_suite.surrogates.process import ExactProcess


def leave_one_out(
    process: ExactProcess, y: jt.Float[torch.Tensor, "*b n"]
) -> tuple[jt.Float[torch.Tensor, "*b n"], jt.Float[torch.Tensor, "*b n"]]:
    """Mean and variance of each observation given all others, noise included, at fixed hyperparameters.

    With A = K + noise and α = A⁻¹ (y - m): y_i - α_i / [A⁻¹]_ii and 1 / [A⁻¹]_ii (Rasmussen and Williams
    2006, equation 5.12). The prior mean m is that of all observations.

    Args:
        process: the posterior.
        y: the outcomes that it was fitted to.
    """
    variance = 1.0 / torch.cholesky_inverse(process.chol).diagonal(dim1=-2, dim2=-1)
    return y - process.weights[..., 0] * variance, variance

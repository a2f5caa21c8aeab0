"""Leave-one-out predictions of an exact Gaussian process, in closed form."""

import jaxtyping as jt
import torch

from bo_suite.surrogates.process import ExactProcess


def leave_one_out(
    process: ExactProcess, y: jt.Float[torch.Tensor, "*b n"]
) -> tuple[jt.Float[torch.Tensor, "*b n"], jt.Float[torch.Tensor, "*b n"]]:
    """Mean and variance of each outcome given all else, noise included, at fixed hyperparameters.

    With A = K + noise and α = A⁻¹ (y - m): y_i - α_i / [A⁻¹]_ii and 1 / [A⁻¹]_ii (Rasmussen and Williams
    2006, equation 5.12). The prior mean m is that of all observations.

    Args:
        process: the posterior.
        y: the outcomes that it was fitted to, without derivatives, which follow them in the process.
    """
    n = y.shape[-1]
    variance = 1.0 / torch.cholesky_inverse(process.chol).diagonal(dim1=-2, dim2=-1)[..., :n]
    return y - process.weights[..., :n, 0] * variance, variance


def density_of_each(
    mean: jt.Float[torch.Tensor, "*b n"],
    var: jt.Float[torch.Tensor, "*b n"],
    y: jt.Float[torch.Tensor, "*b n"],
) -> jt.Float[torch.Tensor, "*b n"]:
    """log N(y_i | mean_i, var_i), up to a constant."""
    return -0.5 * ((y - mean).square() / var + var.log())

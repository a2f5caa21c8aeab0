"""Leave-one-out densities of an exact Gaussian process, in closed form."""

import math

import jaxtyping as jt
import torch

from bo_suite.surrogates.process import ExactProcess


def leave_one_out_log_density(process: ExactProcess) -> jt.Float[torch.Tensor, "*b n"]:
    """log p(y_i | all other observations) of each observation i, noise included, at fixed hyperparameters.

    With A = K + noise and α = A⁻¹ (y - m): the mean is y_i - α_i / [A⁻¹]_ii and the variance 1 / [A⁻¹]_ii
    (Rasmussen and Williams 2006, equation 5.12). The prior mean m is that of all observations.
    """
    precision = torch.cholesky_inverse(process.chol).diagonal(dim1=-2, dim2=-1)
    standard = process.weights[..., 0].square() / precision
    return 0.5 * (precision.log() - standard - math.log(2.0 * math.pi))

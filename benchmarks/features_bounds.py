"""The fixture of benchmarks/features.py: bounds and evidences on 500 points of one input, both maximised.

Prior mean zero and no log priors, so that the largest evidence of the squared exponential kernel is 188.829.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.surrogates import SGPR, ExactGP
from bo_suite.surrogates.variational.likelihoods import Gaussian

FIXTURE = Path(__file__).parents[1] / "tests" / "surrogates" / "fixtures" / "pyrox_svgp_xy.csv"
FLAT = Gaussian(noise_location=-4.0, noise_spread=1e6)

KERNELS: dict[str, Any] = {
    "squared exponential": gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double(),
    "Matern-5/2": None,
}

VARIABLES: dict[str, Any] = {"points": 20}
"""Inducing variables, twenty of them."""


def fixture() -> Dataset:
    """The 500 points, the input scaled to [0, 1]."""
    x, y = torch.from_numpy(np.loadtxt(FIXTURE, delimiter=",", skiprows=1)).unbind(-1)
    return Dataset(((x - x.min()) / (x.max() - x.min()))[:, None], y)


def log_evidence(kernel: Any, data: Dataset, eta: Tensor) -> float:
    """Of (theta, log noise), by the dense formula."""
    k = kernel_for(kernel, data.columns).gram(eta[:-1], data.x)[0]
    noisy = k + eta[-1].exp() * torch.eye(len(k), dtype=k.dtype)
    normal = torch.distributions.MultivariateNormal(torch.zeros_like(data.y), noisy)
    return float(normal.log_prob(data.y))


def best_evidence(kernel: Any, data: Dataset) -> float:
    """The largest evidence found, from the fit of an exact process on."""
    process = ExactGP(kernel=kernel, mean=0.0, restarts=4).fit(data, Seeds.of(0, 0))
    return climb(lambda eta: log_evidence(kernel, data, eta), process.hyperparameters)[0]


def best_bound(kernel: Any, inducing: Any, data: Dataset) -> dict[str, float]:
    """The largest bound found with a fit's inducing variables, and the evidence at its hyperparameters."""
    learned = isinstance(inducing, int)
    surrogate = SGPR(
        inducing=inducing, kernel=kernel, learn_inducing=learned, likelihood=FLAT, mean=0.0, jitter=1e-8
    )
    process = surrogate.fit(data, Seeds.of(0, 0))
    value, eta = climb(
        lambda eta: float(surrogate.bound(data, eta, process.inducing)), process.hyperparameters
    )
    return {"value": value, "evidence": log_evidence(kernel, data, eta)}


def climb(function: Callable[[Tensor], float], start: Tensor) -> tuple[float, Tensor]:
    """The largest value that L-BFGS reaches with central differences, and where."""
    found = minimize(
        lambda point: -function(torch.from_numpy(point)), start.numpy(), jac="3-point", method="L-BFGS-B"
    )
    return -float(found.fun), torch.from_numpy(found.x)

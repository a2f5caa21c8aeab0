"""The fixture of benchmarks/features.py: bounds and evidences on 500 points of one input, both maximised.

Prior mean zero and no log priors, so that the largest evidence of the squared exponential kernel is 188.829.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.kernels import ArcCosine, ChordalMatern52, ChordalSquaredExponential, Zonal
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.surrogates import SGPR, ExactGP
from bo_suite.surrogates.features import Activations, Orthogonal, SphericalHarmonics
from bo_suite.surrogates.variational.likelihoods import Gaussian

FIXTURE = Path(__file__).parents[1] / "tests" / "surrogates" / "fixtures" / "pyrox_svgp_xy.csv"
FLAT = Gaussian(noise_location=-4.0, noise_spread=1e6)

KERNELS: dict[str, Any] = {
    "squared exponential": gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double(),
    "Matern-5/2": None,
    "zonal, arc-cosine 1": Zonal(),
    "zonal, arc-cosine 2": Zonal(ArcCosine(2)),
    "zonal, Matern-5/2": Zonal(ChordalMatern52()),
    "zonal, squared exponential": Zonal(ChordalSquaredExponential()),
}

VARIABLES: dict[str, Any] = {
    "points": 20,
    "harmonics": SphericalHarmonics(count=20),
    "activations": Activations(20),
    "harmonics + points": Orthogonal(SphericalHarmonics(count=10), 10),
    "activations + points": Orthogonal(Activations(10), 10),
}
"""Twenty inducing variables of each kind."""


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


def best_evidence(kernel: Any, data: Dataset) -> tuple[float, Tensor]:
    """The largest evidence found, from the fit of an exact process on, and where."""
    process = ExactGP(kernel=kernel, mean=0.0, restarts=4).fit(data, Seeds.of(0, 0))
    return climb(lambda eta: log_evidence(kernel, data, eta), process.hyperparameters)


def best_bound(kernel: Any, inducing: Any, data: Dataset) -> dict[str, float]:
    """The largest bound found, and the evidence at its hyperparameters.

    It climbs from a fit, which has moved the inducing variables, and from where the evidence is largest.
    """
    surrogate = SGPR(inducing=inducing, kernel=kernel, learn_inducing=True, likelihood=FLAT, mean=0.0)
    process = surrogate.fit(data, Seeds.of(0, 0))
    best = best_evidence(kernel, data)[1]
    starts = [
        (process.variables, process.hyperparameters),
        (process.variables, best),
        (surrogate.place(data, best, Seeds.of(0, 0)), best),
    ]
    bounds = [climb(lambda eta, u=u: float(surrogate.bound(data, eta, u)), eta) for u, eta in starts]
    value, eta = max(bounds, key=lambda pair: pair[0])
    return {"value": value, "evidence": log_evidence(kernel, data, eta)}


def climb(function: Callable[[Tensor], float], start: Tensor) -> tuple[float, Tensor]:
    """The largest value that L-BFGS reaches with central differences, and where."""

    def loss(point: np.ndarray) -> float:
        try:
            return -function(torch.from_numpy(point))
        except NumericalError:
            return 1e6

    box = [(math.log(0.01), math.log(1e3))] * (len(start) - 1) + [(math.log(1e-6), math.log(1e2))]
    found = minimize(loss, start.numpy(), jac="3-point", method="L-BFGS-B", bounds=box)
    return -float(found.fun), torch.from_numpy(found.x)

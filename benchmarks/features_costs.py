"""Times of benchmarks/features.py: training at full size, and the steps of a sparse process."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from sparse_peers import Data
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Kernel, Zonal
from bo_suite.linalg.factors import Lower
from bo_suite.surrogates import SGPR
from bo_suite.surrogates.basis import inducing_basis
from bo_suite.surrogates.features import (
    Activations,
    InducingCovariance,
    InducingVariables,
    Orthogonal,
    SphericalHarmonics,
)
from bo_suite.surrogates.variational.collapsed import CollapsedObjective

COUNT, JITTER, PREDICTED = 512, 1e-8, 1000

COSTS: dict[str, Any] = {
    "harmonics": SphericalHarmonics(count=COUNT),
    "harmonics, factorised as if dense": SphericalHarmonics(count=COUNT),
    "points, zonal": COUNT,
    "activations": Activations(COUNT),
    "harmonics + points": Orthogonal(SphericalHarmonics(count=COUNT // 2), COUNT // 2),
}
"""Inducing variables whose costs are compared, all with the same kernel."""


class Dense:
    """Inducing variables that hide that their covariance is diagonal."""

    def __init__(self, variables: InducingVariables) -> None:
        self._variables = variables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._variables, name)

    def moved(self, parameters: Tensor) -> "Dense":
        """The same with other parameters."""
        return Dense(self._variables.moved(parameters))

    def covariance(self, kernel: Kernel, theta: Tensor, jitter: Tensor | float) -> InducingCovariance:
        """K_uu with a dense factor."""
        matrix = torch.diag_embed(self._variables.variances(kernel, theta))
        chol, info = torch.linalg.cholesky_ex(matrix)
        return InducingCovariance(
            Lower(chol), info, self._variables.covariance(kernel, theta, jitter).pullback
        )


def train_large(surrogate: Any, data: Data) -> dict[str, float]:
    """Seconds of one fit on two threads, and its scores."""
    torch.set_num_threads(2)
    try:
        start, cpu = time.perf_counter(), time.process_time()
        process = surrogate.fit(Dataset(data.x, data.y), Seeds.of(0, 0))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    finally:
        torch.set_num_threads(1)
    mean, variance = process.mean_and_var(data.test_x)
    nlpd, rmse = data.score(lambda x: (mean, variance + process.noise))
    return {"seconds": seconds, "cpu": cpu, "nlpd": nlpd, "rmse": rmse}


def costs(name: str, data: Data) -> dict[str, float]:
    """Median CPU seconds of the steps, at the parameters where a fit starts."""
    inducing, kernel = COSTS[name], Zonal()
    surrogate, observations = SGPR(inducing=inducing, kernel=kernel), Dataset(data.x, data.y)
    eta = torch.cat((kernel.start(data.x.shape[-1]), torch.tensor([-4.0], dtype=torch.float64)))
    variables: Any = surrogate.place(observations, eta, Seeds.of(0, 0))
    if "dense" in name:
        variables = Dense(variables)
    objective = CollapsedObjective(kernel, observations, variables, None, JITTER, -6.0, 1.0, [])
    basis = inducing_basis(kernel, eta[:-1], variables, JITTER)
    process = surrogate.process(observations, eta, variables)
    rows = data.test_x[:PREDICTED]
    calls: dict[str, Callable[[], Any]] = {
        "objective": lambda: objective(eta[None]),
        "factorise": lambda: variables.covariance(kernel, eta[:-1], JITTER),
        "whiten": lambda: basis.whiten(rows),
        "predict": lambda: process.mean_and_var(rows),
        "absorb": lambda: process.absorb(data.test_x[:1], data.test_y[:1]),
    }
    return {step: statistics.median(cpu_seconds(call) for _ in range(9)) for step, call in calls.items()}


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start

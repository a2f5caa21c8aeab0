"""The loop of BoTorch's tutorials."""

from dataclasses import dataclass
from typing import Any

import torch

from bo_suite.bench.method import Task
from bo_suite.bench.peers.one_hot import OneHotRows
from bo_suite.bench.peers.seeded import Penalty, SeededPeer
from bo_suite.space.space import Params


@dataclass(frozen=True)
class BoTorchLoop:
    """The loop of BoTorch's tutorials, on the unit cube.

    Sobol points first (2 per dimension, at most 10). Then a SingleTaskGP with Normalize and Standardize,
    fitted by fit_gpytorch_mll, and LogExpectedImprovement (qLogNoisyExpectedImprovement for noisy
    observations), maximised by optimize_acqf with 10 restarts and 512 raw samples. Discrete columns are
    relaxed and rounded, unordered ones are one-hot. A failure counts as the worst value so far.

    Balandat et al. (2020), "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization".
    """

    name: str = "botorch"

    def start(self, task: Task) -> SeededPeer:
        """The loop before its first point."""
        return SeededPeer(_Loop, task)


class _Loop:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._encoding = OneHotRows(task.space)
        self._initial = self._encoding.design(min(2 * task.space.dim, 10), task.seed)
        self._rows: list[torch.Tensor] = []
        self._values: list[float] = []
        self._outcomes = Penalty(self._observe)

    def _observe(self, params: Params, value: float) -> None:
        self._rows.append(self._encoding.encode(params))
        self._values.append(value)

    def ask(self) -> Params:
        index = len(self._values) + self._outcomes.waiting
        if index < len(self._initial):
            return self._initial[index]
        if not self._values:  # every initial point has failed
            return self._encoding.uniform()
        return self._encoding.decode(self._suggest())

    def _suggest(self) -> torch.Tensor:
        from botorch.acquisition import LogExpectedImprovement
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Normalize, Standardize
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = torch.stack(self._rows)
        y = -torch.tensor(self._values, dtype=torch.float64).unsqueeze(-1)
        model = SingleTaskGP(
            x, y, input_transform=Normalize(self._encoding.dim), outcome_transform=Standardize(m=1)
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition: Any
        if self._task.noisy:
            acquisition = qLogNoisyExpectedImprovement(model, X_baseline=x)
        else:
            acquisition = LogExpectedImprovement(model, best_f=y.max())
        candidate, _ = optimize_acqf(
            acquisition, self._encoding.bounds, q=1, num_restarts=10, raw_samples=512
        )
        row: torch.Tensor = candidate[0]
        return row

    def tell(self, params: Params, value: float) -> None:
        self._outcomes.tell(params, value)

    def fail(self, params: Params) -> None:
        self._outcomes.fail(params)

    def add(self, params: Params, value: float) -> None:
        self._outcomes.tell(params, value)

"""The loops of BoTorch's tutorials for several objectives and for constraints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bo_suite.bench.method import OutcomeTask
from bo_suite.bench.peers.one_hot import OneHotRows
from bo_suite.bench.peers.outcome_rows import OutcomePenalty
from bo_suite.bench.peers.seeded import SeededOutcomes
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals

_DRAWS = {True: 128, False: 256}
"""Samples of the posterior, for several objectives and for one, as the tutorials have them."""


@dataclass(frozen=True)
class BoTorchHypervolume:
    """qLogNoisyExpectedHypervolumeImprovement, as BoTorch's tutorials of several objectives have it.

    2 (d + 1) Sobol points, as in the tutorial. Then a ModelListGP with a SingleTaskGP for each outcome at its
    defaults, fitted by fit_gpytorch_mll, and the acquisition with the reference point of the problem, 128
    Sobol samples and a pruned baseline, maximised by optimize_acqf with 10 restarts, 512 raw samples, batches
    of 5 and 200 iterations. Chosen here: one point at a time (the tutorial has 4), the noise is inferred,
    discrete columns are relaxed and rounded, unordered ones are one-hot. A failure counts as the worst of
    each outcome.

    Daulton et al. (2021), "Parallel Bayesian Optimization of Multiple Noisy Objectives with Expected
    Hypervolume Improvement"; Ament et al. (2023), "Unexpected Improvements to Expected Improvement".
    """

    name: str = "botorch_hypervolume"

    def accepts(self, goals: Goals) -> bool:
        """Several objectives, with or without constraints."""
        return goals.several

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """The loop before its first point."""
        return SeededOutcomes(_Loop, task)


@dataclass(frozen=True)
class BoTorchConstrained:
    """qLogNoisyExpectedImprovement under constraints, as BoTorch's tutorial of a closed loop has it.

    As `BoTorchHypervolume`, with one objective and 256 samples.

    Balandat et al. (2020), "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization".
    """

    name: str = "botorch_constrained"

    def accepts(self, goals: Goals) -> bool:
        """One objective under constraints."""
        return not goals.several and bool(goals.constraints)

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """The loop before its first point."""
        return SeededOutcomes(_Loop, task)


def _column(index: int, samples: Tensor, X: Tensor | None = None) -> Tensor:
    return samples[..., index]


class _Loop:
    def __init__(self, task: OutcomeTask) -> None:
        self._task = task
        self._encoding = OneHotRows(task.space)
        self._initial = self._encoding.design(2 * (task.space.dim + 1), task.seed)
        self._rows: list[Tensor] = []
        self._outcomes: list[list[float]] = []
        self._penalty = OutcomePenalty(task.goals, self._observe)

    def _observe(self, params: Params, losses: list[float], violations: list[float]) -> None:
        self._rows.append(self._encoding.encode(params))
        self._outcomes.append([*(-loss for loss in losses), *violations])

    def ask(self) -> Params:
        index = len(self._rows) + self._penalty.waiting
        if index < len(self._initial):
            return self._initial[index]
        if not self._rows:  # every initial point has failed
            return self._encoding.uniform()
        return self._encoding.decode(self._suggest())

    def _suggest(self) -> Tensor:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import SumMarginalLogLikelihood

        x = torch.stack(self._rows)
        y = torch.tensor(self._outcomes, dtype=torch.float64)
        model = ModelListGP(*(SingleTaskGP(x, column.unsqueeze(-1)) for column in y.T))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        candidate, _ = optimize_acqf(
            self._acquisition(model, x, y.shape[-1]),
            self._encoding.bounds,
            q=1,
            num_restarts=10,
            raw_samples=512,
            options={"batch_limit": 5, "maxiter": 200},
        )
        row: Tensor = candidate[0]
        return row

    def _acquisition(self, model: Any, x: Tensor, outcomes: int) -> Any:
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
        from botorch.acquisition.objective import GenericMCObjective
        from botorch.sampling.normal import SobolQMCNormalSampler

        objectives = self._task.goals.objectives
        sampler = SobolQMCNormalSampler(torch.Size([_DRAWS[self._task.goals.several]]))
        count = len(objectives)
        limits: list[Callable[[Tensor], Tensor]] = [partial(_column, i) for i in range(count, outcomes)]
        if not self._task.goals.several:
            objective = GenericMCObjective(partial(_column, 0))
            return qLogNoisyExpectedImprovement(
                model, x, sampler=sampler, objective=objective, constraints=limits or None
            )
        # BoTorch maximises.
        reference = [-one.sign * at for one, at in zip(objectives, self._task.reference, strict=True)]
        return qLogNoisyExpectedHypervolumeImprovement(
            model,
            reference,
            x,
            sampler=sampler,
            objective=IdentityMCMultiOutputObjective(list(range(count)), num_outcomes=outcomes),
            constraints=limits or None,
            prune_baseline=True,
        )

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._penalty.tell(params, outcomes)

    def fail(self, params: Params) -> None:
        self._penalty.fail(params)

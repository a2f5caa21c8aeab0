"""SCBO, as the tutorial of BoTorch has it."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bo_suite.bench.method import OutcomeTask
from bo_suite.bench.peers.one_hot import OneHotRows
from bo_suite.bench.peers.outcome_rows import OutcomePenalty
from bo_suite.bench.peers.seeded import SeededOutcomes
from bo_suite.bench.peers.turbo import TrustRegion
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals

_INITIAL, _CANDIDATES = 10, 2000


@dataclass(frozen=True)
class Scbo:
    """Constrained Thompson sampling in one trust region, a point at a time.

    As BoTorch's tutorial "Scalable Constrained Bayesian Optimization" has it: 10 Sobol points, then a region
    about the best feasible point (of least total violation if none is feasible) with sides 0.8 of the unit
    cube, doubled and halved as those of TuRBO. A success is a smaller total violation, a first feasible
    point, or a feasible value better by more than 0.1%. A Matérn 5/2 process with length scales in [0.005, 4]
    and noise in [1e-8, 1e-3] for each outcome; 2000 Sobol candidates in the box, each coordinate taken from
    it with probability min(1, 20 / d), and ConstrainedMaxPosteriorSampling.

    Chosen here: constraints are scaled by Standardize, as the objective is (the tutorial's are of unit
    scale); after the end of a region a new one starts with points of its own (the tutorial stops). Discrete
    columns are relaxed and rounded. A failure counts as the worst of each outcome.

    Eriksson and Poloczek (2021), "Scalable Constrained Bayesian Optimization".
    """

    name: str = "scbo"

    def accepts(self, goals: Goals) -> bool:
        """One objective under constraints."""
        return not goals.several and bool(goals.constraints)

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """The first region before its first point."""
        return SeededOutcomes(_Loop, task)


class _Loop:
    def __init__(self, task: OutcomeTask) -> None:
        self._encoding = OneHotRows(task.space)
        self._penalty = OutcomePenalty(task.goals, self._observe)
        self._start_region(task.seed)

    def _start_region(self, seed: int) -> None:
        self._region = TrustRegion(max(4, self._encoding.dim))
        self._initial = self._encoding.design(_INITIAL, seed)
        self._rows: list[Tensor] = []
        self._losses: list[float] = []
        self._violations: list[list[float]] = []

    def _observe(self, params: Params, losses: list[float], violations: list[float]) -> None:
        if len(self._rows) >= len(self._initial):
            self._region = self._region.after(self._is_success(losses[0], violations))
        self._rows.append(self._encoding.encode(params))
        self._losses.append(losses[0])
        self._violations.append(violations)
        if self._region.ended:
            self._start_region(int(torch.randint(2**31 - 1, (1,))))

    def _best(self) -> int:
        """Index of the best feasible point, or of that of least total violation."""
        totals = [_total(own) for own in self._violations]
        return min(range(len(totals)), key=lambda i: (totals[i], self._losses[i] if totals[i] == 0 else 0.0))

    def _is_success(self, loss: float, violations: list[float]) -> bool:
        best = self._best()
        before, total = _total(self._violations[best]), _total(violations)
        if total > 0.0 or before > 0.0:
            return total < before
        return loss < self._losses[best] - 1e-3 * abs(self._losses[best])

    def ask(self) -> Params:
        index = len(self._rows) + self._penalty.waiting
        if index < len(self._initial):
            return self._initial[index]
        if not self._rows:  # every initial point has failed
            return self._encoding.uniform()
        return self._encoding.decode(self._suggestion())

    def _suggestion(self) -> Tensor:
        from botorch.generation.sampling import ConstrainedMaxPosteriorSampling
        from botorch.models import ModelListGP
        from gpytorch.settings import max_cholesky_size

        x = torch.stack(self._rows)
        gains = -torch.tensor(self._losses, dtype=torch.float64).unsqueeze(-1)
        limits = torch.tensor(self._violations, dtype=torch.float64)
        with max_cholesky_size(math.inf):
            objective = _fitted(x, gains)
            constraints = ModelListGP(*(_fitted(x, column.unsqueeze(-1)) for column in limits.T))
            with torch.no_grad():
                sampling = ConstrainedMaxPosteriorSampling(
                    model=objective, constraint_model=constraints, replacement=False
                )
                row: Tensor = sampling(self._candidates(x[self._best()]), num_samples=1)[0]
        return row

    def _candidates(self, center: Tensor) -> Tensor:
        dim, half = len(center), self._region.length / 2
        low, high = (center - half).clamp(0.0, 1.0), (center + half).clamp(0.0, 1.0)
        engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=int(torch.randint(2**31 - 1, (1,))))
        box = low + (high - low) * engine.draw(_CANDIDATES, dtype=torch.float64)
        perturbed = torch.rand(_CANDIDATES, dim) <= min(1.0, 20.0 / dim)
        without = (~perturbed.any(dim=-1)).nonzero().squeeze(-1)
        perturbed[without, torch.randint(dim, (len(without),))] = True
        return torch.where(perturbed, box, center)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._penalty.tell(params, outcomes)

    def fail(self, params: Params) -> None:
        self._penalty.fail(params)


def _total(violations: list[float]) -> float:
    return sum(max(violation, 0.0) for violation in violations)


def _fitted(x: Tensor, y: Tensor) -> Any:
    from botorch.exceptions import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.constraints import Interval
    from gpytorch.kernels import MaternKernel, ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.mlls import ExactMarginalLogLikelihood

    matern = MaternKernel(nu=2.5, ard_num_dims=x.shape[-1], lengthscale_constraint=Interval(0.005, 4.0))
    process = SingleTaskGP(
        x,
        y,
        covar_module=ScaleKernel(matern),
        likelihood=GaussianLikelihood(noise_constraint=Interval(1e-8, 1e-3)),
        outcome_transform=Standardize(m=1),
    )
    with suppress(ModelFittingError):  # the hyperparameters then stay as they start
        fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
    return process

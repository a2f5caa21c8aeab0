"""Many seeded runs of one problem as one tensor program, in lockstep."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jaxtyping as jt
import pandas as pd
import torch
from torch import Tensor

from bo_suite.acquisition import (
    Acquisition,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.bench.unit import Evaluation, noise_at
from bo_suite.classifiers import MLPClassifier
from bo_suite.data import Dataset, OutcomeTransform, Seeds
from bo_suite.errors import DataError, FitError, NumericalError
from bo_suite.linalg.environment import numerical_environment, usable_device
from bo_suite.problems import Problem
from bo_suite.space.space import Space
from bo_suite.storage.trial import round_hyperparameters as kept
from bo_suite.study.proposer import design_size
from bo_suite.study.suggest import Suggestion, attempt, design, suggest
from bo_suite.surrogates import SGPR, AutoGP, ExactGP, WarmStart
from bo_suite.values.numbers import require_int as whole_number

logger = logging.getLogger("bo_suite")


@dataclass(frozen=True, eq=False)
class Replicates:
    """Seeded runs of one problem that went in lockstep.

    Attributes:
        problem: what was minimised.
        seeds: of the runs.
        rows: encoded points, on the CPU.
        values: outcomes as observed.
        true_values: without noise.
        sources: provenance of every point, by evaluation and then by replicate.
        ask_seconds: time that each round of suggestions took, of all replicates together.
        evaluate_seconds: time that each round of evaluations took.
    """

    problem: Problem
    seeds: tuple[int, ...]
    rows: jt.Float64[Tensor, "r n d"]
    values: jt.Float64[Tensor, "r n"]
    true_values: jt.Float64[Tensor, "r n"]
    sources: tuple[tuple[dict[str, Any], ...], ...]
    ask_seconds: tuple[float, ...]
    evaluate_seconds: tuple[float, ...]

    @property
    def best(self) -> jt.Float64[Tensor, "r n"]:
        """The noiseless value, after each evaluation, of the point with the best observed value.

        Raises:
            DataError: a problem with fidelities, whose values are of different functions.
        """
        if self.problem.space.fidelities:
            raise DataError(
                f"values of one fidelity can be compared, got {self.problem.name}, which has several"
            )
        place = torch.arange(self.values.shape[-1], device=self.values.device).expand(self.values.shape)
        better = self.values == self.values.cummin(-1).values
        return self.true_values.gather(-1, torch.where(better, place, 0).cummax(-1).values)

    def evaluations(self) -> list[tuple[Evaluation, ...]]:
        """The evaluations of each replicate; seconds are its share of those of all."""
        count, budget = self.values.shape
        points = iter(self.problem.space.decode(self.rows.flatten(0, 1)))
        numbers = zip(self.values.tolist(), self.true_values.tolist(), strict=True)
        return [
            tuple(
                Evaluation(
                    next(points),
                    values[step],
                    true[step],
                    self.ask_seconds[step] / count,
                    self.evaluate_seconds[step] / count,
                    0.0,
                    self.sources[step][place],
                )
                for step in range(budget)
            )
            for place, (values, true) in enumerate(numbers)
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row an evaluation of a replicate: seed, evaluation (1, 2, ...) and the fields of Evaluation."""
        rows = [
            {"seed": seed, "evaluation": number, **asdict(one)}
            for seed, run in zip(self.seeds, self.evaluations(), strict=True)
            for number, one in enumerate(run, 1)
        ]
        return pd.DataFrame(rows)


def run_replicates(
    problem: Problem,
    acquisition: Acquisition,
    seeds: Sequence[int] = range(64),
    budget: int = 60,
    device: str | torch.device = "cpu",
) -> Replicates:
    """Minimise a problem once for every seed, all runs in lockstep: one batched fit and search a step.

    Each replicate is the run of an `Optimizer` with its seed and this budget, up to rounding errors. Those
    stay below 1e-6 for some dozens of evaluations of a smooth function, and then may grow: a search that
    stops one step sooner ends elsewhere within its tolerance, and from then on the runs differ, neither
    better nor worse. Where the model of one replicate cannot be fitted, that step is taken by each alone.

    The noise of a noisy problem is drawn from (seed, evaluation).

    Args:
        problem: cheap to evaluate; on the device, where it is vectorised.
        acquisition: how to choose points.
        seeds: one a replicate.
        budget: evaluations of a replicate; fewer where a finite space has fewer points: none is repeated.
        device: where all of it lives.

    Raises:
        TrialError: budget below 1, a seed that is no integer >= 0, or a device that is not here.
        DataError: no seed, one given twice, or an outcome that is not a finite number.
    """
    seeds = tuple(whole_number("a seed", seed, at_least=0) for seed in seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise DataError(f"seeds must be given and differ, got {seeds}")
    whole_number("budget", budget, at_least=1)
    space, first = problem.space.varying, design_size(budget)
    rows = torch.zeros(len(seeds), 0, space.dim, dtype=torch.float64, device=usable_device(device))
    values, true = rows.new_zeros(len(seeds), 0), rows.new_zeros(len(seeds), 0)
    starts: list[WarmStart | None] = [None] * len(seeds)
    sources, ask_seconds, evaluate_seconds = [], [], []
    for trial in range(min(budget, space.cardinality or budget)):
        began = time.perf_counter()
        with numerical_environment():
            y = OutcomeTransform.fit(values)(values) if trial else values
            data = Dataset(rows, y, None, rows[:, :0], space.unordered, space.levels, space.fidelities)
            if trial < first:
                parts = [data.replicates(place) for place in range(len(seeds))]
                found = [design(space, *pair, trial) for pair in zip(parts, seeds, strict=True)]
            else:
                found = _next(data, space, acquisition, Seeds.of_each(seeds, trial), starts)
            starts = [_warm_start(one, trial) or before for one, before in zip(found, starts, strict=True)]
        new = torch.stack([one.rows for one in found])
        sources.append(tuple(_provenance(one) for one in found))
        ask_seconds.append(time.perf_counter() - began)
        exact = _evaluate(problem, problem.space.widened(new))
        noise = exact.new_tensor([noise_at(problem, seed, trial) for seed in seeds])
        rows, true = torch.cat((rows, new[:, None]), 1), torch.cat((true, exact[:, None]), 1)
        values = torch.cat((values, (exact + noise)[:, None]), 1)
        evaluate_seconds.append(time.perf_counter() - began - ask_seconds[-1])
    return Replicates(
        problem,
        seeds,
        problem.space.widened(rows).cpu(),
        values.cpu(),
        true.cpu(),
        tuple(sources),
        tuple(ask_seconds),
        tuple(evaluate_seconds),
    )


_EXACT = (LogExpectedImprovement, NoisyExpectedImprovement, UpperConfidenceBound, KnowledgeGradient)
_SURROGATES = (AutoGP, ExactGP, SGPR)


def in_lockstep(acquisition: Acquisition) -> bool:
    """Whether replicates of the acquisition are known to be what single runs are, and faster."""
    if isinstance(acquisition, Bore):
        return isinstance(acquisition.classifier, MLPClassifier)
    return isinstance(acquisition, _EXACT) and isinstance(acquisition.surrogate, _SURROGATES)


def _next(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    starts: Sequence[WarmStart | None],
) -> list[Suggestion]:
    """A suggestion for every replicate: from one program or, where that fails for one, from one each."""
    try:
        found = attempt(data, space, acquisition, seeds, _joint(starts))
    except (FitError, NumericalError) as error:
        logger.warning("replicates take a step one by one, since the model of one failed: %s", error)
        return [
            suggest(data.replicates(place), space, acquisition, Seeds((key,)), starts[place])
            for place, key in enumerate(seeds.keys)
        ]
    thetas = [None] * len(found.rows) if found.hyperparameters is None else found.hyperparameters.cpu()
    return [
        replace(found, rows=row, hyperparameters=theta) for row, theta in zip(found.rows, thetas, strict=True)
    ]


def _joint(starts: Sequence[WarmStart | None]) -> WarmStart | None:
    """Those of all replicates in one.

    Raises:
        FitError: they are of different numbers of observations, for a fit has failed.
    """
    given = [one for one in starts if one is not None]
    if not given:
        return None
    if len(given) < len(starts) or len({one.observations for one in given}) > 1:
        raise FitError("the last fit of one replicate failed, so that they start from different ones")
    return WarmStart(torch.stack([one.hyperparameters for one in given]), given[0].observations)


def _warm_start(found: Suggestion, trial: int) -> WarmStart | None:
    """What the fit has left for the next one, rounded as a history rounds it."""
    if found.hyperparameters is None:
        return None
    return WarmStart(
        torch.tensor(kept(found.hyperparameters.tolist()), dtype=torch.float64, device="cpu"), trial
    )


def _provenance(found: Suggestion) -> dict[str, Any]:
    source: dict[str, Any] = {"source": found.source}
    return source if found.reason is None else source | {"fallback": found.reason}


def _evaluate(problem: Problem, rows: Tensor) -> Tensor:
    """Noiseless values of rows; on the CPU of one at a time, to the last bit as a single run gets them."""
    if problem.vectorized is not None and rows.device.type != "cpu":
        value = problem.vectorized(problem.space.values(rows))
    else:
        value = rows.new_tensor([problem.value(point) for point in problem.space.decode(rows)])
    if not bool(torch.isfinite(value).all()):
        raise DataError(
            f"replicates need a problem whose values are finite, got {value.tolist()} of {problem.name}"
        )
    return value

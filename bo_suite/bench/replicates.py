"""Many seeded runs of one problem in lockstep, as one tensor program."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jaxtyping as jt
import pandas as pd
import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition
from bo_suite.acquisition.default import default_acquisition
from bo_suite.bench.evaluation import Evaluation
from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import usable_device
from bo_suite.problems import Problem
from bo_suite.study.initial import initial_size, initial_steps
from bo_suite.study.observations import dataset_of
from bo_suite.study.step import Step, next_steps
from bo_suite.surrogates import WarmStart
from bo_suite.values.numbers import require_int


@dataclass(frozen=True, eq=False)
class Replicates:
    """Seeded runs of one problem, made in lockstep.

    Attributes:
        problem: the minimised problem.
        seeds: of the runs.
        rows: encoded points, on the CPU.
        values: observed outcomes.
        true_values: outcomes without noise.
        sources: provenance of every point, by evaluation and then by replicate.
        ask_seconds: time of each round of suggestions, of all replicates together.
        evaluate_seconds: time of each round of evaluations, of all replicates together.
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
            DataError: the problem has fidelities, so its values are not comparable.
        """
        if self.problem.space.fidelities:
            raise DataError(
                f"values of one fidelity can be compared, got {self.problem.name}, which has several"
            )
        index = torch.arange(self.values.shape[-1], device=self.values.device).expand(self.values.shape)
        better = self.values == self.values.cummin(-1).values
        return self.true_values.gather(-1, torch.where(better, index, 0).cummax(-1).values)

    def evaluations(self) -> list[tuple[Evaluation, ...]]:
        """The evaluations of each replicate; its seconds are its share of the total."""
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
                    self.sources[step][replicate],
                )
                for step in range(budget)
            )
            for replicate, (values, true) in enumerate(numbers)
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row per evaluation and replicate: seed, evaluation (1, 2, ...) and the fields of Evaluation."""
        rows = [
            {"seed": seed, "evaluation": number, **asdict(evaluation)}
            for seed, run in zip(self.seeds, self.evaluations(), strict=True)
            for number, evaluation in enumerate(run, 1)
        ]
        return pd.DataFrame(rows)


def run_replicates(
    problem: Problem,
    acquisition: Acquisition | None = None,
    seeds: Sequence[int] = range(64),
    budget: int = 60,
    device: str | torch.device = "cpu",
    initial: int | None = None,
) -> Replicates:
    """Minimises a problem once for every seed, in lockstep: one batched fit and search per step.

    Each replicate equals the run of an `Optimizer` with its seed and this budget, up to rounding errors. They
    stay below 1e-6 for some dozens of evaluations of a smooth function and may then grow: a search that stops
    one step earlier ends at another point within its tolerance. From there the runs differ, but neither is
    better. If the model of a replicate cannot be fitted, every replicate takes that step alone. The noise of
    a noisy problem is drawn from (seed, point), as everywhere.

    Args:
        problem: cheap to evaluate; evaluated on the device if it is vectorized.
        acquisition: chooses the points; None for the default of an Optimizer.
        seeds: one per replicate.
        budget: evaluations of a replicate; at most the number of points of a finite space, since no point is
            repeated.
        device: device of all tensors.
        initial: number of initial points; None for the default of an Optimizer.

    Raises:
        TrialError: budget < 1, a seed that is not an integer >= 0, or a device that is not available.
        DataError: no seed, two equal seeds, or an outcome that is not a finite number.
    """
    seeds = _checked_seeds(seeds)
    require_int("budget", budget, at_least=1)
    space, first = problem.space.varying, initial or initial_size(budget, problem.space)
    acquisition = acquisition or default_acquisition(space.aspects)
    rows = torch.zeros(len(seeds), 0, space.dim, dtype=torch.float64, device=usable_device(device))
    points = _Points(rows, rows.new_zeros(len(seeds), 0), rows.new_zeros(len(seeds), 0))
    starts: list[WarmStart | None] = [None] * len(seeds)
    sources, ask_seconds, evaluate_seconds = [], [], []
    for index in range(min(budget, space.cardinality or budget)):
        began = time.perf_counter()
        data = dataset_of(space, points.rows, points.values)
        if index < first:
            steps = initial_steps(space, data, seeds, index)
        else:
            steps = next_steps(data, space, acquisition, Seeds.of_each(seeds, index), starts)
        starts = [step.start or start for step, start in zip(steps, starts, strict=True)]
        new = torch.stack([step.row for step in steps])
        sources.append(tuple(_provenance(step) for step in steps))
        ask_seconds.append(time.perf_counter() - began)
        points = points.evaluated(problem, new, seeds)
        evaluate_seconds.append(time.perf_counter() - began - ask_seconds[-1])
    return Replicates(
        problem,
        seeds,
        problem.space.widened(points.rows).cpu(),
        points.values.cpu(),
        points.true_values.cpu(),
        tuple(sources),
        tuple(ask_seconds),
        tuple(evaluate_seconds),
    )


@dataclass(frozen=True, eq=False)
class _Points:
    """The evaluated points of all replicates: rows of the varying parameters, and values."""

    rows: Tensor
    values: Tensor
    true_values: Tensor

    def evaluated(self, problem: Problem, new: Tensor, seeds: Sequence[int]) -> "_Points":
        """The points with one more row of each replicate."""
        exact = _evaluate(problem, problem.space.widened(new))
        noise = exact.new_tensor(_noise(problem, new, seeds))
        return _Points(
            torch.cat((self.rows, new[:, None]), 1),
            torch.cat((self.values, (exact + noise)[:, None]), 1),
            torch.cat((self.true_values, exact[:, None]), 1),
        )


def _checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds, which must be different integers >= 0."""
    integers = tuple(require_int("a seed", seed, at_least=0) for seed in seeds)
    if not integers or len(set(integers)) < len(integers):
        raise DataError(f"seeds must be given and differ, got {integers}")
    return integers


def _provenance(step: Step) -> dict[str, Any]:
    source: dict[str, Any] = {"source": step.source}
    return source if step.reason is None else source | {"fallback": step.reason}


def _noise(problem: Problem, rows: Tensor, seeds: Sequence[int]) -> list[float]:
    """The noise of one row per run; no row is repeated."""
    points = problem.space.decode(problem.space.widened(rows)) if problem.noisy else [{}] * len(seeds)
    return [problem.noise_of(point, seed) for point, seed in zip(points, seeds, strict=True)]


def _evaluate(problem: Problem, rows: Tensor) -> Tensor:
    """Noiseless values of rows; on the CPU one at a time, bit for bit as in a single run."""
    if problem.vectorized is not None and rows.device.type != "cpu":
        value = problem.vectorized(problem.space.encoding.values(rows))
    else:
        value = rows.new_tensor([problem.value(point) for point in problem.space.decode(rows)])
    if not bool(torch.isfinite(value).all()):
        raise DataError(
            f"replicates need a problem whose values are finite, got {value.tolist()} of {problem.name}"
        )
    return value

"""Many seeded runs of one problem as one tensor program, in lockstep."""

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
from bo_suite.bench.unit import Evaluation
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
    acquisition: Acquisition | None = None,
    seeds: Sequence[int] = range(64),
    budget: int = 60,
    device: str | torch.device = "cpu",
    initial: int | None = None,
) -> Replicates:
    """Minimise a problem once for every seed, all runs in lockstep: one batched fit and search a step.

    Each replicate is the run of an `Optimizer` with its seed and this budget, up to rounding errors. Those
    stay below 1e-6 for some dozens of evaluations of a smooth function, and then may grow: a search that
    stops one step sooner ends elsewhere within its tolerance, and from then on the runs differ, neither
    better nor worse. Where the model of one replicate cannot be fitted, that step is taken by each alone.

    The noise of a noisy problem is drawn from (seed, point), as everywhere.

    Args:
        problem: cheap to evaluate; on the device, where it is vectorised.
        acquisition: how to choose points; when None, as an Optimizer would.
        seeds: one a replicate.
        budget: evaluations of a replicate; fewer where a finite space has fewer points: none is repeated.
        device: where all of it lives.
        initial: number of initial points; when None, as of an Optimizer.

    Raises:
        TrialError: budget below 1, a seed that is no integer >= 0, or a device that is not here.
        DataError: no seed, one given twice, or an outcome that is not a finite number.
    """
    seeds = tuple(require_int("a seed", seed, at_least=0) for seed in seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise DataError(f"seeds must be given and differ, got {seeds}")
    require_int("budget", budget, at_least=1)
    space, first = problem.space.varying, initial or initial_size(budget)
    acquisition = acquisition or default_acquisition(space.aspects)
    rows = torch.zeros(len(seeds), 0, space.dim, dtype=torch.float64, device=usable_device(device))
    values, true = rows.new_zeros(len(seeds), 0), rows.new_zeros(len(seeds), 0)
    starts: list[WarmStart | None] = [None] * len(seeds)
    sources, ask_seconds, evaluate_seconds = [], [], []
    for index in range(min(budget, space.cardinality or budget)):
        began = time.perf_counter()
        data = dataset_of(space, rows, values)
        if index < first:
            steps = initial_steps(space, data, seeds, index)
        else:
            steps = next_steps(data, space, acquisition, Seeds.of_each(seeds, index), starts)
        starts = [step.start or before for step, before in zip(steps, starts, strict=True)]
        new = torch.stack([step.row for step in steps])
        sources.append(tuple(_provenance(step) for step in steps))
        ask_seconds.append(time.perf_counter() - began)
        exact = _evaluate(problem, problem.space.widened(new))
        noise = exact.new_tensor(_noise(problem, new, seeds))
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


def _provenance(step: Step) -> dict[str, Any]:
    source: dict[str, Any] = {"source": step.source}
    return source if step.reason is None else source | {"fallback": step.reason}


def _noise(problem: Problem, rows: Tensor, seeds: Sequence[int]) -> list[float]:
    """The noise of a row of each run; no row is repeated."""
    points = problem.space.decode(problem.space.widened(rows)) if problem.noise else [{}] * len(seeds)
    return [problem.noise_of(point, seed) for point, seed in zip(points, seeds, strict=True)]


def _evaluate(problem: Problem, rows: Tensor) -> Tensor:
    """Noiseless values of rows; on the CPU of one at a time, to the last bit as a single run gets them."""
    if problem.vectorized is not None and rows.device.type != "cpu":
        value = problem.vectorized(problem.space.encoding.values(rows))
    else:
        value = rows.new_tensor([problem.value(point) for point in problem.space.decode(rows)])
    if not bool(torch.isfinite(value).all()):
        raise DataError(
            f"replicates need a problem whose values are finite, got {value.tolist()} of {problem.name}"
        )
    return value

"""The space-filling initial points of a run."""

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.space.branches import due
from bo_suite.space.candidates import initial_row, new_row
from bo_suite.space.space import Space
from bo_suite.study.step import Step


def initial_size(budget: int | None) -> int:
    """Default number of initial points; observations from elsewhere count as initial points.

    Args:
        budget: number of planned evaluations; a third of a small budget is initial points.
    """
    return 6 if budget is None else max(2, min(6, budget // 3))


def initial_steps(space: Space, data: Dataset, seeds: tuple[int, ...], index: int) -> list[Step]:
    """Initial point `index` of each run: the centre, then scrambled Sobol points, no point twice.

    Fidelities are at their lowest, where evaluations are cheap. In a conditional space, all but the centre
    are in branches that have no point yet, as long as there are any.

    Args:
        space: of the points.
        data: of one run without a replicate dimension, or of several runs with one.
        seeds: of the runs.
        index: 0, 1, 2, ...

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    runs = [data] if not data.batch_shape else [data.replicates(index) for index in range(len(seeds))]
    return [_step(space, run, seed, index) for run, seed in zip(runs, seeds, strict=True)]


def _step(space: Space, data: Dataset, seed: int, index: int) -> Step:
    seeds, notes = Seeds.of(seed, index), {}
    if (waiting := due(space, data.taken, seeds, initial=True)) is not None:
        space, notes = waiting.space, {"branch": waiting.branch}
    row = initial_row(space, seed, index)
    row[list(space.fidelities)] = 0.0
    with torch.no_grad():
        return Step(new_row(space, row.to(data.x), data.taken, seeds), "design", notes=notes)

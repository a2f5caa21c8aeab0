"""The space-filling points that a run begins with."""

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.space.candidates import initial_row, new_row
from bo_suite.space.space import Space
from bo_suite.study.step import Step


def initial_size(budget: int | None) -> int:
    """Number of initial points where the user has not set it; observations from elsewhere count.

    Args:
        budget: evaluations planned; of a small one a third is initial points.
    """
    return 6 if budget is None else max(2, min(6, budget // 3))


def initial_steps(space: Space, data: Dataset, seeds: tuple[int, ...], index: int) -> list[Step]:
    """The initial point of an index for each run: the centre, then scrambled Sobol points, none twice.

    Fidelities are at their lowest, where points are cheap.

    Args:
        space: where.
        data: what is taken; of one run without a replicate dimension, or of several.
        seeds: of the runs.
        index: 0, 1, 2, ...

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    runs = [data] if not data.batch_shape else [data.replicates(index) for index in range(len(seeds))]
    return [_step(space, run, seed, index) for run, seed in zip(runs, seeds, strict=True)]


def _step(space: Space, data: Dataset, seed: int, index: int) -> Step:
    row = initial_row(space, seed, index)
    row[list(space.fidelities)] = 0.0
    with torch.no_grad():
        return Step(new_row(space, row.to(data.x), data.taken, Seeds.of(seed, index)), "design")

"""The space-filling initial points of a run."""

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.space.branches import cover_size, due, in_the_middle
from bo_suite.space.candidates import initial_row, new_row
from bo_suite.space.space import Space
from bo_suite.study.step import Step

USUAL = 6
"""Number of initial points where neither a budget nor conditions say otherwise."""

_MOST = 20
"""Most initial points of a conditional space if the budget is unknown."""


def initial_size(budget: int | None, space: Space) -> int:
    """Default number of initial points; observations from elsewhere count as initial points.

    In a conditional space there are more, up to a quarter of the budget, if that many can give each branch a
    point.

    Args:
        budget: number of planned evaluations; a third of a small budget is initial points.
        space: of the points.
    """
    size = USUAL if budget is None else max(2, min(USUAL, budget // 3))
    return max(size, min(cover_size(space), _MOST if budget is None else budget // 4))


def initial_steps(space: Space, data: Dataset, seeds: tuple[int, ...], index: int) -> list[Step]:
    """Initial point `index` of each run: the centre, then scrambled Sobol points, no point twice.

    Fidelities are at their lowest, where evaluations are cheap. In a conditional space, all but the centre
    are in branches that have no point yet, as long as there are any, with the conditional numbers in the
    middle of their ranges: most branches have one such point before the model chooses, and far from the
    middle it may say nothing about the others.

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
    row = row if waiting is None else in_the_middle(space, row)
    row[list(space.fidelities)] = 0.0
    with torch.no_grad():
        return Step(new_row(space, row.to(data.x), data.taken, seeds), "design", notes=notes)

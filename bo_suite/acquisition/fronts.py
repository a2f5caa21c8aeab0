"""The front of what was observed of several objectives."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.hypervolume import non_dominated
from bo_suite.data import Dataset, Outcomes
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Process


def several_objectives(data: Dataset, acquisition: object) -> Outcomes:
    """The outcomes of data of one run with several objectives.

    Raises:
        DataError: there are no several objectives, or several runs.
    """
    name = type(acquisition).__name__
    if data.outcomes is None or data.outcomes.objectives < 2:
        raise DataError(f"{name} needs at least two objectives, got data with one")
    if data.batch_shape:
        raise DataError(f"{name} needs data of one run, got replicates of shape {tuple(data.batch_shape)}")
    return data.outcomes


@dataclass(frozen=True, eq=False)
class ObservedFront:
    """What was observed of the objectives, and the front to improve on.

    Attributes:
        x: rows where the next row may be.
        values: of the objectives at these, NaN where unknown.
        counted: which rows are feasible and have all objectives.
        front: which of these no other dominates.
    """

    x: jt.Float[Tensor, "n d"]
    values: jt.Float[Tensor, "k n"]
    counted: jt.Bool[Tensor, " n"]
    front: jt.Bool[Tensor, " n"]

    @staticmethod
    def of(process: Process, data: Dataset, noisy: bool) -> "ObservedFront":
        """The front of observed outcomes in the space; or of posterior means.

        They are posterior means if outcomes are noisy, or if rows have to be moved: to fixed columns, or into
        the space where all are outside of it.
        """
        outcomes = data.outcomes
        assert outcomes is not None, "data without outcomes have no front of them"
        x, y = outcomes.x, outcomes.y[: outcomes.objectives]
        counted, inside = _counted(data, outcomes)
        moved = bool(data.columns.fixed) or (bool(counted.any()) and not bool(inside.any()))
        if moved:
            x, inside = data.within_space(x), counted
        if moved or noisy:
            y = process.mean(x.expand(len(y), *x.shape))
        front = non_dominated(torch.where(inside, y, torch.inf))
        return ObservedFront(x, y, inside, front)


def observed_front(data: Dataset, outcomes: Outcomes) -> jt.Bool[Tensor, " n"]:
    """Which rows are feasible, have all objectives, lie in the space, and are dominated by no other such row.

    If none lies in the space, those outside count.
    """
    counted, inside = _counted(data, outcomes)
    rows = inside if bool(inside.any()) else counted
    return non_dominated(torch.where(rows, outcomes.y[: outcomes.objectives], torch.inf))


def _counted(data: Dataset, outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Which rows are feasible and have all objectives, and which of these lie in the space."""
    counted = ~outcomes.y[: outcomes.objectives].isnan().any(0)
    if outcomes.violation is not None:
        counted = counted & (outcomes.violation == 0.0)
    if data.outside is None or not bool(data.outside.any()):
        return counted, counted
    return counted, counted & ~among(outcomes.x, data.x[data.outside])


def among(rows: Tensor, others: Tensor) -> Tensor:
    """Which rows equal one of the others."""
    return (rows[:, None, :] == others).all(-1).any(-1)

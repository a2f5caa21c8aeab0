"""The two protocols of an acquisition."""

from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Hyperparameters, WarmStart


@runtime_checkable
class Score(Protocol):
    """How much each point is worth evaluating; larger is better."""

    @property
    def differentiable(self) -> bool:
        """Whether autograd gives the gradient by x."""

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """What the next step may warm-start from; None where there is nothing to keep."""

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""


@runtime_checkable
class Acquisition(Protocol):
    """A frozen recipe: data in, score out."""

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        """The score given the data, conditioned on its pending points; `start` warm-starts the fit."""


def refuse_fidelities(acquisition: object, data: Dataset) -> None:
    """Refuse data with fidelities, on behalf of an acquisition that would take them for any other input.

    Raises:
        DataError: data with fidelities.
    """
    if data.fidelities:
        raise DataError(
            f"{type(acquisition).__name__} knows one fidelity only; a space with fidelities needs "
            "KnowledgeGradient"
        )


def refuse_constraints(acquisition: object, data: Dataset) -> None:
    """Refuse data with constraints, on behalf of an acquisition that would take no note of them.

    Raises:
        DataError: data with constraints.
    """
    if data.constraints is not None:
        raise DataError(
            f"{type(acquisition).__name__} knows no constraints; observations with constraints need "
            "ConstrainedExpectedImprovement"
        )

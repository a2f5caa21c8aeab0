"""The two protocols of an acquisition, and what it supports."""

from collections.abc import Set
from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Hyperparameters, WarmStart

ASPECTS = {
    "constraints": "choose ConstrainedExpectedImprovement, or an acquisition that lists them in `supports`",
    "fidelities": "choose KnowledgeGradient, or an acquisition that lists them in `supports`",
}
"""What data may have beyond inputs and outcomes, and what to do where an acquisition does not support it."""


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
    """A frozen recipe: data in, score out.

    It may have three more attributes. `supports` is a frozenset of what it understands in data beyond inputs
    and outcomes, names among ASPECTS; data with more are refused. `search` is a Search, how hard to search
    for the maximum of its score. `batched` says that `build` takes data of several replicates, and gives each
    the score that it would have alone.
    """

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        """The score given the data, conditioned on its pending points; `start` warm-starts the fit."""


def require_support(acquisition: object, aspects: Set[str]) -> None:
    """Raises a DataError unless an acquisition supports what data or a space have beyond inputs and outcomes.

    An acquisition says what it supports by an attribute `supports`; one without it supports nothing of this.

    Args:
        acquisition: any.
        aspects: names among ASPECTS.
    """
    supported: Set[str] = getattr(acquisition, "supports", frozenset())
    for aspect in sorted(aspects - supported):
        raise DataError(f"{type(acquisition).__name__} does not support {aspect}: {ASPECTS[aspect]}")

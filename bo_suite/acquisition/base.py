"""The protocols of an acquisition and of its score, and the check of what an acquisition supports."""

from collections.abc import Set
from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Hyperparameters, WarmStart

ASPECTS = {
    "constraints": "choose LogExpectedImprovement, or an acquisition that lists them in `supports`",
    "fidelities": "choose KnowledgeGradient, or an acquisition that lists them in `supports`",
    "objectives": "choose LogExpectedHypervolumeImprovement, or an acquisition that lists them in `supports`",
}
"""What data may have beyond inputs and outcomes, with advice for an acquisition that does not support it."""


@runtime_checkable
class Score(Protocol):
    """A function of rows that says how much each is worth evaluating; larger is better."""

    @property
    def differentiable(self) -> bool:
        """Whether autograd computes the gradient with respect to x."""

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """Start of the next fit; None if the score has no hyperparameters."""

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""


@runtime_checkable
class Acquisition(Protocol):
    """A frozen recipe: data in, score out.

    Three attributes are optional. `supports` is a frozenset of names among ASPECTS: what the acquisition
    handles in data beyond inputs and outcomes. Data with other aspects are refused. One that supports
    "constraints" improves on the best of the `eligible` observations; the log probability that a row is
    feasible is added to its score, and until an observation is feasible, that probability is all that is
    maximised. `search` is a Search: how
    hard to search for the maximum of the score. `batched` is True if `build` accepts data of several
    replicates and gives each the score that it would have alone.
    """

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        """The score given the data and its pending points; `start` warm-starts the fit."""


def require_support(acquisition: object, aspects: Set[str]) -> None:
    """Raises a DataError unless an acquisition supports all aspects of the data or of the space.

    Args:
        acquisition: any; one without an attribute `supports` supports no aspect.
        aspects: names among ASPECTS.
    """
    supported: Set[str] = getattr(acquisition, "supports", frozenset())
    for aspect in sorted(aspects - supported):
        raise DataError(f"{type(acquisition).__name__} does not support {aspect}: {ASPECTS[aspect]}")


def learns_from_derivatives(acquisition: object) -> bool:
    """Whether the surrogate of an acquisition, or of one within it, learns from derivatives."""
    within = getattr(acquisition, "acquisition", acquisition)
    return bool(getattr(getattr(within, "surrogate", None), "learns_from_derivatives", False))

"""The protocols of a classifier and its score, and the examples that it is fitted to."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Condition, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import differentiable
from bo_suite.surrogates.process import Hyperparameters, WarmStart


@dataclass(frozen=True)
class WeightedExamples:
    """Rows, each with a weight as a positive and a weight as a negative example; one of them may be 0.

    A classifier minimises -Σ positive_i log π(x_i) + negative_i log(1 - π(x_i)): a weight is a number of
    examples. With weights that add to the same for each class, the odds π / (1 - π) estimate the ratio of the
    densities of positives and negatives.

    Attributes:
        x: rows in [0, 1]^d, or in any range if no column is unordered.
        positive: weights of the rows as examples of label 1.
        negative: weights of the rows as examples of label 0.
        unordered: columns that hold codes level / (levels - 1) of categories, which have no order.
        levels: number of values of each column, None where it is continuous; () when all are.
        conditions: of columns that only some rows have, as in `Columns`.
        descriptors: of columns of categories, as in `Columns`.

    Raises:
        DataError: shapes that do not fit together, rows that are not finite, weights that are negative or not
            finite, a class without any weight, or an unordered column without a number of levels.
    """

    x: jt.Float[Tensor, "*b n d"]
    positive: jt.Float[Tensor, "*b n"]
    negative: jt.Float[Tensor, "*b n"]
    unordered: tuple[int, ...] = ()
    levels: tuple[int | None, ...] = ()
    conditions: tuple[Condition, ...] = ()
    descriptors: tuple[tuple[int, int, tuple[tuple[float, ...], ...]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("x", "positive", "negative"):
            object.__setattr__(self, name, differentiable(getattr(self, name)))
        if not self.x.shape[:-1] == self.positive.shape == self.negative.shape:
            raise DataError(
                "x must be (*b, n, d), positive and negative (*b, n), got "
                f"{tuple(self.x.shape)}, {tuple(self.positive.shape)} and {tuple(self.negative.shape)}"
            )
        if not bool(torch.isfinite(self.x).all()):
            raise DataError("inputs must be finite")
        for name, weights in (("positive", self.positive), ("negative", self.negative)):
            if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
                raise DataError(f"{name} weights must be finite and at least 0")
            if not bool((weights.sum(-1) > 0).all()):
                raise DataError(f"a classifier needs an example of each class, got no {name} example")
        if any(column >= len(self.levels) or self.levels[column] is None for column in self.unordered):
            raise DataError(
                f"levels must give the number of values of columns {self.unordered}, got {self.levels}"
            )

    @property
    def columns(self) -> Columns:
        """Kinds of the columns."""
        return Columns(self.unordered, self.levels, conditions=self.conditions, descriptors=self.descriptors)

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the replicate dimensions `*b`."""
        return self.x.shape[:-2]


@runtime_checkable
class ClassifierScore(Protocol):
    """A fitted classifier: log odds of the positive class, a score to be maximised."""

    @property
    def differentiable(self) -> bool:
        """Whether autograd gives the gradient by x."""

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """Where the next fit may start; None if every fit starts anew."""

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log π(x) - log(1 - π(x)) of each row."""


@runtime_checkable
class Classifier(Protocol):
    """A frozen configuration that fits to weighted examples."""

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> ClassifierScore:
        """The log odds given the data; `start` warm-starts the fit."""

"""The contract of a classifier."""

from dataclasses import replace

import torch
from torch import Tensor

from bo_suite.classifiers import Classifier, ClassifierScore, WeightedExamples
from bo_suite.data import Seeds
from bo_suite.linalg.environment import numerical_environment
from bo_suite.surrogates.process import WarmStart
from bo_suite.testing.data import DIM, rows
from bo_suite.testing.gradient import check_gradient
from bo_suite.testing.require import require


@numerical_environment()
def check_classifier(classifier: Classifier) -> None:
    """Check that a classifier is what `Classifier` promises and that what it fits is a `ClassifierScore`.

    The log odds are one finite value a row, the same for the same seeds. They are higher at positives, follow
    the weights, and their gradient, if any, agrees with finite differences. The classifier fits one row of
    each class, rows of both classes, and replicates.

    Args:
        classifier: a frozen configuration; it is fitted to a few small data sets.

    Raises:
        AssertionError: a broken rule; the message gives the rule and the values.
    """
    seeds, test, data = Seeds.of(0, 1), rows(64, seed=9), labelled(40)
    score = classifier.fit(data, seeds)
    value = score(test)
    require(value.shape == (64,), f"log odds must be one value a row, got {tuple(value.shape)} for 64")
    require(value.dtype == test.dtype, f"log odds must be of the dtype of the rows, got {value.dtype}")
    _require_finite(value, "40 rows")
    require(torch.equal(value, score(test)), "log odds must be the same at every call")
    require(torch.equal(value, classifier.fit(data, seeds)(test)), "equal seeds must give equal log odds")
    gap = _gap(score, data)
    require(gap > 0.5, f"log odds must be higher where positives are, got a difference of {gap:.3g}")
    _check_weights(classifier, data)
    theta = score.hyperparameters
    start = None if theta is None else WarmStart(theta, data.x.shape[-2])
    again = classifier.fit(data, seeds, start)
    _require_finite(again(test), "a warm start")
    require(_gap(again, data) > 0.5, "a warm start must tell the classes apart")
    check_gradient(score)
    _check_small(classifier)
    _check_replicates(classifier)


def labelled(count: int, *batch: int, seed: int = 0) -> WeightedExamples:
    """Rows with a category; positive where a smooth function of all columns is low, the others negative."""
    x = rows(count, *batch, seed=seed)
    good = (x[..., 0] - 0.5).square() + 0.3 * x[..., 1] + 0.1 * (x[..., 2] != 0.5)
    positive = (good <= good.quantile(0.3, dim=-1, keepdim=True)).to(x)
    return WeightedExamples(x, positive, 1.0 - positive, (DIM - 1,), (None, None, 3))


def _gap(score: ClassifierScore, data: WeightedExamples) -> float:
    """Mean log odds of positives less that of negatives."""
    with torch.no_grad():
        value = score(data.x)
    mean = [(value * w).sum() / w.sum() for w in (data.positive, data.negative)]
    return float(mean[0] - mean[1])


def _require_finite(value: Tensor, case: str) -> None:
    require(bool(torch.isfinite(value).all()), f"log odds must be finite: {case}")


def _check_weights(classifier: Classifier, data: WeightedExamples) -> None:
    """Check that rows that are both positive and negative have the odds of their weights."""
    mixed = replace(data, positive=0.2 + 0.6 * data.positive, negative=0.8 - 0.6 * data.positive)
    seeds = Seeds.of(0, 3)
    plain = classifier.fit(mixed, seeds)(data.x).mean()
    tilted = classifier.fit(replace(mixed, positive=4.0 * mixed.positive), seeds)(data.x).mean()
    shift = float(tilted - plain)
    require(shift > 0.5, f"positives of four times the weight must raise log odds, got {shift:.3g} more")


def _check_small(classifier: Classifier) -> None:
    seeds, test, x = Seeds.of(0, 2), rows(16, seed=8), rows(2, seed=5)
    one, both = x.new_tensor([1.0, 0.0]), x.new_tensor([0.5, 0.5])
    fields = {"unordered": (DIM - 1,), "levels": (None, None, 3)}
    cases = {
        "one row of each class": WeightedExamples(x, one, 1.0 - one, **fields),  # type: ignore[arg-type]
        "rows of both classes": WeightedExamples(x, both, both, **fields),  # type: ignore[arg-type]
        "a single row": WeightedExamples(x[:1], both[:1], both[:1], **fields),  # type: ignore[arg-type]
        "equal rows": WeightedExamples(x[[0, 0]], one, 1.0 - one, **fields),  # type: ignore[arg-type]
    }
    for case, data in cases.items():
        _require_finite(classifier.fit(data, seeds)(test), case)


def _check_replicates(classifier: Classifier) -> None:
    batch, test = labelled(30, 2), rows(6, 2, seed=3)
    together = classifier.fit(batch, Seeds((1, 2), (2,)))(test)
    require(together.shape == (2, 6), f"replicates must give (2, 6) values, got {tuple(together.shape)}")
    for index in range(2):
        single = replace(
            batch, x=batch.x[index], positive=batch.positive[index], negative=batch.negative[index]
        )
        alone = classifier.fit(single, Seeds((index + 1,)))(test[index])
        gap = float((together[index] - alone).abs().max())
        require(gap < 1e-3, f"a replicate must have the log odds of its solo fit, but differs by {gap:.2g}")

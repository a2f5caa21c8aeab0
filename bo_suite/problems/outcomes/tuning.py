"""Problems of tuning with two objectives: the loss on held-out folds, and what the model costs.

Models, data, folds and spaces are those of `bo_suite.problems.tuning`. The cost is a count, not a time, so it
is a function of the parameters alone. The largest hypervolume is unknown.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bo_suite.problems.outcomes.base import OutcomeProblem
from bo_suite.problems.tuning import TUNING
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class LossAndCost:
    """Loss and cost of the model of a point.

    Attributes:
        tuning: name of the model in TUNING.
        cost: name of the cost.
        count: log10 of the cost of a fitted model; the mean over the folds is taken.
    """

    tuning: str
    cost: str
    count: Callable[[Any], float]

    def __call__(self, params: Params) -> dict[str, float]:
        from sklearn.model_selection import cross_validate

        model = TUNING[self.tuning]
        with warnings.catch_warnings():
            # A model that does not converge has a large loss; its warnings add nothing.
            warnings.simplefilter("ignore")
            with np.errstate(all="ignore"):
                results = cross_validate(
                    model.estimator(params),
                    *model.data(),
                    cv=model.folds(),
                    scoring=model.scoring,
                    return_estimator=True,
                    error_score="raise",
                )
        costs = [self.count(estimator[-1]) for estimator in results["estimator"]]
        return {"loss": model.loss(float(np.mean(results["test_score"]))), self.cost: float(np.mean(costs))}


def multiplications(network: Any) -> float:
    """log10 of the number of multiplications of a prediction by a network of dense layers."""
    return math.log10(sum(weights.size for weights in network.coefs_))


def nodes(forest: Any) -> float:
    """log10 of the number of nodes of a forest."""
    return math.log10(sum(tree.tree_.node_count for tree in forest.estimators_))


def _made(name: str, function: LossAndCost, reference: tuple[float, float]) -> OutcomeProblem:
    return OutcomeProblem(
        name=name,
        space=TUNING[function.tuning].space,
        function=function,
        goals=Goals.of({"loss": "minimize", function.cost: "minimize"}),
        reference=reference,
    )


# The worst loss that counts is that of equal probabilities for the ten digits, or the three wines; the worst
# cost is a little above the largest.
TUNING_TWO: dict[str, Callable[[], OutcomeProblem]] = {
    "mlp_digits_latency": partial(
        _made,
        "mlp_digits_latency",
        LossAndCost("mlp_digits", "log10_multiplications", multiplications),
        (math.log(10.0), 4.2),
    ),
    "forest_wine_size": partial(
        _made,
        "forest_wine_size",
        LossAndCost("forest_wine", "log10_nodes", nodes),
        (math.log(3.0), 3.4),
    ),
}
"""Functions that make the problems of tuning with two objectives, by name."""

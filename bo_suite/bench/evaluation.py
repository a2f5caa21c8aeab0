"""What is recorded of one evaluation of a run."""

from dataclasses import dataclass
from typing import Any

from bo_suite.space.space import Params


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, as stored in the records.

    Attributes:
        params: the point.
        value: observed value; None if the evaluation failed.
        true_value: value without noise; None if the evaluation failed.
        ask_seconds: time of `ask`, or the evaluation's share of the time of a batch.
        evaluate_seconds: time of the evaluation.
        tell_seconds: time of `tell` or `fail`.
        provenance: how the method chose the point.
        failure: why there is no value; None if there is one.
        outcomes: by name, of a problem of several outcomes; value and true_value are then the merit of this
            and all earlier evaluations, None while no point with one objective was feasible.
    """

    params: Params
    value: float | None
    true_value: float | None
    ask_seconds: float
    evaluate_seconds: float
    tell_seconds: float
    provenance: dict[str, Any]
    failure: str | None = None
    outcomes: dict[str, float] | None = None

"""Why a point was suggested, in numbers that its trial stores, and in words."""

import math

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.forecast import Forecast
from bo_suite.data import Dataset
from bo_suite.storage.goals import Goals
from bo_suite.study.outcomes import HALF_WIDTH, OutcomeTransform
from bo_suite.study.step import Step
from bo_suite.surrogates.variational.quadrature import expectation

_REFINED = 0.75
"""Share of the prior variance that observations explain from which a point refines what is known."""


def why(
    step: Step, data: Dataset, transform: OutcomeTransform | None, goals: Goals
) -> dict[str, float | str]:
    """Why a row was chosen, in the user's units and direction.

    Args:
        step: to the row.
        data: from which it was chosen.
        transform: from outcomes, smaller is better, to those of the data; None with several objectives.
        goals: of the run.

    Returns:
        `distance` from the best observed row, in ranges of the parameters (1 for another category). If the
        score makes forecasts also `predicted`, `low` and `high`, the median and the central 90 % interval of
        the function; `best`, the value to improve on; `improvement`, the expected improvement on it; and
        `purpose`: "refining" if observations explain three quarters of the prior variance there, or else
        "exploring". Under constraints `feasible`, the probability to meet them all. Numbers that are not
        finite are left out.
    """
    found: dict[str, float | str] = {}
    if step.forecast is not None and transform is not None:
        found |= _forecast_reasons(step.forecast, transform, goals.objectives[0].sign)
    if step.chance is not None:
        found["feasible"] = float(f"{step.chance:.4g}")
    return found | {"distance": float(f"{_distance_to_best(step.row, data):.6g}")}


def _forecast_reasons(forecast: Forecast, transform: OutcomeTransform, sign: float) -> dict[str, float | str]:
    mean, var, best = (part.detach().cpu().double() for part in (forecast.mean, forecast.var, forecast.best))

    def losses(values: Tensor) -> Tensor:
        return transform.capped_inverse(forecast.outcomes(values.to(forecast.mean))).cpu().double()

    low, middle, high = (float(losses(mean + width * var.sqrt())) for width in (-HALF_WIDTH, 0.0, HALF_WIDTH))
    target = losses(best)

    def gain(values: Tensor) -> Tensor:
        return (target - losses(values.flatten())[None]).clamp(min=0.0)

    ends = (low, high) if sign > 0 else (-high, -low)
    numbers = {
        "predicted": sign * middle,
        "low": ends[0],
        "high": ends[1],
        "best": sign * float(target),
        "improvement": float(expectation(gain, mean, var)),
    }
    explained = 1.0 - float(var) / float(forecast.prior_var)
    purpose = "refining" if explained >= _REFINED else "exploring"
    rounded = {name: float(f"{number:.6g}") for name, number in numbers.items() if math.isfinite(number)}
    return {"purpose": purpose, **rounded}


def _distance_to_best(row: jt.Float[Tensor, " d"], data: Dataset) -> float:
    """Euclidean distance to the best observed row, in ranges of the parameters; 1 for another category.

    Parameters that are active in one of the two alone do not count.
    """
    best = data.x[data.merit.argmin()]
    apart = (row - best).abs()
    for column in data.unordered:
        apart[column] = float(apart[column] > 0.0)
    if data.columns.conditions:
        apart = torch.where(data.columns.active(row) & data.columns.active(best), apart, 0.0)
    return float(apart.square().sum().sqrt())

"""The check of an acquisition."""

import math
from dataclasses import replace
from typing import Any

import torch

from bo_suite.acquisition import Acquisition
from bo_suite.acquisition.base import ASPECTS
from bo_suite.acquisition.likely import build_score
from bo_suite.data import Columns, Dataset, Outcomes, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.storage.serialization import from_json, to_json
from bo_suite.testing.data import dataset, rows
from bo_suite.testing.gradient import check_gradient
from bo_suite.testing.require import require


@numerical_environment()
def check_acquisition(acquisition: Acquisition) -> None:
    """Checks that an acquisition keeps the contract of `Acquisition`, and its score that of `Score`.

    The score has one value per row, is never NaN, is the same at every call and for equal seeds, and differs
    between points. If it is differentiable, its gradient agrees with finite differences. A pending point
    lowers the score there. One observation, equal outcomes and replicates are handled. Data with an aspect
    that is not in `supports` are refused; data with one that is in it give a score.

    Args:
        acquisition: a frozen recipe; it is built on a few small data sets.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    seeds, test = Seeds.of(0, 1), rows(64, seed=9)
    score = acquisition.build(dataset(12), seeds)
    value = score(test)
    _check_support(acquisition)
    require(value.shape == (64,), f"a score must have one value per row, got {tuple(value.shape)} for 64")
    require(not bool(torch.isnan(value).any()), "a score must not be NaN")
    require(torch.equal(value, score(test)), "a score must be the same at every call")
    require(
        torch.equal(value, acquisition.build(dataset(12), seeds)(test)), "equal seeds must give equal scores"
    )
    require(float(value.max() - value.min()) > 0, "a score must differ between points")
    check_gradient(score)
    _check_pending(acquisition)
    for count in (1, 2):
        small = acquisition.build(dataset(count), seeds)(test)
        require(not bool(torch.isnan(small).any()), f"{count} observations must give a score")
    data = dataset(10)
    flat = replace(data, y=torch.zeros_like(data.y))
    require(
        not bool(torch.isnan(acquisition.build(flat, seeds)(test)).any()), "equal outcomes must give a score"
    )
    batch = dataset(8, 2)
    together = acquisition.build(batch, Seeds((1, 2), (2,)))(rows(6, 2, seed=3))
    require(together.shape == (2, 6), f"replicates must give (2, 6) values, got {tuple(together.shape)}")
    for index in range(2):
        solo = acquisition.build(batch.replicates(index), Seeds((index + 1,)))(rows(6, 2, seed=3)[index])
        equal = bool(together[index].argmax() == solo.argmax())
        require(equal, f"a replicate must rank points as its solo run, got {together[index]} and {solo}")
    form = to_json(acquisition)
    if "foreign" not in str(form):
        require(from_json(form) == acquisition, "the JSON form must restore the acquisition")


def _check_support(acquisition: Acquisition) -> None:
    supported: Any = getattr(acquisition, "supports", frozenset())
    require(
        isinstance(supported, frozenset) and supported <= ASPECTS.keys(),
        f"`supports` must be a frozenset of names among {sorted(ASPECTS)}, got {supported!r}",
    )
    data, seeds, test = dataset(12), Seeds.of(0, 1), rows(64, seed=9)
    more = {
        "constraints": _constrained(data),
        "objectives": _with_objectives(data),
        "fidelities": replace(data, columns=Columns(fidelities=(data.x.shape[-1] - 1,))),
    }
    for aspect, with_aspect in more.items():
        if aspect in supported:
            value = build_score(acquisition, with_aspect, seeds)(test)
            require(
                not bool(torch.isnan(value).any()), f"data with {aspect} must give a score: it supports them"
            )
            continue
        try:
            build_score(acquisition, with_aspect, seeds)
        except DataError:
            continue
        require(False, f"data with {aspect} must be refused: it does not support them")


def _constrained(data: Dataset) -> Dataset:
    """The data with a constraint that some rows violate."""
    limited = (data.y - 0.5)[None]
    ends = limited.new_full((1,), -math.inf), limited.new_zeros(1)
    violation = limited[0].clamp(min=0.0)
    outcomes = Outcomes(data.x, limited, 0, *ends, violation=violation)
    return replace(data, outcomes=outcomes, violation=violation)


def _with_objectives(data: Dataset) -> Dataset:
    """The data with a second objective, which falls where the first rises."""
    y = torch.stack((data.y, data.x[:, 0] - data.y))
    low, high = y.new_full((2,), -math.inf), y.new_full((2,), math.inf)
    return replace(data, outcomes=Outcomes(data.x, y, 2, low, high))


def _check_pending(acquisition: Acquisition) -> None:
    seeds, data = Seeds.of(0, 1), dataset(12)
    grid = rows(256, seed=6)
    before = acquisition.build(data, seeds)(grid)
    point, highest = grid[before.argmax()][None], float(before.max())
    after = float(acquisition.build(replace(data, pending=point), seeds)(point)[0])
    require(
        math.isfinite(after) and after < highest - 1e-6,
        f"a pending point must lower the score there, got {after:.6g} after {highest:.6g}",
    )

"""Outcomes as libraries take them: losses and one-sided constraints, and a replacement for failures."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from bo_suite.storage.goals import Goals

Rows = tuple[list[float], list[float]]
"""Losses, smaller is better, and violations, met if at most 0."""


def rows_of(goals: Goals, outcomes: Mapping[str, float]) -> Rows:
    """The losses of outcomes, and a violation for each end of each interval: low - value, value - high."""
    violations = []
    for one in goals.constraints:
        if math.isfinite(one.low):
            violations.append(one.low - outcomes[one.name])
        if math.isfinite(one.high):
            violations.append(outcomes[one.name] - one.high)
    return list(goals.losses(outcomes) or ()), violations


class OutcomePenalty:
    """Replaces failures by the worst of each outcome so far, for a library without failures.

    Points that fail before there are any outcomes wait for the first, and take these.
    """

    def __init__(self, goals: Goals, observe: Callable[[Any, list[float], list[float]], None]) -> None:
        self._goals = goals
        self._observe = observe
        self._worst: Rows | None = None
        self._waiting: list[Any] = []

    @property
    def waiting(self) -> int:
        """Number of failed points that wait for outcomes."""
        return len(self._waiting)

    def tell(self, point: Any, outcomes: Mapping[str, float]) -> None:
        """Passes on the rows of a point, which has the library's own form."""
        rows = rows_of(self._goals, outcomes)
        before = self._worst or rows
        losses, violations = (list(map(max, old, new)) for old, new in zip(before, rows, strict=True))
        self._worst = losses, violations
        self._observe(point, *rows)
        failed, self._waiting = self._waiting, []
        for other in failed:
            self._observe(other, *self._worst)

    def fail(self, point: Any) -> None:
        """Passes on the worst rows for a point without outcomes."""
        if self._worst is None:
            self._waiting.append(point)
        else:
            self._observe(point, *self._worst)

"""The tree of conditional parameters that the trials of an Optuna study show.

An objective asks for some parameters only if others have certain values. Its trials show which. A parameter
is explained by others, its parents, if no trial without it has the values of all parents that trials with it
have. Of several explanations the one nearest to the root counts; of these the one by the parent whose values
allow the fewest others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from bo_suite.integrations.translate import Dimension
from bo_suite.space.parameters import Choice, Parameter
from bo_suite.space.when import When

_MOST_PARENTS = 3
"""Most parents of a parameter."""

_FINE = 16
"""Most levels of a number that explains others whatever the trials."""

_CHANCE = 0.01
"""Largest probability that the values of a finer number with a parameter are neighbours by chance."""

DimensionOf = Callable[[str, BaseDistribution], Dimension | None]
"""Gives the dimension that a parameter is searched in; None if it is not searched."""


@dataclass(frozen=True)
class Tree:
    """Parameters that are searched jointly.

    Attributes:
        distributions: by name, in alphabetical order.
        when: conditions of those that do not occur in all trials, in values of our parameters.
    """

    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    when: Mapping[str, When] = field(default_factory=dict)


@dataclass
class Evidence:
    """What ended trials show, trial by trial; the tree does not depend on their order.

    Attributes:
        count: number of trials.
        distributions: by name; None if it has changed, or has no dimension that can be searched.
    """

    count: int = 0
    distributions: dict[str, BaseDistribution | None] = field(default_factory=dict)
    _dimensions: dict[str, Dimension] = field(default_factory=dict)
    _positions: dict[str, list[float]] = field(default_factory=dict)

    def add(self, trial: FrozenTrial, dimension_of: DimensionOf) -> None:
        """Add a trial."""
        for name, distribution in trial.distributions.items():
            if name not in self.distributions:
                dimension = dimension_of(name, distribution)
                self.distributions[name] = None if dimension is None else distribution
                if dimension is not None:
                    self._dimensions[name] = dimension
                    self._positions[name] = [math.nan] * self.count
            elif self.distributions[name] != distribution:
                self.distributions[name] = None
                self._positions.pop(name, None)
        self.count += 1
        for name, positions in self._positions.items():
            positions.append(math.nan if name not in trial.params else self._place(name, trial.params[name]))

    def _place(self, name: str, value: object) -> float:
        """The position of a value; any position of one that is not in its range, which counts as present."""
        dimension = self._dimensions[name]
        with suppress(ArithmeticError, TypeError, ValueError):
            parameter: Any = dimension.parameter
            return float(parameter.encode(parameter.check(dimension.ours(value))))
        return 0.0

    def tree(self) -> Tree:
        """The parameters that occur in all trials, and those that they explain."""
        columns = {name: np.asarray(self._positions[name]) for name in sorted(self._positions)}
        explained: dict[str, When | None] = {
            name: None for name, column in columns.items() if not np.isnan(column).any()
        }
        rest = [name for name in columns if name not in explained]
        while rest:
            parents = {
                name: _Parent(name, self._dimensions[name].parameter, columns[name]) for name in explained
            }
            found = _explanations({name: ~np.isnan(columns[name]) for name in rest}, list(parents.values()))
            if not found:
                break
            explained |= found
            rest = [name for name in rest if name not in found]
        names = sorted(explained)
        distributions = {name: one for name in names if (one := self.distributions[name]) is not None}
        return Tree(distributions, {name: when for name in names if (when := explained[name]) is not None})


def _explanations(present: Mapping[str, np.ndarray], parents: Sequence["_Parent"]) -> dict[str, When]:
    """Conditions by name of the parameters that one parent explains or, if there are none, several."""
    for most in (1, _MOST_PARENTS):
        found = {name: _explanation(trials, parents, most) for name, trials in present.items()}
        if any(found.values()):
            return {name: when for name, when in found.items() if when is not None}
    return {}


def _explanation(present: np.ndarray, parents: Sequence["_Parent"], most: int) -> When | None:
    """The condition of a parameter that occurs in some trials; None if these parents do not explain it.

    Parents are added that exclude most of the other trials; among equal ones that with the fewest possible
    conditions.
    """
    candidates = [one for parent in parents if (one := parent.condition(present)) is not None]
    absent, chosen = ~present, list[_Condition]()
    while absent.any() and len(chosen) < most and candidates:
        best = min(candidates, key=lambda one: (int((absent & one.trials).sum()), one.choices))
        if (absent & ~best.trials).any():
            absent = absent & best.trials
            chosen.append(best)
        else:
            break
    if absent.any():
        return None
    return When.of({condition.name: condition.accepted for condition in chosen})


@dataclass(frozen=True, eq=False)
class _Condition:
    """What a parameter may need of a parent.

    Attributes:
        name: of the parent.
        accepted: values or an interval of it.
        trials: which trials have such a value.
        choices: logarithm of the number of conditions that the values of the parent allow.
    """

    name: str
    accepted: object
    trials: np.ndarray
    choices: float


@dataclass(frozen=True, eq=False)
class _Parent:
    """A parameter that may explain others.

    Attributes:
        name: its name.
        parameter: ours.
        column: its position in each trial; NaN where it is absent.
    """

    name: str
    parameter: Parameter
    column: np.ndarray

    def condition(self, present: np.ndarray) -> _Condition | None:
        """The narrowest condition that holds wherever a parameter is present; None if there is none."""
        inside = self.column[present]
        if np.isnan(inside).any():
            return None
        seen = np.unique(self.column[~np.isnan(self.column)])
        if isinstance(self.parameter, Choice):
            places = np.unique(inside)
            values = [self.parameter.decode(place) for place in places.tolist()]
            return _Condition(self.name, values, np.isin(self.column, places), float(len(seen)))
        return self._interval(present, seen)

    def _interval(self, present: np.ndarray, seen: np.ndarray) -> _Condition | None:
        """The interval around the values with a parameter, as wide as the trials without it allow."""
        first, last = float(self.column[present].min()), float(self.column[present].max())
        within = (first <= self.column) & (self.column <= last)
        if self.parameter.levels is None or self.parameter.levels > _FINE:
            count = int(((first <= seen) & (seen <= last)).sum())
            by_chance = (len(seen) - count + 1) / math.comb(len(seen), count)
            if (within & ~present).any() or by_chance > _CHANCE:
                return None
        below, above = self.column[self.column < first], self.column[self.column > last]
        low = 0.0 if not below.size else self._between(float(below.max()), first)
        high = 1.0 if not above.size else self._between(float(above.min()), last)
        ends = self.parameter.decode(low), self.parameter.decode(high)
        return _Condition(self.name, ends, within, math.log2(len(seen) * (len(seen) + 1) / 2))

    def _between(self, outside: float, inside: float) -> float:
        """Where an interval ends: halfway, or at the level next to the one outside."""
        if self.parameter.levels is None:
            return 0.5 * (outside + inside)
        level = int(self.parameter.level(np.asarray(outside)))
        beside = level + (1 if inside > outside else -1)
        return float(self.parameter.position(np.asarray(float(beside))))

"""What the figures need of a run, and the axis of a parameter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bo_suite.errors import TrialError
from bo_suite.plot.style import draw_name, name_ticks, short_name
from bo_suite.space.parameters import Choice, Float, Int, Parameter, Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Direction, Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.belief import Belief
from bo_suite.study.scheduling import Scheduler
from bo_suite.study.views import OutcomeView
from bo_suite.values.describe import described, plain_text

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes

_LONGEST_LABEL, _MOST_TICKS = 16, 12
"""Most characters of an option beside an axis, and most options that are named there."""

_NEAR = 0.17
"""Difference of each other parameter, in encoded units and as a root mean square over at least three of them,
at which an observation counts e^(-1/2) as much as one on the slice."""

_LEVEL_LETTERS = 36
"""Most letters of all options below an axis together that are written level."""


@runtime_checkable
class _HasModel(Protocol):
    """What is checked of a run: its trials would be read to be checked."""

    def belief(self, outcome: str | None = None) -> Belief:
        """The model of the only objective, or of an outcome by name."""


class Run(_HasModel, Protocol):
    """A run with a model: an Optimizer, or the Result of `minimize`."""

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials."""

    @property
    def space(self) -> Space:
        """The user's space."""

    @property
    def direction(self) -> Direction:
        """ "minimize" or "maximize", or one of these by name of each objective."""

    @property
    def goals(self) -> Goals:
        """The objectives and the constraints."""

    @property
    def scheduler(self) -> Scheduler | None:
        """Stops trials while they run; None if there is none."""


def is_run(run: object) -> TypeGuard[Run]:
    """Whether an object is an Optimizer, a Result or the like."""
    return isinstance(run, _HasModel)


def require_run(run: object) -> Run:
    """The argument, if it is a run.

    Raises:
        TrialError: it is not.
    """
    if not is_run(run):
        raise TrialError(f"a figure must be of an Optimizer or a Result, got {described(run)}")
    return run


@dataclass(frozen=True)
class ParameterAxis:
    """The axis of a parameter: its values, on its own scale, or the numbers 0, 1, ... of its options.

    Attributes:
        name: of the parameter.
        parameter: with more than one value.
    """

    name: str
    parameter: Parameter

    @property
    def continuous(self) -> bool:
        """Whether lines may be drawn between its values."""
        return not isinstance(self.parameter, Choice)

    def values(self, most: int) -> list[Value]:
        """Values in ascending order: all of an Int with few, all options, or `most` evenly spaced ones."""
        if self.parameter.levels is not None and (self.parameter.levels <= most or not self.continuous):
            levels = np.arange(self.parameter.levels)
            positions = self.parameter.position(levels).tolist()
        else:
            positions = np.linspace(0.0, 1.0, most).tolist()
        return list(dict.fromkeys(self.parameter.decode(position) for position in positions))

    def coordinates(self, values: Sequence[Value]) -> npt.NDArray[np.float64]:
        """Where values are on the axis."""
        if isinstance(self.parameter, Choice):
            places = {option: float(index) for index, option in enumerate(self.parameter.options)}
            return np.array([places.get(value, math.nan) for value in values])  # retired ones have none
        return np.array(values, dtype=float)

    def coordinates_in(self, points: Sequence[Params]) -> npt.NDArray[np.float64]:
        """Where points are on the axis; NaN where the parameter is inactive."""
        active = [self.name in point for point in points]
        at = np.full(len(points), math.nan)
        at[active] = self.coordinates([point[self.name] for point in points if self.name in point])
        return at

    def edges(self, values: Sequence[Value]) -> npt.NDArray[np.float64]:
        """Edges of the cells around values, halfway between these on the scale of the axis."""
        at = self.coordinates(values)
        scaled = np.log(at) if self._log else at
        half = np.diff(scaled) / 2.0
        first, last = (half[0], half[-1]) if len(half) else (0.5, 0.5)
        if isinstance(self.parameter, Float):  # whose axis ends at its bounds
            first = last = 0.0
        edges = np.concatenate(([scaled[0] - first], scaled[:-1] + half, [scaled[-1] + last]))
        return np.exp(edges) if self._log else edges

    def label(self, axes: "Axes", side: Literal["x", "y"]) -> None:
        """Scale, ticks and name of one side of a panel."""
        from matplotlib.ticker import MaxNLocator

        axis = axes.xaxis if side == "x" else axes.yaxis
        if self._log:
            axes.set(**{f"{side}scale": "log"})
        elif isinstance(self.parameter, Int):
            axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))
        draw_name(axis.label, short_name(self.name, 60))
        if isinstance(self.parameter, Choice):
            step = -(-self.parameter.levels // _MOST_TICKS)
            texts = [option_text(option) for option in self.parameter.options[::step]]
            name_ticks(axis, range(0, self.parameter.levels, step), texts)
            if side == "x" and sum(map(len, texts)) > _LEVEL_LETTERS:
                for tick in axis.get_ticklabels():
                    tick.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")

    @property
    def _log(self) -> bool:
        return isinstance(self.parameter, Float | Int) and self.parameter.log


def option_text(value: Value, most: int = _LONGEST_LABEL) -> str:
    """An option or a value, as it is written beside an axis: at most so many characters."""
    text = plain_text(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def axis_of(space: Space, name: str) -> ParameterAxis:
    """The axis of a parameter.

    Raises:
        UnknownParameter: the space has no parameter of this name.
        TrialError: the parameter has a single value.
    """
    parameter = space[name]
    if parameter.levels == 1:
        raise TrialError(f"a parameter must have more than one value to be drawn, got {name!r}")
    return ParameterAxis(name, parameter)


def require_active(point: Params, name: str) -> str:
    """The name of a parameter that is active in the recommended point, through which the model is drawn.

    Raises:
        TrialError: it is inactive there.
    """
    if name not in point:
        raise TrialError(f"a parameter must be active in the recommended point to be drawn, got {name!r}")
    return name


def names_by_importance(belief: Belief, point: Params, most: int) -> list[str]:
    """At most so many active parameters of a point, the most important first; else in the space's order."""
    varying = [name for name in belief.searched.names if belief.space[name].levels != 1 and name in point]
    if len(belief.trials) >= 3:
        order = [name for name in belief.importance().index if name in varying]
        varying = order + [name for name in varying if name not in order]
    return varying[:most]


@dataclass(frozen=True, eq=False)
class Section:
    """The model at points that differ in few parameters; the others are as in the recommended point.

    Attributes:
        mean: NaN outside of the space, and where one of the parameters is inactive.
        outside: where a constraint of the space is broken.
        infeasible: where a point of the space is feasible with a probability below one half.
    """

    mean: npt.NDArray[np.float64]
    outside: npt.NDArray[np.bool_]
    infeasible: npt.NDArray[np.bool_]

    @staticmethod
    def through(view: OutcomeView, values: Sequence[Params], shape: tuple[int, ...] = (-1,)) -> "Section":
        """The model at points, arranged in a shape.

        Args:
            view: of the outcome.
            values: of the same parameters for each point.
            shape: of the arrays.
        """
        searched, rows = view.belief.searched, view.rows_through(values)
        active = searched.columns.active(rows)[:, [searched.names.index(name) for name in values[0]]].all(-1)
        outside, infeasible = view.outside(rows), view.infeasible(rows)
        mean = view.belief.at(rows).mean.where(active & ~outside, torch.nan)
        parts = mean, outside, infeasible & ~outside
        return Section(*(part.numpy().reshape(shape) for part in parts))


def section_over(
    view: OutcomeView, across: ParameterAxis, up: ParameterAxis, count: int
) -> tuple[list[Value], list[Value], Section]:
    """The model over two parameters, the others as in the recommended point.

    Args:
        view: of the outcome.
        across: parameter of the columns.
        up: parameter of the rows.
        count: most values of each parameter.

    Returns:
        Values of the columns and of the rows, and the model (rows, columns).
    """
    columns, rows = across.values(count), up.values(count)
    values = [{across.name: column, up.name: row} for row in rows for column in columns]
    return columns, rows, Section.through(view, values, (len(rows), len(columns)))


def closeness(belief: Belief, point: Params, free: Sequence[str]) -> Tensor:
    """How close each finished trial is to a point, apart from the free parameters; 1 if they agree."""
    rows, row = belief.data.x[belief.rows].cpu(), belief.encode([point])[0]
    differences = rows - row
    unordered = list(belief.searched.unordered)
    differences[:, unordered] = (differences[:, unordered] != 0).to(differences)
    differences[:, [belief.searched.names.index(name) for name in free]] = 0.0
    others = max(belief.searched.dim - len(free), 3)
    return torch.exp(-0.5 * differences.square().sum(-1) / others / _NEAR**2)

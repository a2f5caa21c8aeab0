"""The figure of a model over three parts of a mixture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bo_suite.errors import TrialError
from bo_suite.plot.contour import draw_bar, draw_points, mean_colours
from bo_suite.plot.run import Run, Section, axis_of, closeness, names_by_importance, require_run
from bo_suite.plot.style import draw_name, legend_below, new_figure, short_name
from bo_suite.space.comparison import Comparison
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.study.views import OutcomeView
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

_VALUES = 101
"""Points along each side of the area in which the model is evaluated."""

_CORNERS = np.array([[0.5, 0.75**0.5], [0.0, 0.0], [1.0, 0.0]])
"""Where there is only the first part, only the second and only the third, up to the lower bounds."""

_ALIGNMENTS = (("left", "center"), ("right", "bottom"), ("right", "top"))
"""How the ticks of the first, the second and the third part meet their labels."""

_Array = npt.NDArray[np.float64]


def plot_ternary(run: Run, parts: Sequence[str] | None = None, *, outcome: str | None = None) -> "Figure":
    """Draw the mean of the model over three parts of a mixture; all else is as in the recommended point.

    The corners of the triangle are what is left of the total if two parts are at their lower bounds. A side
    has the values of one part, which stays the same along the lines from its ticks. Dark is better. Dots are
    evaluations, the larger the closer their other parameters are to those of the recommended point, which is
    the star; where further parts leave another total, they have the same proportions above the lower bounds.
    Where points are feasible with a probability below one half there is a grey veil; outside of the space
    nothing is drawn. With several objectives the recommended point is the one of `recommend` that is best in
    the outcome.

    Args:
        run: an Optimizer or a Result.
        parts: names of three parts, which are Floats without steps: of the top, the left and the right
            corner; None for those of the only mixture, or the three most important if it has more.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: no trial is finished, the space has no mixture of such parts, several if none is named, or
            the other parts or constraints leave nothing to draw.
        UnknownParameter: the space has no parameter of a name.
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    run = require_run(run)
    belief = run.belief(outcome)
    mixture = _mixture(belief.searched, None if parts is None else _three(belief.space, parts))
    view = OutcomeView.of(belief, run.trials, run.goals, run.space)
    names = _most_important(view, mixture) if parts is None else parts
    triangle = _Triangle.of(belief.searched, mixture, names, view.point)
    mesh = triangle.mesh()
    section = Section.through(view, triangle.points(mesh))
    blank = np.isnan(section.mean)[mesh.triangles].any(-1)
    if blank.all():
        raise TrialError(
            f"parts must be able to vary as long as their sum does not, got {list(names)}, which other "
            "constraints hold on a line"
        )
    mesh.set_mask(blank)

    figure, ((axes,),) = new_figure(width=6.0, height=4.8)
    triangle.draw(axes)
    mean = np.ma.masked_invalid(section.mean)
    drawn = axes.tripcolor(mesh, mean, shading="gouraud", cmap=mean_colours(belief), rasterized=True)
    draw_bar(figure, drawn, outcome)
    if section.infeasible.any():
        axes.tricontourf(mesh, section.infeasible.astype(float), [0.5, 1.5], colors=["0.82"], alpha=0.72)
        axes.fill([], [], color="0.82", label="likely infeasible")
    if len(np.unique(mean.compressed())) > 1:
        levels = np.linspace(mean.min(), mean.max(), 10)[1:-1]
        axes.tricontour(mesh, mean.filled(levels[0]), levels, colors="white", linewidths=0.6, alpha=0.6)
    places = triangle.places([trial.params for trial in belief.trials] + [view.point])
    draw_points(axes, places, closeness(belief, view.point, triangle.names).numpy())
    legend_below(figure, columns=3)
    return figure


@dataclass(frozen=True, eq=False)
class _Triangle:
    """Three parts that sum to a total, from their lower bounds on.

    Attributes:
        names: of the parts.
        lows: their lower bounds (3,).
        highs: their upper bounds (3,).
        total: their sum.
    """

    names: Sequence[str]
    lows: _Array
    highs: _Array
    total: float

    @staticmethod
    def of(space: Space, mixture: Comparison, names: Sequence[str], point: Params) -> "_Triangle":
        """The triangle of three parts of a mixture, of which the other ones are as in a point.

        Raises:
            TrialError: the other parts leave nothing beyond the lower bounds.
        """
        others = [point[name] for name, _ in mixture.coefficients if name not in names]
        total = mixture.bound / mixture.coefficients[0][1] - sum(others)
        numbers = [number for number in map(space.__getitem__, names) if isinstance(number, Float)]
        lows, highs = np.array([(number.low, number.high) for number in numbers]).T
        if min(total - lows.sum(), highs.sum() - total) <= 1e-9 * abs(total):
            raise TrialError(
                f"parts must be able to vary beside the others in the recommended point, got {list(names)}, "
                f"of which the others leave {total:.6g}"
            )
        return _Triangle(names, lows, highs, total)

    @property
    def size(self) -> float:
        """What there is beyond the lower bounds."""
        return self.total - float(self.lows.sum())

    def corners(self) -> _Array:
        """The corners of the area within the bounds, in order around it (n, 2)."""
        found, room = set(), 1e-9 * self.size
        for one, other in ((0, 1), (1, 2), (2, 0)):
            for ends in product((self.lows[one], self.highs[one]), (self.lows[other], self.highs[other])):
                values = np.full(3, self.total - sum(ends))
                values[[one, other]] = ends
                if (values >= self.lows - room).all() and (values <= self.highs + room).all():
                    found.add(tuple(self._at(values).round(12)))
        corners = np.array(sorted(found))
        around = corners - corners.mean(0)
        ordered: _Array = corners[np.arctan2(around[:, 1], around[:, 0]).argsort()]
        return ordered

    def mesh(self) -> "Triangulation":
        """Triangles that fill the area within the bounds."""
        from matplotlib.tri import Triangulation

        corners = self.corners()
        sides = np.linspace(corners, np.roll(corners, -1, 0), _VALUES)[:-1].reshape(-1, 2)
        columns, rows = np.linspace(corners.min(0), corners.max(0), _VALUES).T
        grid = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
        values = self._values(grid)
        inner = ((values > self.lows) & (values < self.highs)).all(-1)
        return Triangulation(*np.concatenate([grid[inner], sides]).T)

    def points(self, mesh: "Triangulation") -> list[Params]:
        """The values of the parts at the nodes of the triangles."""
        values = self._values(np.stack([mesh.x, mesh.y], -1)).clip(self.lows, self.highs)
        return [dict(zip(self.names, one, strict=True)) for one in values.tolist()]

    def places(self, points: Sequence[Params]) -> _Array:
        """Where points are in the triangle (2, n), by the proportions of their parts."""
        return self._at(np.array([[point[name] for name in self.names] for point in points])).T

    def draw(self, axes: "Axes") -> None:
        """Draw the sides, with ticks and names."""
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set(xlim=(-0.08, 1.08), ylim=(-0.12, 0.9))
        axes.set_title(f"sum {self.total:.6g}", loc="right", fontsize=9, color="0.35")
        axes.fill(*_CORNERS.T, fill=False, edgecolor="0.35", linewidth=0.8, zorder=2.0)
        for part, name in enumerate(self.names):
            start, end, inward = _CORNERS[part - 1], _CORNERS[part], _CORNERS[(part + 1) % 3]
            outward, (side, height) = start - inward, _ALIGNMENTS[part]
            for tick in self._ticks(part):
                share = (tick - self.lows[part]) / self.size
                foot = start + share * (end - start)
                line, mark = (np.stack([foot, foot + way * outward]).T for way in (share - 1.0, 0.015))
                axes.plot(*line, color="0.9", linewidth=0.6, zorder=0.5)  # is seen where nothing is drawn
                axes.plot(*mark, color="0.35", linewidth=0.8)
                x, y = foot + 0.025 * outward
                axes.text(x, y, f"{tick:.6g}", ha=side, va=height, fontsize=9)
            x, y = 0.565 * (start + end) - 0.13 * inward
            text = axes.text(x, y, "", ha="center", va="center", rotation=(-60.0, 60.0, 0.0)[part])
            draw_name(text, short_name(name, 40))

    def _ticks(self, part: int) -> list[float]:
        """Round values of a part."""
        from matplotlib.ticker import MaxNLocator

        low, high, room = self.lows[part], self.lows[part] + self.size, 1e-6 * self.size
        ticks = MaxNLocator(5).tick_values(low, high)
        return [float(tick) for tick in ticks if low - room <= tick <= high + room]

    def _at(self, values: _Array) -> _Array:
        """Places of values of the parts (*b, 3), by their proportions; NaN if none has any (*b, 2)."""
        beyond = values - self.lows
        sums = beyond.sum(-1, keepdims=True)
        shares = np.divide(beyond, sums, out=np.full_like(beyond, np.nan), where=sums > 1e-9 * self.size)
        places: _Array = shares @ _CORNERS
        return places

    def _values(self, places: _Array) -> _Array:
        """The values of the parts at places of the triangle (n, 3)."""
        first = places[:, 1] / _CORNERS[0, 1]
        third = places[:, 0] - 0.5 * first
        return self.lows + self.size * np.stack([first, 1.0 - first - third, third], -1)


def _three(space: Space, parts: object) -> Sequence[str]:
    """The parts that are named.

    Raises:
        TrialError: they are not three different parameters that vary.
        UnknownParameter: the space has no parameter of a name.
    """
    names = parts if isinstance(parts, Sequence) and not isinstance(parts, str) else ()
    if len(names) != 3 or len({name for name in names if isinstance(name, str)}) < 3:
        raise TrialError(f"parts must be a list of three names, got {described(parts)}")
    return [axis_of(space, name).name for name in names]


def _mixture(space: Space, parts: Sequence[str] | None) -> Comparison:
    """The mixture that has the parts.

    Raises:
        TrialError: the space has none that has them, or several if none is named.
    """
    mixtures = [one for one in space.constraints.inner if len(_parts(space, one)) >= 3]
    law = "a ternary figure needs three parts of a mixture: Floats without steps that sum to a total"
    texts = [one.text for one in mixtures]
    if parts is None and len(mixtures) > 1:
        raise TrialError(f"{law}; name them, as the space has several: {texts}")
    for one in mixtures:
        if parts is None or set(parts) <= set(_parts(space, one)):
            return one
    named = "" if parts is None else f"{list(parts)} in "
    raise TrialError(f"{law}, got {named}a space with {texts or 'none'}")


def _parts(space: Space, mixture: Comparison) -> list[str]:
    """The parts that can be drawn of an equality whose coefficients are equal; none of another comparison."""
    if not mixture.equality or mixture.log or len({size for _, size in mixture.coefficients}) > 1:
        return []
    return [name for name, _ in mixture.coefficients if space[name].levels is None]


def _most_important(view: OutcomeView, mixture: Comparison) -> list[str]:
    """The three most important parts of a mixture, in its order."""
    searched = view.belief.searched
    parts = _parts(searched, mixture)
    if len(parts) == 3:
        return parts
    order = names_by_importance(view.belief, view.point, searched.dim)
    chosen = [name for name in order if name in parts][:3]
    return [name for name in parts if name in chosen]

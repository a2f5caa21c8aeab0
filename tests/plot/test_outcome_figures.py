"""Figures of one outcome of several, and where points are likely to be infeasible."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.errors import ArgumentError
from bo_suite.plot import plot_contour, plot_cross_validation, plot_importance, plot_parallel, plot_slices

FIGURES = (plot_slices, plot_contour, plot_importance, plot_parallel, plot_cross_validation)
SPACE = Space({"x": Float(0.0, 1.0), "k": Choice(["a", "b"])})


@cache
def run(several: bool = True) -> Optimizer:
    direction = {"err $e$": "minimize"} | ({"gain": "maximize"} if several else {})
    optimizer = Optimizer(SPACE, direction=direction, constraints={"size": (None, 6.0), "works": True})
    for number in range(14):
        x, k = (0.618 * number) % 1.0, "ab"[number % 2]
        told = {"err $e$": (x - 0.9) ** 2, "gain": x - 0.5 * (k == "b"), "size": 10 * x, "works": k == "a"}
        optimizer.add({"x": x, "k": k}, {name: told[name] for name in optimizer.goals.names})
    optimizer.add({"x": 0.5, "k": "a"}, {"size": 5.0})
    return optimizer


def spans(axes: Axes) -> list[tuple[float, float]]:
    boxes = [patch.get_extents() for patch in axes.patches if patch.get_hatch()]
    ends = [axes.transData.inverted().transform(box.get_points())[:, 0] for box in boxes]
    return [(float(low), float(high)) for low, high in ends]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize("outcome", ["err $e$", "gain", "size", "works"])
def test_every_figure_of_every_outcome_can_be_saved(figure, outcome: str, tmp_path: Path) -> None:
    drawn = figure(run(), outcome=outcome)
    drawn.savefig(tmp_path / "figure.png", dpi=30)
    labels = [text.get_text() for axes in drawn.axes for text in (axes.xaxis.label, axes.yaxis.label)]
    assert any(outcome in label for label in labels)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_an_outcome_must_be_named(figure) -> None:
    with pytest.raises(ArgumentError, match=r"outcome= must be one of .*, as there are several objectives"):
        figure(run())
    with pytest.raises(ArgumentError, match=r"outcome= must be one of .*, got 'error'"):
        figure(run(several=False), outcome="error")


def test_slices_are_hatched_where_they_are_likely_infeasible() -> None:
    of_x, of_k = plot_slices(run(several=False)).axes
    ((low, high),) = spans(of_x)
    assert low == pytest.approx(0.6, abs=0.06)
    assert high == pytest.approx(1.0)
    assert spans(of_k) == [pytest.approx((0.5, 1.5))]  # option b does not work
    assert of_x.get_ylabel() == "err $e$"


def test_a_contour_has_a_veil_over_the_same_cells() -> None:
    (axes, _) = plot_contour(run(several=False), "x", "k").axes
    veil = axes.collections[1].get_array()
    covered = ~np.ma.getmaskarray(veil).reshape(2, 61)
    at = np.linspace(0, 1, 61)
    assert covered[1].all()
    assert (covered[0] == (at > 0.6))[abs(at - 0.6) > 0.06].all()
    assert "likely infeasible" in axes.get_legend_handles_labels()[1]


def test_lines_are_ordered_by_the_outcome_and_infeasible_ones_are_dashed() -> None:
    optimizer = run()
    feasible = [trial for trial in optimizer.trials if optimizer.goals.is_feasible(trial.outcomes)]
    for outcome, sign in (("gain", -1), ("size", 1)):
        axes = plot_parallel(optimizer, outcome=outcome).axes[0]
        dashed, lines = axes.collections
        values = [trial.outcomes[outcome] for trial in feasible]
        assert list(lines.get_array()) == sorted(values, key=lambda value: -sign * value)
        assert len(dashed.get_segments()) == len(optimizer.trials) - len(feasible) - (outcome == "gain")

"""The picture of regret over evaluations and seconds: what is drawn, and that its names can be read."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bo_suite.bench import compare, run_suite
from bo_suite.errors import DataError
from bo_suite.plot.regret import plot_regret
from bo_suite.plot.style import LINES

NAN, INF = float("nan"), float("inf")


def _table(values: dict[str, list[float]], axis: str = "evaluation", spread: float = NAN) -> pd.DataFrame:
    """Curves of these medians, with intervals from the median / spread to the median * spread."""
    points = range(1, 100) if axis == "evaluation" else [1e-4 * 10.0**k for k in range(99)]
    rows = [
        (method, point, value, value / spread, value * spread)
        for method, medians in values.items()
        for point, value in zip(points, medians, strict=False)
    ]
    return pd.DataFrame(rows, columns=["method", axis, "normalized", "normalized_low", "normalized_high"])


def _line(figure: Figure, panel: int, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[panel].get_lines() if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def _names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_highlighted_method_is_drawn_strongest_and_the_legend_follows_the_ends_of_the_lines():
    figure = plot_regret(_table({"a": [1.0, 0.5], "b": [1.0, 0.01], "c": [1.0, 0.2]}), highlight="b")
    assert len(figure.axes) == 1
    assert _line(figure, 0, "a") == ([1, 2], [1.0, 0.5])
    assert _line(figure, 0, "b") == ([1, 2], [1.0, 0.01])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["b"].get_linewidth() > lines["a"].get_linewidth()
    assert [lines[name].get_color() for name in "bac"] == [style.color for style in LINES[:3]]
    assert _names(figure) == ["a", "c", "b"]
    assert [text.get_fontweight() for text in figure.legends[0].get_texts()] == ["normal", "normal", "bold"]
    assert figure.axes[0].get_yscale() == "log"


def test_records_of_a_suite_are_drawn(tmp_path):
    records = run_suite("branin", "random,sobol", range(2), 4, tmp_path, workers=1, progress=False)
    comparison = compare(records)
    curves = comparison.overall_curves
    figure = plot_regret(curves, comparison.overall_curves_over_time, names={"random": "random search"})
    found = curves[curves["method"] == "random"]["normalized"]
    assert _line(figure, 0, "random search") == ([1, 2, 3, 4], pytest.approx(found.tolist()))
    assert [axes.get_xlabel() for axes in figure.axes] == ["evaluations", "time in ask and tell"]
    assert figure.axes[1].get_xscale() == "log"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_interval_is_drawn_where_there_is_one():
    (band,) = plot_regret(_table({"a": [1.0, 0.5, 0.2]}, spread=2.0)).axes[0].collections
    ends = np.concatenate([path.vertices for path in band.get_paths()])
    for point, low, high in ((1, 0.5, 2.0), (2, 0.25, 1.0), (3, 0.1, 0.4)):
        drawn = ends[ends[:, 0] == point, 1]
        assert (drawn.min(), drawn.max()) == pytest.approx((low, high))
    (band,) = plot_regret(_table({"a": [1.0, 0.5, 0.2]})).axes[0].collections
    assert sum(len(path.vertices) for path in band.get_paths()) == 0


def test_a_line_over_seconds_is_thin_where_nothing_changes_any_more():
    curves = _table({"a": [1.0, 0.1], "b": [1.0, 0.2]})
    over_time = _table({"a": [INF, 1.0, 0.1, 0.1, 0.1], "b": [1.0, 0.2, 0.2, 0.2, 0.2]}, "optimizer_seconds")
    axes = plot_regret(curves, over_time, highlight="a").axes[1]
    thin = {line.get_color(): line for line in axes.get_lines() if line.get_linewidth() < 1}
    assert list(thin[LINES[0].color].get_ydata()) == [0.1, 0.1, 0.1]
    assert list(thin[LINES[1].color].get_ydata()) == [0.2, 0.2, 0.2, 0.2]
    (drawn,) = [line for line in axes.get_lines() if line.get_label() == "a"]
    assert list(drawn.get_ydata())[1:] == [1.0, 0.1]
    assert axes.xaxis.get_major_formatter()(0.01) == "10 ms"


def test_a_regret_of_zero_is_drawn_at_the_floor_and_lost_methods_come_first_in_the_legend():
    medians = {"found": [1.0, 0.0], "lost": [1.0, INF], "never": [INF, INF], "none": [1.0, 0.5]}
    figure = plot_regret(_table(medians))
    figure.draw_without_rendering()
    assert _line(figure, 0, "found")[1] == [1.0, 1e-9]
    low, high = figure.axes[0].get_ylim()
    assert low < 1e-9
    assert high < 10.0
    assert _names(figure) == ["lost", "never", "none", "found"]
    assert _line(figure, 0, "never") == ([], [])


@pytest.mark.parametrize("level", [0.21, 0.3, 0.7, 1.0])
def test_axes_that_span_little_have_ticks(level):
    over_time = _table({"a": [level] * 3}, "optimizer_seconds")
    over_time["optimizer_seconds"] = [2.1, 2.2, 2.3]
    figure = plot_regret(_table({"a": [level] * 3}), over_time)
    for axis in (figure.axes[0].yaxis, figure.axes[1].xaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_majorticklocs(), *axis.get_minorticklocs()]
        assert [tick for tick in ticks if low <= tick <= high]


def test_a_wide_interval_does_not_squash_the_medians():
    table = _table({"a": [1.0, 0.01]}, spread=1e6)
    low, high = plot_regret(table).axes[0].get_ylim()
    assert 1e-3 < low < high < 10.0


def test_long_names_lose_their_middle_and_names_that_then_agree_keep_their_lines():
    long = "knowledge gradient of three quantiles, $5 each"
    other = long.replace("three", "seven")
    figure = plot_regret(_table({long: [1.0, 0.5], other: [1.0, 0.3]}), names={})
    figure.draw_without_rendering()
    assert _names(figure) == ["knowledge gradient…$5 each"] * 2
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [
        style.color for style in LINES[:2]
    ]


@pytest.mark.parametrize(
    ("curves", "over_time", "asked", "message"),
    [
        (_table({"a": [1.0]}).drop(columns="normalized_low"), None, {}, "normalized_low is missing"),
        (_table({"a": [1.0]}), _table({"a": [1.0]}), {}, "optimizer_seconds is missing"),
        (_table({"a": [1.0]}).astype({"normalized": str}), None, {}, "must hold numbers"),
        (_table({"a": [1.0]})[:0], None, {}, "1 to 8 methods, got 0"),
        (_table({f"{k}": [1.0] for k in range(9)}), None, {}, "1 to 8 methods, got 9"),
        (_table({"a": [1.0]}), _table({"b": [1.0]}, "optimizer_seconds"), {}, "have the same methods"),
        (_table({"a": [1.0]}), None, {"highlight": "b"}, "one of .'a'., got 'b'"),
        (_table({"a": [1.0]}), None, {"names": {"c": "C"}}, "one of .'a'., got 'c'"),
        (_table({"a": [INF, INF]}), None, {}, "a finite value over evaluation, got none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(curves, over_time, asked, message):
    with pytest.raises(DataError, match=message):
        plot_regret(curves, over_time, **asked)

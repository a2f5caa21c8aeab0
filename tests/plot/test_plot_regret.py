"""The picture of regret over evaluations and seconds: what is drawn, and that its names can be read."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from bo_suite.bench import run_suite
from bo_suite.bench.curves import overall_curves, overall_curves_over_time
from bo_suite.errors import DataError
from bo_suite.plot.regret import plot_regret
from bo_suite.plot.style import LINES

NAN, INF = float("nan"), float("inf")
MANY = [f"method {k}" for k in range(8)]


def _table(values: dict[str, list[float]], axis: str = "evaluation", spread: float = NAN) -> pd.DataFrame:
    """Curves of these medians, and of intervals from one part of them to as many times them."""
    places = range(1, 100) if axis == "evaluation" else [1e-4 * 10.0**k for k in range(99)]
    rows = [
        (method, place, value, value / spread, value * spread)
        for method, medians in values.items()
        for place, value in zip(places, medians, strict=False)
    ]
    return pd.DataFrame(rows, columns=["method", axis, "normalized", "normalized_low", "normalized_high"])


def _line(figure: Figure, panel: int, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[panel].get_lines() if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def _names(figure: Figure, panel: int = 0) -> list[Annotation]:
    return [text for text in figure.axes[panel].texts if isinstance(text, Annotation)]


def test_a_line_a_method_and_the_highlighted_one_comes_first():
    figure = plot_regret(_table({"a": [1.0, 0.5], "b": [1.0, 0.01]}), highlight="b")
    assert len(figure.axes) == 1
    assert _line(figure, 0, "a") == ([1, 2], [1.0, 0.5])
    assert _line(figure, 0, "b") == ([1, 2], [1.0, 0.01])
    widths = {line.get_label(): line.get_linewidth() for line in figure.axes[0].get_lines()}
    colors = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}
    assert widths["b"] > widths["a"]
    assert (colors["b"], colors["a"]) == (LINES[0].color, LINES[1].color)
    weights = {name.get_text(): name.get_fontweight() for name in _names(figure)}
    assert weights == {"a": "normal", "b": "bold"}
    assert figure.axes[0].get_yscale() == "log"


def test_records_of_a_suite_are_drawn(tmp_path):
    records = run_suite("branin", "random,sobol", range(2), 4, tmp_path, workers=1, progress=False)
    curves, over_time = overall_curves(records), overall_curves_over_time(records)
    figure = plot_regret(curves, over_time, names={"random": "random search"})
    found = curves[curves["method"] == "random"]["normalized"]
    assert _line(figure, 0, "random search") == ([1, 2, 3, 4], pytest.approx(found.tolist()))
    assert [axes.get_xlabel() for axes in figure.axes] == ["evaluations", "time in ask and tell"]
    assert figure.axes[1].get_xscale() == "log"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_interval_is_drawn_where_there_is_one():
    known = _table({"a": [1.0, 0.5, 0.2]}, spread=2.0)
    (band,) = plot_regret(known).axes[0].collections
    ends = np.concatenate([path.vertices for path in band.get_paths()])
    for place, low, high in ((1, 0.5, 2.0), (2, 0.25, 1.0), (3, 0.1, 0.4)):
        drawn = ends[ends[:, 0] == place, 1]
        assert (drawn.min(), drawn.max()) == pytest.approx((low, high))
    (band,) = plot_regret(_table({"a": [1.0, 0.5, 0.2]})).axes[0].collections
    assert sum(len(path.vertices) for path in band.get_paths()) == 0


@pytest.mark.parametrize(
    "ends",
    [[0.1] * 8, [1e-6] * 8, [1.0] * 8, [10.0**-k for k in range(8)], [1.0] * 4 + [1e-5] * 4, [INF] * 8],
    ids=["level", "at the bottom", "at the top", "apart", "both", "lost"],
)
def test_names_do_not_overlap_and_stay_inside(ends):
    medians = {method: [1.0, end] for method, end in zip(MANY, ends, strict=True)}
    figure = plot_regret(_table(medians), _table(medians, "optimizer_seconds"), highlight=MANY[3])
    figure.draw_without_rendering()
    for panel in (0, 1):
        boxes = [Text.get_window_extent(name) for name in _names(figure, panel)]
        assert sorted(name.get_text() for name in _names(figure, panel)) == MANY
        assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
        right = figure.bbox.x1 if panel else figure.axes[1].get_window_extent().x0
        for box in boxes:
            assert figure.axes[panel].get_window_extent().x1 < box.x0 < box.x1 < right
            assert figure.bbox.y0 < box.y0 < box.y1 < figure.bbox.y1


def test_names_are_moved_no_further_than_needed():
    figure = plot_regret(_table({"a": [1.0, 1.0], "b": [1.0, 1e-2], "c": [1.0, 1e-4]}))
    assert [name.xyann[1] for name in _names(figure)] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    figure = plot_regret(_table({"a": [1.0, 1e-2], "b": [1.0, 1e-2], "c": [1.0, 1e-4]}))
    moved = sorted(name.xyann[1] for name in _names(figure))
    assert moved[0] < -5.0
    assert moved == pytest.approx([moved[0], 0.0, -moved[0]], abs=1e-9)


def test_a_line_over_seconds_is_thin_where_nothing_changes_any_more():
    curves = _table({"a": [1.0, 0.1], "b": [1.0, 0.2]})
    over_time = _table({"a": [INF, 1.0, 0.1, 0.1, 0.1], "b": [1.0, 0.2, 0.2, 0.2, 0.2]}, "optimizer_seconds")
    axes = plot_regret(curves, over_time, highlight="a").axes[1]
    thin = {line.get_color(): line for line in axes.get_lines() if line.get_linewidth() < 1}
    assert list(thin[LINES[0].color].get_ydata()) == [0.1, 0.1, 0.1]
    assert list(thin[LINES[1].color].get_ydata()) == [0.2, 0.2, 0.2, 0.2]
    (drawn,) = [line for line in axes.get_lines() if line.get_label() == "a"]
    assert list(drawn.get_ydata())[1:] == [1.0, 0.1]
    assert axes.get_xlim() == pytest.approx((1e-4, 1.0))
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "0.1 ms",
        "1 ms",
        "10 ms",
        "0.1 s",
        "1 s",
    ]


def test_a_regret_of_zero_has_a_place_and_a_lost_method_its_name_above():
    figure = plot_regret(_table({"found": [1.0, 0.0], "lost": [1.0, INF]}))
    assert _line(figure, 0, "found")[1] == [1.0, 1e-9]
    low, high = figure.axes[0].get_ylim()
    assert low < 1e-9
    assert high < 10.0
    assert {name.get_text(): name.xy[1] for name in _names(figure)} == {"found": 1e-9, "lost": high}


def test_a_method_that_never_finds_anything_has_a_name_and_no_line():
    figure = plot_regret(_table({"found": [1.0, 0.5], "lost": [INF, INF]}))
    figure.draw_without_rendering()
    assert "lost" not in [line.get_label() for line in figure.axes[0].get_lines()]
    assert [name.get_text() for name in _names(figure)] == ["found", "lost"]


@pytest.mark.parametrize("level", [0.21, 0.3, 0.7, 1.0])
def test_axes_that_span_little_have_ticks(level):
    over_time = _table({"a": [level] * 3}, "optimizer_seconds")
    over_time["optimizer_seconds"] = [2.1, 2.2, 2.3]
    figure = plot_regret(_table({"a": [level] * 3}), over_time)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert [tick for tick in axes.get_yticks() if low <= tick <= high]
    low, high = figure.axes[1].get_xlim()
    assert [tick for tick in figure.axes[1].get_xticks() if low <= tick <= high]


def test_a_wide_interval_does_not_squash_the_medians():
    table = _table({"a": [1.0, 0.01]}, spread=1e6)
    low, high = plot_regret(table).axes[0].get_ylim()
    assert 1e-3 < low < high < 10.0


def test_letters_are_large_and_long_names_are_cut():
    long = "knowledge gradient of three quantiles, $5 each"
    figure = plot_regret(_table({long: [1.0, 0.5], "b": [1.0, 0.3]}), highlight=long)
    figure.draw_without_rendering()
    cut, whole = (name.get_text() for name in _names(figure))
    assert (cut, whole) == ("knowledge gradient…$5 each", "b")
    assert min(text.get_size() for text in figure.findobj(Text) if text.get_text()) >= 9


@pytest.mark.parametrize(
    ("curves", "over_time", "asked", "message"),
    [
        (_table({"a": [1.0]}).drop(columns="normalized_low"), None, {}, "none called normalized_low"),
        (_table({"a": [1.0]}), _table({"a": [1.0]}), {}, "none called optimizer_seconds"),
        (_table({"a": [1.0]}).astype({"normalized": str}), None, {}, "must hold numbers"),
        (_table({"a": [1.0]})[:0], None, {}, "1 to 8 methods in a picture, got 0"),
        (_table({f"{k}": [1.0] for k in range(9)}), None, {}, "1 to 8 methods in a picture, got 9"),
        (_table({"a": [1.0]}), _table({"b": [1.0]}, "optimizer_seconds"), {}, "of the same methods"),
        (_table({"a": [1.0]}), None, {"highlight": "b"}, "one of .'a'., got 'b'"),
        (_table({"a": [1.0]}), None, {"names": {"c": "C"}}, "one of .'a'., got 'c'"),
        (_table({"a": [INF, INF]}), None, {}, "a finite value, got none over the column evaluation"),
    ],
)
def test_what_cannot_be_drawn_is_refused(curves, over_time, asked, message):
    with pytest.raises(DataError, match=message):
        plot_regret(curves, over_time, **asked)

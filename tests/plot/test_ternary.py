"""The figure of a model over three parts of a mixture, and what contours and slices say of constraints."""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bo_suite import Float, Int, Mixture, Optimizer, Space
from bo_suite.errors import TrialError, UnknownParameter
from bo_suite.plot import plot_contour, plot_slices, plot_ternary

DRINK = Mixture(["juice", "syrup", "water"], 100, {"syrup": (5, 20), "water": (30, 90)})
FIVE = Mixture(["a", "b", "c", "d", "e"])


def added(optimizer: Optimizer, points: Sequence[dict[str, float]], told: Any) -> Optimizer:
    for point in points:
        optimizer.add(point, told(point))
    return optimizer


def shares(count: int, parts: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(parts), count)


@cache
def drinks() -> Optimizer:
    space = Space({**DRINK.parameters, "heat": Float(20, 90)}, [DRINK, "juice <= 62"])
    points = [
        {"juice": 65 - 65 * b - 65 * c, "syrup": 5 + 65 * b, "water": 30 + 65 * c, "heat": 20 + 70 * a}
        for a, b, c in shares(40, 3)
        if b < 0.2
    ]
    return added(
        Optimizer(space),
        points,
        lambda point: (point["juice"] - 42) ** 2 + 9 * (point["syrup"] - 12) ** 2 + point["heat"],
    )


@cache
def picture() -> Figure:
    return plot_ternary(drinks())


@cache
def five(limited: bool) -> Optimizer:
    space = Space(FIVE.parameters, [FIVE])
    goals: dict[str, Any] = {"direction": {"y": "minimize"}, "constraints": {"size": (None, 0.3)}}
    points = [dict(zip("abcde", map(float, row), strict=True)) for row in shares(14, 5).round(6)]
    points = [point | {"e": 1.0 - sum(point[name] for name in "abcd")} for point in points]

    def y(point: dict[str, float]) -> float:
        return (point["a"] - 0.3) ** 2 + 2 * (point["c"] - 0.2) ** 2 + 3 * (point["d"] - 0.2) ** 2

    if limited:
        return added(Optimizer(space, **goals), points, lambda point: {"y": y(point), "size": point["c"]})
    return added(Optimizer(space), points, y)


def mesh_of(figure: Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The triangles that are drawn (n, 3), the places of their nodes (m, 2) and the means there (m,)."""
    triangulation = figure.axes[0].collections[0]._triangulation  # what TriMesh draws has no public name
    means = figure.axes[0].collections[0].get_array()
    return triangulation.get_masked_triangles(), np.stack([triangulation.x, triangulation.y], -1), means


def areas(triangles: np.ndarray, places: np.ndarray) -> np.ndarray:
    first, second = places[triangles[:, 1]] - places[triangles[:, 0]], places[triangles[:, 2]]
    second = second - places[triangles[:, 0]]
    return abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def place(top: float, left: float, right: float) -> tuple[float, float]:
    """Where shares lie: heights above the sides of a triangle with sides of length 1."""
    return right + top / 2, top * np.sqrt(3) / 2


def dots(axes: Axes) -> np.ndarray:
    (found,) = (one for one in axes.collections if one.get_label() == "evaluation")
    return np.asarray(found.get_offsets())


def star(axes: Axes) -> tuple[float, float]:
    (found,) = (line for line in axes.lines if line.get_label() == "recommended")
    return float(found.get_xdata()[0]), float(found.get_ydata()[0])


def test_evaluations_and_the_recommended_point_lie_at_their_shares_beyond_the_bounds() -> None:
    optimizer = drinks()
    axes = picture().axes[0]
    expected = [
        place(trial.params["juice"] / 65, (trial.params["syrup"] - 5) / 65, (trial.params["water"] - 30) / 65)
        for trial in optimizer.trials
    ]
    np.testing.assert_allclose(dots(axes), expected, atol=1e-9)
    point = optimizer.recommend()
    shown = place(point["juice"] / 65, (point["syrup"] - 5) / 65, (point["water"] - 30) / 65)
    assert star(axes) == pytest.approx(shown)
    turned = plot_ternary(optimizer, ["water", "juice", "syrup"]).axes[0]
    shown = place((point["water"] - 30) / 65, point["juice"] / 65, (point["syrup"] - 5) / 65)
    assert star(turned) == pytest.approx(shown)


def test_the_mean_is_that_of_the_model_at_the_recommended_heat() -> None:
    optimizer = drinks()
    triangles, places, means = mesh_of(picture())
    chosen = np.unique(triangles)[::97]
    top = places[chosen, 1] / np.sqrt(0.75)
    right = places[chosen, 0] - top / 2
    values = {"juice": 65 * top, "syrup": 5 + 65 * (1 - top - right), "water": 30 + 65 * right}
    heat = optimizer.recommend()["heat"]
    points = [
        {"heat": heat, **dict(zip(values, map(float, row), strict=True))}
        for row in zip(*values.values(), strict=True)
    ]
    np.testing.assert_allclose(means[chosen], optimizer.predict(points)["mean"], rtol=1e-6)


def test_bounds_and_constraints_cut_the_triangle() -> None:
    """Of the sides 65, 50 are beyond the bound of syrup, 5 beyond that of water, and 3 beyond 62 of juice."""
    triangles, places, _ = mesh_of(picture())
    left = 1.0 - (places[:, 0] + places[:, 1] / np.sqrt(3))
    assert left[np.unique(triangles)].max() == pytest.approx(15 / 65, abs=1e-9)
    whole, bounds, constraint = np.sqrt(3) / 4, (50 / 65) ** 2 + (5 / 65) ** 2, (3 / 65) ** 2
    drawn = areas(triangles, places).sum() / whole
    assert drawn == pytest.approx(1 - bounds - constraint, abs=6e-4)  # cells that are cut are left out
    assert 65 * places[np.unique(triangles), 1].max() / np.sqrt(0.75) <= 62
    assert drawn < 1 - bounds


def test_the_sides_have_round_values_of_the_parts() -> None:
    axes = picture().axes[0]
    texts = [(text.get_text(), *text.get_position()) for text in axes.texts]
    assert {"juice", "syrup", "water"} <= {text for text, _, _ in texts}
    ticks = [(float(text), x, y) for text, x, y in texts if text not in DRINK.parts]
    places = {  # on the side between two corners, the part of the third is at its lower bound
        "juice": lambda value: place(value / 65, 0, 1 - value / 65),
        "syrup": lambda value: place(1 - (value - 5) / 65, (value - 5) / 65, 0),
        "water": lambda value: place(0, 1 - (value - 30) / 65, (value - 30) / 65),
    }
    at = [[np.hypot(*(np.array(to(value)) - (x, y))) for to in places.values()] for value, x, y in ticks]
    np.testing.assert_allclose(np.min(at, axis=1), 0.025, atol=1e-9)
    assert np.unique(np.argmin(at, axis=1), return_counts=True)[1].min() >= 4
    assert axes.get_aspect() == 1.0
    assert axes.get_title(loc="right") == "sum 100"


def test_of_more_parts_the_most_important_are_drawn_and_the_others_are_as_recommended() -> None:
    optimizer = five(limited=False)
    figure = plot_ternary(optimizer)
    order = [name for name in optimizer.importance().index if name in FIVE.parts]
    names = [text.get_text() for text in figure.axes[0].texts if text.get_text() in FIVE.parts]
    assert names == sorted(order[:3])
    point = optimizer.recommend()
    whole = sum(point[name] for name in names)
    assert figure.axes[0].get_title(loc="right") == f"sum {whole:.6g}"
    assert star(figure.axes[0]) == pytest.approx(place(*(point[name] / whole for name in names)))


def test_a_veil_is_over_what_is_likely_infeasible() -> None:
    figure = plot_ternary(five(limited=True), ["a", "b", "c"], outcome="y")
    (veil,) = (one for one in figure.axes[0].collections if one.get_alpha() == 0.72)
    corners = np.concatenate([path.vertices for path in veil.get_paths()])
    right = corners[:, 0] - corners[:, 1] / np.sqrt(3)
    whole = float(figure.axes[0].get_title(loc="right").removeprefix("sum "))
    assert whole * right.min() == pytest.approx(0.3, abs=0.04)
    assert right.max() == pytest.approx(1.0)
    assert "likely infeasible" in figure.axes[0].get_legend_handles_labels()[1]


@pytest.mark.parametrize(
    ("value", "direction", "colours"), [(1.0, "minimize", "viridis"), (1e300, "maximize", "viridis_r")]
)
def test_extreme_outcomes_can_be_drawn_and_dark_is_better(value: float, direction: str, colours: str) -> None:
    mixture = Mixture(["a", "b", "c"])
    points = [{"a": a, "b": 0.5 - a, "c": 0.5} for a in (0.1, 0.2, 0.4)]
    space = Space(mixture.parameters, [mixture])
    figure = plot_ternary(added(Optimizer(space, direction=direction), points, lambda _: value))
    figure.savefig(io.BytesIO(), dpi=30)
    assert figure.axes[0].collections[0].get_cmap().name == colours


LAW = "a ternary figure needs three parts of a mixture: Floats without steps that sum to a total"


@pytest.mark.parametrize(
    ("constraints", "parts", "message"),
    [
        ([], None, f"{LAW}, got a space with none"),
        (["a + 2*b + c == 1"], None, f"{LAW}, got a space with none"),
        (["a + b + n == 1"], None, f"{LAW}, got a space with none"),
        (["a + b + c <= 1"], None, f"{LAW}, got a space with none"),
        (
            ["a + b + c == 1"],
            ["a", "b", "d"],
            f"{LAW}, got ['a', 'b', 'd'] in a space with ['a + b + c == 1']",
        ),
        (["a + b + c == 1", "a + d + e == 1"], None, f"{LAW}; name them, as the space has several: ['a + b"),
        (
            ["a + b + c == 1", "a + b == 0.5"],
            None,
            "parts must be able to vary as long as their sum does not",
        ),
        (["a + b + c == 1"], "abc", "parts must be a list of three names, got 'abc'"),
        (["a + b + c == 1"], [["a"], "b", "c"], "parts must be a list of three names, got [['a'], 'b', 'c']"),
        (["a + b + c == 1"], ["a", "b"], "parts must be a list of three names, got ['a', 'b']"),
        (["a + b + c == 1"], ["a", "b", "a"], "parts must be a list of three names, got ['a', 'b', 'a']"),
    ],
)
def test_what_is_no_mixture_of_three_is_refused(constraints: list[str], parts: Any, message: str) -> None:
    space = Space({**{name: Float(0, 1) for name in "abcde"}, "n": Int(0, 1)}, constraints)
    optimizer = Optimizer(space)
    optimizer.tell(optimizer.ask(), 1.0)
    with pytest.raises(TrialError) as error:
        plot_ternary(optimizer, parts)
    assert str(error.value).startswith(message)


def test_unknown_parts_and_parts_that_others_leave_nothing_are_refused() -> None:
    optimizer = five(limited=False)
    with pytest.raises(UnknownParameter, match="'f'"):
        plot_ternary(optimizer, ["a", "b", "f"])
    four = Mixture(["a", "b", "c", "d"])
    full = Optimizer(Space(four.parameters, [four]))
    for d in (0.0, 0.5, 1.0):
        full.add({"a": 1.0 - d, "b": 0.0, "c": 0.0, "d": d}, -d)
    assert full.recommend()["d"] == 1.0
    with pytest.raises(TrialError, match=r"got .*, of which the others leave 0"):
        plot_ternary(full, ["a", "b", "c"])


def test_contours_and_slices_tell_what_is_outside_from_what_is_likely_infeasible() -> None:
    optimizer = Optimizer(
        Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x + y <= 1"]),
        direction={"loss": "minimize"},
        constraints={"size": (None, 6.0)},
    )
    for x in (0.05, 0.25, 0.45, 0.65, 0.85):
        for y in (0.05, 0.4, 0.7):
            if x + y <= 1:
                optimizer.add({"x": x, "y": y}, {"loss": (x - 0.4) ** 2 + y, "size": 10 * x})
    axes = plot_contour(optimizer, "x", "y").axes[0]
    assert axes.get_legend_handles_labels()[1][:2] == ["likely infeasible", "outside the space"]
    mean, veil, outside = (one.get_array().reshape(61, 61) for one in axes.collections[:3])
    x, y = np.meshgrid(np.linspace(0, 1, 61), np.linspace(0, 1, 61))
    beyond = x + y > 1 + 1e-9
    assert (np.ma.getmaskarray(mean) == beyond).all()
    assert (~np.ma.getmaskarray(outside) == beyond).all()
    clear = abs(x - 0.6) > 0.06
    assert ((~np.ma.getmaskarray(veil) == ((x > 0.6) & ~beyond))[clear]).all()
    labels = plot_slices(optimizer, ["x"]).axes[0].get_legend_handles_labels()[1]
    assert {"likely infeasible", "outside the space"} <= set(labels)

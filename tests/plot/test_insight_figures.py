"""The figures of a run and its model."""

import io
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from bo_suite import Choice, Float, Int, Optimizer, Result, Space, minimize
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.errors import TrialError, UnknownParameter
from bo_suite.plot import (
    plot_contour,
    plot_convergence,
    plot_cross_validation,
    plot_importance,
    plot_parallel,
    plot_slices,
)
from bo_suite.surrogates import SGPR

MIXED = Space(
    {
        "rate $x$": Float(1e-4, 1, log=True),
        "n": Int(1, 5),
        "kind": Choice(["a_b", "$b$", "c"]),
        "u": Float(-1, 1),
        "only": Int(2, 2),
    }
)
FIGURES = (
    plot_slices,
    plot_contour,
    plot_importance,
    plot_parallel,
    plot_cross_validation,
    plot_convergence,
)


def function(point: dict) -> float:
    return float(
        (math.log10(point["rate $x$"]) + 2) ** 2 + 0.2 * (point["n"] - 2) ** 2 + (point["kind"] == "c")
    )


@cache
def run(direction: str = "minimize") -> Result:
    sign = 1.0 if direction == "minimize" else -1.0
    return minimize(lambda p: sign * function(p), MIXED, 14, direction=direction, progress=False)


def labels(figure: Figure) -> set[str]:
    return {str(artist.get_label()) for axes in figure.axes for artist in axes.get_children()}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize("direction", [pytest.param("minimize", marks=pytest.mark.slow), "maximize"])
def test_every_figure_of_a_result_can_be_saved(figure, direction: str, tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    figure(run(direction)).savefig(path, dpi=30)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Space({"x": Float(0, 1), "k": Choice(["a", "b"])}), [1.0, 1.0, 1.0, 1.0]),
        (Space({"x": Float(0, 1), "k": Choice(["a", "b"])}), [1e300, -1e300, 0.0, 1e250]),
        (
            Space({"x": Int(1, 100, log=True), "z": Float(1, 2, fidelity=True), "y": Int(0, 900)}),
            [3, 2, 4, 1],
        ),
    ],
    ids=["constant", "huge", "fidelity"],
)
def test_extreme_runs_can_be_drawn(figure, space: Space, values: list[float], tmp_path: Path) -> None:
    optimizer = Optimizer(space)
    for value in values:
        optimizer.tell(optimizer.ask(), value)
    figure(optimizer).savefig(tmp_path / "figure.png", dpi=30)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_before_a_trial_is_finished(figure, tmp_path: Path) -> None:
    optimizer = Optimizer(MIXED)
    optimizer.ask()
    if figure in (plot_convergence, plot_parallel):
        drawn = figure(optimizer)
        texts = [text.get_text() for text in drawn.axes[0].texts]
        assert "no trial has a value yet" in texts
        drawn.savefig(tmp_path / "figure.png", dpi=30)
    else:
        with pytest.raises(TrialError, match="before a trial has finished, got 1 trials"):
            figure(optimizer)


@pytest.mark.parametrize("figure", FIGURES[:-1], ids=lambda figure: figure.__name__)
def test_what_is_no_run_is_refused(figure) -> None:
    with pytest.raises(TrialError, match="must be of an Optimizer or a Result, got"):
        figure([])


def test_a_slice_shows_the_model_through_the_recommended_point() -> None:
    result = run()
    belief = result.belief()
    point = belief.recommended()
    figure = plot_slices(result, ["u", "kind"])
    of_u, of_kind = figure.axes
    (line,) = [line for line in of_u.get_lines() if line.get_label() == "mean"]
    frame = belief.predict([point | {"u": u} for u in line.get_xdata()])
    np.testing.assert_allclose(line.get_ydata(), frame["mean"])
    (dashed,) = [line for line in of_u.get_lines() if line.get_label() == "recommended"]
    assert list(dashed.get_xdata()) == [point["u"]] * 2
    bands = [
        tuple(path.get_extents().get_points()[:, 1]) for c in of_u.collections[:2] for path in c.get_paths()
    ]
    assert bands[0] == pytest.approx((frame["observation_low"].min(), frame["observation_high"].max()))
    assert bands[1] == pytest.approx((frame["low"].min(), frame["high"].max()))
    assert [tick.get_text() for tick in of_kind.get_xticklabels()] == ["a_b", "$b$", "c"]
    options = belief.predict([point | {"kind": kind} for kind in ("a_b", "$b$", "c")])
    heights = [patch.get_y() + patch.get_height() for patch in of_kind.patches[3:]]
    np.testing.assert_allclose(heights, options["high"])
    assert of_u.get_ylim() == of_kind.get_ylim()


def test_slices_are_of_all_parameters_or_the_most_important_or_the_named_ones() -> None:
    names = [axes.get_xlabel() for axes in plot_slices(run()).axes if axes.get_visible()]
    assert names == ["rate $x$", "n", "kind", "u"]
    assert [axes.get_xscale() for axes in plot_slices(run()).axes[:2]] == ["log", "linear"]
    many = Optimizer(Space({f"x{column}": Float(0, 1) for column in range(14)}), initial=20)
    for _ in range(20):
        trial = many.ask()
        many.tell(trial, trial.params["x13"])
    names = [axes.get_xlabel() for axes in plot_slices(many).axes]
    assert len(names) == 12
    assert names[0] == "x13"
    with pytest.raises(UnknownParameter, match="nothing"):
        plot_slices(many, ["nothing"])
    with pytest.raises(TrialError, match="parameters must be a list of names, got 'x1'"):
        plot_slices(many, "x1")
    with pytest.raises(TrialError, match="must have more than one value to be drawn, got 'only'"):
        plot_slices(run(), ["only"])


def test_observations_close_to_the_slice_are_darker() -> None:
    optimizer = Optimizer(Space({"x": Float(0, 1), "y": Float(0, 1)}))
    for x, y in ((0.5, 0.5), (0.1, 0.5), (0.9, 0.52), (0.3, 0.0), (0.4, 1.0)):
        optimizer.add({"x": x, "y": y}, (x - 0.5) ** 2 + (y - 0.5) ** 2)
    point = optimizer.recommend()
    figure = plot_slices(optimizer, ["x"])
    (dots,) = [c for c in figure.axes[0].collections if len(c.get_offsets()) == 5]
    distances = {
        x: abs(y - point["y"]) for x, y in ((0.5, 0.5), (0.1, 0.5), (0.9, 0.52), (0.3, 0.0), (0.4, 1.0))
    }
    opacities = {
        round(float(x), 3): color[3]
        for (x, _), color in zip(dots.get_offsets(), dots.get_facecolor(), strict=True)
    }
    by_distance = sorted(distances, key=distances.__getitem__)
    assert [opacities[x] for x in by_distance] == sorted(opacities.values(), reverse=True)
    assert opacities[by_distance[0]] > 2.0 * opacities[by_distance[-1]]


def test_a_contour_is_the_mean_over_two_parameters() -> None:
    result = run()
    belief, point = result.belief(), result.belief().recommended()
    figure = plot_contour(result, "kind", "rate $x$")
    axes = figure.axes[0]
    (mesh,) = [c for c in axes.collections if c.get_array() is not None]
    mean = np.asarray(mesh.get_array())
    assert mean.shape == (61, 3)
    corner = belief.predict(point | {"kind": "c", "rate $x$": 1e-4})
    assert mean[0, 2] == pytest.approx(corner["mean"][0])
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    star = next(line for line in axes.get_lines() if line.get_label() == "recommended")
    assert list(star.get_ydata()) == [point["rate $x$"]]
    (dots,) = [c for c in axes.collections if c.get_label() == "evaluation"]
    assert len(dots.get_offsets()) == len(result.trials)


def test_a_contour_is_of_the_two_most_important_parameters_unless_named() -> None:
    result = run()
    first, second, third = result.belief().importance().index[:3]
    axes = plot_contour(result).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (first, second)
    axes = plot_contour(result, y=first).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (second, first)
    axes = plot_contour(result, x=third).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (third, first)
    with pytest.raises(TrialError, match="x and y must be two parameters"):
        plot_contour(result, "n", "n")
    line = minimize(lambda p: p["x"], Space({"x": Float(0, 1)}), 3, progress=False)
    with pytest.raises(TrialError, match="needs two parameters with more than one value, got one"):
        plot_contour(line)


def test_bars_are_the_importances() -> None:
    table = run().belief().importance()
    axes = plot_importance(run()).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(table.index)
    widths = [patch.get_width() for patch in axes.patches]
    np.testing.assert_allclose(widths, [*table["total"], *table["main"]])


def test_lines_of_finished_trials_have_the_best_on_top() -> None:
    result = run("maximize")
    axes = plot_parallel(result).axes[0]
    (lines,) = [c for c in axes.collections if len(c.get_paths()) == len(result.trials)]
    assert list(lines.get_array()) == sorted(trial.value for trial in result.trials)
    best = MIXED.varying.encode([result.best.params])[0]
    np.testing.assert_allclose(lines.get_paths()[-1].vertices[:, 1], best)


def test_leave_one_out_predictions_are_beside_their_outcomes() -> None:
    result = run()
    belief = result.belief()
    figure = plot_cross_validation(result)
    axes = figure.axes[0]
    points = np.concatenate(
        [
            np.column_stack(line.get_data())
            for line in axes.get_lines()
            if line.get_label() in ("inside", "outside")
        ]
    )
    outcomes = belief.capped(belief.transform.inverse(belief.data.y))
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(outcomes.numpy()))
    inside = sum(len(line.get_xdata()) for line in axes.get_lines() if line.get_label() == "inside")
    count = len(result.trials)
    assert axes.get_title(loc="left") == (
        f"{inside} of {count} outcomes ({inside / count:.0%}) lie in their 90% intervals"
    )


def test_cross_validation_needs_two_trials_and_an_exact_process() -> None:
    optimizer = Optimizer(MIXED, acquisition=LogExpectedImprovement(SGPR()))
    for value in (1.0, 2.0):
        optimizer.tell(optimizer.ask(), value)
    with pytest.raises(TrialError, match=r"needs an exact Gaussian process .* got SparseProcess"):
        plot_cross_validation(optimizer)
    single = Optimizer(MIXED)
    single.tell(single.ask(), 1.0)
    with pytest.raises(TrialError, match="needs two finished trials, got 1"):
        plot_cross_validation(single)


def test_convergence_takes_a_run_or_trials_with_a_direction() -> None:
    result = run("maximize")
    of_run, of_trials = plot_convergence(result), plot_convergence(result.trials, "maximize")
    for figure in (of_run, of_trials, result.plot()):
        assert figure.axes[0].get_title(loc="left").startswith(f"best {result.best.value:.6g}")
    with pytest.raises(TrialError, match=r"direction must be 'minimize' or 'maximize', .*got None"):
        plot_convergence(result.trials)


def test_trials_outside_of_a_narrowed_space_break_no_figure_and_no_importance() -> None:
    opt = Optimizer(Space({"x": Float(0.0, 1.0), "kind": Choice(["a", "b", "c"]), "n": Int(1, 9)}), seed=0)
    for _ in range(12):
        trial = opt.ask()
        opt.tell(
            trial, (trial.params["x"] - 0.3) ** 2 + (trial.params["kind"] != "b") + 0.1 * trial.params["n"]
        )
    opt.extend({"x": Float(0.2, 0.6), "kind": Choice(["b", "d"]), "n": Int(1, 4)})
    for draw in (plot_slices, plot_contour, plot_importance, plot_parallel, plot_cross_validation):
        draw(opt).savefig(io.BytesIO())
    assert opt.importance()["total"].between(0.0, 1.5).all()
    prediction = opt.predict([{"x": 0.9, "kind": "a", "n": 9}, {"x": 0.3, "kind": "b", "n": 1}])
    assert prediction["outside"].tolist() == [True, False]
    opt.extend({"x": Float(5.0, 6.0)})
    for draw in (plot_slices, plot_contour, plot_importance, plot_parallel, plot_cross_validation):
        draw(opt).savefig(io.BytesIO())

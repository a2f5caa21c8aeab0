"""The figure of a run."""

import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from bo_suite import Float, Optimizer, Space
from bo_suite.plot import plot_convergence
from bo_suite.storage.trial import Trial


def _trial(number: int, value: float | None, state: str = "finished") -> Trial:
    return Trial(
        id=number,
        params={"x": 0.5},
        state=state,
        value=value,
        std=None,
        reason="no luck" if state == "failed" else None,
        attempt=1,
        asked=True,
        provenance={},
        started=0.0,
        ended=1.0,
    )


def _run(*values: float | None) -> list[Trial]:
    """Trials of these values; None is a failed one."""
    return [_trial(k, value, "failed" if value is None else "finished") for k, value in enumerate(values)]


def _drawn(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def test_dots_best_so_far_and_crosses():
    figure = plot_convergence(_run(3.0, None, 1.5, 2.0, 1.0), "minimize")
    axes = figure.axes[0]
    assert _drawn(figure, "evaluation") == ([0, 2, 3, 4], [3.0, 1.5, 2.0, 1.0])
    assert _drawn(figure, "best so far") == ([0, 2, 3, 4], [3.0, 1.5, 1.5, 1.0])
    crosses, heights = _drawn(figure, "failed")
    assert crosses == [1]
    assert 0 <= heights[0] < 0.1, "a share of the height of the axes"
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("trial", "value", "linear")
    assert axes.get_title(loc="left") == "best 1 at trial 4  (4 evaluated, 1 failed)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "evaluation",
        "best so far",
        "failed",
    ]


def test_larger_is_better_when_maximised():
    figure = plot_convergence(_run(1.0, 3.0, 2.0), "maximize")
    assert _drawn(figure, "best so far")[1] == [1.0, 3.0, 3.0]


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_distance_to_a_known_minimum_is_drawn_on_a_log_axis(direction, sign):
    values = [sign * value for value in (5.0, 3.0, 4.0, 2.5, 2.0, 1.9)]
    figure = plot_convergence(_run(*values), direction, minimum=sign * 2.0)
    # At the minimum, and below it by noise: half of the smallest distance.
    assert _drawn(figure, "evaluation")[1] == pytest.approx([3.0, 1.0, 2.0, 0.5, 0.25, 0.25])
    assert _drawn(figure, "best so far")[1] == pytest.approx([3.0, 1.0, 1.0, 0.5, 0.25, 0.25])
    assert figure.axes[0].get_yscale() == "log"
    assert f"{sign * 2:.6g}" in figure.axes[0].get_ylabel()


def test_positive_values_over_decades_get_a_log_axis():
    figure = plot_convergence(_run(100.0, 30.0, 1.0, 20.0, 0.1), "minimize")
    assert figure.axes[0].get_yscale() == "log"
    assert _drawn(figure, "best so far")[1] == [100.0, 30.0, 1.0, 1.0, 0.1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_outlier_is_marked_rather_than_drawn_to_scale(sign):
    values = [sign * value for value in (1e6, -1.0, 0.5, 2.0, -2.0, 1.0, 0.0, 1.5, -0.5)]
    figure = plot_convergence(_run(*values), "minimize" if sign > 0 else "maximize")
    low, high = sorted(figure.axes[0].get_ylim())
    assert low < -2
    assert high > 2
    assert max(abs(low), abs(high)) < 100
    assert _drawn(figure, "evaluation off the axis")[0] == [0]


def test_order_and_running_trials_do_not_matter():
    trials = _run(3.0, 1.0, 2.0)
    figure = plot_convergence([trials[2], _trial(3, None, "running"), trials[0], trials[1]], "minimize")
    assert _drawn(figure, "evaluation") == ([0, 1, 2], [3.0, 1.0, 2.0])


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
@pytest.mark.parametrize("minimum", [None, 0.0])
def test_trials_outside_of_a_narrowed_space_are_never_the_best(direction, sign, minimum):
    optimizer = Optimizer(Space({"x": Float(0, 1)}), direction=direction)
    for x, value in ((0.9, 3.0), (0.2, 5.0), (0.8, 1.0), (0.3, 4.0), (0.1, 6.0)):
        optimizer.add({"x": x}, sign * value)
    optimizer.extend({"x": Float(0, 0.5)})
    space = optimizer.space
    for figure in (
        plot_convergence(optimizer, minimum=minimum),
        plot_convergence(optimizer.trials, direction, minimum=minimum, space=space),
    ):
        side = 1.0 if minimum == 0.0 else sign
        assert _drawn(figure, "evaluation") == (
            [0, 1, 2, 3, 4],
            [side * value for value in (3.0, 5.0, 1.0, 4.0, 6.0)],
        )
        assert _drawn(figure, "best so far") == ([1, 3, 4], [side * value for value in (5.0, 4.0, 4.0)])
        assert (
            figure.axes[0].get_title(loc="left")
            == f"best {optimizer.best.value:.6g} at trial 3  (5 evaluated)"
        )
    optimizer.extend({"x": Float(0.95, 1.0)})
    none = plot_convergence(optimizer, minimum=minimum)
    assert none.axes[0].get_title(loc="left") == "5 evaluated"
    assert [line.get_label() for line in none.axes[0].get_lines()] == ["evaluation"]
    every = plot_convergence(optimizer.trials, direction, minimum=minimum)
    assert _drawn(every, "best so far")[0] == [0, 1, 2, 3, 4], "without a space all trials count"


@pytest.mark.parametrize(
    "values",
    [
        (),
        (None,),
        (None, None, None),
        (1.0,),
        (2.0, 2.0, 2.0),
        (0.0, 0.0),
        (1e300, -1e300, 0.0),
        (1e308, -1e308, 1e-300),
        (1e-30, 3e-30, 5e-320),
        (1e300, *[1.0] * 9),
        (1e300, *range(9)),
        (1e300, 1e-300, *[1.0] * 9),
    ],
)
@pytest.mark.parametrize(("direction", "minimum"), [("minimize", None), ("minimize", 0.0), ("maximize", 2.0)])
def test_any_run_can_be_saved(values, minimum, direction, tmp_path):
    picture = tmp_path / "run.png"
    plot_convergence(_run(*values), direction, minimum=minimum).savefig(picture, dpi=30)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_not_touched():
    code = (
        "import sys, bo_suite.plot as plot; from bo_suite import *; assert 'matplotlib' not in sys.modules\n"
        "space = Space({'x': Float(-1, 1), 'y': Float(0, 1)})\n"
        "run = minimize(lambda p: p['x'] ** 2 + p['y'], space, 4, progress=False)\n"
        "others = 'plot_regret plot_pareto plot_ternary plot_curves plot_rungs plot_simulated_time'.split()\n"
        "[getattr(plot, name)(run) for name in plot.__all__ if name not in others]\n"
        "from bo_suite.run.schedulers import ASHA\n"
        "reporting = Optimizer(space, scheduler=ASHA(9))\n"
        "reporting.report(reporting.ask(), 1, 0.5), plot.plot_curves(reporting), plot.plot_rungs(reporting)\n"
        "two = Optimizer(space, direction={'a': 'minimize', 'b': 'minimize'})\n"
        "two.add({'x': 0.0, 'y': 0.0}, {'a': 1.0, 'b': 2.0})\n"
        "plot.plot_pareto(two), plot.plot_convergence(two)\n"
        "parts = Mixture(['x', 'y', 'z'])\n"
        "mixed = Space(parts.parameters, constraints=[parts])\n"
        "plot.plot_ternary(minimize(lambda p: p['x'], mixed, 4, progress=False))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

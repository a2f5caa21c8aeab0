"""Pictures of a run, of a simulated knowledge gradient, of its lines, and of a search by classification."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from bo_suite.acquisition import Bore, discrete_knowledge_gradient
from bo_suite.acquisition.simulation import simulate_knowledge_gradient
from bo_suite.classifiers import GPClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.plot import plot_bore, plot_convergence, plot_lines, plot_simulation
from bo_suite.space.parameters import Float
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial
from bo_suite.surrogates import ExactGP


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
        "import sys; from bo_suite.plot import plot_convergence; assert 'matplotlib' not in sys.modules;"
        "plot_convergence([], 'minimize'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _simulated(outcomes: int):
    """A simulation at 0.4, its data, and a process of other hyperparameters."""
    x = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)[:, None]
    data = Dataset(x, torch.sin(8 * x[:, 0]), None, x[:0])
    fitted, before = (
        ExactGP().process(data, torch.tensor([scale, 1.0, 0.01], dtype=torch.float64).log())
        for scale in (0.2, 0.9)
    )
    at = torch.tensor([0.4], dtype=torch.float64)
    return simulate_knowledge_gradient(fitted, at, outcomes, Seeds.of(0, 0)), data, before


def _curves(axes, color=None):
    return [line for line in axes.lines if len(line.get_xdata()) == 400 and color in (None, line.get_color())]


def _stars(axes):
    return sorted(float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "*")


def test_the_steps_of_a_simulated_knowledge_gradient_have_a_panel_each() -> None:
    simulation, data, _ = _simulated(5)
    fit, minimum, outcomes, minima = plot_simulation(simulation, data.x, data.y).axes
    assert fit.get_title(loc="left") == "predictive of 8 observations"
    assert list(fit.lines[0].get_ydata()) == data.y.tolist()
    assert len(fit.collections) == 2, "the bands of an observation and of the function"
    (mean,) = _curves(fit)
    assert (
        abs(float(mean.get_ydata()[399]) - float(simulation.process.mean(torch.ones_like(data.x[:1]))[0]))
        < 1e-9
    )

    assert _stars(minimum) == [float(simulation.minimum)]
    assert f"{float(simulation.minimum):.4g}" in minimum.get_title(loc="left")

    drawn = [line for line in outcomes.lines if line.get_label() == "simulated outcome"]
    assert [float(line.get_ydata()[0]) for line in drawn] == sorted(simulation.outcomes.tolist())
    assert {float(line.get_xdata()[0]) for line in drawn} == {0.4}
    assert len(_curves(outcomes)) == 6, "the mean, and one given each outcome"
    assert len({line.get_color() for line in _curves(outcomes)}) == 6

    assert _stars(minima) == sorted([*simulation.minima.tolist(), float(simulation.minimum)])
    low, high = minima.get_ylim()
    assert low < _stars(minima)[0]
    assert _stars(minima)[-1] < high
    for star in (line for line in minima.lines if line.get_marker() == "*"):
        curves = _curves(minima, star.get_color())
        assert any(abs(min(curve.get_ydata()) - star.get_ydata()[0]) < 1e-3 for curve in curves)
    value, error = float(simulation.value), float(simulation.standard_error)
    assert minima.get_title(loc="left") == f"knowledge gradient {value:.3g} ± {error:.2g}"


def test_the_process_before_and_the_truth_are_drawn_where_given() -> None:
    simulation, data, before = _simulated(20)
    figure = plot_simulation(
        simulation, data.x, data.y, before=before, truth=lambda rows: torch.sin(8 * rows[:, 0])
    )
    first, fit, _, outcomes, _, legend = figure.axes
    truth, mean = _curves(first)
    assert float(truth.get_ydata()[0]) == 0.0
    assert abs(float(mean.get_ydata()[0]) - float(before.mean(torch.zeros_like(data.x[:1]))[0])) < 1e-9
    assert list(_curves(fit)[1].get_ydata()) != list(mean.get_ydata())
    assert len(_curves(outcomes)) == 10, "the truth, the mean, and eight of the means given outcomes"
    assert outcomes.get_title(loc="left") == "8 of 20 outcomes simulated at x = 0.4"
    named = {text.get_text() for text in legend.get_legend().get_texts()}
    assert {"truth", "observation", "simulated outcome", "minimum"} <= named


def test_a_single_outcome_has_no_error_to_show(tmp_path) -> None:
    simulation, data, _ = _simulated(1)
    figure = plot_simulation(simulation, data.x, data.y)
    assert "±" not in figure.axes[-1].get_title(loc="left")
    figure.savefig(tmp_path / "simulation.png", dpi=30)


def test_only_a_simulation_of_one_input_can_be_drawn() -> None:
    simulation, data, _ = _simulated(2)
    with pytest.raises(DataError, match=r"of one replicate, got \(8, 2\), \(8,\) and \(1,\)"):
        plot_simulation(simulation, data.x.expand(8, 2), data.y)
    with pytest.raises(DataError, match=r"got \(8, 1\), \(7,\) and"):
        plot_simulation(simulation, data.x, data.y[:7])
    two = torch.zeros(2, dtype=torch.float64)
    wide = replace(simulation, candidate=two, minimizer=two, minimizers=two.expand(2, 2))
    with pytest.raises(DataError, match=r"and \(2,\)"):
        plot_simulation(wide, data.x, data.y)


def test_panels_are_drawn_alone_and_in_the_users_units() -> None:
    simulation, data, before = _simulated(3)
    for outcomes, panels in ((simulation, ("outcomes", "minima")), (_simulated(1)[0], ("outcomes",))):
        figure = plot_simulation(outcomes, data.x, data.y, panels=panels, bounds=(-1.0, 2.0))
        assert len(figure.axes) == len(panels)
        first = figure.axes[0]
        assert first.get_xlim() == (-1.0, 2.0)
        count = len(outcomes.outcomes)
        noun = "1 outcome" if count == 1 else f"{count} outcomes"
        assert first.get_title(loc="left") == f"{noun} simulated at x = 0.2"
        assert list(first.lines[0].get_xdata()) == pytest.approx((3.0 * data.x[:, 0] - 1.0).tolist())
    figure = plot_simulation(simulation, data.x, data.y, before=before, panels=("fit", "before"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "predictive of 8 observations",
        "before hyperparameters are estimated",
    ]


def test_panels_that_cannot_be_drawn_are_refused() -> None:
    simulation, data, _ = _simulated(2)
    for panels in (("before",), ("fit", "regret")):
        with pytest.raises(DataError, match=r"panels must be among \('fit', .*got \("):
            plot_simulation(simulation, data.x, data.y, panels=panels)


def test_the_envelope_of_the_lines_holds_the_knowledge_gradient_as_its_area(tmp_path) -> None:
    _, data, _ = _simulated(1)
    theta = torch.tensor([0.1, 1.0, 0.1], dtype=torch.float64).log()
    process, row = ExactGP().process(data, theta), torch.full_like(data.x[:1], 0.5)
    rows = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]
    figure = plot_lines(process, row[0], rows, bounds=(-1.0, 2.0))
    top, bottom = figure.axes
    mean, slope = process.mean(rows), process.cov(rows, row)[:, 0] / (process.var(row) + process.noise).sqrt()
    value = float(discrete_knowledge_gradient(-mean, -slope))
    assert bottom.get_title(loc="left").endswith(f"is the knowledge gradient: {value:.4g}")
    (gain,) = [line for line in bottom.lines if len(line.get_xdata()) > 100]
    area = torch.trapezoid(*(torch.tensor(part) for part in (gain.get_ydata(), gain.get_xdata())))
    assert float(area) == pytest.approx(value, rel=0.02)

    drawn = {line.get_label(): line for line in top.lines}
    z, envelope = drawn["the lowest: envelope"].get_data()
    assert envelope[400] == pytest.approx(float(mean.min())), "an outcome as expected changes nothing"
    assert envelope[700] == pytest.approx(float((mean + slope * z[700]).min()))
    lowest_at = (mean[:, None] + slope[:, None] * torch.tensor(z)).argmin(0).unique()
    count = f"21 alternatives, of which {len(lowest_at)} have the lowest mean"
    assert top.get_title(loc="left").startswith(count)
    assert len(drawn["breakpoint"].get_xdata()) == len(lowest_at) - 1 >= 2
    lowest = 3.0 * float(rows[mean.argmin(), 0]) - 1.0
    assert f"x = {lowest:.2f}" in [text.get_text() for text in top.texts]
    figure.savefig(tmp_path / "lines.png", dpi=30)


def test_a_single_alternative_that_learns_nothing_is_a_flat_line() -> None:
    _, data, _ = _simulated(1)
    theta = torch.tensor([0.01, 1.0, 0.1], dtype=torch.float64).log()
    process = ExactGP().process(data, theta)
    top, bottom = plot_lines(process, data.x[0], torch.full_like(data.x[:1], 50.0)).axes
    assert bottom.get_title(loc="left").endswith("knowledge gradient: 0")
    assert "breakpoint" in [line.get_label() for line in top.lines]


def test_lines_of_several_inputs_or_replicates_are_refused() -> None:
    simulation, data, _ = _simulated(1)
    process = simulation.process
    pair = ExactGP().process(
        Dataset(data.x.expand(2, 8, 1), data.y.expand(2, 8), None, data.x[:0].expand(2, 0, 1)),
        torch.tensor([[0.2, 1.0, 0.01]] * 2, dtype=torch.float64).log(),
    )
    with pytest.raises(DataError, match=r"the noise \(\), .*got \(1,\), \(8, 1\) and \(2,\)"):
        plot_lines(pair, simulation.candidate, data.x)
    row = torch.zeros(2, dtype=torch.float64)
    for candidate, rows, got in (
        (row, row[:, None], r"\(2,\), \(2, 1\)"),
        (row[:1], row[None], r"\(1, 2\)"),
    ):
        with pytest.raises(DataError, match=rf"candidate must be \(1,\), .*got .*{got}"):
            plot_lines(process, candidate, rows)


def test_a_search_by_classification_of_equal_outcomes_is_drawn_on_the_parameters_scale() -> None:
    trials = _run(1.0, 1.0, 1.0)
    acquisition, space = Bore(classifier=GPClassifier()), Space({"x": Float(1e-3, 1.0, log=True)})
    figure = plot_bore(acquisition, space, trials, lambda params: 1.0, steps=1)
    figure.draw_without_rendering()
    outcomes, _, classes = figure.axes
    assert (outcomes.get_xscale(), classes.get_xscale()) == ("log", "log")
    assert outcomes.get_xlim() == pytest.approx((1e-3, 1.0))
    low, high = outcomes.get_ylim()
    assert low < 1.0 < high

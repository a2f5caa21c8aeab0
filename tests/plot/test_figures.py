"""The figures of the notebooks show what they say, and the package names the place that they moved to."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import bo_suite.acquisition
import bo_suite.plot
from bo_suite import Optimizer
from bo_suite.acquisition import Bore, LogExpectedImprovement, discrete_knowledge_gradient
from bo_suite.classifiers import GPClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Zonal
from bo_suite.problems import get_problem
from bo_suite.storage.trial import Trial
from bo_suite.surrogates import SGPR, ExactGP
from figures import plot_bore, plot_fit, plot_lines, plot_search, plot_simulation
from simulation import simulate_knowledge_gradient
from spheres import TILT, plot_circle, plot_harmonics

FORRESTER = get_problem("forrester")
X = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)[:, None]
DATA = Dataset(X, torch.sin(8 * X[:, 0]))
SEEDS = Seeds.of(0, 0)


def run(acquisition, count: int) -> list[Trial]:
    optimizer = Optimizer(FORRESTER.space, acquisition, seed=0, budget=12)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, FORRESTER(trial.params))
    return optimizer.trials


def lines_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def test_a_suggestion_is_where_the_score_is_highest_and_the_model_meets_the_outcomes() -> None:
    acquisition = LogExpectedImprovement()
    trials = run(acquisition, 7)
    figure = plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=3)
    figure.draw_without_rendering()
    for index, count in enumerate((4, 5, 6)):
        top, bottom = lines_of(figure.axes[index]), lines_of(figure.axes[3 + index])
        outcomes = [(trial.params["x1"], trial.value) for trial in trials[:count]]
        assert [tuple(pair) for pair in top["observation"].get_xydata()] == outcomes
        at, mean = top["model, and two standard deviations"].get_data()
        x, y = map(list, zip(*outcomes, strict=True))
        assert np.interp(x, at, mean) == pytest.approx(y, abs=0.2), "without noise it interpolates"
        suggestion = trials[count].params["x1"]
        assert top["suggestion"].get_xdata()[0] == suggestion
        at, score = bottom["score"].get_data()
        assert score[np.abs(at - suggestion).argmin()] >= score.max() - 1e-2 * np.ptp(score)


def test_labels_and_the_share_of_positives_meet_at_the_threshold() -> None:
    acquisition = Bore(classifier=GPClassifier(optimism=2.0))
    trials = run(acquisition, 7)
    figure = plot_bore(acquisition, FORRESTER.space, trials, FORRESTER, steps=3)
    for index, count in enumerate((4, 5, 6)):
        top, share, classes = figure.axes[3 * index : 3 * index + 3]
        drawn = {label: line.get_xydata() for label, line in lines_of(top).items()}
        outcomes = sorted(trial.value for trial in trials[:count])
        assert sorted([*drawn["positive"][:, 1], *drawn["negative"][:, 1]]) == pytest.approx(outcomes)
        assert drawn["suggestion"][0, 0] == trials[count].params["x1"]
        tau = drawn["τ"][0, 1]
        assert drawn["positive"][:, 1].max() <= tau < drawn["negative"][:, 1].min()
        assert share.lines[1].get_ydata()[0] == tau
        assert share.lines[2].get_xdata()[0] == len(drawn["positive"]) / count
        assert [set(line.get_ydata()) for line in classes.lines[1:3]] == [{1.0}, {0.0}]


def test_inducing_inputs_are_drawn_before_and_after_the_fit_beside_its_losses() -> None:
    x = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
    process = SGPR(inducing=5, learn_inducing=True).fit(Dataset(x, torch.sin(6 * x[:, 0])), SEEDS)
    figure = plot_fit(process, x, torch.sin(6 * x[:, 0]), truth=lambda rows: torch.sin(6 * rows[:, 0]))
    band, inducing, losses = figure.axes
    at, truth = lines_of(band)["truth"].get_data()
    np.testing.assert_allclose(truth, np.sin(6 * np.asarray(at)))
    fitted, chosen = inducing.lines
    assert list(fitted.get_xdata()) == process.inducing[:, 0].tolist()
    assert list(chosen.get_xdata()) == process.trace.initial[:, 0].tolist()
    assert list(losses.lines[0].get_ydata()) == process.trace.losses.tolist()


def test_the_area_between_the_envelope_and_the_smallest_mean_is_the_knowledge_gradient() -> None:
    process = ExactGP().process(DATA, torch.tensor([0.1, 1.0, 0.1], dtype=torch.float64).log())
    row, rows = torch.full_like(X[:1], 0.5), torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]
    top, bottom = plot_lines(process, row[0], rows, bounds=(-1.0, 2.0)).axes
    mean, slope = process.mean(rows), process.cov(rows, row)[:, 0] / (process.var(row) + process.noise).sqrt()
    value = float(discrete_knowledge_gradient(-mean, -slope))
    assert bottom.get_title(loc="left").endswith(f"is the knowledge gradient: {value:.4g}")
    gain = bottom.lines[0]
    assert np.trapezoid(gain.get_ydata(), gain.get_xdata()) == pytest.approx(value, rel=0.02)
    z, envelope = lines_of(top)["the lowest: envelope"].get_data()
    np.testing.assert_allclose(envelope, (mean[:, None] + slope[:, None] * torch.as_tensor(z)).amin(0))
    lowest = 3.0 * float(rows[mean.argmin(), 0]) - 1.0
    assert f"x = {lowest:.2f}" in [text.get_text() for text in top.texts]


def test_minima_of_the_means_given_simulated_outcomes_are_marked() -> None:
    process = ExactGP().process(DATA, torch.tensor([0.2, 1.0, 0.01], dtype=torch.float64).log())
    simulation = simulate_knowledge_gradient(process, X.new_tensor([0.4]), 20, SEEDS)
    scene = {"truth": lambda rows: torch.sin(8 * rows[:, 0]), "before": process, "bounds": (-1.0, 2.0)}
    names = ("before", "fit", "minimum", "outcomes", "minima")
    before, fit, _, outcomes, minima = plot_simulation(simulation, X, DATA.y, panels=names, **scene).axes
    assert list(before.lines[2].get_ydata()) == list(fit.lines[2].get_ydata())
    assert outcomes.get_title(loc="left") == "8 of 20 outcomes simulated at x = 0.2"
    drawn = [line for line in outcomes.lines if line.get_label() == "simulated outcome"]
    assert [line.get_ydata()[0] for line in drawn] == sorted(simulation.outcomes[:8].tolist())
    stars = [line for line in minima.lines if line.get_marker() == "*"]
    levels = sorted([*simulation.minima[:8].tolist(), float(simulation.minimum)])
    assert sorted(line.get_ydata()[0] for line in stars) == levels
    value, error = float(simulation.value), float(simulation.standard_error)
    assert minima.get_title(loc="left") == f"knowledge gradient {value:.3g} ± {error:.2g}"


def test_directions_are_on_the_rays_of_their_rows_and_a_square_is_seen_from_above() -> None:
    theta = torch.tensor([0.4, 1.0], dtype=torch.float64).log()
    left, right = plot_circle(Zonal(), theta, X, (1, 4)).axes
    drawn = {name: np.stack(line.get_data(), -1) for name, line in lines_of(left).items()}
    rows, directions = drawn["row"], drawn["its direction"]
    np.testing.assert_allclose(rows[:, 0], (X[:, 0] - 0.5) / 0.4)
    np.testing.assert_allclose(directions, rows / np.linalg.norm(rows, axis=-1, keepdims=True))
    height = lines_of(right)["degree 1"].get_data()[1]
    np.testing.assert_allclose(height.max(), np.sqrt(2.0))
    panel = plot_harmonics(Zonal(), theta[[0, 0, 1]], ((2, 0),)).axes[0]
    border = np.stack(lines_of(panel)["border of [0, 1]²"].get_data(), -1)
    corner = np.array([1.25, 1.25, 1.0]) / np.sqrt(1.25**2 * 2 + 1.0)
    seen = [corner[0], np.sin(TILT) * corner[1] + np.cos(TILT) * corner[2]]
    assert np.abs(border - seen).sum(-1).min() < 1e-9


@pytest.mark.parametrize(
    ("module", "name", "file"),
    [
        (bo_suite.plot, "plot_search", "figures.py"),
        (bo_suite.acquisition, "simulate_knowledge_gradient", "simulation.py"),
    ],
)
def test_names_of_0_8_say_where_they_are_now(module, name: str, file: str) -> None:
    with pytest.raises(ImportError, match=rf"{name} is no longer in .*notebooks/{file}"):
        getattr(module, name)
    assert not hasattr(module, "nothing")

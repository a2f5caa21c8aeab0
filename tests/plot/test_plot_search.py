"""The steps of a search with a surrogate, drawn: what was known, what it scored, what was suggested."""

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.acquisition import (
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.errors import DataError
from bo_suite.plot.search import plot_search
from bo_suite.problems import Problem, get_problem
from bo_suite.storage.trial import Trial

FORRESTER = get_problem("forrester")


def _run(
    acquisition, problem: Problem, count: int, failing: tuple[int, ...] = (), std: float | None = None
) -> list[Trial]:
    """Trials of a run from four points, some of which fail."""
    optimizer = Optimizer(problem.space, acquisition, seed=0, budget=12)
    for place in range(count):
        trial = optimizer.ask()
        if place in failing:
            optimizer.fail(trial, "no luck")
        else:
            optimizer.tell(trial, problem(trial.params), std)
    return optimizer.trials


def _lines(axes: Axes) -> dict[str, Line2D]:
    return {line.get_label(): line for line in axes.lines}


def test_each_step_shows_what_was_known_and_its_suggestion_where_the_score_is_highest() -> None:
    acquisition = LogExpectedImprovement()
    trials = _run(acquisition, FORRESTER, 8)
    figure = plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=4)
    assert len(figure.axes) == 8
    assert figure.get_figwidth() <= 8.4
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["function", "model, and two standard deviations", "observation", "suggestion", "score"]
    for place, (row, column) in zip((4, 5, 6, 7), ((0, 0), (0, 1), (2, 0), (2, 1)), strict=True):
        top, bottom = figure.axes[2 * row + column], figure.axes[2 * (row + 1) + column]
        told, scored = _lines(top), _lines(bottom)
        assert top.get_title(loc="left") == f"trial {place}"
        known = [(trial.params["x1"], trial.value) for trial in trials[:place]]
        assert [tuple(pair) for pair in told["observation"].get_xydata()] == known
        chosen = trials[place].params["x1"]
        assert told["suggestion"].get_xdata()[0] == scored["suggestion"].get_xdata()[0] == chosen
        at, score = scored["score"].get_data()
        assert score[list(at).index(chosen)] >= score.max() - 1e-6, "what was maximised"


def test_the_model_is_drawn_on_the_scale_of_the_outcomes() -> None:
    acquisition = LogExpectedImprovement()
    trials = _run(acquisition, FORRESTER, 9)
    top = plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=1).axes[0]
    told = _lines(top)
    at, mean = told["model, and two standard deviations"].get_data()
    for place, value in told["observation"].get_xydata():
        assert np.interp(place, at, mean) == pytest.approx(value, abs=0.1), "without noise it interpolates"
    curve = dict(told["function"].get_xydata())
    assert curve[0.5] == FORRESTER({"x1": 0.5})
    observation, latent = (band.get_paths()[0].vertices[:, 1] for band in top.collections)
    assert observation.min() <= latent.min() < mean.min()
    assert mean.max() < latent.max() <= observation.max()


def test_failed_trials_count_as_the_optimiser_counts_them_and_are_crosses() -> None:
    acquisition = LogExpectedImprovement()
    trials = _run(acquisition, FORRESTER, 9, failing=(2, 6, 8))
    last = plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=2).axes
    told, scored = _lines(last[1]), _lines(last[3])
    assert list(told["failed"].get_xdata()) == [trials[2].params["x1"], trials[6].params["x1"]]
    assert len(told["observation"].get_xdata()) == 6
    at, score = scored["score"].get_data()
    assert score[list(at).index(trials[8].params["x1"])] >= score.max() - 1e-6


@pytest.mark.parametrize(
    "acquisition",
    [
        NoisyExpectedImprovement(),
        KnowledgeGradient(quantiles=3, candidates=3),
        UpperConfidenceBound(),
        ThompsonSampling(features=64),
    ],
    ids=["noisy", "knowledge gradient", "bound", "thompson"],
)
def test_any_acquisition_with_a_surrogate_scores_its_suggestion_highest(acquisition) -> None:
    noisy = replace(get_problem("sin3"), noise=0.3)
    trials = _run(acquisition, noisy, 6, std=0.3)
    _, bottom = plot_search(acquisition, noisy.space, trials, noisy.value, steps=1).axes
    at, score = _lines(bottom)["score"].get_data()
    assert score[list(at).index(trials[5].params["x1"])] >= score.max() - 0.02 * np.ptp(score)


def test_a_log_scale_is_a_log_axis_and_letters_are_legible(tmp_path) -> None:
    problem = Problem("valley", Space({"rate": Float(1e-4, 1.0, log=True)}), _valley)
    trials = _run(LogExpectedImprovement(), problem, 7)
    figure = plot_search(LogExpectedImprovement(), problem.space, trials, problem, steps=3)
    figure.savefig(tmp_path / "search.png", dpi=30)
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    assert {axes.get_xlim() for axes in figure.axes} == {(1e-4, 1.0)}
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["rate"] * 3
    ticks = [label for axes in figure.axes for label in axes.get_xticklabels() + axes.get_yticklabels()]
    assert min(label.get_size() for label in ticks) >= 9


def test_a_function_without_a_value_where_trials_fail_is_drawn_where_it_has_one() -> None:
    def broken(params) -> float:
        return math.nan if params["x1"] > 0.9 else FORRESTER(params)

    trials = _run(LogExpectedImprovement(), FORRESTER, 5, failing=(1,))
    top = plot_search(LogExpectedImprovement(), FORRESTER.space, trials, broken, steps=1).axes[0]
    low, high = top.get_ylim()
    assert low < np.nanmin(_lines(top)["function"].get_ydata())
    assert np.isfinite(high)


def _valley(params) -> float:
    return (math.log10(params["rate"]) + 2.0) ** 2


def test_what_cannot_be_drawn_is_refused() -> None:
    acquisition = LogExpectedImprovement()
    trials = _run(acquisition, FORRESTER, 4, failing=(0,))
    branin, ways = get_problem("branin"), Space({"way": Choice(["this", "that"])})
    with pytest.raises(DataError, match="must have a surrogate, got Bore"):
        plot_search(Bore(), FORRESTER.space, trials, FORRESTER)
    for space in (branin.space, ways):
        with pytest.raises(DataError, match="one continuous parameter"):
            plot_search(acquisition, space, trials, branin)
    with pytest.raises(DataError, match="4 steps need as many ended trials and one before, got 4, 0 running"):
        plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=4)
    with pytest.raises(DataError, match="0 steps"):
        plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=0)
    with pytest.raises(DataError, match="must have finished before the first of the 3 steps"):
        plot_search(acquisition, FORRESTER.space, trials, FORRESTER, steps=3)
    running = [*trials, replace(trials[-1], id=4, state="running", value=None)]
    with pytest.raises(DataError, match="got 5, 1 running"):
        plot_search(acquisition, FORRESTER.space, running, FORRESTER, steps=1)

"""What real classifiers make of Bore: expected improvement, and the minimum of a function with two basins."""

import statistics

import pytest
import torch
from matplotlib.text import Text
from sklearn.ensemble import RandomForestClassifier
from torch.testing import assert_close

from bo_suite import Optimizer
from bo_suite.acquisition import Bore, SteinBatch
from bo_suite.classifiers import Classifier, GPClassifier, MLPClassifier, SklearnClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.plot import plot_bore
from bo_suite.problems import Problem, get_problem
from bo_suite.storage.trial import Trial

F64 = torch.float64
FOREST = SklearnClassifier(RandomForestClassifier(100, min_samples_leaf=30))


@pytest.mark.parametrize("classifier", [MLPClassifier(), GPClassifier(), FOREST], ids=["mlp", "gp", "rf"])
def test_odds_rank_as_expected_improvement_and_probabilities_as_those_of_improvement(
    classifier: Classifier,
) -> None:
    """Of y = f(x) + N(0, 0.3²), at 2,000 inputs in one dimension."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 1, dtype=F64, generator=generator)
    grid = torch.linspace(0.02, 0.98, 97, dtype=F64)[:, None]

    def f(at: torch.Tensor) -> torch.Tensor:
        return torch.sin(9.0 * at[:, 0]) + 0.8 * at[:, 0]

    data = Dataset(x, f(x) + 0.3 * torch.randn(2000, dtype=F64, generator=generator), None, x[:0])
    seeds, normal = Seeds.of(0, 1), torch.distributions.Normal(0.0, 1.0)
    with torch.no_grad():
        score = Bore(classifier=classifier, weighting="improvement").build(data, seeds)
        z = (score.threshold - f(grid)) / 0.3
        improvement = 0.3 * (z * normal.cdf(z) + normal.log_prob(z).exp())
        ranks = torch.stack([part.argsort().argsort().double() for part in (score(grid), improvement)])
        assert float(torch.corrcoef(ranks)[0, 1]) > 0.95
        plain = Bore(classifier=classifier, weighting="probability").build(data, seeds)
        assert_close(plain.probability(grid), normal.cdf(z), rtol=0.0, atol=0.15)
        assert float((plain.probability(grid) - normal.cdf(z)).abs().mean()) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("classifier", [MLPClassifier(), GPClassifier(optimism=2.0)], ids=["mlp", "gp"])
def test_the_minimum_of_forrester_is_found_in_30_evaluations_from_4_points(classifier: Classifier) -> None:
    problem = get_problem("forrester")
    regrets = []
    for seed in range(10):
        optimizer = Optimizer(problem.space, acquisition=Bore(classifier=classifier), seed=seed, budget=12)
        for _ in range(30):
            trial = optimizer.ask()
            optimizer.tell(trial, problem(trial.params))
        sources = [trial.provenance["source"] for trial in optimizer.trials]
        assert sources == ["design"] * 4 + ["acquisition"] * 26
        regrets.append((optimizer.best.value or 0.0) - problem.minimum)
    assert statistics.median(regrets) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, SteinBatch()], ids=["greedy", "stein"])
def test_batches_find_a_minimum_too(batch: SteinBatch | None) -> None:
    problem = get_problem("branin")
    found = []
    for seed in range(3):
        acquisition = Bore(classifier=GPClassifier(optimism=2.0))
        optimizer = Optimizer(problem.space, acquisition=acquisition, seed=seed)
        for _ in range(8):
            for trial in optimizer.ask(4, batch):
                optimizer.tell(trial, problem(trial.params))
        found.append((optimizer.best.value or 0.0) - problem.minimum)
    assert statistics.median(found) < 0.5


def test_a_picture_of_the_last_steps() -> None:
    problem = get_problem("forrester")
    acquisition = Bore(classifier=GPClassifier(optimism=2.0))
    optimizer = Optimizer(problem.space, acquisition=acquisition, seed=0, budget=12)
    for _ in range(7):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
    figure = plot_bore(acquisition, problem.space, optimizer.trials, problem, steps=3)
    assert len(figure.axes) == 9
    for number, place in enumerate((4, 5, 6)):
        top, share, classes = figure.axes[3 * number : 3 * number + 3]
        assert top.get_title(loc="left") == f"{number + 1}. after {place} outcomes"
        told = {line.get_label(): line.get_xydata() for line in top.lines}
        outcomes = sorted(trial.value for trial in optimizer.trials[:place])
        drawn = sorted([*told["positive"][:, 1], *told["negative"][:, 1]])
        assert drawn == pytest.approx(outcomes)
        assert told["suggestion"][0, 0] == optimizer.trials[place].params["x1"]
        tau = told["τ"][0, 1]
        assert told["positive"][:, 1].max() <= tau < told["negative"][:, 1].min()
        assert share.lines[1].get_ydata()[0] == tau
        assert share.lines[2].get_xdata()[0] == len(told["positive"]) / place
        labels = {line.get_label(): line.get_ydata() for line in classes.lines}
        assert set(labels["positive"]) == {1.0}
        assert set(labels["negative"]) == {0.0}


def test_a_picture_is_legible_on_a_page_for_any_number_of_steps() -> None:
    """At most 8.4 inches wide, letters of nine points, labelled axes, and markers that differ in grey."""
    problem = get_problem("forrester")
    trials = _design_and_more(problem, 9)
    for steps, size in ((1, 3), (2, 6), (4, 12), (6, 18)):
        figure = plot_bore(
            Bore(classifier=GPClassifier(optimism=2.0)), problem.space, trials, problem, steps=steps
        )
        figure.draw_without_rendering()
        assert len(figure.axes) == size
        assert figure.get_figwidth() <= 8.4
        sizes = [text.get_size() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert min(sizes) >= 9
        assert [axes.get_xlabel() for axes in figure.axes] == ["", "share ≤ y", "x1"] * steps
        assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["y", "", "π(x)"]
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        assert lines["positive"].get_markerfacecolor() != lines["negative"].get_markerfacecolor() == "white"
        (legend,) = figure.legends
        assert legend.get_window_extent().x0 >= 0
        assert legend.get_window_extent().x1 <= figure.bbox.width
        assert legend.get_window_extent().y1 < min(axes.get_tightbbox().y0 for axes in figure.axes)


def _design_and_more(problem: Problem, count: int) -> list[Trial]:
    """Finished trials at the points of a design."""
    optimizer = Optimizer(problem.space, seed=0, budget=4 * count)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
    return list(optimizer.trials)


def test_a_picture_needs_one_column_and_finished_trials() -> None:
    branin, forrester = get_problem("branin"), get_problem("forrester")
    optimizer = Optimizer(forrester.space, budget=12)
    for _ in range(3):
        trial = optimizer.ask()
        optimizer.tell(trial, forrester(trial.params))
    with pytest.raises(DataError, match="one continuous parameter"):
        plot_bore(Bore(), branin.space, optimizer.trials, branin)
    with pytest.raises(DataError, match="6 steps need as many finished trials and one before, got 3"):
        plot_bore(Bore(), forrester.space, optimizer.trials, forrester)
    optimizer.ask()
    with pytest.raises(DataError, match="finished trials"):
        plot_bore(Bore(), forrester.space, optimizer.trials, forrester, steps=1)

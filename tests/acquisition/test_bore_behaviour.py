"""What real classifiers make of Bore: expected improvement, and the minimum of a function with two basins."""

import statistics

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch.testing import assert_close

from bo_suite import Optimizer
from bo_suite.acquisition import Bore, SteinBatch
from bo_suite.classifiers import Classifier, GPClassifier, MLPClassifier, SklearnClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.problems import get_problem

F64 = torch.float64
FOREST = SklearnClassifier(RandomForestClassifier(100, min_samples_leaf=30))


@pytest.mark.parametrize(
    "classifier",
    [MLPClassifier(), pytest.param(GPClassifier(), marks=pytest.mark.slow), FOREST],
    ids=["mlp", "gp", "rf"],
)
def test_odds_rank_as_expected_improvement_and_probabilities_as_those_of_improvement(
    classifier: Classifier,
) -> None:
    """Of y = f(x) + N(0, 0.3²), at 2,000 inputs in one dimension."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 1, dtype=F64, generator=generator)
    grid = torch.linspace(0.02, 0.98, 97, dtype=F64)[:, None]

    def f(at: torch.Tensor) -> torch.Tensor:
        return torch.sin(9.0 * at[:, 0]) + 0.8 * at[:, 0]

    data = Dataset(x, f(x) + 0.3 * torch.randn(2000, dtype=F64, generator=generator))
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

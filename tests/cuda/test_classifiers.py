"""Classifiers and Bore on a CUDA device: the CPU's log odds, and points from the same space."""

from dataclasses import replace

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch.testing import assert_close

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.acquisition import Bore, SteinBatch
from bo_suite.classifiers import Classifier, GPClassifier, MLPClassifier, SklearnClassifier, WeightedExamples
from bo_suite.classifiers.density_ratio import fit_density_ratio
from bo_suite.data import Seeds
from bo_suite.testing.classifier import labelled
from bo_suite.testing.data import rows

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CLASSIFIERS = [
    MLPClassifier(hidden=(8,), weight_decay=0.3),
    MLPClassifier(hidden=(8,), weight_decay=0.3, members=3),
    GPClassifier(inducing=12),
    SklearnClassifier(RandomForestClassifier(20)),
]


def to_cuda(data: WeightedExamples) -> WeightedExamples:
    return replace(data, x=data.x.cuda(), positive=data.positive.cuda(), negative=data.negative.cuda())


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_log_odds_agree_with_the_cpu(classifier: Classifier) -> None:
    data, test, seeds = labelled(40, 2), rows(6, 2, seed=3), Seeds((1, 2), (2,))
    here, there = classifier.fit(data, seeds)(test), classifier.fit(to_cuda(data), seeds)(test.cuda())
    assert there.is_cuda
    assert_close(there.cpu(), here, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_a_mixed_space_is_searched_alone_and_in_batches(classifier: Classifier) -> None:
    space = Space({"x": Float(0, 1), "k": Choice(["a", "b", "c"])})
    optimizer = Optimizer(space, acquisition=Bore(classifier=classifier), budget=6, device="cuda")
    for count, batch in ((2, None), (1, None), (3, None), (3, SteinBatch(steps=10))):
        for trial in optimizer.ask(count, batch):
            optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2 + (trial.params["k"] != "b"))
    assert len({tuple(trial.params.items()) for trial in optimizer.trials}) == 9
    assert {trial.provenance["source"] for trial in optimizer.trials[2:]} == {"acquisition"}


def test_a_density_ratio_lives_where_its_samples_do() -> None:
    p, q = torch.randn(2, 500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratio = fit_density_ratio(MLPClassifier(hidden=(8,)), p.cuda() + 1.0, 2.0 * q.cuda(), Seeds.of(0, 0))
    assert ratio.kl(p.cuda() + 1.0).is_cuda
    assert 0.2 < float(ratio.kl(p.cuda() + 1.0)) < 0.7

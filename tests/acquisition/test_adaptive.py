"""The default recipe: its factor for what is new, its escapes, and what it says of its choices."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.acquisition.default import default_acquisition
from bo_suite.acquisition.improvement import evaluations_since_best, log_expected_improvement
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.study.observations import dataset_of

SPACE = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
SEEDS = Seeds.of(0, 9)


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(x: Tensor) -> Tensor:
    return (x - 0.3).square().sum(-1)


def data_of(count: int, noise: float = 0.0) -> Dataset:
    """The best outcome comes last, so nothing stagnates."""
    x = rows(count)
    values = bowl(x) + noise * torch.randn(
        count, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    order = values.argsort(descending=True)
    return dataset_of(SPACE, x[order], values[order])


def test_it_is_the_default() -> None:
    assert default_acquisition() == AdaptiveImprovement()


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_it_is_expected_improvement_with_the_factor_of_huang(size: float) -> None:
    data, probes = data_of(40, noise=size), rows(50, 5)
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.notes == ({"scale": "as given", "rule": "improvement"},)
    noise, (mean, var) = (score.process.noise - 1e-3).clamp(min=0.0), score.process.mean_and_var(probes)
    assert (float(noise) > 0.05) == (size > 0.0)
    factor = 1.0 - (noise / (var + noise)).sqrt()
    expected = log_expected_improvement(mean, var, data.y.amin(-1, keepdim=True)) + factor.log()
    torch.testing.assert_close(score(probes), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("after", "escapes"), [(3, False), (4, False), (5, True), (6, False), (7, True)])
def test_every_second_step_escapes_after_five_evaluations_without_improvement(
    after: int, escapes: bool
) -> None:
    x = rows(12)
    x[12 - after - 1] = 0.3
    data = dataset_of(SPACE, x, bowl(x))
    assert int(evaluations_since_best(data)) == after
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.notes[0]["rule"] == ("confidence bound" if escapes else "improvement")
    mean, var = score.process.mean_and_var(x)
    bound = 2.0 * var.clamp(min=1e-20).sqrt() - mean
    assert torch.equal(score(x), bound) == escapes


@pytest.mark.parametrize("escapes", [False, True])
def test_under_constraints_a_hopeless_score_falls_slowly(escapes: bool) -> None:
    """Where nothing improves, the score is h(u) = log log(1 + exp(10 u)) of what is missing, however far."""
    x = rows(60)
    x[60 - (6 if escapes else 1)] = 0.3
    data = replace(dataset_of(SPACE, x, bowl(x) * 100), violation=torch.zeros(60, dtype=torch.float64))
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.notes[0]["rule"] == ("confidence bound" if escapes else "improvement")
    probes = torch.cat((torch.ones(1, 2, dtype=torch.float64), x[:20])).requires_grad_()
    mean, var = score.process.mean_and_var(probes)
    best = score.best.squeeze()
    values = score(probes)
    improvement = log_expected_improvement(mean, var, score.best).detach()
    assert float(improvement.min()) < -1e3
    gain = best - mean + 2.0 * var.clamp(min=1e-20).sqrt() if escapes else best - mean
    expected = [math.log(math.log1p(math.exp(10.0 * one))) for one in gain.tolist()]
    if not escapes:
        expected = [math.log(1e-8) + one for one in expected]
        assert bool((values >= improvement).all())
    hopeless = improvement < -40.0
    assert int(hopeless.sum()) > 10
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(values.detach()[hopeless], wanted[hopeless], rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(values.sum(), probes)
    assert bool(gradient.isfinite().all())


def test_pending_points_count_as_evaluations() -> None:
    data = data_of(8)
    assert int(evaluations_since_best(data)) == 0
    assert int(evaluations_since_best(replace(data, pending=rows(3, 7)))) == 3


def test_replicates_escape_alone() -> None:
    one, other = rows(12, 1), rows(12, 2)
    one[6], other[11] = 0.3, 0.3
    x = torch.stack((one, other))
    data = dataset_of(SPACE, x, bowl(x))
    both = AdaptiveImprovement().build(data, Seeds.of_each((0, 1), 12))
    assert both.escapes.tolist() == [True, False]
    probes = rows(20, 4)
    for index in range(2):
        alone = AdaptiveImprovement().build(data.replicates(index), Seeds.of(index, 12))
        torch.testing.assert_close(both(probes.expand(2, 20, 2))[index], alone(probes), rtol=1e-4, atol=1e-4)


def test_a_trial_and_the_step_after_a_resume_say_what_was_chosen(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(SPACE, seed=0, storage=path, initial=3)
    for _ in range(6):
        trial = optimizer.ask()
        optimizer.tell(trial, math.exp(20.0 * abs(trial.params["a"] - 0.7)))
    assert set(optimizer.trials[-1].provenance["chosen"]) == {"scale", "rule"}
    optimizer.close()
    shutil.copy(path, tmp_path / "copy.db")
    first, second = (Optimizer.resume(file).ask() for file in (path, tmp_path / "copy.db"))
    assert first.params == second.params
    assert first.provenance["chosen"] == second.provenance["chosen"]


@pytest.mark.parametrize("arguments", [{"patience": 0}, {"fantasies": 0}])
def test_counts_below_one_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(DataError, match="must hold, got 0"):
        AdaptiveImprovement(**arguments)

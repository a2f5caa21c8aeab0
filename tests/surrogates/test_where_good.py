"""Sparse surrogates in the loop: when hyperparameters are searched, and of which observations."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import (
    SGPR,
    SVGP,
    ExactGP,
    Surrogate,
    WarmStart,
    placement,
    sgpr,
    warm_start,
    where_good,
)
from bo_suite.surrogates.subsample import best_observations
from bo_suite.surrogates.variational.training import NaturalAdam

SEEDS = Seeds.of(0, 0)
NOISE = 0.3


def rows(n: int, seed: int, dim: int = 4) -> Tensor:
    return torch.rand(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rough(x: Tensor) -> Tensor:
    """A function that few inducing values can not express, of variance about 1."""
    return 0.7 * torch.sin(9.0 * x).sum(-1)


def noisy(n: int, seed: int = 0) -> Dataset:
    x = rows(n, seed)
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return Dataset(x, rough(x) + NOISE * noise)


def few(monkeypatch: pytest.MonkeyPatch, many: int, inducing: int) -> None:
    """Many observations begin earlier, and a fit has fewer inducing inputs, so that fits are quick."""
    for module in (sgpr, warm_start, where_good):
        monkeypatch.setattr(module, "MANY", many)
    monkeypatch.setattr(placement, "inducing_count", lambda n: min(n, inducing))


@pytest.mark.parametrize("surrogate", [SGPR(inducing=6), SVGP(inducing=6, training=NaturalAdam(steps=5))])
def test_many_observations_are_searched_again_only_when_they_have_grown(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 60, 6)
    first = surrogate.fit(noisy(101), SEEDS)
    start = WarmStart(first.hyperparameters, 101)
    same, more = surrogate.fit(noisy(102), SEEDS, start), surrogate.fit(noisy(106), SEEDS, start)
    assert torch.equal(same.hyperparameters, first.hyperparameters)
    assert not torch.equal(more.hyperparameters, first.hyperparameters)
    assert not torch.equal(same.mean(rows(5, 9)), first.mean(rows(5, 9)))  # the observation counts


BASIN = torch.full((4,), 0.6, dtype=torch.float64)


def basin(x: Tensor) -> Tensor:
    return -4.0 * torch.exp(-(x - BASIN).square().sum(-1) / 0.08)


def noisy_basin(n: int) -> Dataset:
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1)).double()
    return Dataset(rows(n, 0), basin(rows(n, 0)) + 0.2 * noise)


def test_a_function_that_inducing_values_do_not_express_is_not_taken_for_smooth_and_noisy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few(monkeypatch, 150, 30)
    data, test = noisy_basin(400), BASIN + 0.2 * (rows(200, 5) - 0.5)
    process, by_bound = SGPR().fit(data, SEEDS), SGPR(inducing=30).fit(data, SEEDS)
    error, error_of_bound = ((one.mean(test) - basin(test)).square().mean() for one in (process, by_bound))
    assert float(error) < 0.5 * float(error_of_bound)


def test_a_warm_start_stays_where_the_bound_is_not_to_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 150, 30)
    first = SGPR().fit(noisy_basin(400), SEEDS)
    refined = SGPR().fit(noisy_basin(410), SEEDS, WarmStart(first.hyperparameters, 400))
    assert first.trace is None
    assert refined.trace is None
    assert_close(refined.hyperparameters, first.hyperparameters, rtol=0.0, atol=1.0)


def test_hyperparameters_of_good_observations_that_predict_others_badly_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the lowest parts of a wave say little about the rest of it."""
    few(monkeypatch, 100, 30)
    x = rows(1500, 0, 5)
    wave = torch.sin(12.0 * x[:, 0]) + torch.sin(9.0 * x[:, 1]) * torch.cos(8.0 * x[:, 2])
    wave = (wave + 0.1 * torch.randn(1500, generator=torch.Generator().manual_seed(3)).double()) / wave.std()
    process = SGPR().fit(Dataset(x[:500], wave[:500]), SEEDS)
    assert process.trace is not None  # of a search of the bound
    assert float((process.mean(x[500:]) - wave[500:]).square().mean()) < 0.5


def test_each_replicate_equals_its_solo_run_whether_its_bound_is_trusted_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few(monkeypatch, 60, 25)
    x = rows(140, 0)
    y = torch.stack((rough(x), 2.0 * x[:, 0]))
    fits = [SGPR().fit(Dataset(x, one), SEEDS) for one in y]
    assert [one.trace is None for one in fits] == [True, False]
    both = SGPR().fit(Dataset(x.expand(2, -1, -1), y), Seeds(SEEDS.keys * 2, (2,)))
    for index, alone in enumerate(fits):
        assert_close(both.mean(rows(5, 9).expand(2, -1, -1))[index], alone.mean(rows(5, 9)))


def test_hyperparameters_are_of_good_observations_and_not_of_lucky_ones() -> None:
    """The best outcomes of noise alone are nearly equal, which looks as if there were no noise."""
    y = torch.randn(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data, exact = Dataset(rows(3000, 0, 2), y), ExactGP()
    start = torch.tensor([0.0, 0.0, 0.0, -0.5], dtype=torch.float64)
    smooth = SGPR().process(data, start, data.x[:20])
    good = where_good.fit_to_best_means(exact, smooth, data, SEEDS, fresh=False)
    lucky = exact.fit(best_observations(data, 500), SEEDS, WarmStart(start, 500)).hyperparameters
    assert float(lucky[-1].exp()) < 0.4 < 0.8 < float(good[-1].exp()) < 1.2


def test_a_run_resumes_with_the_same_suggestions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 20, 8)
    space = Space({"x": Float(-1, 2), "z": Float(0, 1)})
    points, outcomes = rows(24, 0, 2), noisy(40).y.tolist()

    def optimizer(name: str) -> Optimizer:
        made = Optimizer(space, LogExpectedImprovement(surrogate=SGPR()), storage=tmp_path / name)
        for point, outcome in zip(points.tolist(), outcomes, strict=False):
            made.add({"x": 3.0 * point[0] - 1.0, "z": point[1]}, outcome)
        return made

    def advance(run: Optimizer, count: int) -> None:
        for _ in range(count):
            run.tell(run.ask(), outcomes[len(run.trials)])

    whole, part = optimizer("whole.db"), optimizer("part.db")
    advance(whole, 6)
    for count in (2, 1, 3):
        advance(part, count)
        part.close()
        part = Optimizer.resume(tmp_path / "part.db")
    assert [trial.params for trial in part.trials] == [trial.params for trial in whole.trials]
    part.close()
    whole.close()

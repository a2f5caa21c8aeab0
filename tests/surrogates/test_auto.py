"""The handover from exact to sparse: nothing jumps, nothing is fitted without need, and runs resume."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Matern52
from bo_suite.surrogates import SGPR, AutoGP, ExactGP, ExactProcess, SparseProcess, WarmStart
from bo_suite.testing import check_acquisition, check_surrogate
from bo_suite.testing.data import dataset

SMALL = AutoGP(handover=40)


def head(data: Dataset, count: int) -> Dataset:
    return replace(data, x=data.x[:count], y=data.y[:count])


def test_exact_up_to_the_handover_and_sparse_beyond() -> None:
    data, seeds = dataset(41), Seeds.of(0, 0)
    assert isinstance(SMALL.fit(head(data, 40), seeds), ExactProcess)
    assert isinstance(SMALL.fit(data, seeds), SparseProcess)


@pytest.mark.slow
def test_the_contracts_hold_on_both_sides() -> None:
    check_surrogate(AutoGP(handover=9))  # fits 8, 12 and 20 observations
    check_acquisition(LogExpectedImprovement(surrogate=AutoGP(handover=9)))


def test_nothing_jumps_at_the_handover() -> None:
    """With as many inducing inputs as observations the posterior is the exact one."""
    data, seeds, test = dataset(41), Seeds.of(0, 0), dataset(200, seed=5).x
    before = SMALL.fit(head(data, 40), seeds)
    after = SMALL.fit(data, seeds, WarmStart(before.hyperparameters, 40))
    exact = SMALL.exact.process(data, after.hyperparameters)
    assert_close(after.mean(test), exact.mean(test), rtol=0.0, atol=1e-3)
    assert_close(after.var(test), exact.var(test), rtol=0.0, atol=1e-3)


def test_a_warm_start_is_refined_and_left_when_the_data_have_grown_by_a_fifth() -> None:
    data, seeds = dataset(100), Seeds.of(0, 0)
    first = SMALL.fit(head(data, 60), seeds)
    far = WarmStart(first.hyperparameters + 3.0, 60)
    again = SMALL.fit(head(data, 60), Seeds.of(0, 1), WarmStart(first.hyperparameters, 60))
    assert_close(again.hyperparameters, first.hyperparameters, rtol=0.0, atol=0.3)
    evidence = [
        SMALL.exact.log_posterior(data, SMALL.fit(data, Seeds.of(0, 2), start).hyperparameters)[0]
        for start in (far, None)
    ]
    assert_close(evidence[0], evidence[1], rtol=0.0, atol=0.5)


def test_good_outcomes_without_noise_are_met_where_the_variational_process_misses_them() -> None:
    x = torch.rand(600, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.sin(6 * x).sum(-1) * x[:, 0]
    data = Dataset(x, (y - y.mean()) / y.std())
    surrogate = AutoGP(handover=100, inducing=120)
    process = surrogate.fit(data, Seeds.of(0, 0))
    best = data.y.argsort()[:10]
    gap = (process.mean(x[best]) - data.y[best]).abs().max()
    variational = SGPR().process(data, process.hyperparameters, process.inducing)
    other = (variational.mean(x[best]) - data.y[best]).abs().max()
    assert float(gap) < 0.3 * float(other)


def test_absorbing_observations_equals_refitting_with_their_unexplained_variance_as_noise() -> None:
    data, seeds, test = dataset(80), Seeds.of(0, 0), dataset(30, seed=5).x
    process = AutoGP(handover=10, inducing=12).fit(head(data, 70), seeds)
    a = process.basis.whiten(data.x[70:])
    unexplained = process.scale - a.square().sum(-2)
    plain = replace(process, independent=False)
    noisy = plain.absorb(data.x[70:], data.y[70:], process.noise + unexplained)
    absorbed = process.absorb(data.x[70:], data.y[70:])
    assert_close(absorbed.mean(test), noisy.mean(test))
    back = absorbed.release(data.x[70:], data.y[70:])
    assert_close(back.mean(test), process.mean(test), rtol=1e-8, atol=1e-8)


def test_every_observation_counts_after_the_handover() -> None:
    data, seeds = dataset(100), Seeds.of(0, 0)
    process = SMALL.fit(data, seeds)
    moved = data.y.clone()
    moved[57] += 1.0
    other = SMALL.fit(replace(data, y=moved), seeds, WarmStart(process.hyperparameters, 100))
    assert float((process.mean(data.x) - other.mean(data.x))[57].abs()) > 1e-3


def test_a_bad_handover_is_refused() -> None:
    with pytest.raises(DataError, match="handover and inducing must be at least 1, got 0 and 512"):
        AutoGP(handover=0)


def test_both_sides_have_the_same_kernel() -> None:
    kernel = Matern52(unordered=(2,), outputscale_spread=0.1)
    surrogate = AutoGP(exact=ExactGP(kernel=kernel), handover=12)
    assert surrogate.fit(dataset(13), Seeds.of(0, 0)).kernel is kernel


def test_a_run_across_the_handover_resumes_with_the_same_suggestions(tmp_path: Path) -> None:
    surrogate = AutoGP(inducing=12, handover=10)
    space = Space({"x": Float(-1, 2), "z": Float(0, 1)})

    def advance(optimizer: Optimizer, count: int) -> None:
        for _ in range(count):
            trial = optimizer.ask()
            optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2 + trial.params["z"])

    whole = Optimizer(space, LogExpectedImprovement(surrogate=surrogate), storage=tmp_path / "whole.db")
    advance(whole, 16)
    for place in (9, 12):
        part = Optimizer(space, LogExpectedImprovement(surrogate=surrogate), storage=tmp_path / f"{place}.db")
        advance(part, place)
        part.close()
        resumed = Optimizer.resume(tmp_path / f"{place}.db")
        advance(resumed, 16 - place)
        assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]
        resumed.close()
    whole.close()

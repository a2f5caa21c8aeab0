import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import (
    AdaptiveImprovement,
    KnowledgeGradient,
    LogExpectedImprovement,
    Scalarised,
    Score,
    ThompsonSampling,
)
from bo_suite.acquisition.chebyshev import Chebyshev, uniform_weights
from bo_suite.acquisition.fronts import observed_front
from bo_suite.acquisition.scalarised import scalarised_dataset
from bo_suite.acquisition.several import outcome_dataset
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP, WarmStart

F64 = torch.float64
SEEDS = Seeds.of(0, 12)


def rows(n: int, seed: int = 5) -> Tensor:
    return Seeds.of(seed, 0).sobol(n, torch.zeros(1, 2, dtype=F64))


def data_of(y: Tensor, x: Tensor, noise: Tensor | None = None) -> Dataset:
    ends = torch.full((len(y),), torch.inf, dtype=F64)
    return Dataset(x, y.nan_to_num(0.0).sum(0), outcomes=Outcomes(x, y, len(y), -ends, ends, noise))


def trade_off(x: Tensor) -> Tensor:
    corners = torch.tensor([[0.2, 0.3], [0.8, 0.4]], dtype=F64)
    y = (x[None] - corners[:, None]).square().sum(-1)
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


@dataclass
class Recorder:
    """An acquisition that records what it is given."""

    data: Dataset | None = None
    start: WarmStart | None = None

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        self.data, self.start = data, start
        return LogExpectedImprovement().build(data, seeds)


def test_the_scalarisation_is_the_largest_weighted_objective_and_a_share_of_their_sum() -> None:
    y = torch.tensor([[0.0, 2.0, 9.0], [5.0, 1.0, 9.0]], dtype=F64)
    chebyshev = Chebyshev.of(
        y, torch.tensor([True, True, False]), torch.tensor([0.25, 0.75], dtype=F64), 0.05
    )
    # over the front, the first objective is between 0 and 2, the second between 1 and 5
    expected = [0.75 + 0.05 * 0.75, 0.25 + 0.05 * 0.25, 1.5 + 0.05 * (1.125 + 1.5)]
    assert_close(chebyshev(y).tolist(), expected)


def test_the_noise_of_a_scalarisation_is_that_of_its_linearisation() -> None:
    y = torch.tensor([[0.0, 2.0], [5.0, 1.0]], dtype=F64)
    front = torch.tensor([True, True])
    chebyshev = Chebyshev.of(y, front, torch.tensor([0.25, 0.75], dtype=F64), 0.05)
    point = torch.tensor([[0.4], [3.0]], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(chebyshev(point).sum(), point)
    noise = torch.tensor([[0.01], [0.3]], dtype=F64)
    assert_close(chebyshev.variance(point.detach(), noise), (slope.square() * noise).sum(0))
    unknown = torch.tensor([[0.01], [torch.nan]], dtype=F64)
    assert bool(chebyshev.variance(point.detach(), unknown).isnan())


def test_weights_are_uniform_on_the_simplex() -> None:
    like = torch.zeros(1, dtype=F64)
    draws = torch.stack([uniform_weights(3, Seeds.of(0, trial), like) for trial in range(2000)])
    assert_close(draws.sum(-1), torch.ones(2000, dtype=F64))
    # each is Beta(1, 2): mean 1/3, variance 1/18
    assert_close(
        draws.mean(0), torch.full((3,), 1 / 3, dtype=F64), rtol=0.0, atol=4 * math.sqrt(1 / 18 / 2000)
    )
    assert_close(draws.var(0), torch.full((3,), 1 / 18, dtype=F64), rtol=0.15, atol=0.0)


def test_the_acquisition_sees_the_standardised_scalarisation_of_complete_rows() -> None:
    x = rows(10)
    y = trade_off(x)
    y[1, 4] = torch.nan
    data = data_of(y, x)
    assert data.outcomes is not None
    violation = torch.zeros(10, dtype=F64)
    violation[0] = 2.0
    data = replace(data, outcomes=replace(data.outcomes, violation=violation), pending=rows(2, seed=3))
    inner = Recorder()
    Scalarised(inner, weights=(1.0, 3.0)).build(data, SEEDS)
    complete = [0, 1, 2, 3, 5, 6, 7, 8, 9]
    seen = inner.data
    assert seen is not None
    assert data.outcomes is not None
    assert torch.equal(seen.x, x[complete])
    assert torch.equal(seen.pending, data.pending)
    assert seen.outcomes is None
    assert seen.violation is not None
    assert seen.violation.tolist() == [2.0] + [0.0] * 8
    chebyshev = Chebyshev.of(
        y, observed_front(data, data.outcomes), torch.tensor([0.25, 0.75], dtype=F64), 0.05
    )
    value = chebyshev(y[:, complete])
    assert_close(seen.y, (value - value.mean()) / value.std(correction=0))


def test_a_good_trade_off_has_a_smaller_outcome_than_a_point_that_it_dominates() -> None:
    y = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]], dtype=F64)
    data = data_of(y, rows(3))
    assert data.outcomes is not None
    for seed in range(20):
        weights = uniform_weights(2, Seeds.of(seed, 0), y)
        seen = scalarised_dataset(data, data.outcomes, weights, 0.05)
        assert float(seen.y[2]) == float(seen.y.max())
        assert float(seen.y[:2].min()) < float(seen.y[2])


def test_each_step_draws_its_weights_and_records_them() -> None:
    x = rows(12)
    data = data_of(trade_off(x), x)
    first, same, other = (Scalarised().build(data, Seeds.of(0, trial)) for trial in (12, 12, 13))
    probe = rows(5, seed=8)
    assert torch.equal(first(probe), same(probe))
    assert first.notes[0]["weights"] != other.notes[0]["weights"]
    assert {"scale", "rule", "weights"} <= set(first.notes[0])
    json.dumps(first.notes)
    given = Scalarised(weights=(2.0, 2.0)).build(data, SEEDS)
    assert given.notes[0]["weights"] == [0.5, 0.5]


def test_the_fit_under_other_weights_is_one_starting_point_of_several() -> None:
    x = rows(12)
    data, start = data_of(trade_off(x), x), WarmStart(torch.zeros(4, dtype=F64), 12, settled=True)
    inner = Recorder()
    Scalarised(inner).build(data, SEEDS, start)
    assert inner.start is not None
    assert not inner.start.settled
    assert inner.start.observations < 12
    Scalarised(inner, weights=(1.0, 1.0)).build(data, SEEDS, start)
    assert inner.start == start


def test_it_supports_what_its_acquisition_does() -> None:
    assert Scalarised().supports == {"objectives"} | set(getattr(AdaptiveImprovement(), "supports", ()))
    assert Scalarised(KnowledgeGradient()).supports >= {"objectives", "fidelities"}
    search = Search(starts=2)
    assert Scalarised(LogExpectedImprovement(search=search)).search == search


ODD = {
    "identical objectives": lambda y: torch.stack((y[0], y[0])),
    "a constant objective": lambda y: torch.stack((y[0], torch.zeros_like(y[0]))),
    "all constant": lambda y: torch.zeros_like(y),
    "a front of one point": lambda y: torch.stack((y[0], 2.0 * y[0] + 1.0)),
    "one missing": lambda y: torch.cat((y, torch.where(torch.arange(y.shape[1]) == 3, torch.nan, y[:1]))),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("acquisition", [Scalarised(), ThompsonSampling(features=64)], ids=["EI", "paths"])
def test_odd_observations_give_finite_scores(name: str, acquisition: Scalarised | ThompsonSampling) -> None:
    x = rows(12)
    score = acquisition.build(data_of(ODD[name](trade_off(x)), x), SEEDS)
    assert bool(score(rows(20, seed=8)).isfinite().all())


def test_known_noise_reaches_the_acquisition() -> None:
    x, inner = rows(10), Recorder()
    noise = torch.full((2, 10), 0.1, dtype=F64)
    noise[0, 3] = torch.nan
    Scalarised(inner, weights=(1.0, 1.0)).build(data_of(trade_off(x), x, noise), SEEDS)
    assert inner.data is not None
    assert inner.data.noise is not None
    assert inner.data.noise.isnan().tolist() == [index == 3 for index in range(10)]


def test_what_it_cannot_do_is_said() -> None:
    x = rows(6)
    with pytest.raises(DataError, match="at least two objectives, got data with one"):
        Scalarised().build(Dataset(x, trade_off(x)[0]), SEEDS)
    with pytest.raises(DataError, match="a value for each of 2 objectives, got"):
        Scalarised(weights=(1.0, 2.0, 3.0)).build(data_of(trade_off(x), x), SEEDS)
    with pytest.raises(DataError, match="not all 0"):
        Scalarised(weights=(0.0, 0.0))
    with pytest.raises(DataError, match="rho"):
        Scalarised(rho=-1.0)
    with pytest.raises(FitError, match="an observation of an objective, got none"):
        Scalarised().build(data_of(trade_off(x) * torch.nan, x), SEEDS)


def test_while_no_row_has_all_objectives_those_that_were_not_measured_are_average() -> None:
    x = rows(6)
    y = trade_off(x)
    y[0, ::2], y[1, 1::2] = torch.nan, torch.nan
    data = data_of(y, x)
    assert data.outcomes is not None
    weights = torch.tensor([0.4, 0.6], dtype=F64)
    found = scalarised_dataset(data, data.outcomes, weights, 0.05)
    average = data_of(y.nan_to_num(0.0), x)
    front = torch.zeros(6, dtype=torch.bool)
    value = Chebyshev.of(average.outcomes.y, front, weights, 0.05)(average.outcomes.y)  # type: ignore[union-attr]
    assert_close(found.x, x)
    assert_close(found.y, (value - value.mean()) / value.std(correction=0))
    assert bool(Scalarised().build(data, SEEDS)(rows(9)).isfinite().all())


def test_paths_of_the_objectives_are_independent_and_agree_with_the_observations() -> None:
    x = rows(24)
    y = trade_off(x)
    data = data_of(y, x, torch.zeros_like(y))
    score = ThompsonSampling().build(data, SEEDS)
    paths = score.paths  # type: ignore[union-attr]
    assert_close(paths(x.expand(2, -1, -1))[0], y, rtol=0.0, atol=0.05)
    first, second = paths.features
    assert not torch.equal(first, second)
    assert data.outcomes is not None
    expected = -score.scalarisation(y)  # type: ignore[union-attr]
    assert_close(score(x), expected, rtol=0.0, atol=0.1)


def test_thompson_sampling_prefers_other_trade_offs_in_other_steps() -> None:
    x = rows(24)
    data, probe = data_of(trade_off(x), x), rows(256, seed=8)
    best = [int(ThompsonSampling().build(data, Seeds.of(0, trial))(probe).argmax()) for trial in range(6)]
    assert len(set(best)) > 2
    first, second = trade_off(probe)[:, best]
    assert float(first.max() - first.min()) > 0.3
    assert float(second.max() - second.min()) > 0.3


def test_pending_points_count_as_observed_one_standard_deviation_above_their_mean() -> None:
    x, pending = rows(24), rows(1, seed=3)
    data = data_of(trade_off(x), x)
    score = ThompsonSampling().build(replace(data, pending=pending), SEEDS)
    process = AutoGP().fit(outcome_dataset(data, 0, 2), SEEDS)
    mean, var = process.mean_and_var(pending.expand(2, -1, -1))
    rows_of_paths = score.paths.basis.rows  # type: ignore[union-attr]
    assert torch.equal(rows_of_paths, torch.cat((x, pending)).expand(2, -1, -1))
    paths = score.paths(pending.expand(2, -1, -1))[0]  # type: ignore[union-attr]
    spread = process.noise.sqrt()[:, None]
    assert bool(((paths - mean - var.sqrt()).abs() < 5.0 * (var.sqrt() + spread)).all())

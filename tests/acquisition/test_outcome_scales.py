"""The scales of outcomes that are compared, and which one is chosen."""

import pytest
import torch
from torch import Tensor

from bo_suite import Float, Space
from bo_suite.acquisition.outcome_scales import CANDIDATES, OutcomeScale, ScaleChoice
from bo_suite.data import Dataset, Seeds
from bo_suite.study.observations import dataset_of
from bo_suite.surrogates import ExactGP

SPACE = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def choice(values: Tensor, x: Tensor, start: None = None) -> ScaleChoice:
    return ScaleChoice.of(ExactGP(), dataset_of(SPACE, x, values), Seeds.of(0, 0), start)


def bowl(x: Tensor) -> Tensor:
    return (x - 0.3).square().sum(-1)


def test_scales_increase_and_have_the_slope_that_they_say() -> None:
    y = torch.linspace(-1.3, 2.0, 9, dtype=torch.float64)
    scales = OutcomeScale.candidates(y, y.amin(-1, keepdim=True))
    assert scales.offset.shape == (CANDIDATES, 1)
    points = (y + 0.05).requires_grad_()
    mapped = scales(points)
    assert bool((mapped.diff(dim=-1) > 0).all())
    for scale in range(CANDIDATES):
        (slope,) = torch.autograd.grad(mapped[scale].sum(), points, retain_graph=True)
        torch.testing.assert_close(slope.log(), scales.log_slope(y + 0.05)[scale].detach())


def test_candidates_are_the_given_scale_and_standardised_logarithms() -> None:
    y = bowl(rows(12))
    mapped = OutcomeScale.candidates(y, y.amin(-1, keepdim=True))(y)
    torch.testing.assert_close(mapped[0], y)
    torch.testing.assert_close(mapped[1:].mean(-1), torch.zeros(CANDIDATES - 1, dtype=torch.float64))
    torch.testing.assert_close(mapped[1:].square().mean(-1), torch.ones(CANDIDATES - 1, dtype=torch.float64))


def test_known_noise_is_carried_to_the_scale() -> None:
    x, y = rows(5), torch.tensor([1.0, 2.0, 3.0, 5.0, 9.0], dtype=torch.float64)
    noise = torch.tensor([1e-8, torch.nan, 1e-8, 1e-8, 1e-8], dtype=torch.float64)
    scales = OutcomeScale.candidates(y, y.amin(-1, keepdim=True))
    mapped = scales.of_data(Dataset(x, y, noise))
    assert mapped.noise is not None
    moved = (scales(y + 1e-4) - scales(y)).square()
    torch.testing.assert_close(mapped.noise[:, [0, 2, 3, 4]], moved[:, [0, 2, 3, 4]], rtol=1e-3, atol=0.0)
    assert bool(mapped.noise[:, 1].isnan().all())


def test_outcomes_over_six_orders_of_magnitude_get_a_log_scale() -> None:
    x = rows(30)
    names = choice(torch.exp(14.0 * bowl(x).sqrt()), x).names
    assert names[0].startswith("log")


@pytest.mark.parametrize("seed", range(3))
def test_a_bowl_and_noise_keep_the_given_scale(seed: int) -> None:
    x = rows(20, seed)
    noise = torch.randn(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert choice(bowl(x), x).names == ("as given",)
    assert choice(noise, x).names == ("as given",)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e300])
def test_equal_outcomes_have_finite_scales(value: float) -> None:
    x = rows(6)
    chosen = choice(torch.full((6,), value, dtype=torch.float64), x)
    assert bool(torch.isfinite(chosen.hyperparameters).all())


def test_replicates_choose_as_alone() -> None:
    x = torch.stack((rows(25, 1), rows(25, 2)))
    values = torch.stack((torch.exp(14.0 * bowl(x[0]).sqrt()), bowl(x[1])))
    both = ScaleChoice.of(ExactGP(), dataset_of(SPACE, x, values), Seeds.of_each((0, 1), 0), None)
    assert both.names == choice(values[0], x[0]).names + choice(values[1], x[1]).names
    assert both.names[0] != both.names[1]


def test_beyond_two_hundred_observations_the_best_of_all_is_the_reference() -> None:
    x = rows(240)
    values = torch.exp(14.0 * bowl(x).sqrt())
    order = values.argsort(descending=True)
    data = dataset_of(SPACE, x[order], values[order])
    chosen = ScaleChoice.of(ExactGP(), data, Seeds.of(0, 0), None)
    assert chosen.observations == 200
    mapped = chosen.scale(data.y)
    assert int(mapped.argmin()) == 239
    assert mapped.unique().shape == data.y.unique().shape

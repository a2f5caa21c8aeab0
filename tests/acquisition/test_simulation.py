"""The simulated knowledge gradient of the notebooks: beside quadrature, a grid and the closed form."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import KnowledgeGradient
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.process import ExactProcess
from simulation import simulate_knowledge_gradient

F64 = torch.float64
CANDIDATE = torch.tensor([1.1 / 3.0], dtype=F64)
"""x = 0.1 on [-1, 2]."""
GRID = torch.linspace(0.0, 1.0, 4001, dtype=F64)[:, None]


def data(seed: int = 2, noise: float = 0.2) -> Dataset:
    """Ten noisy values of sin 3x + x² - 0.7x, x on [-1, 2] mapped to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(10, 1, generator=generator, dtype=F64)
    x = 3.0 * rows[:, 0] - 1.0
    y = torch.sin(3.0 * x) + x.square() - 0.7 * x
    return Dataset(rows, y + noise * torch.randn(10, generator=generator, dtype=F64))


def exact(lengthscale: float = 0.12, noise: float = 0.02, seed: int = 2) -> ExactProcess:
    theta = torch.tensor([lengthscale, 0.3, noise], dtype=F64).log()
    return ExactGP().process(data(seed), theta)


def slope(process: ExactProcess, rows: Tensor, candidate: Tensor) -> Tensor:
    """cov(x', x_c) / sqrt(var(x_c) + noise): how the mean moves with a standard normal."""
    row = candidate[None]
    return process.cov(rows, row)[:, 0] / (process.var(row)[0] + process.noise).sqrt()


def lowest(process: ExactProcess, z: Tensor, candidate: Tensor, rows: Tensor = GRID) -> Tensor:
    """Minimum over the rows of the mean given each standardised outcome."""
    mean, moved = process.mean(rows), slope(process, rows, candidate)
    return torch.cat([(mean[:, None] + moved[:, None] * part).amin(0) for part in z.split(200)])


def quadrature(process: ExactProcess, candidate: Tensor) -> float:
    """The knowledge gradient over the grid, by the trapezium rule on ten standard deviations each way."""
    z = torch.linspace(-10.0, 10.0, 4001, dtype=F64)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    change = process.mean(GRID).min() - lowest(process, z, candidate)
    return float(torch.trapezoid(change * density, z))


@pytest.mark.parametrize("x", [0.1, pytest.param(-0.6, marks=pytest.mark.slow)])
def test_the_estimate_agrees_with_quadrature_and_with_the_closed_form(x: float) -> None:
    candidate = torch.tensor([(x + 1.0) / 3.0], dtype=F64)
    process = ExactGP().fit(data(), Seeds.of(0, 0))
    result = simulate_knowledge_gradient(process, candidate, 500, Seeds.of(0, 0))
    assert abs(float(result.value) - quadrature(process, candidate)) < 4.0 * float(result.standard_error)
    quasi = simulate_knowledge_gradient(process, candidate, 1024, Seeds.of(0, 0), quasi=True)
    value, error = float(quasi.value), float(quasi.standard_error)
    assert abs(value - quadrature(process, candidate)) < 0.3 * error
    closed = KnowledgeGradient(surrogate=ExactGP()).build(data(), Seeds.of(0, 0))
    assert abs(value - float(closed(candidate[None]).exp())) < 0.3 * error + 0.01 * value


@pytest.mark.parametrize("lengthscale", [0.03, 0.12])
def test_every_minimum_is_the_global_one(lengthscale: float) -> None:
    process = exact(lengthscale)
    result = simulate_knowledge_gradient(process, CANDIDATE, 1000, Seeds.of(1, 0))
    row = CANDIDATE[None]
    z = (result.outcomes - process.mean(row)[0]) / (process.var(row)[0] + process.noise).sqrt()
    for minima, grid in (
        (result.minima, lowest(process, z, CANDIDATE)),
        (result.minimum, process.mean(GRID).min()),
    ):
        assert bool((minima <= grid + 1e-9).all()), "no point of the grid may lie lower"
        assert_close(minima, grid, rtol=0.0, atol=1e-4)


def test_minima_are_those_of_the_conditioned_means_where_they_are_said_to_be() -> None:
    process = exact()
    result = simulate_knowledge_gradient(process, CANDIDATE, 300, Seeds.of(1, 0))
    given = process.condition(CANDIDATE[None], result.outcomes[:, None])
    assert_close(given.mean(result.minimizers).diagonal(), result.minima)
    assert_close(process.mean(result.minimizer[None])[0], result.minimum)
    before = given.mean(result.minimizer[None])[:, 0]
    assert bool((result.minima <= before + 1e-12).all()), "the search starts from the old minimiser"
    assert bool((result.minima < before - 1e-3).any())


def test_two_inputs_agree_with_a_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 2, generator=generator, dtype=F64)
    y = torch.sin(9.0 * x[:, 0]) * torch.cos(8.0 * x[:, 1]) + 0.3 * x.sum(-1)
    theta = torch.tensor([0.2, 0.25, 1.0, 0.01], dtype=F64).log()
    process, candidate = ExactGP().process(Dataset(x, y), theta), x.new_tensor([0.3, 0.6])
    result = simulate_knowledge_gradient(process, candidate, 200, Seeds.of(0, 0))
    axis = torch.linspace(0.0, 1.0, 151, dtype=F64)
    row = candidate[None]
    z = (result.outcomes - process.mean(row)[0]) / (process.var(row)[0] + process.noise).sqrt()
    grid = lowest(process, z, candidate, torch.cartesian_prod(axis, axis))
    assert bool((result.minima <= grid + 1e-9).all())
    assert_close(result.minima, grid, rtol=0.0, atol=5e-3)


def test_outcomes_have_the_moments_of_an_observation() -> None:
    process, row = exact(), CANDIDATE[None]
    outcomes = simulate_knowledge_gradient(process, CANDIDATE, 1000, Seeds.of(0, 0), quasi=True).outcomes
    assert_close(outcomes.mean(), process.mean(row)[0], rtol=0.0, atol=2e-3)
    assert_close(outcomes.var(), process.var(row)[0] + process.noise, rtol=2e-2, atol=0.0)

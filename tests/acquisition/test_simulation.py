"""The simulated knowledge gradient: against quadrature, and each of its steps."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition.simulation import Simulation, simulate_knowledge_gradient
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates import SGPR, ExactGP
from bo_suite.surrogates.process import ExactProcess

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
    return Dataset(rows, y + noise * torch.randn(10, generator=generator, dtype=F64), None, rows[:0])


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


@pytest.mark.parametrize("place", [0.1, 0.25, -0.6])
@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_the_estimate_agrees_with_quadrature(place: float, noise: float) -> None:
    process, candidate = exact(noise=noise), torch.tensor([(place + 1.0) / 3.0], dtype=F64)
    result = simulate_knowledge_gradient(process, candidate, 3000, Seeds.of(0, 0))
    assert result.outcomes.shape == result.minima.shape == (3000,)
    assert float(result.standard_error) < 0.1 * float(result.value)
    assert abs(float(result.value) - quadrature(process, candidate)) < 4.0 * float(result.standard_error)


def test_quasi_random_outcomes_come_much_closer() -> None:
    process = exact()
    result = simulate_knowledge_gradient(process, CANDIDATE, 2048, Seeds.of(0, 0), quasi=True)
    assert abs(float(result.value) - quadrature(process, CANDIDATE)) < 0.3 * float(result.standard_error)


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
    process, candidate = ExactGP().process(Dataset(x, y, None, x[:0]), theta), x.new_tensor([0.3, 0.6])
    result = simulate_knowledge_gradient(process, candidate, 200, Seeds.of(0, 0))
    axis = torch.linspace(0.0, 1.0, 151, dtype=F64)
    row = candidate[None]
    z = (result.outcomes - process.mean(row)[0]) / (process.var(row)[0] + process.noise).sqrt()
    grid = lowest(process, z, candidate, torch.cartesian_prod(axis, axis))
    assert bool((result.minima <= grid + 1e-9).all())
    assert_close(result.minima, grid, rtol=0.0, atol=5e-3)


def test_the_same_seeds_give_the_same_simulation_and_others_another() -> None:
    process = exact()
    first, again, other = (
        simulate_knowledge_gradient(process, CANDIDATE, 150, Seeds.of(seed, 0)) for seed in (3, 3, 4)
    )
    assert torch.equal(first.outcomes, again.outcomes)
    assert torch.equal(first.minima, again.minima)
    assert not torch.equal(first.outcomes, other.outcomes)


def test_outcomes_have_the_moments_of_an_observation() -> None:
    process, row = exact(), CANDIDATE[None]
    outcomes = simulate_knowledge_gradient(process, CANDIDATE, 1000, Seeds.of(0, 0), quasi=True).outcomes
    assert_close(outcomes.mean(), process.mean(row)[0], rtol=0.0, atol=2e-3)
    assert_close(outcomes.var(), process.var(row)[0] + process.noise, rtol=2e-2, atol=0.0)


def test_the_value_is_the_mean_and_its_error_that_of_the_mean() -> None:
    levels = torch.tensor([-1.0, -2.0, -4.0, -1.5], dtype=F64)
    result = Simulation(exact(), CANDIDATE, levels[0], CANDIDATE, levels, levels, levels[:, None])
    assert float(result.value) == 1.125
    assert_close(result.standard_error, levels.std() / 2.0)
    single = simulate_knowledge_gradient(exact(), CANDIDATE, 1, Seeds.of(0, 0))
    assert math.isfinite(float(single.value))
    assert math.isnan(float(single.standard_error))


def test_replicates_are_simulated_as_if_alone() -> None:
    sets = [data(seed) for seed in (2, 4)]
    both = Dataset(
        torch.stack([one.x for one in sets]),
        torch.stack([one.y for one in sets]),
        None,
        torch.stack([one.pending for one in sets]),
    )
    theta = torch.tensor([0.12, 0.3, 0.02], dtype=F64).log()
    seeds = [Seeds.of(seed, 0) for seed in (0, 1)]
    candidates = torch.tensor([[0.3], [0.6]], dtype=F64)
    together = simulate_knowledge_gradient(
        ExactGP().process(both, theta.expand(2, 3)),
        candidates,
        150,
        Seeds((seeds[0].keys[0], seeds[1].keys[0]), (2,)),
    )
    assert together.minimizers.shape == (150, 2, 1)
    for k, (part, seed) in enumerate(zip(sets, seeds, strict=True)):
        alone = simulate_knowledge_gradient(ExactGP().process(part, theta), candidates[k], 150, seed)
        assert_close(together.outcomes[:, k], alone.outcomes)
        assert_close(together.minima[:, k], alone.minima)
        assert_close(together.value[k], alone.value)


def test_a_sparse_process_and_single_precision_are_simulated_too() -> None:
    single = data()
    single = Dataset(single.x.float(), single.y.float(), None, single.pending.float())
    theta = torch.tensor([0.12, 0.3, 0.02]).log()
    result = simulate_knowledge_gradient(
        ExactGP().process(single, theta), CANDIDATE.float(), 300, Seeds.of(0, 0)
    )
    double = simulate_knowledge_gradient(exact(), CANDIDATE, 300, Seeds.of(0, 0))
    assert result.minima.dtype == torch.float32
    assert_close(result.value.double(), double.value, rtol=1e-3, atol=1e-5)
    sparse = SGPR(inducing=8).fit(data(), Seeds.of(0, 0))
    assert float(simulate_knowledge_gradient(sparse, CANDIDATE, 300, Seeds.of(0, 0)).value) > 0.0


@pytest.mark.parametrize(("outcomes", "starts"), [(0, 8), (-1, 8), (5, 0)])
def test_there_must_be_outcomes_and_starts(outcomes: int, starts: int) -> None:
    with pytest.raises(DataError, match=f"outcomes and starts must be >= 1, got {outcomes} and {starts}"):
        simulate_knowledge_gradient(exact(), CANDIDATE, outcomes, Seeds.of(0, 0), starts=starts)


def test_fantasies_and_replicates_that_do_not_match_are_refused() -> None:
    process = exact()
    fantasies = process.condition(GRID[:1], torch.zeros(3, 1, dtype=F64))
    two = Seeds((1, 2), (2,))
    for given, seeds in ((fantasies, Seeds.of(0, 0)), (process, two)):
        with pytest.raises(DataError, match="a process without fantasies"):
            simulate_knowledge_gradient(given, CANDIDATE, 5, seeds)

"""Spherical harmonics against the addition theorem, quadrature, SciPy and fundamental systems of points."""

import math
from collections.abc import Iterator

import pytest
import torch
from scipy.special import lpmv, roots_gegenbauer
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import DataError
from bo_suite.kernels.sphere import harmonics_count, zonal_sum
from bo_suite.surrogates.features import harmonics as module
from bo_suite.surrogates.features.harmonics import harmonics, harmonics_up_to

DOUBLES = {"dtype": torch.float64}
LARGEST = {2: 20, 3: 20, 4: 12, 5: 8, 6: 6, 7: 5, 8: 4, 9: 4, 12: 3, 16: 2, 20: 3}


def directions(count: int, *batch: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*batch, count, dim, generator=generator, **DOUBLES), dim=-1
    )


def zonal(t: Tensor, dim: int, degree: int) -> Tensor:
    """Z_l."""
    coefficients = torch.zeros(degree + 1, **DOUBLES)
    coefficients[degree] = 1.0
    return zonal_sum(t.clamp(-1.0, 1.0), coefficients, dim)[0]


def by_degree(values: Tensor, dim: int, degrees: range) -> list[Tensor]:
    return list(values.split([harmonics_count(dim, degree) for degree in degrees], -1))


@pytest.mark.parametrize(("dim", "largest"), LARGEST.items())
def test_products_of_harmonics_of_a_degree_add_up_to_the_zonal_function(dim: int, largest: int) -> None:
    x, z = directions(12, dim=dim), directions(7, dim=dim, seed=1)
    # poles of all dimensions, and opposite directions
    x = torch.cat((x, torch.eye(dim, **DOUBLES), -torch.eye(dim, **DOUBLES)))
    degrees = range(largest + 1)
    left = by_degree(harmonics(x, largest), dim, degrees)
    right = by_degree(harmonics(z, largest), dim, degrees)
    for degree, one, other in zip(degrees, left, right, strict=True):
        count = one.shape[-1]
        assert_close(one @ other.mT, zonal(x @ z.mT, dim, degree), rtol=0.0, atol=1e-10)
        assert_close(
            one.square().sum(-1), torch.full((len(x),), float(count), **DOUBLES), rtol=1e-11, atol=0.0
        )


def quadrature(dim: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Directions and weights that integrate polynomials of degree 2 nodes - 1 exactly, by dimensions."""
    angles = torch.arange(2 * nodes, **DOUBLES) * (math.pi / nodes) + 0.1
    points = torch.stack((angles.cos(), angles.sin()), -1)
    weights = torch.full((2 * nodes,), 0.5 / nodes, **DOUBLES)
    for k in range(3, dim + 1):
        t, mass = (torch.tensor(each, **DOUBLES) for each in roots_gegenbauer(nodes, 0.5 * (k - 2)))
        sine = (1.0 - t.square()).sqrt()
        rows = (points[:, None] * sine[:, None], t[:, None].expand(len(points), -1, 1))
        points = torch.cat(rows, -1).flatten(0, 1)
        weights = (weights[:, None] * mass / mass.sum()).flatten()
    return points, weights


@pytest.mark.parametrize(("dim", "largest"), [(2, 9), (3, 7), (4, 4), (6, 2)])
def test_harmonics_are_orthonormal(dim: int, largest: int) -> None:
    points, mass = quadrature(dim, largest + 1)
    values = harmonics(points, largest)
    products = values.mT @ (mass[:, None] * values)
    assert_close(products, torch.eye(len(products), **DOUBLES), rtol=0.0, atol=1e-12)


def test_on_the_sphere_they_are_those_of_scipy() -> None:
    x, largest = directions(30, dim=3), 9
    azimuth = torch.atan2(x[:, 1], x[:, 0])
    for degree, values in enumerate(by_degree(harmonics(x, largest), 3, range(largest + 1))):
        expected = []
        for order in range(degree, -1, -1):
            # with the (-1)^order of Condon and Shortley
            size = (-1.0) ** order * math.sqrt(
                (2 * degree + 1) * math.factorial(degree - order) / math.factorial(degree + order)
            )
            legendre = size * torch.tensor(lpmv(order, degree, x[:, 2].numpy()))
            if order:
                waves = torch.cos(order * azimuth), torch.sin(order * azimuth)
                expected += [math.sqrt(2.0) * legendre * wave for wave in waves]
            else:
                expected.append(legendre)
        assert_close(values, torch.stack(expected, -1), rtol=0.0, atol=1e-11)


@pytest.mark.parametrize(("dim", "degree"), [(2, 5), (3, 4), (5, 3), (9, 2), (20, 2)])
def test_they_span_what_zonal_functions_of_a_fundamental_system_span(dim: int, degree: int) -> None:
    """N zonal functions, about directions that pivoted Cholesky has chosen, are a basis, too."""
    count = harmonics_count(dim, degree)
    system = directions(3 * count, dim=dim, seed=2)
    rest, chosen = zonal(system @ system.mT, dim, degree), []
    for _ in range(count):
        chosen.append(int(rest.diagonal().argmax()))
        column = rest[:, chosen[-1]] / rest[chosen[-1], chosen[-1]].sqrt()
        rest = rest - column[:, None] * column
    poles, x = system[chosen], directions(11, dim=dim)
    factor = torch.linalg.cholesky(zonal(poles @ poles.mT, dim, degree))
    basis = torch.linalg.solve_triangular(factor, zonal(poles @ x.mT, dim, degree), upper=False)
    values = harmonics(x, (degree,))
    assert_close(values @ values.mT, basis.mT @ basis, rtol=1e-9, atol=1e-9)
    rotation = torch.linalg.solve_triangular(factor, harmonics(poles, (degree,)), upper=False)
    assert_close(rotation @ rotation.mT, torch.eye(count, **DOUBLES), rtol=0.0, atol=1e-9)
    assert_close(values, basis.mT @ rotation, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 4, 6])
def test_gradients_are_those_of_finite_differences(dim: int) -> None:
    x = directions(2, dim=dim).requires_grad_()

    def on_the_sphere(rows: Tensor) -> Tensor:
        return harmonics(torch.nn.functional.normalize(rows, dim=-1), (0, 2, 1, 3))

    assert torch.autograd.gradcheck(on_the_sphere, x)


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_some_degrees_are_columns_of_all(dim: int) -> None:
    x = directions(9, dim=dim)
    every = by_degree(harmonics(x, 6), dim, range(7))
    assert_close(harmonics(x, (0, 1, 2, 4, 6)), torch.cat([every[degree] for degree in (0, 1, 2, 4, 6)], -1))
    assert_close(harmonics(x, (5, 3)), torch.cat((every[5], every[3]), -1))


@pytest.fixture
def empty_memory_is_nan() -> Iterator[None]:
    """What is not computed is not by chance what an earlier call has left there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("empty_memory_is_nan")
@pytest.mark.parametrize("dim", [2, 3, 6])
def test_some_orders_are_the_last_columns_of_a_degree(dim: int) -> None:
    x = directions(9, dim=dim)
    everything = harmonics(x, (0, 2, 4, 5))
    for orders in range(6):
        count = harmonics_up_to(dim, 5, orders)
        leaf = x.clone().requires_grad_()
        some = harmonics(leaf, (0, 2, 4, 5), orders)
        before = everything.shape[-1] - harmonics_count(dim, 5)
        assert_close(some[:, :before].detach(), everything[:, :before])
        assert_close(some[:, before:].detach(), everything[:, -count:])
        (gradient,) = torch.autograd.grad(some[:, before:].sum(), leaf)
        whole = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(harmonics(whole, (0, 2, 4, 5))[:, -count:].sum(), whole)
        assert_close(gradient, expected)


def test_degrees_that_are_not_needed_are_not_computed() -> None:
    """Of degree 9 in 40 dimensions, and of those below it, there are more than the memory can hold."""
    x = directions(3, dim=40).requires_grad_()
    values = harmonics(x, (0, 1, 9), 1)
    assert values.shape == (3, 1 + 40 + 1 + 39)
    assert bool(torch.autograd.grad(values.sum(), x)[0].isfinite().all())


def test_a_batch_and_blocks_of_rows_give_what_each_row_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x = directions(7, 3, 2, dim=4).requires_grad_()
    w = torch.randn(3, 2, 7, 14, generator=torch.Generator().manual_seed(1), **DOUBLES)
    values = harmonics(x, 2)
    (gradient,) = torch.autograd.grad(values, x, w)
    assert values.shape == (3, 2, 7, 14)
    alone = x[2, 1].detach().requires_grad_()
    assert_close(harmonics(alone, 2), values[2, 1])
    assert_close(torch.autograd.grad(harmonics(alone, 2), alone, w[2, 1])[0], gradient[2, 1])
    monkeypatch.setattr(module, "_BLOCK", 50)
    assert_close(harmonics(x, 2), values)
    assert_close(torch.autograd.grad(harmonics(x, 2), x, w)[0], gradient)


def test_single_precision_stays_single() -> None:
    x = directions(20, dim=5)
    values = harmonics(x.float(), 6)
    assert values.dtype == torch.float32
    assert_close(values.double(), harmonics(x, 6), rtol=1e-4, atol=1e-4)
    assert harmonics(x[:0], 6).shape == (0, values.shape[1])


@pytest.mark.parametrize(("dim", "degrees"), [(1, 2), (3, -1), (3, ()), (3, (0, -2))])
def test_what_does_not_exist_is_refused(dim: int, degrees: int | tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=f"got D={dim} and degrees"):
        harmonics(torch.ones(2, dim, **DOUBLES), degrees)

"""Covariances of values, derivatives, integrals and differences."""

import inspect
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from bo_suite.errors import DataError
from bo_suite.kernels import DifferentiableKernel, Functionals, Matern52, SquaredExponential

KERNELS = (Matern52, SquaredExponential)


def rows(n: int, d: int = 3, seed: int = 0, lead: tuple[int, ...] = ()) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*lead, n, d, generator=generator, dtype=torch.float64)


def theta_of(d: int = 3, lead: tuple[int, ...] = ()) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return 0.5 * torch.randn(*lead, d + 1, generator=generator, dtype=torch.float64)


def every_kind(x: Tensor, z: Tensor) -> Functionals:
    """Two of each kind."""
    direction = z - 0.3
    offsets = torch.tensor([[0.1, 0.0, 0.0], [-0.1, 0.05, 0.0]], dtype=x.dtype)
    joined = Functionals.values(x)
    for more in (
        Functionals.partials(x, 1),
        Functionals.directional(z, direction),
        Functionals.differences(x, z),
        Functionals.integrals(z, 2, 0.2, 0.9, nodes=5),
        Functionals.averages(x, offsets, torch.tensor([0.25, 0.75], dtype=x.dtype)),
    ):
        joined = joined.joined(more)
    return joined


def by_autograd(kernel: DifferentiableKernel, theta: Tensor, left: Functionals, right: Functionals) -> Tensor:
    """Each covariance from the definition, by differentiating k at each pair of nodes."""

    def k(x: Tensor, z: Tensor) -> Tensor:
        # written out, since the kernel's own matrix has no second derivative by autograd at equal rows
        scaled = (x - z) * torch.exp(-theta[:-1])
        rho = scaled.square().sum()
        if isinstance(kernel, SquaredExponential):
            return torch.exp(theta[-1] - 0.5 * rho)
        r = (rho + 1e-24).sqrt()
        root = 5.0**0.5
        return torch.exp(theta[-1]) * (1.0 + root * r + 5.0 / 3.0 * rho) * torch.exp(-root * r)

    zero = torch.zeros_like(left.x[0])
    cov = torch.zeros(left.count, right.count, dtype=theta.dtype)
    for i, j in itertools.product(range(len(left.owner)), range(len(right.owner))):
        g = zero if left.direction is None else left.direction[i]
        h = zero if right.direction is None else right.direction[j]

        def along(s: Tensor, i: int = i, j: int = j, g: Tensor = g, h: Tensor = h) -> Tensor:
            return k(left.x[i] + s[0] * g, right.x[j] + s[1] * h)

        at = torch.zeros(2, dtype=theta.dtype)
        gradient, hessian = jacobian(along, at), torch.autograd.functional.hessian(along, at)
        a, b = left.weight[i], right.weight[j]
        total = a * b * along(at) + b * gradient[0] + a * gradient[1] + hessian[0, 1]
        cov[left.owner[i], right.owner[j]] += total
    return cov


@pytest.mark.parametrize("kernel", [kind() for kind in KERNELS])
def test_covariances_are_those_of_automatic_differentiation(kernel: Matern52 | SquaredExponential) -> None:
    left, right = every_kind(rows(2), rows(2, seed=1)), every_kind(rows(2, seed=2), rows(2, seed=3))
    theta = theta_of()
    cov, _ = kernel.functionals_cross(theta, left, right)
    torch.testing.assert_close(cov, by_autograd(kernel, theta, left, right), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kernel", [kind() for kind in KERNELS])
def test_the_covariance_with_itself_is_positive_definite_and_exact_at_equal_rows(
    kernel: Matern52 | SquaredExponential,
) -> None:
    x, theta = rows(6), theta_of()
    all_partials = Functionals.values(x)
    for column in range(3):
        all_partials = all_partials.joined(Functionals.partials(x, column))
    cov, _ = kernel.functionals_cross(theta, all_partials, all_partials)
    torch.testing.assert_close(cov, cov.mT, rtol=1e-12, atol=1e-12)
    assert float(torch.linalg.eigvalsh(cov).min()) > 0.0
    curvature = 5.0 / 3.0 if isinstance(kernel, Matern52) else 1.0
    variances = torch.exp(theta[-1] - 2.0 * theta[:3]) * curvature
    torch.testing.assert_close(cov.diagonal()[6:].reshape(3, 6), variances[:, None].expand(3, 6))


@pytest.mark.parametrize("kernel", [Matern52(unordered=(0,)), SquaredExponential(unordered=(0,)), Matern52()])
@pytest.mark.parametrize("of_values", [(), (0,), (1,), (0, 1)])
def test_pullbacks_are_those_of_finite_differences(
    kernel: Matern52 | SquaredExponential, of_values: tuple[int, ...]
) -> None:
    lead = (2,)
    sides = []
    for side in range(2):
        x, z = rows(3, seed=side, lead=lead), rows(3, seed=side + 5, lead=lead)
        if kernel.unordered:
            x[..., 0], z[..., 0] = (x[..., 0] * 2).round(), 0.0
        one = Functionals.values(x).joined(Functionals.differences(x, z))
        if side not in of_values:
            direction = z - 0.4
            direction[..., 0] = 0.0 if kernel.unordered else direction[..., 0]
            one = one.joined(Functionals.directional(x, direction))
            one = one.joined(Functionals.values_and_derivatives(z, torch.tensor([2, 0, 2]), direction))
        sides.append(one)
    left, right = sides
    theta = theta_of(lead=lead)
    cov, pullback = kernel.functionals_cross(theta, left, right)
    weights = torch.randn(cov.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def total(theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        moved = [replace(one, points=points) for points, one in ((x, left), (z, right))]
        return (weights * kernel.functionals_cross(theta, *moved)[0]).sum()

    points = [theta, left.points, right.points]
    for index, gradient in enumerate(pullback(weights)):
        flat = points[index].flatten()
        for entry in range(flat.numel()):
            if index and kernel.unordered and entry % 3 == 0:
                assert float(gradient.flatten()[entry]) == 0.0
                continue
            step = torch.zeros_like(flat)
            step[entry] = 1e-5
            ends = []
            for sign in (1.0, -1.0):
                at = list(points)
                at[index] = (flat + sign * step).reshape(points[index].shape)
                ends.append(total(*at))
            slope = (ends[0] - ends[1]) / 2e-5
            torch.testing.assert_close(gradient.flatten()[entry], slope, rtol=2e-6, atol=2e-6)


def test_equal_rows_have_a_finite_pullback() -> None:
    x = rows(4)
    both = Functionals.values(x).joined(Functionals.partials(x, 0))
    cov, pullback = Matern52().functionals_cross(theta_of(), both, both)
    assert all(bool(each.isfinite().all()) for each in pullback(torch.ones_like(cov)))


def test_an_integral_is_that_of_the_polynomial() -> None:
    x = rows(3)
    integral = Functionals.integrals(x, 1, low=0.2, high=0.7, nodes=4)
    value = integral.of(lambda z: z[..., :1] * z[..., 1:2] ** 6)[..., 0]
    torch.testing.assert_close(value, x[:, 0] * (0.7**7 - 0.2**7) / 7.0)


def test_functionals_of_a_function_are_by_autograd() -> None:
    x, z = rows(2), rows(2, seed=1)
    found = every_kind(x, z).of(lambda at: at.square().sum(-1, keepdim=True))[..., 0]
    value = lambda at: at.square().sum(-1)  # noqa: E731
    torch.testing.assert_close(found[:2], value(x))
    torch.testing.assert_close(found[2:4], 2.0 * x[:, 1])
    torch.testing.assert_close(found[4:6], (2.0 * z * (z - 0.3)).sum(-1))
    torch.testing.assert_close(found[6:8], value(x) - value(z))


def test_some_functionals_are_selected_with_their_nodes() -> None:
    whole = every_kind(rows(2), rows(2, seed=1))
    index = torch.tensor([1, 3, 6, 9, 11])
    cov = Matern52().functionals_cross(theta_of(), whole, whole)[0]
    part = whole.selected(index)
    assert part.count == 5
    of_part = Matern52().functionals_cross(theta_of(), part, part)[0]
    torch.testing.assert_close(of_part, cov[index][:, index])


def test_derivatives_at_shared_points_are_those_at_points_of_their_own() -> None:
    x, at = rows(4), torch.tensor([0, 0, 0, 2, 3])
    direction = rows(5, seed=2)
    shared = Functionals.values_and_derivatives(x, at, direction)
    alone = Functionals.values(x).joined(Functionals.directional(x[at], direction))
    for one, other in ((shared, shared), (shared, alone), (alone, shared)):
        for kernel in (Matern52(), SquaredExponential()):
            expected = kernel.functionals_cross(theta_of(), alone, alone)
            cov, pullback = kernel.functionals_cross(theta_of(), one, other)
            torch.testing.assert_close(cov, expected[0])
            weights = torch.randn(9, 9, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
            torch.testing.assert_close(pullback(weights)[0], expected[1](weights)[0])
    part = shared.selected(torch.tensor([1, 4, 6, 8]))
    torch.testing.assert_close(part.x, alone.selected(torch.tensor([1, 4, 6, 8])).x)
    both = shared.joined(shared)
    torch.testing.assert_close(both.x, torch.cat((shared.x, shared.x)))


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("kernel", [Matern52(unordered=(1,)), SquaredExponential(), Matern52()])
def test_whole_gradients_are_the_same_block_by_block(
    kernel: Matern52 | SquaredExponential, lead: tuple[int, ...]
) -> None:
    columns = (0, 2)
    sides = []
    for seed, at in ((0, [0, 1, 3]), (1, [4, 0])):
        x = rows(5, seed=seed, lead=lead)
        x[..., 1] = (2.0 * x[..., 1]).round()
        jets = Functionals.values_and_gradients(x, torch.tensor(at), columns)
        sides.append((jets, replace(jets, jets=None), Functionals.values(x)))
    theta = theta_of(lead=lead)
    for left, right in itertools.product(range(3), repeat=2):
        one, other = sides[0][left], sides[1][right]
        general = [replace(each, jets=None) for each in (one, other)]
        expected, pull = kernel.functionals_cross(theta, *general)
        cov, pullback = kernel.functionals_cross(theta, one, other)
        torch.testing.assert_close(cov, expected)
        weights = torch.randn(cov.shape, generator=torch.Generator().manual_seed(1), dtype=cov.dtype)
        for gradient, wanted in zip(pullback(weights), pull(weights), strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9)


def test_more_replicates_have_the_same_functionals() -> None:
    whole = every_kind(rows(2), rows(2, seed=1))
    many = whole.expanded((4,))
    cov = Matern52().functionals_cross(theta_of(lead=(4,)), many, many)[0]
    for index, theta in enumerate(theta_of(lead=(4,))):
        torch.testing.assert_close(cov[index], Matern52().functionals_cross(theta, whole, whole)[0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = rows(3)
    unwrapped = inspect.unwrap(Functionals.__init__)  # its annotations would be first to refuse
    with pytest.raises(DataError, match="weight must be"):
        unwrapped(object.__new__(Functionals), x, x[:2, 0], None, torch.arange(3), 3)

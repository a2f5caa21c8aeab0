"""Linear functionals under kernels of conditions and descriptors: automatic and finite differences."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_conditional import (
    DIM,
    KERNEL,
    UNORDERED,
    by_formula,
    random_theta,
    rows,
    slopes,
    weights,
)
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import CPU_DOUBLES, Columns, Condition, Dataset, Seeds
from bo_suite.kernels import Conditional, Functionals, Matern52
from bo_suite.kernels.base import DifferentiableKernel
from bo_suite.kernels.described import Described
from bo_suite.surrogates import AutoGP


def directions(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixed(x: Tensor, seed: int) -> Functionals:
    """One node each, of which both the value and a derivative count."""
    along = directions(*x.shape[:-1], seed=seed)
    return replace(Functionals.directional(x, along), weight=along[..., 0] + 1.0)


def test_covariances_are_those_of_automatic_differentiation() -> None:
    """With s and t the steps along the directions g and h: (α + d/ds) (β + d/dt) k(x + s g, z + t h)."""
    theta, x, z = random_theta(), rows(7, seed=1), rows(6, seed=2)
    left, right = mixed(x, 3), mixed(z, 4)
    assert left.direction is not None
    assert right.direction is not None
    s, t = (
        torch.zeros(7, 1, requires_grad=True, **CPU_DOUBLES),
        torch.zeros(6, 1, requires_grad=True, **CPU_DOUBLES),
    )
    moving = [column not in UNORDERED for column in range(DIM)]
    steps = torch.tensor(moving, **CPU_DOUBLES)
    k = by_formula(theta, x + s * left.direction * steps, z + t * right.direction * steps)
    expected = torch.zeros(7, 6, dtype=torch.float64)
    for i, j in itertools.product(range(7), range(6)):
        alpha, beta = left.weight[i], right.weight[j]
        parts = torch.autograd.grad(k[i, j], (s, t), create_graph=True, allow_unused=True)
        by_s, by_t = (
            torch.zeros_like(one) if part is None else part for one, part in zip((s, t), parts, strict=True)
        )
        both = (
            torch.autograd.grad(by_s[i, 0], t, retain_graph=True, allow_unused=True)[0]
            if by_s.requires_grad
            else None
        )
        second = 0.0 if both is None else both[j, 0]
        expected[i, j] = (alpha * beta * k[i, j] + beta * by_s[i, 0] + alpha * by_t[j, 0] + second).detach()
    cov, _ = KERNEL.functionals_cross(theta, left, right)
    assert_close(cov, expected, rtol=1e-8, atol=1e-8)  # the kernel keeps distances 1e-9 apart from 0
    values, _ = KERNEL.functionals_cross(theta, Functionals.values(x), Functionals.values(z))
    assert_close(values, KERNEL.cross(theta, x, z)[0])


@pytest.mark.parametrize("batch", [(), (2,)])
def test_pullbacks_agree_with_finite_differences(batch: tuple[int, ...]) -> None:
    theta, x, z = random_theta(*batch), rows(5, *batch, seed=1), rows(4, *batch, seed=2)
    at = torch.tensor([0, 2, 2])
    left = Functionals.values_and_derivatives(x, at, directions(*batch, 3))
    right = Functionals.differences(z[..., :2, :], z[..., 2:, :]).joined(mixed(z, 5))
    cov, pullback = KERNEL.functionals_cross(theta, left, right)
    w = weights(*cov.shape)
    by_theta, by_x, by_z = pullback(w)

    def total(one: Tensor, two: Tensor, three: Tensor) -> Tensor:
        sides = replace(left, points=two), replace(right, points=three)
        return (w * KERNEL.functionals_cross(one, *sides)[0]).sum()

    points = right.points
    assert_close(by_theta, slopes(lambda one: total(one, x, points), theta), rtol=1e-6, atol=1e-7)
    parents = [0, 1, 3, 7]  # where a step of a parent changes what is active, there is no derivative
    for gradient, expected in (
        (by_x, slopes(lambda one: total(theta, one, points), x)),
        (by_z, slopes(lambda one: total(theta, x, one), points)),
    ):
        free = [column for column in range(DIM) if column not in (*parents, *UNORDERED)]
        assert_close(gradient[..., free], expected[..., free], rtol=1e-6, atol=1e-7)


def test_the_covariance_with_itself_is_positive_definite() -> None:
    theta, x = random_theta(), rows(8, seed=1)
    at, along = torch.arange(8).repeat_interleave(2), directions(16)
    both = Functionals.values_and_derivatives(x, at, along)
    cov, _ = KERNEL.functionals_cross(theta, both, both)
    assert_close(cov, cov.mT)
    assert float(torch.linalg.eigvalsh(cov)[0]) > -1e-10 * float(cov.diagonal().max())


@pytest.mark.parametrize("conditional", [False, True])
def test_descriptors_have_no_derivatives_and_the_others_are_those_of_the_kernel(conditional: bool) -> None:
    numbers = ((0.0, 0.3), (0.5, 1.0), (1.0, 0.2))
    conditions = (Condition(2, ((1, ((0.25, 1.0),)),)),) if conditional else ()
    columns = Columns((0,), (3, None, None), conditions=conditions, descriptors=((0, 3, numbers),))
    kernel = Described.of(Matern52((0,)), columns)
    assert isinstance(kernel, DifferentiableKernel)
    x = torch.tensor([[0.0, 0.3, 0.2], [0.5, 0.6, 0.9], [1.0, 0.9, 0.4]], dtype=torch.float64)
    z = x.flip(0) * 0.9 + 0.05 * torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    z[:, 0] = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    theta = kernel.start(3) - 0.3
    step = 1e-4
    for column in range(3):
        side, plain = Functionals.partials(x, column), Functionals.values(z)
        cov, pullback = kernel.functionals_cross(theta, side, plain)
        move = torch.zeros(3, dtype=torch.float64)
        move[column] = 0.0 if column == 0 else step
        ends = [kernel.cross(theta, x + sign * move, z)[0] for sign in (1.0, -1.0)]
        assert_close(cov, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)
        w = weights(3, 3)
        _, by_x, by_z = pullback(w)
        assert float(by_x[:, 0].abs().max()) == float(by_z[:, 0].abs().max()) == 0.0
        expected = slopes(partial(_total, kernel, theta, z, column, w), x)
        assert_close(by_x[:, 1:], expected[:, 1:], rtol=1e-5, atol=1e-7)


def _total(kernel: Described, theta: Tensor, z: Tensor, column: int, w: Tensor, x: Tensor) -> Tensor:
    return (
        w * kernel.functionals_cross(theta, Functionals.partials(x, column), Functionals.values(z))[0]
    ).sum()


def test_a_model_of_a_conditional_space_learns_from_gradients() -> None:
    """y = sin(3 u) + a v², v active where u > 0.5: with gradients the error is a fraction of that without."""
    conditions = (Condition(1, ((0, ((0.5, 1.0),)),)),)
    columns = Columns((), (None, None), conditions=conditions)
    generator = torch.Generator().manual_seed(0)
    x = columns.canonical(torch.rand(9, 2, generator=generator, dtype=torch.float64))
    test = columns.canonical(torch.rand(200, 2, generator=generator, dtype=torch.float64))

    def function(rows: Tensor) -> Tensor:
        return torch.sin(6.0 * rows[:, 0]) + 2.0 * rows[:, 1].square()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    gradient = torch.where(columns.active(x), gradient, torch.nan)
    errors = []
    for known in (None, gradient):
        process = AutoGP().fit(Dataset(x, function(x), columns=columns, gradient=known), Seeds.of(0, 0))
        errors.append(float((process.mean(test) - function(test)).square().mean().sqrt()))
    assert errors[1] < 0.5 * errors[0]
    assert isinstance(Conditional(Matern52(), conditions), DifferentiableKernel)

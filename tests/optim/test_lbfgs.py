from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import DataError
from bo_suite.optim import minimize_batch
from bo_suite.optim.lbfgs import BatchResult, ValueAndGrad


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    value = (100 * (leaf[..., 1:] - leaf[..., :-1] ** 2) ** 2 + (1 - leaf[..., :-1]) ** 2).sum(-1)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def box(low: float, high: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def test_rosenbrock_in_a_box_whose_corner_is_active_agrees_with_scipy() -> None:
    start = torch.rand(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2.4 - 1.9
    result = minimize_batch(
        rosenbrock, start, bounds=box(-2.0, 0.5), max_evaluations=400, value_tolerance=1e-14
    )

    def value_and_grad(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = rosenbrock(torch.from_numpy(x))
        return float(value), gradient.numpy()

    reference = [
        minimize(value_and_grad, x, jac=True, method="L-BFGS-B", bounds=[(-2.0, 0.5)] * 5, tol=1e-14).fun
        for x in start.numpy()
    ]
    assert_close(result.value.min(), torch.tensor(min(reference), dtype=torch.float64), rtol=1e-8, atol=1e-8)
    assert bool(result.converged.all())
    assert bool(((result.x >= -2) & (result.x <= 0.5)).all())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_a_convex_quadratic_ends_where_the_projected_gradient_vanishes(seed: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(4, dim, dim, generator=generator, dtype=torch.float64)
    hessian = root @ root.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    centre = torch.randn(4, dim, generator=generator, dtype=torch.float64)

    def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
        step = x - centre
        gradient = (hessian @ step[..., None])[..., 0]
        return 0.5 * (step * gradient).sum(-1), gradient

    start = torch.rand(4, dim, generator=generator, dtype=torch.float64)
    result = minimize_batch(
        quadratic,
        start,
        bounds=box(0.0, 1.0),
        max_evaluations=500,
        gradient_tolerance=1e-7,
        value_tolerance=0.0,
    )
    projected = result.x - (result.x - quadratic(result.x)[1]).clamp(0.0, 1.0)
    assert float(projected.abs().max()) < 1e-5


def test_each_element_ends_where_it_ends_alone() -> None:
    start = torch.rand(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    together = minimize_batch(rosenbrock, start, bounds=box(-2.0, 2.0), max_evaluations=60)
    for row, end in zip(start, together.x, strict=True):
        alone = minimize_batch(rosenbrock, row[None], bounds=box(-2.0, 2.0), max_evaluations=60)
        assert_close(alone.x[0], end, rtol=1e-7, atol=1e-9)


def test_equal_bounds_fix_a_coordinate_and_infinite_values_are_refused() -> None:
    def barrier(x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = rosenbrock(x)
        return torch.where(x[..., 0] > 0.5, torch.inf, value), gradient

    lower = torch.tensor([-2.0, 0.3, -2.0], dtype=torch.float64)
    upper = torch.tensor([2.0, 0.3, 2.0], dtype=torch.float64)
    result = minimize_batch(barrier, torch.zeros(2, 3, dtype=torch.float64), bounds=(lower, upper))
    assert bool((result.x[:, 1] == 0.3).all())
    assert bool((result.x[:, 0] <= 0.5).all())
    assert bool(torch.isfinite(result.value).all())


def test_crossed_bounds_are_refused() -> None:
    with pytest.raises(DataError, match="lower <= upper"):
        minimize_batch(rosenbrock, torch.zeros(1, 2, dtype=torch.float64), bounds=box(1.0, 0.0))


@pytest.mark.parametrize("shape", [(9, 4), (3, 4, 4)])
def test_leaving_out_those_that_have_stopped_changes_no_end(shape: tuple[int, ...]) -> None:
    start = torch.rand(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 3.0 - 1.5
    scale = torch.logspace(-3.0, 2.0, start[..., 0].numel(), dtype=torch.float64)
    sizes: list[int] = []

    def scaled(by: Tensor) -> ValueAndGrad:
        def function(x: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append(x[..., 0].numel())
            value, gradient = rosenbrock(x)
            return by * value, by[..., None] * gradient

        return function

    def minimized(narrow: Callable[[Tensor], ValueAndGrad] | None) -> BatchResult:
        sizes.clear()
        return minimize_batch(
            scaled(scale.reshape(shape[:-1])),
            start,
            bounds=box(-2.0, 0.8),
            max_evaluations=90,
            gradient_tolerance=1e-6,
            narrow=narrow,
        )

    whole = minimized(None)
    assert len(set(sizes)) == 1
    part = minimized(lambda places: scaled(scale[places]))
    assert len(set(sizes)) > 2
    assert sizes == sorted(sizes, reverse=True)
    assert part.evaluations == whole.evaluations == len(sizes)
    assert torch.equal(part.converged, whole.converged)
    assert part.x.shape == start.shape
    assert_close(part.x, whole.x, rtol=1e-9, atol=1e-9)
    assert_close(part.value, whole.value, rtol=1e-9, atol=1e-12)


def test_elements_that_run_out_of_evaluations_end_where_they_are_also_when_others_were_left_out() -> None:
    start = torch.tensor([[1.0, 1.0, 1.0], [-1.2, 1.0, -1.2], [-1.9, -1.9, 1.9]], dtype=torch.float64)
    whole = minimize_batch(rosenbrock, start, bounds=box(-2.0, 2.0), max_evaluations=12)
    part = minimize_batch(
        rosenbrock, start, bounds=box(-2.0, 2.0), max_evaluations=12, narrow=lambda places: rosenbrock
    )
    assert whole.converged.tolist() == part.converged.tolist()
    assert not bool(whole.converged.all())
    assert_close(part.x, whole.x, rtol=1e-12, atol=1e-12)

"""Which observations count as tied, and what ties do to the prior of lengthscales."""

import pytest
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Matern52
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.ties import tied


def data_of(x: list[float], y: list[float]) -> Dataset:
    return Dataset(torch.tensor(x, dtype=torch.float64)[:, None], torch.tensor(y, dtype=torch.float64))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.1, 0.5, 0.9], [1.0, 2.0, 3.0], [False, False, False]),
        ([0.1, 0.5, 0.9], [1.0, 1.0, 3.0], [True, True, False]),
        ([0.1, 0.1, 0.9], [1.0, 1.0, 3.0], [False, False, False]),  # the same point again
        ([0.1, 0.1005, 0.9], [1.0, 1.0, 3.0], [False, False, False]),  # a search that has converged
        ([0.1, 0.1, 0.9], [1.0, 1.0, 1.0], [False, False, False]),  # a constant
        ([0.1, 0.5, 0.9], [1.0, 3.0, 3.0], [False, False, False]),  # outcomes above a cap
        ([0.1], [1.0], [False]),
    ],
)
def test_equal_outcomes_of_points_that_are_apart_are_ties(
    x: list[float], y: list[float], expected: list[bool]
) -> None:
    assert tied(data_of(x, y)).tolist() == expected


def test_replicates_are_judged_alone() -> None:
    one, other = data_of([0.1, 0.5, 0.9], [1.0, 1.0, 3.0]), data_of([0.1, 0.5, 0.9], [1.0, 2.0, 3.0])
    both = Dataset(torch.stack((one.x, other.x)), torch.stack((one.y, other.y)))
    assert tied(both).tolist() == [[True, True, False], [False] * 3]


def test_the_prior_of_steps_multiplies_the_density_of_lengthscales_alone() -> None:
    kernel = Matern52(unordered=(1,), fidelities=(2,))
    theta = torch.tensor([[-1.0, -2.0, 0.5, -3.0, 0.2], [0.3, 0.1, 0.5, 1.0, 0.2]], dtype=torch.float64)
    plain, by_plain = kernel.log_prior(theta, 4)
    stepped, by_stepped = kernel.log_prior(theta, 4, torch.tensor([True, False]))
    expected = -0.1 * (torch.exp(torch.tensor(2.0)) + torch.exp(torch.tensor(6.0)))
    torch.testing.assert_close(stepped - plain, torch.tensor([float(expected), 0.0], dtype=torch.float64))
    assert torch.equal(by_stepped[1], by_plain[1])

    leaf = theta.clone().requires_grad_()
    lengthscales = leaf[0, [0, 3]].exp()
    (slope,) = torch.autograd.grad(-(0.1 / lengthscales.square()).sum(), leaf)
    torch.testing.assert_close(by_stepped - by_plain, slope)


def stairs(x: Tensor) -> Tensor:
    """Three steps."""
    return (3.0 * x[..., 0]).floor()


def test_a_surface_in_steps_is_fitted_with_long_lengthscales_and_noise() -> None:
    x = torch.linspace(0.0, 1.0, 16, dtype=torch.float64)[:, None]
    y = stairs(x) + 0.3 * (5.0 * x[..., 0]).floor() % 2.0
    steps = Dataset(x, (y - y.mean()) / y.std())
    broken = Dataset(x, steps.y + 1e-6 * torch.linspace(-1.0, 1.0, 16, dtype=torch.float64))
    with_ties, without = (ExactGP().fit(data, Seeds.of(0, 0)) for data in (steps, broken))
    assert float(with_ties.theta[0].exp()) > float(without.theta[0].exp())

"""Pullbacks against finite differences, and random frequencies against the kernel they stand for."""

import gpytorch
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Seeds
from bo_suite.kernels import GPyTorchKernel, Kernel, Matern52, SquaredExponential, as_kernel
from bo_suite.testing.data import rows

RBF = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=3)).double()
POLYNOMIAL = gpytorch.kernels.PolynomialKernel(power=2).double()
KERNELS = [
    Matern52(),
    Matern52(unordered=(2,)),
    Matern52(fidelities=(1,)),
    SquaredExponential(),
    SquaredExponential(unordered=(2,)),
    GPyTorchKernel(RBF),
    GPyTorchKernel(POLYNOMIAL),
]


def slopes(function, point: Tensor) -> Tensor:
    """Central differences of a number."""
    result = torch.zeros_like(point)
    for place in range(point.numel()):
        step = torch.zeros_like(point).flatten()
        step[place] = 1e-6
        step = step.reshape(point.shape)
        result.view(-1)[place] = (function(point + step) - function(point - step)) / 2e-6
    return result


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_the_joint_pullback_agrees_with_finite_differences(kernel: Kernel) -> None:
    x, z = rows(5, seed=1), rows(4, seed=2)
    theta = kernel.start(3) + 0.1 * weights(len(kernel.start(3)))
    w = weights(5, 4)
    k, pullback = kernel.joint(theta, x, z)
    assert_close(k, kernel.cross(theta, x, z)[0])
    by_theta, by_x, by_z = pullback(w)
    total = lambda *point: (kernel.joint(*point)[0] * w).sum()  # noqa: E731
    assert_close(by_theta, slopes(lambda t: total(t, x, z), theta), rtol=1e-6, atol=1e-7)
    columns = [c for c in range(3) if c not in getattr(kernel, "unordered", ())]
    assert_close(by_x[:, columns], slopes(lambda p: total(theta, p, z), x)[:, columns], rtol=1e-6, atol=1e-7)
    assert_close(by_z[:, columns], slopes(lambda p: total(theta, x, p), z)[:, columns], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_the_diagonal_is_that_of_the_gram_matrix_and_so_is_its_gradient(kernel: Kernel) -> None:
    x, theta, w = rows(6, seed=1), kernel.start(3), weights(6)
    assert_close(kernel.diagonal(theta, x), kernel.gram(theta, x)[0].diagonal(), rtol=1e-9, atol=1e-9)
    by_theta, by_x = kernel.diagonal_gradient(theta, x, w)
    expected = slopes(lambda t: (kernel.diagonal(t, x) * w).sum(), theta)
    assert_close(by_theta, expected, rtol=1e-6, atol=1e-7)
    expected = slopes(lambda p: (kernel.diagonal(theta, p) * w).sum(), x)
    assert_close(by_x, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS[:6], ids=lambda kernel: type(kernel).__name__)
def test_pullbacks_of_a_batch_are_those_of_its_elements(kernel: Kernel) -> None:
    x, z, w = rows(5, 2, seed=1), rows(4, 2, seed=2), weights(2, 5, 4)
    theta = kernel.start(3).expand(2, -1) + 0.1 * weights(2, len(kernel.start(3)))
    together = kernel.joint(theta, x, z)[1](w)
    for place in range(2):
        alone = kernel.joint(theta[place], x[place], z[place])[1](w[place])
        for left, right in zip(together, alone, strict=True):
            assert_close(left[place], right)
    diagonal, _ = kernel.diagonal_gradient(theta, x, w[..., 0])
    assert_close(diagonal[1], kernel.diagonal_gradient(theta[1], x[1], w[1, :, 0])[0])


@pytest.mark.parametrize(
    "kernel", [Matern52(), Matern52(unordered=(2,)), SquaredExponential(unordered=(2,))], ids=str
)
def test_cosines_of_random_frequencies_average_to_the_kernel(kernel: Matern52) -> None:
    x, theta = rows(8, seed=4), torch.tensor([-1.0, -0.3, -1.5, 0.7], dtype=torch.float64)
    frequencies, amplitudes = kernel.frequencies(theta, 200_000, 3, Seeds.of(0, 0))
    differences = x[:, None] - x[None]
    mean = (amplitudes * torch.cos(differences @ frequencies.mT)).mean(-1) * theta[-1].exp()
    assert_close(mean, kernel.gram(theta, x)[0], rtol=0.0, atol=5 * theta[-1].exp().item() / 200_000**0.5)


def test_frequencies_are_drawn_for_each_replicate_and_the_same_under_a_seed() -> None:
    theta = torch.zeros(2, 4, dtype=torch.float64)
    both, _ = Matern52().frequencies(theta, 5, 3, Seeds((1, 2), (2,)))
    assert both.shape == (2, 5, 3)
    assert not torch.equal(both[0], both[1])
    assert torch.equal(both[1], Matern52().frequencies(theta[1], 5, 3, Seeds((2,)))[0])


def test_a_kernel_is_wrapped_or_taken_as_it_is() -> None:
    own = Matern52(outputscale_spread=0.5)
    assert as_kernel(own, (1,)) is own
    assert as_kernel(None, (1,), (0,)) == Matern52(unordered=(1,), fidelities=(0,))
    assert as_kernel(RBF, ()).kernel is RBF


def test_a_fidelity_has_its_own_prior_with_its_mode_where_a_search_starts() -> None:
    kernel = Matern52(fidelities=(1,))
    theta = kernel.start(3) + 0.1 * weights(4)
    value = lambda t: kernel.log_prior(t, 3)[0]  # noqa: E731
    assert_close(kernel.log_prior(theta, 3)[1], slopes(value, theta), rtol=1e-6, atol=1e-7)
    assert_close(kernel.log_prior(kernel.start(3), 3)[1][1], torch.zeros((), dtype=torch.float64))
    ends = torch.tensor([[0.5, 0.0, 0.5], [0.5, 1.0, 0.5]], dtype=torch.float64)
    assert kernel.gram(kernel.start(3), ends)[0][0, 1] > 0.9

"""The kernel of several functions against its formula, finite differences and its random features."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Condition, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import (
    Conditional,
    Coregional,
    Described,
    FeatureKernel,
    Kernel,
    Matern52,
    SquaredExponential,
    kernel_for,
)
from bo_suite.surrogates import SGPR, ExactGP
from bo_suite.surrogates.paths import draw_paths

F64 = torch.float64
KERNELS = [
    Coregional(1, 3),
    Coregional(0, 3, rank=2),
    Coregional(3, 3, rank=2, terms=2, kernel=Matern52(unordered=(2,))),
    Coregional(2, 2, terms=3, kernel=SquaredExponential()),
    Coregional(1, 1),
]


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(kernel: Coregional, *shape: int, seed: int = 1, dim: int = 4) -> Tensor:
    x = torch.rand(*shape, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)
    x[..., kernel.column] = (x[..., kernel.column] * kernel.levels).floor() / max(kernel.levels - 1, 1)
    return x


def theta_of(kernel: Coregional, *batch: int, dim: int = 4) -> Tensor:
    start = kernel.start(dim)
    return start + 0.3 * drawn(*batch, len(start))


def slopes(function, point: Tensor) -> Tensor:
    """Central differences of a number."""
    steps = 1e-6 * torch.eye(point.numel(), dtype=F64).reshape(-1, *point.shape)
    return torch.stack([(function(point + s) - function(point - s)) / 2e-6 for s in steps]).reshape(
        point.shape
    )


def by_formula(kernel: Coregional, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """One term after the other, from its parts in theta."""
    others = [column for column in range(x.shape[-1]) if column != kernel.column]
    i, j = ((rows[:, kernel.column] * max(kernel.levels - 1, 1)).round().long() for rows in (x, z))
    inner, shared, size = kernel.kernel or Matern52(), kernel.levels * kernel.rank, len(others)
    total = torch.zeros(len(x), len(z), dtype=F64)
    for part in theta.split(size + shared + kernel.levels):
        one = torch.cat((part[:size], torch.zeros(1, dtype=F64)))
        weights = part[size : size + shared].reshape(kernel.levels, kernel.rank)
        between = weights @ weights.T + torch.diag(part[size + shared :].exp())
        total += between[i][:, j] * inner.cross(one, x[:, others], z[:, others])[0]
    return total


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_it_is_its_formula_and_positive_semidefinite(kernel: Coregional) -> None:
    x, z, theta = rows(kernel, 12), rows(kernel, 7, seed=2), theta_of(kernel)
    assert isinstance(kernel, Kernel)
    assert isinstance(kernel, FeatureKernel)
    gram = kernel.gram(theta, x)[0]
    assert_close(gram, by_formula(kernel, theta, x, x), rtol=1e-10, atol=1e-10)
    assert_close(kernel.cross(theta, x, z)[0], by_formula(kernel, theta, x, z), rtol=1e-10, atol=1e-10)
    assert_close(kernel.joint(theta, x, z)[0], by_formula(kernel, theta, x, z), rtol=1e-10, atol=1e-10)
    assert_close(kernel.diagonal(theta, x), gram.diagonal(), rtol=1e-9, atol=1e-9)
    assert float(torch.linalg.eigvalsh(gram).min()) > -1e-9


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_pullbacks_agree_with_finite_differences(kernel: Coregional) -> None:
    x, z, theta, w = rows(kernel, 6), rows(kernel, 5, seed=2), theta_of(kernel), drawn(6, 5)
    by_theta, by_x, by_z = kernel.joint(theta, x, z)[1](w)
    total = lambda *point: (kernel.joint(*point)[0] * w).sum()  # noqa: E731
    real = [c for c in range(4) if c != kernel.column and not (kernel.column == 3 and c == 2)]
    assert_close(by_theta, slopes(lambda t: total(t, x, z), theta), rtol=1e-6, atol=1e-7)
    assert_close(by_x[:, real], slopes(lambda p: total(theta, p, z), x)[:, real], rtol=1e-6, atol=1e-7)
    assert_close(by_z[:, real], slopes(lambda p: total(theta, x, p), z)[:, real], rtol=1e-6, atol=1e-7)
    assert bool((by_x[:, kernel.column] == 0.0).all())
    assert_close(kernel.cross(theta, x, z)[1](w), by_x)
    symmetric = drawn(6, 6) + drawn(6, 6).T
    gram = lambda t: (kernel.gram(t, x)[0] * symmetric).sum()  # noqa: E731
    assert_close(kernel.gram(theta, x)[1](symmetric), slopes(gram, theta), rtol=1e-6, atol=1e-7)
    by_theta, by_x = kernel.diagonal_gradient(theta, x, w[:, 0])
    expected = slopes(lambda t: (kernel.diagonal(t, x) * w[:, 0]).sum(), theta)
    assert_close(by_theta, expected, rtol=1e-6, atol=1e-7)
    assert_close(by_x, torch.zeros_like(x))
    prior = lambda t: kernel.log_prior(t, 4)[0]  # noqa: E731
    assert_close(kernel.log_prior(theta, 4)[1], slopes(prior, theta), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS[1:4], ids=str)
def test_a_batch_is_its_elements(kernel: Coregional) -> None:
    x, z, theta, w = rows(kernel, 2, 5), rows(kernel, 2, 4, seed=2), theta_of(kernel, 2), drawn(2, 5, 4)
    k, pullback = kernel.joint(theta, x, z)
    for index in range(2):
        alone, pull = kernel.joint(theta[index], x[index], z[index])
        assert_close(k[index], alone)
        for one, other in zip(pullback(w), pull(w[index]), strict=True):
            assert_close(one[index], other)


@pytest.mark.parametrize("kernel", KERNELS[1:4], ids=str)
def test_random_features_average_to_the_kernel(kernel: Coregional) -> None:
    x, theta, count = rows(kernel, 8), theta_of(kernel), 120_000
    functions, weights = kernel.features(theta, count, 4, Seeds.of(0, 0))
    values = functions(x)
    mean = (values * torch.cat((weights, weights))) @ values.T / count
    k = kernel.gram(theta, x)[0]
    assert_close(mean, k, rtol=0.0, atol=8 * float(k.max()) * kernel.terms / count**0.5)


def test_the_other_columns_have_the_kernel_of_the_data() -> None:
    levels = (None, 3, 2, None)
    kernel = kernel_for(Coregional(1, 3), Columns((1, 2), levels, fidelities=(3,)))
    assert kernel == Coregional(1, 3, kernel=Matern52(unordered=(1,), fidelities=(2,)))
    conditions = (Condition(3, ((2, ((1.0, 1.0),)),)),)
    kernel = kernel_for(Coregional(1, 3), Columns((1, 2), levels, conditions=conditions))
    assert kernel.kernel == Conditional(Matern52(unordered=(1,)), (Condition(2, ((1, ((1.0, 1.0),)),)),))
    numbers = ((0.0,), (1.0,))
    kernel = kernel_for(Coregional(1, 3), Columns((1, 2), levels, descriptors=((2, 2, numbers),)))
    assert isinstance(kernel.kernel, Described)
    assert kernel.kernel.descriptors == ((1, 2, numbers),)
    own = Coregional(1, 3, kernel=SquaredExponential())
    assert kernel_for(own, Columns((1,), levels)) == own


def test_what_does_not_fit_is_refused() -> None:
    for fields in ({"rank": 0}, {"rank": 4}, {"terms": 0}, {"column": -1}):
        with pytest.raises(DataError, match="`1 <= rank <= levels` and `terms >= 1` must hold"):
            Coregional(**{"column": 1, "levels": 3, **fields})
    with pytest.raises(DataError, match="column 1 must have 3 levels, as the kernel has, got 2"):
        kernel_for(Coregional(1, 3), Columns((1,), (None, 2)))
    columns = Columns((1,), (None, 3), conditions=(Condition(0, ((1, ((1.0, 1.0),)),)),))
    with pytest.raises(DataError, match="holds codes of functions and can not have conditions"):
        kernel_for(Coregional(1, 3), columns)


def tasks(count: int, seed: int, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two functions of a line: the second one is a multiple of the first."""
    x = torch.cat((Seeds.of(seed, 0).sobol(count, drawn(1, 1)), torch.arange(count)[:, None] % 2), -1)
    y = torch.sin(9.0 * x[:, 0]) * torch.where(x[:, 1] == 1.0, sign, 1.0)
    return x, y


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_task_teaches_the_other_with_either_sign(sign: float) -> None:
    x, y = tasks(20, 1, sign)
    known = (x[:, 1] == 0.0) | (x[:, 0] < 0.4)  # of the second task, one side alone
    data = Dataset(x[known], y[known], columns=Columns((1,), (None, 2)))
    probe = torch.stack((torch.linspace(0.5, 1.0, 9, dtype=F64), torch.ones(9, dtype=F64)), -1)
    truth = sign * torch.sin(9.0 * probe[:, 0])
    error = {}
    for name, kernel in (("own", None), ("coregional", Coregional(1, 2))):
        process = ExactGP(kernel=kernel).fit(data, Seeds.of(0, 0))
        error[name] = float((process.mean(probe) - truth).square().mean())
    assert error["coregional"] < 0.1
    if sign < 0.0:  # equal codes of categories can not say so
        assert error["coregional"] < 0.3 * error["own"]
    shared = process.kernel.split(process.theta)[0][1][:, 0]
    assert float(shared.prod()) * sign > 0.0


def test_sparse_processes_and_paths_take_it() -> None:
    x, y = tasks(40, 2)
    data = Dataset(x, y, columns=Columns((1,), (None, 2)))
    surrogate = SGPR(kernel=Coregional(1, 2), inducing=16)
    process = surrogate.fit(data, Seeds.of(0, 0))
    assert float((process.mean(x) - y).abs().max()) < 0.1
    paths = draw_paths(ExactGP(kernel=Coregional(1, 2)).fit(data, Seeds.of(0, 0)), 4, Seeds.of(0, 0))
    assert float((paths(x) - y).abs().max()) < 0.1

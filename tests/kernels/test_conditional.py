"""The conditional kernel against its formula, finite differences and its random features."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Condition, Seeds
from bo_suite.kernels import Conditional, GPyTorchKernel, Matern52, kernel_for

BRANCHES = (0.0, 0.5, 1.0)
UNORDERED = (0, 3, 6)
CONDITIONS = (
    *(Condition(column, ((0, ((0.0, 0.0),)),)) for column in (2, 3)),  # two branches that exclude each other
    *(Condition(column, ((0, ((0.5, 0.5),)),)) for column in (4, 5)),
    Condition(6, ((3, ((1.0, 1.0),)),)),  # of a conditional parent
    Condition(7, ((1, ((0.25, 1.0),)),)),  # of a number
    Condition(8, ((0, ((0.5, 0.5), (1.0, 1.0))), (7, ((0.0, 0.6),)))),  # of two parents, one conditional
)
COLUMNS = Columns(UNORDERED, (3, None, None, 2, None, None, 3, None, None), conditions=CONDITIONS)
GROUPS = ((2, 3), (4, 5), (6,), (7,), (8,))
KERNEL = Conditional(Matern52(UNORDERED), CONDITIONS)
DIM, SIZE = 9, 9 + 5 + 1


def rows(count: int, *batch: int, seed: int, inactive: float = 0.0) -> Tensor:
    """Rows of which each has its own active columns."""
    x = torch.rand(*batch, count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for column, levels in ((0, 3), (3, 2), (6, 3)):
        x[..., column] = (x[..., column] * levels).floor() / (levels - 1)
    for _ in range(3):  # from parents to children
        x = torch.where(COLUMNS.active(x), x, inactive)
    return x


def random_theta(*batch: int, seed: int = 3) -> Tensor:
    noise = torch.randn(*batch, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return KERNEL.start(DIM) - 0.5 + 0.4 * noise


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def by_formula(theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """One pair after the other, and one group after the other."""
    active, others, k = COLUMNS.active(x), COLUMNS.active(z), torch.empty(len(x), len(z), dtype=x.dtype)
    for i, j in itertools.product(range(len(x)), range(len(z))):
        value = theta[-1].exp() * matern(theta, x[i], z[j], (0, 1))
        for group, columns in enumerate(GROUPS):
            v, both = theta[DIM + group].sigmoid(), int(active[i, columns[0]]) + int(others[j, columns[0]])
            factors = [1.0, v.sqrt(), v + (1.0 - v) * matern(theta, x[i], z[j], columns)]
            value = value * factors[both]
        k[i, j] = value
    return k


def matern(theta: Tensor, x: Tensor, z: Tensor, columns: tuple[int, ...]) -> Tensor:
    square, penalty = torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
    for column in columns:
        scale = theta[column].exp()
        if column in UNORDERED:
            penalty = penalty + 0.2 * (x[column] != z[column]) / scale
        else:
            square = square + ((x[column] - z[column]) / scale).square()
    r = (5.0 * square).sqrt()
    return (1.0 + r + r.square() / 3.0) * torch.exp(-r - penalty)


def slopes(function, point: Tensor) -> Tensor:
    """Central differences of a number."""
    result = torch.zeros_like(point)
    for index in range(point.numel()):
        step = torch.zeros_like(point).flatten()
        step[index] = 1e-6
        step = step.reshape(point.shape)
        result.view(-1)[index] = (function(point + step) - function(point - step)) / 2e-6
    return result


def test_the_kernel_is_the_product_of_its_factors() -> None:
    x, z, theta = rows(30, seed=1), rows(20, seed=2), random_theta()
    assert int(COLUMNS.active(x)[:, 8].sum()) > 3
    expected = by_formula(theta, x, z)
    assert_close(KERNEL.cross(theta, x, z)[0], expected)
    assert_close(KERNEL.joint(theta, x, z)[0], expected)
    assert_close(KERNEL.gram(theta, x)[0], by_formula(theta, x, x), rtol=1e-6, atol=1e-9)


def test_the_gram_matrix_is_positive_semidefinite_with_the_outputscale_on_its_diagonal() -> None:
    x = rows(300, seed=5)
    for seed in range(10):
        theta = KERNEL.start(DIM) + 2.0 * weights(SIZE) + random_theta(seed=seed)
        k = KERNEL.gram(theta, x)[0]
        assert torch.linalg.eigvalsh(k).min() > -1e-9 * theta[-1].exp()
        assert_close(k.diagonal(), KERNEL.diagonal(theta, x))
    pairs = torch.linalg.eigvalsh(by_formula(theta, x[:30], x[:30]))
    assert pairs.min() > -1e-9 * theta[-1].exp()


def test_a_constant_beside_the_plain_kernel_of_the_children_is_not_positive_semidefinite() -> None:
    """The factor 1, c or k_G: why the share is in it. Here for a child on a grid, and one row without it."""
    grid = torch.linspace(0.0, 1.0, 20, dtype=torch.float64)[:, None]
    k = Matern52().gram(torch.tensor([-1.5, 0.0], dtype=torch.float64), grid)[0]
    c = torch.full((20, 1), 0.9, dtype=torch.float64)
    naive = torch.cat((torch.cat((k, c), 1), torch.cat((c.mT, torch.ones_like(c[:1])), 1)))
    assert torch.linalg.eigvalsh(naive).min() < -0.1
    shared = torch.cat((torch.cat((0.81 + 0.19 * k, c), 1), torch.cat((c.mT, torch.ones_like(c[:1])), 1)))
    assert torch.linalg.eigvalsh(shared).min() > -1e-12


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_pullbacks_agree_with_finite_differences(batch: tuple[int, ...]) -> None:
    x, z, theta = rows(6, *batch, seed=1), rows(5, *batch, seed=2), random_theta(*batch)
    w, symmetric = weights(*batch, 6, 5), weights(*batch, 6, 6)
    symmetric = symmetric + symmetric.mT
    total = lambda *point: (KERNEL.joint(*point)[0] * w).sum()  # noqa: E731
    by_theta, by_x, by_z = KERNEL.joint(theta, x, z)[1](w)
    assert_close(by_theta, slopes(lambda t: total(t, x, z), theta), rtol=1e-6, atol=1e-7)
    assert_close(KERNEL.cross(theta, x, z)[1](w), by_x)
    expected = slopes(lambda t: (KERNEL.gram(t, x)[0] * symmetric).sum(), theta)
    assert_close(KERNEL.gram(theta, x)[1](symmetric), expected, rtol=1e-5, atol=1e-6)
    moves = [1, 2, 4, 5, 7, 8]
    for gradient, point, at in (
        (by_x, x, lambda p: total(theta, p, z)),
        (by_z, z, lambda p: total(theta, x, p)),
    ):
        assert_close(gradient[..., moves], slopes(at, point)[..., moves], rtol=1e-6, atol=1e-7)
        assert not bool(gradient[~COLUMNS.active(point)].any())
        assert not bool(gradient[..., UNORDERED].any())
    assert bool((by_x[..., moves] != 0.0).any())
    by_theta, by_x = KERNEL.diagonal_gradient(theta, x, w[..., 0])
    expected = slopes(lambda t: (KERNEL.diagonal(t, x) * w[..., 0]).sum(), theta)
    assert_close(by_theta, expected, rtol=1e-6, atol=1e-7)
    assert not bool(by_x.any())


def test_pullbacks_of_a_batch_are_those_of_its_elements() -> None:
    x, z, theta, w = rows(6, 2, seed=1), rows(5, 2, seed=2), random_theta(2), weights(2, 6, 5)
    k, pullback = KERNEL.joint(theta, x, z)
    for index in range(2):
        alone, pull = KERNEL.joint(theta[index], x[index], z[index])
        assert_close(k[index], alone)
        for left, right in zip(pullback(w), pull(w[index]), strict=True):
            assert_close(left[index], right)


def test_what_is_in_an_inactive_column_has_no_influence() -> None:
    x, theta = rows(30, seed=6), random_theta()
    other = torch.where(COLUMNS.active(x), x, 0.77)
    assert not torch.equal(x, other)
    assert torch.equal(KERNEL.gram(theta, other)[0], KERNEL.gram(theta, x)[0])


@pytest.mark.parametrize("having", [0, 2])
def test_rows_of_which_few_or_none_have_a_group_have_the_same_kernel(having: int) -> None:
    """Layers leave such rows out."""
    x, theta = rows(40, seed=1), random_theta()
    x = torch.cat((x[x[:, 7] == 0.0][:6], x[x[:, 7] > 0.0][:having]))
    w = weights(len(x), len(x))
    k, pullback = KERNEL.joint(theta, x, x)
    assert_close(k, by_formula(theta, x, x))
    by_theta, _, by_z = pullback(w)
    expected = slopes(lambda t: (KERNEL.joint(t, x, x)[0] * w).sum(), theta)
    assert_close(by_theta, expected, rtol=1e-6, atol=1e-7)
    expected = slopes(lambda z: (KERNEL.joint(theta, x, z)[0] * w).sum(), x)
    assert_close(by_z[:, [1, 7]], expected[:, [1, 7]], rtol=1e-6, atol=1e-7)
    assert_close(KERNEL.gram(theta, x)[1](w + w.mT), pullback(w + w.mT)[0])


def test_the_log_prior_is_that_of_matern_and_normal_in_the_log_odds_of_shares() -> None:
    theta = random_theta(2)
    expected = slopes(lambda t: KERNEL.log_prior(t, DIM)[0].sum(), theta)
    assert_close(KERNEL.log_prior(theta, DIM)[1], expected, rtol=1e-6, atol=1e-7)
    start = KERNEL.start(DIM)
    assert not bool(KERNEL.log_prior(start, DIM)[1][DIM:-1].any())
    most = 6  # two that are always active, two of a branch, the one of column 1, and one of its children
    assert_close(start[0].exp(), torch.tensor(most, dtype=torch.float64).sqrt() / 2)
    expected = Matern52().log_prior(start[: most + 1], most)[1][:1].expand(DIM)
    assert_close(KERNEL.log_prior(start, DIM)[1][:DIM], expected)
    stepped = torch.tensor([True, False])
    _, gradient = KERNEL.log_prior(theta, DIM, stepped)
    assert_close(
        gradient, slopes(lambda t: KERNEL.log_prior(t, DIM, stepped)[0].sum(), theta), rtol=1e-6, atol=1e-6
    )
    lower, upper = KERNEL.bounds(DIM)
    assert bool(((lower < start) & (start < upper)).all())
    assert start.shape == lower.shape == (SIZE,)


def test_products_of_random_features_average_to_the_kernel() -> None:
    x, theta, count = rows(12, seed=4), random_theta(), 100_000
    features, share = KERNEL.features(theta, count, DIM, Seeds.of(0, 0))
    values = features(x) * share.repeat(2).sqrt()
    mean = values @ values.mT / count
    assert_close(mean, KERNEL.gram(theta, x)[0], rtol=0.0, atol=6 * theta[-1].exp().item() / count**0.5)


def test_features_are_drawn_for_each_replicate_and_the_same_under_a_seed() -> None:
    theta, x = random_theta(2), rows(4, 2, seed=1)
    both, _ = KERNEL.features(theta, 5, DIM, Seeds((1, 2), (2,)))
    alone, _ = KERNEL.features(theta[1], 5, DIM, Seeds((2,)))
    assert both(x).shape == (2, 4, 10)
    assert_close(both(x)[1], alone(x[1]))


def test_single_precision_stays_single() -> None:
    x, theta = rows(8, seed=1).float(), random_theta().float()
    k, pullback = KERNEL.gram(theta, x)
    assert k.dtype == pullback(torch.ones_like(k)).dtype == torch.float32
    assert KERNEL.features(theta, 5, DIM, Seeds.of(0, 0))[0](x).dtype == torch.float32
    assert_close(k.double(), KERNEL.gram(random_theta(), rows(8, seed=1))[0], rtol=1e-4, atol=1e-3)


def test_a_matern_kernel_becomes_conditional_if_columns_are() -> None:
    assert kernel_for(None, COLUMNS) == KERNEL
    own = Matern52(UNORDERED, outputscale_spread=0.5)
    assert kernel_for(own, COLUMNS) == Conditional(own, CONDITIONS)
    assert kernel_for(own, Columns(UNORDERED)) is own
    gpytorch = pytest.importorskip("gpytorch")
    assert isinstance(kernel_for(gpytorch.kernels.RBFKernel(), COLUMNS), GPyTorchKernel)

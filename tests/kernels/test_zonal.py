"""Zonal kernels against published formulas, autograd, quadrature and random functions."""

import math

import gpytorch
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import (
    ArcCosine,
    ChordalMatern52,
    ChordalSquaredExponential,
    FeatureKernel,
    Kernel,
    Profile,
    Zonal,
)
from bo_suite.kernels.sphere import harmonics_count, zonal_sum
from bo_suite.surrogates import SGPR, ExactGP
from bo_suite.surrogates.paths import draw_paths
from bo_suite.testing.data import dataset

PROFILES = [ArcCosine(), ArcCosine(2), ChordalMatern52(), ChordalSquaredExponential()]
KERNELS = [*map(Zonal, PROFILES), Zonal(ArcCosine(2), ((1, 3),)), Zonal(ChordalMatern52(), ((1, 3),))]
WIDE = Zonal(ChordalMatern52())


def rows(count: int, *batch: int, seed: int, dim: int = 3) -> Tensor:
    return torch.rand(*batch, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_theta(kernel: Kernel, *batch: int) -> Tensor:
    start = kernel.start(3)
    return start + 0.3 * torch.randn(*batch, len(start), generator=torch.Generator().manual_seed(5)).double()


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def coded(x: Tensor, kernel: Zonal) -> Tensor:
    for column, levels in kernel.categories:
        x[..., column] = (x[..., column] * levels).floor() / (levels - 1)
    return x


def columns_of(kernel: Zonal) -> list[int]:
    return [column for column in range(3) if column not in dict(kernel.categories)]


def reference(kernel: Zonal, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """The kernel as its definition has it, with all differences, for autograd."""
    scales = theta[:3].exp()

    def embedded(row: Tensor) -> Tensor:
        blocks = [(row[:, columns_of(kernel)] - 0.5) / scales[columns_of(kernel)]]
        for column, levels in kernel.categories:
            level = (row[:, column].detach() * (levels - 1)).round().long()
            one_hot = torch.nn.functional.one_hot(level, levels).double()
            blocks.append(one_hot / (math.sqrt(12.0) * scales[column]))
        return torch.cat((*blocks, torch.ones(len(row), 1).double()), -1)

    left, right = embedded(x)[:, None], embedded(z)[None]
    products = left.norm(dim=-1) * right.norm(dim=-1)
    t = (left * right).sum(-1) / products
    angle = torch.arccos(t)
    if isinstance(kernel.profile, ArcCosine):
        kappa = (angle.sin() + (math.pi - angle) * t) / math.pi
        if kernel.profile.order == 2:
            kappa = 3.0 * angle.sin() * t + (math.pi - angle) * (1.0 + 2.0 * t**2)
            kappa = kappa / (3.0 * math.pi)
        return theta[-1].exp() * products**kernel.profile.order * kappa
    r = (2.0 - 2.0 * t).sqrt() / theta[3].exp()
    if isinstance(kernel.profile, ChordalMatern52):
        kappa = (1.0 + 5**0.5 * r + 5.0 * r**2 / 3.0) * torch.exp(-(5**0.5) * r)
    else:
        kappa = torch.exp(-0.5 * r**2)
    return theta[-1].exp() * kappa


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_matrices_and_pullbacks_are_those_of_the_definition(kernel: Zonal) -> None:
    assert isinstance(kernel, Kernel)
    assert isinstance(kernel, FeatureKernel)
    theta = random_theta(kernel).requires_grad_()
    x = coded(rows(6, seed=1), kernel).requires_grad_()
    z = coded(rows(4, seed=2), kernel).requires_grad_()
    w = weights(6, 4)
    expected = reference(kernel, theta, x, z)
    by_theta, by_x, by_z = torch.autograd.grad((expected * w).sum(), (theta, x, z))
    with torch.no_grad():
        k, pullback = kernel.joint(theta, x, z)
        cross, cross_pullback = kernel.cross(theta, x, z)
    for actual in (k, cross):
        assert_close(actual, expected.detach(), rtol=1e-12, atol=1e-13)
    for actual, gradient in zip(pullback(w), (by_theta, by_x, by_z), strict=True):
        assert_close(actual, gradient, rtol=1e-10, atol=1e-11)
    assert_close(cross_pullback(w), by_x, rtol=1e-10, atol=1e-11)
    with torch.no_grad():
        gram, gram_pullback = kernel.gram(theta, x)
        symmetric = weights(6, 6) + weights(6, 6).mT
        by_theta, by_x, by_z = kernel.joint(theta, x, x)[1](symmetric)
    assert_close(gram, kernel.joint(theta.detach(), x.detach(), x.detach())[0])
    assert_close(gram_pullback(symmetric), by_theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_diagonal_is_that_of_the_gram_matrix_and_so_is_its_gradient(kernel: Zonal) -> None:
    x, theta, w = coded(rows(6, seed=1), kernel), random_theta(kernel), weights(6)
    assert torch.equal(kernel.diagonal(theta, x), kernel.gram(theta, x)[0].diagonal())
    by_theta, by_x, by_z = kernel.joint(theta, x, x)[1](torch.diag(w))
    diagonal_by_theta, diagonal_by_x = kernel.diagonal_gradient(theta, x, w)
    assert_close(diagonal_by_theta, by_theta, rtol=1e-9, atol=1e-9)
    assert_close(diagonal_by_x, by_x + by_z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_gram_matrix_is_positive_semidefinite_with_repeated_rows(kernel: Zonal) -> None:
    x = coded(rows(60, seed=1), kernel)
    x = torch.cat((x, x[:20], torch.full((3, 3), 0.5, dtype=torch.float64)))
    for theta in (random_theta(kernel), kernel.start(3) + 3.0, kernel.start(3) - 3.0):
        k, pullback = kernel.gram(theta, x)
        values = torch.linalg.eigvalsh(k)
        assert values[0] > -1e-13 * values[-1] * len(x)
        assert pullback(torch.ones_like(k)).isfinite().all()
        assert kernel.cross(theta, x, x)[1](torch.ones_like(k)).isfinite().all()


def test_opposite_directions_have_the_values_of_the_limit() -> None:
    square = torch.tensor([[0.0, 4.0]], dtype=torch.float64)
    for profile, end, slope in ((ArcCosine(), 0.0, 0.0), (ArcCosine(2), 0.0, 0.0)):
        kappa, by_cosine = profile.kappa(square)
        assert_close(kappa, torch.tensor([[1.0, end]], dtype=torch.float64), rtol=0.0, atol=1e-15)
        expected = torch.tensor([[profile.order**2 / (2 * profile.order - 1), slope]], dtype=torch.float64)
        assert_close(by_cosine, expected, rtol=1e-15, atol=1e-15)


def test_chordal_kernels_are_those_of_gpytorch_between_directions() -> None:
    x, z = rows(7, seed=1), rows(5, seed=2)
    for profile, kind in (
        (ChordalMatern52(), gpytorch.kernels.MaternKernel(nu=2.5)),
        (ChordalSquaredExponential(), gpytorch.kernels.RBFKernel()),
    ):
        kernel = Zonal(profile)
        theta = random_theta(kernel)
        kind.double().lengthscale = theta[3].exp()
        left, right = kernel.project(theta, x)[0], kernel.project(theta, z)[0]
        expected = theta[-1].exp() * kind(left, right).to_dense().detach()
        assert_close(kernel.cross(theta, x, z)[0], expected, rtol=1e-9, atol=1e-12)


def test_long_lengthscales_and_a_short_chord_are_a_stationary_kernel() -> None:
    """The flat limit: near the pole chords are distances over l."""
    x, z = rows(7, seed=1), rows(5, seed=2)
    theta = torch.tensor([1e3, 1e3, 1e3, 4e-4, 1.0], dtype=torch.float64).log()
    flat = gpytorch.kernels.MaternKernel(nu=2.5).double()
    flat.lengthscale = 0.4
    assert_close(WIDE.cross(theta, x, z)[0], flat(x, z).to_dense().detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_batch_gives_what_its_elements_give(kernel: Zonal) -> None:
    x, z = coded(rows(5, 2, seed=1), kernel), coded(rows(4, 2, seed=2), kernel)
    theta, w = random_theta(kernel, 2), weights(2, 5, 4)
    k, pullback = kernel.joint(theta, x, z)
    directions, amplitude, project_back = kernel.project(theta, x)
    of_rows = project_back(directions.cos(), amplitude)
    dim = kernel.sphere_dim(3)
    series, by_series = kernel.coefficients(theta, dim, 4)
    for index in range(2):
        alone, pull_alone = kernel.joint(theta[index], x[index], z[index])
        assert_close(k[index], alone)
        for left, right in zip(pullback(w), pull_alone(w[index]), strict=True):
            assert_close(left[index], right)
        _, _, back = kernel.project(theta[index], x[index])
        for left, right in zip(of_rows, back(directions[index].cos(), amplitude[index]), strict=True):
            assert_close(left[index], right)
        assert_close(series[index], kernel.coefficients(theta[index], dim, 4)[0])
        assert_close(by_series(series)[index], kernel.coefficients(theta[index], dim, 4)[1](series[index]))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_single_precision_stays_single(kernel: Zonal) -> None:
    x, theta = coded(rows(8, seed=1), kernel), random_theta(kernel)
    k, pullback = kernel.gram(theta.float(), x.float())
    assert k.dtype == pullback(torch.ones_like(k)).dtype == torch.float32
    assert_close(k.double(), kernel.gram(theta, x)[0], rtol=1e-4, atol=1e-4)
    series, by_series = kernel.coefficients(theta.float(), 4, 5)
    assert series.dtype == by_series(series).dtype == torch.float32
    functions, share = kernel.features(theta.float(), 5, 3, Seeds.of(0, 0))
    assert functions(x.float()).dtype == share.dtype == functions.coefficients(3).dtype == torch.float32


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_projection_gives_the_kernel_and_its_pullback_is_that_of_autograd(kernel: Zonal) -> None:
    theta, x = random_theta(kernel).requires_grad_(), coded(rows(6, seed=1), kernel).requires_grad_()
    directions, amplitude, pullback = kernel.project(theta, x)
    assert directions.shape == (6, kernel.sphere_dim(3))
    assert_close(directions.detach().norm(dim=-1), torch.ones(6).double())
    assert (directions[:, -1] > 0.0).all()
    by_directions, by_amplitude = weights(*directions.shape), weights(6)
    total = (directions * by_directions).sum() + (amplitude * by_amplitude).sum()
    expected = torch.autograd.grad(total, (theta, x))
    with torch.no_grad():
        for actual, gradient in zip(pullback(by_directions, by_amplitude), expected, strict=True):
            assert_close(actual, gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("profile", PROFILES, ids=str)
@pytest.mark.parametrize("dim", [2, 4, 12])
def test_the_series_is_the_kernel_and_its_pullback_is_its_slope(profile: Profile, dim: int) -> None:
    kernel, degree = Zonal(profile), 24
    theta = torch.tensor([0.0] * (dim - 1) + [-0.4] * profile.has_lengthscale + [0.3], dtype=torch.float64)
    series, pullback = kernel.coefficients(theta, dim, degree)
    assert (series > 0.0).all()
    gone = [each for each in range(degree + 1) if profile.vanishes(each)]
    assert (series[gone] == 1e-30).all()
    counts = torch.tensor(
        [float(harmonics_count(dim, each)) for each in range(degree + 1)], dtype=torch.float64
    )
    x = rows(6, dim=dim - 1, seed=1)
    directions, amplitude, _ = kernel.project(theta, x)
    values, _ = zonal_sum((directions @ directions.mT).clamp(-1.0, 1.0), series, dim)
    missing = 1.0 - (series * counts).sum().item()
    assert -1e-12 < missing < 0.05
    k = kernel.gram(theta, x)[0]
    scale = amplitude[:, None] * amplitude
    assert ((k / scale - values).abs() <= missing + 1e-11).all()
    w = weights(degree + 1) * counts.sqrt()
    step = torch.zeros_like(theta)
    step[-2] = 1e-5
    ahead, behind = (kernel.coefficients(theta + each, dim, degree)[0] for each in (step, -step))
    expected = torch.zeros_like(theta)
    expected[-2] = ((ahead - behind) * w).sum() / 2e-5
    assert_close(pullback(w), expected, rtol=1e-6, atol=1e-7)


def test_arc_cosine_coefficients_are_right_where_they_are_far_below_rounding() -> None:
    """On S^2 those of max(t, 0) are ±(l - 2)! / (2^(l+1) (l/2 - 1)! (l/2 + 1)!) for even l (Bach 2017)."""
    series, _ = Zonal().coefficients(Zonal().start(2), 3, 40)
    units = math.factorial(38) / (2**40 * math.factorial(19) * math.factorial(21))
    assert_close(series[40].item(), 0.25 * units**2 * 6.0, rtol=1e-8, atol=0.0)
    large, _ = Zonal().coefficients(Zonal().start(30), 31, 8)
    assert (large[[4, 6, 8]] > 1e-14).all()


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_products_of_random_functions_average_to_the_kernel(kernel: Zonal) -> None:
    x, theta, count = coded(rows(8, seed=4), kernel), random_theta(kernel), 100_000
    functions, share = kernel.features(theta, count, 3, Seeds.of(0, 0))
    values = functions(x) * share.repeat(2).sqrt()
    products = values[:, None] * values
    mean = products.reshape(8, 8, 2, count).sum(2)
    error = mean.std(-1) / count**0.5
    assert ((mean.mean(-1) - kernel.gram(theta, x)[0]).abs() <= 5.0 * error + 1e-12).all()


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_random_function_is_the_series_of_its_coefficients(kernel: Zonal) -> None:
    theta, dim = random_theta(kernel), kernel.sphere_dim(3)
    theta[3:-1] = 0.5
    functions, _ = kernel.features(theta, 4, 3, Seeds.of(0, 0))
    x, degree = coded(rows(9, seed=1), kernel), 60
    directions, amplitude, _ = kernel.project(theta, x)
    coefficients = functions.coefficients(degree)
    assert functions.directions.shape == (8, dim)
    assert coefficients.shape == (8, degree + 1)
    t = (functions.directions @ directions.mT).clamp(-1.0, 1.0)[:, None]
    values, _ = zonal_sum(t, coefficients, dim)
    tolerance = 1e-9 if kernel.profile.has_lengthscale else 0.05
    assert_close(values[:, 0].mT * amplitude[:, None], functions(x), rtol=0.0, atol=tolerance)


def test_functions_are_drawn_for_each_replicate_and_the_same_under_a_seed() -> None:
    for kernel in KERNELS[:3]:
        theta, x = random_theta(kernel, 2), rows(4, 2, seed=1)
        both, _ = kernel.features(theta, 5, 3, Seeds((1, 2), (2,)))
        alone, _ = kernel.features(theta[1], 5, 3, Seeds((2,)))
        assert_close(both(x)[1], alone(x[1]))
        assert_close(both.coefficients(4)[1], alone.coefficients(4))


def test_the_log_prior_has_its_gradient_and_its_mode_at_the_start() -> None:
    for kernel in (Zonal(), WIDE, Zonal(ChordalMatern52(), ((1, 3),))):
        theta = random_theta(kernel).requires_grad_()
        for stepped in (None, torch.tensor(True)):
            value, gradient = kernel.log_prior(theta, 3, stepped)
            assert_close(gradient.detach(), torch.autograd.grad(value, theta)[0])
        start = kernel.start(3)
        assert_close(kernel.log_prior(start, 3)[1][:3], torch.zeros(3).double(), rtol=0.0, atol=1e-12)
        lower, upper = kernel.bounds(3)
        assert ((lower < start) & (start < upper)).all()


def test_categories_are_alike_or_not_whatever_their_codes() -> None:
    kernel = Zonal().over(Columns(unordered=(1,), levels=(None, 3, None)))
    assert kernel == Zonal(ArcCosine(), ((1, 3),))
    x = torch.tensor([[0.3, code, 0.8] for code in (0.0, 0.5, 1.0, 1.5, 2.0)], dtype=torch.float64)
    k = kernel.gram(kernel.start(3), x)[0]
    assert_close(k[0, 1], k[0, 2])
    assert_close(k[0, 1], k[1, 2])
    assert k[0, 1] < k[0, 0]
    assert_close(k[3, 4], k[3, 3])


@pytest.mark.parametrize("kernel", [Zonal(ArcCosine(2)), WIDE], ids=str)
def test_paths_have_the_moments_of_the_process(kernel: Zonal) -> None:
    """The prior variance of an arc-cosine kernel differs from row to row."""
    process = ExactGP(kernel=kernel).fit(dataset(12), Seeds.of(0, 0))
    paths = draw_paths(process, 4000, Seeds.of(1, 0), features=4096)
    x = rows(6, dim=process.basis.rows.shape[-1], seed=8)
    mean, var = process.mean_and_var(x)
    values = paths(x)
    assert ((values.mean(0) - mean).abs() < 6.0 * (var / 4000).sqrt() + 0.02 * var.max().sqrt()).all()
    assert_close(
        values.var(0), var, rtol=0.15, atol=1e-3 * float(kernel.diagonal(process.basis.theta, x).max())
    )


def test_a_sparse_process_is_fitted_with_a_zonal_kernel() -> None:
    data = dataset(30)
    process = SGPR(kernel=Zonal(), inducing=20).fit(data, Seeds.of(0, 0))
    assert (process.mean(data.x) - data.y).abs().max() < 0.2 * data.y.std()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="must be 1 or 2, got 3"):
        ArcCosine(3)
    with pytest.raises(DataError, match="the profile must be one of `kernels`"):
        Zonal(ArcCosine)  # type: ignore[arg-type]
    for categories in (((1, 3), (1, 2)), ((-1, 2),), ((0, 0),)):
        with pytest.raises(DataError, match="categories must be pairs"):
            Zonal(categories=categories)
    with pytest.raises(DataError, match="needs its lengthscale"):
        ChordalMatern52().kappa(torch.zeros(1, 1).double(), None)

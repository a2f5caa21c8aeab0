"""The kernel over descriptors against the kernel over rows that hold these, and finite differences."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.classifiers.features import features_of
from bo_suite.data import Columns, Condition, Dataset, Seeds
from bo_suite.kernels import Conditional, Described, Functionals, Matern52, kernel_for
from bo_suite.surrogates import ExactGP

FIRST = ((0.0, 0.3), (1.0, 0.2), (0.4, 1.0))
SECOND = ((0.0,), (0.7,), (1.0,), (0.2,))  # the last is of a retired option
CONDITION = Condition(4, ((0, ((0.5, 1.0),)),))
PLAIN = Columns((1, 2, 3), (None, 3, 2, 3, None), descriptors=((1, 3, FIRST), (3, 3, SECOND)))
COLUMNS = {"always": PLAIN, "conditional": replace(PLAIN, conditions=(CONDITION,))}
DIM = 5


def rows(count: int, seed: int = 0) -> Tensor:
    x = torch.rand(count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for column, levels in ((1, 3), (2, 2), (3, 4)):
        x[:, column] = (x[:, column] * levels).floor() / (1 if levels == 2 else 2)
    return torch.where(COLUMNS["conditional"].active(x), x, 0.0)


def seen(x: Tensor) -> Tensor:
    """The rows with descriptors in place of codes, one after the other."""
    made = [
        [*x[row, [0, 2, 4]].tolist(), *FIRST[int(x[row, 1] * 2)], *SECOND[int(x[row, 3] * 2)]]
        for row in range(len(x))
    ]
    return torch.tensor(made, dtype=torch.float64)


def inner(columns: Columns) -> Matern52 | Conditional:
    matern = Matern52((1,))
    return Conditional(matern, (replace(CONDITION, column=2),)) if columns.conditions else matern


@pytest.fixture(params=COLUMNS)
def columns(request: pytest.FixtureRequest) -> Columns:
    return COLUMNS[request.param]


def test_it_is_the_kernel_over_the_descriptors(columns: Columns) -> None:
    kernel, expected, x, z = kernel_for(None, columns), inner(columns), rows(7), rows(4, seed=1)
    assert isinstance(kernel, Described)
    theta = kernel.start(DIM) - 0.3
    assert_close(theta + 0.3, expected.start(6))
    for mine, theirs in zip(kernel.bounds(DIM), expected.bounds(6), strict=True):
        assert_close(mine, theirs)
    assert_close(kernel.log_prior(theta, DIM), expected.log_prior(theta, 6))
    assert_close(kernel.gram(theta, x)[0], expected.gram(theta, seen(x))[0])
    assert_close(kernel.joint(theta, x, z)[0], expected.joint(theta, seen(x), seen(z))[0])
    assert_close(kernel.diagonal(theta, x), expected.diagonal(theta, seen(x)))
    weights = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert_close(
        kernel.gram(theta, x)[1](weights + weights.mT), expected.gram(theta, seen(x))[1](weights + weights.mT)
    )


def test_gradients_by_rows_are_those_of_finite_differences(columns: Columns) -> None:
    kernel, x, z = kernel_for(None, columns), rows(5), rows(4, seed=1)
    theta = kernel.start(DIM) - 0.5
    weights = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pulled = kernel.cross(theta, x, z)[1](weights)
    assert_close(pulled, kernel.joint(theta, x, z)[1](weights)[1])
    assert bool((pulled[:, [1, 3]] == 0.0).all())
    for row, column in ((0, 0), (3, 0), (2, 4)):
        step = torch.zeros_like(x)
        step[row, column] = 1e-6
        up, down = (kernel.cross(theta, x + sign * step, z)[0] for sign in (1.0, -1.0))
        slope = (weights * (up - down)).sum() / 2e-6
        assert_close(pulled[row, column], slope, atol=1e-7, rtol=1e-6)


def test_derivatives_by_columns_without_descriptors_are_those_of_the_inner_kernel() -> None:
    kernel = Described.of(Matern52((1, 2, 3)), PLAIN)
    x, z = rows(4), rows(3, seed=1)
    theta = 0.3 * torch.randn(
        len(kernel.start(DIM)), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    at = torch.arange(4)
    jets = Functionals.values_and_gradients(x, at, (0, 4))
    apart = jets.joined(Functionals.partials(z, 4)).joined(Functionals.differences(z, z.flip(0)))
    other = Functionals.values_and_gradients(seen(x), at, (0, 2))
    expected = kernel.kernel.functionals_cross(theta, other, other)[0]
    assert_close(kernel.functionals_cross(theta, jets, jets)[0], expected)
    cov, pullback = kernel.functionals_cross(theta, apart, jets)
    assert_close(cov[: jets.count], expected)
    by_theta, by_x, _ = pullback(torch.ones_like(cov))
    assert by_theta.shape == theta.shape
    assert float(by_x[:, [1, 2, 3]].abs().max()) == 0.0


def test_random_features_average_to_the_kernel(columns: Columns) -> None:
    kernel, x = kernel_for(None, columns), rows(6)
    theta = kernel.start(DIM)
    functions, weights = kernel.features(theta, 2**15, DIM, Seeds.of(0, 0))
    values = functions(x).reshape(6, 2, -1)
    product = torch.einsum("ick,jck,k->ij", values, values, weights) / 2**15
    assert_close(product, kernel.gram(theta, x)[0], atol=0.03, rtol=0.0)


def test_a_model_predicts_an_option_that_was_never_tried() -> None:
    """20 options on a line: of every second one the value is known, and the others lie between."""
    place = torch.linspace(0.0, 1.0, 20, dtype=torch.float64)[
        torch.randperm(20, generator=torch.Generator().manual_seed(1))
    ]
    x, y = place.argsort().argsort()[:, None] * 0.0, torch.sin(4.0 * place)
    x[:, 0] = torch.linspace(0.0, 1.0, 20, dtype=torch.float64)
    described = Columns((0,), (20,), descriptors=((0, 20, tuple((one,) for one in place.tolist())),))
    known = (place * 19).round().long() % 2 == 0
    errors = []
    for columns in (described, replace(described, descriptors=())):
        process = ExactGP().fit(Dataset(x[known], y[known], columns=columns), Seeds.of(0, 0))
        errors.append(float((process.mean(x[~known]) - y[~known]).abs().max()))
    assert errors[0] < 0.1 < errors[1]


def test_a_classifier_sees_descriptors_in_place_of_indicators() -> None:
    x = rows(5)
    features = features_of(x, PLAIN, -1.0)
    assert features.shape == (5, 1 + 2 + 2 + 1 + 1)
    assert_close(features[:, 1:3], 2.0 * seen(x)[:, 3:5] - 1.0)
    assert_close(features[:, 5:6], 2.0 * seen(x)[:, 5:6] - 1.0)
    assert bool((features[:, 3:5].sum(-1) == 1.0).all())

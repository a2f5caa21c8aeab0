"""Structured factors solve as their matrices do."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import NumericalError
from bo_suite.linalg.factors import Bordered, Diagonal, Factor, Lower


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")


def factors(*batch: int) -> list[Factor]:
    """One of each kind, of five variables."""
    square = normal(*batch, 5, 5)
    lower = Lower(torch.linalg.cholesky(square @ square.mT + torch.eye(5, dtype=torch.float64)))
    diagonal = Diagonal(normal(*batch, 5, seed=1).abs() + 0.1)
    corner = torch.linalg.cholesky(lower.dense[..., :2, :2] @ lower.dense[..., :2, :2].mT)
    bordered = Bordered(Diagonal(diagonal.root[..., :3]), normal(*batch, 3, 2, seed=2), corner)
    return [lower, diagonal, bordered]


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_a_factor_solves_as_its_matrix(batch: tuple[int, ...]) -> None:
    right = normal(*batch, 5, 4, seed=3)
    for factor in factors(*batch):
        matrix = factor.dense
        assert factor.count == 5
        assert matrix.shape == (*batch, 5, 5)
        assert torch.equal(matrix, torch.tril(matrix))
        assert_close(matrix @ factor.solve(right), right)
        assert_close(matrix.mT @ factor.solve(right, transposed=True), right)
        assert_close(factor.variances, (matrix @ matrix.mT).diagonal(dim1=-2, dim2=-1))


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_appended_variables_extend_the_covariance(batch: tuple[int, ...]) -> None:
    for factor in factors(*batch):
        matrix = factor.dense @ factor.dense.mT
        cross = 0.1 * normal(*batch, 5, 2, seed=4)
        corner = 9.0 * torch.eye(2, dtype=torch.float64).expand(*batch, 2, 2)
        wider = factor.appended(cross, corner)
        twice = factor.appended(cross[..., :1], corner[..., :1, :1])
        below = torch.cat((cross[..., 1:], corner[..., :1, 1:]), -2)
        twice = twice.appended(below, corner[..., 1:, 1:])
        whole = torch.cat((torch.cat((matrix, cross), -1), torch.cat((cross.mT, corner), -1)), -2)
        for each in (wider, twice):
            assert_close(each.dense @ each.dense.mT, whole)


def test_what_is_not_positive_definite_is_not_appended() -> None:
    for factor in factors():
        with pytest.raises(NumericalError, match="must be positive definite"):
            factor.appended(normal(5, 1), torch.full((1, 1), -1.0, dtype=torch.float64))


def test_jitter_is_relative_to_variables_that_the_others_explain() -> None:
    root = normal(4).abs() + 0.5
    rows = normal(4, 3, seed=1)
    cross, corner = root[:, None] * rows, rows.mT @ rows
    once = Diagonal(root).appended(cross, corner)
    twice = once.appended(torch.cat((cross, corner)), corner)

    covariance = twice.dense @ twice.dense.mT
    expected = torch.cat((torch.diag(root.square()), cross, cross), -1)
    assert_close(covariance[:4], expected, rtol=0.0, atol=1e-12)
    assert_close(covariance[4:, 4:], corner.repeat(2, 2), rtol=0.0, atol=1e-3 * float(corner.max()))

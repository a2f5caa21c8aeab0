"""The same numbers on a CUDA device as on the CPU."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import KnowledgeGradient, NoisyExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.linalg import (
    cholesky_append,
    cholesky_delete,
    cholesky_downdate,
    cholesky_slide,
    cholesky_update,
    scan,
)
from bo_suite.surrogates import ExactGP
from bo_suite.testing.data import dataset, rows

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def to_cuda(data: Dataset) -> Dataset:
    return Dataset(data.x.cuda(), data.y.cuda(), None, data.pending.cuda(), data.columns)


def test_a_fit_and_a_score_agree_with_the_cpu() -> None:
    data, test, seeds = dataset(20, 4), rows(6, 4, seed=3), Seeds((1, 2, 3, 4), (4,))
    here = ExactGP().fit(data, seeds)
    there = ExactGP().process(to_cuda(data), here.hyperparameters.cuda())
    assert there.mean(test.cuda()).is_cuda
    assert_close(there.mean(test.cuda()).cpu(), here.mean(test), rtol=1e-7, atol=1e-7)
    assert_close(there.cov(test.cuda(), test.cuda()).cpu(), here.cov(test, test), rtol=1e-7, atol=1e-7)
    score = NoisyExpectedImprovement().build(to_cuda(data), seeds)
    assert bool(torch.isfinite(score(test.cuda())).all())


def test_the_knowledge_gradient_agrees_with_the_cpu_on_the_same_alternatives() -> None:
    data, test, seeds = dataset(20), rows(6, seed=3), Seeds.of(0, 1)
    score = KnowledgeGradient().build(to_cuda(data), seeds)
    process = ExactGP().process(data, score.hyperparameters.cpu())
    points = score.lookahead.points.cpu()
    here = replace(
        score, lookahead=process.lookahead(points), means=process.mean(points), noise=process.noise
    )
    assert_close(score(test.cuda()).cpu(), here(test), rtol=1e-5, atol=1e-5)


def test_an_optimiser_runs_on_the_device() -> None:
    space = Space({"x": Float(-1, 2), "n": Int(1, 5), "k": Choice(["a", "b"])})
    optimizer = Optimizer(space, device="cuda")
    for _ in range(12):
        trial = optimizer.ask()
        optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2 + abs(trial.params["n"] - 2))
    assert optimizer.best.value < 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("batch", "n"), [((), 7), ((), 1100), ((3, 2), 40), ((4,), 600)])
def test_changed_factors_agree_with_refactoring(batch: tuple[int, ...], n: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(n)
    root = torch.randn(*batch, n, n, generator=generator, dtype=torch.float64)
    matrix = (root @ root.mT / n + torch.eye(n, dtype=torch.float64)).cuda()
    chol = torch.linalg.cholesky(matrix).to(dtype)
    matrix = chol.double() @ chol.double().mT
    vectors = torch.randn(*batch, n, 2, generator=generator, dtype=torch.float64).cuda().to(dtype)
    removed = 0.5 * chol @ (vectors / torch.linalg.matrix_norm(vectors, 2)[..., None, None])
    plus, minus = vectors.double(), removed.double()
    last = n - 1
    for result, target in (
        (cholesky_update(chol, vectors), matrix + plus @ plus.mT),
        (cholesky_downdate(chol, removed), matrix - minus @ minus.mT),
        (cholesky_update(chol, vectors, removed), matrix + plus @ plus.mT - minus @ minus.mT),
        (scan.rotate(chol.reshape(-1, n, n), vectors.reshape(-1, n, 2), 2)[0], matrix + plus @ plus.mT),
        (cholesky_delete(chol, 0), matrix[..., 1:, 1:]),
        (cholesky_delete(chol, torch.tensor([0, n - 2], device="cuda")), None),
        (
            cholesky_append(
                chol[..., :last, :last],
                matrix[..., :last, last:].to(dtype),
                matrix[..., last:, last:].to(dtype),
            ),
            matrix,
        ),
        (
            cholesky_slide(chol, matrix[..., 1:, :1].to(dtype), 2.0 * matrix[..., :1, :1].to(dtype)),
            None,
        ),
    ):
        assert result.is_cuda
        assert result.dtype == dtype
        assert bool(torch.isfinite(result).all())
        if target is not None:
            restored = (result.double() @ result.double().mT).reshape(target.shape)
            error = torch.linalg.matrix_norm(restored - target) / torch.linalg.matrix_norm(target)
            assert float(error.max()) < (1e-14 if dtype == torch.float64 else 5e-6)


def test_downdates_that_are_not_possible_are_refused_on_the_device() -> None:
    chol = torch.eye(600, dtype=torch.float64, device="cuda").expand(2, -1, -1)
    vectors = torch.zeros(2, 600, 1, dtype=torch.float64, device="cuda")
    vectors[1, 3, 0] = 1.5
    with pytest.raises(NumericalError, match=r"batch element 1 of \(2,\).* = -1.25 "):
        cholesky_downdate(chol, vectors)

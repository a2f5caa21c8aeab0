import pytest
import torch
from torch.testing import assert_close

from bo_suite.errors import NumericalError
from bo_suite.linalg import cholesky_append, jittered_cholesky


def spd(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("n", "q"), [(1, 1), (5, 3), (0, 4), (4, 0)])
def test_append_equals_factoring_the_whole(batch: tuple[int, ...], n: int, q: int) -> None:
    whole = spd(*batch, n + q)
    chol = torch.linalg.cholesky(whole[..., :n, :n])
    appended = cholesky_append(chol, whole[..., :n, n:], whole[..., n:, n:])
    assert_close(appended, torch.linalg.cholesky(whole), rtol=1e-11, atol=1e-11)


def test_jitter_is_none_where_it_is_not_needed_and_reported_where_it_is() -> None:
    singular = torch.ones(3, 3, dtype=torch.float64)
    chol, jitter = jittered_cholesky(torch.stack((spd(3), singular)))
    assert jitter[0] == 0
    assert 0 < jitter[1] <= 1e-4
    restored = chol @ chol.mT
    assert_close(restored[1], singular + jitter[1] * torch.eye(3, dtype=torch.float64))
    assert_close(restored[0], spd(3))


def test_an_indefinite_matrix_is_refused_with_its_batch_element() -> None:
    indefinite = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    with pytest.raises(NumericalError, match="batch element 1"):
        jittered_cholesky(torch.stack((torch.eye(2, dtype=torch.float64), indefinite)))

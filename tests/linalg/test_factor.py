import pytest
import torch
from torch.testing import assert_close

from bo_suite.errors import NumericalError
from bo_suite.linalg import jittered_cholesky


def spd(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)


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


def test_what_is_not_finite_is_called_so() -> None:
    broken = spd(3)
    broken[2, 1] = torch.nan
    with pytest.raises(NumericalError, match="finite, but it has entries"):
        jittered_cholesky(broken)

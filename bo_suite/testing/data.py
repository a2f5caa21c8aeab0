"""Small data sets for the checks of surrogates and acquisitions."""

import torch
from torch import Tensor

from bo_suite.data import Columns, Dataset

DIM = 3


def rows(count: int, *batch: int, seed: int) -> Tensor:
    """Random rows; the last column is one of three codes."""
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.rand(*batch, count, DIM, generator=generator, dtype=torch.float64, device="cpu")
    x[..., -1] = torch.floor(3.0 * x[..., -1]) / 2.0
    return x


def dataset(count: int, *batch: int, pending: int = 0, seed: int = 0) -> Dataset:
    """Smooth outcomes of mean 0 and variance 1 at random rows; the last column is a category."""
    x = rows(count, *batch, seed=seed)
    y = torch.sin(4.0 * x[..., 0]) + x[..., 1].square() + 0.5 * (x[..., 2] == 0.5)
    y = (y - y.mean(-1, keepdim=True)) / (y.std(-1, keepdim=True) if count > 1 else 1.0)
    columns = Columns((DIM - 1,), (None, None, 3))
    return Dataset(x, y, None, rows(pending, *batch, seed=seed + 1), columns)

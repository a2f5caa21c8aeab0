"""Parts of a Dataset keep what belongs to each observation."""

from collections.abc import Callable

import pytest
import torch

from bo_suite.data import CPU_DOUBLES, Dataset
from bo_suite.surrogates.subsample import (
    best_and_evenly_spaced,
    best_observations,
    evenly_spaced,
    observations_at,
)

N = 9

PARTS: dict[str, Callable[[Dataset], Dataset]] = {
    "evenly spaced": lambda data: evenly_spaced(data, 4),
    "best": lambda data: best_observations(data, 4),
    "best and evenly spaced": lambda data: best_and_evenly_spaced(data, 4),
    "of indices": lambda data: observations_at(data, torch.tensor([7, 2, 5, 0])),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_observation_keeps_its_numbers(part: str) -> None:
    number = torch.arange(N, **CPU_DOUBLES)
    y, outside = (number * 5.0) % N, number % 3 == 0
    rows = number[:, None]
    data = Dataset(
        rows / N,
        y,
        number + 1.0,
        violation=number + 2.0,
        outside=outside,
        gradient=rows + 3.0,
        x_std=rows + 4.0,
    )
    chosen = PARTS[part](data)
    index = (chosen.x[:, 0] * N).round().long()
    assert len(set(index.tolist())) == 4
    assert torch.equal(chosen.y, y[index])
    assert chosen.noise is not None
    assert torch.equal(chosen.noise, index + 1.0)
    assert chosen.violation is not None
    assert torch.equal(chosen.violation, index + 2.0)
    assert chosen.outside is not None
    assert torch.equal(chosen.outside, outside[index])
    assert chosen.gradient is not None
    assert torch.equal(chosen.gradient[:, 0], index + 3.0)
    assert chosen.x_std is not None
    assert torch.equal(chosen.x_std[:, 0], index + 4.0)
    alone = PARTS[part](Dataset(data.x, y))
    assert (alone.noise, alone.violation, alone.outside) == (None, None, None)
    assert (alone.gradient, alone.x_std) == (None, None)

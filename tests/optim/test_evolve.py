import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import Dataset, Seeds
from bo_suite.optim.evolve import evolve
from bo_suite.optim.maximize import maximize
from bo_suite.space.candidates import mutate, project

F64 = torch.float64
MIXED = Space(
    {"x": Float(0, 1), "n": Int(1, 30), "k": Choice(["a", "b", "c"]), "y": Float(1e-4, 1, log=True)}
)


def empty(space: Space, *batch: int) -> Dataset:
    x = torch.zeros(*batch, 0, space.dim, dtype=F64)
    return Dataset(x, x[..., 0], None, x)


def first(space: Space, count: int, *batch: int, seed: int = 0) -> Tensor:
    uniform = torch.rand(*batch, count, space.dim, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return space.encoding.sample_from_unit(uniform)


def test_children_differ_in_a_column_or_two_and_are_in_the_space() -> None:
    rows = first(MIXED, 500)
    moved = mutate(MIXED, rows, Seeds.of(0, 0))
    assert_close(MIXED.encoding.round_to_levels(moved), moved)
    assert float(moved.min()) >= 0.0
    assert float(moved.max()) <= 1.0
    changed = (moved != rows).sum(-1).double()
    assert 1.0 <= float(changed.mean()) <= 2.0
    assert bool(((moved != rows).double().mean(0) > 0.1).all())
    steps = (moved - rows)[:, 0].abs()
    steps = steps[steps > 0].log10()
    assert float(steps.min()) < -2.5
    assert float(steps.max()) > -0.7


def test_steps_without_gradient_reach_the_maximum_of_a_staircase() -> None:
    space = Space({name: Float(0, 1) for name in "abcdef"})
    target = torch.tensor([0.12, 0.83, 0.4, 0.55, 0.97, 0.31], dtype=F64)

    def stairs(x: Tensor) -> Tensor:
        return -torch.floor(20.0 * (x - target).abs()).sum(-1)

    row = maximize(stairs, space, _told(space), Seeds.of(0, 0), differentiable=False)
    sobol = first(space, 2048)
    assert float(stairs(row[None])) >= -2.0 > float(stairs(sobol).max())


def test_points_that_are_told_or_pending_are_no_parents_in_a_finite_space() -> None:
    space = Space({"n": Int(1, 40), "m": Int(1, 40)})
    good = space.encode([{"n": n, "m": 1} for n in range(1, 31)])
    data = Dataset(good[:20], torch.zeros(20, dtype=F64), None, good[20:])
    found = evolve(lambda x: -x.sum(-1), space, data.taken, first(space, 100), Seeds.of(0, 0))
    assert len({tuple(row) for row in found.tolist()}) == found.shape[0]
    assert not {tuple(row) for row in found.tolist()} & {tuple(row) for row in good.tolist()}
    assert float(found[0].sum()) == pytest.approx(1.0 / 39.0)


def flat(x: Tensor) -> Tensor:
    return torch.zeros_like(x[..., 0])


def test_of_equal_points_the_one_farthest_from_the_data_is_taken() -> None:
    space = Space({"a": Float(0, 1), "b": Float(0, 1)})
    told = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.5]], dtype=F64)
    data = Dataset(told[:3], told[:3, 0], None, told[3:])
    for seed in range(4):
        row = maximize(flat, space, data, Seeds.of(0, seed), differentiable=False)
        assert_close(row, torch.tensor([1.0, 1.0], dtype=F64), rtol=0.0, atol=0.02)


def test_of_equal_points_of_a_finite_space_any_is_taken() -> None:
    space = Space({"a": Int(1, 50), "b": Int(1, 50)})
    ends = torch.stack(
        [maximize(flat, space, _told(space), Seeds.of(0, k), differentiable=False) for k in range(40)]
    )
    assert float((ends.mean(0) - 0.5).abs().max()) < 3.0 * math.sqrt(1.0 / 12.0 / 40.0)
    assert float(ends.std(0).min()) > 0.15


def test_replicates_evolve_as_alone() -> None:
    rows = project(MIXED, first(MIXED, 50, 2))
    target = rows[:, :1] * 0.5
    both = evolve(
        lambda x: -(x - target).square().sum(-1), MIXED, empty(MIXED, 2).taken, rows, Seeds((5, 6), (2,))
    )
    alone = evolve(
        lambda x: -(x - target[1]).square().sum(-1), MIXED, empty(MIXED).taken, rows[1], Seeds((6,))
    )
    assert_close(both[1], alone, rtol=0.0, atol=0.0)


def _told(space: Space) -> Dataset:
    x = first(space, 4, seed=9)
    return Dataset(x, x[:, 0])

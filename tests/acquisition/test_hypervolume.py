import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition.hypervolume import (
    hypervolume,
    inferred_reference,
    non_dominated,
    non_dominated_boxes,
)

F64 = torch.float64


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def by_inclusion_and_exclusion(points: Tensor, reference: Tensor) -> float:
    total = 0.0
    for size in range(1, points.shape[1] + 1):
        for chosen in itertools.combinations(range(points.shape[1]), size):
            sides = (reference - points[:, list(chosen)].amax(1)).clamp(min=0.0)
            total += (-1) ** (size + 1) * float(sides.prod())
    return total


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("steps", [None, 3], ids=["continuous", "ties"])
def test_hypervolume_agrees_with_inclusion_and_exclusion(objectives: int, steps: int | None) -> None:
    points = 1.3 * uniform(4, objectives, 9, seed=objectives)  # some are not below the reference point
    points = points if steps is None else (steps * points).round() / steps
    reference = torch.ones(4, objectives, dtype=F64)
    expected = [by_inclusion_and_exclusion(run, reference[0]) for run in points]
    assert_close(hypervolume(points, reference).tolist(), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_boxes_are_disjoint_and_hold_exactly_what_is_not_dominated(objectives: int) -> None:
    points = uniform(3, objectives, 12)
    reference = torch.full((3, objectives), 0.9, dtype=F64)
    boxes = non_dominated_boxes(points, reference)
    probe = 1.2 * uniform(3, objectives, 4000, seed=1) - 0.1
    above = boxes.lower_ends[..., None, :] < probe[..., None]
    within = (above & (probe[..., None] < boxes.upper_ends[..., None, :])).all(-3).sum(-1)
    dominated = (points[..., None, :] <= probe[..., None]).all(-3).any(-1)
    below = (probe < reference[..., None]).all(-2)
    assert torch.equal(within, (below & ~dominated).long())


def test_three_objectives_have_a_box_for_each_of_two_n_plus_one_local_upper_bounds() -> None:
    points = torch.randn(3, 30, dtype=F64, generator=torch.Generator().manual_seed(2)).abs()
    boxes = non_dominated_boxes(1.0 - points / points.norm(dim=0), torch.full((3,), 1.1, dtype=F64))
    assert boxes.upper.shape[-1] == 61


def test_two_objectives_have_one_box_more_than_points_on_the_front() -> None:
    points = torch.tensor([[0.1, 0.5, 0.5, 0.7, 0.2], [0.8, 0.4, 0.6, 0.1, 1.5]], dtype=F64)
    boxes = non_dominated_boxes(points, torch.ones(2, dtype=F64))
    assert boxes.upper_ends.T.tolist() == [[0.1, 1.0], [0.5, 0.8], [0.7, 0.4], [1.0, 0.1]]
    assert boxes.lower_ends[0].tolist() == [-torch.inf, 0.1, 0.5, 0.7]


@pytest.mark.parametrize("objectives", [2, 3])
def test_runs_with_smaller_fronts_are_filled_up_with_empty_boxes(objectives: int) -> None:
    one = torch.full((objectives, 6), 0.5, dtype=F64)
    many = uniform(objectives, 6, seed=3)
    none = torch.full((objectives, 6), torch.inf, dtype=F64)
    reference = torch.ones(objectives, dtype=F64)
    boxes = non_dominated_boxes(torch.stack((one, many, none)), reference.expand(3, -1))
    volume = boxes.volume_above(torch.zeros(3, objectives, dtype=F64))
    expected = [
        non_dominated_boxes(run, reference).volume_above(0.0 * reference) for run in (one, many, none)
    ]
    assert_close(volume, torch.stack(expected), rtol=1e-14, atol=0.0)
    assert float(volume[2]) == 1.0


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_reference_point_that_is_dominated_leaves_what_is_below_it(objectives: int) -> None:
    boxes = non_dominated_boxes(uniform(objectives, 5) + 1.0, torch.ones(objectives, dtype=F64))
    assert float(boxes.volume_above(torch.zeros(objectives, dtype=F64))) == 1.0


def test_equal_points_are_both_on_the_front_and_infinite_ones_are_not() -> None:
    points = torch.tensor([[1.0, 1.0, 2.0, 0.0, torch.inf], [1.0, 1.0, 1.0, 2.0, 0.0]], dtype=F64)
    assert non_dominated(points).tolist() == [True, True, False, True, False]


def test_the_reference_point_is_a_share_of_the_range_beyond_the_worst_of_the_front() -> None:
    y = torch.tensor([[0.0, 1.0, 5.0], [4.0, 2.0, 9.0]], dtype=F64)
    front = torch.tensor([True, True, False])
    assert_close(inferred_reference(y, front, 0.1), torch.tensor([1.1, 4.2], dtype=F64))


def test_a_front_without_a_range_takes_that_of_all_observations() -> None:
    y = torch.tensor([[0.0, 2.0, 5.0], [1.0, 1.0, 1.0], [3.0, torch.nan, 3.5]], dtype=F64)
    reference = inferred_reference(y, torch.tensor([True, False, False]), 0.1)
    assert_close(reference, torch.tensor([5.5, 1.1, 3.55], dtype=F64))


def test_a_reference_point_without_a_front_is_beyond_all_observations() -> None:
    y = torch.tensor([[0.0, 2.0], [torch.nan, torch.nan]], dtype=F64)
    reference = inferred_reference(y, torch.tensor([False, False]), 0.1)
    assert_close(reference, torch.tensor([2.2, 0.1], dtype=F64))

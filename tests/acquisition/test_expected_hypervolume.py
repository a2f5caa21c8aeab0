import math

import mpmath
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition.expected_hypervolume import log_expected_hypervolume_improvement
from bo_suite.acquisition.hypervolume import Boxes, non_dominated_boxes
from bo_suite.acquisition.improvement import log_expected_improvement

F64 = torch.float64


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def boxes_of(objectives: int, points: int = 8, fantasies: tuple[int, ...] = ()) -> Boxes:
    front = uniform(*fantasies, objectives, points, seed=objectives)
    return non_dominated_boxes(front, torch.full((*fantasies, objectives), 1.1, dtype=F64))


def simulated(objectives: int, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log improvement, the simulated improvement and its standard error, at three rows."""
    front, reference = uniform(objectives, 5, seed=objectives), torch.full((objectives,), 1.1, dtype=F64)
    mean, std = uniform(objectives, 3, seed=7), 0.3 + 0.4 * uniform(objectives, 3, seed=8)
    value = log_expected_hypervolume_improvement(mean, std.square(), non_dominated_boxes(front, reference))
    normal = torch.randn(draws, objectives, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    sample = (mean + std * normal).movedim(1, 0)  # objectives, draws, rows
    improvement = torch.zeros(draws, 3, dtype=F64)
    # inclusion and exclusion: the volume that a draw dominates, less what it shares with the front
    for chosen in range(2**5):
        rows = [row for row in range(5) if chosen >> row & 1]
        volume = torch.ones_like(improvement)
        for values, of_front, end in zip(sample, front[:, rows], reference, strict=True):
            corner = values if not rows else torch.maximum(values, of_front.max())
            volume *= (end - corner).clamp(min=0.0)
        improvement += (-1) ** len(rows) * volume
    return value, improvement.mean(0), improvement.std(0) / math.sqrt(draws)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_improvement_agrees_with_simulation(objectives: int) -> None:
    value, mean, error = simulated(objectives, 20_000)
    assert bool(((value.exp() - mean).abs() < 4.0 * error).all())


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_improvement_agrees_with_a_million_draws(objectives: int) -> None:
    value, mean, error = simulated(objectives, 1_000_000)
    assert bool(((value.exp() - mean).abs() < 4.0 * error).all())
    assert_close(value.exp(), mean, rtol=0.02, atol=0.0)


def test_one_objective_is_the_expected_improvement_on_the_best_point() -> None:
    front = uniform(1, 6)
    mean, var = uniform(1, 10, seed=1), uniform(1, 10, seed=2)
    boxes = non_dominated_boxes(front, torch.tensor([2.0], dtype=F64))
    expected = log_expected_improvement(mean[0], var[0], front.amin(-1))
    assert_close(log_expected_hypervolume_improvement(mean, var, boxes), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("fantasies", [(), (3,)])
def test_gradients_agree_with_finite_differences(objectives: int, fantasies: tuple[int, ...]) -> None:
    boxes = boxes_of(objectives, fantasies=fantasies)
    mean = uniform(*fantasies, objectives, 4, seed=1).requires_grad_()
    var = (0.01 + uniform(objectives, 4, seed=2)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda of_mean, of_var: log_expected_hypervolume_improvement(of_mean, of_var, boxes), (mean, var)
    )


def test_gradients_agree_with_finite_differences_between_close_levels() -> None:
    front = torch.tensor([[0.3, 0.3 + 1e-7, 0.6], [0.5, 0.5 - 1e-7, 0.2]], dtype=F64)
    boxes = non_dominated_boxes(front, torch.ones(2, dtype=F64))
    only_close = Boxes(boxes.levels, boxes.lower[:, 1:2], boxes.upper[:, 1:2])
    mean = torch.tensor([[0.2, 0.5], [0.4, 0.9]], dtype=F64, requires_grad=True)
    var = torch.tensor([[0.04, 0.1], [0.2, 0.3]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda of_mean, of_var: log_expected_hypervolume_improvement(of_mean, of_var, only_close), (mean, var)
    )


def test_fantasies_are_averaged() -> None:
    boxes = boxes_of(3, fantasies=(4,))
    mean, var = uniform(4, 3, 6, seed=1), uniform(3, 6, seed=2)
    each = [
        log_expected_hypervolume_improvement(
            mean[s], var, Boxes(boxes.levels[s], boxes.lower[s], boxes.upper[s])
        )
        for s in range(4)
    ]
    expected = torch.stack(each).exp().mean(0).log()
    value = log_expected_hypervolume_improvement(mean, var, boxes)
    assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_rows_are_computed_in_parts_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, mean, var = boxes_of(3), uniform(3, 40, seed=1), uniform(3, 40, seed=2)
    whole = log_expected_hypervolume_improvement(mean, var, boxes)
    monkeypatch.setattr("bo_suite.acquisition.expected_hypervolume._AT_ONCE", 200)
    in_parts = log_expected_hypervolume_improvement(mean, var, boxes)
    assert_close(in_parts, whole, rtol=1e-12, atol=1e-12)


def exact_log(mean: list[float], std: list[float], front: Tensor, reference: Tensor) -> float:
    """With 60 digits and no log space: two objectives, whose front is sorted by the first one."""

    def psi(level: float, objective: int) -> mpmath.mpf:
        spread = mpmath.mpf(std[objective])
        z = (mpmath.mpf(level) - mpmath.mpf(mean[objective])) / spread
        return spread * (mpmath.npdf(z) + z * mpmath.ncdf(z))

    with mpmath.workdps(60):
        first = [*front[0].tolist(), float(reference[0])]
        second = [float(reference[1]), *front[1].tolist()]
        below, total = mpmath.mpf(0), mpmath.mpf(0)
        for level, height in zip(first, second, strict=True):
            total += (psi(level, 0) - below) * psi(height, 1)
            below = psi(level, 0)
        return float(mpmath.log(total))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.3, 0.3], [0.2, 0.3]),
        ([1.5, 1.2], [0.1, 0.1]),
        ([2.0, 2.0], [0.01, 0.02]),
        ([9.0, 7.0], [0.01, 0.01]),
        ([-3.0, -4.0], [0.01, 0.5]),
        ([0.5, 30.0], [1e-3, 1e-2]),
    ],
)
def test_the_far_tail_agrees_with_sixty_digits(mean: list[float], std: list[float]) -> None:
    front = torch.tensor([[0.2, 0.45, 0.4500001, 0.8], [0.9, 0.5, 0.4999, 0.1]], dtype=F64)
    reference = torch.tensor([1.0, 1.1], dtype=F64)
    value = log_expected_hypervolume_improvement(
        torch.tensor(mean, dtype=F64)[:, None],
        torch.tensor(std, dtype=F64).square()[:, None],
        non_dominated_boxes(front, reference),
    )
    assert_close(float(value), exact_log(mean, std, front, reference), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("std", [1e-1, 1e-4, 1e-9])
def test_worse_rows_have_lower_finite_values_and_gradients_far_into_the_tail(
    objectives: int, std: float
) -> None:
    mean = torch.linspace(0.0, 50.0, 200, dtype=F64).expand(objectives, -1).clone().requires_grad_()
    var = torch.full((objectives, 200), std**2, dtype=F64, requires_grad=True)
    value = log_expected_hypervolume_improvement(mean, var, boxes_of(objectives))
    assert bool(value.isfinite().all())
    assert bool((value[1:] < value[:-1]).all())
    by_mean, by_var = torch.autograd.grad(value.sum(), (mean, var))
    assert bool(by_mean.isfinite().all())
    assert bool(by_var.isfinite().all())
    assert bool((by_mean.sum(0) < 0.0).all())

"""Quasi-Newton steps from the best observation."""

import pytest
import torch
from torch import Tensor

from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.acquisition.descent import DescentScore, descent
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.surrogates import WarmStart

F64 = torch.float64


def dataset(x: Tensor, y: Tensor, gradient: Tensor, **more: object) -> Dataset:
    return Dataset(x, y, gradient=gradient, **more)


def bowl(x: Tensor, middle: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """A convex quadratic and its gradient."""
    apart = x - middle
    return 0.5 * ((apart @ hessian) * apart).sum(-1), apart @ hessian


def test_a_parabola_of_one_column_takes_one_step() -> None:
    x = torch.tensor([[0.2], [0.9]], dtype=F64)
    y, gradient = bowl(x, torch.tensor([0.37], dtype=F64), torch.tensor([[3.0]], dtype=F64))
    # the best observation is the last one, so that a step is due
    score = descent(dataset(x.flip(0), y.flip(0), gradient.flip(0)), None)
    assert score is not None
    torch.testing.assert_close(score.target, torch.tensor([0.37], dtype=F64))
    assert float(score(score.target[None])) == 0.0
    assert float(score(x[:1])) < 0.0


def test_steps_converge_to_the_minimum_of_a_bowl() -> None:
    generator = torch.Generator().manual_seed(0)
    d = 6
    root = torch.randn(d, d, generator=generator, dtype=F64)
    hessian, middle = root @ root.mT + 0.1 * torch.eye(d, dtype=F64), torch.full((d,), 0.4, dtype=F64)
    x = torch.rand(4, d, generator=generator, dtype=F64)
    for _ in range(40):
        y, gradient = bowl(x, middle, hessian)
        found = y.argmin()  # the best one is asked of, whatever came after it
        data = dataset(torch.cat((x[y > y[found]], x[found][None])), *_ordered(y, gradient, found))
        score = descent(data, None)
        elsewhere = torch.rand(d, generator=generator, dtype=F64)  # it is the turn of another rule
        x = torch.cat((x, (elsewhere if score is None else score.target)[None]))
    assert float(bowl(x, middle, hessian)[0].min()) < 1e-9


def _ordered(y: Tensor, gradient: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    rest = y > y[best]
    return torch.cat((y[rest], y[best][None])), torch.cat((gradient[rest], gradient[best][None]))


def rows() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.tensor([[0.9, 0.9, 0.2], [0.6, 0.8, 0.5], [0.3, 0.5, 0.5]], dtype=F64)
    return x, *bowl(x, torch.tensor([0.1, 0.4, 0.6], dtype=F64), torch.eye(3, dtype=F64))


def test_columns_without_a_derivative_stay() -> None:
    x, y, gradient = rows()
    gradient[:, 1] = torch.nan
    columns = Columns(unordered=(1,), levels=(None, 5, None))
    score = descent(dataset(x, y, gradient, columns=columns), None)
    assert score is not None
    assert float(score.target[1]) == 0.5
    torch.testing.assert_close(score.target[[0, 2]], torch.tensor([0.1, 0.6], dtype=F64))


def test_a_column_at_its_end_stays_if_the_function_falls_beyond_it() -> None:
    x, _, _ = rows()
    x[-1, 0] = 0.0
    y, gradient = bowl(x, torch.tensor([-0.5, 0.4, 0.6], dtype=F64), torch.eye(3, dtype=F64))
    score = descent(dataset(x, y, gradient), None)
    assert score is not None
    torch.testing.assert_close(score.target, torch.tensor([0.0, 0.4, 0.6], dtype=F64))


def test_a_later_observation_that_is_worse_bounds_the_next_step() -> None:
    x, y, gradient = rows()
    ahead = x[-1] - 0.1 * gradient[-1]
    unknown = torch.full((1, 3), torch.nan, dtype=F64)
    worse = torch.tensor([5.0], dtype=F64)
    data = dataset(torch.cat((x, ahead[None])), torch.cat((y, worse)), torch.cat((gradient, unknown)))
    score = descent(data, None)
    assert score is not None
    torch.testing.assert_close((score.target - x[-1]).norm(), 0.4 * (ahead - x[-1]).norm())


def test_derivatives_that_contradict_the_outcomes_are_not_followed() -> None:
    x, y, _ = rows()
    wrong = x @ torch.eye(3, dtype=F64)  # a bowl elsewhere: the function would rise from worse to better
    wrong = wrong - torch.tensor([0.95, 0.95, 0.1], dtype=F64)
    assert descent(dataset(x, y, wrong), None) is None


def test_no_step_is_due_where_another_rule_is() -> None:
    x, y, gradient = rows()
    due = dataset(x, y, gradient)
    assert isinstance(descent(due, None), DescentScore)
    once, twice = [0, 2, 1], [2, 0, 1]  # so many evaluations have not improved
    assert isinstance(descent(dataset(x[once], y[once], gradient[once]), None), DescentScore)
    assert descent(dataset(x[twice], y[twice], gradient[twice]), None) is None
    assert descent(Dataset(x, y), None) is None
    assert descent(dataset(x, y, gradient, columns=Columns(fixed=((0, 0.5),))), None) is None
    assert descent(dataset(x, y, torch.full_like(x, torch.nan)), None) is None
    assert descent(dataset(x, y, torch.where(y[:, None] == y.min(), 0.0, gradient)), None) is None
    assert descent(dataset(x, y, gradient, violation=torch.zeros_like(y)), None) is None
    at_target = dataset(x, y, gradient, pending=torch.tensor([[0.1, 0.4, 0.6]] * 2, dtype=F64))
    assert descent(at_target, None) is None
    noisy = WarmStart(torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0, -8.0], dtype=F64), 3)
    sharp = WarmStart(torch.tensor([0.0, 0.0, 0.0, 0.0, -8.0, -8.0], dtype=F64), 3)
    rough = WarmStart(torch.tensor([0.0, 0.0, 0.0, 0.0, -8.0, 0.0], dtype=F64), 3)
    assert descent(due, noisy) is None
    assert descent(due, rough) is None
    assert isinstance(descent(due, sharp), DescentScore)


def test_small_improvements_leave_every_second_turn_to_others() -> None:
    x = torch.tensor([[0.9], [0.8], [0.62], [0.61], [0.6]], dtype=F64)
    y, gradient = bowl(x, torch.tensor([0.59], dtype=F64), torch.eye(1, dtype=F64))
    assert descent(dataset(x, y, gradient), None) is None
    even = dataset(x[1:], y[1:], gradient[1:])
    assert isinstance(descent(even, None), DescentScore)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_default_takes_steps_in_turns(order: list[int]) -> None:
    x, y, gradient = (each[order] for each in rows())
    score = AdaptiveImprovement().build(dataset(x, y, gradient), Seeds.of(0, 3))
    assert (score.notes[0]["rule"] == "descent") == (order == [0, 1, 2])
    assert (score.hyperparameters is None) == (order == [0, 1, 2])

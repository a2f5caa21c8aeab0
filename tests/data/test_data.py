from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from bo_suite.data import Columns, Condition, Dataset, Seeds
from bo_suite.errors import DataError


def test_seeds_depend_on_seed_trial_and_purpose_alone() -> None:
    like = torch.zeros(2, dtype=torch.float64)
    first = Seeds.of(1, 2).normal((4,), like)
    torch.manual_seed(9)
    assert_close(Seeds.of(1, 2).normal((4,), like), first)
    others = [Seeds.of(1, 3), Seeds.of(2, 2), Seeds.of(1, 2).split("a"), Seeds.of(12, 0), Seeds.of(1, 20)]
    for other in others:
        assert not bool((other.normal((4,), like) == first).any())


def test_replicate_draws_equal_solo_draws() -> None:
    like = torch.zeros(2, 5, 3, dtype=torch.float64)
    both = Seeds((7, 8), (2,))
    assert_close(both.sobol(16, like)[1], Seeds((8,)).sobol(16, like[1]))
    assert_close(both.quasi_normal(16, 3, like)[0], Seeds((7,)).quasi_normal(16, 3, like))
    assert bool(((both.sobol(16, like) >= 0) & (both.sobol(16, like) < 1)).all())


def test_keys_of_several_runs_are_those_of_each() -> None:
    like = torch.zeros(3, 2, 2, dtype=torch.float64)
    together = Seeds.of_each((4, 0, -7), 5)
    assert together.batch_shape == (3,)
    draws = together.split("a").normal((6,), like)
    for place, seed in enumerate((4, 0, -7)):
        alone = Seeds.of(seed, 5)
        assert together.keys[place : place + 1] == alone.keys
        assert torch.equal(draws[place], alone.split("a").normal((6,), like[0]))


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("pending", [0, 3])
def test_replicates_of_data_are_picked_by_their_places(noisy: bool, pending: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x, others = (torch.rand(2, 3, n, 2, generator=generator, dtype=torch.float64) for n in (5, pending))
    y = x.sum(-1)
    data = Dataset(x, y, y**2 if noisy else None, others, Columns((1,), (None, 4), (0,)))
    some = data.replicates(torch.tensor([5, 0, 5]))
    assert some.batch_shape == (3,)
    for part, (i, j) in zip(
        (some.replicates(0), some.replicates(1), data.replicates(4)), [(1, 2), (0, 0), (1, 1)], strict=True
    ):
        assert part.batch_shape == ()
        assert torch.equal(part.x, x[i, j])
        assert torch.equal(part.y, y[i, j])
        assert torch.equal(part.pending, others[i, j])
        assert part.noise is None if not noisy else torch.equal(part.noise, y[i, j] ** 2)
        assert part.columns == Columns((1,), (None, 4), (0,))
    assert torch.equal(data.replicates(4).replicates(0).x, x[1, 1])
    with pytest.raises(IndexError):
        data.replicates(6)


def test_gradients_and_deviations_of_rows_go_with_their_rows() -> None:
    x = torch.rand(2, 3, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradient, x_std = x + 1.0, x + 2.0
    gradient[0, 1, 2, 0] = torch.nan
    data = Dataset(x, x.sum(-1), gradient=gradient, x_std=x_std)
    part = data.replicates(1).to(torch.device("cpu"))
    assert part.gradient is not None
    assert part.x_std is not None
    assert_close(part.gradient, gradient[0, 1], equal_nan=True)
    assert torch.equal(part.x_std, x_std[0, 1])
    with_pending = data.with_pending([x[..., 0, :]])
    assert with_pending.gradient is data.gradient
    assert with_pending.x_std is data.x_std


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "gradient",
            torch.full((4, 2), torch.inf, dtype=torch.float64),
            "derivatives must be finite, or NaN",
        ),
        ("x_std", torch.full((4, 2), -1e-9, dtype=torch.float64), "at least 0 and finite"),
        ("x_std", torch.full((4, 2), torch.nan, dtype=torch.float64), "at least 0 and finite"),
    ],
)
def test_gradients_and_deviations_that_are_refused(field: str, value: torch.Tensor, message: str) -> None:
    x = torch.rand(4, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with pytest.raises(DataError, match=message):
        replace(Dataset(x, x[:, 0]), **{field: value})


def test_a_column_is_active_if_its_parents_are_and_have_such_positions() -> None:
    """Column 1 if column 0 is at 0 or 0.5, column 2 if column 1 is at most 0.4 and column 0 at 0.5."""
    first = Condition(1, ((0, ((0.0, 0.0), (0.5, 0.5))),))
    second = Condition(2, ((1, ((0.0, 0.4),)), (0, ((0.5, 0.5),))))
    columns = Columns(conditions=(first, second))
    x = torch.tensor(
        [[0.0, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.41, 0.1], [1.0, 0.0, 0.0]], dtype=torch.float64
    )
    expected = [[True, True, False], [True, True, True], [True, True, False], [True, False, False]]
    for rows in (x, x.float()):
        assert columns.active(rows).tolist() == expected
    assert columns.active(x.expand(2, 4, 3)).shape == (2, 4, 3)
    assert bool(Columns().active(x).all())
    assert columns.requirements[2] == (*second.parents, *first.parents)


def test_activity_agrees_with_a_walk_from_parents_to_children() -> None:
    """Of columns with several parents, intervals that overlap, and conditions that are shared."""
    steps = Condition(3, ((0, ((0.0, 0.3), (0.2, 0.5))), (1, ((0.1, 0.9),))))
    columns = Columns(
        conditions=(
            steps,
            Condition(2, steps.parents),
            Condition(4, ((2, ((0.0, 0.5),)),)),
            Condition(5, ((4, ((0.25, 1.0),)), (0, ((0.0, 0.25),)))),
        )
    )
    x = torch.rand(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    active = torch.ones_like(x, dtype=torch.bool)
    for condition in columns.conditions:
        for parent, intervals in condition.parents:
            met = sum((low <= x[:, parent]) & (x[:, parent] <= high) for low, high in intervals) > 0
            active[:, condition.column] &= met & active[:, parent]
    assert 0 < int(active[:, 5].sum()) < 200
    assert torch.equal(columns.active(x), active)

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted
from bo_suite.optim.maximize import maximize
from bo_suite.space.candidates import project
from bo_suite.space.listing import every_row

MIXED = Space(
    {
        "x": Float(0, 1),
        "n": Int(1, 9),
        "big": Int(1, 10**7, log=True),
        "k": Choice(["a", "b", "c", "d"]),
        "o": Choice([1, 2, 4, 8], ordered=True),
    }
)


def data(space: Space, count: int, *batch: int, seed: int = 0) -> Dataset:
    uniform = torch.rand(
        *batch, count, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    x = space.encoding.project(space.encoding.sample_from_unit(uniform))
    return Dataset(x, x.sum(-1), columns=space.columns)


def bowl(target: Tensor):
    return lambda x: -(x - target).square().sum(-1)


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_maximum_of_a_mixed_space_is_found_in_native_values(differentiable: bool) -> None:
    target = MIXED.encode([{"x": 0.3141, "n": 7, "big": 54_321, "k": "c", "o": 4}])[0]
    row = maximize(bowl(target), MIXED, data(MIXED, 10), Seeds.of(0, 1), differentiable=differentiable)
    (point,) = MIXED.decode(row[None])
    assert (point["n"], point["k"], point["o"]) == (7, "c", 4)
    assert point["x"] == pytest.approx(0.3141, abs=2e-3)
    assert point["big"] == pytest.approx(54_321, rel=0.02)
    assert_close(project(MIXED, row[None])[0], row, rtol=0.0, atol=0.0)


def test_the_corner_of_a_box_is_reached_exactly_and_not_twice() -> None:
    space = Space({name: Float(-1, 1) for name in "abc"})
    corner = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    score = bowl(torch.tensor([-1.0, 2.0, 2.0], dtype=torch.float64))
    first = maximize(score, space, data(space, 4), Seeds.of(0, 0))
    assert_close(first, corner, rtol=0.0, atol=0.0)
    told = data(space, 4)
    told = Dataset(torch.cat((told.x, first[None])), torch.zeros(5, dtype=torch.float64), None, told.pending)
    assert not torch.equal(maximize(score, space, told, Seeds.of(0, 1)), corner)
    pending = Dataset(told.x[:4], told.y[:4], None, first[None])
    assert not torch.equal(maximize(score, space, pending, Seeds.of(0, 1)), corner)


@pytest.mark.parametrize(
    "space",
    [
        Space({"n": Int(1, 3), "k": Choice(["a", "b"])}),
        Space({"n": Int(1, 70), "k": Choice(["a", "b"], ordered=True), "one": Choice(["only"])}),
    ],
)
def test_a_finite_space_is_exhausted_without_a_repeat_and_says_so(space: Space) -> None:
    seen = data(space, 1)
    for step in range(space.cardinality - 1):
        row = maximize(
            bowl(torch.full((space.dim,), 0.4, dtype=torch.float64)), space, seen, Seeds.of(0, step)
        )
        seen = Dataset(
            torch.cat((seen.x, row[None])), torch.zeros(step + 2, dtype=torch.float64), None, seen.pending
        )
    assert len({tuple(one.items()) for one in space.decode(seen.x)}) == space.cardinality
    with pytest.raises(SpaceExhausted, match=f"all {space.cardinality} points"):
        maximize(bowl(torch.zeros(space.dim, dtype=torch.float64)), space, seen, Seeds.of(0, 99))


def test_replicates_are_searched_side_by_side_as_alone() -> None:
    space = Space({name: Float(0, 1) for name in "ab"})
    both = data(space, 5, 2)
    target = torch.tensor([[0.2, 0.7], [0.9, 0.1]], dtype=torch.float64)
    rows = maximize(bowl(target[:, None]), space, both, Seeds((5, 6), (2,)))
    assert_close(rows, target, rtol=0.0, atol=1e-3)
    alone = maximize(
        bowl(target[1]), space, Dataset(both.x[1], both.y[1], None, both.pending[1]), Seeds((6,))
    )
    assert_close(rows[1], alone, rtol=1e-6, atol=1e-6)


def waves(target: Tensor, rate: Tensor):
    """Bumps of a different width in every replicate, whose discrete columns lean on each other."""

    def score(x: Tensor) -> Tensor:
        value = -(x - target).square().sum(-1) + 0.3 * torch.sin(rate * x[..., 0]) * torch.cos(
            4.0 * x[..., 3]
        )
        return value + 0.5 * (x[..., 1] - x[..., 2]) * (x[..., 4] - 0.4)

    return score


@pytest.mark.parametrize("differentiable", [True, False])
def test_replicates_of_a_mixed_space_are_searched_as_alone(differentiable: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    told = data(MIXED, 7, 5)
    target = torch.rand(5, 1, MIXED.dim, generator=generator, dtype=torch.float64)
    rate = torch.logspace(0.0, 1.7, 5, dtype=torch.float64)[:, None]
    for trial in range(3):
        seeds = Seeds.of_each(range(5), trial)
        found = maximize(waves(target, rate), MIXED, told, seeds, differentiable=differentiable)
        assert len({tuple(row) for row in found.tolist()}) == 5
        for place in range(5):
            alone = maximize(
                waves(target[place], rate[place]),
                MIXED,
                told.replicates(place),
                Seeds.of(place, trial),
                differentiable=differentiable,
            )
            assert_close(found[place], alone, rtol=0.0, atol=1e-9)


def test_a_replicate_that_finds_nothing_new_goes_on_and_leaves_the_others_as_they_are() -> None:
    space = Space({"n": Int(1, 1500), "k": Choice(["a", "b"])})
    low, high = (
        space.encode([{"n": n, "k": k} for n in numbers for k in "ab"])
        for numbers in (range(1, 1101), range(401, 1501))
    )
    x = torch.stack((low, high))
    told = Dataset(x, -x.sum(-1), columns=space.columns)
    target = torch.tensor([[[0.1, 0.0]], [[0.1, 0.0]]], dtype=torch.float64)
    seeds = Seeds.of_each((0, 1), 0)
    rows = maximize(bowl(target), space, told, seeds)
    for place in (0, 1):
        alone = maximize(bowl(target[place]), space, told.replicates(place), Seeds.of(place, 0))
        assert torch.equal(rows[place], alone)
        assert not bool((x[place] == rows[place]).all(-1).any())
    assert int(space.decode(rows)[0]["n"]) > 1100
    assert int(space.decode(rows)[1]["n"]) <= 400


def test_the_score_of_many_replicates_is_taken_a_few_rows_at_a_time() -> None:
    space = Space({name: Float(0, 1) for name in "ab"})
    sizes: list[int] = []
    target = torch.rand(40, 1, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        sizes.append(x[..., 0].numel())
        return bowl(target)(x)

    found = maximize(score, space, data(space, 5, 40), Seeds.of_each(range(40), 0))
    assert max(sizes) <= 4096
    assert len(sizes) > 8
    assert_close(found, target[:, 0], rtol=0.0, atol=1e-3)


def test_a_score_that_is_infinite_or_nan_in_places_is_survived() -> None:
    space = Space({"a": Float(0, 1)})

    def score(x: Tensor) -> Tensor:
        value = x[..., 0] - 1.0
        return torch.where(x[..., 0] > 0.5, torch.nan, torch.where(x[..., 0] < 0.2, -torch.inf, value))

    row = maximize(score, space, data(space, 3), Seeds.of(0, 0))
    assert 0.2 <= float(row[0]) <= 0.5


def test_whole_lists_every_point_once() -> None:
    space = Space({"n": Int(1, 4), "k": Choice(["a", "b", "c"]), "o": Choice([1, 2])})
    assert len({tuple(point.values()) for point in space.decode(every_row(space))}) == 24

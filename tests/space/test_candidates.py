"""Rows to choose from: where they lie, which are new, and that each is a point of its space."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.errors import SpaceExhausted
from bo_suite.space import candidates
from bo_suite.space.listing import every_row

F64 = torch.float64
MIXED = Space(
    {"x": Float(-1, 3), "l": Float(1e-4, 1, log=True), "n": Int(1, 500), "k": Choice(["u", "v", "w"])}
)
SMALL = Space({"n": Int(1, 3), "k": Choice(["u", "v"])})
SEEDS = Seeds.of(3, 1)


def data(space: Space, count: int = 12) -> Dataset:
    x = candidates.project(
        space, candidates.sample_random(space, count, torch.zeros(1, space.dim, dtype=F64), SEEDS)
    )
    return Dataset(x, x.sum(-1), columns=space.columns)


def is_point(space: Space, rows: torch.Tensor) -> bool:
    """Whether discrete columns hold levels: continuous ones may hold any number in [0, 1]."""
    levels = space.encoding.round_to_levels(rows)
    return bool(
        torch.isclose(levels, rows, rtol=0.0, atol=1e-12).all() and (rows >= 0).all() and (rows <= 1).all()
    )


@pytest.mark.parametrize("space", [MIXED, SMALL])
def test_all_ways_to_make_rows_make_points_of_the_space(space: Space) -> None:
    known = data(space)
    ways = {
        "sobol": candidates.sample_sobol(space, 64, known.x, SEEDS),
        "random": candidates.sample_random(space, 64, known.x, SEEDS),
        "perturbed": candidates.perturb_best(space, known, SEEDS, 64),
        "mutated": candidates.mutate(space, known.x, SEEDS),
        "initial": torch.stack([candidates.initial_row(space, 5, index) for index in range(8)]),
    }
    for name, rows in ways.items():
        assert is_point(space, rows), name
        assert torch.equal(space.encode(space.decode(rows)), candidates.project(space, rows)), name


def test_rows_of_replicates_are_those_that_each_has_alone() -> None:
    keys = Seeds.of_each((4, 9), 2)
    like = torch.zeros(2, 1, MIXED.dim, dtype=F64)
    together = candidates.sample_sobol(MIXED, 16, like, keys)
    for index, seed in enumerate((4, 9)):
        assert torch.equal(together[index], candidates.sample_sobol(MIXED, 16, like[0], Seeds.of(seed, 2)))


def test_a_perturbed_row_keeps_columns_of_one_of_the_best_rows() -> None:
    known = data(MIXED, 30)
    best = known.x[known.y.argsort(descending=False)[:4]]
    rows = candidates.perturb_best(MIXED, known, SEEDS, 200)
    shared = (rows[:, None, :] == best).any(1)
    assert 0.3 < float(shared.double().mean()) < 0.8  # about half of the columns change
    assert bool((~shared).any(0).all())


def test_rows_are_perturbed_around_more_of_the_best_ones_if_there_are_several_objectives() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    known = data(space, 30)
    ends = torch.full((2,), torch.inf, dtype=F64)
    several = replace(known, outcomes=Outcomes(known.x, known.x.T, 2, -ends, ends))
    ranked = known.x[known.y.argsort()]
    for dataset, parents in ((known, 4), (several, 16)):
        rows = candidates.perturb_best(space, dataset, SEEDS, 256)
        kept = (rows[:, None, :] == ranked).any(-1).any(0)
        assert kept.tolist() == [index < parents for index in range(30)]


def test_mutation_changes_a_column_of_most_rows_and_leaves_most_columns() -> None:
    rows = data(MIXED, 200).x
    changed = candidates.mutate(MIXED, rows, SEEDS) != rows
    assert float(changed.any(-1).double().mean()) > 0.8
    assert float(changed.double().mean()) < 0.6


def test_neighbours_differ_in_one_column_and_are_all_levels_of_a_short_one() -> None:
    rows = data(MIXED, 5).x
    for column, count in ((3, 3), (2, 8 + 2 * 8)):
        near = candidates.neighbours(MIXED, rows, column, SEEDS, candidates.Moves(8))
        assert near.shape == (5, count, 4)
        others = [one for one in range(4) if one != column]
        assert torch.equal(near[..., others], rows[:, None, others].expand(5, count, 3))
        assert is_point(MIXED, near)
    categories = candidates.neighbours(MIXED, rows, 3, SEEDS, candidates.Moves(8))[0, :, 3]
    assert_close(categories, torch.tensor([0.0, 0.5, 1.0], dtype=F64))


def test_every_row_is_listed_once() -> None:
    rows = every_row(SMALL)
    points = SMALL.decode(rows)
    assert {(point["n"], point["k"]) for point in points} == {(n, k) for n in (1, 2, 3) for k in "uv"}
    assert len(rows) == SMALL.cardinality == 6


def test_new_rows_and_copies_are_found() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
    assert candidates.is_copy(rows).tolist() == [False, False, True, False]
    assert candidates.is_new(rows, rows[1:2]).tolist() == [True, False, True, True]
    assert candidates.is_new(rows, rows[:0]).all()
    assert [row.tolist() for row in candidates.first_new(rows, rows[1:2], 5)] == [[0.0, 1.0], [1.0, 1.0]]
    assert len(candidates.first_new(rows, rows[:0], 2)) == 2


def test_a_taken_row_is_replaced_until_the_space_is_full() -> None:
    taken = torch.zeros(0, 2, dtype=F64)
    for count in range(6):
        assert not candidates.is_exhausted(SMALL, taken)
        row = candidates.new_row(SMALL, torch.tensor([0.4, 0.9], dtype=F64), taken, Seeds.of(0, count))
        assert bool(candidates.is_new(row[None], taken).all())
        taken = torch.cat((taken, row[None]))
    assert candidates.is_exhausted(SMALL, taken)
    with pytest.raises(SpaceExhausted, match="all 6 points of the space have been suggested"):
        candidates.new_row(SMALL, taken[0], taken, SEEDS)


def test_a_space_with_a_fixed_parameter_is_full_before_the_others_are() -> None:
    held = SMALL.with_fixed({"k": "v"})
    taken = SMALL.encode([{"n": n, "k": "v"} for n in (1, 2, 3)])
    assert candidates.is_exhausted(held, taken)
    assert not candidates.is_exhausted(held, taken[:2])
    assert not candidates.is_exhausted(SMALL, taken)


def test_the_initial_rows_are_the_centre_then_others_by_seed() -> None:
    first = [candidates.initial_row(MIXED, 7, index) for index in range(5)]
    assert MIXED.decode(first[0][None])[0]["x"] == 1.0
    assert len({tuple(row.tolist()) for row in first}) == 5
    assert torch.equal(first[3], candidates.initial_row(MIXED, 7, 3))
    assert not torch.equal(first[3], candidates.initial_row(MIXED, 8, 3))

"""Rows of conditional spaces: inactive columns are at 0, whatever makes the rows."""

from collections import Counter

import pytest
import torch
from branching import TREE, random_space
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bo_suite import Choice, Float, Int, Space
from bo_suite.acquisition.alternatives import StartingPoints
from bo_suite.data import Columns, Condition, Dataset, Seeds
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.optim.evolve import evolve
from bo_suite.optim.maximize import Search, maximize
from bo_suite.optim.sweep import Sweep
from bo_suite.space import candidates
from bo_suite.space.activity import Activation, Seen, movable
from bo_suite.space.branches import branches, cover_size, due, in_the_middle

F64 = torch.float64
SEEDS = Seeds.of(3, 1)


def a_space(seed: int) -> Space:
    try:
        return random_space(seed, continuous=True)
    except SpaceError:  # some conditions exclude each other
        assume(False)
        raise


def data(space: Space, count: int = 12) -> Dataset:
    x = candidates.project(
        space, candidates.sample_random(space, count, torch.zeros(1, space.dim, dtype=F64), SEEDS)
    )
    return Dataset(x, (x - 0.4).abs().sum(-1), columns=space.columns)


def check_rows(space: Space, rows: Tensor) -> None:
    """Each row has zeros where it is inactive, and stands for a point, which has the same row."""
    rows = rows.reshape(-1, space.dim)
    assert torch.equal(space.columns.canonical(rows), rows)
    points = space.decode(rows)
    assert all(space.check(point) == point for point in points)
    assert torch.equal(space.encode(points), candidates.project(space, rows))
    exact = candidates.project(space, rows)
    assert torch.equal(candidates.project(space, exact), exact)
    assert space.decode(exact) == points


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_all_ways_to_make_rows_make_points(seed: int) -> None:
    space = a_space(seed)
    known = data(space)
    check_rows(space, candidates.sample_sobol(space, 16, known.x, SEEDS))
    check_rows(space, torch.stack([candidates.initial_row(space, seed, index) for index in range(4)]))
    check_rows(space, candidates.perturb_best(space, known, SEEDS, 32))
    seen = Seen.of(space, known)
    check_rows(space, candidates.mutate(space, known.x, SEEDS, seen))
    for column, levels in enumerate(space.levels):
        if levels is not None:
            moves = candidates.Moves(8, seen=seen)
            check_rows(space, candidates.neighbours(space, known.x, column, SEEDS, moves))
    evolved = evolve(lambda x: -x.sum(-1), space, known.x[:0], known.x, SEEDS)
    check_rows(space, evolved)
    for points in (candidates.project(space, torch.rand(9, space.dim, dtype=F64)), evolved):
        check_rows(space, points)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_the_maximum_of_a_score_is_a_new_point(seed: int) -> None:
    space = a_space(seed)
    known = data(space, 6)
    for differentiable in (True, False):
        try:
            row = maximize(
                lambda x: -(x - 0.6).square().sum(-1),
                space,
                known,
                SEEDS,
                differentiable=differentiable,
                search=Search(sobol=32, nearby=16, starts=2, evaluations=6),
            )
        except SpaceExhausted:
            assert space.cardinality is not None
            assert candidates.is_exhausted(space, known.x)
            continue
        check_rows(space, row)
        assert bool(candidates.is_new(row[None], known.x).all())


def test_points_that_differ_in_inactive_parameters_alone_are_the_same_row() -> None:
    rows = TREE.encode([{"model": "linear", "share": 0.1, "scale": "unit"}]).repeat(5, 1)
    inactive = ~TREE.columns.active(rows)
    noisy = torch.where(inactive, torch.rand(5, TREE.dim, dtype=F64), rows)
    assert torch.equal(candidates.project(TREE, noisy), rows)
    assert candidates.is_copy(candidates.project(TREE, noisy)).tolist() == [False, *[True] * 4]


def test_replicates_have_the_rows_that_each_has_alone() -> None:
    keys, alone = Seeds.of_each((4, 9), 2), [Seeds.of(seed, 2) for seed in (4, 9)]
    known = data(TREE)
    both = Dataset(known.x.expand(2, -1, -1), known.y.expand(2, -1), columns=TREE.columns)
    near = candidates.perturb_best(TREE, both, keys, 32)
    moved = candidates.mutate(TREE, near, keys, Seen.of(TREE, both))
    seen = Seen.of(TREE, known)
    score = lambda x: -(x - 0.7).square().sum(-1)  # noqa: E731
    swept = Sweep(None, 0, Seen.of(TREE, both))(score, TREE, both.x, keys)
    for index, seeds in enumerate(alone):
        assert torch.equal(near[index], candidates.perturb_best(TREE, known, seeds, 32))
        assert torch.equal(moved[index], candidates.mutate(TREE, near[index], seeds, seen))
        assert torch.equal(swept[index], Sweep(None, 0, seen)(score, TREE, known.x, seeds))
    check_rows(TREE, swept)


def test_newly_active_columns_take_values_from_their_range_and_from_the_best_row_that_has_them() -> None:
    space = Space(
        {
            "k": Choice(["u", "v", "w"]),
            "a": Float(0, 1, when={"k": ["v", "w"]}),
            "b": Int(1, 9, when={"k": "v"}),
        }
    )
    points = [{"k": "w", "a": 0.9}, {"k": "v", "a": 0.3, "b": 7}, {"k": "v", "a": 0.2, "b": 2}, {"k": "u"}]
    known = Dataset(
        space.encode(points), torch.tensor([1.0, 2.0, 3.0, 0.0], dtype=F64), columns=space.columns
    )
    rows = space.encode([{"k": "u"}]).repeat(400, 1)
    rows[:, 0] = 0.5
    held = space.columns.active(space.encode([{"k": "u"}])).expand(400, -1)
    filled = space.decode(Activation(space, Seen.of(space, known), SEEDS)(rows, held))
    seen = [point for point in filled if (point["a"], point["b"]) == (0.3, 7)]
    assert 150 < len(seen) < 250  # of the best row with the same k, not of the best row with a
    others = [point for point in filled if point not in seen]
    assert len({point["a"] for point in others}) == len(others)
    assert set(Counter(point["b"] for point in others)) == set(range(1, 10))


def test_a_sweep_that_changes_a_parent_tries_seen_and_random_values_of_its_children() -> None:
    space = Space({"k": Choice(["u", "v"]), "a": Float(0, 1, when={"k": "v"}), "x": Float(0, 1)})
    known = Dataset(
        space.encode([{"k": "u", "x": 0.5}, {"k": "v", "a": 0.625, "x": 0.1}]),
        torch.tensor([0.0, 1.0], dtype=F64),
        columns=space.columns,
    )
    moves = candidates.Moves(8, seen=Seen.of(space, known))
    near = candidates.neighbours(space, known.x[:1], 0, SEEDS, moves)[0]
    assert [point["k"] for point in space.decode(near)] == ["u", "v", "u", "v"]
    assert near[3].tolist() == [1.0, 0.625, 0.5]
    assert near[1, 1] not in (0.0, 0.625)
    score = lambda x: x[..., 0] - (x[..., 1] - 0.625).abs()  # noqa: E731
    swept = Sweep(None, 0, moves.seen)(score, space, known.x[:1], SEEDS)
    assert swept.tolist() == [[1.0, 0.625, 0.5]]


def test_columns_that_are_inactive_do_not_move_and_parents_stay_on_their_side() -> None:
    space = Space(
        {"x": Float(0, 1), "a": Float(0, 1, when={"x": (0.2, 0.4)}), "b": Float(0, 1, when={"x": (0.6, 1)})}
    )
    rows = space.encode([{"x": 0.1}, {"x": 0.3, "a": 0.5}, {"x": 0.5}, {"x": 0.7, "b": 0.1}])
    lower, upper = movable(space.columns, rows, ())
    expected_lower = torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0.4, 0, 0], [0.6, 0, 0]], dtype=F64)
    expected_upper = torch.tensor([[0.2, 0, 0], [0.4, 1, 0], [0.6, 0, 0], [1.0, 0, 1]], dtype=F64)
    torch.testing.assert_close(lower, expected_lower, rtol=0.0, atol=2e-9)
    torch.testing.assert_close(upper, expected_upper, rtol=0.0, atol=2e-9)
    for share in (0.0, 0.5, 1.0):
        moved = candidates.project(space, lower + share * (upper - lower))
        assert torch.equal(space.columns.active(moved), space.columns.active(rows))
    always = Space({"x": Float(0, 1), "k": Choice(["u", "v"])})
    rows = always.encode([{"x": 0.3, "k": "v"}])
    assert [bound.tolist() for bound in movable(always.columns, rows, (1,))] == [[[0.0, 1.0]], [[1.0, 1.0]]]


def test_gradient_searches_find_the_best_branch_and_its_values() -> None:
    target = {"model": "svm", "kernel": "poly", "degree": 4, "gamma": 0.03, "scale": "unit"}
    goal = TREE.encode([target])[0]

    def score(x: Tensor) -> Tensor:
        apart = torch.where(TREE.columns.active(x) & TREE.columns.active(goal), (x - goal).abs(), 0.0)
        wrong = TREE.columns.active(x) != TREE.columns.active(goal)
        return -apart.square().sum(-1) - 0.5 * wrong.sum(-1)

    row = maximize(score, TREE, data(TREE, 8), SEEDS)
    found = TREE.decode(row[None])[0]
    assert found.pop("gamma") == pytest.approx(0.03, rel=1e-2)
    target.pop("gamma")
    assert found == target


def test_searches_without_a_space_start_at_rows_of_one_branch_each() -> None:
    known = data(TREE, 30)
    pool = StartingPoints.of(known, known.y, 32, SEEDS)
    assert torch.equal(TREE.columns.canonical(pool.x), pool.x)
    parents = sorted(TREE.parent_columns)
    discrete = [column for column in parents if TREE.levels[column] is not None]
    rows = {tuple(row) for row in known.x[:, discrete].tolist()}
    assert {tuple(row) for row in pool.x[:16, discrete].tolist()} <= rows


def test_columns_with_the_same_condition_and_several_parents_are_active_together() -> None:
    columns = Columns(
        conditions=(
            Condition(1, ((0, ((0.0, 0.2), (0.8, 1.0))),)),
            Condition(2, ((0, ((0.0, 0.2), (0.8, 1.0))),)),
            Condition(3, ((1, ((0.5, 1.0),)), (4, ((0.0, 0.5),)))),
        )
    )
    x = torch.tensor(
        [
            [0.1, 0.7, 0.0, 0.3, 0.4],
            [0.5, 0.7, 0.0, 0.3, 0.4],
            [0.9, 0.5, 1.0, 0.0, 0.6],
            [0.8, 0.4, 0, 0, 0],
        ],
        dtype=F64,
    )
    expected = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1]]
    assert columns.active(x).tolist() == [[bool(flag) for flag in row] for row in expected]
    assert columns.active(x.float()).tolist() == columns.active(x).tolist()
    assert columns.active(x[None].expand(2, -1, -1))[1].tolist() == columns.active(x).tolist()


# Branches.


def test_branches_are_options_of_parents_and_ranges_that_activate_the_same() -> None:
    found = [branch.described(TREE) for branch in branches(TREE)]
    assert found == [
        *("model is 'svm'", "model is 'forest'", "model is 'linear'"),
        *("kernel is 'rbf'", "kernel is 'poly'", "kernel is 'sigmoid'"),
        *("depth is 1", "depth from 2 to 3", "depth from 4 to 8", "depth is 9", "depth from 10 to 12"),
        *("share from 0 to 0.25", "share from 0.25 to 0.75", "share from 0.75 to 1"),
    ]
    fixed = [branch.name for branch in branches(TREE.with_fixed({"model": "svm", "kernel": "rbf"}))]
    assert fixed == []
    assert {branch.name for branch in branches(TREE.with_fixed({"model": "svm"}))} == {"kernel"}
    assert branches(Space({"k": Choice(["u", "v"]), "x": Float(0, 1)})) == []


def test_the_branch_that_lacks_most_of_its_points_is_due() -> None:
    space = Space({"k": Choice(["u", "v", "w"]), "x": Float(0, 1), "a": Int(1, 3, when={"k": "w"})})
    points = [{"k": "u", "x": index / 64} for index in range(30)] + [{"k": "v", "x": 0.5}] * 2
    waiting = due(space, space.encode(points), SEEDS)
    assert waiting is not None
    assert waiting.branch == "k is 'w'"
    assert {
        point["k"]
        for point in space.decode(
            candidates.sample_sobol(waiting.space, 8, torch.zeros(1, 3, dtype=F64), SEEDS)
        )
    } == {"w"}
    assert due(space, space.encode(points[:31]), SEEDS) is None  # one of four suggestions
    enough = [*points[:20], *[{"k": "v", "x": 0.5}] * 6, *[{"k": "w", "x": 0.5, "a": 1}] * 6]
    assert due(space, space.encode(enough), SEEDS) is None
    assert due(space.with_fixed({"k": "u"}), space.encode(points), SEEDS) is None
    deep = Space({"k": Choice(["u", "w"]), "s": Choice([1, 2], when={"k": "w"}), "x": Float(0, 1)})
    rows = [*points[:30], {"k": "w", "s": 1, "x": 0.5}, {"k": "w", "s": 2, "x": 0.5}]
    waiting = due(deep, deep.encode(rows), SEEDS)
    assert waiting is not None
    assert waiting.branch == "k is 'w'", "2 of 5 points are less than 1 of 1.6"


def test_a_branch_whose_points_are_all_taken_is_not_due() -> None:
    space = Space(
        {"k": Choice(["u", "v"]), "x": Float(0, 1, when={"k": "u"}), "a": Int(1, 2, when={"k": "v"})}
    )
    points = [{"k": "u", "x": index / 64} for index in range(62)]
    taken = space.encode([*points, {"k": "v", "a": 1}, {"k": "v", "a": 2}])
    assert due(space, taken, SEEDS) is None
    assert due(space, taken[:-1].roll(1, 0).repeat(4, 1)[:64], SEEDS) is not None


def test_a_branch_deep_in_a_tree_comes_with_values_of_its_ancestors() -> None:
    space = Space(
        {
            "a": Choice(["u", "v"]),
            "b": Choice([1, 2, 3], when={"a": "v"}),
            "c": Float(0, 1, when={"b": [2, 3]}),
            "d": Int(0, 9, when={"c": (0.9, 1.0)}),
        }
    )
    rows = [{"a": "u"}] * 2 + [{"a": "v", "b": 1}] * 2 + [{"a": "v", "b": 2, "c": 0.2}] * 2
    rows += [{"a": "v", "b": 3, "c": 0.3}] * 2
    waiting = due(space, space.encode(rows), SEEDS)
    assert waiting is not None
    assert waiting.branch == "c from 0.9 to 1"
    like = torch.zeros(1, 4, dtype=F64)
    points = space.decode(candidates.sample_sobol(waiting.space, 8, like, SEEDS))
    assert all(point["a"] == "v" and point["b"] in (2, 3) and point["c"] >= 0.9 for point in points)
    assert len({point["d"] for point in points}) > 3


def covered(space: Space, seed: int) -> Counter[tuple[str, float]]:
    """How many of the first points that cover branches are in each."""
    taken = torch.zeros(0, space.dim, dtype=F64)
    for index in range(cover_size(space)):
        waiting = due(space, taken, Seeds.of(seed, index), initial=True)
        row = candidates.initial_row(waiting.space if waiting else space, seed, index)
        taken = torch.cat((taken, row[None]))
    active = space.columns.active(taken)
    counts = Counter({(branch.name, branch.low): 0 for branch in branches(space)})
    for branch in branches(space):
        column = space.names.index(branch.name)
        inside = active[:, column] & (taken[:, column] >= branch.low) & (taken[:, column] <= branch.high)
        counts[branch.name, branch.low] = int(inside.sum())
    return counts


def test_as_many_points_as_that_can_be_in_all_branches() -> None:
    assert cover_size(Space({"x": Float(0, 1)})) == 0
    chain = Space({"a": Choice([1, 2]), "b": Choice([1, 2, 3], when={"a": 1}), "c": Int(1, 2, when={"b": 2})})
    assert cover_size(chain) == 4, "one for a = 2, and one for each b"
    two = Space(
        {
            **{"a": Choice([1, 2]), "x": Float(0, 1, when={"a": 1})},
            **{"b": Float(0, 1), "y": Int(1, 4, when={"b": (0.2, 0.4)})},
        }
    )
    assert cover_size(two) == 3, "both options of a are in points that the three ranges of b need"
    for seed in range(5):
        assert min(covered(chain, seed).values()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_conditional_numbers_start_in_the_middle(seed: int) -> None:
    first = [candidates.initial_row(TREE, seed, index) for index in range(1, 9)]
    rows = torch.stack([in_the_middle(TREE, row) for row in first])
    points = TREE.decode(rows)
    assert [*{point["gamma"] for point in points if "gamma" in point}] == [pytest.approx(0.0316227766)]
    assert {point["depth"] for point in points if "depth" in point} <= {6, 7}
    assert len({point["model"] for point in points}) == 3, "categories are those of the Sobol sequence"
    assert torch.equal(rows, TREE.columns.canonical(rows))

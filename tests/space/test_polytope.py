"""Polytopes: their interior beside linear programmes, and samples beside known distributions."""

import torch
from torch.testing import assert_close

from bo_suite.data import CPU_DOUBLES, Seeds
from bo_suite.space.polytope import Polytope

ONE = torch.ones(1, **CPU_DOUBLES)


def polytope(
    d: int,
    normals: list[list[float]] | None = None,
    bounds: list[float] | None = None,
    equal: list[list[float]] | None = None,
    values: list[float] | None = None,
) -> Polytope | None:
    """The polytope of some rows of numbers."""
    rows = [torch.tensor(one or [], **CPU_DOUBLES).reshape(-1, d) for one in (normals, equal)]
    ends = [torch.tensor(one or [], **CPU_DOUBLES) for one in (bounds, values)]
    return Polytope.of(rows[0], ends[0], rows[1], ends[1])


def samples(chosen: Polytope, count: int, steps: int) -> torch.Tensor:
    """Ends of walks from the centre."""
    start = chosen.centre.expand(count, -1)
    directions = Seeds.of(0, 0).normal((steps, count, chosen.basis.shape[-1]), start)
    return chosen.walk(start, directions, Seeds.of(0, 1).uniform((steps, count), start))


def test_the_centre_of_a_triangle_is_that_of_its_inscribed_circle() -> None:
    chosen = polytope(2, [[1.0, 1.0]], [1.0])
    assert chosen is not None
    radius = 1.0 / (2.0 + 2.0**0.5)
    assert_close(chosen.centre, torch.tensor([radius, radius], **CPU_DOUBLES), atol=1e-8, rtol=0.0)


def test_walks_on_a_simplex_are_uniform() -> None:
    """Dirichlet(1, ..., 1): mean 1 / d and variance (d - 1) / (d² (d + 1))."""
    for d in (3, 6):
        chosen = polytope(d, equal=[[1.0] * d], values=[1.0])
        assert chosen is not None
        assert chosen.basis.shape == (d, d - 1)
        rows = samples(chosen, 8000, 60)
        assert bool((rows >= 0.0).all())
        assert float((rows.sum(-1) - 1.0).abs().max()) < 1e-12
        assert_close(rows.mean(0), torch.full((d,), 1.0 / d, **CPU_DOUBLES), atol=0.01, rtol=0.0)
        variance = torch.full((d,), (d - 1) / (d**2 * (d + 1)), **CPU_DOUBLES)
        assert_close(rows.var(0), variance, atol=0.0, rtol=0.06)


def test_walks_in_a_triangle_fill_it_evenly() -> None:
    chosen = polytope(2, [[2.0, 1.0]], [1.0])
    assert chosen is not None
    rows = samples(chosen, 20_000, 40)
    assert bool((2.0 * rows[:, 0] + rows[:, 1] <= 1.0 + 1e-12).all())
    assert abs(float((rows[:, 0] <= 0.25).double().mean()) - 0.75) < 0.015


def test_inequalities_that_are_equalities_in_disguise_are_found() -> None:
    """a + b <= 0 leaves c alone free, and two opposite inequalities are a line."""
    chosen = polytope(3, [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.5])
    assert chosen is not None
    assert chosen.basis.shape == (3, 1)
    rows = samples(chosen, 500, 10)
    assert bool((rows[:, :2] == 0.0).all())
    assert float(rows[:, 2].min()) < 0.05
    assert 0.45 < float(rows[:, 2].max()) <= 0.5
    chosen = polytope(2, [[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0])
    assert chosen is not None
    assert chosen.basis.shape == (2, 1)
    rows = samples(chosen, 100, 10)
    assert_close(rows[:, 0], rows[:, 1], atol=1e-12, rtol=0.0)


def test_a_polytope_of_one_point_has_no_directions() -> None:
    chosen = polytope(3, equal=[[1.0, 1.0, 1.0]], values=[3.0])
    assert chosen is not None
    assert chosen.basis.shape == (3, 0)
    assert_close(chosen.centre, torch.ones(3, **CPU_DOUBLES))
    assert_close(samples(chosen, 4, 5), torch.ones(4, 3, **CPU_DOUBLES))


def test_an_empty_polytope_is_none() -> None:
    assert polytope(2, equal=[[1.0, 1.0]], values=[2.5]) is None
    assert polytope(2, equal=[[1.0, 1.0], [1.0, 1.0]], values=[1.0, 1.1]) is None
    assert polytope(2, [[-1.0, 0.0], [1.0, 0.0]], [-0.6, 0.5]) is None


def test_replicates_walk_as_each_alone_does() -> None:
    chosen = polytope(3, equal=[[1.0, 1.0, 1.0]], values=[1.0])
    assert chosen is not None
    start = chosen.centre.expand(2, 5, 3)
    seeds = Seeds.of_each((1, 2), 0)
    directions, shares = seeds.normal((7, 5, 2), start), seeds.split("u").uniform((7, 5), start)
    rows = chosen.walk(start, directions, shares)
    for index in range(2):
        assert_close(rows[index], chosen.walk(start[index], directions[index], shares[index]))

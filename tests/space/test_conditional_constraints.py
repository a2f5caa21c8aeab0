"""Spaces with conditional parameters and constraints: rows are canonical, and meet the constraints."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bo_suite import Choice, Float, Int, Mixture, Optimizer, Space
from bo_suite.acquisition import SteinBatch
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.optim.evolve import evolve
from bo_suite.optim.maximize import maximize
from bo_suite.space.activity import Seen
from bo_suite.space.branches import due
from bo_suite.space.candidates import (
    Moves,
    is_allowed,
    is_new,
    mutate,
    neighbours,
    perturb_best,
    project,
    sample_random,
    sample_sobol,
)
from bo_suite.space.listing import every_row


def small(params: dict[str, Any]) -> bool:
    """Refuses large degrees, and sees no parameter that is inactive."""
    assert ("degree" in params) == (params["kernel"] == "poly")
    assert ("one" in params) == (params["kernel"] == "poly")
    return bool(params.get("degree", 0) <= 4)


def no_poly(params: dict[str, Any]) -> bool:
    return bool(params["kernel"] != "poly")


KERNEL = Choice(["rbf", "poly", "sigmoid"])
POLY = {
    "kernel": KERNEL,
    "degree": Int(2, 9, when={"kernel": "poly"}),
    "one": Choice(["only"], when={"kernel": "poly"}),
}
MIXTURE = Mixture(["a", "b", "c"])
SPACES = {
    "mixture": Space({**MIXTURE.parameters, **POLY, "gamma": Float(0, 1, when={"kernel": "rbf"})}, [MIXTURE]),
    "function": Space({**POLY, "gamma": Float(0, 1, when={"kernel": "rbf"})}, [small]),
    "interval": Space(
        {
            "x": Float(0, 1),
            "y": Float(0, 1),
            "z": Float(0, 1, when={"x": (0.3, 0.6)}),
            "w": Int(1, 4, when={"z": (0.5, 1)}),
        },
        ["x + y == 1"],
    ),
    "integers": Space(
        {"n": Int(0, 6), "m": Int(0, 6), "k": Choice(["u", "v", "w"], when={"n": (2, 4)})}, ["n + m <= 6"]
    ),
    "both": Space({**MIXTURE.parameters, **POLY}, [MIXTURE, "a <= 2*b", small]),
}


def check_rows(space: Space, rows: Tensor) -> None:
    """Rows encode points of the space, as they are."""
    rows = rows.reshape(-1, space.dim)
    assert torch.equal(space.columns.canonical(rows), rows)
    assert bool(is_allowed(space, rows).all())
    exact = project(space, rows)
    points = space.decode(exact)
    for point in points:
        assert space.check(point) == point
    assert torch.equal(space.encode(points), exact)


def data(space: Space, count: int = 12) -> Dataset:
    x = project(space, sample_random(space, count, torch.empty(0, space.dim).double(), Seeds.of(1, 0)))
    return Dataset(x, x.sum(-1), columns=space.columns)


@pytest.mark.parametrize("name", SPACES)
def test_all_ways_to_make_rows_make_points(name: str) -> None:
    space, seeds = SPACES[name], Seeds.of(0, 0)
    observed = data(space)
    rows = sample_sobol(space, 64, observed.x, seeds)
    check_rows(space, rows)
    check_rows(space, sample_random(space, 64, observed.x, seeds))
    check_rows(space, perturb_best(space, observed, seeds, 64))
    seen = Seen.of(space, observed)
    check_rows(space, mutate(space, rows, seeds, seen))
    for column, levels in enumerate(space.levels):
        if levels is not None:
            check_rows(space, neighbours(space, rows, column, seeds.split(f"{column}"), Moves(4, seen=seen)))

    def score(x: Tensor) -> Tensor:
        return -(x - 0.6).square().sum(-1)

    check_rows(space, evolve(score, space, observed.taken, rows, seeds))
    for differentiable in (True, False):
        best = maximize(score, space, observed, seeds, differentiable=differentiable)
        check_rows(space, best)
        others = sample_random(space, 512, observed.x, Seeds.of(2, 0))
        new = is_new(others, observed.taken)
        assert not bool(new.any()) or bool(score(best) >= score(others[new]).max() - 1e-6)


@pytest.mark.parametrize("name", ["both", "interval"])
def test_runs_ask_points_of_all_branches(name: str) -> None:
    space = SPACES[name]
    optimizer = Optimizer(space, seed=0)
    for _ in range(8):
        trial = optimizer.ask()
        assert space.check(trial.params) == trial.params
        optimizer.tell(trial, sum(float(one) for one in trial.params.values() if not isinstance(one, str)))
    assert {frozenset(trial.params) for trial in optimizer.trials} >= {
        frozenset(point) for point in space.decode(sample_sobol(space, 64, data(space).x, Seeds.of(7, 0)))[:8]
    }


def test_batches_of_particles_stay_in_the_space() -> None:
    space = SPACES["both"]
    optimizer = Optimizer(space, seed=0)
    for _ in range(6):
        trial = optimizer.ask()
        optimizer.tell(trial, trial.params["a"])
    for trial in optimizer.ask(3, batch=SteinBatch(steps=10, turns=2)):
        assert space.check(trial.params) == trial.params


def test_finite_spaces_are_listed_and_exhausted() -> None:
    space = SPACES["integers"]
    points = [
        {"n": n, "m": m} | ({} if k is None else {"k": k})
        for n in range(7)
        for m in range(7 - n)
        for k in (["u", "v", "w"] if 2 <= n <= 4 else [None])
    ]
    listed = space.decode(every_row(space))
    assert space.cardinality == len(points) == len(listed)
    assert all(point in listed for point in points)
    tiny = Space({"n": Int(0, 2), "k": Choice(["u", "v"], when={"n": 1})}, ["n <= 1"])
    optimizer = Optimizer(tiny, seed=0)
    for _ in range(3):
        optimizer.tell(optimizer.ask(), 0.0)
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


def test_branches_that_constraints_refuse_are_not_due() -> None:
    for constraint in (no_poly, "n >= 3"):
        space = Space({**POLY, "n": Int(0, 5), "m": Int(0, 5, when={"n": (0, 2)})}, [constraint])
        optimizer = Optimizer(space, seed=0)
        for turn in range(8):
            trial = optimizer.ask()
            optimizer.tell(trial, float(turn))
            assert "degree" not in trial.params if constraint is no_poly else "m" not in trial.params
    taken = space.encode([{"kernel": "rbf", "n": 4}] * 4)
    reached = due(space, taken, Seeds.of(0, 0))
    assert reached is not None
    assert "kernel" in reached.branch or reached.branch.startswith("n from 3")


def test_a_fixed_parent_holds_under_constraints() -> None:
    optimizer = Optimizer(SPACES["both"], seed=0)
    for _ in range(4):
        trial = optimizer.ask(fixed={"degree": 3})
        assert trial.params["kernel"] == "poly"
        assert trial.params["degree"] == 3
        optimizer.tell(trial, trial.params["a"])
    with pytest.raises(SpaceError, match="small"):
        optimizer.ask(fixed={"degree": 7, "one": "only", "a": 0.2, "b": 0.3, "c": 0.5})


def test_a_text_must_use_parameters_that_are_always_active() -> None:
    with pytest.raises(SpaceError, match=r"'degree \+ n <= 4' uses 'degree', which is only active when"):
        Space({**POLY, "n": Int(0, 3)}, ["degree + n <= 4"])
    parts = Mixture(["p", "q"]).parameters
    with pytest.raises(SpaceError, match=r"uses 'p', which is only active when kernel is 'poly'"):
        Space({**parts, "p": Float(0, 1, when={"kernel": "poly"}), "kernel": KERNEL}, [Mixture(["p", "q"])])


def test_a_space_with_both_is_read_as_it_was_written() -> None:
    space = SPACES["both"]
    again = Space.from_dict(space.to_dict())
    assert again == space
    assert again.with_functions([small]).check(space.decode(data(space).x)[0])
    assert "when=" in repr(space)
    assert "constraints=" in repr(space)

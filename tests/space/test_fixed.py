"""Points of which some parameters are given: `ask(fixed=...)`."""

import math
import random
import statistics
from typing import Any

import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Bore,
    KnowledgeGradient,
    NoisyExpectedImprovement,
    SteinBatch,
    ThompsonSampling,
)
from bo_suite.data import Dataset
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.space.candidates import project, sample

MIXED = Space(
    {
        "x": Float(0.0, 1.0),
        "lr": Float(1e-5, 1e-1, log=True),
        "n": Int(1, 1000),
        "kind": Choice(["a", "b", "c"]),
    }
)


def loss(params: dict[str, Any]) -> float:
    off = (params["x"] - 0.3) ** 2 + 0.1 * (math.log10(params["lr"]) + 3.0) ** 2
    return float(off + abs(params["n"] - 300) / 500 + 0.3 * (params["kind"] != "b"))


@pytest.mark.parametrize(
    "acquisition",
    [
        None,
        NoisyExpectedImprovement(),
        pytest.param(KnowledgeGradient(), marks=pytest.mark.slow),
        ThompsonSampling(),
        Bore(),
    ],
    ids=lambda acquisition: type(acquisition).__name__,
)
def test_what_is_fixed_is_in_every_point_of_every_acquisition(acquisition: Any) -> None:
    opt = Optimizer(MIXED, acquisition)
    given: list[dict[str, Any]] = [{"x": 0.123456789012345}, {"kind": "a", "n": 17}, {"lr": 1e-5}, {}]
    for turn in range(8):
        fixed = given[turn % 4]
        trial = opt.ask(fixed=fixed)
        assert {name: trial.params[name] for name in fixed} == fixed
        assert sorted(trial.provenance.get("fixed", [])) == sorted(fixed)
        opt.tell(trial, loss(trial.params))
    batch = opt.ask(4, fixed={"kind": "c", "x": 1.0})
    assert [(trial.params["kind"], trial.params["x"]) for trial in batch] == [("c", 1.0)] * 4
    assert len({str(trial.params) for trial in batch}) == 4


def test_a_joint_batch_has_what_is_fixed() -> None:
    opt = Optimizer(MIXED, Bore())
    for _ in range(8):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params))
    trials = opt.ask(5, SteinBatch(), fixed={"n": 3, "x": 0.25})
    assert {(trial.params["n"], trial.params["x"]) for trial in trials} == {(3, 0.25)}


def test_the_rest_is_chosen_given_what_is_fixed() -> None:
    """Values of y as good as in a search of its own, though x moves f a hundred times as much."""
    space = Space({"x": Float(0, 1), "y": Float(0, 1), "z": Float(0, 1)})
    regrets = []
    for seed in range(2):
        draws, opt = random.Random(seed), Optimizer(space, seed=seed)
        for number in range(24):
            x = draws.random()
            trial = opt.ask(fixed={"x": x})
            y, z = trial.params["y"], trial.params["z"]
            regret = (y - 0.2 - 0.6 * x) ** 2 + (z - 0.5 - 0.3 * math.sin(6 * x)) ** 2
            opt.tell(trial, regret + 10.0 * x)
            regrets += [regret] * (number >= 18)
    assert statistics.median(regrets) < 0.02  # 0.16 at random, 0.2 with the best value of any x to improve on


def test_fidelities_may_be_fixed() -> None:
    space = Space({"x": Float(0, 1), "epochs": Int(1, 27, log=True, fidelity=True)})
    opt = Optimizer(space)
    for _ in range(9):
        trial = opt.ask(fixed={"epochs": 9})
        assert trial.params["epochs"] == 9
        opt.tell(trial, (trial.params["x"] - 0.2) ** 2)


def test_the_points_with_what_is_fixed_may_be_used_up() -> None:
    opt = Optimizer(MIXED)
    everything = {"x": 0.5, "lr": 1e-2, "n": 5, "kind": "a"}
    assert opt.ask(fixed=everything).params == everything
    with pytest.raises(SpaceExhausted, match=r"the only point of the space with .* fixed has been suggested"):
        opt.ask(fixed=everything)
    rest = {name: value for name, value in everything.items() if name != "kind"}
    assert len(opt.ask(5, fixed=rest)) == 2
    with pytest.raises(SpaceExhausted, match="all 3 points"):
        opt.ask(fixed=rest)


def test_what_has_one_value_anyway_may_be_fixed() -> None:
    opt = Optimizer(Space({"x": Float(0, 1), "n": Int(3, 3), "y": Float(0, 1)}))
    for _ in range(8):
        trial = opt.ask(fixed={"n": 3, "y": 1})
        assert (trial.params["n"], trial.params["y"], trial.provenance["fixed"]) == (3, 1.0, ["n", "y"])
        opt.tell(trial, trial.params["x"] ** 2)
    assert opt.ask(fixed={"n": 3}).provenance["fixed"] == ["n"]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"y": 1}, "unknown"),
        ({"x": 3}, "'x': `0.0 <= value <= 1.0` must hold"),
        ({"kind": "z"}, "'kind'"),
        (5, "a point must be a dict"),
    ],
)
def test_what_cannot_be_fixed_is_refused_and_no_trial_made(fixed: Any, message: str) -> None:
    opt = Optimizer(MIXED)
    with pytest.raises(SpaceError, match=message):
        opt.ask(fixed=fixed)
    assert opt.trials == []


def test_rows_of_a_space_with_fixed_parameters_are_rows_of_the_space() -> None:
    held = MIXED.with_fixed({"x": 0.123456789012345, "kind": "c"})
    rows = sample(held, torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    points = held.decode(rows)
    assert {(point["x"], point["kind"]) for point in points} == {(0.123456789012345, "c")}
    assert torch.equal(MIXED.encode(points), project(held, rows))
    assert held != MIXED
    assert held.fixed == ((0, 0.123456789012345), (3, 1.0))
    data = Dataset(rows[:0], rows[:0, 0], columns=held.columns)
    moved = data.within_space(rows)
    assert torch.equal(moved[:, [1, 2]], rows[:, [1, 2]])
    assert torch.equal(moved[:, [0, 3]], rows.new_tensor([0.123456789012345, 1.0]).expand(20, 2))


def test_a_resumed_run_chooses_the_same_rest(tmp_path: Any) -> None:
    points = []
    for storage in (None, tmp_path / "run.db"):
        opt = Optimizer(MIXED, storage=storage, seed=3)
        for number in range(9):
            if storage is not None:
                opt.close()
                opt = Optimizer.resume(storage)
            trial = opt.ask(fixed={"n": 10 * number + 1})
            opt.tell(trial, loss(trial.params))
        points.append([trial.params for trial in opt.trials])
        opt.close()
    assert points[0] == points[1]

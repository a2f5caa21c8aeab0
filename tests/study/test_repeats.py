"""A finite space whose outcomes are noisy: its points are evaluated again once there is no new one."""

import random
from typing import Any

import pytest

from bo_suite import Choice, Int, Optimizer, Space, minimize
from bo_suite.acquisition import Bore, KnowledgeGradient, NoisyExpectedImprovement, ThompsonSampling
from bo_suite.errors import SpaceExhausted

RECIPES = Space(
    {"solvent": Choice(["water", "ethanol", "acetone", "hexane"]), "salt": Choice(["a", "b", "c"])}
)
THREE = Space({"n": Int(1, 3)})
TEN = Space({"n": Int(0, 9)})


def quality(params: dict[str, Any]) -> float:
    return 2.0 * RECIPES.encode([params])[0].sum().item()


def noisy(seed: int) -> Any:
    draws = random.Random(seed)
    return lambda params: quality(params) + draws.gauss(0.0, 1.0)


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
def test_a_noisy_space_of_twelve_points_goes_on(acquisition: Any) -> None:
    result = minimize(noisy(0), RECIPES, budget=20, acquisition=acquisition, progress=False)
    assert (len(result.trials), result.stopped) == (20, None)
    assert len({str(trial.params) for trial in result.trials[:12]}) == 12
    assert [trial.provenance.get("repeat", False) for trial in result.trials] == [False] * 12 + [True] * 8


def test_repeats_go_where_the_best_may_be_and_the_recommendation_is_right() -> None:
    opt, f = Optimizer(RECIPES, seed=1), noisy(1)
    for _ in range(40):
        trial = opt.ask()
        opt.tell(trial, f(trial.params))
    better = sum(quality(trial.params) < 2.0 for trial in opt.trials[12:])
    assert better > 20  # of 28, where an even choice would be 14
    assert quality(opt.recommend()) < 1.0


@pytest.mark.parametrize("acquisition", [None, KnowledgeGradient()])
def test_noise_that_is_told_is_enough_of_three_points(acquisition: Any) -> None:
    opt = Optimizer(THREE, acquisition)
    for number in range(10):
        trial = opt.ask()
        opt.tell(trial, trial.params["n"] + 0.1 * (-1) ** number, std=0.1)
    assert len(opt.trials) == 10
    assert opt.ask(3)[2].provenance["repeat"]


def test_outcomes_of_one_point_that_differ_are_noise() -> None:
    opt = Optimizer(THREE)
    for n in (1, 2, 3, 3):
        opt.add({"n": n}, n + 0.1 * len(opt.trials))
    assert opt.ask().provenance["repeat"]


@pytest.mark.parametrize(
    ("space", "f", "repeats"),
    [
        (THREE, lambda p: p["n"] ** 2, 0),  # too few to tell
        (Space({"n": Int(0, 4), "m": Int(0, 4)}), lambda p: (p["n"] - 1.6) ** 2 + (p["m"] - 2.2) ** 2, 0),
        (TEN, lambda p: 7.0, 0),
        (
            TEN,
            lambda p: random.Random(p["n"]).random(),
            1,
        ),  # as rough as noise, until one repeat shows that it is not
        (TEN, lambda p: random.Random(p["n"]).randrange(3), 3),  # ties prove less
    ],
    ids=["three points", "smooth", "constant", "rough", "ties"],
)
def test_a_function_without_noise_ends_with_its_space(space: Space, f: Any, repeats: int) -> None:
    result = minimize(f, space, budget=40, progress=False)
    assert len(result.trials) == space.cardinality + repeats
    assert "there is no new one" in str(result.stopped)


def test_a_std_of_zero_says_that_there_is_no_noise() -> None:
    opt = Optimizer(TEN)
    for _ in range(10):
        trial = opt.ask()
        opt.tell(trial, random.Random(trial.params["n"]).random(), std=0.0)
    with pytest.raises(SpaceExhausted):
        opt.ask()


def test_points_that_failed_are_not_repeated_and_running_ones_only_last() -> None:
    opt = Optimizer(THREE)
    opt.add_failed({"n": 1}, "broken")
    opt.add({"n": 2}, 1.0, std=0.5)
    running = opt.ask()
    assert running.params == {"n": 3}
    assert opt.ask().params == {"n": 2}
    assert {trial.params["n"] for trial in opt.ask(4)} <= {2, 3}


def test_what_is_fixed_is_repeated_alone() -> None:
    opt = Optimizer(Space({"n": Int(0, 2), "m": Int(0, 2)}))
    for n in range(3):
        opt.add({"n": n, "m": 1}, float(n), std=0.3)
    trial = opt.ask(fixed={"n": 2, "m": 1})
    assert (trial.params, trial.provenance["repeat"]) == ({"n": 2, "m": 1}, True)


def test_a_resumed_run_repeats_the_same(tmp_path: Any) -> None:
    runs = []
    for storage in (None, tmp_path / "run.db"):
        opt, f = Optimizer(RECIPES, storage=storage), noisy(3)
        for number in range(18):
            if storage is not None and number == 15:
                opt.close()
                opt = Optimizer.resume(storage)
            trial = opt.ask()
            opt.tell(trial, f(trial.params))
        runs.append([trial.params for trial in opt.trials])
        opt.close()
    assert runs[0] == runs[1]

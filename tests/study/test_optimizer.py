import json
import math
import threading
from functools import partial
from pathlib import Path

import gpytorch
import numpy as np
import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import (
    AdaptiveImprovement,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.acquisition.outcome_scales import CANDIDATES
from bo_suite.errors import SpaceError, SpaceExhausted, StorageError, TrialError
from bo_suite.storage.serialization import to_json
from bo_suite.surrogates import ExactGP

SPACE = Space({"x": Float(-2, 2), "y": Float(1e-3, 1e3, log=True), "n": Int(1, 5), "k": Choice(["a", "b"])})
LINE = Space({"x": Float(-1, 2)})


def bowl(params: dict) -> float:
    return (
        (params["x"] - 0.5) ** 2 + math.log10(params["y"]) ** 2 + abs(params["n"] - 2) + (params["k"] == "b")
    )


def sin3(params: dict) -> float:
    return math.sin(3 * params["x"]) + params["x"] ** 2 - 0.7 * params["x"]


def drive(optimizer: Optimizer, count: int, function=bowl) -> list[dict]:
    points = []
    for _ in range(count):
        trial = optimizer.ask()
        points.append(trial.params)
        optimizer.tell(trial, function(trial.params))
    return points


ACQUISITIONS = [
    None,  # `AdaptiveImprovement()`, as provenance tells
    LogExpectedImprovement(),
    NoisyExpectedImprovement(),
    UpperConfidenceBound(beta=1.5),
]


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=str)
def test_the_minimum_of_a_line_is_found(acquisition: object) -> None:
    optimizer = Optimizer(LINE, acquisition=acquisition)
    drive(optimizer, 15, sin3)
    assert optimizer.best.value == pytest.approx(-0.5003596, abs=1e-3)


def test_a_mixed_space_beats_random_search_by_far() -> None:
    optimizer = Optimizer(SPACE)
    drive(optimizer, 20)
    rng = np.random.default_rng(0)
    random = [
        min(
            bowl(p)
            for p in SPACE.decode(SPACE.encoding.sample_from_unit(torch.from_numpy(rng.random((25, 4)))))
        )
        for _ in range(20)
    ]
    assert optimizer.best.value < 0.2 * float(np.median(random))


def test_maximize_mirrors_minimize() -> None:
    up, down = Optimizer(SPACE, direction="maximize"), Optimizer(SPACE)
    assert drive(up, 9, lambda params: -bowl(params)) == drive(down, 9)
    assert up.best.value == -down.best.value


def test_same_seed_same_points_and_another_seed_others() -> None:
    first = drive(Optimizer(SPACE, seed=3), 9)
    torch.manual_seed(1)
    assert drive(Optimizer(SPACE, seed=3), 9) == first
    assert drive(Optimizer(SPACE, seed=4), 3) != first[:3]


def test_the_first_point_is_the_centre() -> None:
    assert Optimizer(LINE).ask().params == {"x": 0.5}


@pytest.fixture(scope="module")
def eleven_points() -> list[dict]:
    return drive(Optimizer(SPACE, UpperConfidenceBound(beta=1.0), seed=1), 11)


@pytest.mark.parametrize("stop", [1, 6, 10])
def test_resume_continues_bit_for_bit(tmp_path: Path, stop: int, eleven_points: list[dict]) -> None:
    part = Optimizer(SPACE, UpperConfidenceBound(beta=1.0), seed=1, storage=tmp_path / "part.db")
    drive(part, stop)
    pending = part.ask()
    part.close()
    resumed = Optimizer.resume(tmp_path / "part.db")
    assert resumed.trials[-1] == pending
    resumed.tell(pending.id, bowl(pending.params))
    drive(resumed, 11 - stop - 1)
    assert [trial.params for trial in resumed.trials] == eleven_points


def test_an_acquisition_with_a_foreign_kernel_must_be_given_again(tmp_path: Path) -> None:
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    acquisition = LogExpectedImprovement(surrogate=ExactGP(kernel=kernel))
    optimizer = Optimizer(LINE, acquisition, storage=tmp_path / "run.db")
    drive(optimizer, 6, sin3)
    optimizer.close()
    with pytest.raises(StorageError, match="must be given again"):
        Optimizer.resume(tmp_path / "run.db")
    drive(Optimizer.resume(tmp_path / "run.db", acquisition), 1, sin3)


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=str)
def test_batches_are_distinct_spread_and_pending_aware(acquisition: object) -> None:
    optimizer, alone = Optimizer(LINE, acquisition=acquisition), Optimizer(LINE, acquisition=acquisition)
    for one in (optimizer, alone):
        for x in np.linspace(-1, 2, 8):
            one.add({"x": float(x)}, sin3({"x": float(x)}))
    batch = optimizer.ask(4)
    assert [trial.id for trial in batch] == [8, 9, 10, 11]
    places = sorted(trial.params["x"] for trial in batch)
    assert min(np.diff(places)) > 1e-4
    one_by_one = [alone.ask() for _ in range(4)]
    assert [trial.params for trial in one_by_one] == [trial.params for trial in batch]


def test_where_all_failed_new_points_come_and_the_reason_is_told() -> None:
    optimizer = Optimizer(LINE)
    for _ in range(12):
        optimizer.fail(optimizer.ask(), "broken")
    assert len({trial.params["x"] for trial in optimizer.trials}) == 12
    with pytest.raises(TrialError, match="none finished; 12 failed, the last with: broken"):
        _ = optimizer.best


def test_outside_observations_count() -> None:
    optimizer = Optimizer(LINE)
    for x in np.linspace(-1, 2, 8):
        optimizer.add({"x": float(x)}, sin3({"x": float(x)}))
    trial = optimizer.ask()
    assert trial.provenance["source"] == "acquisition"
    assert abs(trial.params["x"] + 0.36) < 0.4


@pytest.mark.parametrize(
    "outcome",
    [
        lambda i: 1.0,
        lambda i: 1e300 * (1 if i % 2 else -1),
        lambda i: 1e300 + i,
        lambda i: 1e-300 * i,
        lambda i: 10.0 ** (55 * i - 200),
        lambda i: 0.0 if i else 1e308,
    ],
    ids=["constant", "huge", "huge constant", "tiny", "many magnitudes", "one outlier"],
)
def test_odd_outcomes_still_give_new_valid_points(outcome) -> None:
    optimizer = Optimizer(SPACE)
    for step in range(9):
        trial = optimizer.ask()
        SPACE.check(trial.params)
        optimizer.tell(trial, outcome(step))
    assert len({tuple(trial.params.values()) for trial in optimizer.trials}) == 9
    assert not any("fallback" in trial.provenance for trial in optimizer.trials)


def test_fifty_observations_of_one_point() -> None:
    optimizer = Optimizer(LINE)
    for step in range(50):
        optimizer.add({"x": 0.3}, 1.0 + 0.01 * (step % 5))
    trial = optimizer.ask()
    assert trial.params["x"] != 0.3
    assert "fallback" not in trial.provenance


def test_one_observation_is_enough_to_go_on() -> None:
    optimizer = Optimizer(LINE, budget=4)
    optimizer.tell(optimizer.ask(), 1.0)
    optimizer.tell(optimizer.ask(), 2.0)
    assert optimizer.ask().provenance["source"] == "acquisition"


def test_a_finite_space_is_exhausted_without_a_repeat_and_says_so() -> None:
    optimizer = Optimizer(Space({"n": Int(1, 3), "k": Choice(["a", "b"])}))
    points = drive(optimizer, 6, lambda params: params["n"])
    assert len({tuple(point.values()) for point in points}) == 6
    with pytest.raises(SpaceExhausted, match="all 6 points"):
        optimizer.ask()
    result = minimize(lambda p: p["n"], Space({"n": Int(1, 3), "k": Choice(["a", "b"])}), 20, progress=False)
    assert len(result.trials) == 6
    assert "all 6 points" in result.stopped


def test_a_batch_ends_with_the_space() -> None:
    optimizer = Optimizer(Space({"n": Int(1, 3), "k": Choice(["a", "b"])}))
    drive(optimizer, 4, lambda params: params["n"])
    assert len(optimizer.ask(4)) == 2
    with pytest.raises(SpaceExhausted):
        optimizer.ask(4)


def test_noise_told_with_std_moves_the_recommendation() -> None:
    optimizer = Optimizer(LINE)
    for x in np.linspace(-1, 2, 9):
        optimizer.add({"x": float(x)}, sin3({"x": float(x)}), std=0.01)
    optimizer.add({"x": 1.9}, -3.0, std=10.0)  # the best value, and worth nothing
    assert optimizer.best.params["x"] == 1.9
    assert abs(optimizer.recommend()["x"] + 0.36) < 0.4


def test_refusals_name_the_law_and_lose_nothing() -> None:
    optimizer = Optimizer(LINE)
    trial = optimizer.ask()
    for act, message in (
        (lambda: optimizer.tell(trial, math.nan), r"fail\(\)"),
        (lambda: optimizer.tell(trial, math.inf), r"fail\(\)"),
        (lambda: optimizer.tell(99, 1.0), "unknown id 99"),
        (lambda: optimizer.ask(0), "`count >= 1` must hold, got 0"),
        (lambda: Optimizer(LINE, budget=0), "`budget >= 1` must hold, got 0"),
        (lambda: Optimizer(LINE, direction="up"), "direction must be"),
        (lambda: Optimizer(LINE, acquisition="ei"), "must be an object with a `build` method, got 'ei'"),
        (lambda: Optimizer(LINE, acquisition=UpperConfidenceBound), "must be an object with a `build`"),
        (lambda: Optimizer(LINE, seed=1.5), "seed must be an integer, got 1.5"),
        (lambda: Optimizer(LINE, budget=math.nan), "budget must be an integer, got nan"),
        (lambda: optimizer.ask(2.0), "count must be an integer, got 2.0"),
        (lambda: optimizer.tell("0", 1.0), "a trial's id must be an integer, got '0'"),
        (lambda: Optimizer(SPACE).tell(trial, 1.0), "one of another"),
        (lambda: minimize(sin3, LINE, budget=0), "`budget >= 1` must hold"),
        (lambda: minimize(sin3, LINE, workers=0), "`workers >= 1` must hold"),
        (lambda: minimize(partial(sin3, lock=threading.Lock()), LINE, workers=2), "must be picklable"),
    ):
        with pytest.raises(TrialError, match=message):
            act()
    assert optimizer.trials == [trial]
    optimizer.tell(trial, 1.0)
    with pytest.raises(TrialError, match="already finished"):
        optimizer.tell(trial, 2.0)
    with pytest.raises(TrialError, match="already finished"):
        optimizer.fail(trial, "late")
    assert optimizer.best.value == 1.0


def test_provenance_and_frame_tell_how_a_point_came_about() -> None:
    optimizer = Optimizer(SPACE)
    drive(optimizer, 8)
    source = optimizer.trials[-1].provenance
    assert source["acquisition"] == repr(AdaptiveImprovement())
    assert source["observations"] == 7
    assert len(source["hyperparameters"]) == (CANDIDATES + 1) * (SPACE.dim + 2)
    assert source["fit_ms"] > 0
    assert source["search_ms"] > 0
    json.dumps(dict(source), allow_nan=False)
    frame = optimizer.to_frame()
    assert list(frame["param_k"]) == [trial.params["k"] for trial in optimizer.trials]
    assert list(frame["state"]) == ["finished"] * 8


@pytest.mark.slow
def test_clustered_noiseless_data_need_no_fallback() -> None:
    optimizer = Optimizer(LINE)
    drive(optimizer, 90, sin3)
    assert not any("fallback" in trial.provenance for trial in optimizer.trials)


def test_what_a_later_open_changes_is_resumed(tmp_path: Path) -> None:
    storage = tmp_path / "run.db"
    Optimizer(LINE, storage=storage).close()
    changed = Optimizer(LINE, UpperConfidenceBound(beta=9.0), budget=3, storage=storage)
    drive(changed, 5, sin3)
    changed.close()
    again, resumed = Optimizer(LINE, storage=storage), Optimizer.resume(storage)
    assert "UpperConfidenceBound(beta=9.0" in again.ask().provenance["acquisition"]
    assert "UpperConfidenceBound(beta=9.0" in resumed.ask().provenance["acquisition"]


def test_a_huge_std_tells_nothing_and_harms_nothing() -> None:
    optimizer = Optimizer(LINE)
    drive(optimizer, 7, sin3)
    trial = optimizer.tell(optimizer.ask(), -100.0, std=1e200)
    assert "fallback" not in optimizer.ask().provenance
    assert optimizer.recommend() != trial.params


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    optimizer = Optimizer(LINE, seed=np.int64(2), budget=np.int64(5), storage=tmp_path / "run.db")
    drive(optimizer, 2, sin3)
    optimizer.close()
    assert Optimizer.resume(tmp_path / "run.db").ask().params
    form = to_json(UpperConfidenceBound(beta=np.float64(0.5)))
    assert json.loads(json.dumps(form))["fields"]["beta"] == 0.5


def test_a_recommendation_without_noise_is_no_worse_than_the_best_and_needs_a_finished_trial() -> None:
    optimizer = Optimizer(LINE)
    with pytest.raises(
        TrialError, match="nothing can be recommended before a trial has finished, got 0 trials"
    ):
        optimizer.recommend()
    drive(optimizer, 12, sin3)
    assert sin3(optimizer.recommend()) <= optimizer.best.value + 1e-4
    small = Optimizer(Space({"n": Int(1, 2)}))
    drive(small, 2, lambda params: params["n"])
    assert small.recommend() == {"n": 1}  # nothing else is left to look at


def test_a_failure_from_elsewhere_is_stored_and_avoided(tmp_path) -> None:
    space = Space({"x": Float(0.0, 1.0)})
    opt = Optimizer(space, storage=tmp_path / "run.db", direction="maximize")
    failed = opt.add_failed({"x": 0.25}, "diverged")
    assert (failed.state, failed.reason, failed.asked, failed.value) == ("failed", "diverged", False, None)
    for x in (0.1, 0.3, 0.5, 0.7, 0.9):
        opt.add({"x": x}, x)
    opt.close()
    again = Optimizer.resume(tmp_path / "run.db")
    assert again.trials[0] == failed
    assert abs(again.ask().params["x"] - 0.25) > 0.1
    with pytest.raises(SpaceError, match="must hold, got 2"):
        again.add_failed({"x": 2.0}, "outside")

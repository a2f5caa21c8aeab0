"""Rules that end a run, and the regret bound behind one of them."""

import logging
import math
import time
from pathlib import Path

import pytest
import torch
from torch.quasirandom import SobolEngine

from bo_suite import Float, Int, Optimizer, Space, Trial, minimize
from bo_suite.errors import DataError, FitError, TrialError
from bo_suite.problems import get_problem
from bo_suite.run.stopping import RegretBelow, TargetValue, TimeLimit

SPACE = Space({"x": Float(-1, 2)})


def parabola(params: dict) -> float:
    return (params["x"] - 0.3) ** 2


def told(values: list[float], direction: str = "minimize", std: float | None = None) -> Optimizer:
    """An Optimizer that has seen the values, at points in the order of the values."""
    optimizer = Optimizer(SPACE, direction=direction)
    for place, value in enumerate(values):
        optimizer.add({"x": -1 + 3 * place / len(values)}, value, std)
    return optimizer


def spread(space: Space, count: int) -> list[dict]:
    """Sobol points."""
    rows = SobolEngine(space.dim, scramble=True, seed=count).draw(count, dtype=torch.float64)
    return space.decode(rows)


def last(optimizer: Optimizer) -> Trial:
    return optimizer.trials[-1]


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan])
def test_a_time_limit_is_positive(seconds: float) -> None:
    with pytest.raises(DataError, match="`seconds > 0` must hold, got"):
        TimeLimit(seconds)


def test_a_target_is_finite_and_a_regret_bound_positive_with_a_width() -> None:
    with pytest.raises(DataError, match="a target value must be finite, got inf"):
        TargetValue(math.inf)
    with pytest.raises(DataError, match="`bound > 0` must hold, got 0"):
        RegretBelow(0)
    with pytest.raises(DataError, match="`0 < width < inf` must hold, got 0"):
        RegretBelow(width=0)
    with pytest.raises(TrialError, match="`every >= 1` must hold, got 0"):
        RegretBelow(every=0)
    with pytest.raises(TrialError, match="`after >= 1` must hold, got 0"):
        RegretBelow(after=0)
    with pytest.raises(TrialError, match="`0 < width < inf` must hold, got 0"):
        told([1.0]).regret_bound(0)


def slow(params: dict) -> float:
    time.sleep(0.1)
    return float(params["x"])


def test_a_run_ends_when_its_time_is_over_also_when_it_goes_on_later(tmp_path: Path) -> None:
    limit, storage = TimeLimit(0.3), tmp_path / "run.db"
    first = minimize(slow, SPACE, storage=storage, progress=False, callbacks=[limit])
    assert first.stopped == "the 0.3 seconds are over"
    assert 1 <= len(first.trials) <= 4
    time.sleep(0.3)  # nobody works on the run: that is no time of it
    again = minimize(slow, SPACE, storage=storage, progress=False, callbacks=[limit, TimeLimit(1000)])
    assert again.stopped == "the 0.3 seconds are over"
    assert 1 <= len(again.trials) - len(first.trials) <= 4
    assert {trial.state for trial in again.trials} == {"finished"}


def test_a_run_ends_when_its_target_is_reached() -> None:
    result = minimize(parabola, SPACE, progress=False, callbacks=[TargetValue(0.01)])
    assert len(result.trials) < 50
    assert result.best == result.trials[-1], "no point is chosen after it"
    assert result.best.value <= 0.01
    assert result.stopped == f"trial {result.best.id} reached the target 0.01 with {result.best.value:g}"


def test_a_target_is_reached_from_the_side_of_the_direction() -> None:
    for direction, reached in (("minimize", 2.0), ("maximize", 3.0)):
        optimizer = told([2.0, 3.0], direction)
        assert TargetValue(reached)(optimizer, last(optimizer)) is not None
        beyond = 1.9 if direction == "minimize" else 3.1
        assert TargetValue(beyond)(optimizer, last(optimizer)) is None


def test_only_values_at_the_target_fidelity_reach_a_target() -> None:
    optimizer = Optimizer(Space({"x": Float(0, 1), "epochs": Float(1, 9, fidelity=True)}))
    failed = optimizer.fail(optimizer.ask(), "no luck")
    assert TargetValue(0.5)(optimizer, failed) is None
    low = optimizer.add({"x": 0.1, "epochs": 3.0}, 0.1)
    assert TargetValue(0.5)(optimizer, low) is None
    high = optimizer.add({"x": 0.1, "epochs": 9.0}, 0.4)
    assert TargetValue(0.5)(optimizer, high) == "trial 2 reached the target 0.5 with 0.4"


def test_the_regret_bound_holds_and_shrinks_on_a_smooth_function() -> None:
    problem = get_problem("branin")
    optimizer = Optimizer(problem.space)
    seen = []
    for count in (15, 35):
        for params in spread(problem.space, count):
            optimizer.add(params, problem(params))
        found = optimizer.regret_bound()
        assert 0 <= found.trial.value - problem.minimum <= found.value
        seen.append(found.value)
    assert seen[1] < seen[0] < 200.0


def test_the_regret_bound_grows_with_its_width_and_lets_nothing_move() -> None:
    values = [math.sin(4 * place) + place / 10 for place in range(10)]
    optimizer = told(values)
    found = [optimizer.regret_bound(width).value for width in (0.5, 2.0, 4.0)]
    assert found[0] < found[1] < found[2]
    assert optimizer.regret_bound() == optimizer.regret_bound()


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_regret_bound_is_in_the_users_units_and_mirrored(scale: float) -> None:
    values = [math.sin(4 * place) + place / 10 for place in range(10)]
    plain = told(values).regret_bound()
    for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
        found = told([sign * scale * value for value in values], direction).regret_bound()
        assert found.value == pytest.approx(scale * plain.value, rel=1e-3)
        assert found.noise == pytest.approx(scale * plain.noise, rel=1e-3)
        assert found.trial.id == plain.trial.id


def test_the_noise_of_the_bound_is_the_told_one() -> None:
    values = [math.sin(4 * place) + place / 10 for place in range(10)]
    assert told(values, std=0.25).regret_bound().noise == 0.25
    assert told(values).regret_bound().noise != 0.25


def test_failed_trials_are_never_what_the_bound_is_about() -> None:
    optimizer = Optimizer(SPACE)
    with pytest.raises(TrialError, match="there is no regret bound before a trial has finished, got 0"):
        optimizer.regret_bound()
    for place in range(8):
        trial = optimizer.ask()
        if place % 2:
            optimizer.tell(trial, parabola(trial.params))
        else:
            optimizer.fail(trial, "no luck")
    optimizer.ask()  # runs
    found = optimizer.regret_bound()
    assert found.trial.state == "finished"
    assert found.value >= 0


def test_a_finite_space_that_was_seen_whole_has_a_regret_bound() -> None:
    optimizer = Optimizer(Space({"n": Int(0, 4)}))
    for n in range(5):
        optimizer.add({"n": n}, float((n - 2) ** 2))
    found = optimizer.regret_bound()
    assert found.trial.params == {"n": 2}
    assert 0 <= found.value < 10


def test_a_run_ends_when_its_regret_bound_is_below_what_matters() -> None:
    rule = RegretBelow(0.05, after=6)
    result = minimize(parabola, SPACE, budget=30, progress=False, callbacks=[rule])
    assert result.stopped.startswith(f"the regret of trial {result.best.id} is below 0.0")
    assert result.stopped.endswith("within 0.05")
    assert 6 <= len(result.trials) < 30
    assert result.best.value <= 0.05


@pytest.mark.parametrize("noise", [None, 0.3])
def test_without_a_bound_a_run_ends_below_the_noise(noise: float | None) -> None:
    optimizer = Optimizer(SPACE)
    for place in range(24):
        x = -1 + place / 8
        optimizer.add({"x": x}, parabola({"x": x}) + 0.3 * math.sin(40 * place), noise)
    found = optimizer.regret_bound(1.0)
    assert RegretBelow(width=1.0, after=24)(optimizer, last(optimizer)) is not None
    assert found.value <= found.noise
    assert found.noise == pytest.approx(noise or 0.21, rel=0.5)
    assert RegretBelow(after=24)(optimizer, last(optimizer)) is None, "a wider bound has more to say"


def test_the_bound_is_asked_for_now_and_then_and_not_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(self: Optimizer, width: float | None = None) -> object:
        asked.append(sum(trial.state == "finished" for trial in self.trials))
        raise FitError("no luck")

    monkeypatch.setattr(Optimizer, "regret_bound", spy)
    optimizer, rule = Optimizer(SPACE), RegretBelow(1.0, after=4, every=3)
    for place in range(12):
        optimizer.add({"x": place / 10}, float(place))
        assert rule(optimizer, last(optimizer)) is None
    assert asked == [6, 9, 12]


def test_a_model_that_cannot_be_fitted_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Optimizer, width: float | None = None) -> object:
        raise FitError("no luck")

    monkeypatch.setattr(Optimizer, "regret_bound", fails)
    with caplog.at_level(logging.WARNING, "bo_suite"):
        result = minimize(parabola, SPACE, budget=3, progress=False, callbacks=[RegretBelow(0.1, after=3)])
    assert result.stopped is None
    assert "the regret bound is unknown, since the model failed: no luck" in caplog.text

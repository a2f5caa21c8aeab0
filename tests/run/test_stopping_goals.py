"""Rules that end a run, of runs with constraints and with several objectives."""

from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.errors import TrialError
from bo_suite.run.stopping import RegretBelow, TargetValue, TimeLimit

SPACE = Space({"x": Float(0.0, 1.0)})
LIMITS = {"size": (None, 6.0)}
TWO = {"a": "minimize", "b": "minimize"}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_target_counts_feasible_trials(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = Optimizer(SPACE, direction={"loss": direction}, constraints=LIMITS)
    rule = TargetValue(sign * 1.0)
    for told in (
        {"loss": sign * 0.5, "size": 9.0},
        {"size": 1.0},
        {"loss": sign * 0.5},
        {"loss": sign * 2.0, "size": 1.0},
    ):
        trial = optimizer.add({"x": 0.5}, told)
        assert rule(optimizer, trial) is None
    trial = optimizer.add({"x": 0.5}, {"loss": sign * 0.75, "size": 6.0})
    assert rule(optimizer, trial) == f"trial 4 reached the target {sign:g} with {sign * 0.75:g}"
    optimizer.extend({"x": Float(0.6, 1.0)})  # all trials are outside
    assert rule(optimizer, trial) is None


def test_a_run_ends_at_the_first_feasible_value_that_is_as_good() -> None:
    def f(params: dict) -> dict[str, float]:
        return {"loss": -params["x"], "size": 10 * params["x"]}

    result = minimize(
        f,
        SPACE,
        20,
        direction={"loss": "minimize"},
        constraints=LIMITS,
        callbacks=[TargetValue(-0.4)],
        progress=False,
    )
    *before, last = result.trials
    assert 0.4 <= last.params["x"] <= 0.6
    assert not any(0.4 <= trial.params["x"] <= 0.6 for trial in before)
    assert result.stopped == f"trial {last.id} reached the target -0.4 with {-last.params['x']:g}"


def never(params: dict) -> dict[str, float]:
    raise AssertionError("nothing may be evaluated")


@pytest.mark.parametrize(
    ("rule", "direction", "constraints", "sentence"),
    [
        (
            TargetValue(0.0),
            TWO,
            None,
            "a target value is of a run with one objective, got minimize a, minimize b",
        ),
        (RegretBelow(0.1), TWO, None, "a regret bound is of a run with one objective and no constraint, got"),
        (RegretBelow(), "minimize", LIMITS, "a regret bound .* got minimize value, size <= 6"),
    ],
)
def test_a_rule_that_says_nothing_is_refused_before_anything_is_evaluated(
    rule: TargetValue | RegretBelow, direction: object, constraints: object, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    with pytest.raises(TrialError, match=sentence):
        minimize(
            never,
            SPACE,
            direction=direction,
            constraints=constraints,
            callbacks=[TimeLimit(60.0), rule],
            storage=path,
            progress=False,
        )
    assert not path.exists()
    optimizer = Optimizer(SPACE, direction=direction, constraints=constraints)
    trial = optimizer.add({"x": 0.5}, dict.fromkeys(optimizer.goals.names, 1.0))
    with pytest.raises(TrialError, match=sentence):
        rule(optimizer, trial)

"""Functions that return a value and its gradient: in this process, in workers, with reports, with bugs."""

import concurrent.futures as futures
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.errors import TrialError
from bo_suite.run.evaluate import Expected, evaluate
from bo_suite.run.schedulers import ASHA
from bo_suite.run.worker import work
from bo_suite.storage.goals import Goals

SPACE = Space(
    {"x": Float(-1.0, 2.0), "k": Choice(["a", "b"]), "n": Int(1, 3), "y": Float(0.0, 1.0, when={"k": "b"})}
)


def sloped(params: dict[str, Any]) -> tuple[float, dict[str, float]]:
    return params["x"] ** 2, {"x": 2.0 * params["x"]}


def checked(trials: Any) -> None:
    for trial in trials:
        assert trial.gradient == {"x": 2.0 * trial.params["x"]}
        assert trial.value == trial.params["x"] ** 2


@pytest.mark.parametrize("executor", [None, futures.ThreadPoolExecutor])
def test_gradients_are_stored_with_their_values(executor: Any) -> None:
    result = minimize(sloped, SPACE, 3, workers=1, executor=executor, progress=False)
    assert len(result.trials) == 3
    checked(result.trials)


def test_a_worker_process_returns_them_too(tmp_path: Path) -> None:
    optimizer = Optimizer(SPACE, storage=tmp_path / "run.db", budget=2)
    checked(work(sloped, optimizer).trials)
    assert Optimizer.resume(tmp_path / "run.db").trials[0].gradient is not None


def test_outcomes_by_name_and_reports_may_come_with_one() -> None:
    def named(params: dict[str, Any]) -> Any:
        error = math.nan if params["n"] == 2 else params["x"] ** 2
        return {"error": error, "memory": 1.0}, {"x": 2.0 * params["x"]}

    goals: Any = {"direction": {"error": "minimize"}, "constraints": {"memory": (None, 2.0)}}
    for trial in minimize(named, SPACE, 6, progress=False, **goals).trials:
        expected = None if trial.params["n"] == 2 else {"x": 2.0 * trial.params["x"]}
        assert trial.gradient == expected

    def reported(params: dict[str, Any], report: Any) -> Any:
        return None if report(1, 3.0) == "stop" else sloped(params)

    result = minimize(reported, SPACE, 3, progress=False, scheduler=ASHA(9))
    finished = [trial for trial in result.trials if trial.state == "finished"]
    assert finished
    checked(finished)
    assert all(trial.gradient is None for trial in result.trials if trial.state == "stopped")


def test_none_stands_for_no_gradient_and_numbers_are_none() -> None:
    result = minimize(lambda params: (params["x"], None), SPACE, 2, progress=False)
    assert [trial.gradient for trial in result.trials] == [None, None]
    with pytest.raises(TrialError, match=r"must return a number, got .* take one of its items"):
        minimize(lambda params: (params["x"], 1.0), SPACE, 2, progress=False)


def test_a_derivative_that_is_not_finite_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    with caplog.at_level(logging.WARNING, "bo_suite"):
        result = minimize(lambda p: (p["x"], {"x": 1.0, "y": math.nan}), space, 1, progress=False)
    assert result.trials[0].gradient == {"x": 1.0}
    assert "trial 0: derivatives that are not finite are left out, by ['y']" in caplog.text
    infinite = minimize(lambda p: (p["x"], {"x": -math.inf}), space, 1, progress=False)
    assert (infinite.trials[0].state, infinite.trials[0].gradient) == ("finished", None)


BUGS: dict[str, tuple[Any, str]] = {
    "choice": ({"k": 1.0}, "by a Float, got one by 'k', which is a Choice"),
    "int": ({"n": 1.0}, "by a Float, got one by 'n', which is an Int"),
    "unknown": ({"z": math.nan}, "got 'z'"),
    "list": ([1.0], "a gradient must be a dict"),
    "text": ({"x": "steep"}, "the derivative by 'x' must be a finite number"),
}


@pytest.mark.parametrize("case", BUGS)
def test_a_wrong_gradient_is_a_bug_until_an_evaluation_has_finished(case: str) -> None:
    gradient, law = BUGS[case]
    with pytest.raises(TrialError, match=f"the function returned a wrong gradient: .*{law}"):
        minimize(lambda params: (1.0, gradient), SPACE, 2, progress=False)
    calls = []

    def later(params: dict[str, Any]) -> Any:
        calls.append(params)
        return (1.0, gradient) if len(calls) == 2 else 1.0

    trials = minimize(later, SPACE, 3, progress=False).trials
    assert [trial.state for trial in trials] == ["finished", "failed", "finished"]
    assert "wrong gradient" in (trials[1].reason or "")


def test_several_objectives_have_none_and_inactive_parameters_have_none() -> None:
    law = "must be that of a single objective"
    goals: Any = {"a": "minimize", "b": "minimize"}
    with pytest.raises(TrialError, match=law):
        minimize(lambda p: ({"a": 1.0, "b": 2.0}, {"x": 1.0}), SPACE, 2, progress=False, direction=goals)
    point = {"x": 0.5, "k": "a", "n": 1}
    with pytest.raises(TrialError, match="active at the point, got 'y'"):
        minimize(lambda p: (1.0, {"y": 1.0}), SPACE, 1, progress=False, start=[point])


def test_a_parameter_that_the_space_got_during_the_run_may_have_a_derivative() -> None:
    expected = Expected(Goals.of("minimize", None), {"x": "Float"})
    outcome = evaluate(lambda _: (1.0, {"x": 2.0, "late": 3.0}), expected, {"x": 0.5, "late": 0.1}, True)
    assert outcome.gradient == {"x": 2.0, "late": 3.0}

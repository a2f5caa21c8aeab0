"""Models, recommendations and bounds of runs in which some trials have only reported."""

from pathlib import Path

import pytest
import torch

from bo_suite import Float, Int, Optimizer, Space
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.plot import plot_slices
from bo_suite.plot.cross_validation import held_out
from bo_suite.plot.run import closeness
from bo_suite.run.schedulers import ASHA, PASHA
from bo_suite.study.scheduling import Scheduler

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def scheduled(count: int, scheduler: Scheduler, space: Space = SPACE) -> Optimizer:
    """A run of some trials, which report up to the last step; the last one has not reported it."""
    optimizer = Optimizer(space, scheduler=scheduler, initial=count)
    for _ in range(count):
        trial = optimizer.ask()
        value = sum((number - 0.3) ** 2 for number in trial.params.values())
        for step in range(trial.step + 1, 10):
            if optimizer.report(trial, step, value + 1.0 / step) == "stop":
                break
        else:
            optimizer.tell(trial, value)
    return optimizer


@pytest.fixture(scope="module")
def run() -> Optimizer:
    return scheduled(10, ASHA(9))


def test_the_rows_of_a_belief_are_those_of_finished_trials(run: Optimizer) -> None:
    belief = run.belief()
    assert {trial.state for trial in run.trials} == {"finished", "stopped"}
    assert len(belief.data.x) == len(run.trials) > len(belief.trials)
    at_rows = belief.data.x[belief.rows]
    assert torch.equal(at_rows, belief.encode([trial.params for trial in belief.trials]))
    told = torch.tensor([trial.value for trial in belief.trials], dtype=torch.float64)
    assert torch.allclose(belief.data.y[belief.rows], belief.transform(told))


def test_figures_show_finished_trials(run: Optimizer) -> None:
    belief = run.belief()
    assert len(closeness(belief, {"x": 0.5, "y": 0.5}, ["x"])) == len(belief.trials)
    held = held_out(belief)
    told = torch.tensor([trial.value for trial in belief.trials], dtype=torch.float64)
    assert torch.allclose(held.outcomes, belief.capped(told))
    assert plot_slices(run)


def test_importance_is_learnt_from_finished_trials(run: Optimizer) -> None:
    alone = Optimizer(SPACE)
    for trial in run.trials:
        if trial.state == "finished":
            alone.add(trial.params, trial.value)
    importance, expected = run.importance(), alone.importance()
    assert importance.loc[["x", "y"], "total"].tolist() == pytest.approx(
        expected.loc[["x", "y"], "total"].tolist(), abs=0.05
    )


def test_a_regret_bound_is_of_a_finished_trial(run: Optimizer) -> None:
    trial = run.regret_bound().trial
    assert trial.state == "finished"
    assert trial.value == pytest.approx(run.best.value, abs=0.05)


def test_a_run_without_a_finished_trial_has_a_recommendation() -> None:
    optimizer = scheduled(7, PASHA(9))
    assert not any(trial.state == "finished" for trial in optimizer.trials)
    with pytest.raises(TrialError, match=r"none finished; \d stopped or paused: see `recommend`"):
        _ = optimizer.best
    assert SPACE.contains(optimizer.recommend())


def test_what_is_expected_of_stopped_trials_is_no_sign_of_noise() -> None:
    optimizer = scheduled(3, ASHA(9), Space({"n": Int(1, 3)}))
    assert {trial.state for trial in optimizer.trials} == {"finished", "stopped"}
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


def test_a_scheduler_that_does_not_fit_a_stored_run_is_refused(tmp_path: Path) -> None:
    Optimizer(Space({"x": Float(0.0, 1.0), "n": Int(1, 9, fidelity=True)}), storage=tmp_path / "a.db").close()
    with pytest.raises(TrialError, match="either a scheduler or fidelities"):
        Optimizer.resume(tmp_path / "a.db", scheduler=ASHA(9))
    goals = {"error": "minimize", "size": "minimize"}
    Optimizer(SPACE, direction=goals, storage=tmp_path / "b.db").close()
    with pytest.raises(TrialError, match="one objective"):
        Optimizer.resume(tmp_path / "b.db", scheduler=ASHA(9))


def test_a_scheduler_with_fewer_steps_than_were_reported_may_follow(tmp_path: Path) -> None:
    with_all = Optimizer(SPACE, storage=tmp_path / "run.db", initial=2)
    for index in range(4):
        trial = with_all.ask()
        for step in (25, 50, 75):
            with_all.report(trial, step, 1.0 / step + index)
    with_all.close()
    optimizer = Optimizer.resume(tmp_path / "run.db", scheduler=ASHA(50))
    trial = optimizer.ask()
    with pytest.raises(TrialError, match="at most max_step = 50"):
        optimizer.report(trial, 51, 0.0)
    assert optimizer.report(trial, 1, 0.0) == "continue"

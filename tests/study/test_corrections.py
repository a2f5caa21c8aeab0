"""Amended and forgotten trials: what the model sees, what is kept, and the same suggestions everywhere."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import SpaceError, TrialError

SPACE = Space({"x": Float(-1.0, 2.0), "y": Float(0.0, 1.0)})


def loss(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2)


def run(opt: Optimizer, steps: int) -> None:
    for _ in range(steps):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params))


def test_the_model_believes_an_amended_outcome() -> None:
    opt = Optimizer(SPACE, seed=1)
    run(opt, 12)
    best = opt.best
    opt.amend(best, 50.0)
    assert opt.best.id != best.id
    assert opt.trial(best.id).value == 50.0
    opt.amend(best.id, best.value)
    assert opt.best.value == best.value
    changes = opt.to_frame(history=True)
    assert changes["action"].tolist() == ["amend", "amend"]
    assert changes["before_value"].tolist() == [best.value, 50.0]
    assert changes["after_value"].tolist() == [50.0, best.value]
    assert changes["author"].str.contains("@").all()
    assert changes["made"].is_monotonic_increasing


def test_a_typo_corrected_is_a_typo_never_made() -> None:
    """Up to the start of the fit, a corrected run suggests what a run without the typo does."""
    clean, corrected = Optimizer(SPACE, seed=2), Optimizer(SPACE, seed=2)
    for opt, factor in ((clean, 1.0), (corrected, 1000.0)):
        for number in range(8):
            trial = opt.ask(fixed={"x": 0.25 * number - 0.9, "y": 0.1 * number})
            opt.tell(trial, loss(trial.params) * (factor if number == 3 else 1.0))
    corrected.amend(3, loss(corrected.trial(3).params))
    first, second = clean.ask(), corrected.ask()
    assert (first.params["x"], first.params["y"]) == pytest.approx(
        (second.params["x"], second.params["y"]), abs=0.02
    )


def test_a_forgotten_trial_teaches_nothing_and_may_be_suggested_again() -> None:
    opt = Optimizer(SPACE, seed=1)
    run(opt, 8)
    opt.add({"x": 0.9, "y": 0.9}, -99.0)
    assert opt.best.id == 8
    forgotten = opt.forget(8, "wrong bottle")
    assert (forgotten.state, forgotten.reason) == ("withdrawn", "wrong bottle")
    assert opt.best.id != 8
    assert opt.trial(8) == forgotten
    assert opt.to_frame(history=True)[["before_state", "after_state"]].values.tolist() == [
        ["finished", "withdrawn"]
    ]
    opt.amend(8, 1.0)
    assert opt.trial(8).value == 1.0


def test_all_forgotten_is_a_run_without_a_best_trial() -> None:
    opt = Optimizer(SPACE)
    run(opt, 3)
    for number in range(3):
        opt.forget(number)
    with pytest.raises(TrialError, match="no best trial"):
        _ = opt.best
    assert opt.ask().id == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda opt: opt.amend(7, 1.0), "unknown id 7"),
        (lambda opt: opt.forget(7), "unknown id 7"),
        (lambda opt: opt.amend(0, math.inf), "finite"),
        (lambda opt: opt.amend(0, "0.3"), "finite"),
        (lambda opt: opt.amend(0, 1.0, std=-1.0), "std"),
        (lambda opt: opt.amend("0", 1.0), "id"),
    ],
)
def test_wrong_corrections_are_refused_and_nothing_is_lost(call: Any, message: str) -> None:
    opt = Optimizer(SPACE)
    run(opt, 2)
    before = opt.trials
    with pytest.raises(TrialError, match=message):
        call(opt)
    assert opt.trials == before
    assert len(opt.to_frame(history=True)) == 0


def test_another_process_sees_the_correction_and_suggests_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(SPACE, seed=3, storage=path)) as opt, closing(Optimizer.resume(path)) as other:
        run(opt, 9)
        assert other.best.value == opt.best.value
        opt.amend(4, 7.0)
        opt.forget(2)
        assert other.trials == opt.trials
        assert other.trial(2).state == "withdrawn"
        suggested = other.ask()
    with closing(Optimizer(SPACE, seed=3)) as replayed:
        for trial in opt_trials(path)[:9]:
            copy = replayed.ask()
            assert copy.params == trial.params
            replayed.tell(copy, loss(copy.params))
        replayed.amend(4, 7.0)
        replayed.forget(2)
        assert replayed.ask().params == suggested.params


def test_a_correction_loosens_no_check_of_the_file(tmp_path: Path) -> None:
    """Points outside of the space are accepted only once the space was changed."""
    with closing(Optimizer(SPACE, storage=tmp_path / "run.db")) as opt:
        run(opt, 2)
        opt.amend(0, 1.0)
        with pytest.raises(SpaceError):
            opt._history.header.canonical({"x": 9.0, "y": 0.5})
        opt.extend({"x": Float(0.0, 1.0)})
        assert opt._history.header.canonical({"x": 9.0, "y": 0.5}) == {"x": 9.0, "y": 0.5}


def opt_trials(path: Path) -> list[Any]:
    with closing(Optimizer.resume(path)) as opt:
        return opt.trials


def test_a_running_trial_is_amended_or_forgotten_and_a_late_tell_is_refused() -> None:
    opt = Optimizer(SPACE)
    first, second = opt.ask(2)
    opt.amend(first, 3.0)
    opt.forget(second)
    for trial in (first, second):
        with pytest.raises(TrialError, match="already"):
            opt.tell(trial, 1.0)
    assert [trial.state for trial in opt.trials] == ["finished", "withdrawn"]

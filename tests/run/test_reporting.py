"""Functions that report while they are evaluated: on every executor, with checkpoints, failing and dying."""

import concurrent.futures as futures
import logging
import multiprocessing
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import reporting_functions as functions
from reporting_functions import STEPS, curve

from bo_suite import Choice, Float, Optimizer, Result, Space, Trial, minimize
from bo_suite.errors import StorageError, TrialError
from bo_suite.run import worker
from bo_suite.run.evaluate import EvaluationEnded
from bo_suite.run.schedulers import ASHA, PromotionASHA
from bo_suite.run.worker import work
from bo_suite.storage import leases

SPACE = Space({"x": Float(0.0, 1.0)})
POINTS = [{"x": x} for x in (0.125, 0.25, 0.375, 0.5, 0.75, 0.875)]


processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])


def run(f: Callable[..., Any], budget: int = 6, **options: Any) -> Result:
    settings: dict[str, Any] = {"scheduler": ASHA(STEPS), "start": POINTS, "progress": False}
    return minimize(f, SPACE, budget, **(settings | options))


def steps_of(trial: Trial) -> list[int]:
    return [report.step for report in trial.reports]


def check(result: Result) -> None:
    """The best trial is whole, the worst was stopped at the first rung, and no curve has a gap."""
    best, worst = result.trials[0], result.trials[-1]
    assert (best.state, best.step, best.value) == ("finished", STEPS, curve(best.params, STEPS))
    assert (worst.state, worst.step) == ("stopped", 1)
    for trial in result.trials:
        assert steps_of(trial) == list(range(1, trial.step + 1))
        assert [report.value for report in trial.reports] == [
            curve(trial.params, step) for step in steps_of(trial)
        ]
        assert trial.value == trial.reports[-1].value
        assert trial.state == ("finished" if trial.step == STEPS else "stopped")


def spawned() -> futures.Executor:
    return futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def of_loky() -> futures.Executor:
    from loky import ProcessPoolExecutor

    executor: futures.Executor = ProcessPoolExecutor(2)
    return executor


PLACES: dict[str, dict[str, Any]] = {
    "calling thread": {},
    "worker processes": {"workers": 2},
    "threads": {"workers": 2, "executor": lambda: futures.ThreadPoolExecutor(2)},
    "processes": {"workers": 2, "executor": spawned},
    "loky": {"workers": 2, "executor": of_loky},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_function_reports_wherever_it_is_evaluated(place: str, tmp_path: Path) -> None:
    if place == "loky" and find_spec("loky") is None:
        pytest.skip("loky is not installed")
    result = run(functions.says_where, **PLACES[place], checkpoints=tmp_path)
    check(result)
    processes = {int((tmp_path / str(trial.id) / "processes").read_text()) for trial in result.trials}
    assert (processes == {os.getpid()}) == (place in ("calling thread", "threads"))


def test_a_report_that_maximises_is_in_the_units_of_the_user() -> None:
    def f(params: dict, report: Any) -> None:
        for step in range(1, STEPS + 1):
            if report(step, -curve(params, step)) == "stop":
                return

    result = run(f, direction={"accuracy": "maximize"})
    assert [trial.state for trial in result.trials[::5]] == ["finished", "stopped"]
    assert result.best.outcomes == {"accuracy": -curve(POINTS[0], STEPS)}


def test_what_a_function_returns() -> None:
    def f(params: dict, report: Any) -> Any:
        report(1, 5.0)
        return {0.125: None, 0.25: 3.0, 0.375: "text"}[params["x"]]

    result = run(f, 3)
    assert [(trial.state, trial.value) for trial in result.trials] == [
        ("finished", 5.0),
        ("finished", 3.0),
        ("failed", None),
    ]
    assert "must return a number, got 'text'" in (result.trials[2].reason or "")
    with pytest.raises(TrialError, match="must return a number, got None"):
        run(lambda params, report: None, 1)


def test_after_stop_nothing_that_the_function_does_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bo_suite")
    refused = []

    def f(params: dict, report: Any) -> float:
        try:
            functions.trains(params, report)
            if report.ended:
                report(2, 1.0)
        except EvaluationEnded as error:
            refused.append(str(error))
            if params["x"] == 0.5:
                raise
        if params["x"] == 0.75:
            raise ValueError("too late")
        return -100.0 if report.ended else 1.0

    seen = []
    result = run(f, callbacks=[lambda optimizer, trial: seen.append(trial.state)])
    states = [trial.state for trial in result.trials]
    assert states == seen == ["finished", "finished", *["stopped"] * 4]
    assert min(trial.value for trial in result.trials if trial.value is not None) == 1.0
    assert len(refused) == 4
    assert "must return once a report is answered by 'stop', got step 2" in refused[0]
    assert "trial 4 had ended before its evaluation raised ValueError: too late" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_report_that_is_not_finite_fails_the_trial(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    def f(params: dict, report: Any) -> float:
        answers = [report(step, float("nan") if step == 3 else step) for step in (1, 2, 3)]
        assert answers == ["continue", "continue", "stop"]
        return 0.0

    result = run(f, 2, workers=workers)
    assert [(trial.state, trial.reason, trial.step) for trial in result.trials] == [
        ("failed", "reported nan at step 3", 2)
    ] * 2
    assert caplog.text.count("failed: reported nan at step 3") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_report_that_breaks_a_rule_raises_what_it_breaks(workers: int) -> None:
    def f(params: dict, report: Any) -> float:
        report(2, 1.0)
        texts = []
        for step, value in [(2, 1.0), (1, 1.0), (STEPS + 1, 1.0), (0, 1.0), (3.5, 1.0), (3, "text")]:
            try:
                report(step, value)
            except TrialError as error:
                texts.append(str(error))
        assert len(texts) == 6, texts
        assert all("must increase" in text for text in texts[:2]), texts
        assert "max_step" in texts[2]
        assert "`a step >= 1` must hold" in texts[3]
        assert "integer" in texts[4]
        assert "number" in texts[5]
        report(3, 1.0)
        raise TrialError(texts[0])

    with pytest.raises(TrialError, match="must increase") as raised:
        run(f, 1, workers=workers)
    assert "before any evaluation had finished" in raised.value.__notes__[0]


def test_a_failure_keeps_its_reports_and_a_repetition_may_report_them_again(tmp_path: Path) -> None:
    begun = []

    def f(params: dict, report: Any) -> None:
        begun.append((report.step, sorted(path.name for path in report.folder.iterdir())))
        (report.folder / str(len(begun))).touch()
        for step in range(1, STEPS + 1):
            report(step, curve(params, step))
            if step == 4 * len(begun):
                raise ValueError("no luck")

    result = run(f, 1, retries=2, catch=Exception)
    assert begun == [(0, []), (4, ["1"]), (8, ["1", "2"])]
    (trial,) = result.trials
    assert (trial.state, trial.attempt, steps_of(trial)) == ("finished", 1, list(range(1, STEPS + 1)))
    begun.clear()
    failed = run(f, 1, catch=Exception).trials[0]
    assert (failed.state, failed.reason, failed.step) == ("failed", "ValueError: no luck", 4)


CHECKPOINTED = Space({"x": Float(0.0, 1.0), "early": Choice([True, False])})


@pytest.mark.parametrize("early", [True, False])
def test_the_death_of_a_worker_loses_no_report(early: bool, tmp_path: Path) -> None:
    points = [{"x": 0.5, "early": early}, {"x": 0.25, "early": True}]
    options: dict[str, Any] = {"start": points, "scheduler": ASHA(STEPS), "progress": False}
    result = minimize(
        functions.goes_on, CHECKPOINTED, 2, workers=2, retries=1, checkpoints=tmp_path, **options
    )
    assert [(trial.state, trial.step) for trial in result.trials] == [("finished", STEPS)] * 2
    assert steps_of(result.trials[0]) == list(range(1, STEPS + 1))
    assert (tmp_path / "0" / "log").read_text() == f"0 0\n{5 - early} 5\n"


@pytest.mark.parametrize("early", [True, False])
def test_a_killed_run_goes_on_from_its_checkpoints(early: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(CHECKPOINTED, scheduler=ASHA(STEPS), storage=path)
    optimizer.enqueue([{"x": 0.5, "early": early}, {"x": 0.25, "early": True}])
    process = processes.Process(target=functions.run, args=(str(path), 2))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    reported = 5 - early
    assert [(trial.state, trial.step) for trial in optimizer.trials] == [("running", reported)]
    optimizer.close()
    result = minimize(functions.goes_on, CHECKPOINTED, 2, storage=path, progress=False)
    first, second = result.trials
    assert (first.state, first.attempt, steps_of(first)) == ("finished", 2, list(range(1, STEPS + 1)))
    assert [report.attempt for report in first.reports] == [1] * reported + [2] * (STEPS - reported)
    assert second.state == "finished"
    assert (tmp_path / "run.db.checkpoints" / "0" / "log").read_text() == f"0 0\n{reported} 5\n"


def test_a_worker_goes_on_with_the_trial_of_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(SPACE, scheduler=ASHA(STEPS), storage=path, budget=1)
    process = processes.Process(target=functions.serve, args=(str(path), "kills_its_worker"))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    (trial,) = work(functions.kills_its_worker, optimizer).trials
    optimizer.close()
    assert (trial.state, trial.attempt, steps_of(trial)) == ("finished", 2, list(range(1, STEPS + 1)))
    assert [report.attempt for report in trial.reports] == [1] * 5 + [2] * 4


def test_a_worker_lets_a_stopped_evaluation_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_LOOK_S", 0.05)
    optimizer = Optimizer(SPACE, scheduler=ASHA(STEPS), storage=tmp_path / "run.db", budget=4)
    optimizer.enqueue(POINTS)
    result = work(functions.saves_after_stop, optimizer, checkpoints=tmp_path / "kept")
    optimizer.close()
    assert [trial.state for trial in result.trials] == ["finished", "finished", "stopped", "stopped"]
    assert len(list(tmp_path.glob("kept/*/saved"))) == 4
    assert "taken over" not in caplog.text


def test_paused_trials_are_continued_from_their_checkpoints(tmp_path: Path) -> None:
    started = []

    def f(params: dict, report: Any) -> None:
        started.append((params["x"], report.step, report.folder.name))
        functions.goes_on(params | {"early": False}, report)

    points = [{"x": x / 16} for x in range(9)]
    settings: dict[str, Any] = {"start": points, "scheduler": PromotionASHA(STEPS), "progress": False}
    result = minimize(f, SPACE, 9, **settings, checkpoints=tmp_path)
    assert [trial.state for trial in result.trials].count("finished") >= 1
    assert {trial.state for trial in result.trials} == {"finished", "paused"}
    best = result.trials[0]
    assert (best.state, best.attempt, steps_of(best)) == ("finished", 3, list(range(1, STEPS + 1)))
    assert [begun for begun in started if begun[0] == 0.0] == [(0.0, step, "0") for step in (0, 1, 3)]
    attempts = [report.attempt for report in best.reports]
    assert attempts == [1, 2, 2, *[3] * 6]


def test_an_evaluation_that_was_overtaken_ends_at_its_next_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, reached = tmp_path / "run.db", []

    def f(params: dict, report: Any) -> None:
        report(1, 1.0)
        if params == POINTS[0]:
            other = Optimizer.resume(path)
            with monkeypatch.context() as patch:
                patch.setattr(leases, "has_live_owner", lambda owner, open_owners: False)
                (trial,) = other.reclaim()
            other.report(trial, 1, 0.5)
            other.tell(trial, 7.0)
            other.close()
        report(2, 1.0)
        reached.append(params["x"])

    result = run(f, 2, storage=path)
    assert [(trial.value, trial.attempt, trial.step) for trial in result.trials] == [(7.0, 2, 1), (1.0, 1, 2)]
    assert reached == [0.25]
    assert "trial 0 was taken over by another process" in caplog.text


@pytest.mark.parametrize("storage", [None, "run.db"])
def test_where_checkpoints_are(tmp_path: Path, storage: str | None) -> None:
    folders = []

    def f(params: dict, report: Any) -> float:
        folders.append(report.folder)
        (report.folder / "model").touch()
        return 1.0

    place = None if storage is None else tmp_path / storage
    run(f, 2, storage=place)
    assert [folder.name for folder in folders] == ["0", "1"]
    assert [folder.exists() for folder in folders] == [storage is not None] * 2
    if place is not None:
        assert folders[0].parent == tmp_path / "run.db.checkpoints"
        place.unlink()
        with pytest.raises(TrialError, match=r"must be of this run .* another run"):
            run(f, 2, storage=place)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="must be one to write to"):
        run(lambda params, report: float(report.folder.exists()), 1, checkpoints=tmp_path / "file")


def test_what_is_refused_before_anything_is_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with pytest.raises(TrialError, match="must take two arguments"):
        run(lambda params: 1.0, storage=path)
    with pytest.raises(TrialError, match="with a scheduler"):
        run(lambda params: 1.0, scheduler=None, checkpoints=tmp_path)
    with pytest.raises(TypeError, match="no argument 'pruner': write scheduler="):
        run(lambda params, report: 1.0, pruner=None)
    assert not path.exists()
    run(lambda params, report: 1.0, 1, storage=path)
    with pytest.raises(TrialError, match="must take two arguments"):
        run(lambda params: 1.0, scheduler=None, storage=path)
    assert len(run(lambda params, report: 1.0, 2, storage=path, scheduler=None).trials) == 2


def test_the_bar_counts_stopped_trials(capsys: pytest.CaptureFixture[str]) -> None:
    run(functions.trains, progress=True)
    assert "4 stopped" in capsys.readouterr().err

"""Kills while trials are reported: what was acknowledged is stored, and a resumed run goes on."""

import multiprocessing
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import killed_at

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import BudgetSpent
from bo_suite.run.schedulers import ASHA
from bo_suite.storage.trial import Trial

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])  # of all files
LINE = Space({"x": Float(0.0, 1.0)})
BUDGET, LAST = 9, 9
RUNGS = (1, 3)


def value_of(number: int, step: int) -> float:
    """Curves whose order at one rung is not that at the next one."""
    return (number * 5 % BUDGET) + (number * 7 % BUDGET) / step


def evaluated(path: Path, acknowledge: Any) -> None:
    """Goes on with a run until its budget is spent; each trial goes on after its last step."""
    with closing(Optimizer.resume(path)) as optimizer:
        abandoned = optimizer.reclaim(attempts=None)
        while True:
            try:
                trial = abandoned.pop() if abandoned else optimizer.ask(budget=BUDGET)
            except BudgetSpent:
                return
            for step in range(trial.step + 1, LAST + 1):
                value = value_of(trial.id, step)
                answer = optimizer.report(trial, step, value)
                acknowledge((trial.id, trial.attempt, step, value, answer))
                if answer == "stop":
                    break
            else:
                optimizer.tell(trial, value_of(trial.id, LAST))


def _evaluate(path: Path, pipe: Any) -> None:
    evaluated(path, pipe.send)


def judged(trial: Trial, rung: int) -> bool:
    return any(report.step >= rung and report.verdict is not None for report in trial.reports)


def test_acknowledged_reports_survive_kills_and_the_rungs_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(LINE, storage=path, scheduler=ASHA(LAST))) as optimizer:
        optimizer.enqueue([{"x": (number + 0.5) / BUDGET} for number in range(BUDGET)])
    acknowledged: list[Any] = []
    for count in (3, 8):
        mine, theirs = processes.Pipe()
        child = processes.Process(target=_evaluate, args=(path, theirs))
        child.start()
        theirs.close()
        acknowledged += [mine.recv() for _ in range(count)]
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        while mine.poll():
            try:
                acknowledged.append(mine.recv())
            except EOFError:
                break
        with closing(Optimizer.resume(path)) as optimizer:
            trials = {trial.id: trial for trial in optimizer.trials}
        for number, attempt, step, value, answer in acknowledged:
            stored = {report.step: report for report in trials[number].reports}[step]
            assert (stored.value, stored.attempt) == (value, attempt)
            assert stored.verdict == answer
            assert (trials[number].state == "stopped") >= (answer == "stop")
    evaluated(path, acknowledged.append)
    with closing(Optimizer.resume(path)) as optimizer:
        trials = {trial.id: trial for trial in optimizer.trials}
        assert len(trials) == BUDGET
        assert {trial.state for trial in trials.values()} == {"finished", "stopped"}
        assert optimizer.best.attempt >= 1
    assert max(trial.attempt for trial in trials.values()) > 1
    for trial in trials.values():
        assert [report.step for report in trial.reports] == list(range(1, trial.step + 1)), "no gap"
        assert all(judged(trial, rung) for rung in RUNGS if trial.step >= rung)
        assert trial.step == LAST or trial.state == "stopped"
    for rung in RUNGS:
        there = {number: value_of(number, rung) for number, trial in trials.items() if trial.step >= rung}
        best = min(there, key=lambda number: there[number])
        assert trials[best].step > rung, "the best of a rung is never stopped there"


def test_a_kill_at_any_moment_of_a_report_leaves_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(LINE, storage=path, scheduler=ASHA(LAST, 3, 2))) as optimizer:
        optimizer.enqueue([{"x": 0.25}, {"x": 0.75}])
        best, _ = optimizer.ask(2)
        assert optimizer.report(best, 3, 0.5) == "continue"
        optimizer.tell(best, 0.25)
    whole = path.read_bytes()
    found, stop, alive = set(), 0, False
    while not alive:
        path.write_bytes(whole)
        copy = tmp_path / f"copy-{stop}.db"
        alive = not killed_at(stop, path, copy, lambda one: one.report(1, 3, 1.0), monkeypatch)
        stop += 1
        with closing(Optimizer.resume(path if alive else copy)) as resumed:
            trial = resumed.trial(1)
            assert trial.step in (0, 3)
            verdict = trial.reports[0].verdict if trial.step else "none stored"
            found.add((trial.state, verdict))
            if trial.state == "running":
                (again,) = resumed.reclaim()
                assert resumed.report(again, 4 if again.step else 3, 1.0) == "stop", "the rung is judged now"
            assert [one.state for one in resumed.trials] == ["finished", "stopped"]
    assert found == {("running", "none stored"), ("running", None), ("stopped", "stop")}

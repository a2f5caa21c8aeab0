"""Runs of Ray Tune on two local workers: trials that crash, and a driver that is killed and restored."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_driver

from bo_suite import Optimizer

HERE = Path(__file__).parent
WHY = "needs ray[tune], which `pip install 'bo-suite[ray]'` brings"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray warns of itself
]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short name, for Ray's sockets; and workers that import what the tests import."""
    pytest.importorskip("ray.tune", exc_type=ImportError, reason=WHY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # so that nothing is written to the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ended(path: Path) -> list[dict[str, Any]]:
    """The completions that the driver has noted, a torn last line left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def drive(folder: Path, *storage: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(HERE / "ray_driver.py"), str(folder), *storage],
            env={**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "3"},
            stdout=log,
            stderr=log,
        )


def snapshot_has_trials(folder: Path) -> bool:
    states = (folder / "run").glob("experiment_state-*.json")
    return any('"trial_data": []' not in state.read_text() for state in states)


def kill_after(driver: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(ended(folder / "ledger")) < count or not snapshot_has_trials(folder):
        assert driver.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_trials_that_raise_or_die_are_failed_and_the_others_counted(surroundings: Path) -> None:
    results, search = ray_driver.run_with_crashes(surroundings)
    trials = search.optimizer.trials
    assert len(results) == len(trials) == 8
    assert results.num_errors == 2
    assert sorted(trial.state for trial in trials) == ["failed"] * 2 + ["finished"] * 6
    assert {trial.reason for trial in trials} == {None, "Ray has ended the trial with an error"}
    told = {result.metrics["loss"] for result in results if not result.error}
    assert told == {trial.value for trial in trials if trial.state == "finished"}
    assert search.optimizer.best.value == results.get_best_result().metrics["loss"]


def test_no_result_is_lost_when_the_driver_is_killed(surroundings: Path) -> None:
    storage = surroundings / "history.db"
    for count in (4, 7):
        kill_after(drive(surroundings, str(storage)), surroundings, count)
        told = ended(surroundings / "ledger")
        optimizer = Optimizer.resume(storage)
        finished = [(t.params, t.value) for t in optimizer.trials if t.state == "finished"]
        optimizer.close()
        assert all((line["params"], line["value"]) in finished for line in told)
    last = drive(surroundings, str(storage))
    assert last.wait(timeout=200) == 0, (surroundings / "log").read_text()
    told = ended(surroundings / "ledger")
    trials = Optimizer.resume(storage).trials
    assert all(trial.state == "finished" for trial in trials), "what was running is evaluated again"
    points = [(tuple(trial.params.values()), trial.value) for trial in trials]
    assert len(points) == len(set(points)), "nothing is told twice"
    assert {(tuple(line["params"].values()), line["value"]) for line in told} <= set(points)
    assert max(trial.attempt for trial in trials) > 1
    assert len(trials) >= ray_driver.TRIALS
    assert int((surroundings / "done").read_text()) == ray_driver.TRIALS


def test_without_a_storage_a_killed_run_goes_on_from_rays_snapshot(surroundings: Path) -> None:
    kill_after(drive(surroundings), surroundings, 4)
    assert drive(surroundings).wait(timeout=200) == 0, (surroundings / "log").read_text()
    assert int((surroundings / "done").read_text()) == ray_driver.TRIALS

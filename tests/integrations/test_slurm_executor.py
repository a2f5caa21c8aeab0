"""Runs on a Slurm of this machine that is made of scripts, and what each end of a job means."""

import concurrent.futures as futures
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from slurm_tasks import deadly, job_id, killed, note_and_sleep, once, raising, slow_at_first, slurm_variables

from bo_suite import Float, Optimizer, Space, Trial, minimize
from bo_suite.bench import run_suite
from bo_suite.errors import ArgumentError, TrialError, WorkersDied
from bo_suite.integrations.slurm import SlurmExecutor
from bo_suite.run.evaluate import TookTooLong, WorkerDied

submitit = pytest.importorskip(
    "submitit", reason="needs submitit, which `pip install 'bo-suite[slurm]'` brings"
)

SPACE = Space({"x": Float(-1, 2)})
Make = Callable[..., SlurmExecutor]


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    cluster = FakeSlurm(tmp_path / "slurm")
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(submitit.core.core.PicklingExecutor, "_throttle", lambda self: None)
    return cluster


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes executors that ask Slurm every 0.15 s."""
    made = []

    def executor(**parameters: Any) -> SlurmExecutor:
        made.append(SlurmExecutor(tmp_path / "jobs", interval=0.15, **parameters))
        return made[-1]

    yield executor
    for one in made:
        one.shutdown(cancel_futures=True)


def wait_for(ledger: Path, count: int) -> list[str]:
    """The ids of the jobs in the ledger, once there are as many."""
    while not ledger.exists() or len(ledger.read_text().split()) < count:
        time.sleep(0.01)
    return ledger.read_text().split()


def test_jobs_return_results_and_raise_what_the_function_raised(make: Make) -> None:
    with make() as executor:
        ids = [executor.submit(job_id) for _ in range(3)]
        error, number = executor.submit(raising), executor.submit(int, "12", base=3)
        lock = executor.submit(threading.Lock().acquire)
        assert sorted(future.result() for future in ids) == ["1", "2", "3"]
        assert number.result() == 5
        assert isinstance(error.exception(), ValueError)
        assert str(error.exception()) == "no luck"
        assert "pickle" in str(lock.exception())
    with pytest.raises(RuntimeError, match="was shut down"):
        executor.submit(int)


def test_a_job_that_dies_costs_its_call_alone(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    executor = make()
    other = executor.submit(note_and_sleep, tmp_path / "ledger", 1.0)
    lost = executor.submit(killed)
    error = lost.exception()
    assert isinstance(error, WorkerDied)
    ended = r"its Slurm job 2 ended as FAILED without a result \(log: .*2_0_log.err, which ends with .*Killed"
    assert re.match(ended, str(error))
    assert not isinstance(error, futures.BrokenExecutor), "or else minimize would stop all and look for it"
    assert other.result() == "1"
    assert executor.submit(job_id).result() == "3"


def test_what_the_cluster_ends_is_a_death(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    executor = make()
    states = ["CANCELLED", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "", "TIMEOUT"]
    lost = [executor.submit(note_and_sleep, tmp_path / "ledger", 60) for _ in states]
    wait_for(tmp_path / "ledger", len(states))
    for job, state in enumerate(states, start=1):
        slurm.end(str(job), state)
    with pytest.raises(TookTooLong, match="its Slurm job 6 reached its time limit"):
        lost.pop().result()
    for job, (state, future) in enumerate(zip(states[:-1], lost, strict=True), start=1):
        with pytest.raises(WorkerDied, match=f"job {job} ended{state and f' as {state}'} without a result"):
            future.result()


def test_a_job_that_is_requeued_is_waited_for(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    """Also if squeue shows it as preempted for a moment."""
    preempted = make().submit(once, tmp_path / "ledger")
    wait_for(tmp_path / "ledger", 1)
    slurm.end("1", "REQUEUED")
    assert preempted.result() == "1"
    assert wait_for(tmp_path / "ledger", 2) == ["1", "1"]


def test_one_answer_that_a_job_has_ended_is_not_believed(
    make: Make, slurm: FakeSlurm, tmp_path: Path
) -> None:
    future = make().submit(note_and_sleep, tmp_path / "ledger", 1.0)
    wait_for(tmp_path / "ledger", 1)
    asked, state = slurm.questions(), slurm.jobs / "1" / "state"
    state.write_text("PREEMPTED")
    while slurm.questions() == asked:
        time.sleep(0.002)
    state.write_text("RUNNING")
    assert future.result() == "1"


def test_the_signal_before_the_limit_ends_nothing(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    """submitit would requeue the job, and raise an exception inside of the function."""
    future = make().submit(note_and_sleep, tmp_path / "ledger", 0.3)
    wait_for(tmp_path / "ledger", 1)
    slurm.warn("1")
    assert future.result() == "1"


def test_cancel_ends_jobs_that_run(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    executor = make()
    one, two, three = (executor.submit(note_and_sleep, tmp_path / "ledger", 60) for _ in range(3))
    wait_for(tmp_path / "ledger", 3)
    assert one.cancel()
    assert futures.wait([one], timeout=5).done == {one}
    assert (slurm.state("1"), slurm.state("2")) == ("CANCELLED", "RUNNING")
    executor.shutdown(cancel_futures=True)
    assert two.cancelled()
    assert three.cancelled()
    assert slurm.log("scancel") == ["1", "2", "3"]


def test_many_jobs_are_one_question(make: Make, slurm: FakeSlurm) -> None:
    started = time.monotonic()
    executor = make()
    results = [executor.submit(abs, -number) for number in range(4)]
    assert [future.result() for future in results] == list(range(4))
    assert slurm.questions() <= (time.monotonic() - started) / 0.15 + 1
    while executor_threads():
        time.sleep(0.01)
    asked = slurm.questions()
    time.sleep(0.3)
    assert slurm.questions() == asked, "nothing is asked without jobs"
    assert executor.submit(abs, -3).result() == 3, "and another thread looks for later ones"


def executor_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "SlurmExecutor"]


def test_nobody_dies_while_slurm_does_not_answer(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    future = make().submit(note_and_sleep, tmp_path / "ledger", 60)
    wait_for(tmp_path / "ledger", 1)
    (slurm.home / "down").touch()
    slurm.end("1", "NODE_FAIL")
    asked = slurm.questions()
    while slurm.questions() < asked + 4:
        time.sleep(0.01)
    assert not future.done()
    (slurm.home / "down").unlink()
    assert isinstance(future.exception(), WorkerDied)


def test_where_python_does_not_start_the_run_ends(make: Make) -> None:
    """Instead of failing every trial of the budget."""
    with pytest.raises(
        TrialError, match=r"must be able to run f, but they died: Slurm job 1 ended as FAILED"
    ):
        minimize(float, SPACE, executor=make(slurm_setup=["exit 3"]), progress=False)
    future = make(slurm_setup=["echo no such module >&2", "exit 3"]).submit(job_id)
    assert isinstance(future.exception(), WorkersDied)
    assert re.fullmatch(r"Slurm job 2 ended .*, which ends with no such module\)", str(future.exception()))


def test_jobs_inherit_nothing_of_a_job_that_submits_them(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CONF"):
        monkeypatch.setenv(name, "99")
    assert make().submit(slurm_variables).result() == {"SLURM_JOB_ID": "1", "SLURM_CONF": "99"}
    assert os.environ["SLURM_MEM_PER_CPU"] == "99"


SCRIPT = """
import os
from bo_suite.integrations.slurm import SlurmExecutor

SIX = 6

def seven(add):
    return os.environ["SLURM_JOB_ID"], SIX + add

with SlurmExecutor("jobs", interval=0.15) as executor:
    print(executor.submit(seven, add=1).result())
"""


def test_a_function_of_a_script_is_sent_by_value(tmp_path: Path) -> None:
    (tmp_path / "tune.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "tune.py"]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout == "('1', 7)\n", answer.stderr


def test_a_point_that_kills_its_job_is_one_failed_trial(make: Make) -> None:
    start = [{"x": 0.0}, {"x": 1.5}, {"x": 0.5}]
    result = minimize(deadly, SPACE, 3, workers=3, executor=make(), start=start, progress=False)
    assert [trial.state for trial in result.trials] == ["finished", "failed", "finished"]
    assert re.match(r"its Slurm job \d ended as FAILED without a result", str(result.trials[1].reason))


def test_what_runs_at_the_end_of_a_run_is_cancelled(make: Make, slurm: FakeSlurm, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    def interrupt(optimizer: Optimizer, trial: Trial) -> None:
        wait_for(ledger, 2)
        raise KeyboardInterrupt

    f, start = partial(slow_at_first, ledger), [{"x": 1.0}, {"x": 0.0}]
    options = {"executor": make(), "start": start, "callbacks": [interrupt], "progress": False}
    result = minimize(f, SPACE, 2, workers=2, **options)
    assert [trial.state for trial in result.trials] == ["finished", "running"]
    assert slurm.log("scancel") == [id for id in ledger.read_text().split() if slurm.state(id) == "CANCELLED"]
    assert len(slurm.log("scancel")) == 1


@pytest.mark.slow  # each job imports torch
def test_a_suite_runs_on_the_cluster(make: Make, tmp_path: Path) -> None:
    records = run_suite("branin", "random", [0], 3, tmp_path / "out", make(), workers=1, progress=False)
    assert set(records.units["state"]) == {"finished"}


def test_wrong_arguments_are_one_clear_sentence(
    make: Make, slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match=r"does not accept the parameters of the jobs: .*'slurm_part'"):
        make(slurm_part="gpu")
    with pytest.raises(ArgumentError, match=r"does not accept the parameters of the jobs: .*timeout_min"):
        make(timeout_min="60")
    assert not list((tmp_path / "jobs").iterdir()), "no folder is left"
    with pytest.raises(ArgumentError, match=r"interval must be a number of seconds above 0, got nan"):
        SlurmExecutor(tmp_path / "jobs", interval=float("nan"))
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"must be a folder that can be written to, got .*file"):
        SlurmExecutor(tmp_path / "file")
    (slurm.home / "refusal").write_text("sbatch: error: invalid partition specified: gpu\n")
    with pytest.raises(TrialError, match="Slurm did not accept a job: sbatch: error: invalid partition"):
        minimize(float, SPACE, executor=make(slurm_partition="gpu"), progress=False)
    (slurm.home / "sbatch").unlink()
    with pytest.raises(ArgumentError, match=r"where Slurm's commands are.*but the PATH has no sbatch$"):
        make()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ImportError, match=r"pip install 'bo-suite\[slurm\]'"):
        make()

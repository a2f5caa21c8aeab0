"""Suites and runs on a local Ray and a local Dask cluster, and tasks that kill their worker there."""

import concurrent.futures as futures
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import bench_methods
import numpy as np
import pytest
from bench_methods import Scripted, Together, lines

from bo_suite import Float, Space, minimize
from bo_suite.bench import Records, run_suite
from bo_suite.errors import TrialError
from bo_suite.integrations.ray import RayExecutor

SPACE = Space({"x": Float(-1, 2)})
HERE = os.getpid()


def parabola(params: dict) -> float:
    return (params["x"] - 0.3) ** 2


def deadly(here: int, params: dict) -> float:
    if params["x"] > 1.0 and os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return parabola(params)


def where() -> int:
    return os.getpid()


def raising() -> None:
    raise ValueError("no luck")


def killed(here: int) -> None:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)


def suite(out: Path, ledger: Path, executor: futures.Executor) -> Records:
    """Two units that end, one that raises, one of two that takes its worker down, two seeds together."""
    methods = [
        Scripted(ledger=ledger),
        Scripted(bench_methods.raises, name="raises"),
        Scripted(bench_methods.dies_away_from(HERE), name="dies"),
        Together(bench_methods.fine, name="together"),
    ]
    return run_suite("branin", methods, [0, 1], 4, out, executor, workers=2, progress=False)


def check(records: Records, ledger: Path, died: str) -> None:
    units = records.units.set_index(["method", "seed"])
    assert units["state"].to_dict() == {
        ("scripted", 0): "finished",
        ("scripted", 1): "finished",
        ("raises", 0): "crashed",
        ("raises", 1): "crashed",
        ("dies", 0): "finished",
        ("dies", 1): "crashed",
        ("together", 0): "finished",
        ("together", 1): "finished",
    }
    assert died in units["reason"]["dies", 1]
    assert "out of ideas" in units["reason"]["raises", 0]
    assert set(units["replicates"]["together"]) == {2}
    pids = {int(line.split()[3]) for line in lines(ledger)}
    assert HERE not in pids
    here = run_suite(
        "branin", [Scripted(), Together()], [0, 1], 4, ledger.parent / "here", workers=1, progress=False
    )
    rows = records.evaluations[records.evaluations["method"].isin(["scripted", "together"])]
    np.testing.assert_allclose(rows["value"], here.evaluations["value"], atol=1e-6)


# Ray.


@pytest.fixture(scope="module", autouse=True)
def workers_import_what_the_tests_import() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # so that nothing is written to the home folder
        yield


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    found = pytest.importorskip("ray", reason="needs ray, which `pip install 'bo-suite[ray]'` brings")
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


@pytest.mark.integration
def test_ray_runs_tasks_elsewhere_and_passes_on_what_they_raise(ray: object) -> None:
    with RayExecutor() as executor:
        assert executor.submit(int, "12", base=3).result() == 5
        assert executor.submit(where).result() != HERE
        assert isinstance(executor.submit(raising).exception(), ValueError)
        assert not isinstance(executor.submit(raising).exception(), futures.BrokenExecutor)
        assert list(executor.map(abs, [-1, 2, -3])) == [1, 2, 3]
        assert executor.submit(threading.Lock().acquire).exception() is not None, "cannot be pickled"
    with pytest.raises(RuntimeError, match="was shut down"):
        executor.submit(int)
    assert ray.is_initialized(), "Ray is left as it was"


@pytest.mark.integration
def test_ray_tells_the_death_of_a_worker_of_the_one_task(ray: object) -> None:
    with RayExecutor() as executor:
        lost, other = executor.submit(killed, HERE), executor.submit(where)
        assert isinstance(lost.exception(), futures.BrokenExecutor)
        assert lost.exception().__cause__ is not None
        assert other.result() != HERE
        assert executor.submit(int, "3").result() == 3


@pytest.mark.integration
def test_ray_gives_each_task_its_cores_and_ends_those_that_run(ray: object, tmp_path: Path) -> None:
    executor = RayExecutor(num_cpus=2)
    running = [executor.submit(bench_methods.note_and_sleep, tmp_path / "ledger") for _ in range(3)]
    while not lines(tmp_path / "ledger"):
        time.sleep(0.02)
    time.sleep(0.3)
    assert not running[0].cancel()
    executor.shutdown(cancel_futures=True)
    assert all(future.exception() is not None for future in running)
    assert len(lines(tmp_path / "ledger")) == 1, "two cores hold one task of two"


@pytest.mark.integration
def test_a_suite_runs_on_ray(ray: object, tmp_path: Path) -> None:
    with RayExecutor() as executor:
        records = suite(tmp_path / "out", tmp_path / "ledger", executor)
    check(records, tmp_path / "ledger", "its worker process died")


@pytest.mark.integration
def test_seeds_that_kill_their_ray_worker_together_run_one_by_one(ray: object, tmp_path: Path) -> None:
    method = Together(bench_methods.dies_away_from(HERE, step=2, seed=0))
    with RayExecutor() as executor:
        records = run_suite("branin", [method], [0, 1], 3, tmp_path, executor, workers=2, progress=False)
    assert set(records.units["state"]) == {"finished"}
    assert set(records.units["replicates"]) == {1}


@pytest.mark.integration
def test_minimize_runs_on_ray(ray: object) -> None:
    with RayExecutor() as executor:
        result = minimize(
            partial(deadly, HERE), SPACE, budget=8, workers=2, executor=executor, progress=False
        )
    assert len(result.trials) == 8
    for trial in result.trials:
        assert (trial.state == "failed") == (trial.params["x"] > 1.0)
        assert trial.reason in (None, "its worker process died")


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'bo-suite\[ray\]'"):
        RayExecutor()


# Dask.


@pytest.fixture
def client() -> Iterator[object]:
    """Of a cluster for each test, since one whose workers die again and again may be left with none."""
    reason = "needs distributed, which `pip install 'bo-suite[dask]'` brings"
    distributed = pytest.importorskip("distributed", reason=reason)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with (
        pytest.importorskip("dask").config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.integration
def test_a_suite_runs_on_dask(client: object, tmp_path: Path) -> None:
    records = suite(tmp_path / "out", tmp_path / "ledger", client.get_executor(pure=False))
    check(records, tmp_path / "ledger", "its worker process died")


@pytest.mark.integration
def test_minimize_runs_on_dask(client: object) -> None:
    executor = client.get_executor(pure=False)
    result = minimize(parabola, SPACE, budget=8, workers=2, executor=executor, progress=False)
    assert [trial.state for trial in result.trials] == ["finished"] * 8


def dies_the_first_time(ledger: Path, params: dict) -> float:
    """Writes down that it runs, and kills its worker where x > 1 and it had not run there before."""
    before = lines(ledger).count(str(params["x"])) if ledger.exists() else 0
    with ledger.open("a") as file:
        file.write(f"{params['x']}\n")
    if params["x"] > 1.0 and not before:
        os.kill(os.getpid(), signal.SIGKILL)
    return parabola(params)


@pytest.mark.integration
@pytest.mark.parametrize("given", [True, False])
def test_what_dask_runs_again_by_itself_is_told_once(
    client: object, tmp_path: Path, caplog: pytest.LogCaptureFixture, given: bool
) -> None:
    told = []
    executor = client.get_executor(pure=False) if given else partial(client.get_executor, pure=False)
    with caplog.at_level(logging.WARNING, "bo_suite"):
        result = minimize(
            *(partial(dies_the_first_time, tmp_path / "ledger"), SPACE, 4, 1, 2, executor),
            progress=False,
            callbacks=[lambda optimizer, trial: told.append(trial.id)],
        )
    assert [trial.state for trial in result.trials] == ["finished"] * 4
    assert sorted(told) == [0, 1, 2, 3]
    assert not [record for record in caplog.records if record.name == "bo_suite"]
    evaluated = Counter(map(float, lines(tmp_path / "ledger")))
    again = [trial for trial in result.trials if trial.params["x"] > 1.0]
    assert again
    assert all(evaluated[trial.params["x"]] >= 2 for trial in again)


@pytest.mark.integration
def test_a_point_that_kills_every_dask_worker_is_failed_alone(client: object) -> None:
    executor = client.get_executor(pure=False)
    result = minimize(
        partial(deadly, HERE), SPACE, budget=4, seed=1, workers=2, executor=executor, progress=False
    )
    assert any(trial.params["x"] > 1.0 for trial in result.trials)
    for trial in result.trials:
        assert (trial.state == "failed") == (trial.params["x"] > 1.0)
        assert trial.reason in (None, "its worker process died")


@pytest.mark.integration
def test_a_function_that_cannot_be_sent_to_dask_or_ray_is_one_clear_sentence(
    client: object, ray: object
) -> None:
    lock = threading.Lock()
    for executor in (client.get_executor(pure=False), RayExecutor):
        with pytest.raises(TrialError, match=r"f and all that it refers to must be picklable, .*, got .*"):
            minimize(lambda params: lock.locked(), SPACE, executor=executor, progress=False)

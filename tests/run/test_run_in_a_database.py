"""`minimize` on a database: leases of its executor, a shared budget, reports from other machines."""

import concurrent.futures as futures
import multiprocessing
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reporting_functions as functions

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.errors import TrialError
from bo_suite.run.schedulers import ASHA

if TYPE_CHECKING:
    from postgres_server import Server

SPACE = Space({"x": Float(0, 1)})


def value(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2)


def test_what_an_executor_evaluates_for_longer_than_a_lease_is_not_taken_over(postgres_url: str) -> None:
    Optimizer(SPACE, storage=postgres_url).close()
    seen: list[int] = []

    def slow(params: dict[str, Any]) -> float:
        with closing(Optimizer.resume(postgres_url)) as other:
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                seen.extend(trial.id for trial in other.reclaim())
                time.sleep(0.1)
        return value(params)

    with futures.ThreadPoolExecutor(2) as executor:
        short = f"{postgres_url}&lease=0.6"
        result = minimize(slow, SPACE, 2, workers=2, executor=executor, storage=short, progress=False)
    assert seen == []
    assert [(trial.state, trial.attempt) for trial in result.trials] == [("finished", 1)] * 2


def test_several_drivers_spend_one_budget_exactly(postgres_url: str) -> None:
    results = []

    def drive() -> None:
        results.append(minimize(value, SPACE, 9, storage=postgres_url, progress=False))

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(Optimizer.resume(postgres_url)) as optimizer:
        assert [trial.id for trial in optimizer.trials] == list(range(9))
        assert {trial.state for trial in optimizer.trials} == {"finished"}
    assert len(results) == 3


def test_reports_from_other_machines_go_to_the_database(
    postgres_url: str, postgres_server: "Server", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)

    def machines() -> futures.Executor:
        context = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(2, mp_context=context, initializer=functions.move_away)

    points = [{"x": x} for x in (0.125, 0.25, 0.375, 0.5, 0.75)]
    options: dict[str, Any] = {"start": points, "progress": False, "workers": 2, "executor": machines}
    asha, folder = ASHA(functions.STEPS), tmp_path / "checkpoints"
    result = minimize(
        *(functions.says_where, SPACE, 5),
        storage=postgres_url,
        scheduler=asha,
        checkpoints=folder,
        **options,
    )
    assert [trial.state for trial in result.trials[::4]] == ["finished", "stopped"]
    assert [trial.step for trial in result.trials[::4]] == [functions.STEPS, 1]
    assert {(folder / str(trial.id) / "processes").exists() for trial in result.trials} == {True}
    with pytest.raises(TrialError, match="the run must be given checkpoints="):
        minimize(
            functions.says_where, SPACE, 1, storage=f"{postgres_url}_other", scheduler=asha, progress=False
        )
    with pytest.raises(TrialError, match=r"or a storage that is a database .* is not found"):
        minimize(functions.trains, SPACE, 1, scheduler=asha, **options)

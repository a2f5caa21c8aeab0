"""`minimize` on a database: the driver holds the leases of its executor, and shares the budget."""

import concurrent.futures as futures
import threading
import time
from contextlib import closing
from typing import Any

from bo_suite import Float, Optimizer, Space, minimize

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

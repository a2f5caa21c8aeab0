"""benchmarks/parallel_workers.py: its simulated workers, its records and its tables."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import parallel_workers
from parallel_workers import duration, report, runs, simulate

from bo_suite.bench.method import Task
from bo_suite.bench.suite import named_problem
from bo_suite.space.space import Params

BRANIN = named_problem("branin")


class Watched:
    """Asks for random points; records, for each ask, how many trials had been told."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.at_asks: list[int] = []

    def ask(self) -> tuple[int, Params]:
        self.at_asks.append(len(self.told))
        number = len(self.at_asks) - 1
        return number, {"x1": -5.0 + number, "x2": 1.0}

    def tell(self, trial: int, value: float) -> None:
        assert value == BRANIN.value({"x1": -5.0 + trial, "x2": 1.0})
        self.told.append(trial)


@pytest.mark.parametrize("workers", [1, 3, 10, 40])
def test_workers_take_trials_as_a_list_schedule_does(workers: int) -> None:
    asker = Watched()
    result = simulate(asker, BRANIN, workers, seed=7, budget=12)
    free, ends, begins = np.zeros(workers), [], []
    for number in range(12):
        worker = int(free.argmin())
        begins.append(float(free[worker]))
        free[worker] += duration(7, number)
        ends.append(float(free[worker]))
    assert result.ends == pytest.approx(sorted(ends))
    assert asker.told == np.argsort(ends).tolist()
    for number, begin in enumerate(begins):
        assert asker.at_asks[number] == sum(end <= begin for end in ends), "every outcome until then is told"


def test_durations_are_exponential_and_belong_to_the_trial() -> None:
    sample = np.array([duration(seed, number) for seed in range(20) for number in range(100)])
    assert len(set(sample)) == len(sample)
    assert sample.mean() == pytest.approx(1.0, abs=4 / np.sqrt(len(sample)))
    assert (sample > 1.0).mean() == pytest.approx(np.exp(-1), abs=0.05)


@pytest.mark.parametrize("method", ["bo_suite", "tpe"])
def test_trials_end_in_any_order(method: str) -> None:
    if method == "tpe":
        pytest.importorskip("optuna")
    asker: Any = parallel_workers.METHODS[method](Task(BRANIN.space, 0, 20, False))
    asked = [asker.ask() for _ in range(3)]
    for place in (2, 0):
        asker.tell(asked[place][0], float(place))
    trials = asker._optimizer.trials if method == "bo_suite" else asker._study.trials
    assert [dict(trial.params) for trial in trials] == [params for _, params in asked]
    assert [trial.value for trial in trials] == [0.0, None, 2.0]


def test_what_is_stored_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_workers, "EVALUATIONS", {1: 3, 2: 4})
    out = tmp_path / "runs.jsonl"
    runs(["random"], ["branin"], [1, 2], 1, out)
    before = out.read_text()
    runs(["random"], ["branin"], [1, 2], 2, out)
    assert out.read_text().startswith(before)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["seed"], one["workers"], len(one["values"])) for one in records] == [
        *[(0, 1, 3), (0, 2, 4), (1, 1, 3), (1, 2, 4)]
    ]


def test_the_report_counts_until_the_regret_of_the_sequential_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_workers, "AT", (2, 4))

    def line(method: str, workers: int, values: list[float], ends: list[float]) -> str:
        same: dict[str, Any] = {"problem": "branin", "seed": 0, "minimum": 1.0, "asks": [0.5] * 4}
        return json.dumps(
            same | {"method": method, "workers": workers, "values": values, "ends": ends, "commit": "c"}
        )

    out = tmp_path / "runs.jsonl"
    lines = [
        line("tpe", 1, [11.0, 2.0, 3.0, 1.1], [1.0, 2.0, 3.0, 4.0]),
        line("tpe", 8, [11.0, 3.0, 2.0, 1.01], [0.1, 0.4, 0.5, 0.9]),
        line("bo_suite", 1, [1.1, 1.01, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        line("bo_suite", 8, [5.0, 1.5, 1.5, 1.5], [0.1, 0.4, 0.5, 0.9]),
    ]
    out.write_text("\n".join(lines) + "\n")
    text = report(out)
    assert "| branin | tpe | 1 | 0.00 | 0.30 | -1.00 | -2.00 |" in text
    assert text.count("| branin | tpe | 0.00 | 2 | 3 | 2.0 | 0.5 | 4.0× |") == 2, "as its own and the common"
    assert "| branin | bo_suite | -2.00 | 2 | none | 2.0 | none |  |" in text
    assert "| branin | bo_suite | 0.00 | 1 | 2 | 1.0 | 0.4 | 2.5× |" in text
    assert "| tpe | 0.5 | 0.5 |" in text

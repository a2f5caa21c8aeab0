"""Learning curves: every one keeps its contract; lcbench is read as its notes say."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bo_suite.errors import DataError, SpaceError
from bo_suite.problems.curves import Curve, LCBench, SlowStarters, lcbench_tasks
from bo_suite.problems.curves import lcbench as module
from bo_suite.testing import check_learning_curves


@pytest.mark.parametrize("steps", [1, 27])
def test_slow_starters_keep_the_contract(steps: int) -> None:
    check_learning_curves(SlowStarters(steps))


def test_slow_starters_cross() -> None:
    problem = SlowStarters()
    slow = problem.curve({"rate": 1e-3 * 1e3**0.35, "width": 74})
    fast = problem.curve({"rate": 1.0, "width": 74})
    assert slow.values[0] > fast.values[0] + 0.05
    assert slow.values[-1] < fast.values[-1] - 0.2
    assert slow.seconds.tolist() == fast.seconds.tolist()
    assert slow.values[-1] == pytest.approx(0.1, abs=1e-3)


def test_a_wrong_number_of_steps_or_a_wrong_point_is_refused() -> None:
    with pytest.raises(DataError, match=r"`max_step >= 1` must hold, got 0"):
        SlowStarters(0)
    with pytest.raises(SpaceError):
        SlowStarters().curve({"rate": 2.0, "width": 4})


@dataclass(frozen=True)
class Falling(SlowStarters):
    """Its times fall."""

    def curve(self, params: Any) -> Curve:
        values, seconds = super().curve(params)
        return Curve(values, seconds[::-1])


def test_the_check_finds_times_that_fall() -> None:
    with pytest.raises(AssertionError, match="strictly increasing"):
        check_learning_curves(Falling())


class Network:
    """In place of the network: time and accuracy are known functions of the row, partly out of range."""

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        codes, rows = inputs["x_cat"], inputs["x_cont"]
        assert codes.dtype == np.int32
        assert rows.dtype == np.float32
        assert codes.shape == (len(rows), 1)
        output = np.zeros((len(rows), 6), dtype=np.float32)
        output[:, 0] = np.where(rows[:, 0] == 3, 0.0, rows[:, 0] * rows[:, 1]) - 16.0
        output[:, 1] = 2.0 * rows[:, 0] + codes[:, 0]
        return [output]


POINT = {
    "batch_size": 16,
    "learning_rate": 0.01,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "num_layers": 2,
    "max_units": 64,
    "max_dropout": 0.5,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "lcbench"
    path.mkdir()
    choices = {"hyperparameters": [{"name": "OpenML_task_id", "choices": ["12", "7"]}, {"name": "epoch"}]}
    (path / "config_space.json").write_text(json.dumps(choices))
    monkeypatch.setattr(module, "_session", lambda folder: (Network(), {"7": 3, "12": 4}))
    return str(path)


def test_rows_of_lcbench_are_epochs_and_values_in_the_order_of_the_network(folder: str) -> None:
    values, seconds = LCBench(7, folder).curve(POINT)
    assert values.tolist() == [min(2.0 * epoch + 3, 100.0) for epoch in range(1, 53)]
    raw = [0.0, 16.0, -16.0, *(16.0 * epoch - 16.0 for epoch in range(4, 53))]
    assert seconds[:3] == pytest.approx([0.1, 16.0, 16.1])
    assert seconds[3:] == pytest.approx(raw[3:])
    both = LCBench(7, folder).curves([POINT, {**POINT, "batch_size": 32}])
    assert np.array_equal(both[0].seconds, seconds)
    assert both[1].seconds[-1] == pytest.approx(32 * 52 - 16)
    assert LCBench(7, folder).curves([]) == []
    assert LCBench(12, folder).curve(POINT).values[0] == 6.0
    assert LCBench(12, folder).values_at([POINT, POINT], 5).tolist() == [14.0, 14.0]
    assert LCBench(12, folder).values_at([], 5).tolist() == []


def test_the_folder_may_come_from_the_environment(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BO_SUITE_DATA", raising=False)
    with pytest.raises(DataError, match="pass their `folder`, or set BO_SUITE_DATA"):
        LCBench(7)
    monkeypatch.setenv("BO_SUITE_DATA", str(Path(folder).parent))
    assert lcbench_tasks() == (7, 12)
    assert pickle.loads(pickle.dumps(LCBench(7))) == LCBench(7)
    with pytest.raises(DataError, match=r"the task must be one of \[7, 12\], got 8"):
        LCBench(8)
    monkeypatch.setenv("BO_SUITE_DATA", "/nowhere")
    with pytest.raises(DataError, match=r"must hold config_space\.json"):
        LCBench(7)


def test_the_network_of_lcbench(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime (bo-suite[curves])")
    try:
        task = lcbench_tasks()[0]
    except DataError as error:
        pytest.skip(str(error))
    check_learning_curves(LCBench(task), points=20)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config_space.json").write_text(
        json.dumps({"hyperparameters": [{"name": "OpenML_task_id", "choices": ["7"]}]})
    )
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'bo-suite\[curves\]'"):
        LCBench(7, str(tmp_path))

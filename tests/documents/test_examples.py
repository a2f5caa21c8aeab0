"""The scripts in examples/, each run as a user runs it, with a small budget."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.integration
def test_a_model_is_tuned_through_each_door(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("optuna")
    said = run("four_doors.py", "--budget", "9", "--plot", str(tmp_path / "doors.png"))
    lines = re.findall(r"^ *([A-Za-z -]+): ([0-9.]+|left)(?: .*)?$", said, re.MULTILINE)  # Ray says more
    losses = dict(lines)
    default = float(losses.pop("defaults of LightGBM"))
    tuned = [float(loss) for loss in losses.values() if loss != "left"]
    assert len(losses) == 4
    assert len(tuned) >= 3
    assert max(tuned) < default
    assert (tmp_path / "doors.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_network_is_tuned_and_the_run_goes_on_where_it_was(tmp_path: Path) -> None:
    given = ("--storage", str(tmp_path / "mlp.db"), "--plot", str(tmp_path / "mlp.png"))
    first = run("torch_mlp.py", "--budget", "3", *given)
    second = run("torch_mlp.py", "--budget", "4", *given)
    assert "the budget is spent" in first
    assert float(second.split()[0]) <= float(first.split()[0])
    assert (tmp_path / "mlp.png").stat().st_size > 10_000

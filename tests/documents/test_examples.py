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


@pytest.mark.slow
def test_bad_trainings_end_early_and_their_curves_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    said = run(
        "early_stopping.py", "--budget", "7", "--storage", str(tmp_path / "a.db"), "--out", str(folder)
    )
    spent, whole = map(int, re.search(r"(\d+) epochs instead of (\d+)", said).groups())
    assert whole == 7 * 81
    assert spent < whole
    assert (folder / "curves.png").stat().st_size > 10_000
    assert (folder / "rungs.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_chemists_month_ends_near_the_best_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    said = run("lab.py", "--out", str(folder))
    low, high, truth, best = map(
        float, re.search(r"\(([\d.]+) to ([\d.]+)\), in truth ([\d.]+) %; .*: ([\d.]+) %", said).groups()
    )
    assert truth > best - 6.0
    assert low - 2.0 < truth < high + 2.0
    assert "70 experiments, 40 of them new" in said
    for picture in ("slices.png", "importance.png"):
        assert (folder / picture).stat().st_size > 10_000


@pytest.mark.slow
def test_a_month_with_corrections_beats_as_many_experiments_without(tmp_path: Path) -> None:
    said = run("lab.py", "--out", str(tmp_path / "lab"), "--compare", "5")
    better, months, gain = re.search(r"better in (\d) of (\d), on average by ([-\d.]+) %", said).groups()
    assert months == "5"
    assert int(better) >= 4
    assert float(gain) > 2.0

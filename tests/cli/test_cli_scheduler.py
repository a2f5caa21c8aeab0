"""`bo-suite minimize` and `worker` of functions that report: options of schedulers, and what is printed."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bo_suite import Optimizer
from bo_suite.cli import app
from bo_suite.run.schedulers import ASHA, PromotionASHA

MODULE = """
from bo_suite import Int, Space
space = Space({"x": Int(0, 5)})

def f(params, report):
    (report.folder / "used").touch()
    for step in range(1, 10):
        if report(step, params["x"] + 1 / step) == "stop":
            return

def pauses(params, report):
    report(1, 1.0)

def plain(params):
    return 0.0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("reporting.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("reporting", None)


def call(line: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, shlex.split(line))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_run_with_a_scheduler_and_a_worker_that_joins_it() -> None:
    scheduler = "--scheduler asha --max-step 9 --min-step 3 --factor 2"
    made = call(f"minimize reporting:f --budget 4 --storage run.db {scheduler} --checkpoints kept")
    optimizer = Optimizer.resume("run.db")
    assert optimizer.scheduler == ASHA(9, min_step=3, factor=2)
    states = [trial.state for trial in optimizer.trials]
    optimizer.close()
    assert set(states) == {"finished", "stopped"}
    counts = f"{states.count('finished')} evaluated, 0 failed, {states.count('stopped')} stopped"
    assert counts in made.stdout
    assert len(list(Path("kept").glob("*/used"))) == 4
    line = json.loads(call("worker run.db reporting:f --budget 5 --checkpoints kept --json").stdout)
    assert (line["id"], line["reports"][-1]["step"]) == (4, {"finished": 9, "stopped": 3}[line["state"]])


def test_names_of_schedulers_are_read_in_any_form() -> None:
    line = "minimize reporting:pauses --budget 2 --storage run.db --scheduler promotion-asha --max-step 9"
    assert "best: none, as no trial has come to its last step, 2 paused" in call(line).stdout
    optimizer = Optimizer.resume("run.db")
    assert optimizer.scheduler == PromotionASHA(9)
    optimizer.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "reporting:f --max-step 9 --min-step 1",
            "got --max-step, --min-step without it",
        ),
        ("reporting:f --scheduler asha", "--scheduler needs --max-step"),
        ("reporting:f --scheduler nothing --max-step 9", "must be one of ASHA,"),
        ("reporting:plain --scheduler asha --max-step 9", "must take (params, report)"),
        ("branin --scheduler asha --max-step 9", "a problem reports no steps"),
    ],
)
def test_wrong_options_are_one_sentence(options: str, said: str) -> None:
    assert said in call(f"minimize {options} --storage run.db", 2).stderr
    assert not Path("run.db").exists()

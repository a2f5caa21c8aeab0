"""`bo-suite worker`: how it finds a run or creates it, what it prints, and its exit codes."""

import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_functions as functions
from typer.testing import CliRunner

from bo_suite import Float, Int, Optimizer, Space
from bo_suite.cli import app

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])

SPACE = '[x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n'
QUICK = "worker_functions:quick"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(functions.FOLDER, str(tmp_path))
    Path("space.toml").write_text(SPACE)
    Path("own.py").write_text(
        "from bo_suite import Int, Space\nspace = Space({'x': Int(0, 2)})\ndef f(params):\n"
        "    print('chatter')\n    return params['x']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own", None)


def call(line: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, shlex.split(line))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def start(line: str) -> Any:
    """The command as a process."""
    process = processes.Process(target=functions.command, args=(str(Path.cwd()), shlex.split(line)))
    process.start()
    return process


def test_the_first_worker_creates_the_run_and_others_join() -> None:
    made = call(f"worker run.db {QUICK} --space space.toml --budget 2 --seed 3 --direction maximize")
    first, second = made.stdout.splitlines()
    assert first.startswith("trial 0 finished: ")
    assert second.startswith("trial 1 finished: ")
    assert made.stderr.startswith("worker ")
    assert f":{os.getpid()}: 0 trials of 2" in made.stderr
    assert "ended: the budget is spent" in made.stderr
    assert call(f"worker run.db {QUICK}").stdout == "", "the budget of the run"
    joined = [
        json.loads(line) for line in call(f"worker run.db {QUICK} --budget 4 --json").stdout.splitlines()
    ]
    assert [(trial["id"], trial["state"]) for trial in joined] == [(2, "finished"), (3, "finished")]
    optimizer = Optimizer.resume("run.db")
    assert (optimizer.direction, len(optimizer.trials)) == ("maximize", 4)
    twin = Optimizer(Space({"x": Float(0.0, 1.0)}), seed=3, direction="maximize", budget=2)
    assert optimizer.trials[0].params == twin.ask().params
    optimizer.close()


def test_workers_that_begin_at_once_make_one_run() -> None:
    workers = [start(f"worker run.db {QUICK} --space space.toml --budget 9") for _ in range(3)]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    optimizer = Optimizer.resume("run.db")
    assert [(trial.id, trial.state) for trial in optimizer.trials] == [(n, "finished") for n in range(9)]
    optimizer.close()


def test_the_space_is_that_of_the_module_and_its_exhaustion_has_a_code(capfd: pytest.CaptureFixture) -> None:
    ended = call("worker run.db own:f --budget 9 --json", 3)
    assert [json.loads(line)["state"] for line in ended.stdout.splitlines()] == ["finished"] * 3
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert capfd.readouterr().out == "", "what the function prints goes to stderr"


def test_a_target_ends_a_worker() -> None:
    ended = call(f"worker run.db {QUICK} --space space.toml --target 1000 --until 2999-01-01")
    assert len(ended.stdout.splitlines()) == 1
    assert "ended: trial 0 reached the target" in ended.stderr


@pytest.mark.slow
def test_a_problem_is_an_objective() -> None:
    assert len(call("worker run.db branin --budget 2").stdout.splitlines()) == 2


def test_a_bug_ends_a_worker_with_its_traceback() -> None:
    ended = call("worker run.db worker_functions:has_a_bug --space space.toml --budget 9", 1)
    assert "in has_a_bug" in ended.stderr
    assert "KeyError: 'y'" in ended.stderr.splitlines()[-1]
    assert ended.stdout == ""


def test_sigterm_has_a_code(folder: Path) -> None:
    process = start("worker run.db worker_functions:hangs_first --space space.toml --budget 3")
    deadline = time.monotonic() + 60
    while not (folder / "x=0.5").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 143
    optimizer = Optimizer.resume("run.db")
    assert optimizer.queue == [{"x": 0.5}]
    optimizer.close()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (f"{QUICK} --space space.toml", 2, "a worker needs an end"),
        (f"{QUICK} --space space.toml --until tomorrow", 2, "--until must be a date and a time"),
        (f"{QUICK} --budget 3", 2, "a function needs --space"),
        ("nothing:here --budget 3", 2, "nothing"),
        ("no_such_problem --budget 3", 2, "no_such_problem"),
        (f"{QUICK} --space space.toml --budget 3 --timeout 0", 1, "timeout"),
        (f"{QUICK} --space space.toml --budget 3 --direction sideways", 2, "direction"),
    ],
)
def test_what_a_worker_refuses(options: str, code: int, said: str) -> None:
    ended = call(f"worker run.db {options}", code)
    assert said in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.output


def test_a_worker_of_another_space_is_refused() -> None:
    optimizer = Optimizer(Space({"x": Int(0, 5)}), storage="run.db", budget=3)
    optimizer.close()
    assert "another space" in call("worker run.db own:f", 1).stderr
    assert "another space" in call("worker run.db branin", 1).stderr

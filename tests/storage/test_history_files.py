"""The one file of a history: copied, removed, replaced, or only to be read, under an open Optimizer."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from histories import OLD, POINT, SPACE, make_history, old_history, seen, stored
from typer.testing import CliRunner

from bo_suite import Optimizer
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.cli import app
from bo_suite.errors import StorageError
from bo_suite.integrations.optuna_view import to_study
from bo_suite.plot import plot_convergence
from bo_suite.storage.history import History
from bo_suite.storage.trial import record

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])  # of all files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "run.db"
    make_history(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "run.db"))


# Killed.


def _tell_and_die(path: str, count: int, pipe: Any) -> None:
    history = History.open(path, None)
    for number in range(count):
        (trial,) = history.insert([POINT], [{}], expected=None) or []
        pipe.send(record(history.tell(trial.id, float(number), std=0.5)))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", [1, 5, 17])
def test_a_copy_of_the_file_alone_has_all_that_was_told(tmp_path: Path, count: int) -> None:
    path, copy = tmp_path / "run.db", tmp_path / "copy" / "copy.db"
    Optimizer(SPACE, storage=path).close()
    mine, theirs = processes.Pipe()
    child = processes.Process(target=_tell_and_die, args=(str(path), count, theirs))
    child.start()
    theirs.close()
    told = [mine.recv() for _ in range(count)]
    child.join()
    assert child.exitcode == -signal.SIGKILL
    copy.parent.mkdir()
    shutil.copy(path, copy)
    with closing(Optimizer.resume(copy)) as optimizer:
        assert [record(trial) for trial in optimizer.trials] == told
        assert optimizer.ask().id == count


# Removed or replaced.

RUNNING = 11


OTHER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def other(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another history, of as many changes, so that SQLite's own counter of them is the same."""
    OTHER[:] = [tmp_path_factory.mktemp("other") / "run.db"]
    make_history(OTHER[0])


def earlier(path: Path, optimizer: Optimizer) -> Path:
    """The same history before its running trial was told."""
    before = Path(shutil.copy(path, path.with_name("earlier.db")))
    optimizer.tell(RUNNING, 0.25)
    return before


def unlinked(path: Path, optimizer: Optimizer) -> None:
    path.unlink()


def moved(path: Path, optimizer: Optimizer) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replaced_by_its_copy(path: Path, optimizer: Optimizer) -> None:
    os.replace(shutil.copy(path, path.with_name("copy.db")), path)


def replaced_by_another(path: Path, optimizer: Optimizer) -> None:
    os.replace(shutil.copy(OTHER[0], path.with_name("other.db")), path)


def overwritten_by_another(path: Path, optimizer: Optimizer) -> None:
    shutil.copy(OTHER[0], path)


def overwritten_by_an_earlier_state(path: Path, optimizer: Optimizer) -> None:
    shutil.copy(earlier(path, optimizer), path)


def folder_moved(path: Path, optimizer: Optimizer) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def emptied(path: Path, optimizer: Optimizer) -> None:
    path.write_bytes(b"")


CALLS: dict[str, Callable[[Optimizer], Any]] = {
    "ask": lambda optimizer: optimizer.ask(),
    "tell": lambda optimizer: optimizer.tell(RUNNING, 0.5),
    "fail": lambda optimizer: optimizer.fail(RUNNING, "why"),
    "withdraw": lambda optimizer: optimizer.withdraw(RUNNING),
    "add": lambda optimizer: optimizer.add(POINT, 0.5),
    "add_failed": lambda optimizer: optimizer.add_failed(POINT, "why"),
    "reclaim": lambda optimizer: optimizer.reclaim(),
}


@pytest.mark.parametrize(
    "happens",
    [
        *(unlinked, moved, replaced_by_its_copy, replaced_by_another, overwritten_by_another),
        *(overwritten_by_an_earlier_state, folder_moved, emptied),
    ],
)
def test_nothing_is_stored_in_a_file_that_was_removed_or_replaced(
    made: Path, tmp_path: Path, happens: Callable[[Path, Optimizer], None]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "run.db"
    shutil.copy(made, path)
    with closing(Optimizer.resume(path)) as optimizer:
        assert len(optimizer.trials) == 12
        happens(path, optimizer)
        before = path.read_bytes() if path.exists() else None
        for name, call in CALLS.items():
            with pytest.raises(StorageError, match=r"while it was open|no such table|^each row") as caught:
                call(optimizer)
            assert str(path) in str(caught.value), name
        with suppress(StorageError):
            assert len(optimizer.trials) == 12, "what is in memory may be looked at"
        assert (path.read_bytes() if path.exists() else None) == before, "nothing was written"


def test_a_history_in_memory_has_no_file_to_lose() -> None:
    with closing(Optimizer(SPACE)) as optimizer:
        assert optimizer.tell(optimizer.ask(), 1.0).value == 1.0


def test_one_that_is_renamed_before_it_is_resumed_goes_on(path: Path) -> None:
    with closing(Optimizer.resume(path.rename(path.with_name("new.db")))) as optimizer:
        assert optimizer.tell(RUNNING, 0.5).value == 0.5


# Only to be read.


def _look(path: str, pipe: Any) -> None:
    """What a process that may not write gets from each call."""
    with tempfile.TemporaryDirectory() as name:  # modules are loaded while they may be read
        copy = shutil.copy(path, Path(name) / "copy.db")
        for words in (["best"], ["trials", "--json"], ["trials"], ["tell", "x"], ["ask"]):
            CliRunner().invoke(app, [words[0], str(copy), *words[1:]])
        with closing(Optimizer.resume(copy)) as optimizer:
            optimizer.to_frame()
        plot_convergence([], "minimize")
    if os.getuid() == 0:
        os.setuid(65534)  # permissions do not bind root
    optimizer, runner = Optimizer.resume(path), CliRunner()

    def command(name: str) -> str:
        done = runner.invoke(app, [name, path, "--json"])
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        return done.stdout

    calls: dict[str, Callable[[], Any]] = {
        "trials": lambda: seen(optimizer.trials),
        "best": lambda: optimizer.best.id,
        "trial": lambda: optimizer.trial(4).id,
        "recommend": lambda: sorted(optimizer.recommend()),
        "regret_bound": lambda: optimizer.regret_bound().value >= 0,
        "to_frame": lambda: len(optimizer.to_frame()),
        "to_study": lambda: to_study(path).best_trial.number,
        "cli best": lambda: json.loads(command("best"))["id"],
        "cli trials": lambda: len(json.loads(command("trials"))),
        "plot": lambda: type(plot_convergence(optimizer.trials, optimizer.direction)).__name__,
        "cli tell": lambda: runner.invoke(app, ["tell", path, "11", "1.0"]).exit_code,
        "cli ask": lambda: runner.invoke(app, ["ask", path]).exit_code,
        **{f"write {name}": (lambda call=call: call(optimizer)) for name, call in CALLS.items()},
        "new": lambda: Optimizer(SPACE, LogExpectedImprovement(), 3, "maximize", storage=path),
    }
    results = {}
    for name, call in calls.items():
        try:
            results[name] = call()
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    optimizer.close()
    pipe.send(results)


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "old"),
    [
        (0o555, 0o444, False),
        (0o555, 0o444, True),
        *(pytest.param(0o555, 0o644, old, marks=pytest.mark.slow) for old in (False, True)),
        *(pytest.param(0o755, 0o444, old, marks=pytest.mark.slow) for old in (False, True)),
    ],
)
def test_what_only_reads_works_where_nothing_can_be_written(
    made: Path, folder_mode: int, file_mode: int, old: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        path = old_history(Path(name)) if old else Path(shutil.copy(made, Path(name) / "run.db"))
        whole = path.read_bytes()
        path.chmod(file_mode)
        if os.getuid() == 0 and folder_mode == 0o755:
            os.chown(name, 65534, -1)
        elif os.getuid() == 0 and file_mode == 0o644:
            os.chown(path, 65534, -1)
        os.chmod(name, folder_mode)
        mine, theirs = processes.Pipe()
        child = processes.Process(target=_look, args=(str(path), theirs))
        child.start()
        theirs.close()
        assert mine.poll(60)
        found = mine.recv()
        child.join()
        os.chmod(name, 0o755)
        assert path.read_bytes() == whole
        with closing(Optimizer.resume(path)) as optimizer:
            trials, best = seen(optimizer.trials), optimizer.best.id
    assert trials == (stored(OLD) if old else trials)
    assert found.pop("trials") == trials
    assert found.pop("recommend") == ["depth", "kernel", "lr"]
    assert [found.pop(name) for name in ("best", "to_study", "cli best")] == [best] * 3
    assert [found.pop(name) for name in ("trial", "to_frame", "cli trials")] == [4, 12, 12]
    assert [found.pop(name) for name in ("regret_bound", "plot")] == [True, "Figure"]
    assert all(code != 0 for code in (found.pop("cli tell"), found.pop("cli ask")))
    assert found.pop("new").startswith("NotWritable: the storage and its folder must be writable")
    assert len(found) == len(CALLS)
    if not old:
        assert found.pop("write reclaim") == [], "nothing is abandoned, so nothing is written"
    for name, text in found.items():
        law = "NotWritable: the storage is read-only and cannot be changed, got"
        assert str(text).startswith(law), (name, text)

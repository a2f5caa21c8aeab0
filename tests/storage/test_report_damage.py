"""Reports in a file that was damaged, replaced or written by others: an error that names the trial."""

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from histories import HEADER, POINT, ask, change, select

from bo_suite import Optimizer
from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.storage.history import History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two trials: 0 has reported steps 1 and 3, 1 runs."""
    path = tmp_path / "run.db"
    with closing(History.open(path, HEADER)) as history:
        first, _ = ask(history), ask(history, depth=2)
        history.report(first.id, 1, 0.5, seconds=1.0, verdict="continue")
        history.report(first.id, 3, 0.25, seconds=3.0)
    return path


def read(path: Path) -> list[Any]:
    with closing(History.open(path, None)) as history:
        return history.trials()


def test_every_field_of_a_report_is_sealed(path: Path) -> None:
    names = [name for (_, name, *_) in select(path, "PRAGMA table_info(reports)")]
    assert names == ["trial", "step", "value", "seconds", "attempt", "verdict", "revision", "seal"]
    whole, rows = path.read_bytes(), select(path, "SELECT * FROM reports")
    for name in names:
        for value in ("7", "x", 0.0625, b"x", None, 7):
            path.write_bytes(whole)
            try:
                change(path, f"UPDATE reports SET {name} = ? WHERE step = 3", value)
            except sqlite3.Error:  # it refuses that
                continue
            if select(path, "SELECT * FROM reports") == rows:
                continue
            with pytest.raises(StorageError, match=r"got trial .* with a report of (step|revision)"):
                read(path)
    assert not any(path.parent.glob("*-journal"))


@pytest.mark.parametrize(
    "content",
    [
        (1, 1, math.inf, 0.0, 1, None),
        (1, 1, "x", 0.0, 1, None),
        (1, 1, 0.5, -1.0, 1, None),
        (1, 0, 0.5, 0.0, 1, None),
        (1, 1, 0.5, 0.0, 0, None),
        (1, 1, 0.5, 0.0, 1, "eval"),
        ("x", 1, 0.5, 0.0, 1, None),
        (-1, 1, 0.5, 0.0, 1, None),
    ],
)
def test_a_report_that_bo_suite_has_not_made_is_refused_though_its_seal_fits(
    path: Path, content: tuple[Any, ...]
) -> None:
    row = (*content, 9)
    seal = f"{crc32(repr(row).encode()):08x}"
    change(path, "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row, seal)
    with pytest.raises(StorageError, match="that bo_suite has not made"):
        read(path)


def test_reports_of_no_trial_are_nobodys_and_not_those_of_a_later_trial(path: Path) -> None:
    """Somebody has deleted the last trial of the file by hand."""
    with closing(History.open(path, None)) as history:
        history.report(1, 2, 0.5, verdict="continue")
    change(path, "DELETE FROM trials WHERE id = 1")
    assert len(read(path)) == 1
    with closing(History.open(path, None)) as history:
        trial = ask(history, depth=3)
        assert (trial.id, trial.reports) == (1, ())
        assert history.report(1, 1, 0.75).reports[0].value == 0.75
        assert history.trials() == read(path)
    assert [len(trial.reports) for trial in read(path)] == [2, 1]


def test_nothing_is_stored_in_a_file_that_was_overwritten_by_an_earlier_state(path: Path) -> None:
    earlier = path.read_bytes()
    with closing(History.open(path, None)) as history:
        history.reclaim()
        history.report(0, 5, 0.125, verdict="continue")
        history.report(1, 1, 0.125, verdict="continue")
        before = history.trials()
        path.write_bytes(earlier)
        for call in (lambda: history.report(1, 2, 0.5), lambda: history.tell(1, 0.5), history.trials):
            with pytest.raises(
                StorageError, match="was replaced while it was open, and now holds an earlier"
            ):
                call()
        assert [trial.step for trial in before] == [5, 1]
    assert path.read_bytes() == earlier


def test_a_report_that_was_not_stored_is_not_in_memory_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(History.open(path, None)) as history:
        before = history.trials()
        monkeypatch.setattr(history._table.database, "write", _fails_at("COMMIT", history))
        with pytest.raises(StorageError, match="disk is full"):
            history.report(1, 1, 0.5, attempt=1)
        monkeypatch.undo()
        assert history.trials() == before
        assert history.report(1, 1, 0.75, attempt=1).reports[0].value == 0.75
        assert history.trials() == read(path)


def _fails_at(statement: str, history: History) -> Any:
    write = history._table.database.write

    def written(text: str, values: Any = ()) -> None:
        if text == statement:
            raise StorageError("the disk is full")
        write(text, values)

    return written


@pytest.mark.parametrize(
    "form",
    [
        "os:system",
        5,
        [],
        {"class": "os:system", "fields": {}},
        {"type": "os:system", "fields": {"command": "touch owned"}},
        {"type": "bo_suite.run.schedulers.asha:ASHA", "fields": {"max_step": "9"}},
        {"type": "bo_suite.run.schedulers.asha:ASHA", "fields": {"max_step": 1}},
        {"type": "bo_suite.run.schedulers.asha:ASHA", "fields": {"max_step": 9, "more": 1}},
        {"type": "bo_suite.optim.maximize:Search", "fields": {}},
    ],
)
def test_a_stored_scheduler_that_is_none_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(History.open(tmp_path / "run.db", HEADER)) as history:
        header = history.header
        object.__setattr__(header, "scheduler", form)
        history._table.stored(lambda: history._table.put_header(header))
    with pytest.raises(BoSuiteError):
        Optimizer.resume(tmp_path / "run.db")
    assert not (tmp_path / "owned").exists()


def test_a_copy_of_the_file_alone_has_the_reports(path: Path, tmp_path: Path) -> None:
    with closing(History.open(path, None)) as history:
        history.reclaim()
        history.report(1, 1, 0.5)
        copy = Path(shutil.copy(path, tmp_path / "copy.db"))
        assert read(copy) == history.trials()
    assert read(copy)[0].params == POINT

"""Trials on disk: what is stored comes back exactly, what is refused changes nothing, nothing is lost."""

import gc
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from histories import HEADER, POINT, SPACE, add, ask
from hypothesis import given, settings
from hypothesis import strategies as st

from bo_suite.errors import StorageError, TrialError
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.storage import database as module
from bo_suite.storage import sqlite
from bo_suite.storage.history import History
from bo_suite.storage.schema import VERSION
from bo_suite.storage.sqlite import SqliteDatabase
from bo_suite.storage.trial import Header, record

processes = multiprocessing.get_context("forkserver")


def run(target: Callable[..., None], *arguments: Any) -> Any:
    """Starts a process of its own."""
    process = processes.Process(target=target, args=arguments)
    process.start()
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture(params=["disk", "memory"])
def history(request: pytest.FixtureRequest, path: Path) -> Iterator[History]:
    opened = History.open(path if request.param == "disk" else None, HEADER)
    yield opened
    opened.close()


# What goes in comes out.


texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-1e300, 1e300),
    n=st.integers(-(2**51), 2**51),
    options=st.lists(
        st.one_of(texts, st.just("\ud800"), st.none(), numbers),
        min_size=1,
        max_size=4,
        unique_by=lambda option: option,
    ),
    value=numbers,
    std=st.one_of(st.none(), st.floats(0, allow_infinity=False)),
    reason=texts,
    provenance=st.dictionaries(texts, st.recursive(numbers | texts | st.none(), st.lists, max_leaves=5)),
)
def test_round_trips_are_exact_through_a_file(
    x: float, n: int, options: list[Any], value: float, std: float | None, reason: str, provenance: Any
) -> None:
    space = Space({"x": Float(-1e300, 1e300), "n": Int(-(2**51), 2**51 - 1), "ö\n": Choice(options)})
    point = space.check({"x": x, "n": min(n, 2**51 - 1), "ö\n": options[-1]})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.db"
        history = History.open(file, Header(space, 2**80, "maximize", 7, {"name": "x"}))
        history.insert([point, point], [provenance, {}], expected=0)
        history.tell(0, value, std)
        history.fail(1, reason)
        written = history.trials()
        history.close()
        resumed = History.open(file, None)
        read = resumed.trials()
        resumed.close()
    assert resumed.header == history.header
    assert repr([record(trial) for trial in read]) == repr([record(trial) for trial in written])
    assert repr(read[0].params) == repr(point)
    assert (read[0].value, read[0].std, read[1].reason) == (value, std, reason)
    assert read[0].provenance == provenance


# Files that are not ours.


def refuse(path: Path, message: str, header: Header | None = HEADER) -> None:
    before = path.read_bytes() if path.is_file() else None
    for expected in (HEADER, None) if header is HEADER else (header,):
        with pytest.raises(StorageError, match=message) as caught:
            History.open(path, expected)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    if before is not None:
        assert path.read_bytes() == before, "a file that is not ours stays as it is"


@pytest.mark.parametrize("content", [b"hi", b"lr,depth\n0.1,3\n" * 300, b"\0" * 5000, b"SQLite format 3\0"])
def test_a_file_of_another_kind_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refuse(path, "^the storage must be a history of bo_suite |^the storage is damaged")


def test_another_database_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE meta (a, b)")
    other.execute("CREATE TABLE trials (c)")
    other.commit()
    other.close()
    refuse(path, r"^the storage must be a history of bo_suite .* it has tables \['meta', 'trials'\]\)$")


def test_a_missing_place_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "^the storage must be a file, got the folder")
    refuse(tmp_path / "no" / "run.db", "^the folder of the storage must exist, got")
    (tmp_path / "file").write_text("")
    refuse(tmp_path / "file" / "run.db", "^the folder of the storage must exist, got")
    with pytest.raises(
        StorageError, match=r"^the storage must exist to be resumed, got .* there is no file$"
    ):
        History.open(tmp_path / "run.db", None)
    assert not (tmp_path / "run.db").exists()


def test_an_empty_file_is_a_history_yet_to_begin(path: Path) -> None:
    path.touch()
    with pytest.raises(StorageError, match=r"^the storage must hold a history, got .* which is empty$"):
        History.open(path, None)
    with pytest.raises(StorageError, match="the storage must exist to be resumed, got None"):
        History.open(None, None)
    History.open(path, HEADER).close()
    assert History.open(path, None).header == HEADER


def test_a_torn_file_is_refused_or_whole(path: Path) -> None:
    history = History.open(path, HEADER)
    for _ in range(100):
        ask(history)
    whole = history.trials()
    history.close()
    content, refused = path.read_bytes(), 0
    for size in [15, 16, 50, 99, 100, 101, 512, 4095, *range(4096, len(content), 4096), len(content) - 1]:
        path.write_bytes(content[:size])
        try:
            torn = History.open(path, HEADER)
            assert torn.trials() == whole
        except StorageError:
            refused += 1
    assert refused > 10


def altered(path: Path, key: str, value: str) -> None:
    History.open(path, HEADER).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    connection.commit()
    connection.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    newer = VERSION + 1
    altered(path, "schema", str(newer))
    law = (
        f"^this version of bo_suite reads histories up to schema {VERSION}, got schema {newer} in .* a newer"
    )
    refuse(path, law)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": Float(1e-5, 0.5, log=True)}, r"'lr': Float\(.*high=1\.0.*\), got Float\(.*high=0\.5"),
        ({"extra": Int(0, 1)}, r"'extra': absent, got Int\(low=0"),
        (
            {"depth": None},
            r"'depth': Int\(low=1, high=12, .*\), got absent \(Optimizer",
        ),
        ({"kernel": Choice(["poly", "rbf"])}, r"'kernel': Choice.* got Choice"),
        (
            "reversed",
            r"in the order \['lr', 'depth', 'kernel'\], got \['kernel', 'depth', 'lr'\] \(",
        ),
    ],
)
def test_another_space_is_refused_and_the_difference_named(path: Path, changes: Any, message: str) -> None:
    History.open(path, HEADER).close()
    parameters: dict[str, Any] = dict(SPACE.parameters)
    if changes == "reversed":
        parameters = dict(reversed(parameters.items()))
    else:
        parameters = {name: p for name, p in (parameters | changes).items() if p is not None}
    refuse(path, f"belongs to another space: .*{message}", replace(HEADER, space=Space(parameters)))


def test_another_seed_or_direction_is_refused(path: Path) -> None:
    History.open(path, HEADER).close()
    refuse(path, "belongs to another seed: 3, got 4$", replace(HEADER, seed=4))
    refuse(
        path, "belongs to another direction: minimize, got maximize$", replace(HEADER, direction="maximize")
    )
    changed = replace(HEADER, budget=9, acquisition={"name": "ucb"})
    History.open(path, changed).close()
    assert History.open(path, None).header == changed, "the latest budget and acquisition stay"
    unsaid = replace(HEADER, budget=None, acquisition=None)
    assert History.open(path, unsaid).header == changed, "None leaves them as they are"


# A full disk.


def _fill(path: str, pipe: Any) -> None:
    history = History.open(path, HEADER)
    acknowledged = [ask(history)]
    size = Path(path).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60_000, resource.RLIM_INFINITY))
    try:
        for _ in range(10_000):
            acknowledged.append(ask(history))
    except StorageError as error:
        message = str(error)
    same = history.trials() == acknowledged  # read while the disk is full
    with pytest.raises(StorageError, match="disk"):
        history.insert([POINT] * 3, [{"long": "x" * 30_000}] * 3, expected=None)
    same = same and history.trials() == acknowledged
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    acknowledged[0] = history.tell(0, 1.0)  # room again: the same object goes on
    pipe.send((message, same and history.trials() == acknowledged, acknowledged))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_undoes_the_write_and_the_history_goes_on(path: Path) -> None:
    mine, theirs = processes.Pipe()
    child = run(_fill, str(path), theirs)
    assert mine.poll(60)
    message, same, acknowledged = mine.recv()
    child.join()
    assert message.startswith("the disk did not accept the data, nothing was written; is it full? (")
    assert same
    assert len(acknowledged) > 2
    resumed = History.open(path, None)
    assert resumed.trials() == acknowledged
    resumed.close()


def test_no_room_in_the_database_is_a_full_disk(history: History) -> None:
    trial = ask(history)
    pages = history._table.database.number("PRAGMA page_count")
    limit = f"PRAGMA max_page_count = {pages + 2}"  # gives SQLITE_FULL, as ENOSPC does
    history._table.database.execute(limit)
    with pytest.raises(StorageError, match=r"^the disk is full, nothing was written "):
        history.insert([POINT] * 9, [{"long": "x" * 4000}] * 9, expected=None)
    assert history.trials() == [trial]
    history._table.database.execute("PRAGMA max_page_count = 100000")
    assert history.tell(trial.id, 1.0).value == 1.0


def _fill_really(folder: str, pipe: Any) -> None:
    """Opens until creation itself meets the full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    try:
        History.open(Path(folder) / "run.db", HEADER)
    except StorageError as error:
        pipe.send(str(error))


def test_creation_on_a_full_disk_can_be_repeated(path: Path) -> None:
    mine, theirs = processes.Pipe()
    child = run(_fill_really, str(path.parent), theirs)
    assert mine.poll(30)
    assert "the disk did not accept" in mine.recv()
    child.join()
    History.open(path, HEADER).close()
    assert History.open(path, None).trials() == []


# Owners.


def _ask_and_stay(path: str, pipe: Any) -> None:
    history = History.open(path, HEADER)
    pipe.send(ask(history))
    pipe.recv()
    pipe.send(history.trials())


def test_a_dead_process_loses_its_trials_and_a_living_one_keeps_them(path: Path) -> None:
    history = History.open(path, HEADER)
    mine, theirs = processes.Pipe()
    child = run(_ask_and_stay, str(path), theirs)
    asked = mine.recv()
    own = ask(history)
    assert history.reclaim() == [], "it lives"
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not (taken := history.reclaim()) and time.monotonic() < deadline:  # a zombie is as dead as can be
        time.sleep(0.01)
    child.join()
    (again,) = taken
    assert (again.id, again.params, again.state, again.attempt) == (asked.id, asked.params, "running", 2)
    assert again.started > asked.started
    assert history.reclaim() == [], "ours now"
    before = history.trials()
    for end in (lambda: history.tell(0, 1.0, attempt=1), lambda: history.fail(0, "late", attempt=1)):
        with pytest.raises(TrialError, match=r"trial 0 was handed out again as attempt 2, got attempt 1$"):
            end()
    assert history.trials() == before == [again, own]
    assert history.tell(0, 1.0, attempt=2).attempt == 2
    with pytest.raises(TrialError, match=r"handed out again as attempt 2, got attempt 1$"):
        history.tell(0, 1.0, attempt=1)
    history.close()


def test_in_one_process_an_open_history_keeps_its_trials_and_a_closed_or_collected_one_loses_them(
    path: Path,
) -> None:
    closed, collected, opened, history = (History.open(path, HEADER) for _ in range(4))
    for owner in (closed, collected, opened, history):
        ask(owner)
    closed.close()
    del collected, owner
    gc.collect()
    assert [trial.id for trial in history.reclaim()] == [0, 1]
    assert [trial.attempt for trial in history.trials()] == [2, 2, 1, 1]
    opened.close()
    history.close()


def test_two_that_reclaim_at_once_share_no_trial(path: Path) -> None:
    history = History.open(path, HEADER)
    for _ in range(20):
        ask(history)
    history.close()
    taken: list[list[int]] = []

    def reclaim(other: History) -> None:
        taken.append([trial.id for trial in other.reclaim()])

    others = [History.open(path, None) for _ in range(4)]
    threads = [threading.Thread(target=reclaim, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for numbers in taken for number in numbers) == list(range(20))


# Many at once.


def test_one_may_create_the_file_while_another_looks_at_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, threads, opened = SqliteDatabase.execute, [], []

    def meet(self: SqliteDatabase, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        rows = execute(self, statement, values)
        if statement == "PRAGMA application_id" and not threads:  # between two looks at the empty file
            threads.append(threading.Thread(target=lambda: opened.append(History.open(path, HEADER))))
            threads[0].start()
            threads[0].join(0.3)
        return rows

    monkeypatch.setattr(SqliteDatabase, "execute", meet)
    opened.append(History.open(path, HEADER))
    threads[0].join()
    assert len(opened) == 2
    for number, history in enumerate(opened):
        assert ask(history).id == number
        history.close()


def test_trials_reads_only_what_changed(path: Path) -> None:
    history, other = History.open(path, HEADER), History.open(path, HEADER)
    history.insert([POINT] * 200, [{}] * 200, expected=0)
    first = history.trials()
    assert len(other.trials()) == 200
    other.tell(150, 1.0)
    ask(other)
    other.tell(3, 2.0)
    statements: list[str] = []
    history._table.database.connection.set_trace_callback(statements.append)
    changed = history.trials()
    assert (changed[150].value, changed[3].value, len(changed)) == (1.0, 2.0, 201)
    assert sum(new is not old for new, old in zip(changed, first, strict=False)) == 2
    assert len(statements) == 8, "one state of the file"
    assert history.trials() == changed
    assert statements[8:] == ["PRAGMA data_version"], "nothing changed: no row is looked at"
    history._table.database.connection.set_trace_callback(None)
    history.trials().clear()
    assert len(history.trials()) == 201, "the list is the caller's"
    history.close()
    other.close()


def test_a_lock_that_is_never_released_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.2)
    monkeypatch.setattr(sqlite, "_STEP", 0.05)
    history = History.open(path, HEADER)
    trial = ask(history)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        StorageError, match=r"^other processes have locked the storage .* database is locked\)$"
    ):
        history.tell(trial.id, 1.0)
    assert history.trials() == [trial], "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert history.tell(trial.id, 1.0).value == 1.0
    history.close()


FORK = """
import os, sys, threading
from pathlib import Path
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header
from bo_suite.space.parameters import Float
from bo_suite.space.space import Space

HEADER, POINT = Header(Space({"x": Float(0, 1)}), 0, "minimize", None, None), {"x": 0.5}

path = Path(sys.argv[1]) if sys.argv[1] else None
history = History.open(path, HEADER)
history.insert([POINT, POINT], [{}, {}], expected=0)
held = threading.Event()
release = threading.Event()
def hold():
    with history._table.database.session():
        held.set()
        release.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    history.tell(1, 0.5)
    again, = history.insert([POINT], [{}], expected=2)
    assert f":{os.getpid()}:" in history.owner
    assert history.reclaim() == []
    sys.exit(0)  # runs finalizers, which must not pull the log away from under the parent
release.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert f":{os.getpid()}:" in history.owner
told = history.tell(0, 0.25)
values = [trial.value for trial in history.trials()]
if path:
    assert values == [0.25, 0.5, None], values
    assert [trial.id for trial in history.reclaim()] == [2]
    assert history._table.database.execute("PRAGMA integrity_check") == [("ok",)]
else:
    assert values == [0.25, None], values  # memory is copied by a fork, not shared
print("ok")
"""


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_history_survives_a_fork(path: Path, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(path) if where == "disk" else ""],
        env=os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "ok\n", done.stderr


# Interrupted anywhere.


def wider(space: Space) -> Space:
    """The space with one more depth."""
    return Space(dict(space) | {"depth": Int(1, space["depth"].high + 1)})


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_at_any_statement_leaves_the_write_whole_or_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    history = History.open(path, HEADER)
    ask(history)
    writes: list[Callable[[], Any]] = [
        lambda: history.insert([POINT] * 3, [{}] * 3, expected=None),
        lambda: history.tell(ask(history).id, 1.0),
        lambda: history.fail(ask(history).id, "no"),
        lambda: add(history, POINT, 1.0),
        lambda: history.enqueue([POINT, {"depth": 2}]),
        lambda: history.insert([POINT], [{}], expected=None, queued=[history.queue()[0].id]),
        lambda: history.amend(0, history.trials()[-1].id + 0.5),
        lambda: history.forget(history.trials()[-1].id, "typo"),
        lambda: history.extend(history.header.space, wider(history.header.space), {}),
    ]
    interrupts = 0
    for write in writes:
        for stop in range(100):
            moments: list[str] = []

            def interrupt(moment: str, stop: int = stop, moments: list[str] = moments) -> None:
                moments.append(moment)
                if len(moments) == stop + 1:
                    raise error

            before = history.trials()
            monkeypatch.setattr(module, "_failpoint", interrupt)
            try:
                write()
                break
            except error:
                interrupts += 1
            finally:
                monkeypatch.setattr(module, "_failpoint", module._no_failpoint)
            assert not history._table.database.connection.in_transaction
            after = history.trials()
            assert after[: len(before)] == before or "after COMMIT" in moments
            if moments[-1] != "after COMMIT" and moments.count("after COMMIT") == 0:
                assert after == before
            other = History.open(path, None)
            assert other.trials() == after
            assert (other.header, other.queue()) == (history.header, history.queue())
            assert other.changes() == history.changes()
            other.close()
        else:
            pytest.fail("no end of statements")
    assert interrupts >= 40
    history.close()


def test_the_disk_is_waited_for(path: Path) -> None:
    history = History.open(path, HEADER)
    assert history._table.database.execute("PRAGMA journal_mode") == [("delete",)]
    assert history._table.database.number("PRAGMA synchronous") == 3, "EXTRA"
    ask(history)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "all of it is in the file"
    history.close()


def test_what_is_stored_is_strict_json(path: Path) -> None:
    history = History.open(path, replace(HEADER, budget=5, acquisition={"name": "logei", "beta": None}))
    history.insert([POINT], [{"hyperparameters": [0.1, 1e-300]}], expected=0)
    connection = sqlite3.connect(path)
    texts = [text for (text,) in connection.execute("SELECT value FROM meta")]
    texts += [text for row in connection.execute("SELECT params, provenance FROM trials") for text in row]
    connection.close()

    def no_constant(constant: str) -> None:
        raise AssertionError(constant)

    for text in texts:
        json.loads(text, parse_constant=no_constant)
    assert asdict(history.header)["budget"] == 5
    history.close()


def test_an_error_of_the_module_itself_is_a_storage_error(history: History) -> None:
    history._table.database.connection.close()
    with pytest.raises(StorageError, match=r"^SQLite cannot use the storage "):
        history.trials()

"""What may name a storage: a path or an address; others are refused, and no password is repeated."""

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import optuna
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.bench import Records, report, run_suite
from bo_suite.cli import app
from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.integrations.optuna import from_optuna
from bo_suite.integrations.optuna_view import HistoryStorage, to_study
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.report import report_run
from bo_suite.storage.addresses import parsed
from bo_suite.storage.history import History
from bo_suite.storage.paths import output_of, storage_place, without_passwords

SPACE = Space({"x": Float(0, 1)})
ADDRESSES = {
    "postgresql+psycopg2://u:hush@db:5432/bo?sslmode=require": "begins with postgresql+psycopg2:",
    "mysql+pymysql://u:hush@db/bo": "begins with mysql+pymysql:",
    "redis://:hush@db:6379/0": "begins with redis:",
    "jdbc:postgresql://db/bo?user=u&password=hush": "begins with jdbc:",
    "sqlite:///run.db": "begins with sqlite: (give the path of the file alone)",
    "sqlite://": "begins with sqlite: (give the path of the file alone)",
    "sqlite+pysqlite:///run.db": "begins with sqlite+pysqlite: (give the path of the file alone)",
    "file:run.db?mode=ro": "begins with file: (give the path of the file alone)",
    "file:///tmp/run.db": "begins with file: (give the path of the file alone)",
    "s3://bucket/run.db": "begins with s3:",
    "http://u:hush@host/run.db": "begins with http:",
    "u:hush@db/bo": "an address with a user and a password",
    "//u:hush@db/bo": "an address with a user and a password",
    "host=db user=u password=hush dbname=bo": "settings of a database",
    "Server=db;Database=bo;Uid=u;Pwd=hush;": "settings of a database",
}
"""What is neither a path nor an address of PostgreSQL."""

ADDRESS = "postgresql://u:hush@db/bo"

LAW = (
    "must be a path, such as 'run.db', or an address like postgresql://user@host:5432/database?run=NAME, got"
)
LOCAL = "must be a path on a local disk, such as 'run.db', got an address that begins with"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def searched(storage: Any) -> Any:
    x, y = load_iris(return_X_y=True)
    search = BOSearchCV(KNeighborsClassifier(), {"n_neighbors": (1, 9)}, n_iter=1, storage=storage)
    return search.fit(x, y)


def a_study() -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    return study


def tuned(storage: Any) -> Any:
    pytest.importorskip("ray")
    return import_module("bo_suite.integrations.ray_tune").BoSuiteSearch(storage=storage)


DOORS: dict[str, Callable[[Any], Any]] = {
    "Optimizer": lambda storage: Optimizer(SPACE, storage=storage),
    "resume": Optimizer.resume,
    "minimize": lambda storage: minimize(lambda params: 0.0, SPACE, 1, storage=storage, progress=False),
    "from_optuna": lambda storage: from_optuna(a_study(), storage=storage),
    "to_study": to_study,
    "HistoryStorage": HistoryStorage,
    "History": lambda storage: History.open(storage, None),
    "report_run": report_run,
    "run_suite": lambda folder: run_suite("branin", "random", [0], 1, folder, progress=False),
    "Records": Records.read,
    "report": report,
}
"""What takes a path or an address."""

LOCAL_DOORS: dict[str, Callable[[Any], Any]] = {
    "BOSearchCV": searched,
    "BoSuiteSearch": tuned,
}
"""What takes a path alone."""


def said_by(error: BaseException) -> str:
    """All that is said of an error, also of those that are not shown with it."""
    shown = "".join(traceback.format_exception(error))
    chain: list[BaseException | None] = [error]
    while (one := chain.pop()) is not None:
        shown += f"{one!r} {one}"
        chain.append(one.__cause__ or one.__context__)
    return shown


@pytest.mark.parametrize("door", [*DOORS, *LOCAL_DOORS])
def test_every_door_refuses_other_addresses_without_their_passwords(
    door: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    law, call = (LAW, DOORS[door]) if door in DOORS else (LOCAL, LOCAL_DOORS[door])
    for address in ("mysql://u:hush@db/bo", "sqlite:///hush.db", Path("mysql://u:hush@db/bo")):
        with pytest.raises(StorageError) as caught:
            call(address)
        assert law in str(caught.value)
        assert "hush" not in said_by(caught.value) + caplog.text
        assert "\n" not in str(caught.value)
    assert os.listdir() == []


@pytest.mark.parametrize("door", ["BOSearchCV", "BoSuiteSearch"])
def test_what_has_files_beside_a_history_takes_no_database(door: str) -> None:
    for address in (ADDRESS, parsed(ADDRESS)):
        with pytest.raises((StorageError, ValueError)) as caught:
            LOCAL_DOORS[door](address)
        assert "hush" not in said_by(caught.value)
    assert os.listdir() == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_path(address: str) -> None:
    for given in (address, PurePosixPath(address)):
        with pytest.raises(StorageError) as caught:
            storage_place(given)
        assert str(caught.value).startswith(f"the storage {LAW}")
        assert "hush" not in str(caught.value)
    with pytest.raises(StorageError) as caught:
        storage_place(address)
    assert str(caught.value).endswith(ADDRESSES[address])


@pytest.mark.parametrize(
    "address",
    [
        *("postgresql:/u:hush@db/bo", "postgresql:u:hush@db", "postgresql://u:hu@sh@db/bo"),
        *("postgresql://u:hu/sh@db/bo", "postgresql://u:hu?sh@db/bo", "postgresql://u:hu:sh@db/bo"),
        *("postgresql://u:hu#sh@db/bo", "postgresql://u:hu%zzsh@db/bo", "postgresql://u:hush@db:port/bo"),
        *(
            "postgresql://u:hush@db/bo?pasword=hush",
            "postgresql://u:hu\0sh@db/bo",
            "postgresql://u:hu\nsh@db",
        ),
        *("postgresql://u:hush\ud800@db/bo", "postgresql://u:hu,sh/x@db/bo"),
    ],
)
def test_a_malformed_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(StorageError, match=r"^an address must be like postgresql://user@host") as caught:
        storage_place(address)
    said = said_by(caught.value)
    assert not any(secret in said for secret in ("hush", "hu@", "sh@", "hu%", "hu/", "'hu", "\nsh"))


def test_a_path_that_was_an_address_has_lost_a_slash() -> None:
    with pytest.raises(StorageError, match=r"must be text, got a path, which has lost a slash$"):
        storage_place(Path("postgresql://u:hush@db/bo"))


@pytest.mark.parametrize(
    ("query", "law"),
    [
        ("lease=0", "lease= in an address must be a number of seconds"),
        ("lease=nan", "lease= in an address must be a number of seconds"),
        ("heartbeat=soon", "heartbeat= in an address must be a number of seconds"),
        ("lease=2&heartbeat=2", "a lease must last longer than its heartbeat, got lease=2 and heartbeat=2"),
        ("run=", "the name of a run must be printable text of 1 to 48 bytes"),
        ("run=" + 49 * "x", "the name of a run must be printable text of 1 to 48 bytes"),
        ("run=a%0Ab", "the name of a run must be printable text of 1 to 48 bytes"),
    ],
)
def test_a_wrong_lease_or_name_is_refused(query: str, law: str) -> None:
    with pytest.raises(StorageError, match=law) as caught:
        storage_place(f"{ADDRESS}?{query}")
    assert "hush" not in said_by(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgres://u:hush@db/bo?sslmode=require&lease=3", "postgresql://u@db/bo?sslmode=require&lease=3"),
        (" POSTGRESQL://db:5/bo?run=a b/c", "postgresql://db:5/bo?run=a%20b%2Fc"),
        ("postgresql://u@db/b%2Fo?password=hush&sslpassword=hush", "postgresql://u@db/b%2Fo"),
        ("postgresql:///bo?host=/run/pg&user=u", "postgresql://u@%2Frun%2Fpg/bo"),
        ("postgresql://u:hush@a:1,[::1]:2/bo", "postgresql://u@a:1,%3A%3A1:2/bo"),
        ("postgresql://u:hu%40%2Fsh@db/bo?run=default", "postgresql://u@db/bo"),
    ],
)
def test_an_address_is_shown_pickled_and_copied_without_secrets(address: str, shown: str) -> None:
    place = parsed(address)
    assert str(place) == shown
    assert str(parsed(shown)) == shown, "what is shown is an address of the same run"
    again = pickle.loads(pickle.dumps(place))
    assert (again.shown, again.run, again.lease) == (place.shown, place.run, place.lease)
    assert ("sslmode=require" in again.connection) == ("sslmode=require" in address)
    assert not any(secret in f"{place!r}{again.connection}" for secret in ("hush", "hu%40", "hu@/sh"))
    base, _, query = shown.partition("?")
    others = [pair for pair in query.split("&") if pair and not pair.startswith("run=")]
    assert str(place.sibling("x y")) == f"{base}?{'&'.join(['run=x%20y', *others])}"


def test_files_about_a_run_are_named_after_it() -> None:
    assert output_of(Path("runs/a.db"), ".png") == Path("runs/a.png")
    assert output_of(parsed("postgresql://db/bo?run=svm v1.2"), ".html") == Path("svm_v1.2.html")
    assert output_of(parsed("postgresql://db/bo?run=../../x"), ".html") == Path(".._.._x.html")


def test_an_address_in_the_wrong_place_is_not_repeated() -> None:
    text = "got postgresql://u:hush@db/bo and postgresql://u@db/bo?password=hush&run=a"
    assert (
        without_passwords(text) == "got postgresql://u:***@db/bo and postgresql://u@db/bo?password=***&run=a"
    )
    for line in ([ADDRESS], ["best", ADDRESS, ADDRESS], ["minimize", ADDRESS], ["tell", "run.db", ADDRESS]):
        answer = CliRunner().invoke(app, line)
        assert answer.exit_code in (1, 2)
        assert "hush" not in answer.output


def test_psycopg_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r'needs psycopg: pip install "bo-suite\[postgres\]"$') as caught:
        Optimizer(SPACE, storage=ADDRESS)
    assert "hush" not in said_by(caught.value)
    answer = CliRunner().invoke(app, ["best", ADDRESS])
    assert answer.exit_code == 1
    assert "bo-suite[postgres]" in answer.output


COMMANDS = (
    ["ask", "{}"],
    ["tell", "{}", "0", "1.0"],
    ["best", "{}"],
    ["minimize", "branin", "--storage", "{}"],
    ["bench", "branin", "--methods", "random", "--out", "{}"],
    ["report", "{}"],
    ["status", "{}"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_commands_refuse_other_addresses_without_their_passwords(command: list[str]) -> None:
    for address in ("mysql://u:hush@db/bo", ":memory:"):
        answer = CliRunner().invoke(app, [part.format(address) for part in command])
        assert answer.exit_code == 1
        assert "hush" not in answer.output
        assert "Traceback" not in answer.output
        assert "must be" in answer.output
    assert os.listdir() == []


@pytest.mark.parametrize("given", [":memory:", Path(":memory:"), "file::memory:?cache=shared"])
def test_memory_is_none(given: Any) -> None:
    for door in ("Optimizer", "resume", "minimize", "to_study"):
        with pytest.raises(StorageError, match=r"must be None for a history in memory, got ':memory:'"):
            DOORS[door](given)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"run.db", "the storage must be a path, got an object of type bytes"),
        (3, "the storage must be a path, got an object of type int"),
        (True, "the storage must be a path, got an object of type bool"),
        (["run.db"], "the storage must be a path, got an object of type list"),
        ("", "the storage must be a path, got ''"),
        ("  ", "the storage must be a path, got '  '"),
        (".", "the storage must be a file, got the folder"),
        ("none/run.db", "the folder of the storage must exist, got"),
        ("a\0b.db", r"must not contain a NUL character, got 'a\\x00b.db'"),
        ("\ud800.db", "must have a valid file name, got"),
        ("x" * 300, "the storage must be a file that can be opened, got"),
    ],
    ids=repr,
)
def test_what_names_no_file_is_refused(given: Any, message: str) -> None:
    for door in ("Optimizer", "resume", "minimize"):
        with pytest.raises(StorageError, match=message):
            DOORS[door](given)
    assert os.listdir() == []


def test_none_cannot_be_resumed() -> None:
    with pytest.raises(StorageError, match="must exist to be resumed, got None, which is memory"):
        Optimizer.resume(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        *("run.db", "run", r"C:\runs\a.db", "a b?c#d%20.db", "a:b.db", "a@b.db", "lr=0.1.db", "häß.db"),
        *("~run", "-x.db", "memory", "a'b\".db"),
    ],
)
def test_a_name_of_a_file_is_taken(name: str, tmp_path: Path) -> None:
    optimizer = Optimizer(SPACE, storage=name)
    optimizer.tell(optimizer.ask(), 1.0)
    optimizer.close()
    assert os.listdir(tmp_path) == [name], "closing leaves the one file"
    again = Optimizer.resume(os.path.abspath(name))
    assert again.best.value == 1.0
    again.close()


def test_every_error_of_a_path_is_one_of_ours() -> None:
    for given in ("x" * 300, "\ud800", object(), 1.5, Path("/"), "/dev/null/run.db"):
        with pytest.raises(BoSuiteError):
            Optimizer(SPACE, storage=given)  # type: ignore[arg-type]

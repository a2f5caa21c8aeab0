"""What may name a storage: a path; addresses are refused at every door, and no password is repeated."""

import logging
import os
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
from bo_suite.storage.history import History
from bo_suite.storage.paths import storage_place

SPACE = Space({"x": Float(0, 1)})
ADDRESSES = {
    "postgresql://u:hush@db/bo": "an address that begins with postgresql:",
    "postgresql+psycopg://u:hush@db:5432/bo?sslmode=require": "begins with postgresql+psycopg:",
    "postgresql:/u:hush@db/bo": "begins with postgresql:",  # what a Path makes of it
    " PostgreSQL://u:hush@db/bo": "begins with postgresql:",
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
LAW = "must be a path on a local disk, such as 'run.db'"


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
    "BOSearchCV": searched,
    "from_optuna": lambda storage: from_optuna(a_study(), storage=storage),
    "to_study": to_study,
    "HistoryStorage": HistoryStorage,
    "History": lambda storage: History.open(storage, None),
    "run_suite": lambda folder: run_suite("branin", "random", [0], 1, folder, progress=False),
    "Records": Records.read,
    "report": report,
    "BoSuiteSearch": tuned,
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_addresses_without_their_passwords(
    door: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for address in ("postgresql://u:hush@db/bo", "sqlite:///hush.db", Path("mysql://u:hush@db/bo")):
        with pytest.raises(StorageError, match=LAW) as caught:
            DOORS[door](address)
        said = "".join(traceback.format_exception_only(caught.value)) + caplog.text
        assert "hush" not in said
        assert "\n" not in str(caught.value)
    assert os.listdir() == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_path(address: str) -> None:
    for given in (address, PurePosixPath(address)):
        with pytest.raises(StorageError) as caught:
            storage_place(given)
        assert str(caught.value).startswith(f"the storage {LAW} (databases and other addresses are not")
        assert "hush" not in str(caught.value)
    with pytest.raises(StorageError) as caught:
        storage_place(address)
    assert str(caught.value).endswith(ADDRESSES[address])


COMMANDS = (
    ["ask", "{}"],
    ["tell", "{}", "0", "1.0"],
    ["fail", "{}", "0", "reason"],
    ["withdraw", "{}", "0"],
    ["best", "{}"],
    ["trials", "{}"],
    ["plot", "{}"],
    ["minimize", "branin", "--storage", "{}"],
    ["bench", "branin", "--methods", "random", "--out", "{}"],
    ["report", "{}"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_addresses_without_their_passwords(command: list[str]) -> None:
    for address in ("postgresql://u:hush@db/bo", ":memory:"):
        answer = CliRunner().invoke(app, [part.format(address) for part in command])
        assert answer.exit_code == 1
        assert "hush" not in answer.output
        assert "Traceback" not in answer.output
        law = LAW if "hush" in address else r"must be"
        assert law in answer.output
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

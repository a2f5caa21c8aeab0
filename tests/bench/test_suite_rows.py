"""The rows of a suite's file: each is checked as it is read, and no name in one is ever imported."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bo_suite.bench import report, run_suite
from bo_suite.bench.environment import environment
from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.records import Records
from bo_suite.bench.rows import COLUMNS, row_digest
from bo_suite.bench.store import FILE, Store
from bo_suite.bench.unit import Unit
from bo_suite.errors import StorageError

PROBLEM = {"minimum": 0.25, "best_known": None, "noise": 0.0, "dim": 1, "budget": 3, "time_limit": None}


def a_suite(folder: Path) -> Path:
    """Of a finished, a timed out and a running unit."""
    store = Store(folder)
    store.agree("problems", "problem", "p", PROBLEM | {"space": "abc"})
    store.agree("methods", "method", "m", {"method": "Random()"})
    store.claim([("p", "m", seed) for seed in range(3)])
    done = [Evaluation({"x": 0.5, "k": "a"}, 2.0 + n, 1.0 + n, 0.1, 0.2, 0.3, {"n": n}) for n in range(3)]
    failed = Evaluation({"x": -0.0, "k": None}, None, None, 0.1, 0.2, 0.3, {}, "too far")
    whole = Unit("p", "m", 0, "finished", None, 1.5, 1, tuple(done))
    part = Unit("p", "m", 1, "timed out", "late", 2.5, 1, (done[0], failed))
    store.finish([whole, part], environment(), "the command", 0.25)
    store._database.connection.close()  # as a process that dies: the claim of seed 2 stays
    return folder


def changed(folder: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    with sqlite3.connect(folder / FILE) as connection:
        for statement in statements:
            connection.execute(statement, values)
    connection.close()


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute(query).fetchall()


def as_version_1(folder: Path) -> None:
    """As 0.8.0 wrote it: without hashes."""
    as_version_2(folder)
    drops = [f"ALTER TABLE {table} DROP COLUMN digest" for table in COLUMNS]
    changed(folder, *drops, "UPDATE meta SET value = '1'")


def as_version_2(folder: Path) -> None:
    """As 0.9.0 wrote it: without outcomes by name."""
    without_leases(folder)
    changed(folder, "ALTER TABLE evaluations DROP COLUMN outcomes", "UPDATE meta SET value = '2'")


def without_leases(folder: Path) -> None:
    """As it was written before there were leases, with a table that is stored by its key."""
    ((table,),) = rows(folder, "SELECT sql FROM sqlite_master WHERE name = 'evaluations'")
    changed(
        folder,
        "DROP TABLE leases",
        "ALTER TABLE evaluations RENAME TO others",
        f"{table} WITHOUT ROWID",
        "INSERT INTO evaluations SELECT * FROM others",
        "DROP TABLE others",
    )


def reads(folder: Path) -> list[Any]:
    return [lambda: Records.read(folder), lambda: Store(folder)]


WRONG = [
    ("problems", "form", ["no JSON", "[1]", "5", "[" * 100_000, '{"minimum": "abc"}', '{"minimum": NaN}']),
    ("problems", "form", ['{"noise": -1}', '{"dim": 0}', '{"dim": true}', '{"budget": 1.5}', b"\xff", 5]),
    ("problems", "form", ['{"minimum": ' + "9" * 400 + "}", '{"space": 5}', '{"time_limit": []}']),
    ("problems", "problem", ["", b"x"]),
    ("methods", "form", ["no JSON", "null", '{"method": 5}']),
    (
        "environments",
        "form",
        ["no JSON", '{"threads": "abc"}', '{"versions": []}', '{"command": {"os": "system"}}'],
    ),
    ("environments", "environment", [-7]),
    ("units", "seed", [-1, 0.5, "abc"]),
    ("units", "owner", [b"x"]),
    ("units", "reason", [b"x"]),
    ("units", "seconds", [None, -1.0, "abc", float("inf"), b"x"]),
    ("units", "replicates", [None, 0, -1, "abc", 0.5]),
    ("units", "environment", [None, 9, "abc"]),
    ("evaluations", "seed", [7, -1, "abc"]),
    ("evaluations", "method", ["os:system", ""]),
    ("evaluations", "evaluation", [7, 0, -1, "abc"]),
    ("evaluations", "params", ["no JSON", "[]", "{}", '{"x": {"os": "system"}}', b"\xff"]),
    ("evaluations", "value", ["abc", float("inf"), None, b"x"]),
    ("evaluations", "true_value", ["abc", float("-inf")]),
    ("evaluations", "regret", ["abc", float("inf")]),
    ("evaluations", "ask_seconds", ["abc", -1.0, float("inf")]),
    ("evaluations", "tell_seconds", [b"x"]),
    ("evaluations", "provenance", ["no JSON", "[]", "5"]),
    ("evaluations", "failure", ["a failure with a value", b"x"]),
]
WRONG_OUTCOMES = ["no JSON", "[]", "{}", '{"c": NaN}', '{"c": "1"}', b"x"]


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A suite of each version."""
    made = {version: a_suite(tmp_path_factory.mktemp("suite")) for version in "123"}
    as_version_1(made["1"])
    as_version_2(made["2"])
    return made


@pytest.mark.parametrize(("version", "read"), [("1", Store), ("3", Records.read)], ids=["store", "records"])
@pytest.mark.parametrize(("table", "field", "values"), WRONG, ids=lambda value: str(value)[:30])
def test_a_field_that_does_not_fit_is_an_error_with_its_row(
    table: str,
    field: str,
    values: list[Any],
    version: str,
    read: Any,
    suites: dict[str, Path],
    tmp_path: Path,
) -> None:
    first = "environment = 1" if table == "environments" else "rowid = 1"
    if table == "evaluations":
        first = "seed = 0 AND evaluation = 2"
    for number, value in enumerate(values):
        folder = shutil.copytree(suites[version], tmp_path / str(number))
        changed(folder, f"UPDATE {table} SET {field} = ? WHERE {first}", values=(value,))
        with pytest.raises(StorageError, match=rf"suite\.db: the row .* of {table}|environment|UTF-8"):
            read(folder)


@pytest.mark.parametrize("value", WRONG_OUTCOMES, ids=str)
def test_outcomes_that_do_not_fit_are_an_error(value: Any, suites: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(suites["3"], tmp_path / "suite")
    changed(folder, "UPDATE evaluations SET outcomes = ? WHERE seed = 0 AND evaluation = 2", values=(value,))
    with pytest.raises(StorageError, match=r"suite\.db: the row .* of evaluations: the field outcomes"):
        Records.read(folder)


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evaluations SET value = 2.5 WHERE seed = 0 AND evaluation = 1",
        "UPDATE evaluations SET regret = 0.0 WHERE seed = 0 AND evaluation = 1",
        "UPDATE evaluations SET ask_seconds = 0.0 WHERE seed = 0 AND evaluation = 1",
        """UPDATE evaluations SET params = '{"x": 0.25, "k": "a"}' WHERE seed = 0 AND evaluation = 1""",
        "UPDATE evaluations SET failure = 'nearer' WHERE seed = 1 AND evaluation = 2",
        "UPDATE evaluations SET digest = NULL WHERE seed = 0 AND evaluation = 1",
        "DELETE FROM evaluations WHERE seed = 0 AND evaluation = 3",
        "DELETE FROM evaluations WHERE seed = 0",
        "UPDATE units SET state = 'crashed' WHERE seed = 1",
        "UPDATE units SET state = 'finished' WHERE seed = 1",
        "UPDATE units SET seconds = 0.5 WHERE seed = 0",
        "UPDATE units SET digest = NULL WHERE seed = 0",
        "UPDATE units SET state = 'running', reason = NULL, seconds = NULL, replicates = NULL, "
        "environment = NULL WHERE seed = 0",
        "UPDATE units SET seed = 5 WHERE seed = 0",
        "DELETE FROM units WHERE seed = 0",
        """UPDATE problems SET form = '{"minimum": 0.0}'""",
        "UPDATE problems SET problem = 'q'",
        "UPDATE methods SET form = '{}'",
        "UPDATE environments SET form = '{}'",
        "DELETE FROM environments",
        "CREATE VIEW odd AS SELECT 1",
        "ALTER TABLE units DROP COLUMN seconds",
        "DROP TABLE evaluations",
        "DELETE FROM meta",
    ],
)
def test_a_change_that_leaves_rows_valid_is_an_error_too(
    statement: str, version: str, suites: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(suites[version], tmp_path / "suite")
    changed(folder, statement)
    for read in reads(folder):
        with pytest.raises(StorageError, match=r"suite\.db"):
            read()


@pytest.mark.parametrize(
    ("version", "age"), [("1", as_version_1), ("2", as_version_2), ("3", without_leases)]
)
def test_older_records_are_read_and_brought_to_this_version_when_they_are_continued(
    version: str, age: Callable[[Path], None], tmp_path: Path
) -> None:
    first = run_suite("branin", "random", range(2), 3, tmp_path, workers=1, progress=False)
    age(tmp_path)
    before = Records.read(tmp_path)
    for name in ("problems", "units", "evaluations", "environments"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(first, name))
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("SELECT value FROM meta").fetchone() == (version,), "reading changes nothing"
    after = run_suite("branin", "random", range(3), 3, tmp_path, workers=1, progress=False)
    assert connection.execute("SELECT value FROM meta").fetchone() == ("3",)
    assert connection.execute("SELECT count(*) FROM leases").fetchone() == (1,)
    for table in COLUMNS:
        assert connection.execute(f"SELECT count(*) FROM {table} WHERE digest IS NULL").fetchone() == (0,)
    connection.close()
    kept = after.evaluations[after.evaluations["seed"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first.evaluations)
    assert len(after.units) == 3


def test_a_damaged_file_of_version_1_stays_as_it_is(tmp_path: Path) -> None:
    folder = a_suite(tmp_path)
    as_version_1(folder)
    changed(folder, "UPDATE units SET seconds = 'abc' WHERE seed = 0")
    with pytest.raises(StorageError, match="the field seconds must be a finite number or none, got 'abc'"):
        Store(folder)
    connection = sqlite3.connect(folder / FILE)
    assert connection.execute("SELECT value FROM meta").fetchone() == ("1",)
    assert "digest" not in str(connection.execute("SELECT sql FROM sqlite_master").fetchall())
    connection.close()


def test_odd_numbers_are_hashed_as_they_are_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.claim([("p", "m", 0)])
    one = Evaluation({"x": 1}, -0.0, 1, 0, 0.0, 1e-320, {"odd": float("nan")})
    store.finish([Unit("p", "m", 0, "finished", None, 3, 1, (one,))], environment(), "", 1e-3)
    store.close()
    row = Records.read(tmp_path).evaluations.iloc[0]
    assert (row["value"], row["true_value"], row["regret"]) == (0.0, 1.0, 1.0 - 1e-3)
    Store(tmp_path).close()


def test_no_name_in_the_records_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w').close()\nthing = None\n")
    folder = tmp_path / "suite"
    run_suite("branin", "random,sobol", range(2), 3, folder, workers=1, progress=False)
    as_version_1(folder)
    for table in ("problems", "units", "evaluations"):
        changed(folder, f"UPDATE {table} SET problem = 'evil:thing'")
    for table in ("units", "evaluations"):
        changed(folder, f"UPDATE {table} SET method = 'evil:thing' WHERE method = 'sobol'")
    changed(folder, "UPDATE methods SET method = 'evil:thing' WHERE method = 'sobol'")
    assert set(Records.read(folder).units["problem"]) == {"evil:thing"}
    Store(folder).close()
    report(folder)
    run_suite("branin", "random", range(1), 3, folder, workers=1, again=("crashed",), progress=False)
    assert len(Records.read(folder).units) == 5
    assert not (tmp_path / "PWNED").exists()


def test_the_hash_of_a_row_is_of_each_of_its_values() -> None:
    row = ("p", 1, 0.5, None, "text")
    others = [("q", *row[1:]), (*row[:4], "texT"), ("p", 1.0, *row[2:]), (*row[:3], "null", "text"), row[:4]]
    assert len({row_digest(one) for one in (row, *others)}) == 6
    assert row_digest(row) == row_digest(json.loads(json.dumps(row)))

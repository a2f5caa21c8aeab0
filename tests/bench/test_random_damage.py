"""Random damage to the files of suites and searches: an error of ours, or the right data; nothing else."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_suite_rows import as_version_1

from bo_suite.bench import run_suite
from bo_suite.bench.records import Records
from bo_suite.bench.store import FILE, Store
from bo_suite.errors import StorageError
from bo_suite.integrations.folds import Journal, Record

TABLES = ("problems", "units", "evaluations", "environments")


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """With a bit flipped, bytes overwritten, a stretch zeroed, cut out or doubled, or the end missing."""
    data, place = bytearray(content), int(draw.integers(len(content)))
    size = int(draw.integers(1, 64))
    kind = int(draw.integers(6))
    if kind == 0:
        data[place] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        data[place : place + size] = draw.bytes(len(data[place : place + size]))
    elif kind == 2:
        data[place : place + size] = bytes(len(data[place : place + size]))
    elif kind == 3:
        del data[place : place + size]
    elif kind == 4:
        data[place:place] = data[place : place + size]
    else:
        del data[place:]
    return bytes(data)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "suite"
    run_suite("branin", "random,sobol", range(2), 6, folder, workers=1, progress=False)
    store = Store(folder)
    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return folder


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "run.db"
    journal = Journal.open(path, False, 2, "accuracy")
    scores = ({"a": 0.5, "b": float("nan")}, {"a": 0.25, "b": float("inf")})
    for trial in range(6):
        folds = [{"fit_time": 0.1, "score_time": 0.2, "test_scores": one} for one in scores]
        journal.add(trial, Record(folds, "why" if trial == 3 else None))
    journal.splits(splits(), 40, True)
    return path


def splits() -> Any:
    rows = np.random.default_rng(0).permutation(40)
    return [(rows[:20], rows[20:]), (rows[20:], rows[:20])]


def outcomes(
    file: Path, count: int, read: Callable[[], Any], equal: Callable[[Any, Any], bool]
) -> Counter[str]:
    """How often damage was found, harmless, and neither; any other exception gets out."""
    content, right, found = file.read_bytes(), read(), Counter[str]()
    for number in range(count):
        file.write_bytes(damaged(content, np.random.default_rng((number, count))))
        try:
            one = read()
        except StorageError:
            found["error"] += 1
        else:
            found["right" if equal(one, right) else "WRONG"] += 1
    return found


def same_records(one: Records, other: Records) -> bool:
    return all(getattr(one, name).equals(getattr(other, name)) for name in TABLES)


def same_journal(one: dict[int, Record], other: dict[int, Record]) -> bool:
    return repr(one) == repr(other)


def same_splits(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(*pair)
        for old, new in zip(one, other, strict=True)
        for pair in zip(old, new, strict=True)
    )


COUNTS = [pytest.param(40, id="40"), pytest.param(300, id="300", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_records_that_are_damaged_are_an_error_or_right(count: int, suite: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(suite, tmp_path / "suite")
    found = outcomes(folder / FILE, count, lambda: Records.read(folder), same_records)
    print(f"suite.db, Records.read: {dict(found)}")
    assert found["WRONG"] == 0
    assert found["error"] > found["right"] / 4


@pytest.mark.parametrize("count", COUNTS)
def test_a_store_that_is_damaged_is_an_error_or_right(count: int, suite: Path, tmp_path: Path) -> None:
    content = (suite / FILE).read_bytes()
    right, found = Records.read(suite), Counter[str]()
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / FILE).write_bytes(damaged(content, np.random.default_rng((number, count, 1))))
        try:
            Store(folder).close()
            one = Records.read(folder)
        except StorageError:
            found["error"] += 1
        else:
            found["right" if same_records(one, right) else "WRONG"] += 1
        shutil.rmtree(folder)
    print(f"suite.db, Store: {dict(found)}")
    assert found["WRONG"] == 0


@pytest.mark.slow
def test_records_without_hashes_are_an_error_or_hold_values_that_fit(suite: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(suite, tmp_path / "suite")
    as_version_1(folder)
    found = outcomes(folder / FILE, 300, lambda: Records.read(folder), same_records)
    print(f"suite.db of version 1, Records.read: {dict(found)}")
    assert set(found) <= {"error", "right", "WRONG"}, "a value that fits cannot be told from the right one"


@pytest.mark.parametrize("count", COUNTS)
def test_lines_of_folds_that_are_damaged_are_an_error_or_right(
    count: int, search: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    file = Path(shutil.copy(f"{search}.folds.jsonl", f"{path}.folds.jsonl"))
    content, right, found = (
        file.read_bytes(),
        Journal.open(search, True, 2, "accuracy").records,
        Counter[str](),
    )
    for number in range(count):
        file.write_bytes(damaged(content, np.random.default_rng((number, count, 2))))
        try:
            one = Journal.open(path, True, 2, "accuracy").records
        except StorageError:
            found["error"] += 1
            continue
        if same_journal(one, right):
            found["right"] += 1
        elif same_journal(one, {trial: right[trial] for trial in range(len(one))}):
            found["last lines missing"] += 1
        elif same_journal(one, {trial: right[trial] for trial in one}):
            found["a line missing"] += 1
        else:
            found["WRONG"] += 1
    print(f"folds.jsonl: {dict(found)}")
    assert found["WRONG"] == 0


@pytest.mark.parametrize("count", COUNTS)
def test_splits_that_are_damaged_are_an_error_or_right(count: int, search: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    file = Path(shutil.copy(f"{search}.splits.npz", f"{path}.splits.npz"))
    journal = Journal.open(path, True, 2)
    found = outcomes(file, count, lambda: journal.splits(splits(), 40, False), same_splits)
    print(f"splits.npz: {dict(found)}")
    assert found["WRONG"] == 0


def test_tables_are_compared() -> None:
    table = pd.DataFrame({"a": [1.0, float("nan")]})
    records = Records(table, table, table, table)
    assert same_records(records, Records(table.copy(), table, table, table))
    assert not same_records(records, Records(table, table, table, table.fillna(0.0)))

"""The files beside the history of a search of scikit-learn: what is in them is checked as it is read."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bo_suite.errors import StorageError
from bo_suite.integrations.folds import Journal, Record
from bo_suite.storage.content import digest

FOLD = {"fit_time": 0.1, "score_time": 0.2, "test_scores": 0.5, "train_scores": float("nan")}


def a_journal(folder: Path) -> tuple[Path, list[bytes]]:
    """The history's path and the lines of three trials."""
    path = folder / "run.db"
    journal = Journal.open(path, False, 2, "accuracy")
    for trial in range(3):
        journal.add(trial, Record([FOLD, FOLD], "why" if trial == 1 else None))
    return path, Path(f"{path}.folds.jsonl").read_bytes().split(b"\n")


def opened(path: Path, lines: list[bytes]) -> dict[int, Record]:
    Path(f"{path}.folds.jsonl").write_bytes(b"\n".join(lines))
    return Journal.open(path, True, 2, "accuracy").records


def changed(line: bytes, hashed: bool, **fields: Any) -> bytes:
    form = json.loads(line) | fields
    del form["digest"]
    return json.dumps(form | ({"digest": digest(form)} if hashed else {})).encode()


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("trial", [-1, 0.5, "0", None, True]),
        ("scoring", [5, None, ["accuracy"]]),
        ("reason", [5, {"os": "system"}]),
        (
            "folds",
            [5, None, [5], [{}], [{"fit_time": 0.1}], [FOLD | {"more": 1}], [FOLD | {"fit_time": None}]],
        ),
        ("folds", [[FOLD | {"test_scores": "abc"}], [FOLD | {"test_scores": {"a": "abc"}}]]),
        (
            "folds",
            [[FOLD | {"test_scores": {}}], [FOLD | {"test_scores": True}], [FOLD | {"test_scores": [1]}]],
        ),
        ("folds", [[FOLD, FOLD | {"test_scores": {"a": 0.5}}], [FOLD | {"test_scores": {"a": 0.5}}] * 2]),
        ("other", [1]),
    ],
)
def test_a_field_of_a_line_that_does_not_fit_is_an_error(
    tmp_path: Path, field: str, values: list[Any], hashed: bool
) -> None:
    path, lines = a_journal(tmp_path)
    for value in values:
        damaged = [*lines]
        damaged[3] = changed(lines[3], hashed, **{field: value})
        with pytest.raises(StorageError, match=rf"folds\.jsonl: line 4.*({field}|an object with)"):
            opened(path, damaged)


def test_lines_of_0_8_0_have_no_hash_and_those_with_one_must_agree_with_it(tmp_path: Path) -> None:
    path, lines = a_journal(tmp_path)
    right = opened(path, lines)
    assert repr(opened(path, [line and changed(line, False) for line in lines])) == repr(right)
    for old, new in (
        (b'"test_scores": 0.5', b'"test_scores": 0.6'),
        (b'"trial": 1', b'"trial": 2'),
        (b"why", b"how"),
    ):
        damaged = [line.replace(old, new) if number == 3 else line for number, line in enumerate(lines)]
        with pytest.raises(StorageError, match=r"line 4, field digest must be that of the line"):
            opened(path, damaged)


def test_a_torn_line_is_passed_over_and_any_other_damage_is_an_error(tmp_path: Path) -> None:
    path, lines = a_journal(tmp_path)
    assert lines[0::2] == [b""] * 4
    last = lines[5]
    for length in range(1, len(last)):
        assert list(opened(path, [*lines[:5], last[:length]])) == [0, 1], "torn by a crash"
    journal = Journal.open(path, True, 2, "accuracy")
    journal.add(2, Record([FOLD, FOLD]))
    assert list(Journal.open(path, True, 2, "accuracy").records) == [0, 1, 2], "and gone on after it"
    for damaged in (lines[3][:50], b"\xff" + lines[3], lines[3] + b"}", b"[" * 100_000, b"null", b"5"):
        with pytest.raises(StorageError, match=r"folds\.jsonl: line 4"):
            opened(path, [*lines[:3], damaged, *lines[4:]])
    with pytest.raises(StorageError, match=r"line 4"):
        opened(path, [*lines[:3], lines[3] + lines[5], b""])
    assert list(opened(path, [*lines[:5], b"\0" * 100])) == [0, 1], "a block that was not written"


ROWS = np.arange(10)
SPLITS = [(ROWS[:5], ROWS[5:]), (ROWS[5:], ROWS[:5])]


def archive(*arrays: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, *arrays, **named)
    return stream.getvalue()


class Armed:
    """What a pickle runs when it is read."""

    def __reduce__(self) -> Any:
        return (Path.mkdir, (Path("PWNED"),))


def with_member(name: str, content: bytes) -> bytes:
    stream = io.BytesIO(archive(10, *SPLITS[0]))
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr(name, content)
    return stream.getvalue()


GOOD = archive(10, *SPLITS[0], *SPLITS[1])
BAD = {
    "empty": b"",
    "no zip": b"abc" * 100,
    "torn": GOOD[:-40],
    "of a byte more": GOOD[:60] + b"x" + GOOD[61:],
    "an odd number": archive(10, *SPLITS[0], ROWS),
    "none": archive(),
    "floats": archive(10, ROWS[:5] + 0.5, ROWS[5:]),
    "texts": archive(10, np.array(["a"]), ROWS[5:]),
    "too large": archive(10, ROWS[:5] + 6, ROWS[5:]),
    "negative": archive(10, ROWS[:5] - 1, ROWS[5:]),
    "two dimensions": archive(10, ROWS[:, None], ROWS[5:]),
    "a mask of others": archive(10, np.ones(9, bool), ROWS[5:]),
    "samples of a float": archive(10.5, *SPLITS[0]),
    "samples below 1": archive(0, ROWS[:0], ROWS[:0]),
    "several samples": archive(ROWS, *SPLITS[0]),
    "other names": archive(10, *SPLITS[0], a=ROWS, b=ROWS),
    "a member that is no array": with_member("arr_3", b"os.system"),
    "data of a number": archive(10, *SPLITS[0], data=np.asarray(3)),
    "data of several texts": archive(10, *SPLITS[0], data=np.asarray(["a", "b"])),
    "data that are pickled": archive(10, *SPLITS[0], data=np.array([Armed()], dtype=object)),
    "pickled": archive(10, np.array([Armed()], dtype=object), ROWS[5:]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BAD)
def test_splits_that_do_not_fit_are_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.db.splits.npz").write_bytes(BAD[name])
    with pytest.raises(StorageError, match=r"splits\.npz"):
        Journal(tmp_path / "run.db").splits(SPLITS, 10, True)
    assert not (tmp_path / "PWNED").exists()


def test_splits_of_indices_and_of_masks_are_read(tmp_path: Path) -> None:
    masks = [(ROWS < 5, ROWS >= 5)]
    for number, splits in enumerate((SPLITS, masks, [(ROWS[:5], np.asarray([]))])):
        journal = Journal(tmp_path / f"{number}.db")
        journal.splits(splits, 10, True)
        read = journal.splits(splits, 10, True)
        for old, new in zip(splits, read, strict=True):
            assert all(map(np.array_equal, old, new))


def test_a_fingerprint_of_the_data_is_stored_with_the_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.db"
    Journal.open(path, False, 1, "accuracy", "abc").splits(SPLITS, 10, True)
    assert len(Journal.open(path, True, 1, "accuracy", "abc").splits(SPLITS, 10, True)) == len(SPLITS)
    with pytest.raises(StorageError, match=r"run\.db was begun with other data"):
        Journal.open(path, True, 1, "accuracy", "abd")
    assert not caplog.text
    Journal.open(path, False, 1, "accuracy").splits(SPLITS, 10, True)
    Journal.open(path, True, 1, "accuracy", "abd")
    assert "stored no fingerprint of the data" in caplog.text

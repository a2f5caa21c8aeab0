"""What cross-validation said of each candidate: kept beside a history file, and its noise."""

import json
import logging
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from bo_suite.errors import StorageError
from bo_suite.storage.content import check, digest, is_number, is_whole, parsed

logger = logging.getLogger("bo_suite")

Fold = dict[str, Any]
"""`fit_time`, `score_time`, `test_scores` and, if wanted, `train_scores` of one fit: scores are a number, or
a dict of them by metric."""

Splits = list[tuple[np.ndarray, np.ndarray]]

_LONGEST_TOKEN = 6
"""Bytes of what JSON cannot begin to read when its end is missing, such as an escape in a string."""

_KEYS = ("fit_time", "score_time", "test_scores", "train_scores")


@dataclass(frozen=True)
class Record:
    """What came of one candidate: its folds, none where nothing is known of them, and why it has no value."""

    folds: list[Fold]
    reason: str | None = None

    @staticmethod
    def of(rows: Sequence[Mapping[str, Any]], reason: str | None) -> "Record":
        """Of what scikit-learn has found, as far as `cv_results_` is made of it, in Python's own floats."""
        return Record([{key: each(row[key], float) for key in _KEYS if key in row} for row in rows], reason)


@dataclass
class Journal:
    """Records of trials by their ids, and the splits they were made on; in memory, or in files of their own.

    `PATH.folds.jsonl` has one line a trial, on the disk before the trial is told, the last of an id being
    valid; `PATH.splits.npz` has the splits. A line that a crash has torn is passed over, as its trial was not
    told. Any other damage is an error: a line holds a hash of itself, but for lines of version 0.8.0, and the
    zip format holds one of each array.

    Attributes:
        path: the history file beside which it is kept, or None.
        scoring: what the scores are, in words.
        data: a fingerprint of the data; None where nobody knows it.
        records: those of each trial.
    """

    path: Path | None
    scoring: str = ""
    data: str | None = None
    records: dict[int, Record] = field(default_factory=dict)

    @staticmethod
    def open(
        path: str | os.PathLike[str] | None,
        begun: bool,
        folds: int,
        scoring: str = "",
        data: str | None = None,
    ) -> "Journal":
        """The journal beside a history.

        Args:
            path: the history file, or None.
            begun: whether the history has trials; if not, what is left of an earlier one is dropped.
            folds: number of folds.
            scoring: what the scores are, in words.
            data: a fingerprint of the data.

        Raises:
            StorageError: a line that is damaged, records of another number of folds, another scoring, or
                other data.
        """
        journal = Journal(None if path is None else Path(path), scoring, data)
        if journal.path is None:
            return journal
        if not begun:
            for name in (journal._lines, journal._splits):
                name.unlink(missing_ok=True)
        elif journal._lines.exists():
            lines = journal._lines.read_bytes().split(b"\n")
            for number, line in enumerate(lines, 1):
                # what is whole has an empty line behind it, and what is torn has not
                followed = number < len(lines) and lines[number] == b""
                if line and (followed or not _is_torn(line, last=number == len(lines))):
                    journal._take(number, line)
        if any(len(record.folds) not in (0, folds) for record in journal.records.values()):
            raise StorageError(f"`cv` must be that which {path} was begun with, got one of {folds} folds")
        if begun and data is not None and journal._splits.exists():
            journal._check_data(_read_splits(journal._splits)[2])
        return journal

    def _check_data(self, before: str | None) -> None:
        """Raises a StorageError where the data are known to be others than before."""
        if before is None:
            logger.warning("%s was begun by version 0.8, which did not store what its data are", self.path)
        elif before != self.data:
            raise StorageError(
                f"the data must be those that {self.path} was begun with, got others: give a search of other "
                "data, such as each outer fold of a nested cross-validation, its own path or storage=None"
            )

    def add(self, trial: int, record: Record) -> None:
        """Keeps the record of a trial; on return it is on the disk.

        Raises:
            StorageError: the metrics are not those of the other records.
        """
        metrics = [_metrics(one.folds[0]) for one in (*self.records.values(), record) if one.folds]
        if metrics and metrics[0] != metrics[-1]:
            raise StorageError(
                f"metrics must be those of earlier candidates, {metrics[0]}, got {metrics[-1]}"
            )
        self.records[trial] = record
        if self.path is None:
            return
        form = {
            "trial": trial,
            "scoring": self.scoring,
            "reason": record.reason,
            "folds": [_form(fold) for fold in record.folds],
        }
        form["digest"] = digest(form)
        with self._lines.open("ab") as file:
            file.write(f"\n{json.dumps(form, allow_nan=False)}\n".encode())  # the line before may be torn
            file.flush()
            os.fsync(file.fileno())

    def splits(self, drawn: Splits, samples: int, constant: bool) -> Splits:
        """The splits that candidates are compared on: those drawn now, or those of before when resumed.

        Args:
            drawn: those of the data and `cv` now.
            samples: number of samples of the data.
            constant: whether the same are always drawn, so that those of before must be equal.

        Raises:
            StorageError: the splits of before are damaged, or of other data or another `cv`.
        """
        if self.path is None:
            return drawn
        if not self._splits.exists():
            _write_splits(self._splits, drawn, samples, self.data)
            return drawn
        before, samples_before, _ = _read_splits(self._splits)
        same = samples_before == samples and len(before) == len(drawn)
        pairs = zip(chain(*before), chain(*drawn), strict=False)
        if not same or (constant and not all(np.array_equal(old, new) for old, new in pairs)):
            raise StorageError(f"the data and `cv` must be those that {self.path} was begun with, got others")
        return before

    @property
    def _lines(self) -> Path:
        return Path(f"{self.path}.folds.jsonl")

    @property
    def _splits(self) -> Path:
        return Path(f"{self.path}.splits.npz")

    def _take(self, number: int, line: bytes) -> None:
        """Takes a line in."""
        what = f"{self._lines}: line {number}"
        found = parsed(what, line)
        keys = {"trial", "scoring", "reason", "folds"}
        whole = isinstance(found, dict) and set(found) - {"digest"} == keys
        check(whole, what, f"an object with {sorted(keys)}", found)
        for name, (fits, law) in _FIELDS.items():
            check(fits(found[name]), f"{what}, field {name}", law, found[name])
        stored = found.pop("digest", None)
        check(stored in (None, digest(found)), f"{what}, field digest", "that of the line", stored)
        if found["scoring"] != self.scoring:
            law = f"`scoring` and `refit` must be those that {self.path} was begun with"
            raise StorageError(f"{law}, {found['scoring']!r}, got {self.scoring!r}")
        record = Record.of(found["folds"], found["reason"])
        metrics = {str(_metrics(fold)) for one in (*self.records.values(), record) for fold in one.folds[:1]}
        same = len(metrics | {str(_metrics(fold)) for fold in record.folds}) <= 1
        check(same, f"{what}, field folds", "of the metrics of the other lines", found["folds"])
        self.records[found["trial"]] = record


def _is_torn(line: bytes, last: bool) -> bool:
    """Whether a line is the beginning of one: what fails before its end is damaged in another way.

    Args:
        line: without its end.
        last: whether it is the last of the file, which a crash may have filled with anything.
    """
    text = line.rstrip(b"\0")  # what a power cut leaves of a block that was not written
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        unfinished = error.msg.startswith("Unterminated") or error.pos >= len(text) - _LONGEST_TOKEN
        return error.msg != "Extra data" and (last or unfinished)
    except (ValueError, RecursionError):
        return last
    return False


def _is_score(value: object) -> bool:
    return is_number(value) or value in ("nan", "inf", "-inf")


def _are_folds(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_fold, value))


def _is_fold(value: object) -> bool:
    if not isinstance(value, dict) or not {"fit_time", "score_time", "test_scores"} <= set(value) <= set(
        _KEYS
    ):
        return False
    scores = [value[name] for name in ("test_scores", "train_scores") if name in value]
    times = _is_score(value["fit_time"]) and _is_score(value["score_time"])
    return times and all(
        bool(one) and all(map(_is_score, one.values())) if isinstance(one, dict) else _is_score(one)
        for one in scores
    )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "trial": (lambda value: is_whole(value, 0), "an integer >= 0"),
    "scoring": (lambda value: isinstance(value, str), "a text"),
    "reason": (lambda value: value is None or isinstance(value, str), "a text or null"),
    "folds": (_are_folds, f"a list of objects with {_KEYS} in numbers, 'nan', 'inf' or '-inf'"),
}
"""What each field of a line must be."""


def fold_noise(rows: np.ndarray, scores: np.ndarray) -> float | None:
    """Standard deviation of the noise in mean scores over folds, by how those of neighbours differ.

    With k(i) the nearest to candidate i of those before it, and d_j = s_ij − s_kj over the J folds,

        v_i = Σ_j (d_j − mean(d))² / (2 (J − 1) J)
        std² = Q(v_2 ... v_n) / (q / (J − 1))

    where Q is the lower quartile of its arguments and q that of χ² with J − 1 degrees of freedom. Splits are
    the same for all candidates, so that most of the spread over folds is no noise between them: what a fold
    does to all cancels in d, and what it does to some kind of candidate is much the same for neighbours. What
    remains is the randomness of the fits; the quartile leaves pairs aside that are far apart, and dividing by
    that of χ² makes up for it where randomness is all there is.

    Args:
        rows: encoded candidates in order, of shape (n, d).
        scores: their test scores, of shape (n, J).

    Returns:
        The noise; None before there are two candidates, or where there is one fold.
    """
    count, folds = scores.shape
    if count < 2 or folds < 2:
        return None
    spreads = []
    for place in range(1, count):
        nearest = np.square(rows[:place] - rows[place]).sum(-1).argmin()
        spreads.append(np.var(scores[place] - scores[nearest], ddof=1) / (2 * folds))
    unit = chi2.ppf(0.25, folds - 1) / (folds - 1)
    return float(np.sqrt(np.quantile(spreads, 0.25) / unit))


def each(scores: Any, of: Callable[[float], Any]) -> Any:
    """A number, or a dict of them by metric, with each number mapped."""
    if isinstance(scores, Mapping):
        return {name: of(score) for name, score in scores.items()}
    return of(scores)


def _metrics(fold: Fold) -> list[str]:
    scores = fold["test_scores"]
    return sorted(scores) if isinstance(scores, Mapping) else ["score"]


def _form(fold: Fold) -> Fold:
    """In JSON, which has no NaN or infinity."""
    return {
        key: each(value, lambda one: one if math.isfinite(one) else str(one)) for key, value in fold.items()
    }


def _write_splits(path: Path, splits: Splits, samples: int, data: str | None) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    named: Any = {} if data is None else {"data": np.asarray(data)}
    with unfinished.open("wb") as file:
        np.savez_compressed(file, np.asarray(samples), *chain(*splits), **named)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read_splits(path: Path) -> tuple[Splits, int, str | None]:
    """The splits in a file, the number of samples and the fingerprint of the data.

    Raises:
        StorageError: a file that is damaged, or that holds something else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            torn = file.testzip()  # its hashes of whole members, which numpy may read in part
            check(torn is None, f"{path}: {torn}", "intact", torn)
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name != "data"]
            samples, *parts = (file[name] for name in names)
            data = file["data"] if "data" in file.files else None
    except StorageError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds where a file is damaged
        raise StorageError(f"{path} must hold the splits of a search, got a damaged file: {error}") from error
    law = "an odd number of arrays in order, the number of samples the first"
    arrays = all(isinstance(part, np.ndarray) for part in (samples, *parts)) and len(names) % 2 == 1
    check(arrays and names == [f"arr_{k}" for k in range(len(names))], str(path), law, names)
    count = samples.dtype.kind in "iu" and samples.shape == () and samples > 0
    check(bool(count), f"{path}: arr_0", "the number of samples", samples)
    for name, part in zip(names[1:], parts, strict=True):
        check(_are_rows(part, int(samples)), f"{path}: {name}", f"indices of {samples} samples", part)
    is_text = data is None or (isinstance(data, np.ndarray) and data.dtype.kind == "U" and data.shape == ())
    check(is_text, f"{path}: data", "a fingerprint", data)
    splits = list(zip(parts[::2], parts[1::2], strict=True))
    return splits, int(samples), None if data is None else str(data)


def _are_rows(part: np.ndarray, samples: int) -> bool:
    """Whether an array chooses among samples, by their indices or by a mask."""
    if part.ndim != 1:
        return False
    if part.dtype.kind == "b":
        return len(part) == samples
    indices = part.dtype.kind in "iu" and bool(((part >= 0) & (part < samples)).all())
    return part.size == 0 or indices

"""Scores of each candidate on each fold, stored beside a history file, and their noise."""

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
"""`fit_time`, `score_time`, `test_scores` and optional `train_scores` of one fit. Scores are a number, or a
dict of numbers by metric."""

Splits = list[tuple[np.ndarray, np.ndarray]]

_LONGEST_TOKEN = 6
"""Bytes of the longest token that JSON cannot read without its end: an escape in a string."""

_KEYS = ("fit_time", "score_time", "test_scores", "train_scores")


@dataclass(frozen=True)
class Record:
    """The outcome of one candidate.

    Attributes:
        folds: one for each split; empty if no fit has finished.
        reason: why the candidate has no value; None if it has one.
    """

    folds: list[Fold]
    reason: str | None = None

    @staticmethod
    def of(rows: Sequence[Mapping[str, Any]], reason: str | None) -> "Record":
        """Reduce rows to the fields that `cv_results_` needs, with Python floats."""
        folds = [{key: map_scores(row[key], float) for key in _KEYS if key in row} for row in rows]
        return Record(folds, reason)


@dataclass
class Journal:
    """Records of trials by id, and the splits they were made on; in memory or in two files.

    `PATH.folds.jsonl` has one line for each trial, written before the trial is told; the last line of an id
    is valid. `PATH.splits.npz` has the splits. A line torn by a crash is ignored, because its trial was not
    told. Any other damage is an error: each line holds a hash of itself (except lines of version 0.8.0), and
    the zip format holds a hash of each array.

    Attributes:
        path: the history file that it belongs to, or None.
        scoring: names of the metrics.
        data: fingerprint of the data; None if unknown.
        records: the record of each trial.
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
        """Read the journal of a history.

        Args:
            path: the history file, or None.
            begun: whether the history has trials; if not, files of an earlier history are deleted.
            folds: number of folds.
            scoring: names of the metrics.
            data: fingerprint of the data.

        Raises:
            StorageError: a line is damaged, or the number of folds, the scoring or the data differ from those
                of the history.
        """
        journal = Journal(None if path is None else Path(path), scoring, data)
        if journal.path is None:
            return journal
        if not begun:
            for file in (journal._lines, journal._splits):
                file.unlink(missing_ok=True)
        elif journal._lines.exists():
            lines = journal._lines.read_bytes().split(b"\n")
            for number, line in enumerate(lines, 1):
                # an empty line follows each complete line, and no torn one
                complete = number < len(lines) and lines[number] == b""
                if line and (complete or not _is_torn(line, last=number == len(lines))):
                    journal._read_line(number, line)
        if any(len(record.folds) not in (0, folds) for record in journal.records.values()):
            raise StorageError(f"{path} was begun with another `cv`, got one of {folds} folds")
        if begun and data is not None and journal._splits.exists():
            journal._check_data(_read_splits(journal._splits)[2])
        return journal

    def _check_data(self, before: str | None) -> None:
        """Raise a StorageError if the fingerprint of the data was stored and has changed."""
        if before is None:
            logger.warning("%s was begun by version 0.8, which stored no fingerprint of the data", self.path)
        elif before != self.data:
            raise StorageError(
                f"{self.path} was begun with other data: use another path or storage=None for each data set, "
                "such as each outer fold of a nested cross-validation"
            )

    def add(self, trial: int, record: Record) -> None:
        """Store the record of a trial; on return it is on disk.

        Raises:
            StorageError: the metrics differ from those of the other records.
        """
        metrics = [_metrics(one.folds[0]) for one in (*self.records.values(), record) if one.folds]
        if metrics and metrics[0] != metrics[-1]:
            raise StorageError(f"earlier candidates have the metrics {metrics[0]}, this one {metrics[-1]}")
        self.records[trial] = record
        if self.path is None:
            return
        fields = {
            "trial": trial,
            "scoring": self.scoring,
            "reason": record.reason,
            "folds": [_fold_to_json(fold) for fold in record.folds],
        }
        fields["digest"] = digest(fields)
        with self._lines.open("ab") as file:
            file.write(f"\n{json.dumps(fields, allow_nan=False)}\n".encode())  # the line before may be torn
            file.flush()
            os.fsync(file.fileno())

    def splits(self, drawn: Splits, samples: int, constant: bool) -> Splits:
        """Return the splits to compare candidates on: the stored ones if there are any, or else `drawn`.

        Args:
            drawn: splits drawn now.
            samples: number of samples of the data.
            constant: whether `cv` always draws the same splits, so that the stored ones must be equal.

        Raises:
            StorageError: the stored splits are damaged, or come from other data or another `cv`.
        """
        if self.path is None:
            return drawn
        if not self._splits.exists():
            _write_splits(self._splits, drawn, samples, self.data)
            return drawn
        stored, stored_samples, _ = _read_splits(self._splits)
        same = stored_samples == samples and len(stored) == len(drawn)
        pairs = zip(chain(*stored), chain(*drawn), strict=False)
        if not same or (constant and not all(np.array_equal(old, new) for old, new in pairs)):
            raise StorageError(f"{self.path} was begun with other data or another `cv`: use another path")
        return stored

    @property
    def _lines(self) -> Path:
        return Path(f"{self.path}.folds.jsonl")

    @property
    def _splits(self) -> Path:
        return Path(f"{self.path}.splits.npz")

    def _read_line(self, number: int, line: bytes) -> None:
        """Check a line and add its record."""
        what = f"{self._lines}: line {number}"
        fields = parsed(what, line)
        names = {"trial", "scoring", "reason", "folds"}
        complete = isinstance(fields, dict) and set(fields) - {"digest"} == names
        check(complete, what, f"an object with {sorted(names)}", fields)
        for name, (fits, law) in _FIELDS.items():
            check(fits(fields[name]), f"{what}, field {name}", law, fields[name])
        stored = fields.pop("digest", None)
        check(stored in (None, digest(fields)), f"{what}, field digest", "that of the line", stored)
        if fields["scoring"] != self.scoring:
            raise StorageError(
                f"{self.path} was begun with the `scoring` and `refit` {fields['scoring']!r}, "
                f"got {self.scoring!r}: use another path"
            )
        record = Record.of(fields["folds"], fields["reason"])
        metrics = {str(_metrics(fold)) for one in (*self.records.values(), record) for fold in one.folds[:1]}
        same = len(metrics | {str(_metrics(fold)) for fold in record.folds}) <= 1
        check(same, f"{what}, field folds", "of the metrics of the other lines", fields["folds"])
        self.records[fields["trial"]] = record


def _is_torn(line: bytes, last: bool) -> bool:
    """Whether a line is only the start of one. JSON that fails before its end is damaged in another way.

    Args:
        line: without its newline.
        last: whether it is the last of the file, which a crash may have filled with anything.
    """
    text = line.rstrip(b"\0")  # a power cut leaves zeros in a block that was not written
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
    if not isinstance(value, dict) or not set(_KEYS[:3]) <= set(value) <= set(_KEYS):
        return False
    times, scores = (
        (value["fit_time"], value["score_time"]),
        [value[name] for name in _KEYS[2:] if name in value],
    )
    return all(map(_is_score, times)) and all(
        bool(one) and all(map(_is_score, one.values())) if isinstance(one, dict) else _is_score(one)
        for one in scores
    )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "trial": (lambda value: is_whole(value, 0), "an integer >= 0"),
    "scoring": (lambda value: isinstance(value, str), "a text"),
    "reason": (lambda value: value is None or isinstance(value, str), "a text or null"),
    "folds": (_are_folds, f"a list of objects with {_KEYS} in numbers, 'nan', 'inf' or '-inf'"),
}
"""A check of each field of a line, and its law in words."""


def fold_noise(rows: np.ndarray, scores: np.ndarray) -> float | None:
    """Standard deviation of the noise in the mean over folds, from the differences between neighbours.

    With k(i) the earlier candidate nearest to candidate i, and d_j = s_ij − s_kj over the J folds,

        v_i = Σ_j (d_j − mean(d))² / (2 (J − 1) J)
        std² = Q(v_2 ... v_n) / (q / (J − 1))

    where Q is the lower quartile of its arguments and q that of χ² with J − 1 degrees of freedom. All
    candidates have the same splits, so most of the spread over folds is not noise: the effect of a fold on
    all candidates cancels in d, and its effect on similar candidates is similar. The randomness of the fits
    remains. The quartile ignores pairs that are far apart; dividing by q corrects for it if there is only
    randomness.

    Args:
        rows: encoded candidates in order, of shape (n, d).
        scores: their test scores, of shape (n, J).

    Returns:
        The noise; None for fewer than two candidates or folds.
    """
    count, folds = scores.shape
    if count < 2 or folds < 2:
        return None
    spreads = []
    for index in range(1, count):
        nearest = np.square(rows[:index] - rows[index]).sum(-1).argmin()
        spreads.append(np.var(scores[index] - scores[nearest], ddof=1) / (2 * folds))
    unit = chi2.ppf(0.25, folds - 1) / (folds - 1)
    return float(np.sqrt(np.quantile(spreads, 0.25) / unit))


def map_scores(scores: Any, function: Callable[[float], Any]) -> Any:
    """Apply a function to a number, or to each number of a dict by metric."""
    if isinstance(scores, Mapping):
        return {name: function(score) for name, score in scores.items()}
    return function(scores)


def _metrics(fold: Fold) -> list[str]:
    scores = fold["test_scores"]
    return sorted(scores) if isinstance(scores, Mapping) else ["score"]


def _fold_to_json(fold: Fold) -> Fold:
    """Replace NaN and infinity, which JSON lacks, by text."""
    return {
        key: map_scores(value, lambda score: score if math.isfinite(score) else str(score))
        for key, value in fold.items()
    }


def _write_splits(path: Path, splits: Splits, samples: int, data: str | None) -> None:
    """Write the file completely or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    named: Any = {} if data is None else {"data": np.asarray(data)}
    with unfinished.open("wb") as file:
        np.savez_compressed(file, np.asarray(samples), *chain(*splits), **named)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read_splits(path: Path) -> tuple[Splits, int, str | None]:
    """Read the splits, the number of samples and the fingerprint of the data.

    Raises:
        StorageError: the file is damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            torn = file.testzip()  # checks hashes of complete members; numpy may read only parts of them
            check(torn is None, f"{path}: {torn}", "intact", torn)
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name != "data"]
            samples, *arrays = (file[name] for name in names)
            data = file["data"] if "data" in file.files else None
    except StorageError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds of errors for damaged files
        raise StorageError(f"{path} is damaged, it must hold the splits of a search: {error}") from error
    law = "an odd number of arrays in order, the number of samples the first"
    valid = all(isinstance(array, np.ndarray) for array in (samples, *arrays)) and len(names) % 2 == 1
    check(valid and names == [f"arr_{k}" for k in range(len(names))], str(path), law, names)
    count = samples.dtype.kind in "iu" and samples.shape == () and samples > 0
    check(bool(count), f"{path}: arr_0", "the number of samples", samples)
    for name, array in zip(names[1:], arrays, strict=True):
        check(_are_indices(array, int(samples)), f"{path}: {name}", f"indices of {samples} samples", array)
    is_text = data is None or (isinstance(data, np.ndarray) and data.dtype.kind == "U" and data.shape == ())
    check(is_text, f"{path}: data", "a fingerprint", data)
    splits = list(zip(arrays[::2], arrays[1::2], strict=True))
    return splits, int(samples), None if data is None else str(data)


def _are_indices(array: np.ndarray, samples: int) -> bool:
    """Whether an array selects samples, by index or by a mask."""
    if array.ndim != 1:
        return False
    if array.dtype.kind == "b":
        return len(array) == samples
    valid = array.dtype.kind in "iu" and bool(((array >= 0) & (array < samples)).all())
    return array.size == 0 or valid

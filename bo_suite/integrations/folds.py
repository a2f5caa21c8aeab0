"""What cross-validation said of each candidate: kept beside a history file, and its noise."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from bo_suite.errors import StorageError

Fold = dict[str, Any]
"""`fit_time`, `score_time`, `test_scores` and, if wanted, `train_scores` of one fit: scores are a number, or
a dict of them by metric."""

Splits = list[tuple[np.ndarray, np.ndarray]]

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
    valid and lines that are torn being passed over; `PATH.splits.npz` has the splits.

    Attributes:
        path: the history file beside which it is kept, or None.
        scoring: what the scores are, in words.
        records: those of each trial.
    """

    path: Path | None
    scoring: str = ""
    records: dict[int, Record] = field(default_factory=dict)

    @staticmethod
    def open(path: str | os.PathLike[str] | None, begun: bool, folds: int, scoring: str = "") -> "Journal":
        """The journal beside a history.

        Args:
            path: the history file, or None.
            begun: whether the history has trials; if not, what is left of an earlier one is dropped.
            folds: number of folds.
            scoring: what the scores are, in words.

        Raises:
            StorageError: records of another number of folds, or another scoring.
        """
        journal = Journal(None if path is None else Path(path), scoring)
        if journal.path is None:
            return journal
        if not begun:
            for name in (journal._lines, journal._splits):
                name.unlink(missing_ok=True)
        elif journal._lines.exists():
            for line in journal._lines.read_text(encoding="utf-8", errors="replace").split("\n"):
                journal._take(line)
        if any(len(record.folds) not in (0, folds) for record in journal.records.values()):
            raise StorageError(f"`cv` must be that which {path} was begun with, got one of {folds} folds")
        return journal

    def add(self, trial: int, record: Record) -> None:
        """Keeps the record of a trial; on return it is on the disk.

        Raises:
            StorageError: the metrics are not those of the other records.
        """
        metrics = [_metrics(one) for one in (*self.records.values(), record) if one.folds]
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
            StorageError: the storage belongs to other splits, as of other data or another `cv`.
        """
        if self.path is None:
            return drawn
        if not self._splits.exists():
            _write_splits(self._splits, drawn, samples)
            return drawn
        before, samples_before = _read_splits(self._splits)
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

    def _take(self, line: str) -> None:
        """Takes a line in, unless it is torn."""
        try:
            found = json.loads(line)
            record = Record.of(found["folds"], found["reason"])
        except (KeyError, TypeError, ValueError):
            return
        if found.get("scoring") != self.scoring:
            law = f"`scoring` and `refit` must be those that {self.path} was begun with"
            raise StorageError(f"{law}, {found.get('scoring')!r}, got {self.scoring!r}")
        self.records[found["trial"]] = record


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


def _metrics(record: Record) -> list[str]:
    scores = record.folds[0]["test_scores"]
    return sorted(scores) if isinstance(scores, Mapping) else ["score"]


def _form(fold: Fold) -> Fold:
    """In JSON, which has no NaN or infinity."""
    return {
        key: each(value, lambda one: one if math.isfinite(one) else str(one)) for key, value in fold.items()
    }


def _write_splits(path: Path, splits: Splits, samples: int) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, np.asarray(samples), *chain(*splits))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read_splits(path: Path) -> tuple[Splits, int]:
    with np.load(path, allow_pickle=False) as file:
        samples, *parts = (file[name] for name in file.files)
    return list(zip(parts[::2], parts[1::2], strict=True)), int(samples)

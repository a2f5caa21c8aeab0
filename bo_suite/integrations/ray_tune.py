"""Ray Tune: a search algorithm for its Tuner, whose results survive the death of the driver."""

import logging
import shutil
import sqlite3
import tempfile
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bo_suite.acquisition import Acquisition
from bo_suite.errors import SpaceError, SpaceExhausted, StorageError, TrialError
from bo_suite.integrations.ray_space import by_name, nested, translated
from bo_suite.integrations.ray_state import state_of, state_text
from bo_suite.integrations.starts import not_asked
from bo_suite.space.space import Params, Space
from bo_suite.storage.paths import storage_path
from bo_suite.storage.trial import Trial, next_id
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import described, visible
from bo_suite.values.numbers import require_finite as finite

_search: Any = import_module("ray.tune.search")
_results: Any = import_module("ray.tune.result")

_KEPT = (
    *("_space", "_metric", "_mode", "_acquisition", "_seed", "_storage", "_limit"),
    *("_known", "_live", "_reported", "_copy", "_points", "_rewards", "_starts"),
)
"""What a state holds; all else comes of it and of the history."""

logger = logging.getLogger("bo_suite")


class BoSuiteSearch(_search.Searcher):  # type: ignore[misc]
    """Suggests the configurations of Ray Tune's trials and learns from their results.

    The history is the truth: a result is on the disk before Ray goes on, so that `Tuner.restore` after a
    crash of the driver finds all of them, those that Ray's own snapshot has missed included. Trials that
    Ray has forgotten are evaluated again first. A trial that Ray's scheduler stops counts with the last
    value that it reported; one that raises, or reports no finite value, has failed.

    With a Space, give the metric and mode here too: Ray passes those of the TuneConfig on only together with
    a `param_space`.

    A `max_concurrent` is kept here, and results are learnt one by one: `batch=True` of Ray's
    ConcurrencyLimiter has no effect.

    Args:
        space: a Space, whose names are split at "/" into nested configurations, or one of Ray's; when None,
            the Tuner's `param_space`.
        metric: name of what is optimised; when None, that of the TuneConfig.
        mode: "min" or "max"; when None, that of the TuneConfig.
        acquisition: how to choose; the Optimizer's default when None.
        seed: the same seed and results give the same suggestions.
        storage: a file that keeps the history, created or continued, on a local disk of the driver's
            machine; None keeps it in a temporary file, and a copy of it in Ray's snapshots.
        points_to_evaluate: configurations to begin with, nested or flat; of one that is given in part, the
            rest is chosen given this part. A history that is continued is not asked for them again.
        evaluated_rewards: values of these configurations, which are then whole, and not run.

    Raises:
        ValueError: a space that cannot be searched, a metric or mode that is none, or a point that is none
            of the space.
        StorageError: a file that cannot be used, or that belongs to another space, seed or direction.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        *,
        acquisition: Acquisition | None = None,
        seed: int = 0,
        storage: str | Path | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        evaluated_rewards: Sequence[float] | None = None,
    ) -> None:
        _check_goal(metric, mode)
        if space is not None:
            translated(space)
        file = storage_path(storage)
        super().__init__(metric=metric, mode=mode)
        self._metric: str | None = metric
        self._mode: str | None = mode
        self._space, self._acquisition, self._seed = space, acquisition, seed
        self._storage = None if file is None else str(file)
        self._points = [dict(point) for point in _points(points_to_evaluate, evaluated_rewards)]
        self._rewards = None if evaluated_rewards is None else list(evaluated_rewards)
        self._starts: list[Params] | None = None  # the points as ours, once there is a space
        self._limit: int | None = None
        self._known: dict[str, tuple[int, int]] = {}  # id and attempt of each of Ray's trials
        self._live: set[str] = set()
        self._reported: dict[str, Any] = {}  # last value of each trial that has not ended
        self._copy: bytes | None = None  # of the history that has no file of its own
        self._optimizer: Optimizer | None = None
        self._start()

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser behind: its trials, the best of them, what it recommends.

        Raises:
            RuntimeError: no space, metric or mode has been given yet.
        """
        if self._optimizer is None:
            cls = type(self).__name__
            if self._metric is None and self._mode:
                self._metric = _results.DEFAULT_METRIC  # that of a trainable that returns a number
            if self._space is None:
                raise RuntimeError(_search.UNDEFINED_SEARCH_SPACE.format(cls=cls, space="space"))
            if not self._metric or not self._mode:
                law = _search.UNDEFINED_METRIC_MODE
                raise RuntimeError(law.format(cls=cls, metric=self._metric, mode=self._mode))
            self._optimizer = self._open(self._space, self._mode)
        return self._optimizer

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Takes what the Tuner was given; False where the space was given before.

        Raises:
            ValueError: a space that cannot be searched, or another metric or mode than was given before.
        """
        _check_goal(metric, mode)
        before, now = (self._metric, self._mode), (metric, mode)
        if any(old and new and old != new for old, new in zip(before, now, strict=True)):
            raise ValueError(f"the metric and mode must be those given before, {before}, got {now}")
        self._metric, self._mode = metric or self._metric, mode or self._mode
        if self._space is not None:
            return False
        translated(config)
        self._space = config
        self._start()
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Takes the number of trials that may run side by side; True: it is kept here."""
        self._limit = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of a trial; None while too many run, "FINISHED" where no new one is left."""
        optimizer = self.optimizer
        if trial_id not in self._known:
            if self._limit is not None and len(self._live) >= self._limit:
                return None
            try:
                trial = self._next()
            except SpaceExhausted:
                return str(self.FINISHED)
            self._known[trial_id] = (trial.id, trial.attempt)
            self._live.add(trial_id)
        flat = self._translation.theirs(optimizer.trial(self._known[trial_id][0]).params)
        return nested({self._paths[name]: value for name, value in flat.items()})

    def _next(self) -> Trial:
        """What was lost first, then the points to start from, then suggestions."""
        if self._again:
            return self._again.popleft()
        while self._left:
            point = self._left.popleft()
            try:
                return self.optimizer.ask(fixed=point)
            except SpaceExhausted as error:
                logger.warning("the point %s to start from is left out: %s", point, error)
        return self.optimizer.ask()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remembers the value, which counts should Ray stop the trial without a result."""
        if result.get(self.metric) is not None:
            self._reported[trial_id] = result[self.metric]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Stores what came of a trial; on return it survives a crash. A trial that has ended stays as it is.

        A trial that had failed and was run again by Ray is a new observation, as is one that Ray has
        restarted under a name of its own.
        """
        optimizer, trial = self.optimizer, self._trial(trial_id)
        self._live.discard(trial_id)
        last = self._reported.pop(trial_id, None)
        found = (result or {}).get(self.metric)
        value, reason = self._outcome(last if found is None else found, result, error)
        try:
            if value is not None and (trial is None or trial.state == "failed"):
                self._observe(trial_id, self._config(result) if trial is None else trial.params, value)
            elif trial is None:
                raise TrialError(f"a trial must have been suggested here, got {trial_id!r} ({reason})")
            elif value is not None:
                optimizer.tell(trial, value)
            else:
                optimizer.fail(trial, reason)
                logger.warning("trial %s has failed: %s", trial_id, visible(reason))
        except (SpaceError, TrialError) as refusal:
            logger.warning("a completion of trial %s was ignored: %s", trial_id, visible(str(refusal)))

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Stores an observation from elsewhere, nested or flat; one with an error or no value as failed.

        Raises:
            ValueError: a parameter missing or out of range.
        """
        optimizer = self.optimizer
        params = self._translation.ours(by_name(parameters, self._paths))
        self._add(optimizer, params, value, error)

    def _add(self, optimizer: Optimizer, params: Params, value: float, error: bool) -> None:
        outcome, reason = self._outcome(value, None, error)
        if outcome is None:
            optimizer.add_failed(params, reason)
        else:
            optimizer.add(params, outcome)

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs, with a copy of the history where it has no file of its own."""
        if self._storage is None and self._optimizer is not None:
            with closing(sqlite3.connect(self._file)) as connection:
                self._copy = connection.serialize()
        return {name: copy(getattr(self, name)) for name in _KEPT}

    def set_state(self, state: dict[str, Any]) -> None:
        """Becomes the searcher that gave the state, with all that its history has learnt since."""
        if self._optimizer is not None:
            self._optimizer.close()
        self._optimizer = None
        self.__dict__.update({name: copy(state[name]) for name in _KEPT})

    def save(self, checkpoint_path: str) -> None:
        """Writes the state into a file, as JSON."""
        Path(checkpoint_path).write_text(state_text(self.get_state()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Takes the state from a file; nothing in the file is run.

        A space and an acquisition that this searcher was given stay. It must have been given those that the
        file lacks, since JSON cannot hold them: a space with other objects than numbers, texts, lists and
        dicts of them, and an acquisition with parts from outside the package.

        Raises:
            StorageError: a file that is damaged or was written by version 0.8.0, that belongs to another
                space or lacks it, or a history that is not there.
        """
        content = Path(checkpoint_path).read_bytes()
        given = {name: getattr(self, name) for name in _KEPT}
        self.set_state(state_of(checkpoint_path, content, given))
        self._start()

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._optimizer = None
        self.set_state(state)

    def _start(self) -> None:
        """Opens the history as soon as it can be, so that what is wrong with it shows before trials run."""
        if self._space is not None and self._metric and self._mode and self._optimizer is None:
            self._optimizer = self._open(self._space, self._mode)

    def _open(self, space: Space | Mapping[str, Any], mode: str) -> Optimizer:
        """The optimiser of the history; of dead drivers' trials, those unknown to Ray are to be run first."""
        self._translation, self._paths = translated(space)
        self._file = self._storage or self._temporary()
        direction = {"min": "minimize", "max": "maximize"}[mode]
        optimizer = Optimizer(
            self._translation.space, self._acquisition, self._seed, direction, storage=self._file
        )
        needed, there = 1 + max((number for number, _ in self._known.values()), default=-1), optimizer.trials
        if needed > next_id(there):
            optimizer.close()
            raise StorageError(
                f"the storage must hold the {needed} trials of the restored search, got {len(there)} "
                f"in {self._file}"
            )
        lost = {trial.id: trial for trial in optimizer.reclaim()}
        for name, (number, _) in self._known.items():
            if number in lost:
                self._known[name] = (number, lost.pop(number).attempt)
        self._again = deque(lost.values())
        try:
            if self._starts is None:
                self._starts = self._begin(optimizer)
        except BaseException:
            optimizer.close()
            raise
        self._left = deque(not_asked(self._starts, optimizer.trials))
        return optimizer

    def _begin(self, optimizer: Optimizer) -> list[Params]:
        """The points to start from, but for those whose values are known, which are stored."""
        starts = [self._translation.start(by_name(point, self._paths)) for point in self._points]
        if self._rewards is None:
            return starts
        there = [trial.params for trial in optimizer.trials if trial.state in ("finished", "failed")]
        for start, reward in zip(starts, self._rewards, strict=True):
            if (params := self._translation.space.check(start)) not in there:
                self._add(optimizer, params, reward, error=False)
        return []

    def _temporary(self) -> str:
        folder = tempfile.mkdtemp(prefix="bo_suite-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = Path(folder) / "history.db"
        file.write_bytes(self._copy or b"")
        return str(file)

    def _trial(self, trial_id: str) -> Trial | None:
        """As the history has it, of the attempt that Ray has run; None where Ray's is unknown."""
        if trial_id not in self._known:
            return None
        number, attempt = self._known[trial_id]
        return replace(self.optimizer.trial(number), attempt=attempt)

    def _outcome(self, found: Any, result: dict[str, Any] | None, error: bool) -> tuple[float | None, str]:
        """The value, or None and why there is none."""
        if error:
            return None, "Ray has ended the trial with an error"
        if found is None:
            return None, f"a result must hold the metric {self._metric!r}, got {sorted(result or {})}"
        try:
            return finite(f"the metric {self._metric!r} must be a finite number", found), ""
        except TrialError as refusal:
            return None, str(refusal)

    def _config(self, result: dict[str, Any] | None) -> Params:
        """The point of a trial, which Ray keeps in its results."""
        mark = "config/"
        flat = {name.removeprefix(mark): v for name, v in (result or {}).items() if name.startswith(mark)}
        return self._translation.ours(by_name(flat, self._paths))

    def _observe(self, trial_id: str, params: Params, value: float) -> None:
        """Stores a value that no running trial waits for, once."""
        if any(trial.state == "finished" and trial.params == params for trial in self.optimizer.trials):
            raise TrialError(f"a value must be new, got {value} for {params}, which has one")
        trial = self.optimizer.add(params, value)
        self._known[trial_id] = (trial.id, trial.attempt)


def _points(points: Any, rewards: Any) -> Sequence[Mapping[str, Any]]:
    """The points to start from; raises a ValueError unless they are a list of dicts, each with a reward."""
    found = [] if points is None else points
    fits = isinstance(found, Sequence) and all(isinstance(point, Mapping) for point in found)
    if not fits:
        raise ValueError(f"points_to_evaluate must be a list of configurations, got {described(points)}")
    if rewards is not None and not (isinstance(rewards, Sequence) and len(rewards) == len(found)):
        raise ValueError(
            f"evaluated_rewards must be a list of {len(found)} values, one for each of points_to_evaluate, "
            f"got {described(rewards)}"
        )
    return found


def _check_goal(metric: object, mode: object) -> None:
    if metric is not None and not (isinstance(metric, str) and metric):
        raise ValueError(f"the metric must be the name of one, got {metric!r}")
    if mode not in (None, "min", "max"):
        raise ValueError(f"the mode must be 'min' or 'max', got {mode!r}")

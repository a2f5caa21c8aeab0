"""A search algorithm for Ray Tune, whose results survive the death of the driver."""

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
from bo_suite.integrations.ray_arguments import check_goal, checked_points
from bo_suite.integrations.ray_space import by_name, nested, translated
from bo_suite.integrations.ray_state import state_of, state_text
from bo_suite.integrations.starts import not_asked
from bo_suite.space.space import Params, Space
from bo_suite.storage.paths import local_path
from bo_suite.storage.trial import Trial, next_id
from bo_suite.study.arguments import check_scheduler
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.scheduling import Scheduler
from bo_suite.values.describe import visible
from bo_suite.values.numbers import require_finite

_search: Any = import_module("ray.tune.search")
_results: Any = import_module("ray.tune.result")

_SAVED = (
    *("_space", "_metric", "_mode", "_acquisition", "_seed", "_storage", "_limit"),
    *("_known", "_live", "_reported", "_copy", "_points", "_rewards", "_starts", "_scheduler"),
)
"""Attributes in a state; all others follow from them and the history."""

logger = logging.getLogger("bo_suite")


class BoSuiteSearch(_search.Searcher):  # type: ignore[misc]
    """Suggest the configurations of Ray Tune's trials, and learn from their results.

    A result is on disk before Ray proceeds, so `Tuner.restore` after a crash of the driver finds all results,
    including those that Ray's own snapshot missed. Trials that Ray has forgotten are evaluated again first. A
    trial that Ray's scheduler stops counts with its last reported value. A trial that raises, or reports no
    finite value, has failed.

    With a Space, pass the metric and mode here too: Ray passes those of the TuneConfig only together with a
    `param_space`.

    The searcher itself respects `max_concurrent`, and learns results one by one: `batch=True` of Ray's
    ConcurrencyLimiter has no effect.

    Args:
        space: a Space, whose names are split at "/" into nested configurations, or one of Ray's; None for the
            Tuner's `param_space`.
        metric: name of the optimised result; None for that of the TuneConfig.
        mode: "min" or "max"; None for that of the TuneConfig.
        acquisition: chooses the points; None for the Optimizer's default.
        seed: the same seed and results give the same suggestions.
        storage: path of the history file, created or continued, on a local disk of the driver's machine; None
            for a temporary file, with a copy in Ray's snapshots.
        points_to_evaluate: configurations to begin with, nested or flat; missing parameters are chosen given
            the others. A continued history does not ask for them again.
        evaluated_rewards: values of these configurations, which must be complete and are not run.
        scheduler: ends or pauses trials, such as ASHA(max_step=50), if the TuneConfig has a BoSuiteScheduler.

    Raises:
        ValueError: the space cannot be searched, the metric or mode is invalid, a point is not in the space,
            or a scheduler is none.
        StorageError: the file cannot be used, or belongs to another space, seed or direction.
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
        scheduler: Scheduler | None = None,
    ) -> None:
        check_goal(metric, mode)
        if scheduler is not None:
            check_scheduler(scheduler)
        if space is not None:
            translated(space)
        file = None if storage is None else local_path("the storage of a BoSuiteSearch", storage)
        super().__init__(metric=metric, mode=mode)
        self._metric: str | None = metric
        self._mode: str | None = mode
        self._space, self._acquisition, self._seed = space, acquisition, seed
        self._storage, self._scheduler = None if file is None else str(file), scheduler
        self._points = [dict(point) for point in checked_points(points_to_evaluate, evaluated_rewards)]
        self._rewards = None if evaluated_rewards is None else list(evaluated_rewards)
        self._starts: list[Params] | None = None  # the translated points, once there is a space
        self._limit: int | None = None
        self._known: dict[str, tuple[int, int]] = {}  # id and attempt of each of Ray's trials
        self._live: set[str] = set()
        self._reported: dict[str, Any] = {}  # last value of each running trial
        self._copy: bytes | None = None  # of a history in a temporary file
        self._optimizer: Optimizer | None = None
        self._start()

    @property
    def optimizer(self) -> Optimizer:
        """The Optimizer: its trials, the best of them, its recommendation.

        Raises:
            RuntimeError: the space, metric or mode is not known yet.
        """
        if self._optimizer is None:
            cls = type(self).__name__
            if self._metric is None and self._mode:
                self._metric = _results.DEFAULT_METRIC  # the metric of a trainable that returns a number
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
        """Set what the Tuner passes; return False if there is a space already.

        Raises:
            ValueError: the space cannot be searched, or the metric or mode differs from the earlier one.
        """
        check_goal(metric, mode)
        before, now = (self._metric, self._mode), (metric, mode)
        if any(old and new and old != new for old, new in zip(before, now, strict=True)):
            raise ValueError(f"the metric and mode were {before} before, got {now}")
        self._metric, self._mode = metric or self._metric, mode or self._mode
        if self._space is not None:
            return False
        translated(config)
        self._space = config
        self._start()
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Set how many trials may run side by side; return True because the searcher itself respects it."""
        self._limit = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of a trial; None while too many run, "FINISHED" if none is left."""
        optimizer = self.optimizer
        if trial_id not in self._known:
            if self._limit is not None and len(self._live) >= self._limit:
                return None
            try:
                trial = self._next()
            except SpaceExhausted:
                return str(self.FINISHED)
            if self.continued(trial):
                return None
            self._known[trial_id] = (trial.id, trial.attempt)
            self._live.add(trial_id)
        flat = self._translation.theirs(optimizer.trial(self._known[trial_id][0]).params)
        return nested({self._paths[name]: value for name, value in flat.items()})

    def continued(self, trial: Trial) -> bool:
        """Note the attempt of a trial; return whether Ray knows it, so that Ray's scheduler continues it."""
        name = next((name for name, (number, _) in self._known.items() if number == trial.id), None)
        if name is not None:
            self._known[name] = (trial.id, trial.attempt)
            self._live.add(name)
        return name is not None

    def _next(self) -> Trial:
        """Return an interrupted trial, or else one of a point to start from, or else a suggestion."""
        if self._again:
            return self._again.popleft()
        while self._left:
            point = self._left.popleft()
            try:
                return self.optimizer.ask(fixed=point)
            except SpaceExhausted as error:
                logger.warning("the starting point %s is skipped: %s", point, error)
        return self.optimizer.ask()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store the value in memory: it counts if Ray stops the trial without a result."""
        if result.get(self.metric) is not None:
            self._reported[trial_id] = result[self.metric]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Store the outcome of a trial; on return it survives a crash. Ended trials do not change.

        A failed trial that Ray has run again is a new observation; so is one that Ray has restarted under
        another name.
        """
        optimizer, trial = self.optimizer, self._trial(trial_id)
        self._live.discard(trial_id)
        last = self._reported.pop(trial_id, None)
        reported = (result or {}).get(self.metric)
        value, reason = self._outcome(last if reported is None else reported, result, error)
        by_report = ("stopped", "paused", "failed" if value is None else "")
        if trial is not None and trial.reports and trial.state in by_report:
            return
        try:
            if value is not None and (trial is None or trial.state == "failed"):
                self._observe(trial_id, self._config(result) if trial is None else trial.params, value)
            elif trial is None:
                raise TrialError(f"this searcher has not suggested trial {trial_id!r} ({reason})")
            elif value is not None:
                optimizer.tell(trial, value)
            else:
                optimizer.fail(trial, reason)
                logger.warning("trial %s failed: %s", trial_id, visible(reason))
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
        """Store an observation from elsewhere, nested or flat; with an error or no value, as failed.

        Raises:
            ValueError: a parameter is missing or out of range.
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
        """Return what `set_state` needs, with a copy of the history if its file is temporary."""
        if self._storage is None and self._optimizer is not None:
            with closing(sqlite3.connect(self._file)) as connection:
                self._copy = connection.serialize()
        return {name: copy(getattr(self, name)) for name in _SAVED}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state, and all that its history has learnt since."""
        if self._optimizer is not None:
            self._optimizer.close()
        self._optimizer = None
        self.__dict__.update({name: copy(state[name]) for name in _SAVED})

    def save(self, checkpoint_path: str) -> None:
        """Write the state to a file, as JSON."""
        Path(checkpoint_path).write_text(state_text(self.get_state()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read the state from a file, without running code of the file.

        The searcher keeps its own space and acquisition. It must have those that JSON cannot hold: a space
        with other objects than numbers, texts, lists and dicts of them, and an acquisition with parts from
        outside the package.

        Raises:
            StorageError: the file is damaged, of version 0.8.0, of another space or without one, or the
                history is missing.
        """
        content = Path(checkpoint_path).read_bytes()
        own = {name: getattr(self, name) for name in _SAVED}
        self.set_state(state_of(checkpoint_path, content, own))
        self._start()

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._optimizer = None
        self.set_state(state)

    def _start(self) -> None:
        """Open the history as soon as possible, so that its errors show before trials run."""
        if self._space is not None and self._metric and self._mode and self._optimizer is None:
            self._optimizer = self._open(self._space, self._mode)

    def _open(self, space: Space | Mapping[str, Any], mode: str) -> Optimizer:
        """Open the history; interrupted trials that Ray does not know are suggested first."""
        self._translation, self._paths = translated(space)
        self._file = self._storage or self._temporary()
        direction = {"min": "minimize", "max": "maximize"}[mode]
        optimizer = Optimizer(
            self._translation.space,
            self._acquisition,
            self._seed,
            direction,
            storage=self._file,
            scheduler=self._scheduler,
        )
        trials = optimizer.trials
        needed = 1 + max((number for number, _ in self._known.values()), default=-1)
        if needed > next_id(trials):
            optimizer.close()
            raise StorageError(
                f"the storage must hold the {needed} trials of the restored search, got {len(trials)} "
                f"in {self._file}"
            )
        interrupted = {trial.id: trial for trial in optimizer.reclaim(attempts=None)}
        for name, (number, _) in self._known.items():
            if number in interrupted:
                self._known[name] = (number, interrupted.pop(number).attempt)
        self._again = deque(interrupted.values())
        try:
            if self._starts is None:
                self._starts = self._begin(optimizer)
        except BaseException:
            optimizer.close()
            raise
        self._left = deque(not_asked(self._starts, optimizer.trials))
        return optimizer

    def _begin(self, optimizer: Optimizer) -> list[Params]:
        """Return the points to start from; store those that have values instead."""
        starts = [self._translation.start(by_name(point, self._paths)) for point in self._points]
        if self._rewards is None:
            return starts
        stored = [trial.params for trial in optimizer.trials if trial.state in ("finished", "failed")]
        for start, reward in zip(starts, self._rewards, strict=True):
            if (params := self._translation.space.check(start)) not in stored:
                self._add(optimizer, params, reward, error=False)
        return []

    def _temporary(self) -> str:
        folder = tempfile.mkdtemp(prefix="bo_suite-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = Path(folder) / "history.db"
        file.write_bytes(self._copy or b"")
        return str(file)

    def _trial(self, trial_id: str) -> Trial | None:
        """Return the trial of a name of Ray's, with the attempt that Ray ran; None if it is unknown."""
        if trial_id not in self._known:
            return None
        number, attempt = self._known[trial_id]
        return replace(self.optimizer.trial(number), attempt=attempt)

    def _outcome(self, value: Any, result: dict[str, Any] | None, error: bool) -> tuple[float | None, str]:
        """Return the value as a float, or None and a reason."""
        if error:
            return None, "Ray has ended the trial with an error"
        if value is None:
            return None, f"a result must hold the metric {self._metric!r}, got {sorted(result or {})}"
        try:
            return require_finite(f"the metric {self._metric!r} must be a finite number", value), ""
        except TrialError as refusal:
            return None, str(refusal)

    def _config(self, result: dict[str, Any] | None) -> Params:
        """Return the point of a trial, which is in Ray's results."""
        prefix = "config/"
        flat = {name.removeprefix(prefix): v for name, v in (result or {}).items() if name.startswith(prefix)}
        return self._translation.ours(by_name(flat, self._paths))

    def _observe(self, trial_id: str, params: Params, value: float) -> None:
        """Add a value that belongs to no running trial, unless its point has one."""
        if any(trial.state == "finished" and trial.params == params for trial in self.optimizer.trials):
            raise TrialError(f"{params} has a value already, got {value}")
        trial = self.optimizer.add(params, value)
        self._known[trial_id] = (trial.id, trial.attempt)

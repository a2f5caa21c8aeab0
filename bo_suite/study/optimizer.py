"""The sequential loop: ask for a point, tell its outcome, over a history that can be resumed."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, overload

from bo_suite.errors import BoSuiteError, SpaceError, StorageError, TrialError
from bo_suite.space.space import Params, Space
from bo_suite.storage.history import History
from bo_suite.storage.trial import Finished, Header, Trial
from bo_suite.study.asking import asked_in_turn
from bo_suite.study.summary import RegretBound, best_trial, ended_text, html_of_best, overview, to_frame
from bo_suite.values.describe import described
from bo_suite.values.display import shown_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import flag

if TYPE_CHECKING:  # torch and pandas load when a suggestion or a table is asked for
    import pandas as pd
    import torch

    from bo_suite.acquisition import Acquisition, SteinBatch
    from bo_suite.study.suggest import Suggester

logger = logging.getLogger("bo_suite")


class Optimizer:
    """Suggests points and learns from their outcomes; the only mutable object of the package.

    Attributes:
        opened: `time.monotonic()` when it was made or resumed.

    Args:
        space: where to search.
        acquisition: how to choose; when None, that of the storage, or else LogExpectedImprovement
            (KnowledgeGradient where the space has fidelities).
        seed: the same seed and data give the same suggestions.
        direction: "minimize" or "maximize".
        budget: the number of evaluations planned, if known: of a small one fewer points are initial.
        storage: a file that stores the history, created or continued; None holds it in memory.
        device: where surrogates live ("cpu", "cuda").
        initial: number of space-filling points before the model chooses, observations that were added counted
            in; when None, that of the storage, or else 6, or a third of a budget below 18.

    Raises:
        SpaceError, TrialError: arguments that break a rule, among them a device that is not here.
        StorageError: a file that cannot be used, or that belongs to another space, seed or direction.
    """

    def __init__(
        self,
        space: Space,
        acquisition: "Acquisition | None" = None,
        seed: int = 0,
        direction: str = "minimize",
        budget: int | None = None,
        storage: str | Path | None = None,
        device: "str | torch.device" = "cpu",
        initial: int | None = None,
    ) -> None:
        if not isinstance(space, Space):
            raise SpaceError(f"an Optimizer needs a Space, got {described(space)}")
        space.varying.check_searchable()  # before a file is made
        if direction not in ("minimize", "maximize"):
            raise TrialError(f"direction must be 'minimize' or 'maximize', got {described(direction)}")
        planned = None if budget is None else require_int("budget", budget, at_least=1)
        points = None if initial is None else require_int("initial", initial, at_least=1)
        form = None if acquisition is None else _json_of(acquisition, space)
        self._device = _usable(device)
        header = Header(space, require_int("seed", seed), direction, planned, form, points)
        self._begin(History.open(storage, header), acquisition)

    @staticmethod
    def resume(
        path: str | Path, acquisition: "Acquisition | None" = None, device: "str | torch.device" = "cpu"
    ) -> "Optimizer":
        """The optimiser of a history file, exactly as it was.

        Args:
            path: the file.
            acquisition: needed only where it has parts from outside the package, such as a kernel.
            device: where surrogates live.

        Raises:
            TrialError: a device that is not here.
            StorageError: a file that is missing, is no history, or needs its acquisition given.
        """
        optimizer = object.__new__(Optimizer)
        optimizer._device = _usable(device)
        optimizer._begin(History.open(path, None), acquisition)
        return optimizer

    def __reduce__(self) -> tuple[Any, ...]:
        """An Optimizer of a file is copied, and sent to other processes, as its path: the copy resumes it.

        Raises:
            TypeError: one in memory.
        """
        path = self._history.path
        if path is None:
            raise TypeError(
                "an Optimizer must have a file (`storage=`) to be pickled or copied, got one in memory"
            )
        return Optimizer.resume, (str(path), self._suggester.acquisition, str(self._device))

    def _begin(self, history: History, acquisition: "Acquisition | None") -> None:
        self.opened = time.monotonic()
        self._history = history
        self._given = acquisition
        if acquisition is None and history.header.acquisition is not None:
            from bo_suite.storage.serialization import from_json

            self._given = from_json(history.header.acquisition)

    @cached_property
    def _suggester(self) -> "Suggester":
        import torch

        from bo_suite.acquisition.default import default_acquisition
        from bo_suite.study.initial import initial_size
        from bo_suite.study.suggest import Suggester

        header = self._history.header
        return Suggester(
            header.space,
            self._given or default_acquisition(header.space.aspects),
            header.seed,
            header.direction,
            header.initial or initial_size(header.budget),
            torch.device(self._device),
        )

    @property
    def space(self) -> Space:
        """Where the search goes on."""
        return self._history.header.space

    @property
    def direction(self) -> str:
        """ "minimize" or "maximize"."""
        return self._history.header.direction

    @property
    def trials(self) -> list[Trial]:
        """All trials, ordered by id."""
        return self._history.trials()

    def trial(self, number: int) -> Trial:
        """The trial of an id, as it is now.

        Raises:
            TrialError: no such trial.
        """
        found = self._history.trial(require_int("a trial's id", number))
        if found is None:
            raise TrialError(f"a trial must be one of this history, got unknown id {number}")
        return found

    @property
    def best(self) -> Finished:
        """The finished trial with the best value, of those at the target where the space has fidelities.

        Raises:
            TrialError: no such trial has finished.
        """
        return best_trial(self.trials, self.direction, self.space)

    @overload
    def ask(self, *, fixed: Params | None = None) -> Trial: ...
    @overload
    def ask(
        self, count: int, batch: "SteinBatch | None" = None, fixed: Params | None = None
    ) -> list[Trial]: ...
    def ask(
        self,
        count: int | None = None,
        batch: "SteinBatch | None" = None,
        fixed: Params | None = None,
    ) -> Trial | list[Trial]:
        """The next trial, or a list of `count` of them that are to be evaluated side by side.

        Points are chosen one after the other, each given those before as pending; or, once the space-filling
        start is over, jointly by `batch`, which is for `Bore`: it takes the score for a logit. The list is
        shorter where a finite space has fewer new points left.

        On return the complete points are stored as running, and later suggestions take them into account.
        Threads and processes that ask on one history take turns.

        Args:
            count: of trials.
            batch: chooses them jointly.
            fixed: values by name that some parameters have in each trial; the others are chosen given these.

        Raises:
            SpaceExhausted: a finite space has no new point left, or none with what is fixed.
            SpaceError: a fixed parameter that is unknown, or a value that is none of it.
            TrialError: count < 1, a batch of another kind, or one in a space with fidelities.
        """
        if fixed is not None:
            self.space.check_some(fixed)  # to refuse it before others are waited for
        if batch is not None and (self.space.fidelities or not _is_batch(batch)):
            law = "a batch must be a SteinBatch(), and no fidelity in the space"
            raise TrialError(f"{law}, got {described(batch)}")
        number = 1 if count is None else require_int("count", count, at_least=1)
        asked = asked_in_turn(
            self._history, lambda trials: self._suggester.suggest(trials, number, batch, fixed=fixed)
        )
        return asked if count is not None else asked[0]

    def tell(self, trial: Trial | int, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores the outcome of a running trial; on return it survives a crash of the process or the machine.

        Args:
            trial: the trial, or its id.
            value: the outcome, in the user's units and direction.
            std: standard deviation of its noise, if known.

        Raises:
            TrialError: a value that is not finite, or a trial that is unknown, has ended or was handed out
                again since.
        """
        number, attempt = self._which(trial)
        return self._ended(self._history.tell(number, value, std, attempt))

    def fail(
        self, trial: Trial | int, reason: str, transient: bool = False, traceback: str | None = None
    ) -> Trial:
        """Stores that a running trial has no outcome; later suggestions stay away from where trials fail.

        Args:
            trial: the trial, or its id.
            reason: why.
            transient: whether the cause has nothing to do with the point, such as a lost connection: then
                nothing is learnt from it, and its point may be suggested again.
            traceback: of the exception, as `traceback.format_exc()` gives it; 10,000 characters are stored.

        Raises:
            TrialError: a trial that is unknown or has ended, a flag that is no bool, or a traceback that is
                no string.
        """
        number, attempt = self._which(trial)
        by_chance = flag("transient", transient, TrialError)
        return self._ended(
            self._history.fail(number, reason, attempt, transient=by_chance, traceback=traceback)
        )

    def withdraw(self, trial: Trial | int) -> Trial:
        """Stores that a running trial is not going to be evaluated; its point may be suggested again.

        Raises:
            TrialError: a trial that is unknown or has ended.
        """
        number, attempt = self._which(trial)
        return self._ended(self._history.withdraw(number, attempt=attempt))

    def add(self, params: Params, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores an observation from elsewhere as a finished trial.

        Raises:
            SpaceError: a parameter missing, unknown or out of range.
            TrialError: a value that is not finite.
        """
        return self._history.add(params, value, std)

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure from elsewhere as a failed trial, which counts like one of `fail`.

        Raises:
            SpaceError: a parameter missing, unknown or out of range.
        """
        return self._history.add_failed(params, reason)

    def reclaim(self) -> list[Trial]:
        """Running trials whose process has died, now in the care of this one, to be evaluated again."""
        return self._history.reclaim()

    def recommend(self) -> Params:
        """The point of smallest posterior mean plus one standard deviation, evaluated or not.

        The model is the acquisition's surrogate, or an AutoGP where it has none. Under noise the point is
        better than `best`, the luckiest observation. Without, it is the best point or one predicted to be
        better by more than the doubt about it. Its fidelities are at the target.

        Raises:
            TrialError: no trial has finished.
            FitError, NumericalError: the model cannot be fitted.
        """
        from bo_suite.study.recommend import recommended_point

        trials = self.trials
        _require_finished(trials, "nothing can be recommended")
        return recommended_point(self._suggester, trials)

    def regret_bound(self, width: float | None = None) -> RegretBound:
        """A bound of f(x) - min f, f without noise, for the evaluated point x of smallest upper bound.

        min over evaluated points of mean + w σ less min over the space of mean - w σ, by the acquisition's
        surrogate or an AutoGP where it has none, both mapped to the user's units; fidelities are at the
        target, "maximize" is mirrored, and running trials do not count. By default
        w² = 2 log(d n² π² / (6 · 0.1)), for n finished trials in d encoded dimensions, 4 to 6: were f a draw
        from the model, this would hold for all n together with probability 0.9 at d fixed points (Srinivas et
        al. 2010, lemma 5.1). Functions are no such draws: over eight problems (benchmarks/stopping.py) it
        held in 0.78 of the runs after 10 evaluations, 0.85 after 20 and 0.94 after 30 to 60, least often
        where the minimum is a narrow spike (Ackley's, 0.4 to 0.8). Makarova et al. (2022), equation 3, take
        w² / 5.

        Args:
            width: w, standard deviations.

        Raises:
            TrialError: no trial has finished, or a width not above 0.
            FitError, NumericalError: the model cannot be fitted.
        """
        if width is not None and not 0 < width < math.inf:
            raise TrialError(f"`0 < width < inf` must hold, got {width!r}")
        from bo_suite.study.recommend import regret_bound

        trials = self.trials
        _require_finished(trials, "there is no regret bound")
        return regret_bound(self._suggester, trials, width)

    def __repr__(self) -> str:
        acquisition = type(self._suggester.acquisition).__name__
        try:
            return shown_text(f"Optimizer({overview(self.trials, self.direction)}, {acquisition})")
        except StorageError as error:  # such as that it was closed
            return shown_text(f"Optimizer({error})")

    def _repr_html_(self) -> str | None:
        with suppress(StorageError):
            return html_of_best(self.trials, self.direction, self.space)
        return None

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial: `id`, its parameters as `param_NAME`, what became of it, `state` and `value`."""
        return to_frame(self.trials)

    def close(self) -> None:
        """Lets go of the storage."""
        self._history.close()

    def _ended(self, trial: Trial) -> Trial:
        """The trial, after a line about it in the log."""
        if logger.isEnabledFor(logging.INFO):
            best = None
            with suppress(BoSuiteError):  # none yet, or none that can be read
                best = self.best.value
            logger.info("%s", ended_text(trial, best))
        return trial

    def _which(self, trial: Trial | int) -> tuple[int, int | None]:
        """Id and, where a Trial was given, attempt."""
        if not isinstance(trial, Trial):
            return require_int("a trial's id", trial), None
        run = self._history.header.run
        if trial.run and run and trial.run != run:
            raise TrialError(f"trial {trial.id} must be one of this history, got that of another")
        return trial.id, trial.attempt


def _json_of(acquisition: "Acquisition", space: Space) -> Any:
    """The acquisition as a history stores it, once it is known to be one that supports the space."""
    from bo_suite.acquisition.base import require_support
    from bo_suite.storage.serialization import to_json
    from bo_suite.study.suggest import check_acquisition

    check_acquisition(acquisition)
    require_support(acquisition, space.aspects)
    return to_json(acquisition)


def _usable(device: object) -> Any:
    """The device, if double precision can be computed on it; the CPU is not tried, which loads torch."""
    if isinstance(device, str) and device == "cpu":
        return device
    from bo_suite.linalg.environment import usable_device

    return usable_device(device)


def _is_batch(batch: object) -> bool:
    from bo_suite.acquisition import SteinBatch

    return isinstance(batch, SteinBatch)


def _require_finished(trials: Sequence[Trial], what: str) -> None:
    """Raises a TrialError unless a trial is finished."""
    if not any(trial.state == "finished" for trial in trials):
        raise TrialError(f"{what} before a trial has finished, got {len(trials)} trials")

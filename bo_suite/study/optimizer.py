"""The ask-tell loop over a history that can be resumed."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, overload

from bo_suite.errors import TrialError
from bo_suite.space.space import Params, Space
from bo_suite.storage.addresses import Address, Location
from bo_suite.storage.by_parameter import ByName
from bo_suite.storage.goals import Constraints, Direction, Goals, Noise, Told
from bo_suite.storage.history import History
from bo_suite.storage.trial import Finished, Observation, Trial
from bo_suite.study import arguments
from bo_suite.study.asking import asked_in_turn, enqueued, logged
from bo_suite.study.extension import extend
from bo_suite.study.judging import Answer, Judge
from bo_suite.study.model import Suggesters
from bo_suite.study.scheduling import Scheduler
from bo_suite.study.summary import RegretBound, best_trial, html_of_run, pareto_trials, text_of_run
from bo_suite.study.tables import frame_of
from bo_suite.values.scalars import flag

if TYPE_CHECKING:  # torch and pandas are imported by the first suggestion or table
    import pandas as pd
    import torch

    from bo_suite.acquisition import Acquisition, SteinBatch
    from bo_suite.space.parameters import Parameter
    from bo_suite.study.belief import Belief, Points
    from bo_suite.study.suggest import Suggester


class Optimizer:
    """Suggests points and learns from their outcomes.

    Attributes:
        opened: `time.monotonic()` when the Optimizer was made or resumed.

    Args:
        space: space to search.
        acquisition: chooses the points. None for the acquisition of the storage or, if it has none,
            AdaptiveImprovement (KnowledgeGradient in a space with fidelities).
        seed: equal seeds and data give equal suggestions.
        direction: "minimize" or "maximize", or one of these by name of each objective.
        budget: number of planned evaluations, if known; a small budget has fewer initial points.
        storage: file, or address postgresql://user@host/database?run=NAME, of the history; None for memory.
        device: device of the surrogates ("cpu", "cuda").
        initial: number of space-filling points before the model chooses; added observations count. None for
            the number in the storage or, if it has none, 6, or a third of a budget below 18.
        repeats: whether a point may be evaluated again where that teaches most, if outcomes are noisy. None
            for the answer in the storage or, if it has none, no: only once a finite space is exhausted.
        constraints: (low, high) by name of an outcome, None for an open end; True if it must be True.
        scheduler: stops trials that `report`, such as ASHA(52). None for that of the storage, if it has one.

    Raises:
        SpaceError, TrialError: an argument breaks a rule, or the device is not available.
        StorageError: the file cannot be used, or belongs to another space, seed or goals.
    """

    def __init__(
        self,
        space: Space,
        acquisition: "Acquisition | None" = None,
        seed: int = 0,
        direction: Direction = "minimize",
        budget: int | None = None,
        storage: Location | None = None,
        device: "str | torch.device" = "cpu",
        initial: int | None = None,
        repeats: bool | None = None,
        constraints: Constraints | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        settings = arguments.Settings(budget, initial, repeats, scheduler)
        header = arguments.header_of(space, acquisition, seed, Goals.of(direction, constraints), settings)
        self._begin(arguments.usable(device), History.open(storage, header), acquisition, scheduler)

    @staticmethod
    def resume(
        path: Location,
        acquisition: Any = None,
        device: Any = "cpu",
        functions: Sequence[Any] = (),
        scheduler: Scheduler | None = None,
    ) -> "Optimizer":
        """The Optimizer of a history, in the state that is stored in a file or a database.

        Args:
            acquisition: required only if it has parts from outside the package, such as a kernel.
            functions: the constraint functions of the space, if it has any.
            scheduler: required only if it is from outside the package.

        Raises a StorageError if it is no history or needs an argument, and a TrialError without the device.
        """
        resumed = object.__new__(Optimizer)
        resumed._begin(arguments.usable(device), History.open(path, None, functions), acquisition, scheduler)
        return resumed

    @property
    def _suggester(self) -> "Suggester":
        return self._suggesters.latest

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies as the place of the storage, which the copy resumes; TypeError if in memory."""
        if (place := self._history.place) is None:
            raise TypeError("an Optimizer must have a `storage` to be pickled or copied, got one in memory")
        device, functions = str(self._device), self.space.constraints.functions
        acquisition = self._suggester.acquisition
        return Optimizer.resume, (place, acquisition, device, functions, self.scheduler)

    def _begin(self, device: Any, history: History, acquisition: Any, scheduler: Scheduler | None) -> None:
        self.opened = time.monotonic()
        self._device, self._history = device, history
        self._judge = Judge(history, scheduler)
        self._suggesters = Suggesters(history, acquisition, self._device, self._judge.max_step)

    @property
    def space(self) -> Space:
        """The space that is searched."""
        return self._history.header.space

    @property
    def goals(self) -> Goals:
        """The objectives and the constraints."""
        return self._history.header.goals

    @property
    def direction(self) -> Direction:
        """ "minimize" or "maximize", or one of these by name of each objective."""
        return self._history.header.direction

    @property
    def scheduler(self) -> Scheduler | None:
        """Stops trials while they run; None if there is none."""
        return self._judge.scheduler

    @property
    def budget(self) -> int | None:
        """Number of planned evaluations, if it is known."""
        return self._history.header.budget

    @property
    def place(self) -> Path | Address | None:
        """Where the run is stored; None if in memory."""
        return self._history.place

    @property
    def trials(self) -> list[Trial]:
        """All trials, ordered by id."""
        return self._history.trials()

    def trial(self, number: int) -> Trial:
        """The trial with an id, in its present state; raises a TrialError if there is none."""
        return arguments.found(self._history, number)

    @property
    def best(self) -> Finished:
        """The feasible trial with the best value, at the target fidelity; a TrialError if there is none."""
        return best_trial(self.trials, self.goals, self.space)

    @property
    def pareto(self) -> list[Trial]:
        """The feasible trials that no other one dominates, ordered by the first objective; maybe none."""
        return pareto_trials(self.trials, self.goals, self.space)

    @overload
    def ask(self, *, fixed: Params | None = None, budget: int | None = None) -> Trial: ...
    @overload
    def ask(
        self, count: int, batch: Any = None, fixed: Params | None = None, budget: int | None = None
    ) -> list[Trial]: ...
    def ask(
        self,
        count: int | None = None,
        batch: "SteinBatch | None" = None,
        fixed: Params | None = None,
        budget: int | None = None,
    ) -> Trial | list[Trial]:
        """The next trial, or a list of `count` trials to be evaluated in parallel.

        Paused trials that the scheduler continues come first, whatever the budget; their `step` is above 0.
        Then points of `enqueue`. Others are chosen one after another, given the earlier ones as pending. The
        list is shorter if a finite space or the budget has fewer left. On return the trials are stored as
        running, and later suggestions know them. Threads and processes take turns.

        Args:
            count: number of trials.
            batch: chooses the points after the initial ones jointly, for `Bore`, whose score is a logit.
            fixed: values by name of some parameters in every trial, and of every context.
            budget: maximum number of trials of the history, whoever asks, apart from withdrawn ones.

        Raises:
            BudgetSpent: the history has as many trials.
            SpaceExhausted: a finite space has no new point left, or none with the fixed values.
            SpaceError: a fixed parameter is unknown or does not have the value, or a context is not given.
            TrialError: count or budget < 1, or a batch is not a SteinBatch, or the space has fidelities.
        """
        number, most = arguments.checked_ask(count, batch, fixed, budget, self.space)
        promoted, suggest = self._judge.promoted, partial(self._suggesters.suggest, batch, fixed)
        asked = asked_in_turn(self._history, partial(promoted, fixed), suggest, number, most)
        return asked if count is not None else asked[0]

    def enqueue(self, points: Params | Sequence[Params], repeats: bool = True) -> None:
        """Stores points to be asked next, in order; the model chooses what one lacks. Raises SpaceError.

        Without `repeats` those are left out that a trial or another queued point has.
        """
        enqueued(self._history, arguments.listed_points(points), repeats)

    @property
    def queue(self) -> list[Params]:
        """The points of `enqueue` that have not been asked yet, in order."""
        return [point.params for point in self._history.queue()]

    def dequeue(self) -> list[Params]:
        """Removes all queued points, and returns them."""
        return [point.params for point in self._history.dequeue()]

    def tell(
        self,
        trial: Trial | int,
        value: Told,
        std: Noise = None,
        gradient: ByName = None,
        params_std: ByName = None,
    ) -> Trial:
        """Stores the outcome of a running trial; on return it survives a crash of the process or the machine.

        Args:
            value: the outcome, in the user's units and direction, or outcomes by name. One that is left out
                was not measured; NaN says that its measurement failed.
            std: standard deviation of its noise, if known, or these by name.
            gradient: derivatives of the value by some Floats, in the user's units; of the only objective.
            params_std: standard deviations of what was really set, of some Floats and Ints, in their units.

        Raises:
            TrialError: a number is not finite, a std is below 0, a name is unknown, inactive or of another
                kind, or the trial is unknown, ended or handed out again.
        """
        number, attempt = self._id(trial)
        return logged(self._history.tell(number, value, std, attempt, gradient, params_std), self._history)

    def report(
        self, trial: Trial | int, step: int, value: SupportsFloat, seconds: SupportsFloat | None = None
    ) -> Answer:
        """Stores an intermediate outcome of a running trial; "stop" if its evaluation is to end now.

        The trial has ended then as stopped, or as paused if `ask` may continue it, with this value; there is
        nothing to tell. A value that is not finite fails it. At the last step nothing is decided.

        Args:
            step: number of the step, such as an epoch, from 1 on; increases within an attempt.
            value: the outcome after the step, in the user's units and direction.
            seconds: that the evaluation took up to this step; None for those since it was handed out.

        Raises:
            TrialError: an argument breaks a rule, or the trial is unknown, ended or handed out again.
        """
        return self._judge.report(*self._id(trial), step, value, seconds)

    def fail(
        self, trial: Trial | int, reason: str, transient: bool = False, traceback: str | None = None
    ) -> Trial:
        """Stores that a running trial has failed, and why; suggestions avoid where trials fail.

        Args:
            transient: whether the cause does not depend on the point, such as a lost connection. The model
                then ignores the trial, and its point may be suggested again.
            traceback: of the exception, as `traceback.format_exc()` returns it; 10,000 characters are stored.

        Raises a TrialError if the trial is unknown or has ended, or an argument is of a wrong type.
        """
        number, attempt = self._id(trial)
        by_chance = flag("transient", transient, TrialError)
        failed = self._history.fail(number, reason, attempt, transient=by_chance, traceback=traceback)
        return logged(failed, self._history)

    def withdraw(self, trial: Trial | int, requeue: bool = False) -> Trial:
        """Stores that a running trial will not be evaluated; with `requeue` its point is queued."""
        (number, attempt), again = self._id(trial), flag("requeue", requeue, TrialError)
        reason = "handed back" if again else "withdrawn"
        return logged(self._history.withdraw(number, reason, attempt, requeue=again), self._history)

    def add(
        self,
        params: Params,
        value: Told,
        std: Noise = None,
        gradient: ByName = None,
        params_std: ByName = None,
    ) -> Trial:
        """Stores an observation from elsewhere as a finished trial; raises a SpaceError, or as `tell`."""
        return self._history.add_all([Observation(params, value, std, None, gradient, params_std)])[0]

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure from elsewhere as a failed trial; raises SpaceError as `add` does."""
        return self._history.add_all([Observation(params, None, reason=reason)])[0]

    def add_all(self, observations: Sequence[Observation]) -> list[Trial]:
        """Stores observations from elsewhere, such as those of `read_csv`: all of them, or none. As `add`."""
        return self._history.add_all(observations)

    def amend(
        self,
        trial: Trial | int,
        value: Told,
        std: Noise = None,
        gradient: ByName = None,
        params_std: ByName = None,
    ) -> Trial:
        """Corrects the outcome of a trial in any state, which is finished then; see `to_frame(history=True)`.

        Of outcomes by name, those that are left out stay, and so do a std and a params_std of None. The
        gradient belongs to the value: if that changes, it is gone unless it is given again. Raises as `tell`.
        """
        return self._history.amend(self._id(trial)[0], value, std, gradient, params_std)

    def forget(self, trial: Trial | int, reason: str = "forgotten") -> Trial:
        """Withdraws a trial in any state and removes its outcome: nothing is learnt from it any more.

        Its point may be suggested again, it counts for no budget, and `amend` restores it. Raises TrialError.
        """
        return self._history.forget(self._id(trial)[0], reason)

    def extend(self, parameters: "Mapping[str, Parameter] | Space", values: Params | None = None) -> Space:
        """Changes and returns the space; trials left outside still teach the model, and are not suggested.

        New parameters need `values` in earlier trials. Raises a SpaceError if a parameter becomes one of
        another kind or has a single number left, a new one has no value, or an earlier or a queued point has
        no place in the new space.
        """
        return extend(self._history, parameters, values or {}, self._suggesters.check)

    def reclaim(self, most: int | None = None, attempts: int | None = 3) -> list[Trial]:
        """Takes over abandoned trials, to be evaluated again; fails those that had so many attempts."""
        return self._history.reclaim(most, attempts)

    def hold(self) -> None:
        """Keeps the running trials for those who evaluate them, also when this process has ended."""
        self._history.hold()

    def recommend(self, fixed: Params | None = None, robust: Mapping[str, float] | None = None) -> Any:
        """The point of smallest posterior mean plus one standard deviation, evaluated or not.

        Under noise it is better than `best`, whose value may be luck. Without noise it is the best trial's
        point, or one that is predicted to be better by more than its standard deviation. Fidelities are at
        the target. With several objectives, at most ten points. `fixed` has a value of every context.
        `robust` has standard deviations of what is really set, by name: then it is the mean over that noise
        which is best. Raises a SpaceError if a value in these is wrong or that of a context is missing, a
        TrialError if nothing is observed, a FitError or a NumericalError if the model cannot be fitted.
        """
        arguments.check_fixed(fixed, self.space, "recommend")
        return self._suggesters.recommended(fixed, robust)

    def regret_bound(self, width: float | None = None) -> RegretBound:
        """An upper bound of f(x) - min f, f without noise, for the evaluated point x of smallest upper bound.

        min over evaluated points of mean + w σ, minus min over the space of mean - w σ (Makarova et al. 2022,
        equation 3), with w = `width` or `recommend.default_width`. docs/loop.md says how often it has held.
        Raises a TrialError if no trial is finished or there are constraints, and errors as `recommend`.
        """
        return self._suggesters.regret_bound(width)

    def belief(self, outcome: str | None = None) -> "Belief":
        """The fitted model of the only objective, or of an outcome by name; a TrialError before a value."""
        return self._suggesters.belief(outcome)

    def predict(self, points: "Points", interval: float = 0.9) -> "pd.DataFrame":
        """`Belief.predict`, in the user's units; of several outcomes with columns (outcome, statistic)."""
        return self._suggesters.predict(points, interval)

    def importance(self) -> "pd.DataFrame":
        """`Belief.importance`: what share of the variation each parameter explains; columns as `predict`."""
        return self._suggesters.importance()

    def __repr__(self) -> str:
        return text_of_run(self._history, type(self._suggester.acquisition).__name__)

    def _repr_html_(self) -> str | None:
        return html_of_run(self._history)

    def to_frame(self, history: bool = False, reports: bool = False) -> "pd.DataFrame":
        """One row per trial: `id`, its parameters as `param_NAME`, `state`, `value` and its other fields.

        With `history` one row per change: amended, forgotten, extended, or told too late, by whom and when.
        With `reports` one row per report: `id`, `step`, `value`, `seconds`, `attempt` and `verdict`.
        """
        return frame_of(self._history, history, reports)

    def close(self) -> None:
        """Closes the storage."""
        self._history.close()

    def _id(self, trial: Trial | int) -> tuple[int, int | None]:
        """The id and the attempt of a trial of this history."""
        return arguments.trial_id(trial, self._history.header.run)

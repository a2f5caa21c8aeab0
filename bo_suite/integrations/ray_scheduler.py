"""A scheduler for Ray Tune that ends and pauses trials as the scheduler of a BoSuiteSearch decides."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from bo_suite.errors import BudgetSpent, TrialError
from bo_suite.integrations.ray_tune import BoSuiteSearch
from bo_suite.storage.attempts import checked_step
from bo_suite.storage.trial import Verdict
from bo_suite.values.describe import described

_schedulers: Any = import_module("ray.tune.schedulers")


class BoSuiteScheduler(_schedulers.FIFOScheduler):  # type: ignore[misc]
    """Ends, pauses and continues trials as the scheduler of the search says: `BoSuiteSearch(scheduler=...)`.

    Each result is stored as a report in the search's history before it is judged, so decisions survive the
    driver, and the search learns from the curves. A trial that has reached the last step of the scheduler has
    ended with its value there. What a trial that Ray runs again reports a second time is stored already, and
    judges nothing.

    Paused trials that the scheduler continues come before new ones. They go on from their last checkpoint; a
    function without checkpoints begins again. Those that are still paused when all has run stay so in the
    history, and are terminated in Ray.

    It has no state and no metric of its own.

    Args:
        time_attr: name of the result that counts steps: an integer from 1 on.
    """

    def __init__(self, time_attr: str = "training_iteration") -> None:
        super().__init__()
        self._time_attr = time_attr

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Check that the search can decide.

        Raises:
            ValueError: the search is no BoSuiteSearch, or has no scheduler.
        """
        _search_of(tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Store a result, and return whether the trial goes on.

        Raises:
            TrialError: the step is no integer from 1 on.
        """
        search = _search_of(tune_controller)
        value = result.get(search.metric)
        if value is None:
            return str(self.CONTINUE)
        if self._time_attr not in result:
            law = f"a result must have {self._time_attr!r}, which counts the steps"
            raise TrialError(f"{law}, got {described(sorted(result))}")
        step, seconds = result[self._time_attr], result.get("time_total_s")
        decision = _decision(search, trial.trial_id, step, value, seconds)
        return str({"continue": self.CONTINUE, "stop": self.STOP, "pause": self.PAUSE}[decision])

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial that starts next, if one is waiting: one to continue, else in the order of suggestion."""
        trials = tune_controller.get_trials()
        paused = [trial for trial in trials if trial.status == trial.PAUSED]
        search = _search_of(tune_controller) if paused else None
        if search is not None and tune_controller.search_alg.is_finished():
            _promote(search)  # otherwise a suggestion has
        for trial in paused:
            if search is not None and _is_continued(search, trial.trial_id):
                return trial
        pending = [trial for trial in trials if trial.status == trial.PENDING]
        if pending:
            return pending[0]
        if tune_controller.search_alg.is_finished() and not any(one.status == one.RUNNING for one in trials):
            for trial in paused:
                tune_controller.stop_trial(trial)
        return None

    def debug_string(self) -> str:
        """A line for the console."""
        return "Trials end as the scheduler of BoSuiteSearch decides."


def _decision(search: BoSuiteSearch, name: str, step: object, value: float, seconds: float | None) -> Verdict:
    """Store an intermediate value of one of Ray's trials; whether it goes on, which it does not at the end.

    Steps that the trial has reported before are ignored.
    """
    optimizer, trial = search.optimizer, search._trial(name)
    if optimizer.scheduler is None or trial is None or trial.state != "running":
        return "continue"
    last, number = optimizer.scheduler.max_step, checked_step(step)
    done = max((one.step for one in trial.reports if one.attempt == trial.attempt), default=0)
    if done < number <= last and optimizer.report(trial, number, value, seconds) == "stop":
        search._live.discard(name)
        return "pause" if optimizer.trial(trial.id).state == "paused" else "stop"
    return "stop" if number >= last else "continue"


def _promote(search: BoSuiteSearch) -> None:
    """Let the scheduler of a search continue a paused trial, if there is room and it wants to."""
    if search._limit is None or len(search._live) < search._limit:
        with suppress(BudgetSpent):
            search.continued(search.optimizer.ask(budget=1))  # no new trial


def _is_continued(search: BoSuiteSearch, name: str) -> bool:
    """Whether a trial that Ray has paused is to run."""
    trial = search._trial(name)
    return trial is not None and trial.state == "running"


def _search_of(tune_controller: Any) -> BoSuiteSearch:
    """The search of a run, out of what Ray has wrapped it in."""
    searcher = tune_controller.search_alg
    while not isinstance(searcher, BoSuiteSearch) and hasattr(searcher, "searcher"):
        searcher = searcher.searcher
    if not isinstance(searcher, BoSuiteSearch) or searcher.optimizer.scheduler is None:
        law = "a BoSuiteScheduler needs the search_alg BoSuiteSearch(scheduler=...)"
        raise ValueError(f"{law}, got {described(searcher)}")
    return searcher

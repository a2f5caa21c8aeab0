"""A scheduler for Ray Tune that ends trials as the scheduler of a BoSuiteSearch decides."""

from importlib import import_module
from typing import Any

from bo_suite.errors import TrialError
from bo_suite.integrations.ray_tune import ENDS, BoSuiteSearch
from bo_suite.storage.attempts import checked_step
from bo_suite.values.describe import described

_schedulers: Any = import_module("ray.tune.schedulers")


class BoSuiteScheduler(_schedulers.FIFOScheduler):  # type: ignore[misc]
    """Ends trials of Ray Tune as the scheduler of the search decides: `BoSuiteSearch(scheduler=...)`.

    Each result is stored as a report in the search's history before it is judged, so decisions survive the
    driver, and the search learns from the curves. A trial that has reached the last step of the scheduler has
    ended with its value there. What a trial that Ray runs again reports a second time is stored already, and
    judges nothing. Waiting trials start in the order in which they were suggested.

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
            TrialError: the step is no integer from 1 on, or the scheduler pauses the trial.
        """
        search = _search_of(tune_controller)
        value = result.get(search.metric)
        if value is None:
            return str(self.CONTINUE)
        if self._time_attr not in result:
            law = f"a result must have {self._time_attr!r}, which counts the steps"
            raise TrialError(f"{law}, got {described(sorted(result))}")
        step, seconds = result[self._time_attr], result.get("time_total_s")
        ends = _report(search, trial.trial_id, step, value, seconds) == "stop"
        return str(self.STOP if ends else self.CONTINUE)

    def debug_string(self) -> str:
        """A line for the console."""
        return "Trials end as the scheduler of BoSuiteSearch decides."


def _report(search: BoSuiteSearch, name: str, step: object, value: float, seconds: float | None) -> str:
    """Store an intermediate value of one of Ray's trials; "stop" if that ends it, or it was the last step.

    Steps that the trial has reported before are ignored.
    """
    optimizer, trial = search.optimizer, search._trial(name)
    if optimizer.scheduler is None or trial is None or trial.state != "running":
        return "continue"
    last, number = optimizer.scheduler.max_step, checked_step(step)
    done = max((one.step for one in trial.reports if one.attempt == trial.attempt), default=0)
    if done < number <= last and optimizer.report(trial, number, value, seconds) == "stop":
        if optimizer.trial(trial.id).state == "paused":
            raise TrialError(f"{ENDS}, got the verdict 'pause'")
        return "stop"
    return "stop" if number >= last else "continue"


def _search_of(tune_controller: Any) -> BoSuiteSearch:
    """The search of a run, out of what Ray has wrapped it in."""
    searcher = tune_controller.search_alg
    while not isinstance(searcher, BoSuiteSearch) and hasattr(searcher, "searcher"):
        searcher = searcher.searcher
    if not isinstance(searcher, BoSuiteSearch) or searcher.optimizer.scheduler is None:
        law = "a BoSuiteScheduler needs the search_alg BoSuiteSearch(scheduler=...)"
        raise ValueError(f"{law}, got {described(searcher)}")
    return searcher

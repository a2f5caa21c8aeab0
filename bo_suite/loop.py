"""`minimize`: the whole run of a function, on one or several processes, resumable."""

import concurrent.futures as futures
import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bo_suite.acquisition import Acquisition
from bo_suite.errors import SpaceExhausted, StorageError, TrialError, WorkersDied
from bo_suite.evaluate import Outcome, evaluate
from bo_suite.optimizer import Optimizer
from bo_suite.space import Params, Space
from bo_suite.trials import Trial, at_target, best_trial, to_frame, whole_number
from bo_suite.workers import Crew, Executor, Pool

Function = Callable[[Params], float]

logger = logging.getLogger("bo_suite")

_ATTEMPTS = 3
"""Times that a point may take the whole run down before its trial is failed."""


@dataclass(frozen=True)
class Result:
    """What a run has found.

    Attributes:
        trials: all trials of the history, ordered by id.
        direction: "minimize" or "maximize".
        stopped: why the run ended before its budget ("interrupted", or that the space is exhausted), or None.
        space: where was searched.
    """

    trials: Sequence[Trial]
    direction: str
    stopped: str | None
    space: Space

    @property
    def best(self) -> Trial:
        """The finished trial with the best value, of those at the target where the space has fidelities.

        Raises:
            TrialError: no such trial has finished.
        """
        return best_trial(self.trials, self.direction, self.space)

    def to_frame(self) -> pd.DataFrame:
        """One row a trial."""
        return to_frame(self.trials)

    def plot(self) -> Any:
        """The convergence plot, a matplotlib Figure; with fidelities, of the trials at the target."""
        from bo_suite.plot import plot_convergence

        return plot_convergence(at_target(self.trials, self.space), self.direction)


def minimize(
    f: Function,
    space: Space,
    budget: int = 50,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    storage: str | Path | None = None,
    acquisition: Acquisition | None = None,
    progress: bool = True,
) -> Result:
    """Minimise f over the space in `budget` evaluations, those already in the storage included.

    An exception in f, or a value that is not a finite number, is recorded as a failed trial with its text;
    the run goes on. Ctrl-C ends the run and returns what has finished. Run again with the same storage,
    it goes on where it stopped: points that were being evaluated come first.

    Args:
        f: takes a dict of parameters, returns a number; smaller is better.
        space: where to search.
        budget: number of trials of the history in all.
        seed: same seed, same run (with one worker; with more, the order of completion matters).
        workers: evaluations side by side. More than one means that many processes, which import f: it
            must be defined at the top of a module, and a script needs `if __name__ == "__main__":`.
        executor: where to evaluate instead: any `concurrent.futures.Executor`, left open, or a function
            that makes one, called again when its workers break.
        storage: a file that keeps the history; None keeps it in memory.
        acquisition: how to choose; the Optimizer's default when None.
        progress: whether to show a progress bar.

    Raises:
        TrialError: budget or workers below 1, or f cannot be sent to other processes or run there.
        StorageError: a file that cannot be used, or that belongs to another space or seed.
    """
    whole_number("workers", workers, at_least=1)
    if not callable(f):
        raise TrialError(f"f must be a function of a dict of parameters, got {f!r}")
    if workers > 1 and executor is None:
        _check_picklable(f)
    optimizer = Optimizer(space, acquisition, seed, budget=budget, storage=storage)
    try:
        with _bar(progress, optimizer, budget) as show, Pool(workers, executor) as pool:
            stopped = _run(f, optimizer, budget, workers, pool, show)
        return Result(optimizer.trials, optimizer.direction, stopped, optimizer.space)
    finally:
        optimizer.close()


def _check_picklable(f: Function) -> None:
    try:
        pickle.dumps(f)
    except Exception as error:
        raise TrialError(
            "workers > 1 send f to other processes, so f must be picklable (defined at the top of a module), "
            f"got {f!r}: {error}"
        ) from error


def _run(
    f: Function, optimizer: Optimizer, budget: int, workers: int, pool: Pool, show: Callable[[], None]
) -> str | None:
    """Keeps `workers` evaluations going until the budget is spent; the reason if it ends before."""
    again = deque(_survivors(optimizer))
    crew = Crew[Trial](lambda trial: pool.submit(evaluate, f, trial.params), workers)
    stopped: str | None = None

    def following() -> Trial | None:
        nonlocal stopped
        try:
            return None if stopped else _next(optimizer, again, budget)
        except SpaceExhausted as error:
            stopped = str(error)
            return None

    try:
        for trial, future in crew.completed(following):
            lost = Outcome(None, "its worker process died")
            _record(optimizer, trial, lost if future is None else _outcome(future))
            show()
        return stopped
    except BaseException as error:
        pool.abandon()
        _keep_finished(optimizer, crew)
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        if isinstance(error, WorkersDied):
            raise TrialError(
                "worker processes must be able to run f, but they died before one evaluation ended "
                '(does the script have `if __name__ == "__main__":`?)'
            ) from error
        raise


def _survivors(optimizer: Optimizer) -> Iterator[Trial]:
    """Running trials of processes that died, but for those that no process has survived."""
    for trial in optimizer.reclaim():
        if trial.attempt > _ATTEMPTS:
            optimizer.fail(trial, f"{_ATTEMPTS} processes died while evaluating it")
        else:
            yield trial


def _next(optimizer: Optimizer, again: deque[Trial], budget: int) -> Trial | None:
    """A trial to evaluate: one that was lost, else a new one while the budget lasts."""
    if again:
        return again.popleft()
    return optimizer.ask() if len(optimizer.trials) < budget else None


def _keep_finished(optimizer: Optimizer, crew: Crew[Trial]) -> None:
    """Stores what has come back, as far as it can be stored."""
    for trial, outcome in crew.ended():
        with suppress(StorageError):
            _record(optimizer, trial, outcome)


def _outcome(future: "futures.Future[Outcome]") -> Outcome:
    """What came of an evaluation.

    Raises:
        TrialError: the executor could not run f at all: what f itself raises is an Outcome.
    """
    try:
        return future.result()
    except Exception as error:
        raise TrialError(
            f"the executor must be able to run f, got {type(error).__name__}: {error}"
        ) from error


def _record(optimizer: Optimizer, trial: Trial, outcome: Outcome) -> None:
    """Tells or fails the trial; one that somebody else has ended meanwhile stays as it is."""
    try:
        if outcome.value is not None:
            optimizer.tell(trial, outcome.value)
        else:
            optimizer.fail(trial, outcome.reason or "no reason given")
    except TrialError as error:
        logger.warning("an outcome was not stored: %s", error)
    except StorageError as error:
        error.add_note(f"the outcome that was not stored: trial {trial.id}, {outcome}")
        raise


@contextmanager
def _bar(shown: bool, optimizer: Optimizer, budget: int) -> Iterator[Callable[[], None]]:
    """A progress bar, and the function that brings it up to date."""
    if not shown:
        yield lambda: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=budget)

        def show() -> None:
            ended = [trial for trial in optimizer.trials if trial.state != "running"]
            failed = sum(trial.state == "failed" for trial in ended)
            text = _best_so_far(optimizer) + f", {failed} failed" * bool(failed)
            progress.update(task, completed=len(ended), description=text)

        show()
        yield show


def _best_so_far(optimizer: Optimizer) -> str:
    finished = [trial for trial in optimizer.trials if trial.state == "finished"]
    if at_target(finished, optimizer.space):
        return f"best {optimizer.best.value:.6g}"
    return "none at the target fidelity" if finished else "none finished"

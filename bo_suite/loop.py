"""`minimize`: the whole run of a function, on one or several processes, resumable."""

import concurrent.futures as futures
import logging
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bo_suite.acquisition import Acquisition
from bo_suite.describe import LONGEST, SHORT, described, error_text, shortened, visible
from bo_suite.errors import SpaceExhausted, StorageError, TrialError, WorkersDied
from bo_suite.evaluate import Outcome, evaluate
from bo_suite.optimizer import Optimizer
from bo_suite.shown import shown_text
from bo_suite.space import Params, Space
from bo_suite.stopping import Callback, check_callbacks, reason_to_stop
from bo_suite.trials import (
    Finished,
    Trial,
    at_target,
    best_trial,
    html_of_best,
    overview,
    to_frame,
    whole_number,
)
from bo_suite.workers import Crew, Executor, Pool

Function = Callable[[Params], SupportsFloat | None]
"""Of a dict of parameters; anything that `float` takes, or None or NaN where the evaluation has failed."""

logger = logging.getLogger("bo_suite")

ATTEMPTS = 3
"""Times that a point may take the whole run down before its trial is failed."""


@dataclass(frozen=True)
class Result:
    """What a run has found.

    Attributes:
        trials: all trials of the history, ordered by id.
        direction: "minimize" or "maximize".
        stopped: why the run ended before its budget ("interrupted", that the space is exhausted, or what a
            callback returned), or None.
        space: where was searched.
    """

    trials: Sequence[Trial]
    direction: str
    stopped: str | None
    space: Space

    @property
    def best(self) -> Finished:
        """The finished trial with the best value, of those at the target where the space has fidelities.

        Raises:
            TrialError: no such trial has finished.
        """
        return best_trial(self.trials, self.direction, self.space)

    def __repr__(self) -> str:
        lines = [f"Result({overview(self.trials, self.direction)})"]
        with suppress(TrialError):
            lines.append(shown_text("best: " + " ".join(repr(self.best).split("\n    "))))
        if self.stopped is not None:
            lines.append(shown_text(f"stopped: {self.stopped}"))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_of_best(self.trials, self.direction, self.space)

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
    callbacks: Sequence[Callback] = (),
    retries: int = 0,
) -> Result:
    """Minimise f over the space in `budget` evaluations, those already in the storage included.

    An exception in f, or a value that is not a finite number, is recorded as a failed trial with its text,
    of which 10,000 characters are stored; the run goes on. Ctrl-C ends the run and returns what has finished.
    Run again with the same storage, it goes on where it stopped: points that were being evaluated come first.

    Evaluations are not waited for together: when one has ended, its outcome is stored, and the next point
    is chosen in view of those that go on. Where a worker process dies, the executor is made again, and each
    point that was being evaluated is evaluated again, alone; if its worker dies once more, it is a failed
    trial. (While no evaluation of the run has ended yet, it gets one more chance, so three in all.) A point
    whose evaluation takes the whole run down is left to the next run, and failed after three of them.

    Args:
        f: takes a dict of parameters, which is its own to change, returns a number; smaller is better.
        space: where to search.
        budget: number of trials of the history in all, but for those that were withdrawn.
        seed: same seed, same run (with one worker; with more, the order of completion matters).
        workers: evaluations side by side. More than one means that many processes, which import f: it
            must be defined at the top of a module, and a script needs `if __name__ == "__main__":`.
        executor: where to evaluate instead: any `concurrent.futures.Executor`, left open, or a function
            that makes one, called again when its workers break: `ThreadPoolExecutor`, loky's
            `get_reusable_executor`, `bo_suite.integrations.ray.RayExecutor`, Dask's
            `client.get_executor(pure=False)`, or, in a script that is run by
            `mpiexec -n 3 python -m mpi4py.futures script.py`, mpi4py's `MPIPoolExecutor`. Dask itself tries a
            deadly point on `distributed.scheduler.allowed-failures` more workers each time; set it to 0:
            a cluster whose workers die one by one may be left with none, and waits for ever.
        storage: a file that keeps the history; None keeps it in memory.
        acquisition: how to choose; the Optimizer's default when None.
        progress: whether to show a progress bar.
        callbacks: functions of the Optimizer and of a trial, called here after each evaluation that was
            stored, finished or failed. Where one returns a string, no new point is chosen, those being
            evaluated are waited for, and the string is `Result.stopped`; `bo_suite.stopping` has some.
            An exception ends the run like Ctrl-C, and is raised.
        retries: times that a failed evaluation is repeated at its point, beside those that go on, before its
            trial is recorded as failed, with the last failure and the number of tries. Each is logged at the
            level INFO. A run that ends repeats nothing. The death of a worker is no failure of this kind.

    Raises:
        TrialError: budget or workers below 1, retries below 0, f cannot be sent to other processes or read
            there, an executor that was given is shut down, breaks or fails, an evaluation that somebody
            cancels, or a callback returns something else than None or a reason.
        StorageError: a file that cannot be used, or that belongs to another space or seed.
    """
    whole_number("workers", workers, at_least=1)
    whole_number("retries", retries, at_least=0)
    if not callable(f):
        raise TrialError(f"f must be a function of a dict of parameters, got {described(f)}")
    check_callbacks(callbacks)
    if workers > 1 and executor is None:
        _check_picklable(f, workers)
    optimizer = Optimizer(space, acquisition, seed, budget=budget, storage=storage)
    try:
        with _bar(progress, optimizer, budget) as show, Pool(workers, executor) as pool:
            crew = Crew[Trial](lambda trial: pool.submit(evaluate, f, trial.params), workers)
            watch, tries = _Watch(callbacks, optimizer, show), _Tries(optimizer, retries)
            stopped = _run(optimizer, budget, crew, pool, watch, tries)
        return Result(tuple(optimizer.trials), optimizer.direction, stopped, optimizer.space)
    finally:
        optimizer.close()


def _check_picklable(f: Function, workers: int) -> None:
    try:
        pickle.dumps(f)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TrialError(
            "workers > 1 send f to other processes, so f must be picklable (defined at the top of a module; "
            f"executor=ThreadPoolExecutor({workers}) takes any), got {described(f)}: {error_text(error)}"
        ) from error


@dataclass(frozen=True)
class _Watch:
    """What follows each trial that was stored: the progress bar and the callbacks."""

    callbacks: Sequence[Callback]
    optimizer: Optimizer
    show: Callable[[], None]

    def __call__(self, trial: Trial | None) -> str | None:
        """A reason to end the run; None of a trial that was not stored."""
        self.show()
        return None if trial is None else reason_to_stop(self.callbacks, self.optimizer, trial)


class _Tries:
    """Which failed evaluations are repeated, and how often they were."""

    def __init__(self, optimizer: Optimizer, retries: int) -> None:
        self._optimizer, self._retries = optimizer, retries
        self._repeated = Counter[int]()
        self._waiting = deque[tuple[Trial, Outcome]]()

    def counted(self, trial: Trial, outcome: Outcome) -> Outcome:
        """The outcome; of a failure that may be repeated, with the number of tries."""
        if outcome.value is not None or not self._retries:
            return outcome
        count = 1 + self._repeated[trial.id]
        return Outcome(None, f"{outcome.reason} ({count} {'try' if count == 1 else 'tries'})")

    def repeats(self, trial: Trial, outcome: Outcome) -> bool:
        """Whether the trial is to be evaluated again after this outcome; if so, it waits for `next`."""
        if outcome.value is not None or self._repeated[trial.id] >= self._retries:
            return False
        now = self._optimizer.trial(trial.id)
        if (now.state, now.attempt) != ("running", trial.attempt):
            return False  # somebody else has ended it meanwhile
        reason = visible(shortened(outcome.reason or "", SHORT))
        logger.info("trial %d is evaluated again, since it failed: %s", trial.id, reason)
        self._repeated[trial.id] += 1
        self._waiting.append((trial, outcome))
        return True

    def next(self) -> Trial | None:
        """A trial to evaluate again."""
        return self._waiting.popleft()[0] if self._waiting else None

    def given_up(self) -> "Iterator[tuple[Trial, Outcome]]":
        """Trials that are not evaluated again after all, with their last outcomes."""
        while self._waiting:
            yield self._waiting.popleft()


def _run(
    optimizer: Optimizer, budget: int, crew: Crew[Trial], pool: Pool, watch: _Watch, tries: _Tries
) -> str | None:
    """Keeps the crew going until the budget is spent; the reason if the run ends before."""
    again = deque(_survivors(optimizer))
    exhausted: str | None = None
    stopped: str | None = None

    def following() -> Trial | None:
        nonlocal exhausted
        if stopped:
            return None
        if (trial := tries.next()) is not None or exhausted:
            return trial
        try:
            return _next(optimizer, again, budget)
        except SpaceExhausted as error:
            exhausted = str(error)
            return None

    try:
        for trial, future in crew.completed(following):
            if future is None and not pool.works():
                raise WorkersDied("workers must live while they have nothing to do")
            if future is None:
                outcome = Outcome(None, "its worker process died")
            else:
                outcome = tries.counted(trial, pool.result(future))
                if not stopped and tries.repeats(trial, outcome):
                    continue
            reason = watch(_record(optimizer, trial, outcome))
            stopped = stopped or reason
        for trial, outcome in tries.given_up():
            watch(_record(optimizer, trial, outcome))
        return exhausted or stopped
    except BaseException as error:
        pool.abandon()
        crew.cancel()
        _keep_finished(optimizer, crew, tries)
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        if isinstance(error, WorkersDied):
            raise TrialError(
                f"worker processes must be able to run f, but they died: {error} "
                '(a script needs `if __name__ == "__main__":`, and a notebook f in a module, or an '
                "executor of threads)"
            ) from error
        if isinstance(error, futures.BrokenExecutor):
            raise TrialError(
                "an executor whose workers can die must be given as a function that makes one, to be "
                f"made again, got one that broke: {error_text(error)}"
            ) from error
        raise


def _survivors(optimizer: Optimizer) -> Iterator[Trial]:
    """Running trials of processes that died, but for those that no process has survived."""
    for trial in optimizer.reclaim():
        if trial.attempt > ATTEMPTS:
            optimizer.fail(trial, f"{ATTEMPTS} processes died while evaluating it")
        else:
            yield trial


def _next(optimizer: Optimizer, again: deque[Trial], budget: int) -> Trial | None:
    """A trial to evaluate: one that was lost, else a new one while the budget lasts."""
    if again:
        return again.popleft()
    spent = sum(trial.state != "withdrawn" for trial in optimizer.trials)
    return optimizer.ask() if spent < budget else None


def _keep_finished(optimizer: Optimizer, crew: Crew[Trial], tries: _Tries) -> None:
    """Stores what has come back and was not stored yet, as far as it can be stored."""
    with suppress(StorageError):
        running = {trial.id for trial in optimizer.trials if trial.state == "running"}
        back = [(trial, tries.counted(trial, outcome)) for trial, outcome in crew.ended()]
        for trial, outcome in (*tries.given_up(), *back):
            if trial.id in running:
                with suppress(StorageError):
                    _record(optimizer, trial, outcome)


def _record(optimizer: Optimizer, trial: Trial, outcome: Outcome) -> Trial | None:
    """Tells or fails the trial; None of one that somebody else has ended meanwhile, which stays as it is."""
    try:
        if outcome.value is not None:
            return optimizer.tell(trial, outcome.value)
        return optimizer.fail(trial, outcome.reason or "no reason given")
    except TrialError as error:
        logger.warning("an outcome was not stored: %s", visible(str(error)))
        return None
    except StorageError as error:
        error.add_note(f"the outcome that was not stored: trial {trial.id}, {described(outcome, LONGEST)}")
        raise


@contextmanager
def _bar(shown: bool, optimizer: Optimizer, budget: int) -> Iterator[Callable[[], None]]:
    """A progress bar, and the function that brings it up to date."""
    if not shown:
        yield lambda: None
        return
    best = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), best)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=budget)

        def show() -> None:
            ended = [trial for trial in optimizer.trials if trial.state in ("finished", "failed")]
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

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
from bo_suite.describe import LONGEST, SHORT, described, error_text
from bo_suite.errors import SpaceExhausted, StorageError, TrialError, WorkersDied
from bo_suite.evaluate import Outcome, evaluate
from bo_suite.failures import BugFound, Caught, Failures, Tries, names_of
from bo_suite.keywords import renamed
from bo_suite.optimizer import Optimizer
from bo_suite.scalars import flag
from bo_suite.space import Params, Space
from bo_suite.stopping import Callback, check_callbacks, reason_to_stop
from bo_suite.trials import Trial, at_target, best_trial, to_frame, whole_number
from bo_suite.workers import Crew, Executor, Pool

Function = Callable[[Params], float]

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
            callback returned), or had nothing to do (its budget was spent already), or None.
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


@renamed(
    {
        **dict.fromkeys(("n_trials", "n_calls", "n_iter", "max_evals", "max_iter", "iterations"), "budget="),
        **dict.fromkeys(("maximize", "minimize"), 'direction="maximize" or direction="minimize"'),
        **dict.fromkeys(("objective", "func", "fn", "fun"), "f=, or give the function first"),
        **dict.fromkeys(("dimensions", "bounds", "search_space"), "space="),
        **dict.fromkeys(("n_jobs", "num_workers", "max_workers"), "workers="),
        **dict.fromkeys(("random_state", "random_seed"), "seed="),
        "callback": "callbacks=, a list",
    }
)
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
    direction: str = "minimize",
    retries: int = 0,
    catch: Caught = (),
) -> Result:
    """Minimise f over the space in `budget` evaluations, those already in the storage included.

    An exception in f, or a value that is no finite number, is recorded as a failed trial with its text and
    traceback, of which 10,000 characters each are stored; the run goes on. But while no evaluation of the
    history has finished, an exception is taken for a bug of the program, and so is a value of a wrong type,
    such as None, text, a bool, a list or an array of one element: the run ends, and the exception is raised,
    once the trial was recorded (as `transient`: nothing is learnt about its point) and what other workers
    have finished was stored. Evaluations that still run then are left to the next run. A value that is
    infinite or NaN is no bug, nor is a MemoryError: points differ in the memory that they need.

    Ctrl-C ends the run and returns what has finished. Run again with the same storage, it goes on where it
    stopped: points that were being evaluated come first.

    Evaluations are not waited for together: when one has ended, its outcome is stored, and the next point
    is chosen in view of those that go on. Where a worker process dies, the executor is made again, and each
    point that was being evaluated is evaluated again, alone; if its worker dies once more, it is a failed
    trial. (While no evaluation of the run has ended yet, it gets one more chance, so three in all.) A point
    whose evaluation takes the whole run down is left to the next run, and failed after three of them.

    Args:
        f: takes a dict of parameters, which is its own to change, returns a number: an int, a float, or what
            NumPy, torch and others have for one, without dimensions; smaller is better.
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
            An exception ends the run like Ctrl-C, and is raised. They are not called after a bug of f.
        direction: "minimize", or "maximize" where larger is better.
        retries: times that a failed evaluation is repeated at its point, beside those that go on, before its
            trial is recorded as failed, with the last failure and the number of tries. Each is logged at the
            level INFO. A run that ends repeats nothing. The death of a worker is no failure of this kind.
        catch: exceptions, a class or a tuple of them, that are failures of their points from the first
            evaluation on: `catch=Exception` records them all. A value of a wrong type is a TrialError.

    Raises:
        TrialError: budget or workers below 1, retries below 0, a flag that is no bool, f cannot be sent to
            other processes or read there, an executor that was given is shut down, breaks or fails, an
            evaluation that somebody cancels, a callback returns something else than None or a reason, or f
            returns no number, or raises in another process what cannot be sent from there, before an
            evaluation has finished.
        StorageError: a file that cannot be used, or that belongs to another space, seed or direction.
        BaseException: what f raises before an evaluation has finished; the same object, or, of another
            process, a copy with the traceback from there as its cause.
    """
    whole_number("workers", workers, at_least=1)
    whole_number("retries", retries, at_least=0)
    progress = flag("progress", progress, TrialError)
    if not callable(f):
        raise TrialError(f"f must be a function of a dict of parameters, got {described(f)}")
    check_callbacks(callbacks)
    if workers > 1 and executor is None:
        _check_picklable(f, workers)
    caught = names_of(catch)
    optimizer = Optimizer(space, acquisition, seed, direction, budget, storage)
    try:
        failures, tries = Failures(optimizer, caught), Tries(optimizer, retries)
        with _bar(progress, optimizer, budget) as show, Pool(workers, executor) as pool:
            crew = Crew[Trial](
                lambda trial: pool.submit(evaluate, f, trial.params, failures.all_so_far()), workers
            )
            watch = _Watch(callbacks, optimizer, show)
            stopped = _run(optimizer, budget, crew, pool, watch, tries, failures)
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


def spent(trials: Sequence[Trial], budget: int) -> str | None:
    """Says that the budget of a run was spent before it began; None where it was not."""
    counted = [trial for trial in trials if trial.state != "withdrawn"]
    if len(counted) < budget:
        return None
    running = sum(trial.state == "running" for trial in counted)
    more = f", {running} of them running elsewhere" if running else ""
    return f"the budget of {budget} was spent already: the storage has {len(counted)} trials{more}"


def _run(
    optimizer: Optimizer,
    budget: int,
    crew: Crew[Trial],
    pool: Pool,
    watch: _Watch,
    tries: Tries,
    failures: Failures,
) -> str | None:
    """Keeps the crew going until the budget is spent; the reason if the run ends before."""
    again = deque(_survivors(optimizer))
    idle = None if again else spent(optimizer.trials, budget)
    if idle:
        logger.warning("nothing is evaluated: %s", idle)
    exhausted: str | None = None
    stopped: str | None = None

    def following() -> Trial | None:
        nonlocal exhausted
        if stopped:
            return None
        if (trial := tries.next()) is not None:
            return trial
        try:
            trial, exhausted = _next(optimizer, again, budget), None
        except SpaceExhausted as error:
            exhausted = str(error)  # until outcomes of those that run show that there is noise
        return trial

    def ended(trial: Trial, outcome: Outcome) -> str | None:
        bug = failures.bug(outcome, (other for _, other in crew.ended()))
        stored = _record(optimizer, trial, outcome, bug is not None)
        if bug is not None and stored is not None:  # what somebody else has ended says nothing of f
            watch.show()
            raise BugFound(trial, bug)
        failures.passed(stored, outcome)
        return watch(stored)

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
            reason = ended(trial, outcome)
            stopped = stopped or reason
        for trial, outcome in tries.given_up():
            ended(trial, outcome)
        return exhausted or stopped or idle
    except BugFound as error:
        found = error
        _cut_short(optimizer, crew, pool, tries, failures)
    except BaseException as error:
        _cut_short(optimizer, crew, pool, tries, failures)
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
    at = described(found.trial.params, SHORT)
    found.raised.again(
        f"Trial {found.trial.id} failed so, at {at}, before an evaluation had finished, which ends "
        "a run of bo_suite; catch=Exception would record such failures and go on."
    )


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


def _cut_short(optimizer: Optimizer, crew: Crew[Trial], pool: Pool, tries: Tries, failures: Failures) -> None:
    """Ends the workers, and stores what has come back and was not stored yet, as far as it can be stored."""
    pool.abandon()
    crew.cancel()
    with suppress(StorageError):
        running = {trial.id for trial in optimizer.trials if trial.state == "running"}
        back = [(trial, tries.counted(trial, outcome)) for trial, outcome in crew.ended()]
        back = [*tries.given_up(), *back]
        bugs = [failures.bug(outcome, (other for _, other in back)) is not None for _, outcome in back]
        for (trial, outcome), bug in zip(back, bugs, strict=True):
            if trial.id in running:
                with suppress(StorageError):
                    _record(optimizer, trial, outcome, bug)


def _record(optimizer: Optimizer, trial: Trial, outcome: Outcome, bug: bool) -> Trial | None:
    """Tells or fails the trial; None of one that somebody else has ended meanwhile, which stays as it is.

    Args:
        optimizer: whose trial it is.
        trial: the trial.
        outcome: what came of it.
        bug: whether the program has failed, which says nothing about the point.
    """
    try:
        if outcome.value is not None:
            return optimizer.tell(trial, outcome.value)
        return optimizer.fail(trial, outcome.reason or "no reason given", bug, outcome.traceback)
    except TrialError as error:
        logger.warning("an outcome was not stored: %s", error)
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
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
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

"""`minimize`: the whole run of a function, on one or several processes, resumable."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bo_suite.acquisition import Acquisition
from bo_suite.errors import TrialError
from bo_suite.run.crew import Crew
from bo_suite.run.evaluate import evaluate
from bo_suite.run.failures import Caught, Failures, Tries, names_of
from bo_suite.run.keywords import renamed
from bo_suite.run.running import Watch, keep_going
from bo_suite.run.stopping import Callback, check_callbacks
from bo_suite.run.workers import Executor, Pool
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import (
    Finished,
    Trial,
    at_target,
    best_trial,
    html_of_best,
    overview,
    to_frame,
    whole_number,
)
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import described
from bo_suite.values.display import shown_text
from bo_suite.values.scalars import flag

Function = Callable[[Params], SupportsFloat]
"""Of a dict of parameters; a number, NaN where the evaluation has failed."""


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
    timeout: float | None = None,
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
    is chosen in view of those that go on. Where a worker process dies, its evaluation has failed, and it is
    replaced. On an executor nobody knows which evaluation it was: the executor is made again, and each point
    that was being evaluated is evaluated again, alone; if its worker dies once more, it is a failed trial.
    (While no evaluation of the run has ended yet, it gets one more chance, so three in all.) A point whose
    evaluation takes the whole run down is left to the next run, and failed after three of them.

    Worker processes import what f needs. A function of a script or a notebook, a lambda or a closure is sent
    by value with the names that it uses: the script is not run again, and what else it does, such as
    `torch.set_default_dtype`, must be done in f or in a module. (Only where a name cannot be sent, such as
    an open file, workers import the script, which then needs `if __name__ == "__main__":`.) A function of a
    module is imported with its module, and all that this imports. Each worker loads f once, before the first
    point is chosen. When the run ends, its workers end, with all processes that f has started.

    Args:
        f: takes a dict of parameters, which is its own to change, returns a number: an int, a float, or what
            NumPy, torch and others have for one, without dimensions; smaller is better.
        space: where to search.
        budget: number of trials of the history in all, but for those that were withdrawn.
        seed: same seed, same run (with one worker; with more, the order of completion matters).
        workers: evaluations side by side. More than one means that many processes, to which f is sent: it
            may hold no lock, open file or generator. One means this thread, unless there is a timeout.
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
            evaluated are waited for (not longer than a `TimeLimit` allows), and the string is
            `Result.stopped`; `bo_suite.run.stopping` has some. An exception ends the run like Ctrl-C, and is
            raised. They are not called after a bug of f.
        direction: "minimize", or "maximize" where larger is better.
        retries: times that a failed evaluation is repeated at its point, beside those that go on, before its
            trial is recorded as failed, with the last failure and the number of tries. Each is logged at the
            level INFO. A run that ends repeats nothing. The death of a worker process is repeated likewise
            (on an executor it is no failure of this kind), an evaluation that exceeds its timeout is not.
        catch: exceptions, a class or a tuple of them, that are failures of their points from the first
            evaluation on: `catch=Exception` records them all. A value of a wrong type is a TrialError.
        timeout: seconds that an evaluation may take from its beginning; one that takes longer is killed with
            all that it has started, and its trial is failed, so that the search avoids such points. Then one
            worker is a process too, to which f is sent. What runs on an executor cannot be killed: refused.

    Raises:
        TrialError: budget or workers below 1, retries below 0, a flag that is no bool, a timeout that is not
            a positive number or that comes with an executor, f cannot be sent to other processes or read
            there, an executor that was given is shut down, breaks or fails, an evaluation that somebody
            cancels, a callback returns something else than None or a reason, or f returns no number, or
            raises in another process what cannot be sent from there, before an evaluation has finished.
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
    _check_timeout(timeout)
    caught = names_of(catch)
    pool = Pool(workers, executor, partial(evaluate, f), timeout=timeout)
    optimizer = Optimizer(space, acquisition, seed, direction, budget, storage)
    try:
        failures, tries = Failures(optimizer, caught), Tries(optimizer, retries)
        with _bar(progress, optimizer, budget) as show, pool:
            crew = Crew[Trial](lambda trial: pool.submit(trial.params, failures.all_so_far()), workers)
            watch = Watch(callbacks, optimizer, show)
            stopped = keep_going(optimizer, budget, crew, pool, watch, tries, failures)
        return Result(tuple(optimizer.trials), optimizer.direction, stopped, optimizer.space)
    finally:
        optimizer.close()


def _check_timeout(timeout: Any) -> None:
    number = isinstance(timeout, int | float | np.number) and not isinstance(timeout, bool)
    if timeout is not None and not (number and 0 < timeout < math.inf):
        raise TrialError(f"a timeout must be a number of seconds above 0, or None, got {described(timeout)}")


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

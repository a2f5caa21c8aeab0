"""`minimize`: the whole run of a function, in one or several processes, resumable.

**Failures.** An exception in f, or a value that is not a finite number, is stored as a failed trial with its
text and traceback (10,000 characters each), and the run continues. But until an evaluation of the history has
finished, an exception counts as a bug of the program, and so does a value of a wrong type, such as None,
text, a bool, a list or an array with one element. Then the run ends and the exception is raised, after the
trial was stored (as `transient`: nothing is learnt about its point) and after the finished evaluations of
other workers were stored; evaluations that still run are left to the next run. An infinite value, NaN and a
MemoryError are never bugs, since points differ in the memory that they need.

**Gradients.** f may return a pair (value, gradient), with derivatives of the only objective by some of the
Floats, as `Optimizer.tell` takes them. A derivative that is not finite is left out, and the value counts.

**Ctrl-C** ends the run and returns what has finished. Run again with the same storage, it continues: points
that were being evaluated come first.

**Workers.** When an evaluation ends, its outcome is stored and the next point is chosen at once, given the
points that are still running. If a worker process dies, its evaluation has failed, and the process is
replaced. On an executor it is unknown which evaluation killed a worker: the executor is created again, and
each point that was running is evaluated again, alone. If its worker dies again, it is a failed trial. (Until
an evaluation of the run has ended, it gets one more chance, so three in all.) A point that ends the whole run
is left to the next run, and failed after three runs.

**Worker processes** import what f needs. A function of a script or a notebook, a lambda or a closure is sent
by value with the names that it uses. The script is not run again, so what else it does, such as
`torch.set_default_dtype`, must be done in f or in a module. (Only if a name cannot be sent, such as an open
file, do workers import the script, which then needs `if __name__ == "__main__":`.) A function of a module is
imported with its module. Each worker loads f once, before the first point is chosen. When the run ends, its
workers end, with all processes that f has started. A function that holds a lock, an open file or a generator
cannot be sent.

**Retries.** A failed evaluation is repeated beside the running ones, and each repetition is logged at level
INFO. The trial is then failed with the last reason and the number of tries. The death of a worker process is
repeated, too (on executors, on Slurm alone); an evaluation that exceeded its timeout is not. A run that ends
repeats nothing. A timeout kills an evaluation with all processes that it has started, so that even one worker
is a process; a task on an executor cannot be killed, so an executor with a timeout is refused.

**Reports.** With a scheduler f is called as f(params, report), and `report(step, value)` stores an
intermediate outcome and answers "continue" or "stop". What f returns after "stop" is not used; None stands
for the last reported value. Reports arrive from threads and from other processes of the host, and from other
machines if the storage is a database. A trial that was stopped or paused shows that f works: later exceptions
are no bugs. A paused trial that the scheduler continues is evaluated again, with the same `report.folder`.

**Executors**: any `concurrent.futures.Executor`, such as `ThreadPoolExecutor`, loky's
`get_reusable_executor`, `bo_suite.integrations.ray.RayExecutor`,
`bo_suite.integrations.slurm.SlurmExecutor`, Dask's `client.get_executor(pure=False)` or, in a script that is
run by `mpiexec -n 3 python -m mpi4py.futures script.py`, mpi4py's `MPIPoolExecutor`. Dask itself runs a bad
point on `distributed.scheduler.allowed-failures` more workers each time. Set that to 0: a cluster whose
workers all died waits for ever. On Slurm each evaluation is a job, whose death is a failed trial at once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from bo_suite.errors import TrialError
from bo_suite.run.arguments import (
    Function,
    check_function,
    checked_folder,
    starting_points,
    timeout_seconds,
)
from bo_suite.run.evaluate import Expected, evaluate
from bo_suite.run.failures import Caught, Failures, Retries, names_of
from bo_suite.run.report_server import ReportServer
from bo_suite.run.running import Evaluations, Run, Watch, Workers
from bo_suite.run.stopping import Callback, check_callbacks, check_rules
from bo_suite.run.task_runner import TaskRunner
from bo_suite.run.workers import Executor, ExecutorPool
from bo_suite.space.space import Params, Space
from bo_suite.storage.addresses import Location
from bo_suite.storage.by_parameter import kinds_of
from bo_suite.storage.goals import Constraints, Direction, Goals
from bo_suite.storage.trial import Finished, State, Trial
from bo_suite.study.arguments import check_space
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.summary import (
    best_text,
    best_trial,
    html_of_best,
    overview,
    pareto_trials,
    trials_at_target,
)
from bo_suite.study.tables import to_frame
from bo_suite.values.display import shown_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import flag

if TYPE_CHECKING:
    import pandas as pd

    from bo_suite.acquisition import Acquisition
    from bo_suite.study.belief import Belief
    from bo_suite.study.scheduling import Scheduler

P = ParamSpec("P")
R = TypeVar("R")

_OTHER_NAMES = {
    **dict.fromkeys(("n_trials", "n_calls", "n_iter", "max_evals", "max_iter", "iterations"), "budget="),
    **dict.fromkeys(("maximize", "minimize"), 'direction="maximize" or direction="minimize"'),
    **dict.fromkeys(("objective", "func", "fn", "fun"), "f=, or give the function first"),
    **dict.fromkeys(("dimensions", "bounds", "search_space"), "space="),
    **dict.fromkeys(("n_jobs", "num_workers", "max_workers"), "workers="),
    **dict.fromkeys(("random_state", "random_seed"), "seed="),
    **dict.fromkeys(("x0", "points_to_evaluate", "initial_points"), "start=, a list of points"),
    "callback": "callbacks=, a list",
    "pruner": "scheduler=, such as bo_suite.run.schedulers.ASHA(max_step=100)",
}
"""What to write, by the name of an argument in other libraries."""

_ENDED: tuple[State, ...] = ("stopped", "paused", "failed")
"""States of trials that are not evaluated, other than finished."""


def _explains_other_names(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: for an argument of another library, the TypeError says what to write instead."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in _OTHER_NAMES.keys() & kwargs.keys():
            raise TypeError(f"{function.__name__} has no argument {name!r}: write {_OTHER_NAMES[name]}")
        return function(*args, **kwargs)

    return checked


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        trials: all trials of the history, ordered by id.
        direction: "minimize" or "maximize", or one of these by name of each objective.
        stopped: why the run ended before its budget was spent ("interrupted", that the space is exhausted, or
            what a callback returned), or had nothing to do (the budget was spent before); else None.
        space: the search space.
        constraints: intervals of outcomes by name, or None.
        scheduler: stopped trials while they ran; None if none did.
    """

    trials: Sequence[Trial]
    direction: Direction
    stopped: str | None
    space: Space
    constraints: Constraints | None = None
    scheduler: "Scheduler | None" = None

    @property
    def goals(self) -> Goals:
        """The objectives and the constraints."""
        return Goals.of(self.direction, self.constraints)

    @property
    def best(self) -> Finished:
        """The feasible trial with the best value, at the target fidelity if the space has fidelities.

        Raises:
            TrialError: no such trial is finished, or there are several objectives.
        """
        return best_trial(self.trials, self.goals, self.space)

    @property
    def pareto(self) -> list[Trial]:
        """The feasible trials that no other one dominates, ordered by the first objective; maybe none."""
        return pareto_trials(self.trials, self.goals, self.space)

    def __repr__(self) -> str:
        lines = [f"Result({overview(self.trials, self.goals)})"]
        with suppress(TrialError):
            lines.append(shown_text("best: " + " ".join(repr(self.best).split("\n    "))))
        if self.stopped is not None:
            lines.append(shown_text(f"stopped: {self.stopped}"))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_of_best(self.trials, self.goals, self.space)

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial."""
        return to_frame(self.trials, self.goals)

    def belief(self, outcome: str | None = None) -> "Belief":
        """The default surrogate, fitted to the finished trials; its `predict` takes points.

        Args:
            outcome: its name; None for the only objective.

        Raises:
            ArgumentError: no outcome has the name, or none is named with several objectives.
            TrialError: no trial is finished.
            FitError, NumericalError: the model cannot be fitted.
        """
        from bo_suite.acquisition.default import default_acquisition
        from bo_suite.study.beliefs import belief_about
        from bo_suite.study.suggest import Suggester

        acquisition = default_acquisition(self.space.aspects | self.goals.aspects, len(self.goals.objectives))
        return belief_about(Suggester(self.space, acquisition, goals=self.goals), self.trials, outcome)

    def plot(self) -> Any:
        """The convergence plot, a matplotlib Figure; with fidelities, of the trials at the target."""
        from bo_suite.plot import plot_convergence

        return plot_convergence(self)


@_explains_other_names
def minimize(
    f: Function,
    space: Space,
    budget: int = 50,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    storage: Location | None = None,
    acquisition: "Acquisition | None" = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    direction: Direction = "minimize",
    retries: int = 0,
    catch: Caught = (),
    timeout: float | None = None,
    start: Sequence[Params] = (),
    constraints: Constraints | None = None,
    scheduler: "Scheduler | None" = None,
    checkpoints: str | Path | None = None,
) -> Result:
    """Minimise f over the space in `budget` evaluations, those already in the storage included.

    The module's docstring says how a run treats failures, Ctrl-C, workers and executors.

    Args:
        f: takes a dict of parameters, which it may change, and returns a number (also of NumPy, torch, ...),
            or a dict of these by name of an outcome, NaN where there is none; or a pair of these and a
            gradient.
        space: where to search.
        budget: number of trials of the history, apart from withdrawn ones.
        seed: the same seed gives the same run (with several workers, in the same order of completion).
        workers: number of evaluations at once; more than one, or a timeout, means worker processes.
        executor: where to evaluate instead: an Executor, or a function that creates one.
        storage: a file for the history, or an address as that of `Optimizer`; None keeps it in memory.
        acquisition: how to choose points; None for the Optimizer's default.
        progress: whether to show a progress bar.
        callbacks: functions of the Optimizer and a trial, called after each stored evaluation; a string that
            one returns ends the run (`bo_suite.run.stopping` has some), and so does an exception.
        direction: "minimize", or "maximize" if larger is better; or these by name of each objective.
        retries: how often a failed evaluation is repeated at its point before its trial is failed.
        catch: exception classes that are never bugs: `catch=Exception` records all.
        timeout: seconds after which an evaluation is killed, and its trial failed.
        start: points to evaluate first, such as known good settings, but for those that the storage has; the
            model chooses the parameters that one lacks.
        constraints: (low, high) by name of an outcome that must lie between; see `Optimizer`.
        scheduler: ends bad evaluations while they run, or pauses them; None for that of the storage, if it
            has one. Then f is called as f(params, report): see `bo_suite.run.reporting.Reporter`.
        checkpoints: the folder in which `report.folder` is; None for one beside the file of the storage, or
            for a temporary one if there is no storage. With a database it must be given.

    Raises:
        SpaceError: a point to start from is not of the space, or the space has a context.
        TrialError: an argument is wrong, f, an executor or a scheduler cannot be used, or f returned no
            number before an evaluation had finished.
        StorageError: the file cannot be used, or belongs to another space, seed or goals.
        BaseException: what f raised before an evaluation had finished.
    """
    require_int("workers", workers, at_least=1)
    require_int("retries", retries, at_least=0)
    progress = flag("progress", progress, TrialError)
    check_function(f, reports=scheduler is not None)
    check_callbacks(callbacks)
    caught = names_of(catch)
    goals = Goals.of(direction, constraints)
    check_rules(callbacks, goals)
    check_space(space)
    expected = Expected(goals, kinds_of(space))
    pool = ExecutorPool(workers, executor, partial(evaluate, f, expected), timeout=timeout_seconds(timeout))
    first = starting_points(start, space)
    with closing(
        Optimizer(
            space,
            acquisition,
            seed,
            direction,
            budget,
            storage,
            constraints=constraints,
            scheduler=scheduler,
        )
    ) as optimizer:
        scheduled = optimizer.scheduler is not None
        check_function(f, reports=scheduled)
        folder = checked_folder(checkpoints, scheduled=scheduled)
        if first:
            optimizer.enqueue(first, repeats=False)
        failures = Failures(optimizer, caught)
        with (
            _bar(progress, optimizer, budget) as show,
            ReportServer(optimizer, folder) as reports,
            pool,
        ):
            evaluations = Evaluations(pool, reports, failures)
            runner = TaskRunner[Trial](evaluations.submit, workers)
            watch = Watch(callbacks, optimizer, show)
            run = Run(watch, budget, Workers(pool, runner), failures, Retries(optimizer, retries))
            stopped = run.evaluate()
        trials, space, judge = tuple(optimizer.trials), optimizer.space, optimizer.scheduler
        return Result(trials, goals.direction, stopped, space, goals.limits, judge)


@contextmanager
def _bar(shown: bool, optimizer: Optimizer, budget: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar; yields the function that updates it."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    best = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), best)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=budget)

        def show() -> None:
            states = Counter(trial.state for trial in optimizer.trials)
            others = [(states[state], state) for state in _ENDED if states[state]]
            text = ", ".join([_best_so_far(optimizer), *(f"{count} {state}" for count, state in others)])
            completed = states["finished"] + sum(count for count, _ in others)
            progress.update(task, completed=completed, description=text)

        show()
        yield show


def _best_so_far(optimizer: Optimizer) -> str:
    finished = [trial for trial in optimizer.trials if trial.state == "finished"]
    if trials_at_target(finished, optimizer.space):
        return best_text(optimizer.trials, optimizer.goals, optimizer.space)
    return "none at the target fidelity" if finished else "none finished"

"""`bo-suite minimize` and `bo-suite problems`: whole runs."""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from bo_suite.cli.console import (
    EXHAUSTED,
    FAILURE,
    INTERRUPTED,
    json_owns_stdout,
    outcome,
    outcome_text,
    print_json,
    print_lines,
    print_table,
    print_trials,
    sentences,
    stop,
)
from bo_suite.cli.goals import ConstraintOption, DirectionOption, chosen_goals
from bo_suite.cli.options import (
    AcquisitionOption,
    BudgetOption,
    CatchOption,
    HistoryOption,
    JsonOption,
    ObjectiveArgument,
    Place,
    PlotOption,
    SeedOption,
    SpaceOption,
    TargetOption,
    TimeLimitOption,
    TimeoutOption,
    WorkersOption,
    chosen_seed,
    draw_convergence,
    named_acquisition,
    picture_path,
    stored_header,
)
from bo_suite.cli.scheduling import (
    CheckpointsOption,
    FactorOption,
    MaxStepOption,
    MinStepOption,
    SchedulerOption,
    is_scheduled,
    named_scheduler,
)
from bo_suite.errors import BoSuiteError
from bo_suite.values.describe import SHORT, error_text, shortened

if TYPE_CHECKING:
    from bo_suite.run.minimize import Result
    from bo_suite.run.stopping import TimeLimit
    from bo_suite.space.space import Space
    from bo_suite.storage.goals import Goals
    from bo_suite.storage.trial import State, Trial
    from bo_suite.study.optimizer import Optimizer


_EARLY: "tuple[State, ...]" = ("stopped", "paused")
"""States of trials that were not evaluated to the end."""


@sentences()
def minimize(
    objective: ObjectiveArgument,
    space: SpaceOption = None,
    budget: BudgetOption = 50,
    storage: HistoryOption = None,
    seed: SeedOption = None,
    direction: DirectionOption = None,
    constraint: ConstraintOption = None,
    workers: WorkersOption = 1,
    time_limit: TimeLimitOption = None,
    timeout: TimeoutOption = None,
    target: TargetOption = None,
    catch: CatchOption = False,
    acquisition: AcquisitionOption = None,
    scheduler: SchedulerOption = None,
    max_step: MaxStepOption = None,
    min_step: MinStepOption = None,
    factor: FactorOption = None,
    checkpoints: CheckpointsOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Optimise a function, from the first evaluation to the last.

    The space comes from --space, else from a Space named `space` in the function's module, else from the
    history. Run again with the same --storage, it continues where it stopped. An exception before any
    evaluation has finished ends the run; later ones are failures of their points.
    """
    picture = None if plot is None else picture_path(plot)
    with json_owns_stdout(as_json):
        from bo_suite.cli.objective import find
        from bo_suite.run import minimize as loop

        header = stored_header(storage)
        rules = chosen_rules(time_limit, target)
        ending = named_scheduler(scheduler, max_step, min_step, factor)
        chosen = find(objective, space, header, reports=is_scheduled(ending, header))
        goals = chosen_goals(direction, constraint, header)
        result = result_of(
            storage,
            lambda: loop.minimize(
                chosen.function,
                chosen.space,
                budget=budget,
                seed=chosen_seed(seed, header),
                workers=workers,
                storage=storage,
                acquisition=named_acquisition(acquisition, header),
                callbacks=rules,
                direction=goals.direction,
                constraints=goals.limits,
                catch=Exception if catch else (),
                timeout=timeout,
                scheduler=ending,
                checkpoints=checkpoints,
            ),
        )
        if picture is not None:
            draw_convergence(result, chosen.minimum, picture)
    files = {"storage": storage, "plot": picture}
    _print_result(result, files, budget, objective if as_json else None)
    _end(result, budget, [rule.reason for rule in rules])


def result_of(storage: Place | None, run: "Callable[[], Result]") -> "Result":
    """The result of a run; an exception of the user's function ends the command."""
    from bo_suite.run.raised import RemoteTraceback

    try:
        return run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, BoSuiteError) and not isinstance(error.__cause__, RemoteTraceback):
            raise
        _explain(error, storage)


def _print_result(
    result: "Result", files: dict[str, Place | None], budget: int, objective: str | None
) -> None:
    """Prints the result: as JSON if there is an objective, else for people."""
    from bo_suite.storage.trial import record
    from bo_suite.study.asking import spent

    if objective is None:
        ended = "nothing was evaluated" if spent(result.trials, budget) else "ended early"
        _summary(result, files, ended)
        return
    front, several = result.pareto, result.goals.several
    form: dict[str, Any] = {
        "objective": objective,
        "direction": result.direction,
        **({"constraints": result.constraints} if result.constraints else {}),
        "stopped": result.stopped,
        **{name: None if file is None else str(file) for name, file in files.items()},
        "best": record(front[0]) if front and not several else None,
        **({"pareto": [record(trial) for trial in front]} if several else {}),
        "trials": [record(trial) for trial in result.trials],
    }
    print_json(form)


class _Target:
    """A TargetValue that stores the reason why it ended a run."""

    def __init__(self, value: float) -> None:
        from bo_suite.run.stopping import TargetValue

        self._rule, self.reason = TargetValue(value), ""

    def __call__(self, optimizer: "Optimizer", trial: "Trial") -> str | None:
        reason = self._rule(optimizer, trial)
        self.reason = self.reason or reason or ""
        return reason

    def check_goals(self, goals: "Goals") -> None:
        """Raises a TrialError if there are several objectives."""
        self._rule.check_goals(goals)


def chosen_rules(time_limit: float | None, target: float | None) -> "list[TimeLimit | _Target]":
    """The rules of --time-limit and --target."""
    from bo_suite.run.stopping import TimeLimit

    rules: list[TimeLimit | _Target] = [] if time_limit is None else [TimeLimit(time_limit)]
    return rules if target is None else [*rules, _Target(target)]


def _explain(error: BaseException, storage: Place | None) -> NoReturn:
    """Ends the command with the traceback of an exception of the user's function, and a sentence."""
    from bo_suite.run.raised import traceback_text

    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("bo_suite"):
        trace = trace.tb_next  # frames of this package
    typer.echo(traceback_text(BaseException.with_traceback(error, trace)), err=True)
    again = f"bo-suite trials {'RUN.db' if storage is None else shlex.quote(str(storage))} --why"
    see = f"with --storage RUN.db, `{again}` would show" if storage is None else f"`{again}` shows"
    what = " ".join(error_text(error, SHORT).split())
    stop(
        f"the function raised {what} before an evaluation had finished, "
        f"which ends a run; --catch records such failures and continues ({see} the traceback again)",
        FAILURE,
    )


def _end(result: "Result", budget: int, expected: Sequence[str]) -> None:
    """Ends with the exit code of the run: 0 if it ended by its budget or for an expected reason."""
    from bo_suite.study.asking import spent

    if result.stopped == "interrupted":
        stop("interrupted; finished evaluations are stored", INTERRUPTED)
    if result.stopped is not None and result.stopped not in (*expected, spent(result.trials, budget)):
        stop(result.stopped, EXHAUSTED)
    states = Counter(trial.state for trial in result.trials)
    early = states["stopped"] + states["paused"]
    if not (states["finished"] or early):
        last = shortened(" ".join((result.trials[-1].reason or "").split()), SHORT)
        stop(f"all {len(result.trials)} evaluations failed, the last with {last}", FAILURE)


def _summary(result: "Result", files: dict[str, Place | None], ended: str) -> None:
    """Prints the best trials, how the run ended, and the names of its files."""
    from bo_suite.study.summary import ranked

    states = Counter(trial.state for trial in result.trials)
    finished = states["finished"]
    others = "".join(f", {states[state]} {state}" for state in _EARLY if states[state])
    best = ranked(result.trials, result.goals, result.space)
    if best:
        print_trials(best[:5], result.space, result.goals)
    if finished:
        text = _best(result) if best else "none at the target fidelity"
        print_lines(f"best: {text}, of {finished} evaluated, {states['failed']} failed{others}")
    elif others:
        print_lines(f"best: none, as no trial has come to its last step{others}")
    if result.stopped is not None:
        print_lines(f"{ended}: {result.stopped}")
    if files["storage"] is not None:
        print_lines(f"history: {files['storage']} (the same command with a larger --budget continues it)")
    if files["plot"] is not None:
        print_lines(f"convergence: {files['plot']}")


def _best(result: "Result") -> str:
    """The best feasible trial, or the size of the front, in a few words."""
    front, goals = result.pareto, result.goals
    if goals.several:
        return f"{len(front)} trials in the Pareto front"
    if not front:
        return "none feasible"
    name = goals.objectives[0].name
    return f"{outcome_text(front[0], name) if goals.named else outcome(front[0])} at trial {front[0].id}"


@sentences()
def problems(as_json: JsonOption = False) -> None:
    """List the problems that `minimize` and `bench` know by name, and the suites and methods of `bench`."""
    from bo_suite.bench import get_suite, methods, suites
    from bo_suite.problems import get_problem
    from bo_suite.problems import problems as names

    listed = [get_problem(name) for name in names()]
    if as_json:
        keys = ("name", "minimum", "space")
        print_json([dict(zip(keys, (p.name, p.minimum, p.space.to_dict()), strict=True)) for p in listed])
        return
    rows = [(p.name, str(p.space.dim), _kinds(p.space), _minimum(p.minimum)) for p in listed]
    print_table(("problem", "parameters", "of type", "minimum"), rows)
    sets = [get_suite(name) for name in suites()]
    print_table(
        ("suite, for bench", "problems", "what it is"),
        [(suite.name, str(len(suite.problems)), suite.description) for suite in sets],
    )
    print_lines(f"methods of bench: {', '.join(methods())}")


def _kinds(space: "Space") -> str:
    return ", ".join(sorted({type(parameter).__name__ for _, parameter in space}))


def _minimum(minimum: float | None) -> str:
    return "unknown" if minimum is None else f"{minimum:.6g}"

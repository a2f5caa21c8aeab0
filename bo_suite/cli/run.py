"""`bo-suite minimize` and `bo-suite problems`: whole runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bo_suite.cli.console import (
    EXHAUSTED,
    FAILURE,
    INTERRUPTED,
    json_owns_stdout,
    outcome,
    print_json,
    print_lines,
    print_table,
    print_trials,
    ranked,
    sentences,
    stop,
)
from bo_suite.cli.options import (
    AcquisitionOption,
    JsonOption,
    SeedOption,
    SpaceOption,
    chosen_seed,
    draw_convergence,
    named_acquisition,
    picture_path,
    stored_header,
)
from bo_suite.errors import BoSuiteError
from bo_suite.values.describe import SHORT, error_text, shortened

if TYPE_CHECKING:
    from bo_suite.run.minimize import Result
    from bo_suite.run.stopping import TimeLimit
    from bo_suite.space.space import Space
    from bo_suite.storage.trial import Trial
    from bo_suite.study.optimizer import Optimizer


@sentences()
def minimize(
    objective: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEM|MODULE:FUNCTION",
            help="A name from `bo-suite problems`, or a function that takes a dict of parameters and returns "
            "a float, from a module that can be imported here.",
        ),
    ],
    space: SpaceOption = None,
    budget: Annotated[int, typer.Option(min=1, help="Number of trials of the history in all.")] = 50,
    storage: Annotated[
        Path | None, typer.Option(metavar="RUN.DB", help="Keep the history here, or go on with the one here.")
    ] = None,
    seed: SeedOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Evaluations side by side, a process each.")] = 1,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Start no evaluation after so many seconds, and wait for none that hangs."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End an evaluation that takes longer; its trial has failed."),
    ] = None,
    target: Annotated[
        float | None, typer.Option(metavar="VALUE", help="End when a value as good as this was found.")
    ] = None,
    catch: Annotated[
        bool,
        typer.Option("--catch", help="Record an exception before an evaluation has finished, and go on."),
    ] = False,
    acquisition: AcquisitionOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save a convergence plot: .png, .pdf or .svg.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Minimise a function, from the first evaluation to the last.

    The space comes from --space, or else from a Space named `space` in the function's module, or else from
    the history. Run again with the same --storage, it goes on where it stopped. An exception before any
    evaluation has finished ends the run; later ones are failures of their points.
    """
    picture = None if plot is None else picture_path(plot)
    with json_owns_stdout(as_json):
        from bo_suite.cli.objective import find
        from bo_suite.run import minimize as loop
        from bo_suite.run.raised import RemoteTraceback
        from bo_suite.run.running import spent
        from bo_suite.storage.trial import at_target, record

        header = stored_header(storage)
        rules = _rules(time_limit, target)
        found = find(objective, space, header)
        try:
            result = loop.minimize(
                found.function,
                found.space,
                budget=budget,
                seed=chosen_seed(seed, header),
                workers=workers,
                storage=storage,
                acquisition=named_acquisition(acquisition, header),
                callbacks=rules,
                catch=Exception if catch else (),
                timeout=timeout,
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, BoSuiteError) and not isinstance(error.__cause__, RemoteTraceback):
                raise
            _explain(error, storage)
        final = at_target(result.trials, result.space)
        if picture is not None:
            draw_convergence(final, result.direction, found.minimum, picture)
    best, idle = ranked(final, result.direction), spent(result.trials, budget)
    if as_json:
        print_json(
            {
                "objective": objective,
                "direction": result.direction,
                "stopped": result.stopped,
                "storage": None if storage is None else str(storage),
                "plot": None if picture is None else str(picture),
                "best": record(best[0]) if best else None,
                "trials": [record(trial) for trial in result.trials],
            }
        )
    else:
        _summary(result, best, storage, picture, "nothing was evaluated" if idle else "ended early")
    _end(result, [*(rule.reason for rule in rules), idle])


class _Target:
    """A TargetValue that remembers why it ended a run."""

    def __init__(self, value: float) -> None:
        from bo_suite.run.stopping import TargetValue

        self._rule, self.reason = TargetValue(value), ""

    def __call__(self, optimizer: "Optimizer", trial: "Trial") -> str | None:
        found = self._rule(optimizer, trial)
        self.reason = self.reason or found or ""
        return found


def _rules(time_limit: float | None, target: float | None) -> "list[TimeLimit | _Target]":
    from bo_suite.run.stopping import TimeLimit

    rules: list[TimeLimit | _Target] = [] if time_limit is None else [TimeLimit(time_limit)]
    return rules if target is None else [*rules, _Target(target)]


def _explain(error: BaseException, storage: Path | None) -> NoReturn:
    """Ends the command with the traceback of an exception of the user's function and a sentence about it."""
    from bo_suite.run.raised import traceback_text

    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("bo_suite"):
        trace = trace.tb_next  # of no interest to a user
    typer.echo(traceback_text(BaseException.with_traceback(error, trace)), err=True)
    again = f"bo-suite trials {'RUN.db' if storage is None else storage} --why"
    see = f"with --storage RUN.db, `{again}` would show" if storage is None else f"`{again}` shows"
    what = " ".join(error_text(error, SHORT).split())
    stop(
        f"the function raised {what} before an evaluation had finished, "
        f"which ends a run; --catch records such failures and goes on ({see} the traceback again)",
        FAILURE,
    )


def _end(result: "Result", asked_for: Sequence[str | None]) -> None:
    """Leaves with the exit code that a run earned: 0 where it ended as the user had asked for."""
    if result.stopped == "interrupted":
        stop("interrupted; what had finished is kept", INTERRUPTED)
    if result.stopped is not None and result.stopped not in asked_for:
        stop(result.stopped, EXHAUSTED)
    if not any(trial.state == "finished" for trial in result.trials):
        last = shortened(" ".join((result.trials[-1].reason or "").split()), SHORT)
        law = "a run needs an evaluation that succeeds"
        stop(f"{law}, got {len(result.trials)} that failed, the last with {last}", FAILURE)


def _summary(
    result: "Result", best: "Sequence[Trial]", storage: Path | None, picture: Path | None, ended: str
) -> None:
    """Prints the best trials, the best first, how the run ended, and what was kept where."""
    finished, failed = (sum(trial.state == s for trial in result.trials) for s in ("finished", "failed"))
    if best:
        print_trials(best[:5], result.space)
    if finished:
        found = f"{outcome(best[0])} at trial {best[0].id}" if best else "none at the target fidelity"
        print_lines(f"best: {found}, of {finished} evaluated, {failed} failed")
    if result.stopped is not None:
        print_lines(f"{ended}: {result.stopped}")
    if storage is not None:
        print_lines(f"history: {storage} (the same command with a larger --budget goes on from here)")
    if picture is not None:
        print_lines(f"convergence: {picture}")


@sentences()
def problems(as_json: JsonOption = False) -> None:
    """List the problems that `minimize` and `bench` know by name, and the suites and methods of `bench`."""
    from bo_suite.bench import get_suite, methods, suites
    from bo_suite.problems import get_problem
    from bo_suite.problems import problems as names

    known = [get_problem(name) for name in names()]
    if as_json:
        print_json(
            [{"name": one.name, "minimum": one.minimum, "space": one.space.to_dict()} for one in known]
        )
        return
    rows = [(one.name, str(one.space.dim), _kinds(one.space), _minimum(one.minimum)) for one in known]
    print_table(("problem", "parameters", "of type", "minimum"), rows)
    sets = [get_suite(name) for name in suites()]
    print_table(
        ("suite, for bench", "problems", "what it is"),
        [(one.name, str(len(one.problems)), one.description) for one in sets],
    )
    print_lines(f"methods of bench: {', '.join(methods())}")


def _kinds(space: "Space") -> str:
    return ", ".join(sorted({type(parameter).__name__ for _, parameter in space}))


def _minimum(minimum: float | None) -> str:
    return "unknown" if minimum is None else f"{minimum:.6g}"

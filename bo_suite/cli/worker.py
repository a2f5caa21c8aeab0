"""`bo-suite worker`: one of any number of workers that share a run."""

from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from bo_suite.cli.console import (
    EXHAUSTED,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    json_owns_stdout,
    print_json,
    print_lines,
    sentences,
    stop,
)
from bo_suite.cli.goals import ConstraintOption, DirectionOption, chosen_goals
from bo_suite.cli.options import (
    AcquisitionOption,
    CatchOption,
    GraceOption,
    JsonOption,
    ObjectiveArgument,
    RetriesOption,
    SeedOption,
    SpaceOption,
    StorageArgument,
    TargetOption,
    TimeLimitOption,
    TimeoutOption,
    UntilOption,
    chosen_seed,
    named_acquisition,
    stored_header,
)
from bo_suite.cli.run import chosen_rules, result_of
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
from bo_suite.values.describe import visible

if TYPE_CHECKING:
    from bo_suite.run.stopping import Until
    from bo_suite.storage.trial import Trial
    from bo_suite.study.optimizer import Optimizer

TotalOption = Annotated[
    int | None,
    typer.Option(
        "--budget",
        min=1,
        help="Number of trials of all workers together, those in the history included.",
        show_default="that of the history",
    ),
]


@sentences()
def worker(
    storage: StorageArgument,
    objective: ObjectiveArgument,
    space: SpaceOption = None,
    budget: TotalOption = None,
    until: UntilOption = None,
    time_limit: TimeLimitOption = None,
    target: TargetOption = None,
    timeout: TimeoutOption = None,
    retries: RetriesOption = 0,
    grace: GraceOption = 0.0,
    catch: CatchOption = False,
    seed: SeedOption = None,
    direction: DirectionOption = None,
    constraint: ConstraintOption = None,
    acquisition: AcquisitionOption = None,
    scheduler: SchedulerOption = None,
    max_step: MaxStepOption = None,
    min_step: MinStepOption = None,
    factor: FactorOption = None,
    checkpoints: CheckpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate trials of a run that any number of workers share, one at a time, a line each.

    Trials whose worker has died come first, then queued points, then suggestions. The first worker creates
    the run; the space is found as by `minimize`. After SIGTERM the evaluation gets --grace seconds, then its
    point is handed back to the next worker.

    Exit codes: 0 the budget is spent or a rule has ended the worker; 1 refused, or the function has a bug;
    2 wrong usage; 3 every point of the space has been suggested; 130 interrupted; 143 ended by SIGTERM.
    """
    with json_owns_stdout(as_json) as stdout:
        from bo_suite.cli.objective import find
        from bo_suite.run.worker import work, worker_name
        from bo_suite.study.optimizer import Optimizer

        header = stored_header(storage)
        rules = [*_until(until), *chosen_rules(time_limit, target)]
        if not rules and budget is None and (header is None or header.budget is None):
            stop("a worker needs an end: --budget, --until, --time-limit or --target, got none", USAGE)
        ending = named_scheduler(scheduler, max_step, min_step, factor)
        chosen = find(objective, space, header, reports=is_scheduled(ending, header))
        goals = chosen_goals(direction, constraint, header)
        with closing(
            Optimizer(
                chosen.space,
                named_acquisition(acquisition, header),
                chosen_seed(seed, header),
                goals.direction,
                budget,
                storage,
                constraints=goals.limits,
                scheduler=ending,
            )
        ) as optimizer:
            total = "" if optimizer.budget is None else f" of {optimizer.budget}"
            typer.echo(visible(f"worker {worker_name()}: {len(optimizer.trials)} trials{total}"), err=True)
            result = result_of(
                storage,
                lambda: work(
                    chosen.function,
                    optimizer,
                    callbacks=[_Line(stdout if as_json else None), *rules],
                    retries=retries,
                    catch=Exception if catch else (),
                    timeout=timeout,
                    grace=grace,
                    checkpoints=checkpoints,
                ),
            )
    if result.stopped == "interrupted":
        stop("interrupted; an evaluation that was running is handed back", INTERRUPTED)
    if result.stopped == "terminated":
        stop("ended by SIGTERM; an evaluation that was running is handed back", TERMINATED)
    if result.stopped is None or result.stopped in [rule.reason for rule in rules]:
        typer.echo(visible(f"ended: {result.stopped or 'the budget is spent'}"), err=True)
        return
    stop(result.stopped, EXHAUSTED)


def _until(text: str | None) -> "list[Until]":
    from bo_suite.run.stopping import Until

    if text is None:
        return []
    try:
        return [Until(datetime.fromisoformat(text))]
    except ValueError:
        return stop(f"--until must be a date and a time, such as 2030-01-31T18:00, got {text!r}", USAGE)


class _Line:
    """A callback that prints a line about each trial: as JSON to a stream, or for people to stdout."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __call__(self, optimizer: "Optimizer", trial: "Trial") -> None:
        from bo_suite.storage.trial import record
        from bo_suite.study.summary import best_trial, ended_text

        if self._stream is not None:
            print_json(record(trial), self._stream)
            return
        best = None
        with suppress(BoSuiteError):  # none is feasible, or there are several objectives
            best = best_trial(optimizer.trials, optimizer.goals, optimizer.space).value
        print_lines(ended_text(trial, best))

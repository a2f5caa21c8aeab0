"""Options of a run whose trials report while they are evaluated, and the scheduler that they name."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_suite.cli.console import USAGE, stop

if TYPE_CHECKING:
    from bo_suite.storage.trial import Header
    from bo_suite.study.scheduling import Scheduler

SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="End bad evaluations while they run, such as by asha. The function takes (params, report).",
        show_default="that of the history",
    ),
]
MaxStepOption = Annotated[
    int | None,
    typer.Option("--max-step", help="The last step of a whole evaluation, such as its number of epochs."),
]
MinStepOption = Annotated[
    int | None,
    typer.Option(
        "--min-step", help="The first step at which a trial may be ended.", show_default="that of NAME"
    ),
]
FactorOption = Annotated[
    int | None,
    typer.Option("--factor", help="One of so many trials goes on at each rung.", show_default="that of NAME"),
]
CheckpointsOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        metavar="FOLDER",
        help="Where trials have their folders, report.folder.",
        show_default="beside the history",
    ),
]


def is_scheduled(scheduler: "Scheduler | None", header: "Header | None") -> bool:
    """Whether a run has a scheduler: that of the option, or that of its history."""
    return scheduler is not None or (header is not None and header.scheduler is not None)


def named_scheduler(
    name: str | None, max_step: int | None, min_step: int | None, factor: int | None
) -> "Scheduler | None":
    """The scheduler of a name with the steps and the factor of options; None without a name.

    Args:
        name: of a class of `bo_suite.run.schedulers`, in any case, such as "asha" or "median-rule".
        max_step: the last step of a whole evaluation.
        min_step: the first rung, or None.
        factor: one of so many trials goes on at each rung; None for that of the class.
    """
    options: dict[str, Any] = {"max_step": max_step, "min_step": min_step, "factor": factor}
    chosen = {option: value for option, value in options.items() if value is not None}
    if name is None:
        if chosen:
            names = ", ".join(f"--{option.replace('_', '-')}" for option in chosen)
            stop(f"options of a scheduler need --scheduler NAME, got {names} without it", USAGE)
        return None
    from bo_suite.run import schedulers

    classes = {kind: getattr(schedulers, kind) for kind in schedulers.__all__}
    kind = {other.lower(): other for other in classes}.get(name.lower().replace("-", "").replace("_", ""))
    if kind is None:
        stop(f"the scheduler must be one of {', '.join(classes)}, got {name!r}", USAGE)
    if max_step is None:
        stop("--scheduler needs --max-step, the last step of a whole evaluation, got none", USAGE)
    fields = {field.name for field in dataclasses.fields(classes[kind])}
    if unknown := [option for option in chosen if option not in fields]:
        names = ", ".join(f"--{option.replace('_', '-')}" for option in unknown)
        stop(f"{kind} takes other options, got {names}", USAGE)
    scheduler: Scheduler = classes[kind](**chosen)
    return scheduler

"""Commands that change what is stored: `enqueue`, `amend`, `forget`, `space`; and `history`, the changes."""

import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_suite.cli.console import (
    FAILURE,
    USAGE,
    confirmed,
    json_object,
    json_objects,
    print_json,
    print_lines,
    print_points,
    print_table,
    print_trial,
    sentences,
    stop,
)
from bo_suite.cli.goals import (
    ConstraintOption,
    DirectionOption,
    GradientOption,
    OutcomeArgument,
    ParamsStdOption,
    StdOption,
    chosen_goals,
    noise_of,
    outcome_of,
)
from bo_suite.cli.options import (
    IdArgument,
    JsonOption,
    Place,
    SeedOption,
    SpaceOption,
    StorageArgument,
    chosen_seed,
    created,
    existing,
    searched_space,
    stored_header,
)
from bo_suite.errors import SpaceError

if TYPE_CHECKING:
    from bo_suite.space.space import Params, Space
    from bo_suite.storage.changes import Change


@sentences()
def enqueue(
    storage: StorageArgument,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE ...]", help="A point; the model chooses what it lacks."),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option("--params", metavar="JSON", help="A point as a JSON object; may be repeated."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show the queue.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all queued points, and show them.")] = False,
    space: SpaceOption = None,
    direction: DirectionOption = None,
    constraint: ConstraintOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store points to be asked next, before any suggestion, and show the queue.

    A point may repeat a trial or a queued point; a line on stderr says so. A new history needs --space. The
    JSON is a list of points: the queue, or what --clear has removed.
    """
    if (bool(values or params), listed, clear).count(True) != 1:
        stop("enqueue needs a point (NAME=VALUE ... or --params), --list or --clear, and one of these", USAGE)
    if listed or clear:
        with existing(storage) as history:
            queued = history.dequeue() if clear else history.queue()
            searched = history.header.space
    else:
        from bo_suite.space.text import values_in
        from bo_suite.study.asking import enqueued

        header = stored_header(storage)
        searched = searched_space(space, header, storage)
        points = [
            *([values_in(searched, values)] if values else []),
            *(json_object("--params", text) for text in params or []),
        ]
        for point in points:
            searched.check_some(point)  # before a file is created
        goals = chosen_goals(direction, constraint, header)
        with created(storage, searched, goals, chosen_seed(seed, header)) as history:
            enqueued(history, points)
            queued = history.queue()
    if as_json:
        print_json([point.params for point in queued])
    elif not queued:
        print_lines("no point is queued")
    else:
        rows = [(str(number),) for number in range(1, len(queued) + 1)]
        print_points(("removed" if clear else "queued",), rows, [point.params for point in queued], searched)


@sentences()
def amend(
    storage: StorageArgument,
    trial: IdArgument,
    outcome: OutcomeArgument,
    std: StdOption = None,
    gradient: GradientOption = None,
    params_std: ParamsStdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Correct the outcome of a trial in any state; `bo-suite history` shows what was there.

    Outcomes by name that are left out stay as they are, and so do their noise and --params-std. A gradient
    is gone with the value that it belonged to, unless it is given again.
    """
    with existing(storage) as history:
        goals = history.header.goals
        told = outcome_of(goals, outcome), noise_of(goals, std)
        amended = history.amend(trial, *told, *json_objects(gradient, params_std))
        print_trial(amended, history.header, as_json=as_json)


@sentences()
def forget(
    storage: StorageArgument,
    trial: IdArgument,
    reason: Annotated[
        str, typer.Argument(metavar="[REASON]", help="Why nothing should be learnt from it.")
    ] = "forgotten",
    as_json: JsonOption = False,
) -> None:
    """Withdraw a trial in any state and remove its outcome; `bo-suite amend` restores it."""
    with existing(storage) as history:
        print_trial(history.forget(trial, reason), history.header, as_json=as_json)


@sentences()
def space(
    storage: StorageArgument,
    edit: Annotated[
        Path | None, typer.Option("--edit", metavar="FILE", help="The changed space, a .toml or .json file.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--values",
            metavar="NAME=VALUE",
            help="Value of a new parameter in earlier trials; may be repeated.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Change the space without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the space and its past changes, or change it.

    With --edit it shows what differs and how many trials will lie outside, and asks; trials outside still
    teach the model. With --json it never asks, and needs --yes.
    """
    if edit is None:
        if values or yes:
            stop("--values and --yes need --edit FILE", USAGE)
        _show_space(storage, as_json=as_json)
        return
    if as_json and not yes:
        stop("--json never asks, so --edit needs --yes with it", USAGE)
    _edit_space(storage, edit, values or [], yes=yes, as_json=as_json)


def _show_space(storage: Place, *, as_json: bool) -> None:
    from bo_suite.study.summary import change_lines

    with existing(storage) as history:
        searched, changes = history.header.space, history.changes()
    edits = [change for change in changes if change.trial is None]
    if as_json:
        print_json({"space": searched.to_dict(), "edits": [_change_record(change) for change in edits]})
        return
    rows = [(name, repr(parameter)) for name, parameter in searched.current]
    print_table(("parameter", "values"), rows + searched.constraints.rows)
    for change in edits:
        print_lines(f"changed {_date(change)} by {change.author}:", *change_lines(change))


def _edit_space(storage: Place, file: Path, texts: list[str], *, yes: bool, as_json: bool) -> None:
    from bo_suite.space.space import Space
    from bo_suite.space.text import values_in
    from bo_suite.study.extension import differences, extended
    from bo_suite.study.optimizer import Optimizer

    wanted = Space.from_file(file)
    with closing(Optimizer.resume(storage)) as optimizer:
        before = optimizer.space
        values = values_in(wanted, texts)
        after, complete = extended(before, wanted, values)
        points = [after.accept(trial.params, complete) for trial in optimizer.trials]
        outside = sum(not after.contains(point) for point in points)
        lines = differences(before, after)
        _check_queue(optimizer.queue, after, storage)
        if as_json or not lines:
            optimizer.extend(wanted, values)
        else:
            print_lines(*lines, f"{outside} of {len(points)} trials will lie outside")
            if not (yes or confirmed("Change the space?")):
                stop("the space was not changed, since nobody has confirmed it", FAILURE)
            optimizer.extend(wanted, values)
    if as_json:
        print_json({"space": after.to_dict(), "changed": lines, "outside": outside})
    else:
        print_lines("the space was changed" if lines else "the space is that of the file already")


def _check_queue(queue: Sequence["Params"], space: "Space", storage: Place) -> None:
    """Raises a SpaceError unless all queued points lie in a changed space."""
    for point in queue:
        try:
            space.check_some(point)
        except SpaceError as error:
            remedy = f"bo-suite enqueue {shlex.quote(str(storage))} --clear"
            law = f"queued points must lie in the new space ({remedy} removes them)"
            raise SpaceError(f"{law}, got {point}: {error}") from error


@sentences()
def history(storage: StorageArgument, as_json: JsonOption = False) -> None:
    """List what was amended, forgotten, changed in the space or told too late, and what was there."""
    from bo_suite.study.summary import change_lines

    with existing(storage) as stored:
        changes = stored.changes()
    if as_json:
        print_json([_change_record(change) for change in changes])
        return
    if not changes:
        print_lines("nothing was amended, forgotten, changed in the space or told too late")
        return
    rows = []
    for change in changes:
        what = "space" if change.trial is None else f"trial {change.trial}"
        rows.append((_date(change), change.author, change.action, what, "; ".join(change_lines(change))))
    print_table(("made", "by", "action", "what", "change"), rows)


def _change_record(change: "Change") -> dict[str, Any]:
    return {
        "trial": change.trial,
        "action": change.action,
        "author": change.author,
        "made": change.made,
        "before": dict(change.before),
        "after": dict(change.after),
    }


def _date(change: "Change") -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change.made))

"""`bo-suite import` and `bo-suite export`: trials in CSV files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bo_suite.cli.console import FAILURE, USAGE, print_json, print_lines, sentences, stop
from bo_suite.cli.goals import ConstraintOption, DirectionOption, chosen_goals, outcome_headings
from bo_suite.cli.options import (
    ColumnOption,
    JsonOption,
    SeedOption,
    SpaceOption,
    StorageArgument,
    chosen_seed,
    created,
    existing,
    headings_in,
    searched_space,
    stored_header,
)
from bo_suite.errors import TableError


@sentences()
def import_trials(
    storage: StorageArgument,
    table: Annotated[
        Path,
        typer.Argument(metavar="PAST.CSV", help="A table with a column for each parameter and each outcome."),
    ],
    space: SpaceOption = None,
    column: ColumnOption = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="HEADING|NAME=HEADING",
            help="The column of the outcome, or of one by name; may be repeated.",
            show_default="value, or value_NAME",
        ),
    ] = None,
    direction: DirectionOption = None,
    constraint: ConstraintOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the rows of a table as trials, all of them or, if one is wrong, none.

    Columns named std (or std_NAME), state and reason are read too: failed rows are failures, and running and
    withdrawn ones are left out. A blank outcome by name was not measured. A new history needs --space. What
    is wrong with a row is said with its line.
    """
    from bo_suite.storage.csv_files import read_csv

    header = stored_header(storage)
    searched = searched_space(space, header, storage)
    goals = chosen_goals(direction, constraint, header)
    values = outcome_headings(goals, value)
    try:
        past = read_csv(table, searched, headings_in(searched, column), values, goals)
    except TableError as error:
        raise TableError(f"{error.requirement}; nothing was imported", error.faults) from error
    with created(storage, searched, goals, chosen_seed(seed, header)) as history:
        added = history.add_all(past.observations)
    failed = sum(trial.state == "failed" for trial in added)
    counts = {"imported": len(added), "failed": failed, "left_out": dict(past.left_out)}
    if as_json:
        print_json(counts | {"unused": list(past.unused)})
        return
    left_out = "".join(f", {count} {why} left out" for why, count in past.left_out.items())
    print_lines(f"imported: {len(added)} trials, {failed} of them failed{left_out}")
    if past.unused:
        print_lines(f"columns that were not read: {', '.join(past.unused)}")


@sentences()
def export(
    storage: StorageArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table here.", show_default="stdout")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all trials as a CSV table, which `bo-suite import` reads back with equal values.

    It refuses the rows of trials that were left outside when the space was narrowed.
    """
    from bo_suite.storage.csv_files import csv_text, write_csv

    if as_json and out is None:
        stop("--json needs --out, since the table itself goes to stdout", USAGE)
    with existing(storage) as history:
        trials, header = history.trials(), history.header
    if out is None:
        text = csv_text(trials, header.space, header.goals)
        if sys.stdout.isatty():  # where no text of a history may control the terminal
            print_lines(*text.splitlines())
        else:
            typer.echo(text.encode("utf-8", "surrogatepass"), nl=False)
        return
    if isinstance(storage, Path) and out.exists() and out.samefile(storage):
        stop(f"the table must be another file than the history, got {out} for both", FAILURE)
    write_csv(trials, header.space, out, header.goals)
    if as_json:
        print_json({"table": str(out), "trials": len(trials)})
    else:
        print_lines(f"table: {out} ({len(trials)} trials)")

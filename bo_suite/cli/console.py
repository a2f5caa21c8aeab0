"""What a command prints: tables for people, JSON for programs, one sentence and an exit code for an error.

Names, reasons, paths and options are text of a user. Output for people goes through `visible`, and JSON
escapes control characters itself, so that no text of a history can control the terminal.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from bo_suite.errors import BoSuiteError, SpaceExhausted, TableError
from bo_suite.storage.paths import without_passwords
from bo_suite.values.describe import SHORT, shortened, visible

if TYPE_CHECKING:  # a command that prints no trials need not import them
    from rich.table import Table

    from bo_suite.space.space import Params, Space
    from bo_suite.storage.goals import Goals
    from bo_suite.storage.trial import Header, Trial

FAILURE, USAGE, EXHAUSTED, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143

_WIDEST = 8
"""Maximum number of parameters with a column each; more share one column."""


def stop(message: str, code: int) -> NoReturn:
    """Prints an error and ends the command with an exit code."""
    typer.echo(f"error: {visible(without_passwords(message))}", err=True)
    raise typer.Exit(code)


@contextmanager
def sentences() -> Iterator[None]:
    """A decorator of commands: turns errors into one sentence on stderr and an exit code."""
    try:
        yield
    except SpaceExhausted as error:
        stop(str(error), EXHAUSTED)
    except TableError as error:
        for fault in error.faults:
            typer.echo(visible(fault), err=True)
        stop(error.requirement, FAILURE)
    except BoSuiteError as error:
        stop(str(error), FAILURE)
    except KeyboardInterrupt:
        stop("interrupted", INTERRUPTED)


@contextmanager
def json_owns_stdout(active: bool) -> Iterator[TextIO]:
    """With --json, sends to stderr what a user's function or its processes write to stdout.

    Yields:
        Where JSON can be printed meanwhile.
    """
    if not active:
        yield sys.stdout
        return
    sys.stdout.flush()
    own, stdout = sys.stdout, os.dup(1)
    if own is sys.__stdout__:  # else it is not what the processes of a function write to
        own = open(stdout, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it has no file of its own
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield own
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def confirmed(question: str) -> bool:
    """Whether the user says yes; no if there is nobody to answer."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)
        return False


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object that is the text of an option; exits if it is none."""
    law = f"{option} must be a JSON object such as '{{\"lr\": 0.1}}'"
    try:
        form = json.loads(text)
    except (ValueError, RecursionError) as error:
        stop(f"{law}, got {text!r:.200}: {error}", USAGE)
    if not isinstance(form, dict):
        stop(f"{law}, got {text!r:.200}", USAGE)
    return form


def json_objects(gradient: str | None, params_std: str | None) -> tuple[dict[str, Any] | None, ...]:
    """The JSON objects of --gradient and --params-std, which hold numbers by name of a parameter."""
    texts = {"--gradient": gradient, "--params-std": params_std}
    return tuple(None if text is None else json_object(option, text) for option, text in texts.items())


def print_json(value: Any, stream: TextIO | None = None) -> None:
    """Prints a value on a stream; None for stdout."""
    typer.echo(json.dumps(value, allow_nan=False), stream)


def print_lines(*lines: str) -> None:
    """Prints lines for people; a line break inside a line is escaped."""
    for line in lines:
        typer.echo(visible(line))


def write_any_character() -> None:
    """Lets stdout and stderr escape characters that their encoding lacks, such as ± in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table for people, as wide as the terminal."""
    from rich.console import Console

    Console(highlight=False).print(table_of(headings, rows))


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """A table for people."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(Text(visible(heading)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def print_trials(trials: Sequence["Trial"], space: "Space", goals: "Goals") -> None:
    """Prints a table of trials, their outcomes and their points."""
    states = any(trial.state != "finished" for trial in trials)
    columns, outcomes = (
        _outcomes(trials, goals) if goals.named else (("value",), [(outcome(t),) for t in trials])
    )
    rows = [
        (str(trial.id), *([trial.fate] if states else []), *cells)
        for trial, cells in zip(trials, outcomes, strict=True)
    ]
    headings = ("trial", *(["state"] if states else []), *columns)
    print_points(headings, rows, [trial.params for trial in trials], space)


def _outcomes(trials: Sequence["Trial"], goals: "Goals") -> tuple[Sequence[str], list[Sequence[str]]]:
    """Headings and cells of outcomes by name, whether they are feasible, and why there are none."""
    reasons = any(trial.reason for trial in trials)
    headings = (*goals.names, *["feasible"] * bool(goals.constraints), *["reason"] * reasons)
    rows: list[Sequence[str]] = []
    for trial in trials:
        feasible = "" if trial.outcomes is None else "yes" if goals.is_feasible(trial.outcomes) else "no"
        cells = [outcome_text(trial, name) for name in goals.names]
        reason = shortened(trial.reason or "", SHORT)
        rows.append((*cells, *[feasible] * bool(goals.constraints), *[reason] * reasons))
    return headings, rows


def print_points(
    headings: Sequence[str], rows: Sequence[Sequence[str]], points: "Sequence[Params]", space: "Space"
) -> None:
    """Prints a table of points, which may lack parameters; many parameters share one column.

    Args:
        headings: of the columns before the parameters.
        rows: cells of these columns, for each point.
        points: values by name.
        space: of the points.
    """
    names = list(space.parameters)
    cells = [[_text(point[name]) if name in point else "" for name in names] for point in points]
    if len(names) > _WIDEST:
        texts = [" ".join(f"{name}={_text(value)}" for name, value in point.items()) for point in points]
        names, cells = ["params"], [[text] for text in texts]
    rows = [(*row, *point) for row, point in zip(rows, cells, strict=True)]
    print_table((*headings, *names), rows)


def print_trial(trial: "Trial", header: "Header", *, as_json: bool) -> None:
    """Prints one trial: as JSON, or as a table of one row."""
    if as_json:
        from bo_suite.storage.trial import record

        print_json(record(trial))
    else:
        print_trials([trial], header.space, header.goals)


def print_failures(trials: Sequence["Trial"]) -> None:
    """Prints the points, reasons and tracebacks of failed trials."""
    for trial in trials:
        point = ", ".join(f"{name}={_text(value)}" for name, value in trial.params.items())
        print_lines(f"trial {trial.id} failed at {point}: {trial.reason}")
        print_lines(*(trial.traceback or "(no traceback was stored)").split("\n"), "")
    if not trials:
        print_lines("no trial has failed")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def outcome(trial: "Trial") -> str:
    """The value, or the reason why there is none, as text."""
    if trial.value is None:
        return shortened(trial.reason or "", SHORT)
    return f"{trial.value:.6g}" + (f" ± {trial.std:.2g}" if trial.std else "")


def outcome_text(trial: "Trial", name: str) -> str:
    """An outcome by name as text: "nan" if its measurement failed, "" if it was not measured."""
    outcomes, stds = trial.outcomes or {}, trial.stds or {}
    if name not in outcomes:
        return ""
    value = outcomes[name]
    noise = f" ± {stds[name]:.2g}" if stds.get(name) else ""
    return "nan" if value is None else f"{value:.6g}{noise}"

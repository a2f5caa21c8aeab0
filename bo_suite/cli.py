"""The command line: `bo-suite minimize`, `ask`, `tell`, `fail`, `best`, `trials`, `plot`, `problems`.

Commands import what they need when they run: `bo-suite --help` must not wait for torch.
"""

import dataclasses
import difflib
import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bo_suite import __version__
from bo_suite.errors import BoSuiteError, SpaceExhausted

if TYPE_CHECKING:
    from bo_suite.acquisition import Acquisition
    from bo_suite.history import Trial
    from bo_suite.optimizer import Optimizer
    from bo_suite.space import Params, Space

_WIDEST = 8
"""Parameters that get a column each; more are folded into one column."""


def _examples(*lines: str) -> str:
    return "\n\n".join(("[bold]Examples[/bold]", *lines))


app = typer.Typer(
    name="bo-suite",
    help="Minimise expensive functions in few evaluations, and lose nothing on the way.",
    epilog=_examples(
        "bo-suite minimize branin --budget 30",
        "bo-suite minimize branin --budget 30 --storage run.db --plot run.png",
        "bo-suite trials run.db --top 5",
    )
    + "\n\n[bold]Exit codes[/bold]\n\n"
    "0 done;  1 refused or failed, with one sentence on stderr;  2 wrong usage;  "
    "3 every point of the space has been suggested;  130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Direction(StrEnum):
    """Which values are better."""

    minimize = "minimize"
    maximize = "maximize"


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def _sentences() -> Iterator[None]:
    """Turns errors into one sentence on stderr and an exit code; also serves as a decorator."""
    try:
        yield
    except SpaceExhausted as error:
        _stop(str(error), 3)
    except (BoSuiteError, OSError) as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("interrupted", 130)


@contextmanager
def _machine_readable(active: bool) -> Iterator[None]:
    """With `--json` stdout is for the JSON alone: whatever else writes to it goes to stderr."""
    if not active:
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)  # worker processes and C code write to the descriptor
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


StorageArgument = Annotated[Path, typer.Argument(metavar="RUN.DB", help="The history of the run, a file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
SpaceOption = Annotated[
    Path | None, typer.Option("--space", metavar="FILE", help="The search space, a .toml or .json file.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run; 0 by default.")]
DirectionOption = Annotated[
    Direction | None, typer.Option("--direction", help="Which values are better; minimize by default.")
]
AcquisitionOption = Annotated[
    str | None, typer.Option("--acquisition", metavar="NAME", help="For example upper-confidence-bound.")
]

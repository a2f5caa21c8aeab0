"""Options that commands share, and the objects that they name."""

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_suite.cli.console import FAILURE, USAGE, stop
from bo_suite.errors import SpaceError, StorageError

if TYPE_CHECKING:  # each command imports what it needs when it runs
    from bo_suite.acquisition import Acquisition
    from bo_suite.run.minimize import Result
    from bo_suite.space.space import Params, Space
    from bo_suite.storage.addresses import Address
    from bo_suite.storage.goals import Goals
    from bo_suite.storage.history import History
    from bo_suite.storage.trial import Header


class State(StrEnum):
    """The state of a trial."""

    running = "running"
    finished = "finished"
    failed = "failed"
    withdrawn = "withdrawn"
    stopped = "stopped"
    paused = "paused"


if TYPE_CHECKING:
    Place = Path | Address
else:
    Place = Path  # typer has no unions
"""Where a history is, in what a command was given; as text it has no password."""


def place_of(text: str) -> Place:
    """The path or the address of a storage."""
    from bo_suite.storage.addresses import Address
    from bo_suite.storage.paths import storage_place

    try:
        place = storage_place(text)
    except StorageError as error:
        stop(str(error), FAILURE)
    return place if isinstance(place, Address) else Path(text)  # as it was given, for messages


StorageArgument = Annotated[
    Place,
    typer.Argument(
        metavar="RUN.DB|URL",
        help="The file of the run's history, or postgresql://user@host/database?run=NAME.",
        parser=place_of,
    ),
]
IdArgument = Annotated[int, typer.Argument(metavar="ID", help="The id of the trial, as `ask` printed it.")]
AttemptOption = Annotated[
    int | None,
    typer.Option("--attempt", help="The attempt, if the trial was handed out more than once."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
SpaceOption = Annotated[
    Path | None, typer.Option("--space", metavar="FILE", help="The search space, a .toml or .json file.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Seed of the run.", show_default="0, or that of the history")
]
AcquisitionOption = Annotated[
    str | None,
    typer.Option(
        "--acquisition",
        metavar="NAME",
        help="How to choose points, such as upper-confidence-bound.",
        show_default="the Optimizer's, or that of the history",
    ),
]
FixedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fixed",
        metavar="NAME=VALUE",
        help="A parameter that has this value, such as a context; may be repeated.",
    ),
]
RobustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--robust",
        metavar="NAME=STD",
        help="The standard deviation of what is set of a parameter; may be repeated.",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=HEADING",
        help="The column of a parameter, if it is headed otherwise; may be repeated.",
    ),
]
ObjectiveArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEM|MODULE:FUNCTION",
        help="A name from `bo-suite problems`, or a function that takes a dict of parameters and returns a "
        "float, from a module that can be imported here.",
    ),
]
BudgetOption = Annotated[
    int, typer.Option("--budget", min=1, help="Number of trials, those in the history included.")
]
HistoryOption = Annotated[
    Place | None,
    typer.Option(
        "--storage",
        metavar="RUN.DB|URL",
        help="Store the history in this file or database, or continue the one there.",
        parser=place_of,
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Number of evaluations at once, a process each.")
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        help="Start no evaluation after this time, and do not wait for one that hangs.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="Kill an evaluation that takes longer; its trial has failed."
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        help="Start no evaluation after this time, such as 2030-01-31T18:00 (local time) or "
        "2030-01-31T18:00+00:00, and hand back the one that is running.",
    ),
]
RetriesOption = Annotated[
    int, typer.Option("--retries", min=0, help="How often a failed evaluation is repeated.")
]
GraceOption = Annotated[
    float,
    typer.Option("--grace", metavar="SECONDS", min=0.0, help="Time that the evaluation gets after SIGTERM."),
]
TargetOption = Annotated[
    float | None,
    typer.Option("--target", metavar="VALUE", help="End when a value as good as this was observed."),
]
CatchOption = Annotated[
    bool,
    typer.Option("--catch", help="Record an exception before any evaluation has finished, and continue."),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Save a convergence plot: .png, .pdf or .svg."),
]


@contextmanager
def existing(storage: Place) -> Iterator["History"]:
    """The history at a place, which needs no optimiser to be read or told."""
    from bo_suite.storage.history import History

    with closing(History.open(storage, None)) as history:
        yield history


@contextmanager
def created(storage: Place, space: "Space", goals: "Goals", seed: int) -> Iterator["History"]:
    """The history at a place, which is created if it is missing.

    Args:
        storage: the file or the address.
        space: of the history.
        goals: of the run.
        seed: of the run.
    """
    from bo_suite.storage.history import History
    from bo_suite.study.arguments import Settings, header_of

    header = header_of(space, None, seed, goals, Settings(None, None, None))
    with closing(History.open(storage, header)) as history:
        yield history


def searched_space(space: Path | None, header: "Header | None", storage: Place) -> "Space":
    """The space of the option, else that of the history."""
    from bo_suite.space.space import Space

    if space is not None:
        return Space.from_file(space)
    if header is None:
        stop(f"a new history needs --space FILE, got {storage}, which does not exist", USAGE)
    return header.space


def fixed_values(space: "Space", texts: list[str] | None) -> "Params":
    """The values of texts NAME=VALUE of --fixed.

    Raises:
        SpaceError: a text is wrong, or a context is not given.
    """
    from bo_suite.space.text import values_in

    values = values_in(space, texts or [])
    if missing := [name for name in space.contexts if name not in values]:
        given = shlex.quote(f"{missing[0]}=...")
        raise SpaceError(f"every context must be given, as in --fixed {given}, missing {missing}")
    return values


def deviations_in(space: "Space", texts: list[str] | None) -> dict[str, Any] | None:
    """The numbers of texts NAME=STD by name, not checked otherwise; None without any.

    Raises:
        SpaceError: a text is wrong, or a name occurs twice.
    """
    from bo_suite.space.text import name_in

    deviations: dict[str, Any] = {}
    for text in texts or []:
        name = name_in(space, text)
        if name in deviations:
            raise SpaceError(f"a standard deviation must be given once, got two of {name!r}")
        number = text[len(name) + 1 :]
        try:
            deviations[name] = float(number)
        except ValueError:
            deviations[name] = number
    return deviations or None


def headings_in(space: "Space", columns: list[str] | None) -> dict[str, str]:
    """The headings of texts NAME=HEADING, by the name of a parameter."""
    from bo_suite.space.text import name_in

    names = [(name_in(space, column), column) for column in columns or []]
    return {name: column[len(name) + 1 :] for name, column in names}


def stored_header(storage: Place | None) -> "Header | None":
    """The header of the history at a place; None if there is none."""
    from bo_suite.storage.paths import exists

    if storage is None or not exists(storage):
        return None
    with existing(storage) as history:
        return history.header


def chosen_seed(seed: int | None, header: "Header | None") -> int:
    """The seed of the option, else that of the history, else 0."""
    if seed is not None:
        return seed
    return 0 if header is None else header.seed


def named_acquisition(name: str | None, header: "Header | None") -> "Acquisition | None":
    """The acquisition of a name, else that of the history; None for the Optimizer's default."""
    if name is None:
        from bo_suite.storage.serialization import from_json

        stored = None if header is None else header.acquisition
        return None if stored is None else from_json(stored)
    from bo_suite import acquisition

    kinds = [getattr(acquisition, exported) for exported in acquisition.__all__]
    classes = {
        kind.__name__: kind
        for kind in kinds
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and issubclass(kind, acquisition.Acquisition)
    }
    for class_name, kind in classes.items():
        if class_name.lower() == name.lower().replace("-", "").replace("_", ""):
            chosen: Acquisition = kind()
            return chosen
    return stop(f"the acquisition must be one of {', '.join(classes)}, got {name!r}", USAGE)


def picture_path(path: Path) -> Path:
    """The path of a plot, checked before the run rather than after it."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        stop(f"the file name of a plot must end in .png, .pdf or .svg, got {path.name!r}", USAGE)
    if not path.absolute().parent.is_dir():
        stop(f"the folder of the plot must exist, got {str(path)!r}", USAGE)
    return path


def draw_convergence(result: "Result", minimum: float | None, path: Path) -> None:
    """Saves the convergence plot of a run."""
    from bo_suite.plot import plot_convergence

    try:
        plot_convergence(result, minimum=minimum).savefig(path)
    except OSError as error:
        stop(f"the plot cannot be written: {error}", FAILURE)


def draw_curves(storage: Place, trial: int | None, path: Path) -> None:
    """Saves the plot of the learning curves of a run, or of what is expected of one of them."""
    from bo_suite.plot import plot_curves

    try:
        plot_curves(storage, trial=trial).savefig(path)
    except OSError as error:
        stop(f"the plot cannot be written: {error}", FAILURE)

"""Options that commands share, and what they stand for."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bo_suite.cli.console import FAILURE, USAGE, stop

if TYPE_CHECKING:  # what a command needs, it imports when it runs
    from bo_suite.acquisition import Acquisition
    from bo_suite.storage.history import History
    from bo_suite.storage.trial import Header, Trial

StorageArgument = Annotated[Path, typer.Argument(metavar="RUN.DB", help="The history of the run, a file.")]
IdArgument = Annotated[int, typer.Argument(metavar="ID", help="The trial, as `ask` named it.")]
AttemptOption = Annotated[
    int | None,
    typer.Option("--attempt", help="Which attempt it was, of a trial that was handed out again."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
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


class Direction(StrEnum):
    """Which values are better."""

    minimize = "minimize"
    maximize = "maximize"


class State(StrEnum):
    """What has become of a trial."""

    running = "running"
    finished = "finished"
    failed = "failed"
    withdrawn = "withdrawn"


@contextmanager
def existing(storage: Path) -> Iterator["History"]:
    """The history in a file: to read it or to tell, no optimiser is needed."""
    from bo_suite.storage.history import History

    with closing(History.open(storage, None)) as history:
        yield history


def stored_header(storage: Path | None) -> "Header | None":
    """What the history in a file belongs to; None where there is no file yet."""
    from bo_suite.storage.paths import storage_path

    file = storage_path(storage)
    if storage is None or file is None or not file.exists():
        return None
    with existing(storage) as history:
        return history.header


def chosen_seed(seed: int | None, header: "Header | None") -> int:
    """The seed that was given, or else that of the history, or else 0."""
    if seed is not None:
        return seed
    return 0 if header is None else header.seed


def named_acquisition(name: str | None, header: "Header | None") -> "Acquisition | None":
    """The acquisition of a name, or else that of the history; None stands for the Optimizer's default."""
    from bo_suite import acquisition
    from bo_suite.storage.serialization import from_form

    if name is None:
        stored = None if header is None else header.acquisition
        return None if stored is None else from_form(stored)
    kinds = (getattr(acquisition, one) for one in acquisition.__all__)
    known = {
        kind.__name__: kind
        for kind in kinds
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and issubclass(kind, acquisition.Acquisition)
    }
    for one, kind in known.items():
        if one.lower() == name.lower().replace("-", "").replace("_", ""):
            found: Acquisition = kind()
            return found
    return stop(f"the acquisition must be one of {', '.join(known)}, got {name!r}", USAGE)


def picture_path(path: Path) -> Path:
    """The path of a picture, refused before the run rather than after it."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        stop(f"a picture must end in .png, .pdf or .svg, got {path.name!r}", USAGE)
    if not path.absolute().parent.is_dir():
        stop(f"the folder of the picture must exist, got {str(path)!r}", USAGE)
    return path


def draw_convergence(trials: Sequence["Trial"], direction: str, minimum: float | None, path: Path) -> None:
    from bo_suite.plot import plot_convergence

    try:
        plot_convergence(trials, direction, minimum=minimum).savefig(path)
    except OSError as error:
        stop(f"the picture cannot be written: {error}", FAILURE)

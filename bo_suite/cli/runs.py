"""`bo-suite runs`: the runs and suites of a database."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bo_suite.cli.console import (
    FAILURE,
    USAGE,
    confirmed,
    print_json,
    print_lines,
    print_table,
    sentences,
    stop,
)
from bo_suite.cli.options import JsonOption, Place, place_of

if TYPE_CHECKING:
    from bo_suite.storage.addresses import Address
    from bo_suite.storage.runs import StoredRun

_ROWS = {"run": "trials", "suite": "units"}


@sentences()
def runs(
    database: Annotated[
        Place, typer.Argument(metavar="URL", help="postgresql://user@host/database", parser=place_of)
    ],
    remove: Annotated[
        str | None,
        typer.Option("--remove", metavar="NAME", help="Remove a run with all its trials, for ever."),
    ] = None,
    kind: Annotated[
        Literal["run", "suite"] | None, typer.Option("--kind", help="Only runs, or only suites.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs and suites of a database, with the number of trials or units and the size on its disk.

    With --remove it says what will be lost, and asks; where nobody can answer, it needs --yes.
    """
    from bo_suite.storage.addresses import EXAMPLE, Address
    from bo_suite.storage.runs import runs as stored_runs

    if not isinstance(database, Address):
        stop(f"runs are those of a database: give its address, such as {EXAMPLE}, got {database}", USAGE)
    if yes and remove is None:
        stop("--yes needs --remove NAME", USAGE)
    listed = [run for run in stored_runs(database) if kind in (None, run.kind)]
    if remove is not None:
        _remove(database, [run for run in listed if run.name == remove], remove, yes=yes, as_json=as_json)
    elif as_json:
        print_json([_record(run) for run in listed])
    elif listed:
        rows = [(run.name, run.kind, _number(run), _size(run.size)) for run in listed]
        print_table(("name", "kind", "trials or units", "size"), rows)
    else:
        print_lines("the database has no run")


def _remove(database: "Address", found: "list[StoredRun]", name: str, *, yes: bool, as_json: bool) -> None:
    from bo_suite.storage.runs import remove_run

    if len(found) != 1:
        what = "is a run and a suite: give --kind" if found else "is none (`bo-suite runs URL` lists them)"
        stop(f"the run to remove must be one of the database, got {name!r}, which {what}", FAILURE)
    (run,) = found
    content = f"{run.kind} {run.name} with {_number(run)} {_ROWS[run.kind]}"
    if not yes and (as_json or not answerable()):
        stop(f"--remove needs --yes where it cannot ask; it would remove the {content}", USAGE)
    if not (yes or confirmed(f"Remove the {content}, for ever?")):
        stop("nothing was removed, since nobody has confirmed it", FAILURE)
    remove_run(database.sibling(run.name), run.kind)
    if as_json:
        print_json({"removed": _record(run)})
    else:
        print_lines(f"removed: the {content}")


def answerable() -> bool:
    """Whether somebody at a terminal can answer a question."""
    return sys.stdin.isatty()


def _record(run: "StoredRun") -> dict[str, object]:
    return {"name": run.name, "kind": run.kind, "rows": run.rows, "bytes": run.size}


def _number(run: "StoredRun") -> str:
    return "an unknown number of" if run.rows is None else f"{run.rows}"


def _size(size: int) -> str:
    """A number of bytes in one unit."""
    for unit, length in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if size < 1000 * length:
            return f"{size / length:.0f} {unit}"
    return f"{size / 1e12:.3g} TB"

"""`bo-suite bench`: comparing optimisers."""

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_suite.cli.console import USAGE, json_owns_stdout, print_json, print_lines, sentences, stop
from bo_suite.cli.options import JsonOption

if TYPE_CHECKING:
    import pandas as pd

    from bo_suite.bench import AnyMethod, Comparison, Records


@sentences()
def bench(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="smoke, synthetic, noisy, mixed, high-dimensional, tuning, tabular, field, a class of it "
            "such as field-mixed, names from `bo-suite problems`, or module:attribute of problems of your "
            "own; several with commas.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR|URL",
            help="Folder of the records, or postgresql://user@host/database?run=NAME; a run with records "
            "there continues.",
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="Names with commas, such as bo_suite,lfbo:mlp,tpe, or module:attribute of your own."
        ),
    ] = "bo_suite,random",
    seeds: Annotated[str, typer.Option(metavar="FIRST:END", help="Seeds, without the end.")] = "0:5",
    budget: Annotated[int, typer.Option(min=1, help="Evaluations of each run.")] = 50,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once, a process each.", show_default="cores")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which a run is ended.")] = None,
    seeds_per_batch: Annotated[
        int,
        typer.Option(
            "--seeds-per-batch", "--together", min=1, help="The most seeds that run as one tensor program."
        ),
    ] = 64,
    rerun_states: Annotated[
        list[str] | None,
        typer.Option(
            "--rerun",
            "--again",
            metavar="STATE",
            help="Run again units that are crashed, 'timed out', or running elsewhere; may be repeated.",
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=PYTHON", help="Run a method by another interpreter; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run methods on problems with several seeds, and summarise the results.

    The same command continues an interrupted suite, or adds seeds. `bo-suite report` draws the results.
    """
    with json_owns_stdout(as_json):
        from bo_suite.bench import compare, run_suite
        from bo_suite.storage.addresses import masked

        records = run_suite(
            suite,
            _methods(methods, python or []),
            _seeds(seeds),
            budget,
            out,
            workers=workers,
            time_limit=time_limit,
            together=seeds_per_batch,
            again=rerun_states or (),
        )
        comparison = compare(records)
    if as_json:
        print_json(summary(records, comparison))
    else:
        place = shlex.quote(masked(out))
        where = f"records: {place} (bo-suite report {place} draws them)"
        print_lines(*str(comparison).split("\n"), "", where)


def _methods(names: str, python: list[str]) -> "list[AnyMethod]":
    from bo_suite.bench import get_method

    interpreters = dict(one.split("=", 1) for one in python if "=" in one)
    wanted = [name.strip() for name in names.split(",")]
    if len(interpreters) < len(python) or set(interpreters) - set(wanted):
        stop(f"--python must be METHOD=PYTHON of a method in --methods, got {python}", USAGE)
    try:
        return [get_method(name, interpreters.get(name)) for name in wanted]
    except ImportError as error:
        stop(str(error), USAGE)


def _seeds(text: str) -> range:
    first, colon, end = text.partition(":")
    try:
        seeds = range(int(first), int(end)) if colon else range(0)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        stop(f"--seeds must be FIRST:END with 0 <= FIRST < END, got {text!r}", USAGE)
    return seeds


def summary(records: "Records", comparison: "Comparison") -> dict[str, Any]:
    """The sentences and the tables of a comparison, in JSON values."""
    tables = {"ranks": comparison.ranks.table, "summary": comparison.summary, "pairs": comparison.pairs}
    return {
        "sentences": list(comparison.sentences),
        "units": len(records.units),
        **{name: _rows(table) for name, table in tables.items()},
        "failures": _rows(comparison.failures),
    }


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as JSON values, null for what is not finite."""
    import json

    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows

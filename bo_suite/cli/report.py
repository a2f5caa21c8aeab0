"""`bo-suite report` and `bo-suite dashboard`: pages of a run or of a suite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_suite.cli.bench import summary
from bo_suite.cli.console import FAILURE, USAGE, print_json, print_lines, sentences, stop
from bo_suite.cli.options import JsonOption, Place, StorageArgument, picture_path, place_of

if TYPE_CHECKING:
    from bo_suite.bench import Comparison


@sentences()
def report(
    storage: Annotated[
        Place,
        typer.Argument(
            metavar="RUN.DB|DIR|URL",
            help="The file of a run's history, the folder of a suite's records, or the address of either.",
            parser=place_of,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page.",
            show_default="RUN.html beside RUN.db or here, DIR/report.html, or NAME_report/report.html here",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of a suite, also draw regret over evaluations and seconds: PNG, SVG or PDF.",
        ),
    ] = None,
    highlight: Annotated[
        str | None, typer.Option(metavar="METHOD", help="The method that the picture is about.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a run or a suite shows as an HTML page with figures.

    The page of a run is one file: its best and its recommended point, what the model believes, and how each
    point was chosen. The tables of a suite are written as CSV beside its page.
    """
    if highlight is not None and plot is None:
        stop("--highlight needs --plot", USAGE)
    of_run = not _is_suite(storage)
    if of_run and plot is not None:
        stop("--plot is for a suite (`bo-suite plot` draws a run), got a run", USAGE)
    picture = None if plot is None else picture_path(plot)
    try:
        page, facts = _of_run(storage, out) if of_run else _of_suite(storage, out, picture, highlight)
    except ImportError as error:
        stop(str(error), FAILURE)
    except OSError as error:
        stop(f"the report cannot be written: {error}", FAILURE)
    if as_json:
        print_json({"report": str(page)} | facts)
    else:
        print_lines(f"report: {page}", *([] if picture is None else [f"plot: {picture}"]))


def _is_suite(storage: Place) -> bool:
    """Whether a suite is at a place, or nothing."""
    if isinstance(storage, Path):
        return not storage.is_file()
    from bo_suite.storage.runs import has_run

    suite = has_run(storage, "suite")
    if suite and has_run(storage):
        stop(f"{storage} is both a run and a suite: report one by `report_run` or `bench.report`", FAILURE)
    return suite


def _of_run(storage: Place, out: Path | None) -> tuple[Path, dict[str, Any]]:
    from bo_suite.report import report_run

    return report_run(storage, out), {}


def _of_suite(
    source: Place, out: Path | None, picture: Path | None, highlight: str | None
) -> tuple[Path, dict[str, Any]]:
    """The path of the page, and what it says in JSON values."""
    from bo_suite import bench

    if picture is not None:
        _draw(bench.compare(source), picture, highlight)
    page, records = bench.report(source, out), bench.Records.read(source)
    return page, summary(records, bench.compare(records))


def _draw(comparison: "Comparison", picture: Path, highlight: str | None) -> None:
    from bo_suite.plot import plot_regret

    by_evaluation, by_second = comparison.overall_curves, comparison.overall_curves_over_time
    plot_regret(by_evaluation, by_second, highlight=highlight).savefig(picture)


@sentences()
def dashboard(
    storage: StorageArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 8080,
    host: Annotated[str, typer.Option(help="Address that the server listens at.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Show a run in optuna-dashboard while it proceeds, until Ctrl-C; nothing is changed there.

    The JSON is the address, once the history has been opened.
    """
    try:
        from optuna_dashboard import run_server

        from bo_suite.integrations.optuna_view import HistoryStorage
    except ImportError:
        stop("the dashboard needs optuna-dashboard: pip install 'bo-suite[dashboard]'", FAILURE)
    view = HistoryStorage(storage)
    address = f"http://{host}:{port}/dashboard/studies/0"
    if as_json:
        print_json({"url": address})
    else:
        print_lines(f"dashboard: {address} (Ctrl-C ends it)")
    try:
        run_server(view, host=host, port=port)
    except OSError as error:
        stop(f"the server cannot listen at {host}:{port}: {error}", FAILURE)

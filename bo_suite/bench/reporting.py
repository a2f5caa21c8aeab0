"""What a suite has shown, as one page that needs nothing else, and as tables."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bo_suite.bench.page import Page
from bo_suite.bench.records import Records
from bo_suite.bench.statistics import Comparison, compare


def report(folder: str | Path, out: Path | None = None) -> Path:
    """Writes what the suite in a folder has shown: a page, and beside it its tables as CSV.

    The page is one file without scripts, images or links to elsewhere. It states intervals, the number of
    seeds, and what crashed, timed out or failed; `compare` says how its numbers are computed.

    Args:
        folder: of a suite that `run_suite` has written.
        out: the page; `report.html` in the folder where None.

    Returns:
        The path of the page.

    Raises:
        DataError: a folder without a unit that has ended, or records that do not fit together.
    """
    folder = Path(folder)
    records = Records.read(folder)
    comparison = compare(records)
    commands = records.environments["command"].dropna().astype(str)
    page = render(records, comparison, "\n".join(dict.fromkeys(commands)))
    path = folder / "report.html" if out is None else Path(out)
    for name, frame in tables(records, comparison).items():
        frame.to_csv(path.parent / name, index=False)
    path.write_text(page, encoding="utf-8")
    return path


def render(records: Records, comparison: Comparison, command: str) -> str:
    """The page as HTML. All names and reasons are text in it, whatever they contain."""
    environment = Environment(
        loader=PackageLoader("bo_suite.bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        page=Page(records, comparison, command), files=list(tables(records, comparison))
    )


def tables(records: Records, comparison: Comparison) -> dict[str, pd.DataFrame]:
    """The tables of a report by the name of their files."""
    return {
        "summary.csv": comparison.summary,
        "ranks.csv": comparison.ranks.table,
        "pairs.csv": comparison.pairs,
        "problem_pairs.csv": comparison.per_problem_pairs,
        "finals.csv": comparison.finals,
        "curves.csv": comparison.curves,
        "overall_curves.csv": comparison.overall_curves,
        "overall_curves_over_time.csv": comparison.overall_curves_over_time,
        "profile.csv": comparison.profile,
        "profile_over_time.csv": comparison.profile_over_time,
        "failures.csv": comparison.failures,
        "units.csv": records.units,
    }

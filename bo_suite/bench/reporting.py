"""What a suite has shown, as one page that needs nothing else, and as tables.

Names of methods and reasons of failures are anybody's text. In the page they are text and no markup, and what
nobody would see is written out. In the tables texts are quoted, and none begins like a formula of a
spreadsheet.
"""

import csv
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bo_suite.bench.page import Page
from bo_suite.bench.records import Records
from bo_suite.bench.statistics import Comparison, compare
from bo_suite.values.describe import visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet may take for the beginning of a formula, the last four as East Asian wide letters."""


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
        _inert(frame).to_csv(path.parent / name, index=False, quoting=csv.QUOTE_NONNUMERIC)
    path.write_text(page, encoding="utf-8")
    return path


def _inert(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would compute."""
    return frame.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell)


def render(records: Records, comparison: Comparison, command: str) -> str:
    """The page as HTML. All names and reasons are text in it, whatever they contain."""
    environment = Environment(
        loader=PackageLoader("bo_suite.bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        page=Page(records, comparison, command), files=list(tables(records, comparison))
    )
    return "\n".join(map(visible, page.split("\n")))


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

"""The report of a suite: a page with figures, and tables as CSV.

Names of methods and reasons of failures may be any text. In the page they are text and no markup, with
invisible characters written out. In the tables they are quoted, and none begins like a formula of a
spreadsheet.
"""

import csv
import re
from pathlib import Path

import pandas as pd

from bo_suite.bench.page import page_facts
from bo_suite.bench.records import Records
from bo_suite.bench.sentences import environment
from bo_suite.bench.statistics import Comparison, compare
from bo_suite.bench.store import suite_place
from bo_suite.pages.drawing import plotly_script
from bo_suite.pages.words import seen
from bo_suite.storage.addresses import Location
from bo_suite.values.cells import inert

SCRIPT = "plotly.min.js"
"""Draws the figures of a page; lies beside it."""


def report(folder: Location, out: Path | None = None) -> Path:
    """Writes the report of a suite: a page, the script that draws its figures, and CSV tables.

    The page needs no network: all it loads is plotly.min.js, which is written beside it. It states intervals,
    the number of seeds, and what crashed, timed out or failed; `compare` defines its numbers.

    Args:
        folder: the folder or the address of a suite that `run_suite` has written.
        out: where to write the page; by default `report.html` in the folder, or in a new folder
            `NAME_report` for a suite NAME in a database.

    Returns:
        The path of the page.

    Raises:
        DataError: the suite holds no unit that has ended, or its records do not fit together.
        ImportError: plotly or jinja2 is not installed.
    """
    script = plotly_script()
    records = Records.read(folder)
    comparison = compare(records)
    commands = records.environments["command"].dropna().astype(str)
    page = render(records, comparison, "\n".join(dict.fromkeys(commands)))
    path = _page(folder) if out is None else Path(out)
    for name, frame in tables(records, comparison).items():
        _inert(frame).to_csv(path.parent / name, index=False, quoting=csv.QUOTE_NONNUMERIC)
    (path.parent / SCRIPT).write_text(script, encoding="utf-8")
    path.write_text(page, encoding="utf-8")
    return path


def _page(folder: Location) -> Path:
    """Where the page of a suite is written."""
    place = suite_place(folder)
    if isinstance(place, Path):
        return Path(str(folder)) / "report.html"
    beside = Path(re.sub(r"[^\w.-]", "_", place.run) + "_report")
    beside.mkdir(exist_ok=True)
    return beside / "report.html"


def _inert(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would compute."""
    return frame.map(lambda cell: inert(cell) if isinstance(cell, str) else cell)


def render(records: Records, comparison: Comparison, command: str) -> str:
    """The page as HTML. All names and reasons are text in it, whatever they contain."""
    facts = page_facts(records, comparison)
    facts |= {"command": command, "files": list(tables(records, comparison)), "script": SCRIPT}
    facts["undrawn"] = f"The figure needs {SCRIPT} beside this page."
    page = environment().get_template("report.html.j2").render(facts)
    return seen(page)


def tables(records: Records, comparison: Comparison) -> dict[str, pd.DataFrame]:
    """The tables of a report by the names of their files."""
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
        "feasibility.csv": comparison.feasibility,
        "units.csv": records.units,
    }

"""Sentences about a comparison, worded by the template sentences.j2 from the fields of its tables.

Names and reasons are written as a person sees them, on one line.
"""

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from bo_suite.bench.bootstrap import LEAST_SEEDS, LEAST_VALUES
from bo_suite.bench.pairs import LEAST_PAIRS
from bo_suite.values.describe import visible

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment  # belongs to an extra

    from bo_suite.bench.ranks import Ranks

_LETTERS = 200  # of a reason in a sentence


class Compared(Protocol):
    """What sentences are about: a `Comparison`."""

    @property
    def findings(self) -> Any:
        """Facts that are in no table."""

    @property
    def ranks(self) -> "Ranks":
        """Ranks of the methods."""

    @property
    def pairs(self) -> "pd.DataFrame":
        """A row a pair of methods."""

    @property
    def failures(self) -> "pd.DataFrame":
        """A row a method."""


def summary_sentences(comparison: Compared, most: int | None = None) -> tuple[list[str], list[str]]:
    """What was run and who leads; then what the data separate, what they do not show, and what failed.

    Args:
        comparison: what the sentences are about.
        most: if the leader is not separated from more methods than this, they are counted instead of each
            having a sentence.
    """
    leaders, rows = comparison.findings.leaders, comparison.pairs.to_dict("records")
    leader = comparison.ranks.table["method"].iloc[0] if leaders else None
    own = [row for row in rows if leader in (row["first"], row["second"])]
    facts = {
        "findings": comparison.findings,
        "ranks": comparison.ranks,
        "best": comparison.ranks.table.iloc[0].to_dict(),
        "ahead_of": [
            row["second"] if row["first"] == leader else row["first"]
            for row in own
            if row["better"] == leader
        ],
        "behind": [row for row in own if row["better"] not in (None, leader)],
        "undecided": [row for row in own if row["better"] is None],
        "failures": comparison.failures.to_dict("records"),
        "tests": int(comparison.pairs["p"].notna().sum()),
        "pairs": comparison.pairs["pairs"].max(),
        "most": math.inf if most is None else most,
    }
    module: Any = environment().get_template("sentences.j2").make_module(facts)
    return _lines(module.lead()), _lines(module.rest())


def pair_sentences(comparison: Compared) -> list[str]:
    """A sentence for each row of `pairs`."""
    tests = int(comparison.pairs["p"].notna().sum())
    module: Any = environment().get_template("sentences.j2").make_module({"tests": tests})
    return [_lines(module.pair_sentence(row))[0] for row in comparison.pairs.to_dict("records")]


@cache
def environment() -> "Environment":
    """The templates of this package; those of HTML escape what is put into them.

    Raises:
        ImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError("sentences and reports need jinja2: pip install 'bo-suite[report]'") from error
    made = Environment(
        loader=PackageLoader("bo_suite.bench"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "chance": chance,
        "counted": counted,
        "interval": interval,
        "last_line": last_line,
        "name": visible,
        "names": names,
        "number": number,
        "percent": percent,
    }
    made.tests["missing"] = missing
    made.globals |= {"LEAST_SEEDS": LEAST_SEEDS, "LEAST_VALUES": LEAST_VALUES, "LEAST_PAIRS": LEAST_PAIRS}
    return made


def missing(value: Any) -> bool:
    """Whether a cell is None or NaN."""
    return value is None or value != value


def number(value: float | None) -> str:
    """The value to three significant digits."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    rounded = float(f"{value:.3g}")
    if rounded == 0 or 1000 <= abs(rounded) < 1e6:
        return f"{rounded:,.0f}"
    return f"{rounded:#.3g}".removesuffix(".")


def interval(ends: tuple[float | None, float | None]) -> str:
    return "–" if any(map(missing, ends)) else f"{number(ends[0])} to {number(ends[1])}"


def percent(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def chance(p: float) -> str:
    """The p-value in one or two digits: "p = 0.012", "p = 3e-05" or "p < 1e-99"."""
    if p < 1e-99:
        return "p < 1e-99"
    if p < 0.001:
        return f"p = {p:.0e}"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def names(several: list[str]) -> str:
    shown = [visible(name) for name in several]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def last_line(reason: str | None) -> str:
    """The last line of a reason that has any letters, for the end of a sentence."""
    lines = [" ".join(line.split()) for line in (reason or "").splitlines() if line.strip()]
    return visible(lines[-1])[:_LETTERS].rstrip(".") if lines else "no reason given"


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]

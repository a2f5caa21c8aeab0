"""Sentences about a comparison, worded by the template sentences.j2 from the fields of its tables.

Names and reasons are written as a person sees them, on one line.
"""

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from bo_suite.bench.bootstrap import LEAST_SEEDS, LEAST_VALUES
from bo_suite.bench.pairs import LEAST_PAIRS
from bo_suite.pages.words import templates
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
    made = templates("bo_suite.bench")
    made.filters |= {"chance": chance, "last_line": last_line, "name": visible}
    made.globals |= {"LEAST_SEEDS": LEAST_SEEDS, "LEAST_VALUES": LEAST_VALUES, "LEAST_PAIRS": LEAST_PAIRS}
    return made


def chance(p: float) -> str:
    """The p-value in one or two digits: "p = 0.012", "p = 3e-05" or "p < 1e-99"."""
    if p < 1e-99:
        return "p < 1e-99"
    if p < 0.001:
        return f"p = {p:.0e}"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def last_line(reason: str | None) -> str:
    """The last line of a reason that has any letters, for the end of a sentence."""
    lines = [" ".join(line.split()) for line in (reason or "").splitlines() if line.strip()]
    return visible(lines[-1])[:_LETTERS].rstrip(".") if lines else "no reason given"


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]

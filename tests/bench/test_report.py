"""The report of a suite: what stands on its page, and in its tables."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bo_suite.bench.charts import Axis, Curve, Row, axis, dots, lines, rank_diagram, short
from bo_suite.bench.page import Page, level
from bo_suite.bench.records import Records
from bo_suite.bench.reporting import render, report, tables
from bo_suite.bench.statistics import compare
from bo_suite.bench.wording import number
from bo_suite.errors import DataError

METHODS = ("ours", "ours_replicates", "theirs", "tpe", "sobol", "random")
COMMAND = "bo-suite bench synthetic --methods ours,theirs --seeds 0:20 --budget 60 --out results"
CRASH = "NotPSDError: <b>not</b> positive definite & more"
EARLY = 4


def suite(
    *, problems: int = 2, methods: tuple[str, ...] = METHODS[:3], seeds: int = 4, budget: int = 12
) -> Records:
    """Random records in which all units finish."""
    generator = np.random.default_rng(0)
    names = [f"problem_{place}" for place in range(problems)]
    units, evaluations = [], []
    for place, problem in enumerate(names):
        for index, method in enumerate(methods):
            for seed in range(seeds):
                unit = {"problem": problem, "method": method, "seed": seed}
                together = seeds if method.endswith("replicates") else 1
                ended = {"state": "finished", "reason": None, "seconds": 9.0, "replicates": together}
                units.append({**unit, **ended, "environment": 0})
                decline = np.exp(-np.arange(budget) * 0.2 / (1 + index % 6))
                values = 10.0 ** (place - 3) * decline * generator.lognormal(0.0, 1.0, budget)
                seconds = 10.0 ** -(index % 6) * generator.lognormal(0.0, 0.3, budget)
                for evaluation in range(budget):
                    value = float(values[evaluation])
                    spent = {
                        "ask_seconds": seconds[evaluation],
                        "evaluate_seconds": 1e-4,
                        "tell_seconds": 1e-5,
                    }
                    observed = {"value": value, "true_value": value, "regret": value, **spent}
                    said = {"evaluation": evaluation + 1, "params": "{}", "provenance": "{}", "failure": None}
                    evaluations.append({**unit, **said, **observed})
    facts = {"minimum": 0.0, "best_known": 0.0, "noise": 0.0, "dim": 6, "budget": budget}
    where = {"python": "3.11.2", "platform": "Linux", "device": "cpu", "threads": 1, "commit": "2e0075b"}
    versions = json.dumps({"torch": "2.9.0", "numpy": "2.3.1"})
    return Records(
        problems=pd.DataFrame([{"problem": name, **facts} for name in names]),
        units=pd.DataFrame(units),
        evaluations=pd.DataFrame(evaluations),
        environments=pd.DataFrame([{"environment": 0, **where, "command": COMMAND, "versions": versions}]),
    )


def broken(records: Records) -> Records:
    """The records with a crashed unit, one that timed out, and a failed evaluation."""
    units, evaluations = records.units.copy(), records.evaluations.copy()
    first = units["problem"] == "problem_0"
    crashed = first & (units["method"] == "theirs") & (units["seed"] == 1)
    late = first & (units["method"] == "ours") & (units["seed"] == 2)
    units.loc[crashed, ["state", "reason"]] = ["crashed", CRASH]
    units.loc[late, ["state", "reason"]] = ["timed out", "60 s were over"]
    ended = units[crashed | late].set_index(["problem", "method", "seed"]).index
    keys = pd.MultiIndex.from_frame(evaluations[["problem", "method", "seed"]])
    evaluations = evaluations[~keys.isin(ended) | (evaluations["evaluation"] <= EARLY)].reset_index(drop=True)
    evaluations.loc[5, ["value", "true_value", "regret"]] = math.nan
    evaluations["failure"] = evaluations["failure"].astype(object)
    evaluations.loc[5, "failure"] = "ValueError: diverged"
    return replace(records, units=units, evaluations=evaluations)


def page_of(records: Records) -> str:
    return render(records, compare(records), COMMAND)


class Text(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        HTMLParser.__init__(self)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full() -> tuple[Records, str]:
    """A suite of the size that a report must carry, with failures, and its page."""
    records = broken(suite(problems=10, methods=METHODS, seeds=20, budget=60))
    return records, page_of(records)


def test_numbers_have_three_digits_and_written_powers_of_ten() -> None:
    given = (0.0, 1.0, 0.012345, 1234.5, 12345.6, 99999.0, 0.00012345, -2.5e-7, math.nan, math.inf, None)
    wanted = ["0", "1.00", "0.0123", "1230", "12300", "1.00×10⁵", "1.23×10⁻⁴", "−2.50×10⁻⁷", "–", "∞", "–"]
    assert [number(value) for value in given] == wanted


@pytest.mark.parametrize(("low", "high"), [(1e-9, 3.0), (0.2, 0.7), (3.0, 3.1), (1e-300, 1e300)])
def test_logarithmic_axes_have_few_ticks_in_order_within_their_ends(low: float, high: float) -> None:
    scale = Axis("x", low, high, log=True)
    ticks = scale.ticks()
    shares = [scale.share(tick) for tick in ticks]
    assert 2 <= len(ticks) <= 10
    assert shares == sorted(shares)
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)


def test_an_axis_of_one_value_or_none_that_can_be_drawn_still_has_a_length() -> None:
    for values in ([2.0], [0.0], [math.inf, math.nan], []):
        for log in (False, True):
            made = axis("x", values, log=log)
            assert made.low < made.high


def test_an_axis_refuses_ends_that_are_out_of_order_or_have_no_logarithm() -> None:
    with pytest.raises(DataError, match="low < high"):
        Axis("x", 1.0, 1.0)
    with pytest.raises(DataError, match="low > 0"):
        Axis("x", 0.0, 1.0, log=True)


def test_long_names_keep_both_ends() -> None:
    name = "an optimiser with a name of many words (a)"
    assert short(name).startswith("an opt")
    assert short(name).endswith("(a)")
    assert len(short(name)) < 20


def test_names_are_text_in_every_chart() -> None:
    name = "<script>"
    side = Axis("x", 0.0, 1.0)
    curve = Curve(name, 0, [0.0, 1.0], [0.0, 1.0])
    row = Row(name, 0, 1.0)
    for chart in (
        lines([curve], x=side, y=side, title=name, text=name),
        rank_diagram([row], [[name]], 1.0, title=name, text=name),
        dots([row], x=side, title=name, text=name),
    ):
        assert "<script>" not in chart
        assert "&lt;script&gt;" in chart


def test_long_curves_are_thinned_to_their_detail_and_keep_their_end() -> None:
    x = np.arange(5001.0)
    side = Axis("x", 0.0, 5000.0)
    curve = Curve("a", 0, x.tolist(), x[::-1].tolist(), detail=30)
    chart = lines([curve], x=side, y=side, title="t", text="t")
    (path,) = re.findall(r'class="line" d="([^"]*)"', chart)
    start = float(path[1:].split()[1].split("H")[0])
    assert path.count("H") <= 31
    assert start == 26.0  # the upper edge
    assert path.endswith("V186")  # the lower edge of a chart of 220, above its 34 for the ticks


def test_the_page_of_a_full_suite_is_below_one_megabyte_and_names_all(full: tuple[Records, str]) -> None:
    records, page = full
    text = Text(page).text
    assert len(page.encode()) < 1_000_000
    for name in (*METHODS, *records.problems["problem"]):
        assert name in text
    assert COMMAND in text
    for fact in ("3.11.2", "Linux", "2e0075b", "torch 2.9.0", "numpy 2.3.1"):
        assert fact in text


def test_the_page_shows_every_sentence_of_the_comparison() -> None:
    records = broken(suite())
    comparison = compare(records)
    text = " ".join(
        Text(render(records, comparison, COMMAND)).text.replace("\N{NO-BREAK SPACE}", " ").split()
    )
    plain = [sentence for sentence in comparison.sentences if not re.search(r"\de-?\d", sentence)]
    assert len(plain) > 3
    for sentence in plain:
        assert sentence in text


def test_many_methods_that_are_not_separated_from_the_leader_are_counted_in_the_summary() -> None:
    records = suite(methods=METHODS, seeds=2)
    text = Text(page_of(records)).text
    assert re.search(r"The data do not separate \w+ from [45] methods; see the pairs\.", text)


def test_the_page_refers_to_nothing_outside_itself(full: tuple[Records, str]) -> None:
    _, page = full
    parsed = Text(page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in parsed.elements}
    targets = [
        value
        for _, attributes in parsed.elements
        for key in ("href", "src")
        if (value := attributes.get(key))
    ]
    assert targets
    places = {attributes.get("id") for _, attributes in parsed.elements}
    assert all(target == "data:," or target.removeprefix("#") in places for target in targets)


def test_names_and_reasons_are_text_whatever_they_contain() -> None:
    names = ("<script>alert(1)</script>", 'a" onload="x', "{{ 7 * 7 }}")
    records = suite(methods=names, seeds=2)
    units = records.units.assign(state="crashed", reason="</table><img src=x onerror=alert(1)>")
    problems = {"problem_0": "<i>zero", "problem_1": "</style>&amp;"}
    named = [frame.replace({"problem": problems}) for frame in (records.problems, units, records.evaluations)]
    page = page_of(Records(*named, environments=records.environments.assign(command="<u>", versions="<s>")))
    parsed = Text(page)
    assert not {"script", "img", "i", "u", "s"} & {tag for tag, _ in parsed.elements}
    assert not any("onload" in attributes or "onerror" in attributes for _, attributes in parsed.elements)
    for name in (*names, *problems.values(), "</table><img src=x onerror=alert(1)>", "<s>"):
        assert name in parsed.text


def test_crashes_time_outs_and_failed_evaluations_are_shown_with_their_reasons() -> None:
    text = Text(page_of(broken(suite()))).text
    assert "2 of 24 units did not finish, and 1 evaluation failed." in text
    for reason in (CRASH, "60 s were over", "ValueError: diverged"):
        assert reason in text


def test_that_nothing_failed_is_said() -> None:
    assert "None: all of 24 units finished, and no evaluation failed." in Text(page_of(suite())).text


def test_seconds_of_replicates_that_ran_as_one_program_are_called_shares() -> None:
    said = "Seconds of ours_replicates are shares of up to 4 runs at once; `--together 1` times single"
    page = Page(suite(), compare(suite()), COMMAND)
    assert [said in figure.note for figure in page.overall] == [False, True, False, True]
    # In the summary, under the standings, in both charts over time, and in the section about time.
    assert Text(page_of(suite())).text.count(said) == 5
    assert "shares of" not in Text(page_of(suite(methods=("ours", "theirs")))).text


def test_the_standings_are_medians_of_what_counts_in_the_end() -> None:
    records = suite(problems=1, methods=("ours", "theirs"), seeds=6)
    gone = records.units["method"] == "theirs"
    records.units.loc[gone, ["state", "reason"]] = ["crashed", CRASH]
    found = compare(records)
    standings = {line.cells[0]: line.cells for line in Page(records, found, COMMAND).standings.rows}
    medians = found.finals.groupby("method")["normalized"].median()
    assert standings["ours"][3] == number(medians["ours"])
    assert standings["theirs"][3:5] == ("∞", "0.0%")


def test_the_summary_counts_no_separated_pair_among_those_that_are_not() -> None:
    records = suite(methods=METHODS[:2], seeds=4)
    found = compare(records)
    against = found.pairs.assign(separated=True, sentence="theirs is ahead.")
    many = replace(
        found, pairs=pd.concat([against] * 4), sentences=(*found.sentences[:2], *["theirs is ahead."] * 4)
    )
    assert "do not separate" not in Page(records, many, COMMAND).rest


def test_units_that_ended_early_are_shown_with_their_reasons() -> None:
    records = suite()
    records.units.loc[0, "reason"] = "the space is exhausted"
    page = Page(records, compare(records), COMMAND)
    assert page.failures_sentence.endswith("1 unit finished before the budget was spent.")
    (row,) = page.reasons.rows
    assert row.cells == ("ours", "ended early", "1", "the space is exhausted")
    place = [column.label for column in page.failures.columns].index("Ended early")
    assert {row.cells[0]: row.cells[place] for row in page.failures.rows}["ours"] == "1"


def test_intervals_are_spoken_of_only_where_there_are_any() -> None:
    notes = [
        Page(records, compare(records), COMMAND).overall[2].note
        for records in (suite(seeds=4), suite(seeds=5))
    ]
    assert ["95% interval" in note for note in notes] == [False, True]


def test_p_values_are_written_alike_in_cells_and_sentences() -> None:
    assert [level(p) for p in (0.5, 0.0123, 3e-5, math.nan)] == ["0.50", "0.012", "3×10⁻⁵", "–"]
    assert level(1e-120) == "<\N{NO-BREAK SPACE}1×10⁻⁹⁹"


def test_every_chart_and_table_has_a_name_for_those_who_do_not_see_it(full: tuple[Records, str]) -> None:
    parsed = Text(full[1])
    names = [attributes.get("id") for _, attributes in parsed.elements if attributes.get("id")]
    charts = [svg for svg in parsed.of("svg") if svg.get("role") == "img"]
    assert len(names) == len(set(names))
    assert len(charts) == 4 + 1 + 10 + 1
    for chart in charts:
        assert set((chart["aria-labelledby"] or "").split()) <= set(names)
    assert all(svg.get("role") == "img" or svg.get("aria-hidden") == "true" for svg in parsed.of("svg"))
    assert len(parsed.of("caption")) == len(parsed.of("table"))
    assert all(cell.get("scope") in ("row", "col") for cell in parsed.of("th"))
    regions = [part for part in parsed.of("div") if part.get("role") == "region"]
    assert len(regions) == len(parsed.of("table")) + 1
    assert all(region.get("tabindex") == "0" and region.get("aria-label") for region in regions)


def all_crashed() -> Records:
    records = suite()
    return replace(
        records,
        units=records.units.assign(state="crashed", reason=None),
        evaluations=records.evaluations.iloc[:0],
    )


def unknown() -> Records:
    records = suite()
    return replace(records, problems=records.problems.assign(minimum=math.nan, best_known=math.nan))


def no_regret() -> Records:
    records = suite()
    columns = ("value", "true_value", "regret", "ask_seconds", "tell_seconds")
    return replace(records, evaluations=records.evaluations.assign(**dict.fromkeys(columns, 0.0)))


def nothing_in_common() -> Records:
    records = suite()
    kept = (records.units["seed"] < 2) == (records.units["method"] == "theirs")
    return replace(records, units=records.units[kept])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: suite(methods=("ours",)), "a comparison takes two methods"),
        (lambda: suite(seeds=1), "With 1 seed there is no interval"),
        (lambda: suite(problems=1, seeds=1, budget=1), "1 problem"),
        (all_crashed, "24 of 24 units did not finish"),
        (unknown, "minimum not known"),
        (no_regret, "reached the same regret in all 8 pairs"),
        (nothing_in_common, "Ranks take two methods"),
    ],
    ids=[
        "one method",
        "one seed",
        "one evaluation",
        "all crashed",
        "unknown",
        "no regret",
        "nothing in common",
    ],
)
def test_suites_that_show_little_have_a_page_that_says_so(make: Callable[[], Records], said: str) -> None:
    page = page_of(make())
    assert said in Text(page).text
    assert not re.search(r">\s*(nan|NaN|None|inf)\s*<", page)


def test_the_report_is_written_with_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = broken(suite())
    monkeypatch.setattr(Records, "read", staticmethod(lambda folder: records))
    page = report(tmp_path)
    assert page == tmp_path / "report.html"
    assert page.read_text(encoding="utf-8") == render(records, compare(records), COMMAND)
    other = tmp_path / "elsewhere" / "other.html"
    other.parent.mkdir()
    assert report(tmp_path, other) == other
    assert other.read_bytes() == page.read_bytes()
    written = tables(records, compare(records))
    assert list(written) == [
        *("summary.csv", "ranks.csv", "pairs.csv", "problem_pairs.csv", "finals.csv", "curves.csv"),
        *("overall_curves.csv", "overall_curves_over_time.csv", "profile.csv", "profile_over_time.csv"),
        *("failures.csv", "units.csv"),
    ]
    assert {path.name for path in other.parent.iterdir()} == {"other.html", *written}
    for name, frame in written.items():
        back = pd.read_csv(tmp_path / name)
        assert list(back.columns) == list(frame.columns)
        wanted = frame.reset_index(drop=True).astype(back.dtypes.to_dict())
        pd.testing.assert_frame_equal(back, wanted, check_dtype=False)

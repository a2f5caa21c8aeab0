"""The report of a suite: its page, its figures and its tables."""

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bo_suite.bench.figures import Style, dot_figure, progress_figure
from bo_suite.bench.page import page_facts
from bo_suite.bench.records import Records
from bo_suite.bench.reporting import SCRIPT, render, report, tables
from bo_suite.bench.sentences import chance
from bo_suite.bench.statistics import compare
from bo_suite.pages.words import number

pytestmark = pytest.mark.skipif(find_spec("plotly") is None, reason="needs plotly (bo-suite[report])")

METHODS = ("ours", "ours_replicates", "theirs", "tpe", "sobol", "random")
COMMAND = "bo-suite bench synthetic --methods ours,theirs --seeds 0:20 --budget 60 --out results"
CRASH = "NotPSDError: <b>not</b> positive definite & more"
EARLY = 4


def suite(
    *, problems: int = 2, methods: tuple[str, ...] = METHODS[:3], seeds: int = 4, budget: int = 12
) -> Records:
    """Random records in which all units finish."""
    generator = np.random.default_rng(0)
    names = [f"problem_{number}" for number in range(problems)]
    units, evaluations = [], []
    for size, problem in enumerate(names):
        for index, method in enumerate(methods):
            for seed in range(seeds):
                unit = {"problem": problem, "method": method, "seed": seed}
                together = seeds if method.endswith("replicates") else 1
                ended = {"state": "finished", "reason": None, "seconds": 9.0, "replicates": together}
                units.append({**unit, **ended, "environment": 0})
                decline = np.exp(-np.arange(budget) * 0.2 / (1 + index % 6))
                values = 10.0 ** (size - 3) * decline * generator.lognormal(0.0, 1.0, budget)
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
    facts = {"minimum": 0.0, "best_known": 0.0, "noise": 0.0, "noise_model": None, "dim": 6, "budget": budget}
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


def facts_of(records: Records) -> dict[str, Any]:
    return page_facts(records, compare(records))


class Text(HTMLParser):
    """The elements of a page with their attributes, and its text without that of scripts."""

    def __init__(self, page: str) -> None:
        HTMLParser.__init__(self)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.inside = "", list[str](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        else:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full() -> tuple[Records, str]:
    """A suite of the size that a report must carry, with failures, and its page."""
    records = broken(suite(problems=10, methods=METHODS, seeds=20, budget=60))
    return records, page_of(records)


def test_numbers_and_p_values_have_few_digits() -> None:
    values = (0.0, 1.0, 0.012345, 1234.5, 99999.0, -2.5e-7, math.nan, math.inf, None)
    assert [number(value) for value in values] == [
        *("0", "1.00", "0.0123", "1,230", "100,000", "-2.50e-07", "–", "∞", "–")
    ]
    wanted = ["p = 0.50", "p = 0.012", "p = 3e-05", "p < 1e-99"]
    assert [chance(p) for p in (0.5, 0.0123, 3e-5, 1e-120)] == wanted


# Figures.


def curves_of(values: list[float], low: list[float], value: str = "regret") -> pd.DataFrame:
    frame = pd.DataFrame({"method": "a", "evaluation": range(1, len(values) + 1), value: values})
    return frame.assign(**{f"{value}_low": low, f"{value}_high": [2 * end for end in low]})


def test_a_curve_is_drawn_from_the_points_where_it_changes_within_its_interval() -> None:
    frame = curves_of([1.0, 0.5, 0.5, 0.5, 0.0, 0.0], [0.5, 0.25, 0.25, 0.25, math.nan, math.nan])
    low, high, line = progress_figure(frame, "evaluation", "regret", {"a": Style(0)}).data
    assert (line.x, line.y) == ((1, 2, 5, 6), (1.0, 0.5, 0.05, 0.05))  # 0 lies on the edge of the axis
    assert (low.x, low.y, high.y) == ((1, 2, 4), (0.5, 0.25, 0.25), (1.0, 0.5, 0.5))
    assert (high.fill, line.line.shape, line.name) == ("tonexty", "hv", "a")


@pytest.mark.parametrize("values", [[2.0], [0.0], [1e-300, 1e300], [math.inf], []], ids=str)
@pytest.mark.parametrize("value", ["share", "regret", "normalized"])
def test_any_values_can_be_drawn_on_an_axis_with_a_length(values: list[float], value: str) -> None:
    frame = curves_of(values, [math.nan] * len(values), value)
    figure = progress_figure(frame, "evaluation", value, {"a": Style(0)})
    low, high = figure.layout.yaxis.range
    assert -math.inf < low < high < math.inf


def test_every_method_has_a_style_of_its_own_in_all_figures() -> None:
    facts = facts_of(suite(methods=tuple(f"m{number:02d}" for number in range(20)), seeds=1, budget=2))
    looks = {}
    for _, _, figure in facts["overall"]:
        for line in figure.data:
            looks.setdefault(line.name, set()).add((line.line.color, line.line.dash, line.marker.symbol))
    assert len(looks) == 20
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == 20


@pytest.mark.parametrize("paper", ["#ffffff", "#16181c"])  # of the two schemes in the style sheet
def test_lines_have_contrast_in_both_colour_schemes(paper: str) -> None:
    def light(color: str) -> float:
        parts = np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for style in map(Style, range(8)):
        low, high = sorted([light(style.color), light(paper)])
        assert (high + 0.05) / (low + 0.05) >= 3.0


def test_names_are_text_in_figures_and_long_ones_lose_their_middle() -> None:
    name = "<b>an optimiser</b> with a name of many words (a)"
    figure = dot_figure({name: [1.0, 3.0], "b": [math.nan]}, {name: Style(0), "b": Style(1)}, "Seconds")
    label = figure.layout.yaxis.ticktext[0]
    assert label.startswith("&lt;b&gt;an opt")
    assert label.endswith("(a)")
    assert figure.data[1].x == (2.0,)


# The page.


def test_the_page_of_a_full_suite_is_below_one_megabyte_and_names_all(full: tuple[Records, str]) -> None:
    records, page = full
    text = Text(page).text
    assert len(page.encode()) < 1_000_000
    facts = ("3.11.2", "Linux", "2e0075b", "torch 2.9.0", "numpy 2.3.1")
    for part in (*METHODS, *records.problems["problem"], COMMAND, *facts):
        assert part in text


def test_the_page_shows_every_sentence_of_the_comparison() -> None:
    records = broken(suite())
    words = Text(page_of(records)).words
    sentences = compare(records).sentences
    assert len(sentences) > 5
    assert [sentence for sentence in sentences if sentence not in words] == []


def test_methods_that_are_not_separated_from_the_leader_are_counted_if_they_are_many() -> None:
    records = suite(methods=METHODS, seeds=2)
    found = compare(records)
    pattern = r"The data do not separate \w+ from [45] methods; see the pairs\."
    assert re.search(pattern, page_facts(records, found)["rest"])
    behind = found.pairs.assign(better=found.pairs["second"].where(found.pairs["second"] != "ours", "tpe"))
    assert "do not separate" not in page_facts(records, replace(found, pairs=behind))["rest"]


def test_the_page_refers_to_nothing_but_the_script_beside_it(full: tuple[Records, str]) -> None:
    parsed = Text(full[1])
    assert not re.search(r"https?:|//[a-z]|@import|url\(", full[1])
    assert not {"img", "iframe", "object"} & {tag for tag, _ in parsed.elements}
    anchors = {attributes.get("id") for _, attributes in parsed.elements}
    assert [link["src"] for link in parsed.of("script") if link.get("src")] == [SCRIPT]
    targets = [attributes["href"] for _, attributes in parsed.elements if attributes.get("href")]
    assert targets
    assert all(target == "data:," or str(target).removeprefix("#") in anchors for target in targets)


def test_names_and_reasons_are_text_whatever_they_contain() -> None:
    names = ("<script>alert(1)</script>", 'a" onload="x', "{{ 7 * 7 }}")
    records = suite(methods=names, seeds=2)
    units = records.units.assign(state="crashed", reason="</table><img src=x onerror=alert(1)>")
    problems = {"problem_0": "<i>zero", "problem_1": "</style>&amp;"}
    named = [frame.replace({"problem": problems}) for frame in (records.problems, units, records.evaluations)]
    page = page_of(Records(*named, environments=records.environments.assign(command="<u>", versions="<s>")))
    parsed = Text(page)
    assert not {"img", "i", "u", "s"} & {tag for tag, _ in parsed.elements}
    figures = [json.loads(script) for script in parsed.scripts if script.startswith("{")]
    assert len(figures) == len(parsed.of("figure")) == len(parsed.of("script")) - 2
    assert not any("onload" in attributes or "onerror" in attributes for _, attributes in parsed.elements)
    for name in (*names, *problems.values(), "</table><img src=x onerror=alert(1)>", "<s>"):
        assert name in parsed.text


def test_failures_are_shown_with_their_reasons() -> None:
    records = broken(suite())
    records.units.loc[0, "reason"] = "the space is exhausted"
    words = Text(page_of(records)).words
    assert "2 of 24 units did not finish, and 1 evaluation failed." in words
    assert "1 unit finished before the budget was spent." in words
    for reason in (CRASH, "60 s were over", "ValueError: diverged"):
        assert reason in words
    early = {"method": "ours", "state": "ended early", "reason": "the space is exhausted", "times": 1}
    assert early in facts_of(records)["reasons"]
    assert "None: all of 24 units finished, and no evaluation failed." in Text(page_of(suite())).words


def test_seconds_of_replicates_that_ran_as_one_program_are_called_shares() -> None:
    note = "Seconds of ours_replicates are shares of up to 4 runs at once; with --seeds-per-batch 1"
    # In the summary, in both figures over time, and in the section about time.
    assert Text(page_of(suite())).words.count(note) == 4
    assert "shares of" not in Text(page_of(suite(methods=("ours", "theirs")))).text


def test_the_standings_are_medians_at_the_end_of_the_budget() -> None:
    records = suite(problems=1, methods=("ours", "theirs"), seeds=6)
    gone = records.units["method"] == "theirs"
    records.units.loc[gone, ["state", "reason"]] = ["crashed", CRASH]
    ours, theirs = facts_of(records)["standings"]
    medians = compare(records).finals.groupby("method")["normalized"].median()
    assert ours["normalized"] == medians["ours"]
    assert (theirs["method"], theirs["normalized"], theirs["share"]) == ("theirs", math.inf, 0.0)


def test_intervals_are_mentioned_only_if_there_are_any() -> None:
    notes = [Text(page_of(suite(seeds=seeds))).words for seeds in (4, 5)]
    assert ["seeds, with its 95% interval. Lower" in note for note in notes] == [False, True]


def test_every_figure_and_table_has_a_name_for_those_who_do_not_see_it(full: tuple[Records, str]) -> None:
    parsed = Text(full[1])
    names = [attributes.get("id") for _, attributes in parsed.elements if attributes.get("id")]
    assert len(names) == len(set(names))
    charts = [part for part in parsed.of("div") if part.get("role") == "img"]
    assert len(charts) == len(parsed.of("figure")) == 4 + 1 + 10 + 1
    for chart in charts:
        assert {chart["aria-labelledby"], chart["aria-describedby"]} <= set(names)
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


def of_a_noise_model() -> Records:
    records = suite()
    return replace(records, problems=records.problems.assign(noise_model="BbobNoise()"))


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
        (lambda: suite(methods=("ours",)), "a comparison needs two methods"),
        (lambda: suite(seeds=1), "With 1 seed there is no interval"),
        (lambda: suite(problems=1, seeds=1, budget=1), "1 problem"),
        (all_crashed, "24 of 24 units did not finish"),
        (unknown, "minimum not known"),
        (of_a_noise_model, "noise that depends on the value"),
        (no_regret, "reached the same regret in all 8 pairs"),
        (nothing_in_common, "Ranks need two methods"),
    ],
    ids=[
        "one method",
        "one seed",
        "one evaluation",
        "all crashed",
        "unknown",
        "noise model",
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
    assert {path.name for path in other.parent.iterdir()} == {"other.html", SCRIPT, *written}
    for name, frame in written.items():
        back = pd.read_csv(tmp_path / name)
        assert list(back.columns) == list(frame.columns)
        wanted = frame.reset_index(drop=True).astype(back.dtypes.to_dict())
        pd.testing.assert_frame_equal(back, wanted, check_dtype=False)


def test_without_plotly_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"pip install 'bo-suite\[report\]'"):
        report(tmp_path)

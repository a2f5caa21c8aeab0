"""Text of a user is text wherever it goes: a terminal, a log, a picture, a page, a spreadsheet, a file."""

import csv
import io
import json
import logging
import sqlite3
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_report import Text as Parsed
from test_report import page_of, suite
from typer.testing import CliRunner

import bo_suite.plot
from bo_suite import Choice, Float, Mixture, Optimizer, Space, minimize
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.bench import run_replicates, run_suite
from bo_suite.bench.peers.baselines import Random
from bo_suite.bench.records import Records
from bo_suite.bench.reporting import report
from bo_suite.bench.simulation import CurveTask, RandomCurves, simulate
from bo_suite.cli import app, main
from bo_suite.errors import DataError
from bo_suite.plot import plot_regret
from bo_suite.plot.style import draw_name
from bo_suite.problems import Problem
from bo_suite.problems.curves import SlowStarters
from bo_suite.run.schedulers import ASHA
from bo_suite.values.describe import visible

needs_plotly = pytest.mark.skipif(find_spec("plotly") is None, reason="needs plotly (bo-suite[report])")


MARKUP = (
    "$lr_$wd",
    "$x^$",
    "$a_{$",
    r"\frac",
    r"\$",
    "$",
    "_x",
    "a & b % c # d ~ e",
    "{{ 7 * 7 }}",
    "[red]x[/red]",
)
UNSEEN = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31m": r"\x9b31m",
    "two\nlines\r\n": r"two\nlines\r\n",
    "a\tb\0c\x7f": r"a\tb\x00c\x7f",
    "\u202egnp.exe\u2066": r"\u202egnp.exe\u2066",
    "\ufeff\u200b\u2028": r"\ufeff\u200b\u2028",
    "\udc80": r"\udc80",
    "\U000e0041": r"\U000e0041",
}
ORDINARY = ("", "lr", "Größe", "学习率", "π ± 2σ²", "a\N{NO-BREAK SPACE}b", "e\u0301", "🙂", "C:\\new")
STORED = tuple(name for name in UNSEEN if name != "\udc80")
FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1")


def unseen(text: str) -> list[str]:
    """What is in a text but must not be in what a person sees, but for the ends of lines."""
    return [one for one in text if one != "\n" and visible(one) != one]


@pytest.mark.parametrize(("text", "shown"), UNSEEN.items())
def test_what_a_terminal_obeys_or_nobody_sees_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(f"ä{text}b") == f"ä{shown}b"


@pytest.mark.parametrize("text", ORDINARY + MARKUP)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


# The terminal.


@pytest.fixture
def run_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A history whose names, options and reasons are hostile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    names = [*UNSEEN, "ä[red]"]
    space = Space({name: Choice((f"{name}1", f"{name}2")) for name in names[:7]} | {names[-1]: Float(0, 1)})
    optimizer = Optimizer(space, storage="run.db")
    optimizer.ask(4)
    optimizer.tell(0, 1.0)
    for number, text in enumerate(("".join(UNSEEN), "[bold]x"), 1):
        optimizer.fail(number, text)
    optimizer.close()
    return "run.db"


def call(*arguments: str) -> str:
    """What a person sees of `bo-suite ARGUMENTS`, on both streams."""
    return CliRunner().invoke(app, arguments).output


@pytest.mark.parametrize(
    "arguments",
    [
        ("trials", "run.db"),
        ("trials", "run.db", "--top", "1"),
        ("best", "run.db"),
        ("ask", "run.db"),
        ("tell", "run.db", "3", "0.5"),
        ("fail", "run.db", "3", "no\x1b[2J\u202e\udcff"),
        ("withdraw", "run.db", "3"),
        ("tell", "run.db", "1", "0.5"),
        ("trials", "\x1b]0;none\x07.db"),
        ("trials", "none\udcff.db"),
        ("plot", "run.db", "--out", "\x1b]0;a\x07.png"),
        ("plot", "run.db", "--out", "a\x1b.gif"),
        ("ask", "new.db", "--space", "\x1b]0;a\x07.toml"),
        ("ask", "new.db", "--space", "hostile.toml"),
        ("minimize", "\x1b]0;a\x07"),
        ("minimize", "\x1b]0;a\x07:f"),
        ("minimize", "branin", "--acquisition", "\x1b[31m"),
        ("import", "run.db", "hostile.csv"),
        ("import", "run.db", "\x1b]0;a\x07.csv"),
        ("import", "run.db", "hostile.csv", "--value", "\x1b[31m"),
        ("export", "run.db", "--out", "\x1b]0;a\x07/none.csv"),
        ("enqueue", "run.db", "\x1b]0;title\x07=0.5"),
        ("enqueue", "run.db", "--params", "\x1b[31m"),
        ("enqueue", "run.db", "--list"),
        ("forget", "run.db", "0", "\x1b]0;a\x07"),
        ("space", "run.db"),
        ("space", "run.db", "--edit", "hostile.toml"),
        ("history", "run.db"),
        ("predict", "run.db", "\x1b[31m=1"),
        ("report", "run.db", "--out", "\x1b]0;a\x07/none.html"),
        ("bench", "\x1b[31m", "--out", "x"),
        ("bench", "branin", "--out", "x", "--methods", "\x1b[31m"),
        ("report", "\x1b]0;a\x07"),
        ("\x1b]0;a\x07",),
        ("trials", "run.db", "--\x1b]0;a\x07"),
        ("trials", "run.db", "--state", "\x1b]0;a\x07"),
    ],
    ids=lambda arguments: visible(" ".join(arguments)),
)
def test_no_text_of_a_user_drives_the_terminal(run_db: str, arguments: tuple[str, ...]) -> None:
    Path("hostile.csv").write_text('a\x1b]0;t,value\n"\x1b[31m",1\n')
    Path("hostile.toml").write_text('["a\\u001b]0;t"]\ntype = "fl\\u001boat"\n')
    printed = call(*arguments)
    assert printed.strip()
    assert unseen(printed) == []


def test_tables_show_names_options_and_reasons_written_out(run_db: str) -> None:
    printed = call("trials", run_db)
    for shown in [*UNSEEN.values()][:7]:
        assert shown in printed
        assert f"{shown}1" in printed
    assert "ä[red]" in printed
    assert "[bold]x" in printed
    assert "".join(UNSEEN.values()) in printed
    assert len([line for line in printed.splitlines() if line.strip()]) == 6, "a row is a line"


def test_json_gives_texts_back_as_they_are(run_db: str) -> None:
    printed = call("trials", run_db, "--json")
    assert printed.isascii()
    assert unseen(printed) == []
    first = json.loads(printed)[0]
    assert set(UNSEEN) - set(first["params"]) == {"\U000e0041"}


@pytest.mark.parametrize("command", [("trials", "run.db"), ("trials", "--help"), ("problems",)])
def test_an_encoding_that_has_little_is_enough(
    run_db: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["bo-suite", *command])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    stream.flush()
    printed = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert len(printed) > 100
    if command == ("trials", "run.db"):
        assert r"\xe4[red]" in printed


def test_the_progress_bar_and_the_log_are_one_line_of_seen_text(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "".join(UNSEEN)
    space = Space({f"[red]{hostile}": Float(0, 1)})

    def fails(params: dict[str, float]) -> float:
        raise ValueError(hostile)

    with caplog.at_level(logging.INFO, "bo_suite"):
        result = minimize(fails, space, budget=2, retries=1, catch=Exception)
    assert all(trial.state == "failed" for trial in result.trials)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("evaluated again" in message for message in messages) == 2
    seen = [line for message in messages for line in message.split("\n")]
    assert [ascii(line) for line in seen if unseen(line)] == []
    assert sum("\n" in message for message in messages) == 1  # the first, with its traceback
    error = capsys.readouterr().err
    assert (hostile in error) is False


# Pictures.


def texts_of(figure: Figure, folder: Path) -> set[str]:
    """The texts in the SVG of a figure."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(folder / "figure.svg")
    parsed = Parsed((folder / "figure.svg").read_text(encoding="utf-8"))
    return {line.strip() for line in parsed.text.splitlines()}


@pytest.mark.parametrize("name", [*MARKUP, *UNSEEN], ids=visible)
def test_a_name_is_drawn_letter_by_letter(name: str, tmp_path: Path) -> None:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    for text in (axes.title, axes.xaxis.label, axes.annotate("", (0.5, 0.5))):
        draw_name(text, name)
    figure.savefig(tmp_path / "figure.png")
    assert visible(name) in texts_of(figure, tmp_path)


@pytest.mark.parametrize("names", [MARKUP[:8], tuple(UNSEEN)[:6]], ids=["markup", "unseen"])
def test_pictures_show_methods_letter_by_letter(names: tuple[str, ...], tmp_path: Path) -> None:
    rows = [
        {"method": name, "evaluation": at, "optimizer_seconds": 0.1 * at, "normalized": 1 / (at + place)}
        for place, name in enumerate(names, 1)
        for at in range(1, 5)
    ]
    table = pd.DataFrame(rows)
    table["normalized_low"] = table["normalized_high"] = table["normalized"]
    drawn = texts_of(plot_regret(table, table, highlight=names[0]), tmp_path)
    assert drawn >= set(map(visible, names))
    plain = {name: f"method {place}" for place, name in enumerate(names)}
    renamed = table.replace({"method": plain})
    drawn = texts_of(plot_regret(renamed, names={short: name for name, short in plain.items()}), tmp_path)
    assert drawn >= set(map(visible, names))
    figure = plot_regret(table)
    figure.axes[0].legend()  # of the user, who gets labels that matplotlib parses
    figure.draw_without_rendering()


def test_a_name_is_no_tex_where_the_user_sets_all_in_tex() -> None:
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        text = Text(0, 0, "")
        draw_name(text, "50%_$a$")
    assert (text.get_text(), text.get_usetex(), text.get_parse_math()) == ("50%_$a$", False, False)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(MARKUP[:8], id="markup"),
        pytest.param(tuple(UNSEEN), id="unseen", marks=pytest.mark.slow),
    ],
)
def test_pictures_of_a_model_show_parameters_letter_by_letter(names: tuple[str, ...], tmp_path: Path) -> None:
    space = Space({name: Float(0, 1) for name in names} | {"kind": Choice(["$a$", "\x1b[31m", "<b>"])})
    with closing(Optimizer(space)) as optimizer:
        for trial in optimizer.ask(5):
            optimizer.tell(trial, trial.params[names[0]])
        shown = set(map(visible, names))
        for draw in (bo_suite.plot.plot_slices, bo_suite.plot.plot_importance, bo_suite.plot.plot_parallel):
            drawn = texts_of(draw(optimizer), tmp_path)
            assert drawn >= shown
        drawn = texts_of(bo_suite.plot.plot_contour(optimizer, names[0], "kind"), tmp_path)
        assert drawn >= {visible(names[0]), "$a$", r"\x1b[31m", "<b>"}
        drawn = texts_of(bo_suite.plot.plot_cross_validation(optimizer), tmp_path)
        assert all(unseen(text) == [] for text in drawn)


def test_a_triangle_shows_parts_letter_by_letter(tmp_path: Path) -> None:
    parts = ("$a$", "\x1b[31m", "a_b")
    mixture = Mixture(parts)
    with closing(Optimizer(Space(mixture.parameters, [mixture]))) as optimizer:
        for first in (0.1, 0.3, 0.5):
            optimizer.add(dict(zip(parts, (first, 0.5 - first, 0.5), strict=True)), first)
        drawn = texts_of(bo_suite.plot.plot_ternary(optimizer), tmp_path)
    assert drawn >= set(map(visible, parts))


def test_a_front_shows_outcomes_letter_by_letter(tmp_path: Path) -> None:
    names = ("$a$", "\x1b[31m")
    with closing(
        Optimizer(Space({"x": Float(0, 1)}), direction=dict.fromkeys(names, "minimize"))
    ) as optimizer:
        for x in (0.1, 0.5, 0.9):
            optimizer.add({"x": x}, {names[0]: x, names[1]: 1.0 - x})
        drawn = texts_of(bo_suite.plot.plot_pareto(optimizer), tmp_path)
    assert all(any(visible(name) in text for text in drawn) for name in names)


def test_curves_show_an_outcome_letter_by_letter(tmp_path: Path) -> None:
    direction = {"$a$": "minimize"}
    with closing(Optimizer(Space({"x": Float(0, 1)}), direction=direction, scheduler=ASHA(3))) as optimizer:
        for _ in range(4):
            trial = optimizer.ask()
            for step in (1, 2, 3):
                if optimizer.report(trial, step, trial.params["x"] + 1 / step) == "stop":
                    break
            else:
                optimizer.tell(trial, {"$a$": trial.params["x"]})
        for draw in (bo_suite.plot.plot_curves, bo_suite.plot.plot_rungs):
            drawn = texts_of(draw(optimizer), tmp_path)
            assert all(unseen(text) == [] for text in drawn)
            assert any("$a$" in text for text in drawn)


def test_simulated_time_shows_methods_letter_by_letter(tmp_path: Path) -> None:
    names = ("$a$", "\x1b[31m", "_b")
    problem = SlowStarters(3)
    run = simulate(problem, RandomCurves().start_curves(CurveTask.of(problem, 0)), seconds=20.0)
    drawn = texts_of(bo_suite.plot.plot_simulated_time({name: [run] for name in names}), tmp_path)
    assert drawn >= set(map(visible, names))


def test_every_picture_is_known_here() -> None:
    """A new one that shows names needs a test above."""
    without_names = {"plot_convergence", "plot_cross_validation"}
    of_parameters = {"plot_contour", "plot_importance", "plot_parallel", "plot_slices", "plot_ternary"}
    others = {"plot_curves", "plot_pareto", "plot_regret", "plot_rungs", "plot_simulated_time"}
    assert set(bo_suite.plot.__all__) == without_names | of_parameters | others


# Reports.


def named(names: tuple[str, ...], reason: str) -> Records:
    """Records of methods and a problem with such names, of which one failed for the reason."""
    records = suite(methods=names, seeds=2)
    units = records.units.assign(state="crashed", reason=reason)
    frames = [frame.replace({"problem": {"problem_0": names[0]}}) for frame in (records.problems, units)]
    evaluations = records.evaluations.replace({"problem": {"problem_0": names[0]}})
    return Records(*frames, evaluations, environments=records.environments.assign(command="".join(names)))


@needs_plotly
def test_a_page_is_seen_text_that_can_be_stored(tmp_path: Path) -> None:
    page = page_of(named(STORED, "".join(STORED)))
    assert unseen(page) == []
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    text = Parsed(page).text
    for name in STORED:
        assert "\n".join(map(visible, name.split("\n"))) in text


@needs_plotly
def test_no_text_of_a_table_is_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = ("a\r=1", 'a"\n=1', "a,=1", "a;=1")
    records = named((*FORMULAS, *inside), "=HYPERLINK(1)")
    monkeypatch.setattr(Records, "read", staticmethod(lambda folder: records))
    report(tmp_path)
    cells = []
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells += [cell for row in csv.reader(file) for cell in row]
    begin = [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))]
    assert all(np.isfinite(float(cell)) for cell in begin), "numbers alone begin so"
    assert {*(f"'{name}" for name in FORMULAS), *inside} <= set(cells)
    assert "'=HYPERLINK(1)" in cells
    units = pd.read_csv(tmp_path / "units.csv")
    assert set(units["method"].str.removeprefix("'")) == {*FORMULAS, *inside}


@needs_plotly
def test_names_that_cannot_be_stored_are_refused_and_others_run(tmp_path: Path) -> None:
    space = Space({"\udc80": Float(0, 1)})
    problem = Problem("two\nlines\x1b", space, lambda params: params["\udc80"], minimum=0.0)
    method = Random(name="=1\x1b[31m")
    records = run_suite(problem, method, range(1), 3, tmp_path / "suite", workers=1)
    assert len(records.evaluations) == 3
    report(tmp_path / "suite")
    strange = Problem("a\udc80", space, lambda params: 0.0)
    with pytest.raises(DataError, match=r"no lone surrogates, which cannot be stored, got 'a\\udc80'"):
        run_suite(strange, method, range(1), 3, tmp_path / "other", workers=1)
    assert run_replicates(strange, LogExpectedImprovement(), range(1), 3).best.shape == (1, 3)


def test_a_name_with_a_lone_surrogate_survives_the_store(tmp_path: Path) -> None:
    space = Space({"\udc80": Choice(("\ud800", "b")), "\0": Float(0, 1)})
    with_file = Optimizer(space, storage=tmp_path / "run.db")
    asked = with_file.ask()
    with_file.fail(asked, "\udc80")
    with_file.add({"\udc80": "\ud800", "\0": 0.5}, 1.0)
    with_file.close()
    again = Optimizer.resume(tmp_path / "run.db")
    assert again.space == space
    assert again.best.params == {"\udc80": "\ud800", "\0": 0.5}
    assert again.trials[0].reason == r"\udc80"
    with sqlite3.connect(tmp_path / "run.db") as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (2,)
    connection.close()

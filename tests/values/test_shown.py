"""What a console and a notebook show of trials, results, spaces and optimisers."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bo_suite import Choice, Float, Int, Optimizer, Result, Space, minimize
from bo_suite.storage.trial import Trial
from bo_suite.study.tables import to_frame
from bo_suite.values.describe import visible

SPACE = Space({"lr": Float(1e-5, 1e-1, log=True), "depth": Int(1, 12), "kernel": Choice(["rbf", "poly"])})
WIDE = Space(
    {f"a rather long name of parameter {place}": Float(0, 1) for place in range(300)}
    | {
        "many": Choice([f"option {place} of many" for place in range(2000)]),
        "text": Choice(["x" * 5000, "y"]),
    }
)
HOSTILE = "<script>alert('1')</script>\x1b]0;t\x07\n\udc80&"


def loss(params: dict) -> float:
    if params["depth"] == 7:
        raise ValueError("no luck, " * 30)
    return (params["lr"] - 1e-3) ** 2 * 1e6 + (params["depth"] - 4) ** 2


@pytest.fixture(scope="module")
def result() -> Result:
    return minimize(
        loss,
        SPACE,
        budget=8,
        progress=False,
        callbacks=[lambda o, t: "done" * (t.id == 6) or None],
        catch=ValueError,
    )


@pytest.fixture(scope="module")
def wide() -> list[Trial]:
    optimizer = Optimizer(WIDE)
    optimizer.fail(optimizer.ask(), f"{HOSTILE} and so on " * 50)
    optimizer.tell(optimizer.ask(), 1e-300, std=0.1)
    return [optimizer.ask(), *optimizer.trials]


def shown(result: Result, wide: list[Trial]) -> list[object]:
    hostile = Space({HOSTILE: Choice((HOSTILE, "b")), "x": Float(0, 1)})
    optimizer = Optimizer(hostile)
    optimizer.fail(optimizer.ask(), HOSTILE)
    optimizer.add({HOSTILE: HOSTILE, "x": 0.5}, 1.0)
    of_wide = Result(wide, "maximize", HOSTILE * 40, WIDE)
    of_hostile = Result(optimizer.trials, "minimize", HOSTILE, hostile)
    empty = Result((), "minimize", None, SPACE)
    plain = [result, *result.trials, SPACE, WIDE, *wide, of_wide, Optimizer(WIDE), empty]
    return [*plain, hostile, optimizer, *optimizer.trials, of_hostile]


def test_reprs_are_a_few_lines_of_eighty_columns_of_seen_text(result: Result, wide: list[Trial]) -> None:
    for one in shown(result, wide):
        lines = repr(one).split("\n")
        assert len(lines) <= 26
        assert max(map(len, lines)) <= 79
        assert all(visible(line) == line for line in lines)


def test_what_reprs_say(result: Result) -> None:
    lines = repr(result).split("\n")
    assert lines[0] == "Result(minimize, 7 trials (6 finished, 1 failed))"
    assert lines[1].startswith(f"best: Trial({result.best.id}, finished, value=")
    assert lines[-1] == "stopped: done"
    failed = next(trial for trial in result.trials if trial.state == "failed")
    assert repr(failed).startswith(f"Trial({failed.id}, failed (ValueError: no luck, no luck, ")
    assert "depth=7" in repr(failed)
    trial = replace(
        result.best, value=0.25, std=0.01, params={"lr": 0.001234567, "depth": 3, "kernel": "rbf"}
    )
    start = f"Trial({trial.id}, finished, value=0.25, std=0.01"
    assert repr(trial) == f"{start}: lr=0.00123457, depth=3, kernel='rbf')"
    assert eval(repr(SPACE)) == SPACE
    assert "... 291 more" in repr(WIDE)
    assert repr(Optimizer(SPACE)) == "Optimizer(minimize, 0 trials, AdaptiveImprovement)"


class Elements(HTMLParser):
    """Tags in order, and the text of cells and captions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_notebooks_show_small_tables_whose_text_is_escaped(result: Result, wide: list[Trial]) -> None:
    for one in shown(result, wide):
        text = one._repr_html_()  # type: ignore[attr-defined]
        assert len(text) < 30_000
        parsed = Elements(text)
        assert not parsed.open
        assert set(parsed.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert parsed.tags.count("tr") <= 13
        assert all(visible(cell) == cell for cell in parsed.cells)
    cells = Elements(result._repr_html_()).cells
    assert cells[:6] == [
        "minimize, 7 trials (6 finished, 1 failed); the best",
        *("id", "value", "lr", "depth", "kernel"),
    ]
    assert cells[6] == str(result.best.id)


def test_a_frame_shows_parameters_first_the_outcome_last_and_times_as_times(result: Result) -> None:
    frame = result.to_frame()
    assert list(frame.columns) == [
        *("id", "param_lr", "param_depth", "param_kernel"),
        *("std", "reason", "attempt", "source", "fit_ms", "search_ms", "started", "ended", "seconds"),
        *("state", "value"),
    ]
    for name in ("started", "ended"):
        assert isinstance(frame[name].dtype, pd.DatetimeTZDtype)
        assert str(frame[name].dtype.tz) == "UTC"
        assert abs((frame[name] - pd.Timestamp.now("UTC")).max().total_seconds()) < 3600
    first = result.trials[0]
    assert frame["started"][0].timestamp() == pytest.approx(first.started, abs=1e-6)
    assert frame["seconds"][0] == pytest.approx(first.ended - first.started, abs=1e-6)
    assert frame["value"].dtype == frame["std"].dtype == frame["seconds"].dtype == "float64"
    with pd.option_context("display.width", 80, "display.max_columns", 0, "display.expand_frame_repr", True):
        text = frame.to_string(line_width=80, max_cols=6)
        assert max(map(len, text.splitlines())) <= 80
        assert text.split()[:2] == ["id", "param_lr"]
        assert {"state", "value"} <= set(text.split())


def test_a_frame_of_running_trials_or_none_has_the_same_columns() -> None:
    optimizer = Optimizer(SPACE)
    assert list(optimizer.to_frame().columns) == [
        *("id", "std", "reason", "attempt", "source", "fit_ms", "search_ms"),
        *("started", "ended", "seconds", "state", "value"),
    ]
    optimizer.ask()
    frame = optimizer.to_frame()
    assert frame["ended"].isna().all()
    assert frame["seconds"].isna().all()
    assert isinstance(frame["ended"].dtype, pd.DatetimeTZDtype)


def test_a_frame_takes_names_and_options_that_pandas_cannot_hold() -> None:
    optimizer = Optimizer(Space({"\udc80": Choice(("\ud800", "b")), "x": Float(0, 1)}))
    optimizer.add({"\udc80": "\ud800", "x": 0.5}, 1.0)
    frame = to_frame(optimizer.trials, optimizer.goals)
    assert list(frame[r"param_\udc80"]) == [r"\ud800"]
    frame.to_csv()


def test_the_repr_of_a_closed_optimizer_is_a_text(tmp_path: Path) -> None:
    optimizer = Optimizer(SPACE, storage=tmp_path / "run.db")
    optimizer.close()
    said = " ".join(repr(optimizer).split())
    assert re.match(r"Optimizer\(.* was closed; open it again", said)
    assert optimizer._repr_html_() is None

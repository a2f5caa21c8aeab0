"""The page of a run with outcomes by name: constraints, several objectives, and hardly any outcome."""

import math
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from test_run_report import decoded, figures_in, page_of

from bo_suite import Choice, Float, Optimizer, Space

pytestmark = pytest.mark.skipif(find_spec("plotly") is None, reason="needs plotly (bo-suite[report])")

SPACE = Space({"x": Float(0.0, 1.0), "k": Choice(["a", "b"])})
TWO = {"<b>err</b>": "minimize", "gain": "maximize"}
LIMITS = {"size": (None, 6.0)}


def told(number: int) -> tuple[dict[str, Any], dict[str, float]]:
    x, k = (0.618 * number) % 1.0, "ab"[number % 2]
    outcomes = {"<b>err</b>": (x - 0.9) ** 2, "gain": math.sin(3 * x) - 0.5 * (k == "b"), "size": 10 * x}
    return {"x": x, "k": k}, outcomes


def written(path: Path, direction: dict[str, str], rows: list[Any], limits: Any = None) -> Path:
    """A history with outcomes (None: a failure) at the points of `told`."""
    with closing(Optimizer(SPACE, direction=direction, constraints=limits, storage=path)) as optimizer:
        for number, outcomes in enumerate(rows):
            if outcomes is None:
                optimizer.add_failed(told(number)[0], "no luck")
            else:
                optimizer.add(told(number)[0], outcomes)
    return path


def rows(*names: str) -> list[dict[str, float]]:
    return [{name: told(number)[1][name] for name in names} for number in range(10)]


def test_several_objectives_with_a_constraint(tmp_path: Path) -> None:
    path = written(tmp_path / "run.db", TWO, [*rows(*TWO, "size"), {"gain": 1.0}, None], LIMITS)
    with closing(Optimizer.resume(path)) as optimizer:
        optimizer.tell(optimizer.ask(), dict.fromkeys(optimizer.goals.names, 0.25), {"gain": 0.1})
        front, recommended = optimizer.pareto, optimizer.recommend()
        trials, goals = optimizer.trials, optimizer.goals
        assert isinstance(recommended, list)
        mean = optimizer.predict(recommended)["gain", "mean"]
    page = page_of(path)
    feasible = [trial for trial in trials if trial.outcomes and goals.is_feasible(trial.outcomes)]
    assert f"{len(front)} trials of the Pareto front" in page.words
    assert f"{len(feasible)} of 12 finished trials are feasible (size <= 6)" in page.words
    assert "0.25 ± 0.1" in page.words
    assert "minimize <b>err</b>, maximize gain" in page.words
    assert not page.of("b")
    for one in mean:
        assert f"{one:.6g} (" in page.words
    drawn, volume, *others = figures_in(page)
    names = {trace["name"]: trace for trace in drawn["data"]}
    assert decoded(names["front"]["x"]) == [trial.outcomes["<b>err</b>"] for trial in front]
    assert decoded(names["front"]["y"]) == [trial.outcomes["gain"] for trial in front]
    assert f"trial {front[0].id}: &lt;b&gt;err&lt;/b&gt; " in names["front"]["text"][0]
    assert len(names["infeasible"]["text"]) == 11 - len(feasible)
    assert volume["data"][0]["x"] == [trial.id for trial in feasible]
    assert volume["data"][1]["x"] == [11]
    assert len(others) == 3 * (1 + 2 + 1 + 1) + 1  # importances, slices, contour and check; once the lines
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_one_objective_with_a_constraint(tmp_path: Path) -> None:
    path = written(tmp_path / "run.db", {"gain": "maximize"}, rows("gain", "size"), LIMITS)
    with closing(Optimizer.resume(path)) as optimizer:
        best = optimizer.best
    page = page_of(path)
    assert f"The best feasible value of gain is {best.value:.6g}, of trial {best.id}." in page.words
    assert "larger is better" in page.words
    values, _, *slices = figures_in(page)
    assert values["layout"]["yaxis"]["title"]["text"] == "gain"
    dots, line = values["data"][:2]
    infeasible = [told(number)[1]["size"] > 6.0 for number in range(10)]
    assert [color != dots["marker"]["color"][0] for color in dots["marker"]["color"]] == infeasible
    assert line["x"] == [number for number in range(10) if not infeasible[number]]
    (shape, _) = slices[0]["layout"]["shapes"]
    assert shape["x0"] == pytest.approx(0.6, abs=0.06)
    assert shape["x1"] == 1.0


PARTIAL: list[Any] = [{"gain": 1.0}, {"size": 2.0}, None]


@pytest.mark.parametrize(
    "direction",
    [TWO, pytest.param({"gain": "maximize"}, marks=pytest.mark.slow)],
    ids=["two", "one"],
)
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [None],
        [{"size": 9.0}],
        PARTIAL,
        [{"gain": 1.0, "size": 9.0}, {"gain": 2.0, "size": 8.0}],
        [{"<b>err</b>": 1.0, "gain": 1.0, "size": 1.0}],
        [{"<b>err</b>": 1.0, "gain": 1.0, "size": math.nan}] * 3,
        [
            {"<b>err</b>": 1e300, "gain": -1e300, "size": 1e-300},
            {"<b>err</b>": -1e300, "gain": 0.0, "size": 0.0},
        ],
    ],
    ids=["none", "failed", "constraint", "partial", "infeasible", "one", "unmeasured", "vast"],
)
def test_every_history_has_a_page(tmp_path: Path, direction: dict[str, str], rows: list[Any]) -> None:
    known = {*direction, "size"}
    kept = [
        one if one is None else {name: value for name, value in one.items() if name in known} for one in rows
    ]
    page = page_of(written(tmp_path / "run.db", direction, kept, LIMITS))
    finished = sum(one is not None for one in rows)
    assert f"of {finished} finished trials are feasible" in page.words
    assert figures_in(page)


def test_three_objectives_are_drawn_two_and_two(tmp_path: Path) -> None:
    direction = dict.fromkeys(("<b>err</b>", "gain", "size"), "minimize")
    page = page_of(written(tmp_path / "run.db", direction, rows(*direction)[:3]))
    assert len([figure for figure in figures_in(page) if figure["data"][-1].get("name") == "front"]) == 3
    assert "is likely to be infeasible" not in page.words

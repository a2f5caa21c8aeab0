"""The page of a run: what it says and draws, of any run, whatever its texts contain."""

import json
import math
import random
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import Text

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.errors import StorageError
from bo_suite.pages.drawing import plotly_script
from bo_suite.report import report_run
from bo_suite.report.page import render
from bo_suite.run.schedulers import ASHA
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header, Observation
from bo_suite.values.describe import visible

pytestmark = pytest.mark.skipif(find_spec("plotly") is None, reason="needs plotly (bo-suite[report])")

MIXED = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "depth": Int(1, 12),
        "act": Choice(["relu", "tanh", "gelu"]),
        "drop": Float(0.0, 0.5),
    }
)


def loss(params: dict[str, Any]) -> float:
    act = {"relu": 0.3, "tanh": 0.8, "gelu": 0.0}[params["act"]]
    return (math.log10(params["lr"]) + 2.5) ** 2 + 0.05 * (params["depth"] - 7) ** 2 + act + params["drop"]


def sampled(space: Space, count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    uniforms = generator.uniform(size=(count, len(space)))
    return [
        {name: parameter.decode(float(u)) for (name, parameter), u in zip(space, row, strict=True)}
        for row in uniforms
    ]


def page_of(path: Path) -> Text:
    """The page of a history without the script that draws its figures."""
    with closing(History.open(path, None)) as history:
        return Text(render(history, path))


def figures_in(page: Text) -> list[dict[str, Any]]:
    return [json.loads(script) for script in page.scripts if script.startswith("{")]


def written(path: Path, space: Space, rows: list[Observation], direction: str = "minimize") -> Path:
    with closing(History.open(path, Header(space, 0, direction, None, None))) as history:
        history.add_all(rows)
    return path


@pytest.fixture(scope="module")
def run_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with failed, forgotten, amended, running and outside trials."""
    path = tmp_path_factory.mktemp("run") / "run.db"
    with closing(Optimizer(MIXED, storage=path, budget=12, seed=1)) as optimizer:
        for number in range(12):
            trial = optimizer.ask()
            if number == 4:
                optimizer.fail(trial, "out of <b>memory</b>")
            else:
                optimizer.tell(trial, loss(trial.params))
        optimizer.amend(0, 9.0, std=0.5)
        optimizer.forget(5, "the sensor was broken")
        optimizer.extend({"depth": Int(1, 11), "act": Choice(["relu", "gelu"])})
        optimizer.ask()
    return path


def test_stopped_and_paused_trials_are_counted_and_no_best_ones(tmp_path: Path) -> None:
    with closing(Optimizer(MIXED, storage=tmp_path / "run.db", scheduler=ASHA(9, 3, 2))) as optimizer:
        for trial, value in zip(optimizer.ask(4), (1.0, 2.0, 0.5, 0.75), strict=True):
            optimizer.report(trial, 3, value)
        optimizer.tell(0, 1.0)
        optimizer._history.report(2, 4, 0.25, verdict="pause")
    page = page_of(tmp_path / "run.db")
    assert "The best value is 1, of trial 0." in page.words
    assert "4 trials: 1 running, 1 finished, 1 stopped, 1 paused." in page.words
    assert "stopped at step 3" in page.words
    assert "paused at step 4" in page.words
    assert "scheduler" in page.words
    assert "4 trials took 19 steps; evaluated to the end, they would have taken 36." in page.words
    (curves,) = (one for one in figures_in(page) if any("stopped (" in str(line) for line in one["data"]))
    lines = {line["name"]: line for line in curves["data"]}
    assert list(lines) == ["stopped (1)", "paused (1)", "running (1)", "best, trial 0"]
    assert (lines["paused (1)"]["x"], lines["paused (1)"]["y"]) == ([3, 4, None], [0.5, 0.25, None])
    assert (lines["best, trial 0"]["x"], lines["best, trial 0"]["y"]) == ([3, 9], [1.0, 1.0])
    assert curves["layout"]["xaxis"]["tickvals"] == [3, 6, 9]


def test_the_page_says_what_the_optimizer_says(run_db: Path) -> None:
    page = page_of(run_db)
    with closing(Optimizer.resume(run_db)) as optimizer:
        best, prediction = optimizer.best, optimizer.predict(optimizer.recommend()).iloc[0]
        table = optimizer.importance()
    assert f"The best value is {best.value:.6g}, of trial {best.id}." in page.words
    assert "13 trials: 1 running, 10 finished, 1 failed, 1 withdrawn." in page.words
    assert "The budget of 12 trials is spent." in page.words
    assert f"the model expects {prediction['mean']:.6g}" in page.words
    assert f"between {prediction['low']:.6g} and {prediction['high']:.6g} there" in page.words
    assert "of 10 outcomes" in page.words
    for name, row in table.iterrows():
        assert f"{name}{row['total']:.3f}{row['low']:.3f} to {row['high']:.3f}" in page.text
    assert "out of <b>memory</b>" in page.words
    assert "-> withdrawn (the sensor was broken)" in page.words
    assert "-> 9 ± 0.5" in page.words
    assert "depth: Int(low=1, high=12" in page.words
    assert "an initial point, spread over the space" in page.words
    assert f"bo-suite ask {run_db}" in page.words
    assert len(page.of("tr")) > 13


def test_the_figures_show_the_trials_and_the_model(run_db: Path) -> None:
    figures = figures_in(page_of(run_db))
    values, importances, *slices, two, held_out, lines = figures
    with closing(Optimizer.resume(run_db)) as optimizer:
        finished = [trial for trial in optimizer.trials if trial.state == "finished"]
    assert values["data"][0]["x"] == [trial.id for trial in finished]
    assert decoded(values["data"][0]["customdata"]) == [trial.value for trial in finished]
    inside = [trial for trial in finished if trial.params["act"] != "tanh" and trial.params["depth"] < 12]
    assert len(inside) < len(finished)
    best = [min(trial.value or 0.0 for trial in inside[: end + 1]) for end in range(len(inside))]
    assert values["data"][1]["x"] == [trial.id for trial in inside]
    assert values["data"][1]["y"] == best
    assert values["data"][2]["x"] == [4]
    assert set(importances["layout"]["yaxis"]["ticktext"]) == set(MIXED.names)
    assert len(slices) == 4
    titles = {figure["layout"]["xaxis"]["title"]["text"]: figure for figure in slices}
    assert titles["lr"]["layout"]["xaxis"]["type"] == "log"
    assert titles["act"]["layout"]["xaxis"]["ticktext"] == ["relu", "gelu"]
    ranges = [tuple(figure["layout"]["yaxis"]["range"]) for figure in slices]
    assert len(set(ranges)) == 1
    for figure in slices:
        assert len(decoded(figure["data"][-1]["x"])) == len(finished)
    assert two["data"][0]["type"] == "heatmap"
    assert sum(len(decoded(trace["x"])) for trace in held_out["data"][1:]) == len(finished)
    drawn = [text for trace in lines["data"] for text in trace["text"] if text]
    assert len(drawn) == 4 * len(inside)


def decoded(values: Any) -> list[float]:
    """The numbers of an array as plotly writes it: a list, or bytes in base64."""
    import base64

    if isinstance(values, dict):
        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist())
    return list(values)


def test_the_page_is_one_file_that_asks_for_nothing(run_db: Path) -> None:
    path = report_run(run_db)
    assert path == run_db.with_suffix(".html")
    text = path.read_text(encoding="utf-8")
    assert text.count(plotly_script()) == 1
    page = Text(text.replace(plotly_script(), ""))
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert addresses
    assert all(address and address.startswith(("#", "data:")) for address in addresses)
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for address in addresses:
        assert address == "data:," or (address or "")[1:] in names
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) in {None, *names}


def test_a_run_without_outcomes_says_so(tmp_path: Path) -> None:
    with closing(Optimizer(MIXED, storage=tmp_path / "run.db")) as optimizer:
        none = page_of(tmp_path / "run.db")
        for trial in optimizer.ask(2):
            optimizer.fail(trial, "no luck")
    failed = page_of(tmp_path / "run.db")
    assert "0 trials. No budget was set." in none.words
    assert "2 trials: 2 failed." in failed.words
    for page in (none, failed):
        assert "No trial has a value that counts yet." in page.words
        assert "There is no model: there is no model before a trial has finished" in page.words
        assert len(figures_in(page)) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_trials_suffice(tmp_path: Path, count: int) -> None:
    rows = [Observation(point, loss(point)) for point in sampled(MIXED, count)]
    page = page_of(written(tmp_path / "run.db", MIXED, rows))
    assert ("importances need 3 finished trials" in page.words) == (count < 3)
    assert ("cross validation needs two finished trials" in page.words) == (count < 2)
    assert len(figures_in(page)) == 1 + (count > 2) + 4 + 1 + (count > 1) + 1


def test_a_run_of_one_parameter_of_which_larger_is_better(tmp_path: Path) -> None:
    space = Space({"x": Float(-1, 2), "one": Int(3, 3)})
    rows = [Observation(point, -(point["x"] ** 2)) for point in sampled(space, 9)]
    page = page_of(written(tmp_path / "run.db", space, rows, "maximize"))
    best = max(row.value for row in rows)  # type: ignore[type-var]
    assert f"The best value is {best:.6g}" in page.words
    assert "larger is better" in page.words
    assert "There is one parameter only." in page.words
    values = figures_in(page)[0]["data"]
    assert values[1]["y"] == np.maximum.accumulate([float(row.value or 0) for row in rows]).tolist()


def test_of_forty_parameters_the_most_important_are_drawn(tmp_path: Path) -> None:
    space = Space({f"x{number}": Float(0, 1) for number in range(40)})
    rows = [Observation(point, point["x7"] ** 2) for point in sampled(space, 30)]
    page = page_of(written(tmp_path / "run.db", space, rows))
    assert "The 12 most important of 40 parameters are shown." in page.words
    figures = figures_in(page)
    assert len(figures) == 2 + 12 + 3
    assert figures[2]["layout"]["xaxis"]["title"]["text"] == "x7"


@pytest.mark.parametrize(
    "space",
    [
        Space({"x": Float(0, 1), "epochs": Int(1, 27, log=True, fidelity=True)}),
        Space({"x": Float(0, 1), "day": Choice(["mon", "sun"], context=True)}),
        Space({"x": Float(0, 1, step=0.25), "n": Choice([1, 2, None], ordered=True)}),
    ],
    ids=["fidelity", "context", "finite"],
)
def test_every_kind_of_space_has_a_page(tmp_path: Path, space: Space) -> None:
    rows = [Observation(point, point["x"]) for point in sampled(space, 8)]
    page = page_of(written(tmp_path / "run.db", space, rows))
    assert "At the recommended point" in page.words
    assert ("contexts (day)" in page.words) == bool(space.contexts)
    assert len(figures_in(page)) == 2 + 2 + 3


def test_grey_is_what_a_constraint_of_the_space_refuses(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x + y <= 1"])
    points = [{"x": x, "y": 0.9 - x} for x in (0.1, 0.4, 0.8)]
    page = page_of(written(tmp_path / "run.db", space, [Observation(point, point["x"]) for point in points]))
    assert "A grey veil is over what is outside of the space." in page.words
    assert "likely to be infeasible" not in page.words


def test_a_run_with_contexts_goes_on_by_asks(tmp_path: Path) -> None:
    space = Space(
        {"x": Float(0, 1), "heat": Float(0, 1, context=True), "time of day": Int(0, 23, context=True)}
    )
    rows = [Observation(point, point["x"]) for point in sampled(space, 4)]
    path = written(tmp_path / "run.db", space, rows)
    page = page_of(path)
    assert f"bo-suite ask {path} --fixed heat=... --fixed 'time of day=...'" in page.words
    assert "bo-suite minimize" not in page.words
    latest = rows[-1].params
    assert f"Recommended: {latest['time of day']}" in page.words
    assert "are those of the latest finished trial" in page.words


def test_points_outside_do_not_exhaust_a_space(tmp_path: Path) -> None:
    with closing(Optimizer(Space({"n": Int(1, 6)}), storage=tmp_path / "run.db")) as optimizer:
        for n in (1, 2, 5, 6):
            optimizer.add({"n": n}, float(n))
        optimizer.extend({"n": Int(1, 3)})
        before = page_of(tmp_path / "run.db")
        optimizer.add({"n": 3}, 3.0)
    assert "Every one of the 3 points" not in before.words
    assert "Every one of the 3 points of the space has been suggested." in page_of(tmp_path / "run.db").words


def test_vast_and_equal_values_are_drawn(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1)})
    for name, values in (("vast", (1e300, -1e300, 0.0, 5.0)), ("equal", (1.0, 1.0, 1.0, 1.0))):
        rows = [Observation(p, v) for p, v in zip(sampled(space, 4), values, strict=True)]
        page = page_of(written(tmp_path / f"{name}.db", space, rows))
        assert len(figures_in(page)) > 3


HOSTILE = (
    *("<script>alert(1)</script>", "</script><!--", "{{ 7 * 7 }}", "a & b", '" onclick="x', "<b>bold</b>"),
    *("\x1b]0;title\x07", "two\nlines\r\n", "\u202egnp.exe\u2066", "\udc80", "$x^2$", "Größe 🙂"),
)


def test_texts_of_a_user_are_text(tmp_path: Path) -> None:
    space = Space({name: Float(0, 1) for name in HOSTILE} | {"kind": Choice([*HOSTILE])})
    rows = [Observation(point, point["a & b"], reason=None) for point in sampled(space, 6)]
    path = written(tmp_path / "<i>run.db", space, rows)
    with closing(Optimizer.resume(path)) as optimizer:
        for reason in HOSTILE:
            optimizer.fail(optimizer.ask(), reason)
        optimizer.forget(0, HOSTILE[0])
    text = report_run(path).read_text(encoding="utf-8").replace(plotly_script(), "")
    assert [letter for letter in text if letter != "\n" and visible(letter) != letter] == []
    page = Text(text)
    assert {tag for tag, _ in page.elements} & {"b", "i"} == set()
    assert len([one for one in page.of("script") if "type" not in one]) == 2
    assert not any("onclick" in attributes for _, attributes in page.elements)
    for name in HOSTILE:
        assert visible(name) in page.text
    figures = json.dumps(figures_in(page))
    assert "<script" not in figures
    assert "&lt;script&gt;" in figures


@pytest.mark.slow
def test_two_thousand_trials_fit_in_eight_megabytes(tmp_path: Path) -> None:
    space = Space({**MIXED.parameters, **{f"x{number}": Float(0, 1) for number in range(36)}})
    random.seed(0)
    rows = [Observation(point, loss(point) + random.gauss(0, 0.1)) for point in sampled(space, 2000)]
    path = report_run(written(tmp_path / "run.db", space, rows))
    assert path.stat().st_size < 8_000_000
    page = page_of(tmp_path / "run.db")
    assert "The best 200 are shown." in page.words
    assert len([one for one in page.of("details") if "open" in one]) == 0


def test_the_page_never_replaces_the_history(run_db: Path, tmp_path: Path) -> None:
    before = run_db.read_bytes()
    with pytest.raises(StorageError, match="must be another file than the history"):
        report_run(run_db, run_db)
    with pytest.raises(StorageError, match="there is no file"):
        report_run(tmp_path / "none.db")
    with pytest.raises(StorageError, match="cannot be written"):
        report_run(run_db, tmp_path / "none" / "page.html")
    assert run_db.read_bytes() == before


def sums_to_less_than_one(params: dict[str, float]) -> bool:
    return params["a"] + params["b"] < 1.0


def test_the_model_of_a_space_with_functions_is_drawn_once_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    space = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=[sums_to_less_than_one])
    opt = Optimizer(space, storage=path)
    for trial in opt.ask(5):
        opt.tell(trial, trial.params["a"])
    opt.close()
    missing = report_run(path, tmp_path / "missing.html").read_text(encoding="utf-8")
    assert "report_run(path, functions=[sums_to_less_than_one])" in missing
    assert "Slices through" not in missing
    given = report_run(path, tmp_path / "given.html", functions=[sums_to_less_than_one])
    assert "Slices through" in given.read_text(encoding="utf-8")

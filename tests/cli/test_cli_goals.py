"""Commands about several objectives and constraints: options, outcomes by name, tables, JSON and refusals."""

import json
import re
import shlex
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Space
from bo_suite.cli import app
from bo_suite.storage.history import History

SPACE = '[x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n'
FUNCTIONS = """
from bo_suite import Float, Space

space = Space({"x": Float(0.0, 1.0)})


def limited(params):
    return {"error": (params["x"] - 0.5) ** 2, "memory": 10 * params["x"], "works": True}


def two(params):
    return {"error": params["x"] ** 2, "latency": (params["x"] - 1) ** 2}


def never(params):
    return {"error": 0.0, "memory": 99.0}
"""
GOALS = "--direction error=minimize --direction latency=minimize --constraint 'memory<=8' --constraint works"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "goals_of_tests", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "goals_of_tests.py").write_text(FUNCTIONS)
    yield tmp_path
    sys.modules.pop("goals_of_tests", None)


@pytest.fixture
def run_db(folder):
    """Trials 0 to 3: two on the front, an infeasible and a partial one; trial 4 is running."""
    call(f"enqueue run.db x=0.5 --space space.toml {GOALS}")
    call("enqueue run.db --clear")
    with closing(History.open("run.db", None)) as history:
        history.insert([{"x": step / 4} for step in range(5)], [{}] * 5, expected=0)
    call("tell run.db 0 error=.1 latency=3 memory=5 works=true --std error=.01 --std latency=0.2")
    call("tell run.db 1 error=.3 latency=1 memory=7.5 works=1")
    call("tell run.db 2 error=.01 latency=.5 memory=9 works=true")
    call("tell run.db 3 latency=2 memory=nan works=FALSE")
    return "run.db"


def call(line, code=0):
    result = CliRunner().invoke(app, shlex.split(line))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def as_json(line):
    return json.loads(call(f"{line} --json").stdout)


def refused(line, code):
    result = call(line, code)
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("error: ")


def ids(records):
    return [record["id"] for record in records]


def test_outcomes_are_stored_by_name(run_db):
    first, _, _, partial, running = as_json("trials run.db")
    assert first["outcomes"] == {"error": 0.1, "latency": 3.0, "memory": 5.0, "works": 1.0}
    assert first["stds"] == {"error": 0.01, "latency": 0.2}
    assert partial["outcomes"] == {"latency": 2.0, "memory": None, "works": 0.0}
    assert (running["state"], running["outcomes"]) == ("running", None)
    with closing(History.open(run_db, None)) as history:
        assert history.header.direction == {"error": "minimize", "latency": "minimize"}
        assert history.header.constraints == {"memory": [None, 8.0], "works": True}


def test_the_best_of_several_objectives_are_the_front(run_db):
    assert ids(as_json("best run.db")) == [0, 1]
    table = call("best run.db").stdout
    assert re.search(r"trial +error +latency +memory +works +feasible +x", table)
    assert re.search(r"0 +0.1 ± 0.01 +3 ± 0.2 +5 +1 +yes", table)
    assert ids(as_json("trials run.db --top 3"))[:2] == [0, 1]
    call("forget run.db 0")
    call("forget run.db 1")
    assert as_json("best run.db") == []
    assert "the Pareto front is empty" in call("best run.db").stdout


def test_a_table_says_what_is_feasible_failed_and_missing(run_db):
    call("fail run.db 4 'out of memory'")
    table = call("trials run.db").stdout
    assert re.search(r"2 +finished +0.01 +0.5 +9 +1 +no", table)
    assert re.search(r"3 +finished +2 +nan +0 +no", table)
    assert re.search(r"4 +failed +out of memory", table)


def test_a_correction_leaves_the_other_outcomes(run_db):
    amended = as_json("amend run.db 0 latency=2.5 --std latency=0.3")
    assert amended["outcomes"] == {"error": 0.1, "latency": 2.5, "memory": 5.0, "works": 1.0}
    assert amended["stds"] == {"error": 0.01, "latency": 0.3}
    assert "latency 2.5" in call("history run.db").stdout


def test_one_objective_with_constraints(folder):
    call("ask run.db --space space.toml --count 3 --constraint '1<=ratio<=2' --constraint '3>=size'")
    call("tell run.db 0 value=-4 ratio=3 size=1")
    assert "there is no best trial before one is feasible" in refused("best run.db", 1)
    call("tell run.db 1 value=-0.5 ratio=1.5 size=2")
    assert as_json("best run.db")["id"] == 1
    assert as_json("tell run.db 2 -0.25 --std 0.1")["outcomes"] == {"value": -0.25}
    assert as_json("amend run.db 2 ratio=1")["outcomes"] == {"value": -0.25, "ratio": 1.0}
    with closing(History.open("run.db", None)) as history:
        assert history.header.constraints == {"ratio": [1.0, 2.0], "size": [None, 3.0]}


def test_a_whole_run_with_a_constraint(folder):
    line = "minimize goals_of_tests:limited --budget 8 --direction error=minimize --constraint 'memory <= 4'"
    run = as_json(f"{line} --constraint works --storage run.db --plot run.png")
    assert run["constraints"] == {"memory": [None, 4.0], "works": True}
    feasible = [trial for trial in run["trials"] if trial["outcomes"]["memory"] <= 4]
    assert run["best"] == min(feasible, key=lambda trial: trial["outcomes"]["error"])
    assert 0 < len(feasible) < 8
    said = call("minimize goals_of_tests:limited --budget 8 --storage run.db").stdout
    assert f"at trial {run['best']['id']}, of 8 evaluated, 0 failed" in said
    assert Path("run.png").stat().st_size > 10_000


def test_a_whole_run_with_nothing_feasible(folder):
    line = "minimize goals_of_tests:never --budget 2 --direction error=minimize --constraint 'memory<=4'"
    assert "best: none feasible, of 2 evaluated" in call(line).stdout
    assert as_json(line)["best"] is None


def test_a_whole_run_with_two_objectives(folder):
    line = "minimize goals_of_tests:two --budget 3 --direction error=minimize --direction latency=minimize"
    run = as_json(line)
    assert run["best"] is None
    assert len(run["pareto"]) == 3  # every x between 0 and 1 is on the front
    assert "best: 3 trials in the Pareto front, of 3 evaluated" in call(line).stdout


def test_the_model_speaks_of_each_outcome(folder):
    goals = {"error": "minimize"}, {"memory": (None, 8.0)}
    space = Space({"x": Float(0.0, 1.0)})
    with closing(Optimizer(space, direction=goals[0], constraints=goals[1], storage="run.db")) as optimizer:
        for step in range(8):
            optimizer.add({"x": step / 7}, {"error": (step / 7 - 0.5) ** 2, "memory": 2.0 * step})
        expected = optimizer.predict({"x": 0.25})
    (prediction,) = as_json("predict run.db x=0.25")
    assert prediction["params"] == {"x": 0.25}
    assert prediction["outcomes"]["memory"]["mean"] == expected["memory", "mean"].iloc[0]
    assert prediction["outcomes"]["error"]["low"] == expected["error", "low"].iloc[0]
    assert re.search(r"error \(90%\) +memory \(90%\) +x", call("predict run.db x=0.25").stdout)
    recommended = as_json("recommend run.db")
    assert recommended["outcomes"]["memory"]["mean"] < 8.0
    shares = as_json("importance run.db")
    assert [row["parameter"] for row in shares["memory"]] == ["x"]
    assert re.search(r"error\n.*\n?.*parameter", call("importance run.db").stdout)


def test_a_table_goes_out_and_comes_back(run_db):
    call("export run.db --out run.csv")
    heading, first, *_ = Path("run.csv").read_text().splitlines()
    assert heading == (
        "id,x,value_error,value_latency,value_memory,value_works,"
        "std_error,std_latency,std_memory,std_works,state,reason"
    )
    assert ",0.1,3.0,5.0,1.0,0.01,0.2,,,finished," in first
    counts = as_json(f"import copy.db run.csv --space space.toml {GOALS}")
    assert counts == {"imported": 4, "failed": 0, "left_out": {"running": 1}, "unused": []}
    for before, after in zip(as_json("trials run.db"), as_json("trials copy.db"), strict=False):
        assert (before["params"], before["outcomes"]) == (after["params"], after["outcomes"])
        assert before["stds"] == after["stds"]
    Path("lab.csv").write_text("x,error rate,ms\n0.5,0.25,40\n")
    call("import run.db lab.csv --value error='error rate' --value latency=ms")
    assert as_json("trials run.db")[-1]["outcomes"] == {"error": 0.25, "latency": 40.0}


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        (
            "tell run.db 4 1",
            2,
            "an outcome must be given by name (error=... latency=... memory=... works=...)",
        ),
        ("tell run.db 4 error=low", 2, "an outcome must be a number, or NAME=NUMBER of each outcome"),
        ("tell run.db 4 error=1 error=2", 2, "an outcome must be given once for a name"),
        (
            "tell run.db 4 eror=1",
            1,
            "an outcome must be one of 'error', 'latency', 'memory', 'works', got 'eror'",
        ),
        ("tell run.db 4 error=nan", 1, "at least one outcome must be a finite number"),
        ("tell run.db 4 error=inf", 1, "the outcome 'error' must be a finite number, or NaN"),
        ("tell run.db 4 error=1 --std 0.1", 2, "--std must be given by name"),
        ("tell run.db 4 error=1 --std error=-1", 1, "a std must be a finite number >= 0"),
        ("amend run.db 0 1", 2, "an outcome must be given by name"),
        (
            "ask new.db --space space.toml --direction error=down",
            2,
            "--direction must be minimize or maximize",
        ),
        ("ask new.db --space space.toml --direction minimize --direction maximize", 2, "--direction must be"),
        (
            "ask new.db --space space.toml --constraint 'memory<8'",
            2,
            "--constraint must be such as 'memory<=8'",
        ),
        ("ask new.db --space space.toml --constraint '1<=2'", 2, "--constraint must be such as"),
        ("ask new.db --space space.toml --constraint '1<=a>=2'", 2, "--constraint must be such as"),
        ("ask new.db --space space.toml --constraint a --constraint 'a<=1'", 2, "given once for a name"),
        ("ask new.db --space space.toml --constraint '2<=a<=1'", 1, "the smaller first"),
        ("ask run.db --direction minimize", 1, "another direction"),
        (
            f"minimize goals_of_tests:two --target 1 {GOALS}",
            1,
            "a target value is of a run with one objective",
        ),
        ("import run.db lab.csv --value error", 2, "--value must be NAME=HEADING, NAME one of"),
    ],
)
def test_refusals(run_db, line, code, sentence):
    Path("lab.csv").write_text("x,error,latency\n0.5,0.25,40\n")
    before = as_json("trials run.db")
    assert sentence in refused(line, code)
    assert as_json("trials run.db") == before
    assert not Path("new.db").exists()

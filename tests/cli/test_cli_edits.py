"""The commands that import, export, queue, amend, forget and edit, ask the model, and make pages."""

import csv
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bo_suite
from bo_suite import Choice, Float, Int, Optimizer
from bo_suite.cli import app
from bo_suite.storage.history import History

SPACE = """
[lr]
type = "float"
low = 1e-5
high = 0.1
log = true
[depth]
type = "int"
low = 1
high = 12
[act]
type = "choice"
options = ["relu", "tanh", 3]
"""
PARAMETERS = {"lr": Float(1e-5, 0.1, log=True), "depth": Int(1, 12), "act": Choice(["relu", "tanh", 3])}
PAST = "lr,depth,act,value,reason\n0.01,3,relu,0.5,\n0.02,4,3,0.7,\n0.001,4,tanh,,out of memory\n"


def call(line: str, code: int = 0, typed: str | None = None) -> Any:
    """What `bo-suite LINE` prints; a string is split as a shell would."""
    result = CliRunner().invoke(app, shlex.split(line), input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def as_json(line: str) -> Any:
    return json.loads(call(f"{line} --json").stdout)


def refused(line: str, code: int) -> list[str]:
    """The lines on stderr, of which the last is the error."""
    result = call(line, code)
    assert result.stdout == ""
    *lines, last = result.stderr.splitlines()
    assert last.startswith("error: ")
    return [*lines, last.removeprefix("error: ")]


def fields_of(file: str) -> list[tuple[Any, ...]]:
    """What a table holds of the trials of a history, without their ids."""
    history = History.open(file, None)
    fields = [(one.params, one.value, one.std, one.state, one.reason) for one in history.trials()]
    history.close()
    return fields


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("space.toml").write_text(SPACE)
    Path("past.csv").write_text(PAST)
    return tmp_path


@pytest.fixture
def run_db(folder: Path) -> str:
    call("import run.db past.csv --space space.toml")
    return "run.db"


class TestTables:
    def test_a_table_begins_a_history_and_is_added_to_one(self, folder: Path) -> None:
        added = as_json("import run.db past.csv --space space.toml --direction maximize --seed 3")
        assert added == {"imported": 3, "failed": 1, "left_out": {}, "unused": []}
        assert "imported: 3 trials, 1 of them failed" in call("import run.db past.csv").stdout
        history = History.open("run.db", None)
        assert (history.header.direction, history.header.seed) == ("maximize", 3)
        assert [trial.value for trial in history.trials()] == [0.5, 0.7, None] * 2
        assert history.trials()[1].params == {"lr": 0.02, "depth": 4, "act": 3}
        history.close()

    def test_columns_are_named(self, folder: Path) -> None:
        Path("past.csv").write_text("learning rate;depth;act;yield;note\n0,01;3;relu;0,5;x\n")
        line = "import run.db past.csv --space space.toml --column lr='learning rate' --value yield"
        assert "columns that were not read: note" in call(line).stdout
        assert as_json("best run.db")["value"] == 0.5

    def test_a_bad_row_is_named_and_nothing_is_imported(self, folder: Path) -> None:
        Path("bad.csv").write_text(PAST + "9,3,relu,1,\n0.01,3,relu,nan,\n")
        *lines, sentence = refused("import run.db bad.csv --space space.toml", 1)
        assert [line.split(":")[0] for line in lines] == ["line 5", "line 6"]
        assert sentence.endswith("got 2 that are not; nothing was imported")
        assert not Path("run.db").exists()
        call("import run.db past.csv --space space.toml")
        refused("import run.db bad.csv", 1)
        assert len(as_json("trials run.db")) == 3

    def test_a_missing_column_is_one_sentence(self, run_db: str) -> None:
        Path("other.csv").write_text("a,b\n1,2\n")
        (sentence,) = refused("import run.db other.csv", 1)
        assert "got none for ['lr', 'depth', 'act'] among the headings ['a', 'b']" in sentence
        (sentence,) = refused("import new.db past.csv", 2)
        assert sentence == "a new history needs --space FILE, got new.db, which does not exist"

    def test_what_is_exported_is_imported_again(self, run_db: str) -> None:
        call("ask run.db")
        text = call("export run.db").stdout
        assert as_json("export run.db --out out.csv") == {"table": "out.csv", "trials": 4}
        assert Path("out.csv").read_text() == text
        assert [row["state"] for row in csv.DictReader(text.splitlines())] == [
            *("finished", "finished", "failed", "running")
        ]
        added = as_json("import again.db out.csv --space space.toml")
        assert added["left_out"] == {"running": 1}
        first, again = (fields_of(file) for file in (run_db, "again.db"))
        assert again == first[:3]

    def test_rows_outside_of_a_narrowed_space_are_refused(self, run_db: str) -> None:
        Path("new.toml").write_text(SPACE.replace("high = 12", "high = 3"))
        call("space run.db --edit new.toml --yes")
        call("export run.db --out out.csv")
        *lines, _ = refused("import again.db out.csv --space new.toml", 1)
        assert [line.split(":")[0] for line in lines] == ["line 3", "line 4"]
        assert as_json("import again.db out.csv --space space.toml")["imported"] == 3

    def test_a_table_does_not_overwrite_the_history(self, run_db: str) -> None:
        (sentence,) = refused("export run.db --out ./run.db", 1)
        assert "must be another file than the history" in sentence
        assert len(as_json("trials run.db")) == 3
        refused("export run.db --json", 2)
        refused("export run.db --out none/out.csv", 1)


class TestQueue:
    def test_points_are_asked_in_order(self, run_db: str) -> None:
        call("enqueue run.db lr=0.05 depth=9 act=3")
        shown = as_json("""enqueue run.db --params '{"act": 3}' --params '{"depth": 1}'""")
        assert shown == [{"lr": 0.05, "depth": 9, "act": 3}, {"act": 3}, {"depth": 1}]
        assert as_json("ask run.db")["params"] == {"lr": 0.05, "depth": 9, "act": 3}
        assert as_json("ask run.db")["params"]["act"] == 3
        assert as_json("enqueue run.db --list") == [{"depth": 1}]
        assert as_json("enqueue run.db --clear") == [{"depth": 1}]
        assert "no point is queued" in call("enqueue run.db --list").stdout

    def test_a_repeated_point_is_said_once(self, run_db: str) -> None:
        command = [sys.executable, "-m", "bo_suite.cli", "enqueue", run_db, "--json"]
        command += ["lr=0.01", "depth=3", "act=relu"]
        environment = os.environ | {"PYTHONPATH": str(Path(bo_suite.__file__).parents[1])}
        ran = subprocess.run(
            [*command, "--json"], capture_output=True, text=True, env=environment, check=True
        )
        point = {"lr": 0.01, "depth": 3, "act": "relu"}
        assert json.loads(ran.stdout) == [point]
        (line,) = ran.stderr.splitlines()
        assert "repeat earlier ones" in line
        assert str(point) in line

    def test_a_new_point_is_no_repeat(self, run_db: str, caplog: pytest.LogCaptureFixture) -> None:
        call("enqueue run.db lr=0.05 depth=9 act=3")
        assert caplog.records == []
        call("enqueue run.db lr=0.05 depth=9 act=3")
        assert len(caplog.records) == 1

    def test_a_queue_begins_a_history(self, folder: Path) -> None:
        refused("enqueue new.db lr=1 --space space.toml", 1)
        assert not Path("new.db").exists()
        call("enqueue new.db lr=0.001 --space space.toml --seed 5")
        asked = as_json("ask new.db")
        assert asked["params"]["lr"] == 0.001

    @pytest.mark.parametrize(
        ("line", "code", "sentence"),
        [
            ("enqueue run.db", 2, "enqueue needs a point"),
            ("enqueue run.db lr=0.1 --list", 2, "enqueue needs a point"),
            ("enqueue run.db --params [1]", 2, "--params must be a JSON object"),
            ("enqueue run.db --params {", 2, "--params must be a JSON object"),
            ("enqueue run.db lr", 1, "a value must be given as NAME=VALUE, got 'lr'"),
            ("enqueue run.db rate=1", 1, "got unknown 'rate'"),
            ("enqueue run.db lr=1", 1, "parameter 'lr': `1e-05 <= value <= 0.1` must hold, got 1"),
            ("enqueue none.db lr=1", 2, "a new history needs --space FILE"),
            ("ask run.db --fixed act=sine", 1, "the value must be one of ['relu', 'tanh', 3], got 'sine'"),
            ("amend run.db 0 nan", 1, "got nan"),
            ("amend run.db 9 1", 1, "unknown id 9"),
            ("forget run.db 9", 1, "unknown id 9"),
            ("predict run.db", 2, "predict needs a point"),
            ("predict run.db lr=0.01", 1, "missing ['depth', 'act']"),
            ("predict run.db lr=0.01 depth=1 act=3 --interval 2", 1, "`0 < interval < 1` must hold"),
            ("importance run.db", 1, "importances need 3 finished trials, got 2"),
            ("report run.db --plot run.png", 2, "--plot is for a suite"),
            ("report run.db --out run.db", 1, "the page must be another file than the history"),
            ("report run.db --out none/run.html", 1, "cannot be written"),
            ("report past.csv", 1, "past.csv"),
            ("space run.db --yes", 2, "--values and --yes need --edit FILE"),
            ("space run.db --edit space.toml --json", 2, "--json never asks"),
            ("space run.db --edit none.toml --yes", 1, "none.toml"),
        ],
    )
    def test_refusals_change_nothing(self, run_db: str, line: str, code: int, sentence: str) -> None:
        before = as_json("trials run.db")
        assert sentence in refused(line, code)[-1]
        assert as_json("trials run.db") == before
        assert as_json("enqueue run.db --list") == []
        assert as_json("history run.db") == []

    def test_fixed_values_hold(self, run_db: str) -> None:
        asked = as_json("ask run.db --count 3 --fixed act=3 --fixed depth=2")
        assert [(one["params"]["act"], one["params"]["depth"]) for one in asked] == [(3, 2)] * 3


class TestCorrections:
    def test_amend_forget_and_history(self, run_db: str) -> None:
        assert "nothing was amended" in call("history run.db").stdout
        amended = as_json("amend run.db 0 -0.5 --std 0.1")
        assert (amended["value"], amended["std"]) == (-0.5, 0.1)
        assert as_json("forget run.db 1 'the sensor was broken'")["state"] == "withdrawn"
        first, second = as_json("history run.db")
        assert (first["trial"], first["action"], first["before"]["value"]) == (0, "amend", 0.5)
        assert (second["trial"], second["after"]["reason"]) == (1, "the sensor was broken")
        shown = call("history run.db").stdout
        assert "0.5 -> -0.5 ± 0.1" in shown
        assert "0.7 -> withdrawn (the sensor was broken)" in shown


class TestSpace:
    def narrow(self) -> None:
        text = SPACE.replace("high = 12", "high = 3")
        Path("new.toml").write_text(text + '[drop]\ntype = "float"\nlow = 0\nhigh = 0.5\n')

    def test_a_change_is_shown_and_made_if_it_is_confirmed(self, run_db: str) -> None:
        self.narrow()
        line = "space run.db --edit new.toml --values drop=0"
        for typed in ("n\n", None):
            result = call(line, 1, typed)
            assert "error: the space was not changed" in result.stderr
            assert as_json("space run.db")["edits"] == []
        result = call(line, typed="y\n")
        assert "depth: Int(low=1, high=12" in result.stdout
        assert "drop: new -> Float(low=0.0, high=0.5" in result.stdout
        assert "2 of 3 trials will lie outside" in result.stdout
        shown = as_json("space run.db")
        assert list(shown["space"]) == ["lr", "depth", "act", "drop"]
        assert "drop" not in shown["edits"][0]["before"]
        assert [one["params"]["drop"] for one in as_json("trials run.db")] == [0.0] * 3
        shown = call("space run.db").stdout
        assert "high=3" in shown
        assert "depth: Int(low=1, high=12" in shown
        assert "the space is that of the file already" in call("space run.db --edit new.toml").stdout

    def test_json_asks_nothing(self, run_db: str) -> None:
        self.narrow()
        (sentence,) = refused("space run.db --edit new.toml --yes --json", 1)
        assert "got none for ['drop']" in sentence
        changed = as_json("space run.db --edit new.toml --values drop=0.5 --yes")
        assert changed["outside"] == 2
        assert len(changed["changed"]) == 2
        assert changed["space"]["depth"]["high"] == 3

    def test_queued_points_outside_are_removed_by_a_command(self, run_db: str) -> None:
        call("enqueue run.db depth=9")
        self.narrow()
        before = as_json("space run.db")
        for line in ("--yes", "--yes --json"):
            (sentence,) = refused(f"space run.db --edit new.toml --values drop=0 {line}", 1)
            assert "(bo-suite enqueue run.db --clear removes them), got {'depth': 9}" in sentence
        assert as_json("space run.db") == before
        call("enqueue run.db --clear")
        call("space run.db --edit new.toml --values drop=0 --yes")


class TestContexts:
    def test_a_missing_context_names_the_option(self, folder: Path) -> None:
        Path("space.toml").write_text(SPACE.replace("log = true", "log = true\ncontext = true"))
        (sentence,) = refused("ask run.db --space space.toml", 1)
        assert sentence == "every context must be given, as in --fixed lr=..., missing ['lr']"
        assert not Path("run.db").exists()
        asked = as_json("ask run.db --space space.toml --fixed lr=0.01")
        assert asked["params"]["lr"] == 0.01
        call("tell run.db 0 1.0")
        assert refused("recommend run.db --fixed depth=3", 1) == [sentence]
        assert as_json("recommend run.db --fixed lr=0.02")["params"]["lr"] == 0.02


class TestPages:
    def test_a_file_is_a_run(self, run_db: str) -> None:
        pytest.importorskip("plotly")
        assert as_json("report run.db") == {"report": "run.html"}
        assert "report: page.html" in call("report run.db --out page.html").stdout
        assert "The best value is 0.5, of trial 0." in Path("page.html").read_text()

    def test_extras_are_named(self, run_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("optuna_dashboard", "plotly.offline"):
            monkeypatch.setitem(sys.modules, module, None)
        (sentence,) = refused("dashboard run.db", 1)
        assert sentence == "the dashboard needs optuna-dashboard: pip install 'bo-suite[dashboard]'"
        (sentence,) = refused("report run.db", 1)
        assert sentence == "a report needs plotly: pip install 'bo-suite[report]'"
        assert not Path("run.html").exists()

    @pytest.mark.integration
    def test_the_dashboard_answers(self, run_db: str) -> None:
        pytest.importorskip("optuna_dashboard")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "bo_suite.cli", "dashboard", run_db, "--port", str(port), "--json"]
        environment = os.environ | {"PYTHONPATH": str(Path(bo_suite.__file__).parents[1])}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as server:
            assert server.stdout is not None
            try:
                assert str(port) in json.loads(server.stdout.readline())["url"]
                study = fetched(f"http://127.0.0.1:{port}/api/studies/0")
                assert [trial["state"] for trial in study["trials"]] == ["Complete", "Complete", "Fail"]
            finally:
                server.kill()


def fetched(url: str) -> Any:
    """The JSON at an address, whose server is starting."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


class TestInsight:
    @pytest.fixture
    def told_db(self, run_db: str) -> str:
        optimizer = Optimizer.resume(run_db)
        optimizer.add({"lr": 0.05, "depth": 9, "act": "relu"}, 0.2)
        optimizer.close()
        return run_db

    def test_the_commands_say_what_the_optimizer_says(self, told_db: str) -> None:
        optimizer = Optimizer.resume(told_db)
        recommended = as_json("recommend run.db --fixed act=3")
        assert recommended["params"] == optimizer.recommend({"act": 3})
        assert recommended["mean"] == optimizer.predict(recommended["params"])["mean"].item()
        assert recommended["low"] <= recommended["mean"] <= recommended["high"]
        robust = as_json("recommend run.db --robust lr=0.02 --robust depth=1")["params"]
        assert robust == optimizer.recommend(robust={"lr": 0.02, "depth": 1.0})
        for wrong, law in (("lr=much", "got 'much'"), ("act=1", "which is a Choice"), ("lr", "NAME=VALUE")):
            assert law in refused(f"recommend run.db --robust {wrong}", 1)[0]
        importances = {row["parameter"]: row["total"] for row in as_json("importance run.db")}
        assert importances == optimizer.importance()["total"].to_dict()
        points = [{"lr": 0.5, "depth": 3, "act": 3}, {"lr": 0.01, "depth": 3, "act": "relu"}]
        Path("points.csv").write_text("lr,depth,kind\n0.5,3,3\n0.01,3,relu\n")
        predicted = as_json("predict run.db --points points.csv --column act=kind --interval 0.5")
        assert [row["params"] for row in predicted] == points
        assert [row["mean"] for row in predicted] == optimizer.predict(points, 0.5)["mean"].tolist()
        assert [row["outside"] for row in predicted] == [True, False]
        optimizer.close()
        for line in ("recommend run.db", "predict run.db lr=0.5 depth=3 act=3", "importance run.db"):
            assert "lr" in call(line).stdout


def test_a_run_with_constraints_is_made_shown_and_edited_by_commands(tmp_path: Path) -> None:
    file, storage = tmp_path / "space.toml", tmp_path / "run.db"
    number = 'type = "float"\nlow = 0\nhigh = 1\n'
    text = f'constraints = ["a + b == 1"]\n[a]\n{number}[b]\n{number}'
    file.write_text(text)
    call(f"ask {storage} --space {file}")
    first = as_json(f"trials {storage}")[0]["params"]
    assert first["a"] + first["b"] == pytest.approx(1.0, abs=1e-9)
    assert "a + b == 1" in call(f"space {storage}").stdout
    assert as_json(f"space {storage}")["space"]["constraints"] == ["a + b == 1"]
    file.write_text(text.replace("high = 1", "high = 0.75", 1))
    assert as_json(f"space {storage} --edit {file} --yes")["outside"] == 0
    file.write_text(text.replace("== 1", "== 1.25"))
    assert "the constraints of a space must stay" in refused(f"space {storage} --edit {file} --yes", 1)[-1]
    assert "must exist, got none" in refused(f"enqueue {storage} b=0.1", 1)[-1]

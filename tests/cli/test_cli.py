"""The command line: every command, its JSON, its exit codes, its sentences, and the examples in its help."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import bo_suite
from bo_suite import Float, Int, Optimizer, Space
from bo_suite.cli import app
from bo_suite.errors import StorageError
from bo_suite.run.schedulers import ASHA
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header
from bo_suite.study.summary import explanation

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
"""

TUNE = """
import time

from bo_suite import Float, Space

space = Space({"lr": Float(1e-5, 0.1, log=True)})


def objective(params):
    print("chatter on stdout")
    return -1.5 + 10 * params["lr"] + (params.get("depth", 4) - 4) ** 2


def slow(params):
    time.sleep(0.2)
    return params["lr"]


def words(params):
    return "a word"


def fails(params):
    raise ValueError("no luck\\non two lines")


def two(lr, depth):
    return lr


number = 3
"""

FILES = {
    "wider.toml": SPACE.replace("high = 12", "high = 20"),
    "deeper.toml": SPACE + '[dropout]\ntype = "float"\nlow = 0.0\nhigh = 0.5\n',
    "past.csv": "lr,depth,value\n0.01,3,0.5\n0.02,4,0.25\n",
    "yields.csv": "learning rate,depth,yield\n0.01,3,0.5\n0.02,4,0.25\n",
    "points.csv": "lr,depth\n0.01,3\n0.02,4\n",
}
"""Files that examples read."""

ROOT = str(Path(bo_suite.__file__).parents[1])
COMMANDS = typer.main.get_command(app).commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a space and a module of functions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tune", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "tune.py").write_text(TUNE)
    yield tmp_path
    sys.modules.pop("tune", None)


@pytest.fixture
def run_db(folder):
    """A history with trial 0 at 0.5, trial 1 at -0.25, trial 2 failed and trials 3 and 4 running."""
    with_space = Space({"lr": Float(1e-5, 0.1, log=True), "depth": Int(1, 12)})
    optimizer = Optimizer(with_space, seed=7, storage="run.db")
    optimizer.ask(5)
    optimizer.tell(0, 0.5)
    optimizer.tell(1, -0.25, std=0.125)
    optimizer.fail(2, "out of [red]memory")
    optimizer.close()
    return "run.db"


def call(line, code=0):
    """What `bo-suite LINE` prints; a string is split as a shell would."""
    result = CliRunner().invoke(app, shlex.split(line))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def as_json(line, code=0):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(call(f"{line} --json", code).stdout, parse_constant=refuse)


def refused(line, code):
    """The one sentence on stderr."""
    result = call(line, code)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last.removeprefix("error: ")


@contextmanager
def process(*arguments):
    """`bo-suite ARGUMENTS` as a process of its own, which hears Ctrl-C even where the tests do not."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from bo_suite.cli import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": ROOT}
    command = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


class TestAskAndTell:
    def test_a_run_by_hand(self, folder):
        first = as_json("ask run.db --space space.toml --seed 3")
        assert first["id"] == 0
        assert first["state"] == "running"
        assert set(first["params"]) == {"lr", "depth"}
        second, third = as_json("ask run.db --count 2")
        assert [second["id"], third["id"]] == [1, 2]
        assert as_json("ask run.db --count 1")[0]["id"] == 3

        assert as_json("tell run.db 0 0.31")["value"] == 0.31
        told = as_json("tell run.db 1 -0.5 --std 0.02")
        assert (told["state"], told["value"], told["std"]) == ("finished", -0.5, 0.02)
        assert as_json("tell run.db 2 -1e-3")["value"] == -1e-3
        failed = as_json("fail run.db 3 'out of memory'")
        assert (failed["state"], failed["reason"], failed["value"]) == ("failed", "out of memory", None)

        assert as_json("best run.db")["id"] == 1
        assert [trial["id"] for trial in as_json("trials run.db")] == [0, 1, 2, 3]
        assert [trial["id"] for trial in as_json("trials run.db --top 2")] == [1, 2]
        assert [trial["id"] for trial in as_json("trials run.db --state failed")] == [3]
        assert as_json("trials run.db --state running") == []

    def test_asks_continue_the_run_that_python_would_make(self, folder):
        space = Space.from_file("space.toml")
        optimizer = Optimizer(space, seed=3)
        for number, value in enumerate((0.4, 0.3, 0.2, 0.6, 0.1, 0.05, 0.2)):
            asked = as_json("ask run.db --space space.toml --seed 3" if number == 0 else "ask run.db")
            trial = optimizer.ask()
            assert asked["params"] == trial.params
            optimizer.tell(trial, value)
            call(f"tell run.db {number} {value}")

    def test_what_was_chosen_first_holds(self, folder):
        line = "ask run.db --space space.toml --seed 7 --direction maximize --acquisition {}"
        call(line.format("upper-confidence-bound"))
        call("ask run.db")
        call("ask run.db --seed 7 --space space.toml --direction maximize --acquisition UpperConfidenceBound")
        header = History.open("run.db", None).header
        assert (header.seed, header.direction) == (7, "maximize")
        assert header.acquisition["type"].endswith("UpperConfidenceBound")
        call("tell run.db 0 1")
        call("tell run.db 1 2")
        assert as_json("best run.db")["id"] == 1
        assert "another seed: 7, got 8" in refused("ask run.db --seed 8", 1)
        assert "another direction" in refused("ask run.db --direction minimize", 1)
        Path("other.json").write_text('{"x": {"type": "float", "low": 0, "high": 1}}')
        assert "another space" in refused("ask run.db --space other.json", 1)

    def test_an_exhausted_space_exits_with_3(self, folder):
        Path("small.toml").write_text('[x]\ntype = "choice"\noptions = ["a", "b", "c"]\n')
        points = [as_json("ask run.db --space small.toml")["params"]["x"] for _ in range(3)]
        assert sorted(points) == ["a", "b", "c"]
        assert "3" in refused("ask run.db", 3)
        result = CliRunner().invoke(app, ["ask", "run.db", "--json"])
        assert (result.exit_code, result.stdout) == (3, "")

    def test_tables_for_people(self, run_db):
        table = call("trials run.db").stdout
        assert "out of [red]memory" in table
        assert "-0.25 ± 0.12" in table
        assert re.search(r"3 +running", table)
        assert re.search(r"1 +-0.25", call("best run.db").stdout)
        assert re.search(r"3 +finished|3 +0.75", call("tell run.db 3 0.75").stdout)
        assert "no luck" in call("fail run.db 4 'no luck'").stdout
        assert re.search(r"5 +running", call("ask run.db").stdout)

    def test_what_teaches_nothing(self, run_db):
        failed = as_json("fail run.db 3 'connection lost' --transient")
        assert (failed["state"], failed["transient"]) == ("failed", True)
        assert as_json("withdraw run.db 4")["state"] == "withdrawn"
        assert [trial["id"] for trial in as_json("trials run.db --state withdrawn")] == [4]
        assert "trial 4 is already withdrawn" in refused("tell run.db 4 1.0", 1)

    def test_trials_that_were_stopped_while_they_ran(self, run_db):
        with closing(History.open(run_db, None)) as history:
            history.reclaim()
            history.report(3, 7, 0.5, seconds=2.0, verdict="stop")
            history.report(4, 2, 9.0, verdict="pause")
        assert re.search(r"3 +stopped at step 7 +0.5", call("trials run.db").stdout)
        (stopped,) = as_json("trials run.db --state stopped")
        report = {"step": 7, "value": 0.5, "seconds": 2.0, "attempt": 2, "verdict": "stop"}
        assert (stopped["id"], stopped["value"], stopped["reports"]) == (3, 0.5, [report])
        assert [trial["id"] for trial in as_json("trials run.db --state paused")] == [4]
        assert as_json("best run.db")["state"] == "finished"
        counts = as_json("status run.db")["counts"]
        assert (counts["stopped"], counts["paused"], counts["running"]) == (1, 1, 0)
        assert "trial 3 is already stopped, with value 0.5" in refused("tell run.db 3 1.0 --attempt 2", 1)

    def test_a_trial_that_was_handed_out_again_is_ended_by_its_attempt(self, run_db):
        resumed = Optimizer.resume(run_db)  # that of `run_db` is closed: its trials are free
        assert [trial.attempt for trial in resumed.reclaim()] == [2, 2]
        assert "the attempt must be named" in refused("tell run.db 3 1.0", 1)
        assert "only the current attempt" in refused("tell run.db 3 1.0 --attempt 1", 1)
        assert as_json("tell run.db 3 1.0 --attempt 2")["value"] == 1.0
        assert "the attempt must be named" in refused("fail run.db 4 lost", 1)
        assert resumed.tell(4, 2.0).value == 2.0  # by the one that it was handed to
        resumed.close()

    def test_many_trials_are_listed_by_pages(self, folder):
        history = History.open("run.db", Header(Space({"x": Float(0, 1)}), 0, "minimize", None, None))
        history.insert([{"x": number / 500} for number in range(450)], [{}] * 450, expected=0)
        history.close()
        last = call("trials run.db").stdout
        assert "page 3 of 3 (--page), 450 trials" in last
        assert re.search(r"^ *449 ", last, re.MULTILINE)
        assert not re.search(r"^ *399 ", last, re.MULTILINE)
        assert re.search(r"^ *0 .*\n(.*\n)+ *199 ", call("trials run.db --page 1").stdout, re.MULTILINE)
        assert len(as_json("trials run.db")) == 450

    def test_many_parameters_fold_into_one_column(self, folder):
        space = {f"x{k}": {"type": "float", "low": 0, "high": 1} for k in range(20)}
        Path("wide.json").write_text(json.dumps(space))
        assert "x19=" in call("ask run.db --space wide.json").stdout


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "code", "sentence"),
        [
            (
                "tell run.db 3 nan",
                1,
                "a value must be a finite number (use fail() if there is none), got nan",
            ),
            ("tell run.db 3 -inf", 1, "got -inf"),
            ("tell run.db 3 1 --std -1", 1, "a std must be a finite number >= 0, got -1.0"),
            ("tell run.db 0 1", 1, "trial 0 is already finished"),
            ("tell run.db 99 1", 1, "got unknown id 99"),
            ("tell run.db -1 1", 1, "got unknown id -1"),
            ("fail run.db 2 again", 1, "trial 2 is already failed"),
            ("tell none.db 0 1", 1, "there is no file"),
            ("fail none.db 0 x", 1, "there is no file"),
            ("best none.db", 1, "there is no file"),
            ("trials none.db", 1, "there is no file"),
            ("plot none.db", 1, "there is no file"),
            ("best space.toml", 1, "space.toml"),
            ("ask none.db", 2, "the first ask of a history needs --space FILE, got none.db"),
            ("ask none.db --space none.toml", 1, "none.toml"),
            ("ask nowhere/none.db --space space.toml", 1, "nowhere"),
            (
                "ask run.db --acquisition luck",
                2,
                "the acquisition must be one of AdaptiveImprovement, Bore, ",
            ),
            (
                "plot run.db --out run.txt",
                2,
                "must end in .png, .pdf or .svg, got 'run.txt'",
            ),
            ("plot run.db --out nowhere/run.png", 2, "the folder of the plot must exist"),
            ("minimize branin --plot nowhere/run.png", 2, "the folder of the plot must exist"),
            ("minimize brainin", 2, "such as ['branin'"),
            ("minimize branin --space space.toml", 2, "a problem brings its own space"),
            ("minimize branin --storage nowhere/run.db", 1, "nowhere"),
            ("minimize branin --storage run.db", 1, "another space"),
            ("minimize absent:objective", 2, "whose import raised ModuleNotFoundError"),
            ("minimize tune:absent", 2, "tune has no 'absent'"),
            ("minimize tune:", 2, "tune has no ''"),
            ("minimize tune.py:objective", 2, "(tune:objective)"),
            ("minimize tune:two", 2, "an objective must take a dict of parameters and return a float"),
            ("minimize tune:number", 2, "an objective must take a dict of parameters and return a float"),
            ("minimize math:cos", 2, "a function needs --space FILE"),
            (
                "minimize tune:fails --budget 3 --catch",
                1,
                "all 3 evaluations failed, the last with ValueError: no luck on two",
            ),
            ("minimize tune:words --budget 1", 1, "the function must return a number, got 'a word'"),
        ],
    )
    def test_one_sentence_that_says_the_law_and_the_values(self, run_db, line, code, sentence):
        before = History.open(run_db, None).trials()
        assert sentence in refused(line, code)
        assert History.open(run_db, None).trials() == before
        assert not Path("none.db").exists()

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "nothing",
            "tell run.db",
            "tell run.db one 1",
            "tell run.db 3 much",
            "tell run.db 3 1 --sdt 1",
            "ask run.db --count 0",
            "ask run.db --direction up",
            "trials run.db --top 0",
            "trials run.db --state lost",
            "minimize branin --budget 0",
            "minimize branin --workers 0",
        ],
    )
    def test_wrong_usage_exits_with_2(self, run_db, line):
        call(line, 2)
        assert len(History.open(run_db, None).trials()) == 5

    def test_best_of_nothing(self, folder):
        call("ask run.db --space space.toml")
        assert "got 1 trials, none finished" in refused("best run.db", 1)


def test_commands_on_a_history_load_nothing_heavy(run_db):
    heavy = "torch", "pandas", "scipy", "matplotlib", "sklearn", "jaxtyping"
    report = f"import sys; print('loaded', *[name for name in {heavy} if name in sys.modules])"
    lines = "tell run.db 3 1", "fail run.db 4 broken", "best run.db", "trials run.db --top 2 --json"
    commands = [f"app({shlex.split(line)}, standalone_mode=False)" for line in lines]
    codes = ["import bo_suite.space", "\n".join(["from bo_suite.cli import app", *commands])]
    environment = os.environ | {"PYTHONPATH": ROOT}
    loaded = [
        subprocess.run(
            [sys.executable, "-c", f"{code}\n{report}"], env=environment, stdout=subprocess.PIPE, check=True
        ).stdout.splitlines()[-1]
        for code in codes
    ]
    assert loaded[1] == loaded[0]
    assert [trial.state for trial in History.open(run_db, None).trials()][3:] == ["finished", "failed"]


class TestMinimize:
    def test_a_problem(self, folder):
        found = as_json("minimize branin --budget 7 --storage run.db --plot run.png --seed 5")
        assert (found["objective"], found["direction"], found["stopped"]) == ("branin", "minimize", None)
        assert [trial["id"] for trial in found["trials"]] == list(range(7))
        assert found["best"]["value"] == min(trial["value"] for trial in found["trials"])
        assert found["best"] == as_json("best run.db")
        assert Path(found["plot"]).read_bytes().startswith(b"\x89PNG")

    def test_it_goes_on_where_it_stopped(self, folder):
        first = "--seed 5 --acquisition upper-confidence-bound"
        whole = as_json(f"minimize sin3 --storage whole.db --budget 19 {first}")
        as_json(f"minimize sin3 --storage run.db --budget 18 {first}")
        resumed = as_json("minimize sin3 --storage run.db --budget 19")
        assert [t["params"] for t in resumed["trials"]] == [t["params"] for t in whole["trials"]]
        assert "UpperConfidenceBound" in resumed["trials"][-1]["provenance"]["acquisition"]
        assert "another seed" in refused("minimize sin3 --storage run.db --budget 20 --seed 6", 1)

    def test_the_direction_is_that_of_the_option_or_of_the_history(self, folder):
        first = as_json("minimize tune:objective --budget 3 --direction maximize --storage run.db")
        again = as_json("minimize tune:objective --budget 4 --storage run.db")
        for run in (first, again):
            assert run["direction"] == "maximize"
            assert run["best"]["value"] == max(trial["value"] for trial in run["trials"])
        assert len(again["trials"]) == 4
        sentence = refused("minimize tune:objective --direction minimize --storage run.db", 1)
        assert "belongs to another direction: maximize, got minimize" in sentence

    def test_for_people(self, folder):
        shown = call("minimize branin --budget 3 --storage run.db --plot run.svg").stdout
        assert "of 3 evaluated, 0 failed" in shown
        assert "history: run.db" in shown
        assert "convergence: run.svg" in shown
        assert "<svg" in Path("run.svg").read_text()

    def test_a_function_with_a_space_file(self, folder):
        found = as_json("minimize tune:objective --space space.toml --budget 3 --storage run.db")
        assert set(found["best"]["params"]) == {"lr", "depth"}
        assert (
            len(as_json("minimize tune:objective --space space.toml --budget 4 --storage run.db")["trials"])
            == 4
        )

    def test_a_function_with_a_space_in_its_module(self, folder):
        assert set(as_json("minimize tune:objective --budget 2")["best"]["params"]) == {"lr"}

    def test_a_function_with_the_space_of_its_history(self, folder):
        (folder / "bare.py").write_text("def objective(params):\n    return params['depth']\n")
        call("ask run.db --space space.toml")
        found = as_json("minimize bare:objective --budget 2 --storage run.db")
        assert [trial["id"] for trial in found["trials"] if trial["value"] is not None]
        sys.modules.pop("bare")

    def test_an_exhausted_space_shows_what_was_found(self, folder):
        Path("small.toml").write_text('[lr]\ntype = "choice"\noptions = [1, 2, 3]\n')
        found = as_json("minimize tune:objective --space small.toml", 3)
        assert len(found["trials"]) == 3
        assert found["best"]["params"] == {"lr": 1}

    def test_failures_are_counted_and_kept(self, folder):
        found = as_json("minimize tune:fails --budget 2 --catch", 1)
        assert found["best"] is None
        assert {trial["reason"] for trial in found["trials"]} == {"ValueError: no luck\non two lines"}

    @pytest.mark.parametrize("storage", ["", "--storage run.db"])
    def test_a_bug_is_shown_with_its_traceback_and_may_be_seen_again(self, folder, storage):
        result = call(f"minimize tune:fails --budget 3 {storage}", 1)
        assert result.stdout == ""
        *shown, last = result.stderr.splitlines()
        assert "ValueError: no luck" in shown
        assert any("in fails" in line for line in shown)
        assert "bo_suite/" not in result.stderr.replace(str(folder), "")
        law = "error: the function raised ValueError: no luck on two lines before an evaluation had finished"
        assert last.startswith(law)
        if storage:
            assert "`bo-suite trials run.db --why` shows the traceback again" in last
            why = call("trials run.db --why").stdout
            assert "trial 0 failed at lr=0.001: ValueError: no luck" in why
            assert "in fails" in why
            (failed,) = as_json("trials run.db --why")
            assert failed["traceback"].startswith("Traceback (most recent call last)")

    def test_a_spent_budget_is_said_and_no_error(self, folder):
        call("minimize tune:objective --budget 2 --storage run.db")
        sentence = "the budget of 2 was spent already: the storage has 2 trials"
        assert as_json("minimize tune:objective --budget 2 --storage run.db")["stopped"] == sentence
        assert (
            f"nothing was evaluated: {sentence}"
            in call("minimize tune:objective --budget 2 --storage run.db").stdout
        )

    def test_why_is_paged_and_goes_with_failures_alone(self, run_db):
        assert "trial 2 failed at" in call("trials run.db --why").stdout
        assert "(no traceback was stored)" in call("trials run.db --why").stdout
        for line in ("trials run.db --why --top 2", "trials run.db --why --state finished"):
            assert "--why shows failed trials" in refused(line, 2)
        optimizer = Optimizer.resume(run_db)
        for trial in optimizer.ask(21):
            optimizer.fail(trial, "why", traceback=f"line of {trial.id}")
        optimizer.close()
        assert "page 2 of 2 (--page), 22 trials" in call("trials run.db --why").stdout
        assert call("trials run.db --why --page 1").stdout.count("line of") == 19


class TestPlotAndProblems:
    def test_the_picture_lies_beside_the_history(self, run_db):
        assert as_json("plot run.db") == {"plot": "run.png"}
        assert Path("run.png").read_bytes().startswith(b"\x89PNG")
        assert "convergence: run.svg" in call("plot run.db --out run.svg --minimum -1").stdout

    def test_learning_curves(self, folder):
        with closing(Optimizer(Space({"x": Float(0, 1)}), storage="run.db", scheduler=ASHA(9))) as optimizer:
            for trial, value in zip(optimizer.ask(3), (0.5, 0.4, 0.6), strict=True):
                optimizer.report(trial, 1, value)
        assert "curves: run.curves.png" in call("plot run.db --curves").stdout
        assert Path("run.curves.png").read_bytes().startswith(b"\x89PNG")
        assert as_json("plot run.db --trial 0 --out one.svg") == {"plot": "one.svg"}
        assert call("plot run.db --trial 0 --minimum 1", 2).stdout == ""
        assert "which is unknown" in call("plot run.db --trial 7", 1).stderr

    def test_problems(self):
        known = {one["name"]: one for one in as_json("problems")}
        assert known["branin"]["minimum"] == pytest.approx(0.397887)
        assert known["svm_digits"]["minimum"] is None
        assert known["svm_digits"]["space"]["C"]["log"] is True
        assert re.search(r"svm_digits +5 +Choice, Float, Int +unknown", call("problems").stdout)


class TestHelp:
    def test_version(self):
        assert call("--version").stdout.strip() == bo_suite.__version__

    @pytest.mark.parametrize("name", ["", *COMMANDS])
    def test_every_help_shows_an_example(self, name, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        shown = call(f"{name} --help").stdout
        assert f"bo-suite {name}" in shown.split("Examples")[1]
        assert name or "130 interrupted" in shown

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[pytest.mark.slow] * (name in ("bench", "minimize")))
            for name in ["", *COMMANDS]
        ],
    )
    def test_the_examples_run(self, name, run_db, monkeypatch, request):
        if name == "dashboard":  # a server that has ended
            pytest.importorskip("optuna")
            ended = types.SimpleNamespace(run_server=lambda storage, host, port: None)
            monkeypatch.setitem(sys.modules, "optuna_dashboard", ended)
        epilog = (COMMANDS[name] if name else typer.main.get_command(app)).epilog
        examples = re.findall(r"`(bo-suite .*)`", epilog)
        assert examples
        if name in ("", "minimize", "ask"):
            Path(run_db).unlink()
        if name in ("amend", "forget", "recommend", "predict", "importance"):
            call("tell run.db 3 0.25")
        for file, text in FILES.items():
            Path(file).write_text(text)
        if name in ("tell", "fail", "withdraw"):
            History.open(run_db, None).close()
            Path(run_db).unlink()
            call("ask run.db --space space.toml --count 3")
        if name == "runs":
            address = request.getfixturevalue("postgres_url").partition("?")[0]
            Optimizer(Space({"x": Float(0, 1)}), storage=f"{address}?run=svm").close()
            examples = [one.replace("postgresql://me@db.lab/bo", address) for one in examples]
        if name == "report":
            call("bench branin --methods random,sobol --budget 4 --workers 1 --out first")
        for example in examples:
            call(example.removeprefix("bo-suite "))

    def test_help_does_not_wait_for_torch(self):
        code = (
            "import sys\nfrom bo_suite.cli import main\nsys.argv = ['bo-suite', 'ask', '--help']\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class TestProcesses:
    @pytest.mark.slow
    def test_a_shell_script(self, folder):
        if shutil.which("jq") is None:
            pytest.skip("the example pipes into jq, which is not installed")
        script = """
        set -euo pipefail
        bo-suite() { "$PYTHON" -m bo_suite.cli "$@"; }
        id=$(bo-suite ask run.db --space space.toml --json | jq .id)
        bo-suite tell run.db "$id" -0.5 > /dev/null
        bo-suite best run.db --json | jq -c '[.id, .value]'
        """
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": ROOT}
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "[0,-0.5]\n"
        assert done.stderr == ""

    @pytest.mark.slow
    def test_workers_and_clean_json(self, folder):
        with process("minimize", "tune:objective", "--budget", "4", "--workers", "2", "--json") as running:
            stdout, stderr = running.communicate(timeout=300)
        assert running.returncode == 0, stderr
        assert len(json.loads(stdout)["trials"]) == 4
        assert "chatter on stdout" in stderr

    @pytest.mark.slow
    def test_ctrl_c_keeps_what_finished(self, folder):
        with process("minimize", "tune:slow", "--budget", "500", "--storage", "run.db", "--json") as running:
            deadline = time.monotonic() + 120
            while not Path("run.db").exists() or _finished("run.db") < 2:
                assert time.monotonic() < deadline, "no trial finished"
                time.sleep(0.1)
            running.send_signal(signal.SIGINT)
            stdout, stderr = running.communicate(timeout=60)
        assert running.returncode == 130
        assert stderr.splitlines()[-1].startswith("error: interrupted")
        found = json.loads(stdout)
        assert found["stopped"] == "interrupted"
        kept = sum(trial["state"] == "finished" for trial in found["trials"])
        assert kept == _finished("run.db") >= 2


def _finished(path):
    try:
        history = History.open(path, None)
    except StorageError:  # it is being created
        return 0
    count = sum(trial.state == "finished" for trial in history.trials())
    history.close()
    return count


def test_a_run_ends_at_its_target_or_its_time_as_was_asked_for(folder):
    line = "minimize branin --budget 40 --storage"
    found = as_json(f"{line} target.db --target 20")
    assert found["stopped"].startswith(f"trial {found['best']['id']} reached the target 20 with")
    assert found["best"]["value"] <= 20
    assert len(found["trials"]) < 40
    shown = call(f"{line} time.db --time-limit 0.001").stdout
    assert "ended early: the 0.001 seconds are over" in shown
    assert len(Optimizer.resume("time.db").trials) == 1
    assert refused(f"{line} none.db --time-limit 0", 1) == "`seconds > 0` must hold, got 0.0"
    assert not Path("none.db").exists()


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({}, "added by the user, not suggested"),
        (
            {"source": "design", "observations": 2},
            "an initial point, spread over the space, after 2 observations",
        ),
        (
            {"source": "fallback", "observations": 3, "fallback": "no finite density"},
            "a random point after 3 observations, since the model failed: no finite density",
        ),
        (
            {
                "source": "acquisition",
                "observations": 9,
                "acquisition": "AdaptiveImprovement(patience=5)",
                "chosen": {"scale": "as given", "rule": "improvement"},
            },
            "chosen from 9 observations by AdaptiveImprovement; scale: as given; rule: improvement",
        ),
    ],
)
def test_why_says_how_a_point_was_chosen(provenance: dict[str, object], words: str) -> None:
    assert explanation(provenance) == words

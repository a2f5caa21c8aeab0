"""Gradients and deviations of what was set on the command line."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bo_suite.cli import app

SPACE = """
[lr]
type = "float"
low = 1e-5
high = 0.1
log = true
[kernel]
type = "choice"
options = ["rbf", "poly"]
"""


def call(line: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


def as_json(line: str) -> Any:
    return json.loads(call(f"{line} --json").stdout)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(SPACE)
    call("ask run.db --space space.toml")


def test_tell_amend_and_the_lists_show_them() -> None:
    told = as_json("""tell run.db 0 0.31 --gradient '{"lr": -2.0}' --params-std '{"lr": 1e-4}'""")
    assert (told["gradient"], told["params_std"]) == ({"lr": -2.0}, {"lr": 1e-4})
    assert as_json("trials run.db") == [told]
    assert as_json("best run.db") == told
    amended = as_json("""amend run.db 0 0.29 --gradient '{"lr": -1.5}'""")
    assert (amended["gradient"], amended["params_std"]) == ({"lr": -1.5}, {"lr": 1e-4})
    again = as_json("amend run.db 0 0.28 --params-std '{}'")
    assert "gradient" not in again
    assert "params_std" not in again
    history = " ".join(call("history run.db").stdout.split())
    assert "0.31, gradient lr=-2," in history
    assert [change["before"]["gradient"] for change in as_json("history run.db")] == [
        '{"lr": -2.0}',
        '{"lr": -1.5}',
    ]


def test_tables_carry_them() -> None:
    call("""tell run.db 0 0.31 --gradient '{"lr": -2.0}' --params-std '{"lr": 1e-4}'""")
    call("export run.db --out t.csv")
    call("import other.db t.csv --space space.toml")
    (one,), (other,) = as_json("trials run.db"), as_json("trials other.db")
    for name in ("params", "value", "gradient", "params_std"):
        assert one[name] == other[name]


@pytest.mark.parametrize(
    ("options", "code", "law"),
    [
        ("""--gradient '{"kernel": 1.0}'""", 1, "which is a Choice"),
        ("""--gradient '{"rate": 1.0}'""", 1, "got 'rate'"),
        ("""--gradient '{"lr": "steep"}'""", 1, "must be a finite number"),
        ("""--gradient '{"lr": NaN}'""", 1, "must be a finite number"),
        ("""--params-std '{"lr": -1.0}'""", 1, "must be a finite number >= 0"),
        ("--gradient '[1.0]'", 2, "--gradient must be a JSON object"),
        ("--params-std lr=0.1", 2, "--params-std must be a JSON object"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_stores_nothing(options: str, code: int, law: str) -> None:
    result = call(f"tell run.db 0 0.31 {options}", code)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert law in line
    assert as_json("trials run.db")[0]["state"] == "running"


def test_a_function_of_minimize_may_return_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sloped.py").write_text("def f(params):\n    return params['lr'], {'lr': 1.0}\n")
    monkeypatch.syspath_prepend(".")
    done = as_json("minimize sloped:f --space space.toml --budget 2")
    assert [trial["gradient"] for trial in done["trials"]] == [{"lr": 1.0}] * 2

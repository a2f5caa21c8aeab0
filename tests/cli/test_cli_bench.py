"""`bo-suite bench` and `bo-suite report`, as a user would type them."""

import json
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bo_suite.cli import app

needs_plotly = pytest.mark.skipif(find_spec("plotly") is None, reason="needs plotly (bo-suite[report])")


OUTSIDER = """
from bo_suite import Float, Space
from bo_suite.problems import Problem

def vee(params):
    return abs(params["x"] - 0.25)

mine = Problem("vee", Space({"x": Float(0, 1)}), vee, minimum=0.0, minimizers=({"x": 0.25},))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(line: str, code: int = 0) -> tuple[str, str]:
    """What `bo-suite LINE` prints on stdout and on stderr."""
    result = CliRunner().invoke(app, shlex.split(line))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@needs_plotly
def test_a_suite_is_run_summed_up_and_drawn(folder: Path) -> None:
    said, _ = call("bench branin --methods random,sobol --seeds 3:5 --budget 5 --workers 1 --out b")
    assert "2 methods on 1 problem" in said
    assert "bo-suite report b" in said
    said, _ = call("report b")
    assert said.strip() == "report: b/report.html"
    page = (folder / "b" / "report.html").read_text()
    assert "branin" in page
    assert "sobol" in page
    said, _ = call("report b --plot b.svg --highlight sobol")
    assert said.split() == ["report:", "b/report.html", "plot:", "b.svg"]
    assert "sobol" in (folder / "b.svg").read_text()
    assert "report" in json.loads(call("report b --plot c.png --json")[0])
    assert (folder / "c.png").stat().st_size > 10_000
    for wrong, code in (
        ("--plot b.nothing", 2),
        ("--plot no/b.png", 2),
        ("--highlight sobol", 2),
        ("--plot b.png --highlight nobody", 1),
    ):
        _, said = call(f"report b --out no.html {wrong}", code=code)
        assert said.startswith("error: ")
    assert not (folder / "no.html").exists()
    call("report b --out page.html")
    assert (folder / "page.html").read_text() == page


@needs_plotly
def test_json_has_the_tables_and_nothing_else_is_on_stdout(folder: Path) -> None:
    said, _ = call("bench branin --methods random,sobol --seeds 0:2 --budget 4 --workers 1 --out b --json")
    found = json.loads(said)
    assert found["units"] == 4
    assert {row["method"] for row in found["ranks"]} == {"random", "sobol"}
    assert len(found["pairs"]) == 1
    again = json.loads(call("report b --json")[0])
    assert again.pop("report") == "b/report.html"
    assert again == found


def test_more_seeds_are_added_to_the_records(folder: Path) -> None:
    line = "bench branin --methods random --budget 4 --workers 1 --out b --json"
    assert json.loads(call(f"{line} --seeds 0:2")[0])["units"] == 2
    assert json.loads(call(f"{line} --seeds 0:3")[0])["units"] == 3
    assert json.loads(call(f"{line} --seeds 7:8")[0])["units"] == 4


def test_a_problem_of_ones_own_is_named_by_module_and_attribute(folder: Path) -> None:
    (folder / "outsider_vee.py").write_text(OUTSIDER)
    said, _ = call(
        "bench outsider_vee:mine --methods sobol --seeds 0:2 --budget 4 --workers 1 --out b --json"
    )
    assert [row["problem"] for row in json.loads(said)["summary"]] == ["vee"]


@needs_plotly
@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("bench bronin --out b", 1, "branin"),
        ("bench branin --methods rondom --out b", 1, "'random'"),
        ("bench branin --seeds 5:5 --out b", 2, "FIRST < END"),
        ("bench branin --seeds a:b --out b", 2, "FIRST < END"),
        ("bench branin --seeds 20 --out b", 2, "FIRST < END"),
        ("bench branin --methods random --rerun lost --out b", 1, "crashed"),
        ("bench branin --methods random,random --out b", 1, "differ"),
        ("bench branin --methods random --python tpe=python3 --out b", 2, "METHOD=PYTHON"),
        ("bench branin --methods random --python random=nowhere/python --out b", 1, "interpreter"),
        ("bench branin --methods random --time-limit 0 --out b", 1, "time_limit < inf"),
        ("report nowhere", 1, "suite.db"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(folder: Path, line: str, code: int, sentence: str) -> None:
    said, error = call(line, code)
    assert said == ""
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert not (folder / "b").exists()


def test_another_budget_in_the_same_folder_is_refused(folder: Path) -> None:
    line = "bench branin --methods random --seeds 0:1 --workers 1 --out b"
    call(f"{line} --budget 4")
    _, error = call(f"{line} --budget 5", 1)
    assert '"budget": 4' in error
    assert '"budget": 5' in error

"""Every code block of README, CONTRIBUTING and docs runs: those of a page in order in one folder."""

import os
import re
import shlex
import subprocess
import sys
import types
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from code_blocks import PAGES, ROOT, CodeBlock, code_blocks
from fake_slurm import FakeSlurm

from bo_suite.cli import app

if TYPE_CHECKING:
    from postgres_server import Server

WRITTEN = re.compile(r"""[\w/-]+\.(?:db|png|toml|html|csv)\b|(?<=--out )[\w/-]+|(?<=out=")[\w/-]+""")
"""Names of files and folders in a code block."""

RUN_HERE = [page for page in PAGES if {block.language for block in code_blocks(page)} & {"python", "bash"}]
LONG = {"acquisitions", "benchmarks-of-your-own", "insight", "integrations", "outcomes", "surrogates"}
"""Pages whose blocks take eight seconds of one core or more."""


def test_blocks_are_of_languages_that_are_run() -> None:
    assert {block.language for block in code_blocks(*PAGES)} == {"python", "bash", "console"}
    assert len(RUN_HERE) > 9
    assert {page.stem for page in RUN_HERE} > LONG


def test_no_page_writes_the_files_of_another() -> None:
    """So that a reader can follow all pages in one folder."""
    writers: dict[str, set[Path]] = {}
    for block in code_blocks(*PAGES):
        for name in WRITTEN.findall(block.code):
            writers.setdefault(name.partition("/")[0], set()).add(block.page)
    assert writers.keys() >= {"loop.db", "run.db", "tuning.db", "space.toml", "first", "second"}
    assert [name for name, pages in writers.items() if len(pages) > 1] == []


@pytest.mark.filterwarnings("ignore:A not p.d.")  # BoTorch, of two of its candidates that are close
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in LONG)) for page in RUN_HERE],
    ids=lambda page: page.stem,
)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if any("postgresql:///" in block.code for block in code_blocks(page)):
        server = request.getfixturevalue("postgres_server")
        set_database(server, monkeypatch)
        request.addfinalizer(lambda: remove_database(server))
    left_out = []
    for block in code_blocks(page):
        libraries = re.findall(
            r"^(?:from|import) (optuna|ray|ConfigSpace|lightning|keras)\b", block.code, re.MULTILINE
        )
        libraries += ["submitit"] * ("SlurmExecutor" in block.code)
        libraries += ["plotly"] * bool(re.search(r"^(?:report\(|bo-suite report)", block.code, re.MULTILINE))
        if missing := [library for library in libraries if find_spec(library) is None]:
            left_out.append(f"{block} needs {missing[0]}")
        elif block.language == "bash":
            run_bash(block)
        elif {"ray", "submitit", "lightning", "keras"} & set(libraries):
            # their workers must get all that is defined here, or they warn of themselves
            if "submitit" in libraries:
                for name, value in FakeSlurm(tmp_path / "slurm").environment.items():
                    monkeypatch.setenv(name, value)
            (tmp_path / "page.py").write_text(block.code)
            run_command([sys.executable, "page.py"], block)
        elif block.language == "python":
            module = types.ModuleType("page")
            monkeypatch.setitem(sys.modules, "page", module)  # so that what it defines can be pickled
            exec(compile(block.padded, str(page), "exec"), module.__dict__)
    if left_out:
        pytest.skip("; ".join(left_out))


def set_database(server: "Server", monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a database `tuning`, and says in the environment where it is."""
    server.execute("CREATE DATABASE tuning")
    for name, value in (
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", str(server.port)),
        ("PGUSER", "postgres"),
        ("PGPASSWORD", server.password),
    ):
        monkeypatch.setenv(name, value)


def remove_database(server: "Server") -> None:
    """Removes the database, and the roles that a page makes."""
    server.execute("DROP DATABASE tuning WITH (FORCE)")
    for role in ("bo_worker", "bo_reader"):
        server.execute(f"DROP ROLE IF EXISTS {role}")


def run_bash(block: CodeBlock) -> None:
    """Runs `bo-suite` commands here, where the package is imported already, and other lines with bash."""
    for of_ours, lines in groupby(block.code.splitlines(), lambda line: line.startswith("bo-suite ")):
        if of_ours:
            for line in lines:
                app(shlex.split(line, comments=True)[1:], standalone_mode=False)
        else:
            run_command(["bash", "-e", "-c", "\n".join(lines)], block)


def run_command(command: list[str], block: CodeBlock) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "HOME": str(Path.cwd()),
    }
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, f"{block}: {answer.stderr[-3000:]}"


def test_console_blocks_are_targets_of_the_makefile() -> None:
    console = "".join(block.code for block in code_blocks(*PAGES) if block.language == "console")
    commands = re.findall(r"^\$ make ([\w-]+)", console, re.MULTILINE)
    assert set(commands) == {"demo", "test", "test-all", "check", "notebooks"}
    assert len(commands) == console.count("$ ")
    for command in set(commands):
        subprocess.run(["make", "-n", command], cwd=ROOT, check=True, capture_output=True)

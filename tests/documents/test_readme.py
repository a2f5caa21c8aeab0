"""Every code block of the README runs, in a folder of its own, or all of them in order in one folder."""

import os
import re
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    found = [text for name, text in BLOCKS if name == language]
    assert found, f"the README has no {language} block"
    return found


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {name for name, _ in BLOCKS} == {"python", "bash", "console"}


def test_no_block_meets_the_files_of_another() -> None:
    """So they can be followed in one folder; each runs in one of its own below, and needs no other's."""
    written = re.compile(r"""[\w/-]+\.(?:db|png|toml|html|csv)\b|(?<=--out )[\w/-]+|(?<=out=")[\w/-]+""")
    found = [{name.partition("/")[0] for name in written.findall(text)} for _, text in BLOCKS]
    counts = Counter(name for names in found for name in names)
    assert set(counts) >= {"loop.db", "run.db", "tuning.db", "space.toml", "first", "second"}
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.filterwarnings("ignore:A not p.d.")  # BoTorch, of two of its candidates that are close
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0][:40])
def test_python(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in re.findall(r"^(?:from|import) (optuna|ray)\b", code, re.MULTILINE):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if re.search(r"^from ray", code, re.MULTILINE):  # whose workers must get all that is defined here
        run_script(code, tmp_path)
        return
    module = types.ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # so that what it defines can be pickled
    exec(compile(code, "README.md", "exec"), module.__dict__)


def run_script(code: str, folder: Path) -> None:
    script = folder / "readme.py"
    script.write_text(code)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "HOME": str(folder)}
    answer = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]


@pytest.mark.parametrize("code", blocks("bash"), ids=lambda code: code.splitlines()[0][:40])
def test_bash(code: str, tmp_path: Path) -> None:
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-e", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PATH": scripts},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr


def test_console_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^\$ make (\w+)", "".join(blocks("console")), re.MULTILINE)
    assert commands == ["demo", "test"]
    for command in commands:
        subprocess.run(["make", "-n", command], cwd=ROOT, check=True, capture_output=True)

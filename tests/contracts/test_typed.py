"""The types of the public names: what users write passes the checkers, and what is wrong does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "typed"))

from check_types import blocks
from code_blocks import PAGES

CHECK = Path(__file__).parent / "typed" / "check_types.py"


def checked(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(CHECK), *map(str, files)], capture_output=True, text=True)


def test_every_block_of_the_documents_is_checked() -> None:
    pages = {page.stem.replace("-", "_"): page.read_text(encoding="utf-8") for page in PAGES}
    checked_blocks = blocks()
    assert len(checked_blocks) == sum(text.count("\n```python\n") for text in pages.values())
    for name, code in checked_blocks.items():
        page, _, line = name.removesuffix(".py").rpartition("_")
        assert code.splitlines()[int(line) - 1] == pages[page].splitlines()[int(line) - 1]
        compile(code, name, "exec")


@pytest.mark.slow
def test_what_users_write_passes_both_checkers() -> None:
    answer = checked()
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.slow
def test_both_checkers_complain_of_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    lines = (
        "from bo_suite import Float, Optimizer, Space",
        'optimizer = Optimizer(Space({"x": Float(0, "1")}))',
        'optimizer.tell(0, "a")',
        "x: int = 3  # type: ignore[assignment]",
    )
    file.write_text("\n".join(lines))
    answer = checked(file)
    assert answer.returncode == 1
    for place in (2, 3, 4):
        assert len(re.findall(rf"wrong\.py:{place}:.* error", answer.stdout)) == 2, answer.stdout

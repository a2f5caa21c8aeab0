"""Whether mypy and pyright accept what users write: `user.py` and each Python block of README and docs.

    python tests/contracts/typed/check_types.py [FILE ...]

Both read the files (by default those above) as a user's own, mypy with --strict, pyright in standard mode.
The exit code is 1 if either complains. pyright comes from basedpyright, whose wheels hold all it needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "documents"))

from code_blocks import PAGES, code_blocks  # noqa: E402


def blocks() -> dict[str, str]:
    """The Python blocks of all pages by names of files, each on the lines where its page has it."""
    return {
        f"{block.page.stem.replace('-', '_')}_{block.line:04}.py": block.padded
        for block in code_blocks(*PAGES)
        if block.language == "python"
    }


def mypy(files: Sequence[Path], folder: Path) -> int:
    settings = folder / "mypy.ini"
    settings.write_text("[mypy]\n", encoding="utf-8")  # not that of the package
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--strict"]
    command += ["--scripts-are-modules", "--allow-subclassing-any"]  # extras need not be installed
    command += ["--follow-imports", "silent", "--ignore-missing-imports", "--no-error-summary"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "users")]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    return subprocess.run([*command, *map(str, files)], env=environment, check=False, cwd=ROOT).returncode


def pyright(files: Sequence[Path], folder: Path) -> int:
    settings = {
        "include": [str(file) for file in files],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": True,
        "reportMissingImports": False,  # extras, such as Ray, need not be installed
    }
    path = folder / "pyrightconfig.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--project", str(path), "--pythonpath", sys.executable]
    return subprocess.run(command, check=False, cwd=folder).returncode


def main(arguments: Sequence[str]) -> int:
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        sources = {file: Path(file).read_text(encoding="utf-8") for file in arguments} or {
            "user.py": (Path(__file__).parent / "user.py").read_text(encoding="utf-8"),
            **blocks(),
        }
        files = [folder / Path(file).name for file in sources]
        for file, source in zip(files, sources.values(), strict=True):
            file.write_text(source, encoding="utf-8")
        codes = mypy(files, folder), pyright(files, folder)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

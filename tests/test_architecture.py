"""Imports point upward in the list of DESIGN.md, and the public names are what they are said to be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bo_suite

ROOT = Path(bo_suite.__file__).parent
LAYERS = (
    "errors",
    "locks",
    "copies",
    "describe",
    "keywords",
    "outcomes",
    "raised",
    "content",
    "scalars",
    "shown",
    "parameters",
    "fixed",
    "space_files",
    "space",
    "linalg",
    "data",
    "optim",
    "kernels",
    "surrogates",
    "classifiers",
    "density_ratio",
    "acquisition",
    "repeats",
    "suggest",
    "trials",
    "proposer",
    "owners",
    "schema",
    "storage_paths",
    "rows",
    "database",
    "headers",
    "turns",
    "history",
    "asking",
    "optimizer",
    "stopping",
    "evaluate",
    "failures",
    "child",
    "interrupt",
    "processes",
    "workers",
    "crew",
    "running",
    "plot",
    "loop",
    "problems",
    "bench",
    "integrations",
    "testing",
    "cli",
)
"""Lowest first; a module may import from its own layer and from those before it."""


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bo_suite."):
            names.append(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "bo_suite":
            names += [alias.name for alias in node.names if alias.name in LAYERS]
        elif isinstance(node, ast.Import):
            names += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bo_suite.")]
    return names


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upward(path: Path) -> None:
    own = layer(path)
    assert own in LAYERS, f"{own} has no place in the list of layers"
    for name in imported(path):
        assert LAYERS.index(name) <= LAYERS.index(own), f"{own} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_within_four_hundred_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_public_names_exist_and_nothing_heavy_loads_with_the_package() -> None:
    for name in bo_suite.__all__:
        assert getattr(bo_suite, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bo_suite.nothing
    assert loaded_with("bo_suite, bo_suite.evaluate", ["torch", "pandas", "botorch"]) == []


def test_the_core_does_not_load_botorch() -> None:
    assert loaded_with("bo_suite.loop, bo_suite.problems", ["botorch", "gpytorch", "sklearn"]) == []


def loaded_with(modules: str, heavy: list[str]) -> list[str]:
    code = f"import sys, {modules}; print(*[name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.split()

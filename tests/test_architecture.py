"""Rooms import from allowed rooms only, and the public names are what they are said to be."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import bo_suite

ROOT = Path(bo_suite.__file__).parent
ALLOWED = {
    "errors": "",
    "system": "",
    "values": "errors",
    "pages": "values",
    "linalg": "errors system values",
    "data": "errors linalg",
    "space": "data errors values",
    "optim": "data errors space",
    "kernels": "data errors",
    "surrogates": "data errors kernels linalg optim values",
    "classifiers": "data errors kernels linalg optim surrogates values",
    "acquisition": "classifiers data errors linalg optim space surrogates values",
    "storage": "acquisition errors kernels space system values",
    "study": "acquisition data errors linalg optim space storage surrogates values",
    "plot": "errors linalg space storage study surrogates values",
    "run": "acquisition errors plot space storage study system values",
    "problems": "errors space storage values",
    "bench": (
        "acquisition classifiers data errors linalg pages plot problems run space "
        "storage study surrogates system values"
    ),
    "integrations": "acquisition data errors kernels linalg run space storage study surrogates values",
    "testing": "acquisition bench classifiers data errors linalg problems space storage study surrogates",
    "report": "errors pages plot space storage study values",
    "cli": "acquisition bench errors integrations plot problems report run space storage study values",
}
"""What each room may import from beside itself, lowest first: always from rooms above it in this list."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bo_suite."):
            names.append(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "bo_suite":
            names += [alias.name for alias in node.names if alias.name in ALLOWED]
        elif isinstance(node, ast.Import):
            names += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bo_suite.")]
    return names


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_from_allowed_rooms_only(path: Path) -> None:
    own = room(path)
    assert own in ALLOWED, f"{own} is not in the list of rooms"
    assert set(imported(path)) <= {own, *ALLOWED[own].split()}


def test_rooms_import_from_rooms_above_them_only() -> None:
    order = list(ALLOWED)
    for index, allowed in enumerate(ALLOWED.values()):
        assert set(allowed.split()) <= set(order[:index])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_within_four_hundred_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


HEAVY = ("botorch", "gpytorch", "jaxtyping", "matplotlib", "pandas", "rich", "scipy", "sklearn", "torch")

ASK = """
import sys
from bo_suite import Float, Optimizer, Space
optimizer = Optimizer(Space({"x": Float(0, 1)}), initial=2)
for _ in range(4):
    trial = optimizer.ask()
    optimizer.tell(trial, trial.params["x"])
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names))
"""


def test_public_names_exist() -> None:
    for name in bo_suite.__all__:
        assert getattr(bo_suite, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bo_suite.nothing


@pytest.mark.parametrize(
    "statement",
    [
        "from bo_suite import Choice, Float, Int, Mixture, Optimizer, Result, Space, Trial, minimize",
        *(
            f"import bo_suite.{module}"
            for module in (
                *("storage.history", "storage.serialization", "study.summary", "run.child", "run.evaluate"),
                *("run.minimize", "run.stopping", "run.workers", "cli"),
            )
        ),
    ],
)
def test_what_commands_workers_and_scripts_import_first_is_light(statement: str) -> None:
    assert set(HEAVY) & loaded_with(f"import sys; {statement}; print(*sys.modules)") == set()


def test_what_a_plain_ask_loads() -> None:
    loaded = loaded_with(ASK)
    assert loaded & set(HEAVY) == {"jaxtyping", "scipy", "torch"}
    assert {"numpy", "threadpoolctl"} <= loaded


REPORT = """
import sys
from bo_suite import Float, Optimizer, Space
from bo_suite.run.schedulers import ASHA, Hyperband
from bo_suite.storage.history import History
optimizer = Optimizer(Space({"x": Float(0, 1)}), scheduler=ASHA(9))
optimizer._history.insert([{"x": 0.5}], [{}], expected=0)
print(*(optimizer.report(0, step, 1.0 / step) for step in (1, 3, 9)), *sys.modules)
"""


def test_a_report_to_a_scheduler_without_a_model_loads_nothing_heavy() -> None:
    assert loaded_with(REPORT) & {*HEAVY, "stop"} == set()


def test_problems_load_neither_botorch_nor_scikit_learn() -> None:
    loaded = loaded_with("import sys, bo_suite.problems; print(*sys.modules)")
    assert loaded & {"botorch", "gpytorch", "sklearn"} == set()


def test_the_old_names_of_modules_are_those_of_the_new_ones() -> None:
    for old, new in bo_suite._MOVED.items():
        sys.modules.pop(old, None)
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            module = importlib.import_module(old)
        assert module is importlib.import_module(new)


def loaded_with(code: str) -> set[str]:
    """The names that a fresh interpreter prints after some code."""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())

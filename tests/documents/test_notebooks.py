"""The notebooks: each script runs on a small budget without a warning, and its .ipynb is it, executed."""

import ast
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

jupytext = pytest.importorskip("jupytext")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.py"))
SMALL: dict[str, dict[str, object]] = {
    "01_optimise_a_black_box": {"EVALUATIONS": 12},
    "02_sparse_variational_gps": {"STEPS": 20, "COUNTS": (14,), "BATCH_STEPS": 9, "N": 2000, "M": 30},
    "03_knowledge_gradient": {
        "OUTCOMES": 110,
        "SIMULATED": 20,
        "SEEDS": 2,
        "BUDGET": 8,
        "FIDELITY_BUDGET": 7,
    },
    "04_bore": {
        "SAMPLES": 2000,
        "STEPS": (1, 10, 100),
        "DENSE": 1500,
        "MEMBERS": 1,
        "SEEDS": 2,
        "SMOOTH": 6,
        "JUMPY": 8,
    },
    "05_low_rank_cholesky": {
        "SIZES": (32, 64, 128),
        "RANKS": (1, 4, 16, 64),
        "N": 128,
        "SECONDS": 0.01,
        "DRAWS": 2,
        "READINGS": 300,
        "WINDOWS": (64, 128),
    },
    "06_natural_gradients_and_polya_gamma": {
        "adam_count": 60,
        "natural_count": 25,
        "sweeps": 60,
        "fresh": 2000,
        "n_plane": 40,
        "rounds": 1,
    },
    "07_benchmark_a_suite": {
        "SEEDS": 4,
        "BUDGET": 12,
        "SUITE_SEEDS": 2,
        "SUITE_BUDGET": 7,
        "TWIN_SEEDS": 8,
        "TOURNAMENTS": 300,
    },
    "08_tuning_loops": {"BUDGET": 10, "CUT": 5, "RAY_TRIALS": 4, "STOP_BUDGET": 12},
    "09_gradients_and_messages": {"BUDGET": 8, "SEEDS": 1},
}
"""What the cell tagged `parameters` of a notebook sets, smaller."""

assert NOTEBOOKS

over_notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run_cell(source: str, names: dict[str, object]) -> object:
    """Runs a cell as a notebook does: the value of its last line, if that is an expression, is its output."""
    lines = ["" if line.startswith("%") else line for line in source.splitlines()]
    tree = ast.parse("\n".join(lines))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, names["__name__"], "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), names["__name__"], "eval"), names)


def assert_legible(figure: Figure) -> None:
    """Axes of numbers have labels; letters are of eight points at least, and the figure not wide."""
    figure.draw_without_rendering()
    assert figure.get_figwidth() <= 10
    for axes in figure.axes:
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [label.get_text() for label in axis.get_ticklabels() if label.get_visible()]
            numbers = [tick for tick in ticks if any(letter.isdigit() for letter in tick)]
            assert axis.get_label_text() or not numbers, f"an axis of {axes.get_title()!r} has no label"
    sizes = [text.get_size() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert min(sizes) >= 8


@pytest.fixture
def torch_as_it_was():
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.mark.slow
@over_notebooks
@pytest.mark.usefixtures("torch_as_it_was")
def test_the_script_runs_and_its_figures_are_legible(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    module = types.ModuleType(path.stem)
    monkeypatch.setitem(sys.modules, path.stem, module)  # so that what it defines can be pickled
    small, tagged = SMALL[path.stem], 0
    for cell in jupytext.read(path).cells:
        tags = cell.metadata.get("tags", [])
        needed = [tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-")]
        if cell.cell_type != "code" or any(find_spec(library) is None for library in needed):
            continue
        output = run_cell(cell.source, module.__dict__)
        if isinstance(output, Figure):
            assert_legible(output)
        if "parameters" in tags:
            assert small.keys() <= module.__dict__.keys()
            module.__dict__.update(small)
            tagged += 1
    assert tagged == 1
    assert capsys.readouterr().err == ""


@over_notebooks
def test_the_notebook_is_the_script_executed(path):
    written = path.with_suffix(".ipynb")
    assert written.stat().st_size < 600_000
    script, notebook = jupytext.read(path), jupytext.read(written)
    for mine, its in zip(script.cells, notebook.cells, strict=True):
        assert (mine.cell_type, mine.source) == (its.cell_type, its.source), "`make notebooks` mends this"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@over_notebooks
def test_the_story_ends_with_when_to_use_it(path):
    cells = jupytext.read(path).cells
    assert cells[0].source.startswith("# ")
    assert cells[-1].cell_type == "markdown"
    assert cells[-1].source.startswith("## When to use this")

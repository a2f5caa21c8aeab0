"""Execute the notebooks: each NAME.py, in percent format, into NAME.ipynb with its outputs.

    python notebooks/execute.py            # all of them
    python notebooks/execute.py 03 05      # those whose names begin so

A cell that fails or warns stops it. What it writes holds no times and no random names, so that only outputs
that have changed differ.
"""

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a script, executed by a kernel of this interpreter."""
    script = jupytext.read(source)
    cells = [nbformat.from_dict({**cell, "id": f"{source.stem}-{k}"}) for k, cell in enumerate(script.cells)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    NotebookClient(
        notebook, timeout=600, record_timing=False, resources={"metadata": {"path": HERE}}
    ).execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            raise SystemExit(f"{source.name} warns:\n{cell.source}\n{cell.outputs}")
    return notebook


def main() -> None:
    wanted = tuple(sys.argv[1:])
    for source in sorted(HERE.glob("[0-9]*.py")):
        if not wanted or source.name.startswith(wanted):
            start = time.perf_counter()
            target = source.with_suffix(".ipynb")
            nbformat.write(execute(source), target)
            print(f"{target.name}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

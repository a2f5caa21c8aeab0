"""Execute the notebooks: each NAME.py, in percent format, into NAME.ipynb with its outputs.

    python notebooks/execute.py            # all of them
    python notebooks/execute.py 03 05      # those whose names begin so

A cell that fails or warns stops it. What it writes holds no times of execution and no random names, so that a
notebook differs only where what its cells show does.
"""

import base64
import io
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

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
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise SystemExit(f"{source.name} warns:\n{cell.source}\n{output.text}")
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def smaller(png: str) -> str:
    """The picture in 128 colours, a third of its size."""
    packed = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def main() -> None:
    beginnings = tuple(sys.argv[1:]) or ("",)
    wanted = [source for source in sorted(HERE.glob("[0-9]*.py")) if source.name.startswith(beginnings)]
    if not wanted:
        raise SystemExit(f"a notebook's name must begin with one of {beginnings}, none does")
    for source in wanted:
        start = time.perf_counter()
        target = source.with_suffix(".ipynb")
        nbformat.write(execute(source), target)
        print(f"{target.name}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

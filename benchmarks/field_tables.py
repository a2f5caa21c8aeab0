"""Makes the tables of the suite `field` from the files of their authors.

    python benchmarks/field_tables.py DATA

DATA holds `buchwald/{a,b,c}.csv` and `.json` (the Buchwald-Hartwig reactions of Ahneman et al. 2018, as the
Olympus of the Aspuru-Guzik group distributes them) and `gpu_kernels/convolution_*.json.gz` (of the autotuning
benchmark hub of the AutoTuningAssociation), each with its LICENSE.
"""

import csv
import gzip
import itertools
import json
import shutil
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "bo_suite" / "problems" / "field" / "data"
ORDERED = ("block_size_x", "block_size_y", "tile_size_x", "tile_size_y")
REASONS = {
    "not allowed": "the kernel does not exist for these parameters",
    "RuntimeFailedConfig": "the kernel failed when it ran",
    "CompilationFailedConfig": "the kernel could not be compiled",
}


def write(name: str, content: dict[str, object]) -> None:
    text = json.dumps(content, separators=(",", ":"))
    path = TARGET / f"{name}.json.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(path.name, path.stat().st_size, "bytes")


def reaction(folder: Path, letter: str) -> None:
    form = json.loads((folder / f"{letter}.json").read_text())
    options = {parameter["name"]: parameter["options"] for parameter in form["parameters"]}
    with (folder / f"{letter}.csv").open(newline="") as file:
        yields = {tuple(row[:-1]): float(row[-1]) for row in csv.reader(file)}
    measurements = [yields[point] for point in itertools.product(*options.values())]
    assert len(measurements) == len(yields)
    write(
        f"buchwald_{letter}",
        {"parameters": options, "ordered": [], "sign": -1, "reasons": {}, "measurements": measurements},
    )


def kernel(path: Path) -> None:
    form = json.loads(gzip.decompress(path.read_bytes()))
    keys, options = form["tune_params_keys"], form["tune_params"]
    times = {key: entry["time"] for key, entry in form["cache"].items()}
    measurements = []
    for point in itertools.product(*(options[key] for key in keys)):
        time = times.pop(",".join(map(str, point)), "not allowed")
        measurements.append(time if isinstance(time, str) else float(f"{time:.6g}"))
    assert not times
    varying = {key: options[key] for key in keys if len(options[key]) > 1}
    content = {
        "parameters": varying,
        "ordered": list(ORDERED),
        "sign": 1,
        "reasons": REASONS,
        "measurements": measurements,
    }
    write(path.name.removesuffix(".json.gz"), content)


def main(data: Path) -> None:
    TARGET.mkdir(exist_ok=True)
    for letter in "abc":
        reaction(data / "buchwald", letter)
    for path in sorted((data / "gpu_kernels").glob("*.json.gz")):
        kernel(path)
    for source, name in (("buchwald", "buchwald"), ("gpu_kernels", "convolution")):
        shutil.copyfile(data / source / "LICENSE", TARGET / f"LICENSE-{name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Memory and time of an ask as observations grow to 100,000, each n in a process of its own.

python benchmarks/scaling.py --out /tmp/scaling --plot benchmarks/results/scaling.png
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZES = (25, 50, 100, 200, 400, 700, 1000, 1400, 2000, 5000, 10_000, 30_000, 100_000)


def one(n: int, asks: int) -> dict[str, Any]:
    """Median seconds of an ask after n observations of hartmann6, and the peak memory of the process."""
    import torch

    from bo_suite import Optimizer
    from bo_suite.problems import get_problem

    torch.set_num_threads(1)
    problem = get_problem("hartmann6")
    optimizer = Optimizer(problem.space)
    generator = torch.Generator().manual_seed(n)
    rows = torch.rand(n, problem.space.dim, generator=generator, dtype=torch.float64)
    for params in problem.space.decode(rows):
        optimizer.add(params, problem(params))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, fits, searches = [], [], []
    for _ in range(asks + 1):
        start = time.perf_counter()
        trial = optimizer.ask()
        seconds.append(time.perf_counter() - start)
        fits.append(trial.provenance["fit_ms"] / 1e3)
        searches.append(trial.provenance["search_ms"] / 1e3)
        optimizer.tell(trial, problem(trial.params))
    return {
        "n": n,
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:]),
        "fit": statistics.median(fits[1:]),
        "search": statistics.median(searches[1:]),
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "base_mb": before,
    }


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Time and added memory against n, on logarithmic axes."""
    from matplotlib.ticker import NullFormatter

    from bo_suite.plot.style import LINES, RED, new_figure

    figure, ((left, right),) = new_figure(1, 2, width=8.4, height=3.8)
    n = [record["n"] for record in records]
    parts = (("seconds", "ask"), ("fit", "of it: fit"), ("search", "of it: search"))
    for (key, label), line in zip(parts, LINES, strict=False):
        seconds = [record[key] for record in records]
        left.plot(n, seconds, color=line.color, linestyle=line.dashes, marker=line.marker, label=label)
    left.set(xlabel="observations, n", ylabel="seconds (median)", title="Time of a suggestion, d = 6")
    left.legend(frameon=False)
    right.plot(n, [max(record["mb"], 1.0) for record in records], color=RED, marker="o")
    right.set(xlabel="observations, n", ylabel="megabytes (peak)", title="Memory that suggestions add")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    right.set_yticks([20, 50, 100, 200, 400], ["20", "50", "100", "200", "400"])
    right.yaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--asks", type=int, default=3)
    parser.add_argument("--one", type=int, help="measure one n in this process, and print it")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.asks)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    records = []
    for n in SIZES:
        command = [
            sys.executable,
            __file__,
            "--out",
            str(options.out),
            "--asks",
            str(options.asks),
            "--one",
            str(n),
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        records.append(json.loads(answer.splitlines()[-1]))
        print(answer.splitlines()[-1], flush=True)
    (options.out / "scaling.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(records, options.plot)


if __name__ == "__main__":
    main()

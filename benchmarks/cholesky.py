"""Low-rank changes of Cholesky factors beside forming the matrix and factorising it again, in one run.

    python benchmarks/cholesky.py --out /tmp/cholesky --plot benchmarks/results/cholesky.png
    python benchmarks/cholesky.py --device cuda --out /tmp/cholesky-cuda

Refactoring is given the matrix A itself: it forms A + V Vᵀ (A - V Vᵀ, A with a row more or less) and calls
torch.linalg.cholesky; the functions of bo_suite.linalg are given the factor of A only. One who has only the
factor has to form A as well: `given L`. One thread; medians.
On a CPU everything is measured with numba and, in a process of its own, without. jax is a peer if installed.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if "--without-numba" in sys.argv:
    sys.modules["numba"] = None  # type: ignore[assignment]

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.linalg import cholesky_append, cholesky_delete, cholesky_downdate, cholesky_update
from bo_suite.plot.style import INK, LINES, legend_below, new_figure
from bo_suite.surrogates import ExactGP, ExactProcess

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LOOKS = {
    name: (line.color, line.marker)
    for name, line in zip(("update", "downdate", "delete first", "append"), LINES, strict=False)
}
"""Colour and marker of the operations that are drawn."""
SECONDS = 0.4
"""Time spent on a measurement."""


def median_ms(call: Callable[[], object], device: str) -> float:
    """Milliseconds of a call, the median of as many as fit into the time, at least three."""
    call()
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < SECONDS and len(taken) < 300):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def matrix(n: int, batch: tuple[int, ...], device: str) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    root = torch.randn(*batch, n, n, generator=generator, dtype=torch.float64).to(device)
    return root @ root.mT / n + 0.1 * torch.eye(n, dtype=torch.float64, device=device)


def compare(
    operation: str, n: int, k: int = 1, batch: tuple[int, ...] = (), device: str = "cpu"
) -> dict[str, Any]:
    """Milliseconds of an operation on factors (*batch, n, n) and of refactoring, and the residual."""
    before = matrix(n, batch, device)
    chol = torch.linalg.cholesky(before)
    generator = torch.Generator().manual_seed(k)
    vectors = torch.randn(*batch, n, k, generator=generator, dtype=torch.float64).to(device)
    whole = matrix(n + 1, batch, device)
    part = torch.linalg.cholesky(whole[..., :n, :n])
    shrunk = chol @ (0.7 * vectors / torch.linalg.matrix_norm(vectors, 2)[..., None, None])
    ours: dict[str, Callable[[], Tensor]] = {
        "update": lambda: cholesky_update(chol, vectors),
        "downdate": lambda: cholesky_downdate(chol, shrunk),
        "delete first": lambda: cholesky_delete(chol, 0),
        "delete middle": lambda: cholesky_delete(chol, n // 2),
        "append": lambda: cholesky_append(part, whole[..., :n, n:], whole[..., n:, n:]),
    }

    def without(row: int) -> Tensor:
        left = torch.cat((before[..., :row, :], before[..., row + 1 :, :]), -2)
        return torch.cat((left[..., :row], left[..., row + 1 :]), -1)

    def appended() -> Tensor:
        formed = torch.empty_like(whole)
        formed[..., :n, :n] = whole[..., :n, :n]
        formed[..., n:, :] = whole[..., n:, :]
        formed[..., :n, n:] = whole[..., :n, n:]
        return formed

    formed: dict[str, Callable[[], Tensor]] = {
        "update": lambda: before + vectors @ vectors.mT,
        "downdate": lambda: before - shrunk @ shrunk.mT,
        "delete first": lambda: without(0),
        "delete middle": lambda: without(n // 2),
        "append": appended,
    }
    result, target = ours[operation](), formed[operation]()
    residual = torch.linalg.matrix_norm(result @ result.mT - target) / torch.linalg.matrix_norm(target)
    record = {
        "operation": operation,
        "n": n,
        "k": k,
        "batch": list(batch),
        "device": device,
        "numba": "numba" in sys.modules and sys.modules["numba"] is not None,
        "residual": float(residual.max()),
        "ms": median_ms(ours[operation], device),
        "refactor_ms": median_ms(lambda: torch.linalg.cholesky(formed[operation]()), device),
    }
    record["ratio"] = record["refactor_ms"] / record["ms"]
    if operation in ("update", "downdate") and n < 4096:
        sign, terms = (1.0, vectors) if operation == "update" else (-1.0, shrunk)
        record["given_factor_ms"] = median_ms(
            lambda: torch.linalg.cholesky(chol @ chol.mT + sign * terms @ terms.mT), device
        )
    if operation == "update" and k == 1:
        other = torch.empty_like(chol)
        copy = median_ms(lambda: other.copy_(chol), device)
        size = 8e-6 * n * n * max(1, len(batch) and batch[0])
        record["gb_per_s"] = 1.5 * size / record["ms"]  # reads a triangle, writes a square
        record["copy_gb_per_s"] = 2.0 * size / copy
    return record


def window(observations: int, size: int) -> dict[str, Any]:
    """A window sliding over observations one by one beside the batch posterior of each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(observations, 4, generator=generator, dtype=torch.float64)
    y = torch.sin(5.0 * x).sum(-1)
    hyperparameters = torch.tensor([-1.0, -0.8, -0.6, -0.4, 0.3, -6.0], dtype=torch.float64)

    def batch(stop: int) -> ExactProcess:
        rows = slice(stop - size, stop)
        return ExactGP().process(Dataset(x[rows], y[rows], None, x[:0]), hyperparameters)

    process = batch(size)
    mean = process.prior_mean
    start = time.perf_counter()
    for i in range(size, observations):
        process = process.slide(x[i : i + 1], y[i : i + 1])
    slid = time.perf_counter() - start
    start = time.perf_counter()
    for i in range(size, observations):
        reference = batch(i + 1)
    refitted = time.perf_counter() - start
    white = torch.linalg.solve_triangular(reference.chol, (y[-size:] - mean.constant)[:, None], upper=False)[
        :, 0
    ]
    reference = replace(reference, white=white, prior_mean=mean)
    test = torch.rand(100, 4, generator=generator, dtype=torch.float64)
    pairs = zip(process.mean_and_var(test), reference.mean_and_var(test), strict=True)
    return {
        "operation": "window",
        "n": size,
        "numba": sys.modules.get("numba") is not None,
        "residual": max(float((ours - theirs).abs().max()) for ours, theirs in pairs),
        "ms": 1e3 * slid / (observations - size),
        "refactor_ms": 1e3 * refitted / (observations - size),
        "ratio": refitted / slid,
    }


def jax_update(n: int) -> dict[str, Any]:
    """jax.lax.linalg.cholesky_update, compiled beforehand: its loop is unrolled, so that n must be small."""
    import jax

    jax.config.update("jax_enable_x64", True)
    chol = torch.linalg.cholesky(matrix(n, (), "cpu"))
    vector = torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    upper, column = jax.numpy.asarray(chol.mT.numpy()), jax.numpy.asarray(vector[:, 0].numpy())
    start = time.perf_counter()
    update = jax.jit(jax.lax.linalg.cholesky_update)
    update(upper, column).block_until_ready()
    compiled = time.perf_counter() - start
    theirs = median_ms(lambda: update(upper, column).block_until_ready(), "cpu")
    ours = median_ms(lambda: cholesky_update(chol, vector), "cpu")
    return {"operation": "jax", "n": n, "ms": ours, "jax_ms": theirs, "jax_compile_s": compiled}


def measure(device: str, quick: bool) -> list[dict[str, Any]]:
    """Every case of the tables."""
    records = []

    def add(record: dict[str, Any]) -> None:
        records.append(record)
        print(json.dumps(record), flush=True)

    sizes = SIZES[:4] if quick else SIZES
    for n in sizes:
        for operation in ("update", "downdate", "delete first", "delete middle", "append"):
            add(compare(operation, n, device=device))
    add(compare("append", sizes[-1] // 2 - 1, device=device))
    for k in RANKS[1:]:
        for operation in ("update", "downdate"):
            if k <= sizes[-2] // 4:
                add(compare(operation, sizes[-2], k, device=device))
    for k in RANKS[:-2]:
        for operation in ("update", "downdate"):
            add(compare(operation, 128, k, (64,), device))
    add(compare("update", sizes[3], 1, (64,), device))
    if device == "cpu":
        for size in (256, 512, 1024)[: 1 if quick else 3]:
            add(window(size + 300 if quick or size > 256 else 5000, size))
    if device == "cpu" and "--without-numba" not in sys.argv and find_spec("jax"):
        for n in (64, 128) if quick else (64, 128, 256):
            add(jax_update(n))
    return records


def table(title: str, records: list[dict[str, Any]]) -> Table:
    out = Table(title=title, title_justify="left")
    for name in (
        "operation",
        "n",
        "k",
        "batch",
        "ms",
        "refactoring, ms",
        "given L, ms",
        "ratio",
        "residual",
        "GB/s (copy)",
    ):
        out.add_column(name, justify="left" if name == "operation" else "right")
    for r in records:
        rate = f"{r['gb_per_s']:.1f} ({r['copy_gb_per_s']:.1f})" if "gb_per_s" in r else ""
        shape = "x".join(map(str, r.get("batch", ())))
        given = f"{r['given_factor_ms']:.3f}" if "given_factor_ms" in r else ""
        times = f"{r['ms']:.3f}", f"{r['refactor_ms']:.3f}", given
        numbers = (*times, f"{r['ratio']:.1f}", f"{r['residual']:.0e}")
        out.add_row(r["operation"], str(r["n"]), str(r.get("k", "")), shape, *numbers, rate)
    return out


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Ratios over n for single vectors and rows, and time over k at the largest n that has several."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, ((left, right),) = new_figure(1, 2, width=8.4, height=4.8)
    single = [r for r in records if r.get("k") == 1 and not r["batch"]]
    for operation, numba in itertools.product(LOOKS, (True, False)):
        rows = [r for r in single if r["operation"] == operation and r["numba"] == numba]
        if operation == "append":
            rows = [r for r in rows if numba and r["n"] in SIZES]  # numba has no part in it
        draw(left, operation, numba, [(r["n"], r["ratio"]) for r in rows])
    left.axhline(1.0, color="grey", linewidth=0.8)
    left.set(
        xlabel="rows of the matrix, n", ylabel="times faster than refactoring", title="One vector or row"
    )
    n = max((r["n"] for r in records if r.get("k", 1) > 1), default=0)
    many = [r for r in records if r["n"] == n and "k" in r and not r["batch"]]
    for operation, numba in itertools.product(("update", "downdate"), (True, False)):
        rows = [r for r in many if r["operation"] == operation and r["numba"] == numba]
        draw(right, operation, numba, [(r["k"], r["ms"]) for r in rows])
    rows = [r for r in many if r["operation"] == "update" and r["numba"]]
    right.plot(
        [r["k"] for r in rows], [r["refactor_ms"] for r in rows], color=INK, label="refactoring, A given"
    )
    right.set(xlabel="number of vectors, k", ylabel="milliseconds", title=f"k vectors, n = {n}")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axes, ticks in ((left, SIZES), (right, RANKS)):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=9)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(plain)
    legend_below(figure, 3)
    figure.savefig(path)


def draw(axes: "Axes", operation: str, numba: bool, points: list[tuple[int, float]]) -> None:
    """One operation; its markers are open and its line is dotted where numba has no part."""
    if points:
        color, marker = LOOKS[operation]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            linestyle="-" if numba else ":",
            marker=marker,
            markerfacecolor=color if numba else "white",
            markersize=5,
            label=operation if numba else f"{operation}, no numba",
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--without-numba", action="store_true", help="LAPACK and torch only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    records = measure(options.device, options.quick)
    name = "without-numba" if options.without_numba else options.device
    (options.out / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if options.device == "cpu" and not options.without_numba:
        command = [sys.executable, __file__, "--without-numba", "--out", str(options.out)]
        subprocess.run(command + ["--quick"] * options.quick, check=True)
        lines = (options.out / "without-numba.jsonl").read_text().splitlines()
        records += [json.loads(line) for line in lines]
    if options.without_numba:
        return
    console = Console(width=120)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor()
    console.print(f"commit {commit}, torch {torch.__version__}, {where or platform.machine()}")
    timed = [record for record in records if "ratio" in record]
    if options.device == "cpu":
        console.print(table("CPU, with numba", [r for r in timed if r["numba"]]))
        console.print(table("CPU, without numba", [r for r in timed if not r["numba"]]))
    else:
        console.print(table("CUDA", timed))
    for r in (record for record in records if record["operation"] == "jax"):
        ours, theirs = f"{r['ms']:.3f} ms", f"{r['jax_ms']:.3f} ms"
        console.print(f"jax, n = {r['n']}: {theirs}, compiled in {r['jax_compile_s']:.1f} s; bo_suite {ours}")
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(records, options.plot)


if __name__ == "__main__":
    main()

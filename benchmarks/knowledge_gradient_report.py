"""What benchmarks/knowledge_gradient.py compares with, the file of its records, and tables of these."""

import ctypes
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.kernels.gpytorch_kernel import GPyTorchKernel
from bo_suite.linalg import solve_lower
from bo_suite.surrogates import ExactProcess, PriorMean
from bo_suite.surrogates.basis import Basis

Record = dict[str, Any]

BASE = "NoisyExpectedImprovement"
"""What other methods are paired with, by seed."""

KG, PEER = "KnowledgeGradient", "botorch_qkg"


def botorch_model(x: Tensor, y: Tensor) -> Any:
    """SingleTaskGP, as shipped, of standardised outcomes, smaller is better."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(x, -y[:, None], outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def botorch_best_mean(model: Any, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The largest posterior mean, and the bounds of its search."""
    from botorch.acquisition import PosteriorMean
    from botorch.optim import optimize_acqf

    torch.manual_seed(seed)
    bounds = torch.tensor([[0.0] * dim, [1.0] * dim], dtype=torch.float64)
    return optimize_acqf(PosteriorMean(model), bounds, q=1, num_restarts=20, raw_samples=2048)[1], bounds


def botorch_suggestion(model: Any, dim: int, seed: int, limit: float, batch: int) -> tuple[Record, Tensor]:
    """Seconds of the search, and for the best posterior mean before it, and a row: as in BoTorch's tutorial.

    But `batch` raw samples are scored at a time: all 512 at once take more than 20 GB at n = 200, d = 6.
    """
    from botorch.acquisition import qKnowledgeGradient
    from botorch.optim import optimize_acqf

    began = time.perf_counter()
    current, bounds = botorch_best_mean(model, dim, seed)
    found = time.perf_counter()
    acquisition = qKnowledgeGradient(model, num_fantasies=64, current_value=current)
    kind: Record = {"options": {"init_batch_limit": batch}, "timeout_sec": limit}
    rows, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512, **kind)
    return {"seconds": time.perf_counter() - found, "current_seconds": found - began}, rows[0]


def botorch_value(model: Any, current: Tensor, row: Tensor) -> float:
    """BoTorch's knowledge gradient of a row, its inner problems solved to the end, with its own fantasies."""
    from botorch.acquisition import qKnowledgeGradient
    from botorch.sampling import SobolQMCNormalSampler

    torch.manual_seed(0)
    sampler = SobolQMCNormalSampler(torch.Size([128]), seed=1)
    acquisition = qKnowledgeGradient(model, num_fantasies=128, sampler=sampler, current_value=current)
    bounds = torch.stack((torch.zeros_like(row), torch.ones_like(row)))
    return float(acquisition.evaluate(row[None, None], bounds=bounds, num_restarts=10, raw_samples=512))


def botorch_process(model: Any, data: Dataset) -> ExactProcess:
    """BoTorch's fitted model as a process of bo_suite."""
    kernel = GPyTorchKernel(model.covar_module)
    theta, noise = kernel.start(data.x.shape[-1]), model.likelihood.noise.detach()[0]
    mean = -model.mean_module.constant.detach()
    chol = torch.linalg.cholesky(kernel.gram(theta, data.x)[0] + noise * torch.eye(len(data.y)).to(data.x))
    white = solve_lower(chol, (data.y - mean)[:, None])[:, 0]
    basis, jitter = Basis.of_rows(kernel, theta, data.x, chol), torch.zeros_like(noise)
    process = ExactProcess(basis, white, PriorMean(mean), noise, jitter)
    with torch.no_grad():
        torch.testing.assert_close(
            -model.posterior(data.x).mean[:, 0], process.mean(data.x), atol=1e-6, rtol=0
        )
    return process


def forget_peak() -> float:
    """Gives free memory back to the system and forgets the peak so far; megabytes in use."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def peak_megabytes() -> float:
    """Not getrusage's ru_maxrss, which a process takes over from the one that starts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def all_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Where each line is the highest, from its crossings with all others: O(j²) in memory."""
    size = max(1, 2**24 // a.shape[-1] ** 2)  # 128 MB a temporary
    return torch.cat([_all_pairs(*part) for part in zip(a.split(size), b.split(size), strict=True)])


def _all_pairs(a: Tensor, b: Tensor) -> Tensor:
    rise, fall = b[:, None, :] - b[:, :, None], a[:, :, None] - a[:, None, :]
    crossing = fall / rise
    upper = torch.where(rise > 0, crossing, torch.inf).amin(-1)
    lower = torch.where(rise < 0, crossing, -torch.inf).amax(-1)
    place = torch.arange(a.shape[-1])
    beaten = (rise == 0) & ((fall < 0) | ((fall == 0) & (place < place[:, None])))
    mass, density = torch.special.ndtr(upper) - torch.special.ndtr(lower), _density(lower) - _density(upper)
    highest = (lower < upper) & ~beaten.any(-1)
    return torch.where(highest, a * mass + b * density, 0.0).sum(-1) - a.amax(-1)


def stack_scan(a: Tensor, b: Tensor) -> Tensor:
    """Lines in order of slope, each taking those that it hides off a stack, one candidate after another."""
    by_intercept = a.argsort(-1)
    order = by_intercept.gather(-1, b.gather(-1, by_intercept).argsort(stable=True, dim=-1))
    rise, crossing = _scan(a.gather(-1, order).numpy(), b.gather(-1, order).numpy())
    u = -torch.from_numpy(crossing).abs()
    return (torch.from_numpy(rise) * (_density(u) + u * torch.special.ndtr(u))).sum(-1)


@numba.njit
def _scan(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rises, crossings = np.zeros_like(a), np.zeros_like(a)
    stack, since = np.zeros(a.shape[1], np.int64), np.empty(a.shape[1])
    for row in range(len(a)):
        size = 0
        for line in range(a.shape[1]):
            start = -np.inf
            while size:
                top = stack[size - 1]
                rise, fall = b[row, line] - b[row, top], a[row, top] - a[row, line]
                start = fall / rise if rise > 0 else -np.inf
                if start > since[size - 1]:
                    break
                size, start = size - 1, -np.inf
            stack[size], since[size], size = line, start, size + 1
        for place in range(1, size):
            rises[row, place] = b[row, stack[place]] - b[row, stack[place - 1]]
            crossings[row, place] = since[place]
    return rises, crossings


def _density(u: Tensor) -> Tensor:
    return torch.exp(-0.5 * u.square()) / (2.0 * torch.pi) ** 0.5


WAYS = {"all pairs": all_pairs, "stack scan": stack_scan}


def add(path: Path, record: Record) -> None:
    """Writes a record, with where it was made, and shows what of it is short."""
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    versions = {name: importlib.metadata.version(name) for name in ("torch", "botorch", "gpytorch")}
    device = platform.processor() or platform.machine()
    record = record | {"commit": commit, "versions": versions, "device": device}
    cut = path.exists() and not path.read_text().endswith("\n")  # by a kill: it must not swallow this one
    with path.open("a") as file:
        file.write("\n" * cut + json.dumps(record, allow_nan=False) + "\n")
    shown = {key: value for key, value in record.items() if not isinstance(value, list)}
    print(json.dumps(shown), flush=True)


def read(path: Path) -> list[Record]:
    """Records of a file; a line cut off by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"left out a broken line of {path}", file=sys.stderr)
    return [record for record in records if record]


def report(records: Sequence[Record]) -> None:
    """Prints the tables of each part that has records."""
    origins = {(r["commit"], *(f"{k} {v}" for k, v in r["versions"].items()), r["device"]) for r in records}
    for origin in sorted(origins):
        print("commit " + ", ".join(origin))
    for part, show in SHOW.items():
        chosen = [record for record in records if record["part"] == part]
        if chosen:
            print(f"\n### {part}\n")
            show(chosen)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    print()


def show_suggest(records: Sequence[Record]) -> None:
    """Seconds, memory, and the worth of the suggestions under BoTorch's model."""
    head = ["d", "n", "method", "ms", "fit", "build", "search", "BoTorch's ms, of this", "without the fit"]
    rows, worth = [], []
    for r in sorted(records, key=lambda r: (r["problem"], r["n"])):
        peer = r["methods"][PEER]
        for name, m in r["methods"].items():
            cells = [str(len(m["row"])), str(r["n"]), name, f"{1e3 * m['seconds']:.1f}"]
            if name == PEER:
                cells[-1] = "over " * (m["seconds"] > r["limit"]) + cells[-1]
                cells += ["", "", "", "", "", f"{m['mb']:.1f}", ""]
            else:
                cells += [f"{1e3 * m[key]:.1f}" for key in ("fit_seconds", "build_seconds", "search_seconds")]
                bare = m["seconds"] - m["fit_seconds"]
                cells += [f"{peer['seconds'] / seconds:.1f}×" for seconds in (m["seconds"], bare)]
                cells += [f"{m['mb']:.1f}", f"{peer['mb'] / max(m['mb'], 1e-3):.1f}×"]
            rows.append(cells)
        best = r["values"][PEER]
        for name, value in r["values"].items():
            ratio = f"{value / best:.3f}" if best > 0 else ""
            worth.append([str(len(peer["row"])), str(r["n"]), name, f"{value:.5g}", ratio])
    markdown([*head, "MB added", "BoTorch's, of this"], rows)
    seconds = ", ".join(f"{1e3 * r['methods'][PEER]['current_seconds']:.0f}" for r in records)
    batches = ", ".join(sorted({str(r["batch"]) for r in records}))
    print(
        f"BoTorch scores {batches} raw samples at a time. Its fit is not counted, nor its search for the best"
    )
    print(f"posterior mean ({seconds} ms).\n")
    markdown(["d", "n", "suggestion of", "BoTorch's knowledge gradient of it", "of BoTorch's"], worth)


def show_envelope(records: Sequence[Record]) -> None:
    """Milliseconds of every way, and times those of bo_suite."""
    names = list(records[0]["milliseconds"])
    ours = names[0]
    rows = []
    for r in records:
        taken = r["milliseconds"]
        cells = [str(r["n"]), str(r["lines"]), f"{r['mean_edges']:.1f} ({r['most_edges']})"]
        others = [name for name in names[1:] if name in r["differences"]]
        cells += [f"{taken[ours]:.3f}"] + [f"{taken[o]:.3f} ({taken[o] / taken[ours]:.1f}×)" for o in others]
        cells += [f"{taken[name]:.3f}" for name in names[1:] if name not in others]
        rows.append([*cells, f"{max(r['differences'].values()):.1e}"])
    markdown(["n", "J", "edges (most)", *names, "largest difference"], rows)


def show_sparse(records: Sequence[Record]) -> None:
    """Seconds of the first and the second suggestion."""
    rows = []
    for r in records:
        for which in ("first", "second"):
            parts = [r[which][f"{part}seconds"] for part in ("", "fit_", "build_", "search_")]
            rows.append([r["surrogate"], str(r["n"]), which, *(f"{seconds:.3f}" for seconds in parts)])
    markdown(["surrogate", "n", "suggestion", "s", "fit", "build", "search"], rows)


def show_regret(records: Sequence[Record]) -> None:
    """Simple regret at the end and on the way, and pairs by seed."""
    for budget, name in dict.fromkeys((r["budget"], r["problem"]) for r in records):
        runs: dict[str, dict[int, Record]] = {}
        for r in records:
            if (r["budget"], r["problem"]) == (budget, name):
                runs.setdefault(r["method"], {})[r["seed"]] = r
        if PEER in runs:  # which has fewer seeds
            same = {seed: r for seed, r in runs.get(KG, {}).items() if seed in runs[PEER]}
            runs |= {f"{KG}, seeds of {PEER}": same} if same else {}
        places = [str(n) for n in range(10, budget, 10)]
        rows = []
        for method, by_seed in runs.items():
            final = [r["regret"][str(budget)] for r in by_seed.values()]
            lower, middle, upper = quartiles(final)
            asks = [s for r in by_seed.values() for s in r["ask_seconds"][budget // 2 :]]
            cells = [method, str(len(by_seed)), f"{middle:.4g} [{lower:.4g}, {upper:.4g}]"]
            cells += versus(by_seed, runs.get(BASE, {}), str(budget)) if method != BASE else ["", ""]
            cells += [f"{1e3 * statistics.median(asks):.0f}"]
            cells += [f"{statistics.median(r['regret'][n] for r in by_seed.values()):.4g}" for n in places]
            rows.append(cells)
        print(f"{name}, {budget} evaluations\n")
        head = ["method", "seeds", "regret [quartiles]", f"won, lost to {BASE}", "p", "ask, ms"]
        markdown([*head, *(f"at {n}" for n in places)], rows)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def versus(ours: dict[int, Record], theirs: dict[int, Record], n: str) -> list[str]:
    """Seeds won and lost after n evaluations, and Wilcoxon's p-value of the differences."""
    from scipy.stats import wilcoxon

    pairs = [(ours[seed]["regret"][n], theirs[seed]["regret"][n]) for seed in ours if seed in theirs]
    differences = [left - right for left, right in pairs if left != right]
    if not differences:
        return ["", ""]
    won = sum(difference < 0 for difference in differences)
    return [f"{won}, {len(differences) - won}", f"{float(wilcoxon(differences).pvalue):.3g}"]


def show_fidelity(records: Sequence[Record]) -> None:
    """Cost to the goal, and times that of the multi-fidelity search."""
    rows = []
    for name, goal, cap in dict.fromkeys((r["problem"], r["goal"], r["cap"]) for r in records):
        runs = [r for r in records if (r["problem"], r["goal"], r["cap"]) == (name, goal, cap)]
        base = {r["seed"]: r["cost"] for r in runs if r["method"] == "multi-fidelity"}
        for method in dict.fromkeys(r["method"] for r in runs):
            chosen = [r for r in runs if r["method"] == method]
            lower, middle, upper = quartiles([r["cost"] for r in chosen])
            missed = sum(not r["reached"] for r in chosen)
            cells = [name, f"{goal:g}", method, str(len(chosen)), f"{middle:.3g} [{lower:.3g}, {upper:.3g}]"]
            ratio = f"{middle / statistics.median(base.values()):.2f}×" if base else ""
            won = sum(base[r["seed"]] < r["cost"] for r in chosen if r["seed"] in base)
            both = sum(r["seed"] in base for r in chosen)
            paired = f"{won} of {both}" if method != "multi-fidelity" else ""
            evaluations = statistics.median(len(r["regrets"]) for r in chosen)
            rows.append([*cells, ratio, paired, f"{missed} at {cap:g}", f"{evaluations:g}"])
    head = ["problem", "goal", "method", "seeds", "cost [quartiles]", "of multi-fidelity's"]
    markdown([*head, "multi-fidelity cheaper", "not reached", "evaluations"], rows)


SHOW = {
    "suggest": show_suggest,
    "envelope": show_envelope,
    "sparse": show_sparse,
    "regret": show_regret,
    "fidelity": show_fidelity,
}

"""Inducing points, spherical harmonics, activations and orthogonal points, beside each other and GPyTorch.

    python benchmarks/features.py --out /tmp/features.jsonl
    python benchmarks/features.py --out /tmp/features.jsonl --parts sets --methods "SGPR points"
    python benchmarks/features.py --out /tmp/features.jsonl --report

sets: negative log predictive density (NLPD) and root mean squared error (RMSE) of held-out outcomes, both on
the standardised scale, and training seconds, on five regression sets. fixture: the bound at 20 inducing
variables on 500 points of one input, beside the evidence of the exact process with the same kernel, both
maximised. speed: training seconds on 100,000 x 8 with 512 variables and two threads; what a diagonal K_uu
saves. guide: NLPD and seconds over sizes, dimensions and kinds of function. loop: regret of some asks
after stored random observations. One thread and CPU seconds, but in speed. What the file has is not repeated.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(
        _name, "2"
    )  # before numpy and torch are imported; torch then takes one, but in speed

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from features_bounds import KERNELS, VARIABLES, best_bound, best_evidence, fixture
from features_costs import COSTS, costs, train_large
from features_report import report
from features_sets import (
    CASES,
    GPYTORCH,
    GUIDE,
    METHODS,
    MOST_EXACT,
    fewer_tests,
    guide_function,
)
from sparse_peers import Data, gpytorch_svgp, make_data

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import BoSuiteError
from bo_suite.surrogates.inducing import inducing_count

SIZES = ((100, 2), (1000, 5), (1000, 20), (10_000, 5), (10_000, 50), (100_000, 5))
"""Numbers of observations and of columns of guide."""

PAST = {2000: 10, 100: 20}
"""Numbers of stored observations of loop, and of the asks that follow."""

GUIDE_METHODS = (
    "AutoGP",
    "SGPR",
    "SGPR harmonics",
    "SGPR activations",
    "SGPR harmonics + points",
)
"""Those of guide and loop; up to 1,200 observations, AutoGP is ExactGP."""

CLOCK = time.process_time
"""Seconds are those of the CPU, on one thread: other work on the machine does not count. Not in speed."""
Record = dict[str, Any]
Task = tuple[Record, Callable[[], Record]]
"""What identifies a measurement, and the measurement."""


def dataset(data: Data) -> Dataset:
    """The training rows."""
    return Dataset(data.x, data.y)


def fit_and_score(method: str, data: Data, inducing: int, epochs: int, seed: int) -> Record:
    """Training seconds, NLPD and RMSE of a method."""
    if method == GPYTORCH:
        result = gpytorch_svgp(data, inducing, 1024, epochs, torch.float64, seed, CLOCK)
        seconds, nlpd, rmse = result["curve"][-1]
        return {"seconds": seconds, "nlpd": nlpd, "rmse": rmse, "curve": result["curve"]}
    surrogate = METHODS[method](inducing)
    start = CLOCK()
    process = surrogate.fit(dataset(data), Seeds.of(seed, 0))
    seconds = CLOCK() - start

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = process.mean_and_var(x)
        return mean, variance + process.noise

    nlpd, rmse = data.score(predict)
    return {"seconds": seconds, "nlpd": nlpd, "rmse": rmse, "noise": float(process.noise)}


def sets(options: argparse.Namespace) -> Iterator[Task]:
    """Every method on every regression set."""
    for name, case in CASES.items():
        for seed in range(case.seeds):
            data = case.data(seed)
            for method in options.methods or [*METHODS, GPYTORCH]:
                if method in ("AutoGP", "SGPR") or (method == "ExactGP" and len(data.y) > MOST_EXACT):
                    continue
                key = {"set": name, "n": len(data.y), "d": data.x.shape[-1], "m": case.inducing, "seed": seed}
                yield (
                    {"part": "sets", "method": method} | key,
                    lambda m=method, c=case, d=data, s=seed: (
                        fit_and_score(m, d, c.inducing, c.epochs, s) | {"floor": d.floor}
                    ),
                )


def bounds(options: argparse.Namespace) -> Iterator[Task]:
    """Bounds and evidences on the fixture."""
    data = fixture()
    for kernel in KERNELS:
        yield (
            {"part": "fixture", "kernel": kernel, "variables": "exact", "m": len(data.y)},
            lambda k=kernel: {"value": best_evidence(KERNELS[k], data)[0]},
        )
        for variables in VARIABLES:
            if kernel.startswith("zonal") or variables == "points":
                yield (
                    {"part": "fixture", "kernel": kernel, "variables": variables, "m": 20},
                    lambda k=kernel, v=variables: best_bound(KERNELS[k], VARIABLES[v], data),
                )


def speed(options: argparse.Namespace) -> Iterator[Task]:
    """Training at full size, and the costs of a step."""
    for method in options.methods or METHODS:
        if method.startswith(("SGPR ", "SVGP ")):
            yield (
                {"part": "speed", "method": method, "n": 100_000, "d": 8, "m": 512, "threads": 2},
                lambda m=method: train_large(METHODS[m](512), CASES["smooth"].data(0)),
            )
    for variables in COSTS:
        yield (
            {"part": "speed", "variables": variables, "n": 5000, "d": 8, "m": 512, "threads": 1},
            lambda v=variables: costs(v, CASES["smooth"].data(0).head(5000)),
        )


def guide(options: argparse.Namespace) -> Iterator[Task]:
    """Scores and seconds by size, dimension and kind of function."""
    for n, dim in SIZES:
        for kind in GUIDE:
            for seed in range(3 if n <= 100 else 1):
                for method in options.methods or GUIDE_METHODS:
                    yield (
                        {"part": "guide", "kind": kind, "n": n, "d": dim, "method": method, "seed": seed},
                        lambda k=kind, n=n, d=dim, m=method, s=seed: guide_scores(k, n, d, m, s),
                    )


def guide_scores(kind: str, n: int, dim: int, method: str, seed: int) -> Record:
    """Scores of one method on the function of a kind."""
    data = fewer_tests(make_data(guide_function(kind, dim, seed), n, dim, seed))
    return fit_and_score(method, data, inducing_count(n), 0, seed) | {"floor": data.floor}


def loop(options: argparse.Namespace) -> Iterator[Task]:
    """Regret of asks by surrogate, after observations at random points."""
    for past, asks in PAST.items():
        for seed in range(options.seeds):
            for kind in GUIDE:
                for method in options.methods or GUIDE_METHODS:
                    key = {"kind": kind, "n": past, "d": 5, "method": method, "seed": seed, "asks": asks}
                    yield (
                        {"part": "loop"} | key,
                        lambda k=kind, p=past, m=method, s=seed, a=asks: regret(k, p, m, s, a),
                    )


def regret(kind: str, past: int, method: str, seed: int, asks: int, dim: int = 5) -> Record:
    """Smallest true value among the asks, and that of the recommended point, above the minimum."""
    function = guide_function(kind, dim, seed)
    space = Space({f"x{i}": Float(0, 1) for i in range(dim)})
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(past, dim, generator=generator, dtype=torch.float64)
    noise = function.noise * torch.randn(past + asks, generator=generator, dtype=torch.float64)
    known = function.values(x)
    acquisition = LogExpectedImprovement(surrogate=METHODS[method](inducing_count(past)))
    optimizer = Optimizer(space, acquisition, seed=seed)
    for params, outcome in zip(space.decode(x), (known + noise[:past]).tolist(), strict=True):
        optimizer.add(params, outcome)
    values, seconds = [], []
    for error in noise[past:].tolist():
        start = CLOCK()
        trial = optimizer.ask()
        seconds.append(CLOCK() - start)
        values.append(float(function.values(space.encode([trial.params]))))
        optimizer.tell(trial, values[-1] + error)
    recommended = float(function.values(space.encode([optimizer.recommend()])))
    optimizer.close()
    return {
        "regret": min(values) - function.minimum,
        "recommended": recommended - function.minimum,
        "past_regret": float(known.min()) - function.minimum,
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:]),
    }


MEASURES = {"fixture": bounds, "sets": sets, "speed": speed, "guide": guide, "loop": loop}


def environment() -> Record:
    """What every record says of where it was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "commit": commit.stdout.strip(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "gpytorch")},
        "device": platform.processor() or platform.machine(),
    }


def read(path: Path) -> list[Record]:
    """The records of a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(options: argparse.Namespace) -> None:
    """Adds to the file what it does not have."""
    common, known = environment(), read(options.out)
    tasks = (task for part in options.parts for task in MEASURES[part](options))
    for key, call in tasks:
        if any(key.items() <= record.items() for record in known):
            continue
        start = time.perf_counter()
        try:
            result = call()
        except BoSuiteError as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        record = key | result | common | {"wall_s": time.perf_counter() - start}
        with options.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps({name: record[name] for name in (*key, *result) if name != "curve"}), flush=True)


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--parts", type=listed, default=list(MEASURES))
    parser.add_argument("--methods", type=lambda text: text.split(";"), help="some methods, ; between them")
    parser.add_argument("--seeds", type=int, default=3, help="of the searches")
    parser.add_argument("--report", action="store_true", help="show what the file has, and measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.report:
        measure(options)
    report(read(options.out))


if __name__ == "__main__":
    main()

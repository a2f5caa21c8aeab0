"""Sparse Gaussian processes beside GPyTorch's and BoTorch's, and what they give to a search.

    python benchmarks/sparse.py --out /tmp/sparse --plot benchmarks/results/sparse.png
    python benchmarks/sparse.py --parts fit --device cuda --out /tmp/sparse-cuda
    python benchmarks/sparse.py --report --out /tmp/sparse

fit: held-out negative log predictive density (NLPD) of noisy outcomes and root mean squared error (RMSE), on
the standardised scale, against training seconds; all methods have the same number of inducing inputs. small:
5,000 x 6, hartmann6 and noise of a tenth of its spread; large: 100,000 x 8, Friedman's function and unit
noise. A fit of bo_suite is one call and counts whole. absorb: one more observation, beside a closed-form
refit at the same hyperparameters and beside a warm-started fit. suggest: seconds of an ask after many
observations, and the best of some asks beside an exact process on 500 of them, paired by seed. One thread.
Records are added to sparse.jsonl in the folder; the report takes the latest of each kind.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sparse_peers import Data, botorch_svgp, friedman, gpytorch_svgp, hartmann, make_data
from sparse_report import plot, report

from bo_suite import Optimizer
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.problems import Problem, get_problem
from bo_suite.surrogates import SGPR, SVGP, ExactGP, WarmStart
from bo_suite.surrogates.inducing import GreedyVariance

OURS = ("SGPR", "SGPR_learned", "SVGP", "SVGP_learned")
PEERS = ("gpytorch_1024", "gpytorch_256", "botorch")
PROBLEMS = ("hartmann6", "levy10")
Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A data set and how long the peers train on it.

    Attributes:
        function: values at rows, and the standard deviation of the noise.
        n: training rows.
        dim: columns.
        inducing: inducing inputs of every method.
        epochs: of GPyTorch, by batch size: enough for its curve to settle.
        seconds: of BoTorch, which trains on full batches.
    """

    function: Callable[[Tensor], tuple[Tensor, float]]
    n: int
    dim: int
    inducing: int
    epochs: dict[int, int]
    seconds: float


CASES = {
    "small": Case(hartmann, 5000, 6, 256, {1024: 1000, 256: 300}, 300.0),
    "large": Case(friedman, 100_000, 8, 512, {1024: 20, 256: 8}, 300.0),
}


def fit(name: str, method: str, options: argparse.Namespace) -> Record:
    """Scores of one method on one data set; before, it runs on few rows uncounted, to load its code."""
    case = CASES[name]
    inducing = options.inducing or case.inducing
    data = make_data(case.function, case.n, case.dim, options.seed).to(options.device)
    epochs = {batch: options.epochs or count for batch, count in case.epochs.items()}
    train(method, data.head(1500), 64, dict.fromkeys(epochs, 1), 1.0, options)
    result = train(method, data, inducing, epochs, options.seconds or case.seconds, options)
    seconds, nlpd, rmse = result["curve"][-1]
    late = [score for at, score, _ in result["curve"] if at <= 0.8 * seconds]
    return result | {
        "data": name,
        "method": method,
        "n": case.n,
        "d": case.dim,
        "inducing": inducing,
        "seconds": seconds,
        "nlpd": nlpd,
        "rmse": rmse,
        "floor": data.floor,
        "last_fifth": late[-1] - nlpd if late else None,
    }


def train(
    method: str,
    data: Data,
    inducing: int,
    epochs: dict[int, int],
    seconds: float,
    options: argparse.Namespace,
) -> Record:
    """The curve of a method and what became of it."""
    if method == "botorch":
        return botorch_svgp(data, inducing, seconds, options.seed)
    if method.startswith("gpytorch_"):
        batch = int(method.removeprefix("gpytorch_"))
        dtype = getattr(torch, options.dtype)
        return gpytorch_svgp(data, inducing, batch, epochs[batch], dtype, options.seed)
    surrogate = sparse(method, inducing)
    observations = Dataset(data.x, data.y, None, data.x[:0])
    taken, process = timed(lambda: surrogate.fit(observations, Seeds.of(options.seed, 0)), options.device)

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = process.mean_and_var(x)
        return mean, variance + process.noise

    return {"curve": [(taken, *data.score(predict))], "stopped": "", "dtype": "float64"}


def sparse(method: str, inducing: int) -> Any:
    """One of bo_suite's sparse surrogates; `_learned` where it moves the inducing inputs, as the peers do."""
    kind = SGPR if method.startswith("SGPR") else SVGP
    selection = GreedyVariance(quality=0.9)  # SGPR's default; that of SVGP suits labels as well
    return kind(inducing=inducing, selection=selection, learn_inducing=method.endswith("_learned"))


def timed(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def absorb(options: argparse.Namespace, n: int = 10_000, steps: int = 200, inducing: int = 500) -> Record:
    """Observations absorbed one after the other, beside refits given all of them, and how far both differ."""
    data = make_data(friedman, n + steps, 8, options.seed).to(options.device)

    def first(count: int) -> Dataset:
        return Dataset(data.x[:count], data.y[:count], None, data.x[:0])

    surrogate = sparse("SGPR", inducing)
    process = surrogate.fit(first(n), Seeds.of(options.seed, 0))
    start, inputs = process.hyperparameters, process.inducing
    taken = []
    for i in range(n, n + steps):
        row = slice(i, i + 1)
        seconds, process = timed(lambda p=process, r=row: p.absorb(data.x[r], data.y[r]), options.device)
        taken.append(seconds)
    everything = first(n + steps)
    surrogate = replace(
        surrogate, mean=float(process.prior_mean.constant)
    )  # which a fit chooses, and absorbing keeps
    refits = [timed(lambda: surrogate.process(everything, start, inputs), options.device) for _ in range(9)]
    warm = WarmStart(start, n)
    whole = timed(lambda: surrogate.fit(everything, Seeds.of(options.seed, 1), warm), options.device)[0]
    pairs = zip(process.mean_and_var(data.test_x), refits[0][1].mean_and_var(data.test_x), strict=True)
    ours = statistics.median(taken)
    refit = statistics.median(seconds for seconds, _ in refits)
    return {
        "n": n,
        "inducing": inducing,
        "steps": steps,
        "seconds": ours,
        "refit_seconds": refit,
        "refit_ratio": refit / ours,
        "fit_seconds": whole,
        "fit_ratio": whole / ours,
        "difference": max(float((left - right).abs().max()) for left, right in pairs),
    }


def past_rows(problem: Problem, past: int, seed: int) -> list[tuple[dict[str, Any], float]]:
    """Uniformly random points of a problem and their values."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(past, problem.space.dim, generator=generator, dtype=torch.float64)
    return [(params, problem(params)) for params in problem.space.decode(rows)]


def search(
    problem: Problem, past: list[tuple[dict[str, Any], float]], asks: int, seed: int, exact: bool, device: str
) -> tuple[list[float], list[Record], float]:
    """Values and provenance of asks after observations from elsewhere, and the seconds to store these."""
    acquisition = LogExpectedImprovement(surrogate=ExactGP()) if exact else None
    optimizer = Optimizer(problem.space, acquisition, seed=seed, device=device)
    start = time.perf_counter()
    for params, value in past:
        optimizer.add(params, value)
    stored = time.perf_counter() - start
    values, sources = [], []
    for _ in range(asks):
        start = time.perf_counter()
        trial = optimizer.ask()
        sources.append(trial.provenance | {"seconds": time.perf_counter() - start})
        values.append(problem(trial.params))
        optimizer.tell(trial, values[-1])
    optimizer.close()
    return values, sources, stored


def ask_seconds(options: argparse.Namespace) -> Record:
    """Seconds of the first ask and the median of the next ones, with the default acquisition."""
    problem = get_problem("hartmann6")
    past = past_rows(problem, options.past, options.seed)
    _, sources, stored = search(problem, past, 6, options.seed, False, options.device)
    record: Record = {"past": options.past, "stored_seconds": stored, "first_seconds": sources[0]["seconds"]}
    record["sources"] = sorted({source["source"] for source in sources})
    for key in ("fit_ms", "search_ms"):
        record[f"first_{key}"] = sources[0].get(key)
        record[key] = statistics.median(source.get(key, 0.0) for source in sources[1:])
    return record | {"seconds": statistics.median(source["seconds"] for source in sources[1:])}


def best_new(name: str, seed: int, options: argparse.Namespace) -> Record:
    """Smallest new value by each way to use the past, above the minimum of the problem.

    `all` is the default acquisition given everything; the others are an ExactGP given 500 random ones, or
    these with the best one for the last of them, or the 500 best, or everything, up to 2,000 observations.
    """
    problem = get_problem(name)
    past = past_rows(problem, options.past, 1000 + seed)
    ranked = sorted(past, key=lambda pair: pair[1])
    subset = past[:500]
    with_best = subset if ranked[0] in subset else [*subset[:-1], ranked[0]]
    ways = {
        "all": (past, False),
        "exact, 500 random": (subset, True),
        "exact, 500 random with the best": (with_best, True),
        "exact, 500 best": (ranked[:500], True),
    }
    if options.past <= 2000:
        ways["exact, all"] = (past, True)
    record: Record = {"problem": name, "past": options.past, "asks": options.asks, "search_seed": seed}
    record["past_regret"] = ranked[0][1] - problem.minimum
    record["regret"], record["ask_seconds"] = {}, {}
    for way, (known, exact) in ways.items():
        values, sources, _ = search(problem, known, options.asks, seed, exact, options.device)
        record["regret"][way] = min(values) - problem.minimum
        record["ask_seconds"][way] = statistics.median(source["seconds"] for source in sources)
    return record


def measure(options: argparse.Namespace) -> Iterator[Record]:
    """Every record that the options ask for."""
    if "fit" in options.parts:
        for name in options.data:
            for method in options.methods:
                yield {"part": "fit", **fit(name, method, options)}
    if "absorb" in options.parts:
        yield {"part": "absorb", **absorb(options)}
    if "suggest" in options.parts:
        yield {"part": "ask", **ask_seconds(options)}
        for name in options.problems:
            for seed in range(options.seeds):
                yield {"part": "regret", **best_new(name, seed, options)}


def environment(options: argparse.Namespace) -> Record:
    """What every record says of where it was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    cuda = options.device == "cuda"
    return {
        "commit": commit.stdout.strip(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "gpytorch", "botorch")},
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "seed": options.seed,
    }


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of sparse.jsonl")
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--report", action="store_true", help="show what is in the folder, and measure nothing"
    )
    parser.add_argument("--parts", type=listed, default=["fit", "absorb", "suggest"])
    parser.add_argument("--data", type=listed, default=list(CASES))
    parser.add_argument("--methods", type=listed, default=[*OURS, *PEERS])
    parser.add_argument("--problems", type=listed, default=list(PROBLEMS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64", help="of GPyTorch")
    parser.add_argument("--inducing", type=int, help="in place of those of the data sets")
    parser.add_argument("--epochs", type=int, help="of GPyTorch, in place of those of the data sets")
    parser.add_argument("--seconds", type=float, help="of BoTorch, in place of those of the data sets")
    parser.add_argument("--seed", type=int, default=0, help="of data and methods")
    parser.add_argument("--past", type=int, default=10_000, help="observations before the asks")
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5, help="searches per problem")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "sparse.jsonl"
    if not options.report:
        common = environment(options)
        start = time.perf_counter()
        for record in measure(options):
            record |= common | {"wall_s": time.perf_counter() - start}
            start = time.perf_counter()
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(json.dumps({key: value for key, value in record.items() if key != "curve"}), flush=True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    report(records)
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(records, options.plot)


if __name__ == "__main__":
    main()

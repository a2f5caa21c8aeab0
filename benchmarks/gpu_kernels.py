"""Tuning a kernel of real graphics cards: evaluations until the time is within 5 % of the best.

    python benchmarks/gpu_kernels.py run --seeds 5 --out results.jsonl
    python benchmarks/gpu_kernels.py table results.jsonl

The tables `convolution_*` have 10,240 combinations of which 4,362 are kernels, and 161 of those fail when
run. Every method sees seven Choices. `bo_suite, function` has the rule for kernels as a constraint of its
space, `bo_suite, candidates` the list of kernels, `bo_suite` and the others learn of what does not exist as
they do of any failure. `genetic` is Optuna's NSGAIISampler with one objective. A run has 200 evaluations,
those that fail included, and ends when it is within 5 %. A run that was stored is not run again.
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pandas as pd
import torch

from bo_suite import Space
from bo_suite.bench.method import Task
from bo_suite.bench.peers import get_method
from bo_suite.bench.peers.optuna_study import OptunaStudy
from bo_suite.problems.field.tables import measured_table

BUDGET, WITHIN = 200, 1.05
CARDS = ("convolution_A100", "convolution_A4000", "convolution_W6600")
METHODS = ("bo_suite, function", "bo_suite, candidates", "bo_suite", "tpe", "random", "genetic")
NO_KERNEL = "the kernel does not exist"


def run(card: str, method: str, seed: int) -> dict[str, Any]:
    """One run: the number of evaluations it needed, None if 200 were not enough."""
    table = measured_table(card)
    space, outcomes = table.space, {}
    names = space.names
    options = (parameter.options for _, parameter in space)  # type: ignore[attr-defined]
    for point, outcome in zip(itertools.product(*options), table.measurements, strict=True):
        outcomes[point] = outcome

    def is_kernel(params: dict[str, Any]) -> bool:
        outcome = outcomes[tuple(params[name] for name in names)]
        return not (isinstance(outcome, str) and outcome.startswith(NO_KERNEL))

    if method == "bo_suite, function":
        space = Space(space.parameters, constraints=[is_kernel])
    if method == "bo_suite, candidates":
        points = pd.DataFrame(list(outcomes), columns=list(names))
        kernels = [is_kernel(point) for point in points.to_dict("records")]
        space = Space(space.parameters, candidates=points[kernels])
    name = method.split(",")[0]
    peer = OptunaStudy("genetic", "NSGAIISampler") if name == "genetic" else get_method(name)
    started = peer.start(Task(space, seed, BUDGET, noisy=False))
    failed = missing = 0
    seconds, needed, best = 0.0, None, float("inf")
    for number in range(1, BUDGET + 1):
        begun = time.process_time()
        params = started.ask()
        outcome = outcomes[tuple(params[name] for name in names)]
        if isinstance(outcome, str):
            started.fail(params, outcome)
            failed, missing = failed + 1, missing + outcome.startswith(NO_KERNEL)
        else:
            started.tell(params, outcome)
            best = min(best, outcome)
        seconds += time.process_time() - begun
        if best <= WITHIN * table.minimum:
            needed = number
            break
    return {
        **{"card": card, "method": method, "seed": seed, "needed": needed},
        **{"failed": failed, "no kernel": missing, "ratio": best / table.minimum, "an ask": seconds / number},
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """The stored runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--seeds", type=int, default=5)
    runs.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    runs.add_argument("--out", type=Path, required=True)
    commands.add_parser("table").add_argument("results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "run":
        done = {(row["card"], row["method"], row["seed"]) for row in rows(args.out)}
        for key in itertools.product(range(args.seeds), CARDS, args.methods.split(";")):
            seed, card, method = key
            if (card, method, seed) not in done:
                with args.out.open("a") as file:
                    file.write(json.dumps(run(card, method, seed)) + "\n")
        return
    frame = pd.DataFrame(rows(args.results)).fillna({"needed": float("inf")})
    for column in ("needed", "failed", "no kernel", "an ask"):
        print(
            column,
            frame.pivot_table(index="method", columns="card", values=column, aggfunc="median"),
            sep="\n",
        )
    print(frame.groupby("method")["needed"].agg(["count", lambda needed: (needed <= BUDGET).sum()]))


if __name__ == "__main__":
    main()

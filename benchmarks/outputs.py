"""What it is worth to model several outputs as one process.

    python benchmarks/outputs.py density --seeds 0:8 --out density.jsonl
    python benchmarks/outputs.py evidence
    python benchmarks/outputs.py hypervolume --seeds 0:3 --out hypervolume.jsonl

`density`: outputs are drawn from Gaussian processes: two or three, over two or four inputs, that correlate by
0.95, by 0 or by -0.95, with noise of 0.05 or 0.4 of their standard deviation. They are observed at n Sobol
points; in "missing" the last output only at the first half of these. Numbers are log densities of an outcome
less those of separate processes: of an observed one given all other points (`points`), of an observed one
given all other numbers, those at its point too (`numbers`), and of new ones (`new`), by the one process of
all outputs and by the choice. After ± is the standard error over seeds and kinds of outputs.

`evidence`: milliseconds of the evidence and its gradient, by Kronecker algebra and from the dense covariance.

`hypervolume`: runs of the default with the choice, with separate objectives, and with one process of all of
them in every step: hypervolume at the end, and the share of steps in which the objectives were one process.
"""

import argparse
import json
import math
import time
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from bo_suite import Optimizer
from bo_suite.bench.environment import environment
from bo_suite.bench.merit import merit
from bo_suite.data import MISSING, Dataset, Seeds
from bo_suite.kernels import Matern52
from bo_suite.linalg.environment import one_thread
from bo_suite.problems.outcomes import OUTCOME_PROBLEMS
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs import CoregionalisedGP, IntrinsicProcess, OutputsChoice, StackedProcess
from bo_suite.surrogates.outputs.evidence import EntriesEvidence, KroneckerEvidence
from bo_suite.surrogates.outputs.observations import Entries, OutputData
from bo_suite.surrogates.process import Process

F64 = torch.float64
CORRELATIONS = {"correlated": 0.95, "independent": 0.0, "inverted": -0.95}
NOISES, SIZES, NEW = (0.05, 0.4), (10, 20, 40), 200
PROBLEMS = ("branin_currin", "dtlz2_6d")
MARGINS = {"choice": 3.0, "separate": math.inf, "together": -math.inf}
"""Log densities by which one process of all outputs has to be better, by what is then taken."""


def drawn(seed: int, n: int, correlation: float) -> tuple[Tensor, Tensor, torch.Generator]:
    """Rows, n Sobol points and then new ones, and standardised outputs (p, m)."""
    d, p = (2, 4)[seed % 2], (2, 3)[seed // 2 % 2]
    generator = torch.Generator().manual_seed(10_000 * seed + n)
    new = torch.rand(NEW, d, dtype=F64, generator=generator)
    x = torch.cat((Seeds.of(seed, 0).sobol(n, torch.zeros(1, d, dtype=F64)), new))
    theta = torch.tensor([math.log(0.3 * math.sqrt(d))] * d + [0.0], dtype=F64)
    chol = torch.linalg.cholesky(Matern52().gram(theta, x)[0] + 1e-8 * torch.eye(len(x), dtype=F64))
    parts = (chol @ torch.randn(len(x), p, dtype=F64, generator=generator)).T
    signs = torch.tensor([1.0, correlation, abs(correlation)], dtype=F64)[:p, None]
    own = torch.where(torch.arange(p)[:, None] == 0, 0.0, (1.0 - signs.square()).sqrt())
    return x, signs * parts[0] + own * parts, generator


def log_density(y: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return -0.5 * ((y - mean).square() / var + var.log())


def of_new(process: Process, x: Tensor, y: Tensor) -> float:
    mean, var = process.mean_and_var(x.expand(len(y), *x.shape))
    return float(log_density(y, mean, var + process.noise[:, None]).mean())


def of_numbers(process: IntrinsicProcess | StackedProcess, data: Dataset, measured: Tensor) -> float:
    """Log density of an outcome given all others, those of its row too."""
    stacked = process if isinstance(process, StackedProcess) else process.stacked
    pairs = stacked.measured.T
    inside = pairs < stacked.process.chol.shape[-1]
    order = pairs[inside].argsort()
    y = data.y[inside][order]
    mean, var = leave_one_out(stacked.process, y)
    return float(log_density(y, mean, var).sum() / measured.sum())


def compared(kind: str, noise: float, n: int, missing: bool, seed: int) -> dict[str, float]:
    """Log densities of an outcome, less those of separate processes."""
    x, f, generator = drawn(seed, n, CORRELATIONS[kind])
    y = f + noise * torch.randn(f.shape, dtype=F64, generator=generator)
    observed, p = y[:, :n], len(y)
    y = (y - observed.mean(-1, keepdim=True)) / observed.std(-1, keepdim=True)
    measured = torch.ones(p, n, dtype=torch.bool)
    measured[-1, n // 2 :] = not missing
    known = torch.where(measured, torch.nan, MISSING) if missing else None
    data = Dataset(x[:n].expand(p, *x[:n].shape), y[:, :n], known)
    separate = ExactGP().fit(data, Seeds.of(seed, 1))
    one = CoregionalisedGP().fit(data, Seeds.of(seed, 1), separate=separate)
    choice = OutputsChoice.of(ExactGP(), data, separate, Seeds.of(seed, 1), None)
    by_itself = log_density(data.y, *leave_one_out(separate, data.y))[measured].mean()
    points = log_density(data.y, *one.leave_one_out(data.y))[measured].mean() - by_itself
    new = of_new(one, x[n:], y[:, n:]) - of_new(separate, x[n:], y[:, n:])
    together = float(choice.together)
    return {
        "points": float(points),
        "numbers": of_numbers(one, data, measured) - float(by_itself),
        "new": new,
        "points, choice": together * float(points),
        "new, choice": together * new,
        "together": together,
    }


def density(args: argparse.Namespace) -> None:
    lines = []
    for seed in seeds_of(args):
        for missing in (False, True):
            for kind in CORRELATIONS:
                for noise in NOISES:
                    for n in SIZES:
                        if missing and n > 20:
                            continue
                        setting = {"outputs": kind, "missing": missing, "noise": noise, "n": n, "seed": seed}
                        lines.append({**setting, **compared(kind, noise, n, missing, seed)})
    write(args, lines)
    table = pd.DataFrame(lines)
    for keys in (["missing", "outputs"], ["missing", "noise", "n"]):
        grouped = table.groupby(keys)[list(lines[0])[5:]]
        mean, error = grouped.mean(), grouped.sem()
        print((mean.map("{:+.3f}".format) + " ± " + error.map("{:.3f}".format)).to_string(), end="\n\n")


def evidence(args: argparse.Namespace) -> None:
    for p in (2, 4, 8):
        for n in (25, 50, 100, 200):
            if n * p > 800:
                continue
            x = Seeds.of(0, 0).sobol(n, torch.zeros(1, 4, dtype=F64))
            y = torch.stack([torch.sin((3.0 + i) * x.sum(-1)) for i in range(p)])
            data, model = Dataset(x.expand(p, n, 4), y), CoregionalisedGP()
            kernel, outputs, vector = model.kernel_of(data), OutputData.of(data), model.start(data)
            times = {}
            for name, function in (
                ("Kronecker", KroneckerEvidence(kernel, outputs)),
                ("dense", EntriesEvidence(kernel, Entries.of(outputs))),
            ):
                seconds = []
                for _ in range(7):
                    begin = time.perf_counter()
                    function(vector[:-p], vector[-p:])
                    seconds.append(time.perf_counter() - begin)
                times[name] = 1e3 * sorted(seconds)[3]
            ways = "  ".join(f"{name} {milliseconds:7.2f} ms" for name, milliseconds in times.items())
            print(f"p={p} n={n:3}  {ways}  x{times['dense'] / times['Kronecker']:.1f}")


def hypervolume(args: argparse.Namespace) -> None:
    lines = []
    for name in args.problems.split(","):
        problem = OUTCOME_PROBLEMS[name]()
        directions = {one.name: one.direction for one in problem.goals.objectives}
        for seed in seeds_of(args):
            for objectives, margin in MARGINS.items():
                with patch("bo_suite.surrogates.outputs.choice._STRONG", margin):
                    optimizer, seconds = Optimizer(problem.space, seed=seed, direction=directions), 0.0
                    for _ in range(args.evaluations):
                        begin = time.process_time()
                        trial = optimizer.ask()
                        seconds += time.process_time() - begin
                        optimizer.tell(trial, problem(trial.params))
                finished = optimizer.trials
                notes = [(trial.provenance or {}).get("chosen") for trial in finished]
                steps = [note for note in notes if note and "reference" in note]
                found = merit(problem, [trial.outcomes for trial in finished])
                line = {"problem": name, "objectives": objectives, "seed": seed, "seconds": seconds}
                line["hypervolume"] = -float(found or 0.0)
                line["together"] = sum("outputs" in note for note in steps) / max(len(steps), 1)
                lines.append(line)
                print(line, flush=True)
    write(args, lines)
    table = pd.DataFrame(lines).groupby(["problem", "objectives"])[["hypervolume", "together", "seconds"]]
    print(table.agg(["mean", "sem"]).to_string())


def seeds_of(args: argparse.Namespace) -> range:
    first, end = map(int, args.seeds.split(":"))
    return range(first, end)


def write(args: argparse.Namespace, lines: list[dict[str, object]]) -> None:
    if args.out:
        where = json.loads(environment())
        Path(args.out).write_text("".join(json.dumps({**line, **where}) + "\n" for line in lines))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("density", "evidence", "hypervolume"))
    parser.add_argument("--seeds", default="0:4", help="first:end, the end left out")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="of `hypervolume`, comma-separated")
    parser.add_argument("--evaluations", type=int, default=30, help="of each run of `hypervolume`")
    parser.add_argument("--out", default="", help="file for a line of JSON for each measurement")
    args = parser.parse_args()
    parts = {"density": density, "evidence": evidence, "hypervolume": hypervolume}
    with one_thread(), torch.no_grad():
        parts[args.part](args)


if __name__ == "__main__":
    main()

"""Streams of messages to a sparse process, and the sinc example.

    python benchmarks/messages.py --out /tmp/messages

stream: rows that arrive one by one, for each kind of output: milliseconds an update (median), those of its
update of the factor L_B and of a refactoring in its place, the evidence lower bound before and after
coordinate ascent between q(v) and q(W) and its seconds, memory of the state and what the program has grown
by, and how far the stream is from all rows at once. sinc: 50 noisy observations of sin(πx) / (πx), 20
inducing inputs, hyperparameters by the bound, beside an exact process whose hyperparameters have the largest
evidence, by seed. inputs: outcomes of inputs that were not set exactly. Times are of the processor, on one
thread. Records are added to messages.jsonl in the folder; the report takes the latest of each kind.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import MultivariateNormal

from bo_suite.data import CPU_DOUBLES
from bo_suite.kernels import Functionals, Kernel, Matern52, SquaredExponential
from bo_suite.linalg import cholesky_update
from bo_suite.surrogates import StreamingGP
from bo_suite.surrogates.messages import (
    GammaPrecision,
    NoisePrecision,
    OperatorOutputs,
    Outputs,
    ScalarOutputs,
    VectorOutputs,
    WishartPrecision,
    fit_hyperparameters,
    gradients,
    locate_inputs,
    values_and_gradients,
)
from bo_suite.surrogates.normal_rule import normal_rule

DIM, NOISE = 2, 0.1
Record = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """What arrives.

    Attributes:
        outputs: the likelihood.
        width: number of outputs.
        kernel: covariance function.
        std: standard deviation of the first column of the inputs.
        batch: rows that arrive together.
    """

    outputs: Outputs
    width: int = 1
    kernel: Kernel = field(default_factory=SquaredExponential)
    std: float = 0.0
    batch: int = 1


COREGIONALISATION = torch.tensor([[1.0, 0.7, -0.4], [0.7, 1.0, 0.0], [-0.4, 0.0, 1.0]], **CPU_DOUBLES)

NODES = {
    "value": Node(ScalarOutputs()),
    "value, uncertain inputs, closed form": Node(ScalarOutputs(), std=0.05, batch=100),
    "value, uncertain inputs, Gauss-Hermite": Node(ScalarOutputs(), kernel=Matern52(), std=0.05, batch=100),
    "gradient": Node(OperatorOutputs(gradients), DIM),
    "value and gradient": Node(OperatorOutputs(values_and_gradients), 1 + DIM),
    "three outputs": Node(VectorOutputs(COREGIONALISATION), 3),
}


def observations(x: Tensor, node: Node, seed: int) -> Tensor:
    """Noisy values, gradients, both, or three outputs of a function of two columns."""
    width = node.width
    x = x.clone().requires_grad_()
    value = torch.sin(9.0 * x[:, 0]) * torch.cos(5.0 * x[:, 1])
    (slope,) = torch.autograd.grad(value.sum(), x)
    value = value.detach()
    clean = {1: value[:, None], DIM: slope, 1 + DIM: torch.cat((value[:, None], slope), -1)}[width]
    if isinstance(node.outputs, VectorOutputs):
        more = torch.stack((0.0 * value, torch.cos(4.0 * x.detach()[:, 0]), x.detach()[:, 1]), -1)
        clean = value[:, None] * COREGIONALISATION[0] + 0.5 * more
    generator = torch.Generator().manual_seed(seed)
    noisy = clean + NOISE * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return noisy[:, 0] if width == 1 else noisy


def noise_prior(width: int) -> NoisePrecision:
    """Gamma of one output, Wishart of several, with noise of variance 0.01 expected."""
    if width == 1:
        return GammaPrecision(torch.tensor(1.0, **CPU_DOUBLES), torch.tensor(0.01, **CPU_DOUBLES))
    freedom = torch.tensor(float(width + 1), **CPU_DOUBLES)
    return WishartPrecision(freedom, 0.01 * freedom * torch.eye(width, **CPU_DOUBLES))


def stream(name: str, options: argparse.Namespace) -> Record:
    """One node, its rows one batch after the other."""
    node = NODES[name]
    generator = torch.Generator().manual_seed(options.seed)
    x = torch.rand(options.rows, DIM, generator=generator, dtype=torch.float64)
    inducing = torch.rand(options.inducing, DIM, generator=generator, dtype=torch.float64)
    std = torch.zeros_like(x)
    std[:, 0] = node.std
    truth = x + std * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    y = observations(truth, node, options.seed)
    theta = torch.tensor([-1.2, -0.9, 0.0], **CPU_DOUBLES)
    start = StreamingGP.start(node.kernel, theta, inducing, node.outputs, noise_prior(node.width))
    start.observed(x[:1], y[:1]).converged()  # what is loaded and compiled is not counted
    process, seconds, factor, rank = start, [], [], []
    terms = 0.1 * torch.randn(*start.precision_chol.shape[:2], rank_of(node), generator=generator).double()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for first in range(0, options.rows, node.batch):
        rows = slice(first, first + node.batch)
        began = time.process_time()
        process = process.observed(x[rows], y[rows], std[rows] if node.std else None)
        seconds.append(time.process_time() - began)
        if first % (100 * node.batch) == 0:
            began = time.process_time()
            process.sums.precision_chol(process.noise.mean)
            factor.append(time.process_time() - began)
            began = time.process_time()
            cholesky_update(process.precision_chol, terms)
            rank.append(time.process_time() - began)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    began = time.process_time()
    settled = process.converged()
    ascent = time.process_time() - began
    record: Record = {
        "node": name,
        "rows": options.rows,
        "batch": node.batch,
        "inducing": options.inducing,
        "update_ms": 1e3 * statistics.median(seconds),
        "rank_ms": None if node.std else 1e3 * statistics.median(rank),
        "refactor_ms": 1e3 * statistics.median(factor),
        "bound": float(process.bound),
        "bound_converged": float(settled.bound),
        "ascent_s": ascent,
        "noise_variance": torch.linalg.inv(settled.noise.mean).diagonal().tolist(),
        "state_mb": (process.precision_chol.nbytes + size(process.sums)) / 2**20,
        "grown_mb": grown / 1024,
    }
    if not node.std:
        at_once = start.observed(x, y)
        difference = (process.precision_chol - at_once.precision_chol).abs().max()
        record["difference"] = float(difference / at_once.precision_chol.abs().max())
    return record


def rank_of(node: Node) -> int:
    """Rank of what a row adds to the precision of a part of the inducing values."""
    return node.width if isinstance(node.outputs, OperatorOutputs) else 1


def size(sums: object) -> int:
    """Bytes of the tensors of some sums."""
    values = [getattr(sums, field.name) for field in fields(sums)]  # type: ignore[arg-type]
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def sinc(seed: int) -> Record:
    """The example of RxGP: 50 observations with noise of precision 100, 20 inducing inputs."""
    generator = torch.Generator().manual_seed(seed)
    x = 8.0 * torch.rand(50, 1, generator=generator, dtype=torch.float64) - 4.0
    y = torch.sinc(x[:, 0]) + 0.1 * torch.randn(50, generator=generator, dtype=torch.float64)
    at = torch.linspace(-4.1, 4.1, 600, **CPU_DOUBLES)[:, None]
    truth = torch.sinc(at[:, 0])
    inducing = torch.linspace(-4.0, 4.0, 20, **CPU_DOUBLES)[:, None]
    kernel, theta = SquaredExponential(), torch.zeros(2, **CPU_DOUBLES)
    noise = GammaPrecision(torch.tensor(0.01, **CPU_DOUBLES), torch.tensor(0.01, **CPU_DOUBLES))
    start = StreamingGP.start(kernel, theta, inducing, ScalarOutputs(), noise)
    first = start.observed(x, y).converged()
    began = time.process_time()
    best = fit_hyperparameters(start, x, y)
    seconds = time.process_time() - began

    def evidence(eta: Tensor) -> tuple[Tensor, Tensor]:
        cov = kernel.gram(eta[:2], x)[0] + eta[2].exp() * torch.eye(50, **CPU_DOUBLES)
        mean = kernel.cross(eta[:2], at, x)[0] @ torch.linalg.solve(cov, y)
        return MultivariateNormal(torch.zeros_like(y), cov).log_prob(y), mean

    def loss(eta: Any) -> float:
        return -float(evidence(torch.as_tensor(eta))[0])

    guess = [*best.basis.theta.tolist(), -float(best.noise.mean.log())]
    exact = minimize(loss, guess, method="Nelder-Mead", options={"maxiter": 600})
    errors = [
        float((mean - truth).square().mean() / truth.var())
        for mean in (best.process.mean(at), evidence(torch.as_tensor(exact.x))[1])
    ]
    again = best.converged().iterated()
    shrunk = (again.process.var(at) / best.process.var(at) - 1.0).abs().max()
    return {
        "seed": seed,
        "free_energy_first": -float(first.bound),
        "free_energy": -float(best.bound),
        "least_possible": float(exact.fun),
        "smse": errors[0],
        "smse_exact": errors[1],
        "variance": float(best.basis.theta[1].exp()),
        "lengthscale": float(best.basis.theta[0].exp()),
        "precision": float(best.noise.mean),
        "variance_change_again": float(shrunk),
        "seconds": seconds,
    }


def inputs(seed: int) -> Record:
    """150 outcomes of sin(9x), x set with a standard deviation of 0.1: error of the mean, noise, bound."""
    generator = torch.Generator().manual_seed(seed)
    intended = torch.rand(150, 1, generator=generator, dtype=torch.float64)
    x = intended + 0.1 * torch.randn(150, 1, generator=generator, dtype=torch.float64)
    y = torch.sin(9.0 * x[:, 0]) + 0.05 * torch.randn(150, generator=generator, dtype=torch.float64)
    std, at = torch.full_like(x, 0.1), torch.linspace(0.05, 0.95, 100, **CPU_DOUBLES)[:, None]
    inducing = torch.linspace(-0.2, 1.2, 25, **CPU_DOUBLES)[:, None]
    kernel, theta = SquaredExponential(), torch.tensor([math.log(0.25), 0.0], **CPU_DOUBLES)
    prior = GammaPrecision(torch.tensor(1.0, **CPU_DOUBLES), torch.tensor(0.1, **CPU_DOUBLES))
    start = StreamingGP.start(kernel, theta, inducing, ScalarOutputs(), prior)
    nodes, weights = normal_rule(1)

    def average(rows: Tensor) -> Functionals:
        return Functionals.averages(rows, 0.1 * nodes, weights)

    averaging = StreamingGP.start(kernel, theta, inducing, OperatorOutputs(average), prior)
    began = time.process_time()
    located = locate_inputs(start, intended, y, std).process
    record: Record = {"inputs": seed, "seconds": time.process_time() - began}
    for name, process in {
        "taken as exact": start.observed(intended, y).converged(),
        "averaged kernel": start.observed(intended, y, std).converged(),
        "averaged function": averaging.observed(intended, y[:, None]).converged(),
        "located": located,
        "known": start.observed(x, y).converged(),
    }.items():
        error = (process.process.mean(at) - torch.sin(9.0 * at[:, 0])).square().mean()
        record[name] = [float(error), 1.0 / float(process.noise.mean), float(process.bound)]
    return record


def measure(options: argparse.Namespace) -> Iterator[Record]:
    """Every record that the options ask for."""
    for name in NODES if "stream" in options.parts else ():
        yield {"part": "stream", **stream(name, options)}
    for seed in range(options.seeds) if "sinc" in options.parts else ():
        yield {"part": "sinc", **sinc(seed)}
    for seed in range(options.seeds) if "inputs" in options.parts else ():
        yield {"part": "inputs", **inputs(seed)}


def report(records: list[Record]) -> None:
    """Both tables."""
    latest = {record.get("node", record.get("seed")): record for record in records if "inputs" not in record}
    heading(
        *(
            "messages",
            "rows at once",
            "ms an update",
            "of it: L_B",
            "refactoring it",
            "bound, then converged",
        ),
        *("seconds of it", "state, MB", "grown, MB", "off by"),
    )
    for name in NODES:
        if one := latest.get(name):
            off = f"{one['difference']:.0e}" if "difference" in one else ""
            rank = f"{one['rank_ms']:.2f}" if one["rank_ms"] else ""
            bounds = f"{one['bound']:.0f}, {one['bound_converged']:.0f}"
            print(
                f"| {name} | {one['batch']} | {one['update_ms']:.2f} | {rank} | {one['refactor_ms']:.2f} "
                f"| {bounds} | {one['ascent_s']:.2f} | {one['state_mb']:.2f} | {one['grown_mb']:.1f} "
                f"| {off} |"
            )
    heading(
        *("seed", "free energy, first and last", "least with exact evidence", "SMSE", "SMSE, exact"),
        *("lengthscale", "variance", "precision"),
    )
    for one in (record for key, record in latest.items() if isinstance(key, int)):
        print(
            f"| {one['seed']} | {one['free_energy_first']:.2f}, {one['free_energy']:.2f} "
            f"| {one['least_possible']:.2f} | {one['smse']:.4f} | {one['smse_exact']:.4f} "
            f"| {one['lengthscale']:.3f} | {one['variance']:.3f} | {one['precision']:.0f} |"
        )

    found = {record["inputs"]: record for record in records if "inputs" in record}
    heading("inputs", "mean squared error", "largest", "variance of the noise", "bound")
    for name in (
        ("taken as exact", "averaged kernel", "averaged function", "located", "known") if found else ()
    ):
        error, noise, bound = zip(*(record[name] for record in found.values()), strict=True)
        print(
            f"| {name} | {statistics.median(error):.4f} | {max(error):.4f} | {statistics.median(noise):.4f} "
            f"| {statistics.median(bound):.1f} |"
        )


def heading(*names: str) -> None:
    """The first two lines of a table."""
    print("\n| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of messages.jsonl")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["stream", "sinc", "inputs"])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--inducing", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the streams")
    parser.add_argument("--seeds", type=int, default=10, help="of the sinc example")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "messages.jsonl"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    common = {
        "commit": commit.stdout.strip(),
        "versions": {"torch": torch.__version__},
        "device": platform.processor() or platform.machine(),
    }
    for record in measure(options):
        with path.open("a") as file:
            file.write(json.dumps(record | common) + "\n")
        print(json.dumps(record), flush=True)
    report([json.loads(line) for line in path.read_text().splitlines()])


if __name__ == "__main__":
    main()

"""The knowledge gradient: seconds, memory and regret, beside BoTorch's and other acquisitions.

    python benchmarks/knowledge_gradient.py --parts suggest,envelope,sparse --out /tmp/kg
    python benchmarks/knowledge_gradient.py --parts regret,fidelity --workers 2 --out /tmp/kg
    python benchmarks/knowledge_gradient.py --report --out /tmp/kg

suggest: a suggestion of each acquisition and of BoTorch's qKnowledgeGradient (64 fantasies, 10 restarts, 512
raw samples) on the same noisy observations, the memory it adds, and BoTorch's knowledge gradient of it.
envelope: expected maximum of lines and covariances for 64 candidates, beside other ways to the same values.
regret: of `Optimizer.recommend()` in noisy searches. sparse: suggestions after many observations. fidelity:
cost spent until the regret at the target falls to a goal. Records are added to knowledge_gradient.jsonl in
the folder, and what is there already is not measured again. One thread a process.
"""

import os

from bo_suite.study.observations import dataset_of
from bo_suite.study.step import next_steps

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine
from torch.utils.benchmark import Timer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from knowledge_gradient_report import (
    PEER,
    WAYS,
    add,
    botorch_best_mean,
    botorch_model,
    botorch_process,
    botorch_suggestion,
    botorch_value,
    forget_peak,
    peak_megabytes,
    read,
    report,
)

import bo_suite.acquisition
from bo_suite import Optimizer
from bo_suite.acquisition import AffineCost, KnowledgeGradient, log_discrete_knowledge_gradient
from bo_suite.data import Dataset, Seeds
from bo_suite.linalg.environment import numerical_environment
from bo_suite.problems import Problem, get_problem, noisy
from bo_suite.study.initial import initial_size
from bo_suite.surrogates import SGPR, SVGP, AutoGP, WarmStart
from bo_suite.surrogates.process import Process, Surrogate

OURS = ("KnowledgeGradient", "NoisyExpectedImprovement", "LogExpectedImprovement")
PEER_PROBLEMS = ("sin3", "branin")
FIDELITY = ("multi-fidelity", "KnowledgeGradient", "LogExpectedImprovement")
DATA = ("branin", "hartmann6")
NOISE = {"sin3": 0.2116, "branin": 23.08, "hartmann3": 0.2897, "hartmann6": 0.2374}
"""Standard deviations: 0.075 of the range of the values at the first 100,000 Sobol points."""
BUDGETS = {"sin3": 30, "branin": 40, "hartmann3": 40, "hartmann6": 60}
LINES: tuple[dict[str, Any], ...] = (
    {"n": 50, "problem": "branin", "lines": 64},
    {"n": 200, "problem": "hartmann6", "lines": 64},
    {"n": 200, "problem": "hartmann6", "lines": 1000},
)
COST = AffineCost(0.1, 0.9)
Record = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """A surrogate whose fit is known."""

    process: Process

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        return self.process


def observe(problem: Problem, rows: Tensor) -> Dataset:
    """The observations at some rows, as an Optimizer gives them to an acquisition."""
    y = torch.tensor([problem(params) for params in problem.space.decode(rows)], dtype=torch.float64)
    return dataset_of(problem.space, rows, y)


def sobol_observations(name: str, n: int, seed: int) -> tuple[Problem, Dataset]:
    """A noisy problem, observed at Sobol points."""
    problem = noisy(get_problem(name), NOISE[name], seed)
    rows = SobolEngine(problem.space.dim, scramble=True, seed=n + seed).draw(n, dtype=torch.float64)
    return problem, observe(problem, rows)


def suggestion(
    n: int, problem: str, seed: int, repeats: int, peer_repeats: int, limit: float, batch: int
) -> Record:
    """Seconds and memory of each method, and what the suggestions are worth under BoTorch's model."""
    methods: Record = {}
    for method in (*OURS, PEER):
        count = peer_repeats if method == PEER else repeats
        task = json.dumps([method, n, problem, seed, count, limit, batch])
        command = [sys.executable, __file__, "--alone", task]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        methods[method] = json.loads(answer.splitlines()[-1])
    noisy_problem, data = sobol_observations(problem, n, seed)
    model = botorch_model(data.x, data.y)
    current, _ = botorch_best_mean(model, data.x.shape[-1], seed)
    same = KnowledgeGradient(surrogate=Given(botorch_process(model, data)))
    rows = {
        PEER: methods[PEER]["row"],
        "KnowledgeGradient, the same model": next_steps(
            data, noisy_problem.space, same, Seeds.of(seed, 0), [None]
        )[0].row,
        "KnowledgeGradient, its own model": methods["KnowledgeGradient"]["row"],
    }
    placed = {name: torch.as_tensor(row).to(data.x) for name, row in rows.items()}
    values = {name: botorch_value(model, current, row) for name, row in placed.items()}
    return {"methods": methods, "values": values}


def alone(method: str, n: int, problem: str, seed: int, repeats: int, limit: float, batch: int) -> Record:
    """Median seconds of a method, and megabytes that its first suggestion adds to this process's peak."""

    def prepared(count: int) -> Callable[[int], tuple[Record, Tensor]]:
        noisy_problem, data = sobol_observations(problem, count, seed)
        if method == PEER:
            model, dim = botorch_model(data.x, data.y), data.x.shape[-1]
            return lambda turn: botorch_suggestion(model, dim, seed + turn, limit, batch)
        kind, surrogate = getattr(bo_suite.acquisition, method), AutoGP()
        before = Dataset(data.x[:-1], data.y[:-1], None, data.pending)
        found = surrogate.fit(before, Seeds.of(seed, count)).hyperparameters
        start = WarmStart(found, count - 1)
        return lambda turn: step(data, noisy_problem, kind, surrogate, Seeds.of(seed, turn), start)

    prepared(4)(0)  # loads the code
    call = prepared(n)
    before = forget_peak()
    steps = [call(0)]
    added = peak_megabytes() - before
    steps += [call(turn) for turn in range(1, repeats)]
    parts = {key: statistics.median(seconds[key] for seconds, _ in steps) for key in steps[0][0]}
    return parts | {"mb": added, "row": steps[0][1].tolist()}


def step(
    data: Dataset, problem: Problem, kind: Any, surrogate: Surrogate, seeds: Seeds, start: WarmStart | None
) -> tuple[Record, Tensor]:
    """Seconds of the fit, of the rest of the build and of the search, and what was suggested."""
    with numerical_environment():
        began = time.perf_counter()
        process = surrogate.fit(data, seeds, start)
        fit = time.perf_counter() - began
    (step,) = next_steps(data, problem.space, kind(surrogate=Given(process)), seeds, [None])
    build, search = step.fit_seconds, step.search_seconds
    parts = {"fit_seconds": fit, "build_seconds": build, "search_seconds": search}
    return parts | {"seconds": fit + build + search}, step.row


def envelope(n: int, problem: str, lines: int, seed: int) -> Record:
    """Milliseconds for 64 candidates, by us and by others, and how far these are from our values."""
    _, data = sobol_observations(problem, n, seed)
    process = AutoGP().fit(data, Seeds.of(seed, 0))
    score = KnowledgeGradient(surrogate=Given(process)).build(data, Seeds.of(seed, 1))
    spread = Seeds.of(seed, 2).sobol(lines + 64, data.x)
    points, x = torch.cat((spread[64:], score.lookahead.points))[-lines:], spread[:64]
    with torch.no_grad():
        lookahead = process.lookahead(points)
        _, var, cov = lookahead.moments(x)
        intercepts = -process.mean(points).expand(64, -1).contiguous()
        slopes = cov / (var + process.noise).sqrt()[:, None]
        value = log_discrete_knowledge_gradient(intercepts, slopes).exp()
        differences = {
            name: float((way(intercepts, slopes) - value).abs().max()) for name, way in WAYS.items()
        }
        if max(differences.values()) > 1e-10:
            raise ArithmeticError(f"all ways must give the same values, they differ by {differences}")
        taken = {
            "log_discrete_knowledge_gradient": milliseconds(
                log_discrete_knowledge_gradient, intercepts, slopes
            )
        }
        taken |= {name: milliseconds(way, intercepts, slopes) for name, way in WAYS.items()}
        taken["lookahead"] = milliseconds(process.lookahead, points)
        taken["moments"] = milliseconds(lookahead.moments, x)
        taken["mean_and_var and cov"] = milliseconds(
            lambda: (process.mean_and_var(x), process.cov(x, points))
        )

    def with_gradient() -> None:
        leaf = x.clone().requires_grad_()
        _, var, cov = lookahead.moments(leaf)
        found = log_discrete_knowledge_gradient(intercepts, cov / (var + process.noise).sqrt()[:, None])
        torch.autograd.grad(found.sum(), leaf)

    taken["moments, value and gradient"] = milliseconds(with_gradient)
    edges = (bo_suite.acquisition.lines.upper_envelope(intercepts, slopes).diff(dim=-1) != 0).sum(-1)
    counts = {"mean_edges": float(edges.double().mean()), "most_edges": int(edges.max())}
    return {"milliseconds": taken, "differences": differences} | counts


def milliseconds(call: Callable[..., object], *args: Tensor) -> float:
    """Median of a call's time."""
    timer = Timer("call(*args)", globals={"call": call, "args": args})
    return 1e3 * float(timer.blocked_autorange(min_run_time=0.5).median)


def noisy_search(problem: str, method: str, seed: int, budget: int) -> Record:
    """Simple regret of the recommended trial after every fifth evaluation and the last."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    target = noisy(get_problem(problem), NOISE[problem], seed)
    acquisition = None if method == PEER else getattr(bo_suite.acquisition, method)()
    optimizer = Optimizer(target.space, acquisition, seed=seed, budget=budget)
    regret, seconds = {}, []
    for n in range(1, budget + 1):
        began = time.perf_counter()
        if method == PEER and n > initial_size(budget, target.space):
            params = botorch_next(optimizer, seed + n)
            seconds.append(time.perf_counter() - began)
            optimizer.add(params, target(params))
        else:
            trial = optimizer.ask()
            seconds.append(time.perf_counter() - began)
            optimizer.tell(trial, target(trial.params))
        if n % 5 == 0 or n == budget:
            regret[str(n)] = target.value(optimizer.recommend()) - target.minimum
    values = [trial.value for trial in optimizer.trials]
    fallbacks = sum(trial.provenance.get("source") == "fallback" for trial in optimizer.trials)
    return {"regret": regret, "ask_seconds": seconds, "observed": values, "fallbacks": fallbacks}


def botorch_next(optimizer: Optimizer, seed: int) -> dict[str, Any]:
    """BoTorch's next point given the trials."""
    space, trials = optimizer.space, optimizer.trials
    y = torch.tensor([trial.value for trial in trials], dtype=torch.float64)
    model = botorch_model(space.encode([trial.params for trial in trials]), (y - y.mean()) / y.std())
    return space.decode(botorch_suggestion(model, space.dim, seed, limit=1800.0, batch=8)[1][None])[0]


def sparse(surrogate: str, n: int, inducing: int, seed: int) -> Record:
    """Seconds of a suggestion after many observations, and of the next one, warm-started."""
    problem = get_problem("hartmann6")
    model = {"SGPR": SGPR, "SVGP": SVGP}[surrogate](inducing=inducing)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(n, problem.space.dim, generator=generator, dtype=torch.float64)
    few, data = observe(problem, rows[:50]), observe(problem, rows)
    step(few, problem, KnowledgeGradient, model, Seeds.of(seed, 0), None)  # loads the code
    first, row = step(data, problem, KnowledgeGradient, model, Seeds.of(seed, 1), None)
    start = WarmStart(model.fit(data, Seeds.of(seed, 1)).hyperparameters, n)
    data = observe(problem, torch.cat((rows, row[None])))
    second, _ = step(data, problem, KnowledgeGradient, model, Seeds.of(seed, 2), start)
    return {"first": first, "second": second}


def costs(problem: str, method: str, seed: int, goal: float, cap: float, most: int) -> Record:
    """Cost and regret at the target after each evaluation, until the goal or the cap is reached."""
    torch.set_num_threads(1)
    multi = method == "multi-fidelity"
    target = get_problem(f"augmented_{problem}" if multi else problem)
    acquisition = KnowledgeGradient(cost=COST) if multi else getattr(bo_suite.acquisition, method)()
    optimizer, space, spent = Optimizer(target.space, acquisition, seed=seed), target.space, 0.0
    spendings, regrets, reached = [], [], False
    while not reached and len(regrets) < most:
        trial = optimizer.ask()
        spent += float(COST(space.encode([trial.params]), space.fidelities))
        if spent > cap:
            break
        optimizer.tell(trial, target(trial.params))
        spendings.append(spent)
        regrets.append(target.value(optimizer.recommend()) - target.minimum)
        reached = regrets[-1] <= goal
    return {"reached": reached, "cost": spent if reached else cap, "spent": spendings, "regrets": regrets}


PARTS: dict[str, Callable[..., Record]] = {
    "suggest": suggestion,
    "envelope": envelope,
    "sparse": sparse,
    "regret": noisy_search,
    "fidelity": costs,
}


def tasks(part: str, options: argparse.Namespace) -> list[Record]:
    """The arguments of each measurement of a part."""
    seed = {"seed": options.seeds[0]}
    if part == "suggest":
        names = [name for name in DATA if name in options.problems]
        keys = ("repeats", "peer_repeats", "limit", "batch")
        fixed = seed | {key: getattr(options, key) for key in keys}
        return [{"n": n, "problem": name} | fixed for name in names for n in options.sizes]
    if part == "envelope":
        return [case | seed for case in LINES if case["problem"] in options.problems]
    if part == "sparse":
        return [{"surrogate": kind, "n": options.many, "inducing": 200} | seed for kind in ("SGPR", "SVGP")]
    found: list[Record] = []
    for name in options.problems:
        runs = [(number, method) for number in options.seeds for method in OURS]
        runs += [(number, PEER) for number in options.peer_seeds if name in PEER_PROBLEMS]
        fixed = {"budget": options.budget or BUDGETS[name]}
        if part == "fidelity":
            runs = [(number, method) for number in options.fidelity_seeds for method in FIDELITY]
            runs = runs if name in options.goals else []
            fixed = {"goal": options.goals.get(name), "cap": options.caps.get(name), "most": options.most}
        runs = [(number, method) for number, method in runs if method in options.methods]
        found += [{"problem": name, "method": method, "seed": number} | fixed for number, method in runs]
    return found


def measure(part: str, task: Record) -> Record:
    """A task of a part, done."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    began = time.perf_counter()
    return {"part": part} | task | PARTS[part](**task) | {"wall_s": time.perf_counter() - began}


def work(part: str, todo: list[Record], workers: int) -> Iterator[Record]:
    """Records of a part, in the order of their ends; timings one after the other."""
    if part not in ("regret", "fidelity") or workers == 1:
        yield from (measure(part, task) for task in todo)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(measure, part, task): task for task in todo}
        for future in as_completed(futures):
            if future.exception() is None:
                yield future.result()
            else:
                print(f"not recorded: {part} {futures[future]}: {future.exception()!r}", file=sys.stderr)


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> range:
        first, end = text.split(":")
        return range(int(first), int(end))

    def table(text: str) -> dict[str, float]:
        return {name: float(value) for name, value in (pair.split("=") for pair in text.split(","))}

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder of knowledge_gradient.jsonl")
    parser.add_argument("--report", action="store_true", help="show what is there, and measure nothing")
    parser.add_argument("--parts", type=listed, default=list(PARTS))
    parser.add_argument("--problems", type=listed, default=list(BUDGETS))
    parser.add_argument("--methods", type=listed, default=[*OURS, PEER, FIDELITY[0]])
    parser.add_argument("--seeds", type=numbers, default=range(20), help="first:end; timings take the first")
    parser.add_argument("--peer-seeds", type=numbers, default=range(3), help="of BoTorch's regret")
    parser.add_argument("--fidelity-seeds", type=numbers, default=range(10))
    parser.add_argument("--workers", type=int, default=1, help="of regret and fidelity")
    parser.add_argument("--sizes", type=lambda text: list(map(int, listed(text))), default=[50, 200])
    parser.add_argument("--repeats", type=int, default=5, help="suggestions whose median counts")
    parser.add_argument("--peer-repeats", type=int, default=1, help="the same for BoTorch")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds of a search by BoTorch")
    parser.add_argument("--batch", type=int, default=8, help="raw samples that BoTorch scores at a time")
    parser.add_argument("--many", type=int, default=2000, help="observations of sparse")
    parser.add_argument("--budget", type=int, help="of regret, in place of those of the problems")
    parser.add_argument("--goals", type=table, default={"branin": 0.05, "hartmann6": 0.3})
    parser.add_argument("--caps", type=table, default={"branin": 50.0, "hartmann6": 120.0})
    parser.add_argument("--most", type=int, default=400, help="evaluations, which count as the cap")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.alone:
        warnings.simplefilter("ignore")
        print(json.dumps(alone(*options.alone)))
        return
    if options.out is None:
        parser.error("--out must be given")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "knowledge_gradient.jsonl"
    for part in [] if options.report else options.parts:
        done = [record for record in read(path) if record["part"] == part]
        todo = [t for t in tasks(part, options) if not any(t.items() <= record.items() for record in done)]
        for record in work(part, todo, options.workers):
            add(path, record)
    report(read(path))


if __name__ == "__main__":
    main()

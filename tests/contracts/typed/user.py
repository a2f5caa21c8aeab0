"""What users write, for the type checkers: `check_types.py` has mypy and pyright read it, and nobody runs it.

A line that is wrong says so by `type: ignore`: both checkers complain where such a comment is not needed.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from bo_suite import Choice, Float, Int, Optimizer, Result, Space, Trial, minimize
from bo_suite.acquisition import (
    AffineCost,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.bench import BoSuite, compare, report, run_replicates, run_suite
from bo_suite.classifiers import MLPClassifier
from bo_suite.errors import BoSuiteError, SpaceExhausted, TrialError
from bo_suite.plot import plot_contour, plot_convergence, plot_importance, plot_slices
from bo_suite.problems import Problem, get_problem
from bo_suite.run.reporting import Reporter
from bo_suite.run.schedulers import ASHA, PromotionASHA
from bo_suite.run.stopping import RegretBelow, TargetValue, TimeLimit
from bo_suite.space.parameters import Parameter
from bo_suite.surrogates import SGPR, AutoGP, ExactGP

# Spaces.

KERNELS = ["rbf", "poly"]
WIDTHS = (16, 32, 64)

space = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "x": Float(0, 1),
        "depth": Int(1, 12),
        "epochs": Int(1, 27, log=True, fidelity=True),
        "kernel": Choice(["rbf", "poly"]),
        "named": Choice(KERNELS),
        "width": Choice(WIDTHS, ordered=True),
        "mixed": Choice([0.1, "auto", None, True]),
        "range": Choice(range(3)),
        "numpy": Choice([np.int64(1), np.float32(0.5)]),
        "keyword": Choice(options=("a", "b")),
    }
)
parameters: dict[str, Parameter] = {"x": Float(0, 1)}
parameters["kernel"] = Choice(KERNELS)
grown = Space(parameters)
one = Space({"x": Float(-1, 2)})
options: tuple[float | int | str | bool | None, ...] = Choice(KERNELS).options
wider: Float = replace(Float(0, 1), high=2.0)
more: Choice = replace(Choice(KERNELS), options=("rbf",))
names: list[str] = [name for name, _ in space]

Float("0", 1)  # type: ignore[arg-type]
Int(1)  # type: ignore[call-arg]
Choice(3)  # type: ignore[arg-type]
Space({"x": (0, 1)})  # type: ignore[dict-item]

# Functions.


def of_floats(p: dict[str, float]) -> float:
    return p["x"] ** 2


def of_anything(params: dict[str, Any]) -> float:
    return float(params["x"] ** 2 + (params["kernel"] == "poly") + params["depth"])


def of_mapping(params: Mapping[str, Any]) -> int:
    return len(params)


def of_union(params: dict[str, float | str]) -> float:
    lr = params["lr"]
    assert isinstance(lr, float)
    return lr


def numpy_scalar(params: dict[str, Any]) -> np.float64:
    return np.float64(params["x"]) ** 2


def narrow_scalar(params: dict[str, Any]) -> np.floating[Any]:
    return np.float32(params["x"])


def tensor(params: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(params["x"]).square().sum()


def sometimes(params: dict[str, Any]) -> float:
    return math.nan if params["x"] > 1 else float(params["x"])


def with_gradient(params: dict[str, Any]) -> tuple[float, dict[str, float]]:
    return params["x"] ** 2, {"x": 2.0 * params["x"]}


def with_numpy_gradient(params: dict[str, Any]) -> tuple[np.float64, dict[str, np.float64]]:
    return np.float64(params["x"]), {"x": np.float64(1.0)}


def with_a_list(params: dict[str, Any]) -> tuple[float, list[float]]:
    return params["x"] ** 2, [2.0 * params["x"]]


def text(params: dict[str, Any]) -> str:
    return "a word"


def two_arguments(x: float, y: float) -> float:
    return x + y


def scaled(scale: float, params: dict[str, float]) -> float:
    return scale * params["x"]


@dataclass(frozen=True)
class Tuned:
    data: np.ndarray[Any, Any]

    def __call__(self, params: dict[str, Any]) -> float:
        return float(self.data.mean() * params["x"])


minimize(of_floats, one)
minimize(of_anything, space, 30, 1)
minimize(of_mapping, one)
minimize(of_union, one)
minimize(numpy_scalar, one)
minimize(narrow_scalar, one)
minimize(tensor, one)
minimize(sometimes, one)
minimize(lambda p: (p["x"] - 0.3) ** 2, one)
minimize(lambda p: p["x"] if p["kernel"] == "rbf" else 2 * p["x"], one)
minimize(partial(scaled, 2.0), one)
minimize(with_gradient, one)
minimize(with_numpy_gradient, one)
minimize(lambda p: (p["x"] ** 2, {"x": 2 * p["x"]}), one)
minimize(Tuned(np.zeros(3)), one)

minimize(text, one)  # type: ignore[arg-type]
minimize(with_a_list, one)  # type: ignore[arg-type]


def trains(params: dict[str, Any], report: Reporter) -> None:
    for epoch in range(report.step + 1, 10):
        (report.folder / "model").write_bytes(b"")
        if report(epoch, 0.5) == "stop":
            return


def trains_and_returns(params: dict[str, Any], report: Reporter) -> float | None:
    return 0.5 if report(step=1, value=np.float32(0.5)) == "continue" else None


minimize(trains, one, scheduler=ASHA(9), checkpoints="checkpoints")
minimize(
    trains_and_returns, one, scheduler=ASHA(max_step=9, min_step=1, factor=3), checkpoints=Path("folder")
)
minimize(trains, one, scheduler="asha")  # type: ignore[arg-type]
minimize(two_arguments, one)  # type: ignore[arg-type]
minimize(of_floats, {"x": Float(0, 1)})  # type: ignore[arg-type]
minimize(of_floats, one, budget="30")  # type: ignore[arg-type]

# Runs.


def log(optimizer: Optimizer, trial: Trial) -> None:
    print(trial.id, trial.value, optimizer.best.value)


def enough(optimizer: Optimizer, trial: Trial) -> str | None:
    return "enough" if len(optimizer.trials) > 3 else None


def executor() -> Executor:
    return ThreadPoolExecutor(2)


class Stopper:
    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None:
        return None


def wrong(optimizer: Optimizer, trial: Trial) -> bool:
    return True


result: Result = minimize(
    of_floats,
    one,
    budget=40,
    seed=np.random.default_rng(0).integers(10).item(),
    workers=2,
    executor=executor,
    storage=Path("run.db"),
    acquisition=UpperConfidenceBound(beta=3.0),
    progress=False,
    callbacks=[log, enough, Stopper(), TimeLimit(60), TargetValue(1e-6), RegretBelow(1e-4, after=15)],
    retries=1,
)
minimize(of_floats, one, executor=ThreadPoolExecutor(2), callbacks=(log,))
minimize(of_floats, one, executor=ThreadPoolExecutor, storage="run.db")
minimize(of_floats, one, executor=lambda: ProcessPoolExecutor(2))
minimize(of_floats, one, callbacks=[lambda optimizer, trial: None])
minimize(of_floats, one, callbacks=[lambda optimizer, trial: "stop" if trial.id > 3 else None])
minimize(of_floats, one, callbacks=[wrong])  # type: ignore[list-item]
minimize(of_floats, one, storage=3)  # type: ignore[arg-type]

for chosen in (
    LogExpectedImprovement(surrogate=AutoGP()),
    KnowledgeGradient(cost=AffineCost(fixed=0.1, slope=0.9)),
    ThompsonSampling(),
    Bore(classifier=MLPClassifier(), gamma=0.2),
    LogExpectedImprovement(surrogate=ExactGP()),
    LogExpectedImprovement(surrogate=SGPR(inducing=32)),
):
    minimize(of_floats, one, acquisition=chosen)

best: Trial = result.best
assert result.best.value < 0.1
error = abs(result.best.value - 0.3)
print(f"{result.best.value:.3f}", result.best.params["x"] + 1, result.stopped, result.direction)
values: list[float] = [trial.value for trial in result.trials if trial.value is not None]
frame: pd.DataFrame = result.to_frame()
low = frame["value"].min()
result.plot().savefig("run.png")
plot_convergence(result.trials, "minimize").savefig("run.png")
plot_convergence(result).savefig("run.png")
plot_contour(result, "x", "lr").savefig("run.png")
result.trials[0].value + 1  # type: ignore[operator]

# Ask and tell.

optimizer = Optimizer(space, seed=0, direction="maximize", budget=30, storage=Path("run.db"), device="cpu")
again: Optimizer = Optimizer.resume("run.db")
stopping = Optimizer(one, scheduler=ASHA(max_step=52, factor=4), storage="stopping.db")
resumed = Optimizer.resume("stopping.db", scheduler=PromotionASHA(52))
curves: pd.DataFrame = stopping.to_frame(reports=True)
Optimizer(one, scheduler="asha")  # type: ignore[arg-type]
for _ in range(8):
    t = optimizer.ask()
    optimizer.tell(t, (t.params["x"] - 0.3) ** 2)
    optimizer.tell(t.id, -t.params["x"], std=0.02)
    optimizer.tell(t, np.float32(1.0))
    optimizer.tell(t, torch.tensor(1.0), std=np.float64(0.1))
    optimizer.tell(t, 0.3, gradient={"lr": -2.0, "x": np.float64(1.0)}, params_std={"depth": 1})
    optimizer.tell(t, 0.3, gradient=[-2.0])  # type: ignore[arg-type]
    slopes: Mapping[str, float] | None = t.gradient
    optimizer.tell(t, "0.3")  # type: ignore[arg-type]
    answer: Literal["continue", "stop"] = optimizer.report(t, 3, np.float32(0.5), seconds=1.5)
    optimizer.report(t.id, step=4, value=0.25)
    optimizer.report(t, "3", 0.5)  # type: ignore[arg-type]
    steps: list[int] = [report.step for report in t.reports]
    optimizer.tell(t, None)  # type: ignore[arg-type]
batch: list[Trial] = optimizer.ask(4)
first, *others = optimizer.ask(count=4)
optimizer.fail(first, "out of memory")
optimizer.fail(first.id, reason="node was lost", transient=True)
optimizer.withdraw(others[0])
optimizer.add({"x": 1.5}, 1.44)
point: dict[str, float] = {"x": 0.5}
optimizer.add(point, 1)
optimizer.add({**first.params, "x": 0.1}, 1.0, std=0.1)
optimizer.add(["x"], 1.0)  # type: ignore[arg-type]
lr: float = optimizer.best.params["lr"]
depth: int = optimizer.recommend()["depth"]
gap: float = optimizer.best.value - optimizer.regret_bound().value
predicted: pd.DataFrame = optimizer.predict([point, first.params], interval=0.8)
predicted = optimizer.predict(predicted)
predicted = result.belief().predict({"x": 0.5})
optimizer.predict(3)  # type: ignore[arg-type]
important: list[str] = list(optimizer.importance().index)
plot_slices(optimizer, important[:2]).savefig("run.png")
plot_importance(optimizer).savefig("run.png")
finished: Sequence[Trial] = [trial for trial in optimizer.trials if trial.state == "finished"]
print(optimizer.to_frame().tail(), optimizer.space == space)
try:
    optimizer.ask()
except SpaceExhausted:
    optimizer.close()
except (TrialError, BoSuiteError) as problem:
    print(problem)

# Problems and suites.

branin = get_problem("branin")
value: float = branin({"x1": 0.5, "x2": 1.0})
mine = Problem("mine", one, of_floats, minimum=0.0, minimizers=({"x": 0.0},))
records = run_suite([branin, mine], ["random", BoSuite(KnowledgeGradient(), name="kg")], range(5), 20, "out")
run_suite("branin", ["random", "tpe"], seeds=range(2), budget=8, out=Path("out"), workers=1)
print(compare(records), compare("out").summary, report("out"))
print(run_replicates(branin, LogExpectedImprovement(), seeds=range(8), budget=12).best[:, -1])

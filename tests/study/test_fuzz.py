"""Random runs of an Optimizer: any space, acquisition and outcomes, with all that can happen to a trial.

A run follows from its seed, which a failure names: `play(seed, folder)` repeats it.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Acquisition,
    AffineCost,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    RootGamma,
    SteinBatch,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.classifiers import GPClassifier
from bo_suite.errors import SpaceExhausted
from bo_suite.storage.trial import Trial
from bo_suite.surrogates import SGPR, AutoGP, ExactGP

Draw = np.random.Generator
Function = Callable[[dict[str, Any]], float]

ACQUISITIONS: dict[str, Callable[[], Acquisition | None]] = {
    "default": lambda: None,
    "log EI": LogExpectedImprovement,
    "log EI, exact": lambda: LogExpectedImprovement(surrogate=ExactGP()),
    "log EI, SGPR": lambda: LogExpectedImprovement(surrogate=SGPR(8)),
    "noisy EI": NoisyExpectedImprovement,
    "UCB": lambda: UpperConfidenceBound(beta=1.5, surrogate=AutoGP()),
    "KG": lambda: KnowledgeGradient(cost=AffineCost(), candidates=4, fantasies=4),
    "Thompson": lambda: ThompsonSampling(features=128),
    "Bore": lambda: Bore(gamma=RootGamma()),
    "Bore, GP": lambda: Bore(classifier=GPClassifier()),
}
FIDELITY = ("default", "KG")
"""Those that know fidelities."""


def draw_parameter(draw: Draw) -> Float | Int | Choice:
    kind = int(draw.integers(8))
    low = float(draw.choice([-1e6, -1.0, 0.0, 1e-9, 1e3]))
    width = float(draw.choice([1e-6, 1.0, 1e9]))
    if kind == 0:
        return Float(low, low + width)
    if kind == 1:
        return Float(0.0, 1.0)
    if kind == 2:
        return Float(1e-8, 10.0 ** float(draw.integers(-6, 8)), log=True)
    if kind == 3:
        return Int(int(low), int(low) + int(draw.choice([1, 2, 30, 10**9])))
    if kind == 4:
        return Int(1, int(draw.choice([2, 10, 10**6])), log=True)
    if kind == 5:
        return Choice(tuple(f"option {place}" for place in range(draw.integers(1, 7))))
    if kind == 6:
        return Choice((True, None, "x", 2.5)[: draw.integers(2, 5)])
    return Choice(tuple(float(2**place) for place in range(draw.integers(2, 7))), ordered=True)


def draw_space(draw: Draw) -> Space:
    kind = draw.random()
    if kind < 0.15:  # few points
        small: list[Float | Int | Choice] = [Int(0, 2), Choice(("a", "b")), Int(1, 4, log=True)]
        size = int(draw.integers(1, 4))
        return Space({f"p{place}": small[place] for place in range(size)})
    parameters = {f"p{place}": draw_parameter(draw) for place in range(draw.integers(1, 7))}
    if kind > 0.85:
        parameters["epochs"] = (
            Int(1, 27, log=True, fidelity=True) if draw.random() < 0.5 else Float(0.1, 1.0, fidelity=True)
        )
    return Space(parameters)


def draw_function(draw: Draw, space: Space) -> tuple[str, Function]:
    """Outcomes that vary over the space, of some kind."""
    weights, centre = draw.normal(size=space.dim), draw.random(space.dim)
    noise = Draw(np.random.PCG64(draw.integers(2**32)))

    def bowl(params: dict[str, Any]) -> float:
        row = space.encode([params])[0].numpy()
        return float(np.sum(weights**2 * (row - centre) ** 2) + 0.1 * weights @ row)

    shapes: dict[str, Function] = {
        "plain": bowl,
        "constant": lambda params: 3.25,
        "zero": lambda params: 0.0,
        "huge": lambda params: 1e300 * math.tanh(bowl(params)),
        "huge offset": lambda params: 1e15 + bowl(params),
        "largest": lambda params: math.copysign(1.7e308, bowl(params) - 0.3),
        "tiny": lambda params: 1e-300 * bowl(params),
        "smallest": lambda params: 5e-324 * round(10 * bowl(params)),
        "ties": lambda params: float(round(bowl(params))),
        "rounded": lambda params: round(5.0 * bowl(params)) / 5.0,
        "heavy tails": lambda params: bowl(params) + float(noise.standard_cauchy()) ** 3,
        "negative": lambda params: -1e4 - 100.0 * bowl(params),
        "exponential": lambda params: math.exp(min(30.0 * bowl(params), 600.0)),
        "one outlier": lambda params: 1e12 if noise.random() < 0.1 else bowl(params),
        "noise": lambda params: float(noise.normal()),
        "two values": lambda params: float(bowl(params) > 0.5),
    }
    name = str(draw.choice(list(shapes)))
    return name, shapes[name]


def end(optimizer: Optimizer, trial: Trial, value: float, draw: Draw, rates: dict[str, float]) -> None:
    """Ends a trial in some way, or lets it run."""
    way = draw.random()
    region = optimizer.space.encode([trial.params])[0, 0] > 0.7
    if way < rates["pending"]:
        return
    if way < rates["pending"] + rates["failed"] or (rates["region"] and region):
        optimizer.fail(trial, "why", transient=bool(draw.random() < 0.3))
    elif way < rates["pending"] + rates["failed"] + rates["withdrawn"]:
        optimizer.withdraw(trial)
    else:
        std = None
        if draw.random() < rates["stds"]:
            std = float(draw.choice([0.0, 1e-3, 1.0])) * max(abs(value), 1e-3) if abs(value) < 1e290 else 0.0
        optimizer.tell(trial, value, std)


def number_of_points(space: Space) -> float:
    """How many there are."""
    counts = []
    for _, parameter in space:
        if isinstance(parameter, Float):
            return math.inf
        counts.append(
            parameter.high - parameter.low + 1 if isinstance(parameter, Int) else len(parameter.options)
        )
    return math.prod(counts)


def play(seed: int, folder: Path, most: int = 14) -> tuple[str, list[Trial]]:
    """A run of 8 trials and up to so many, and in words what it was like.

    Raises:
        AssertionError: a fallback, or a finite space that ended early.
    """
    draw = np.random.default_rng((seed, 5))
    space = draw_space(draw)
    names = list(FIDELITY) if space.fidelities else list(ACQUISITIONS)
    name = str(draw.choice(names))
    shape, function = draw_function(draw, space)
    rates = {
        "pending": float(draw.choice([0.0, 0.2])),
        "failed": float(draw.choice([0.0, 0.0, 0.2, 0.6])),
        "region": float(draw.random() < 0.2),
        "withdrawn": float(draw.choice([0.0, 0.1])),
        "stds": float(draw.choice([0.0, 0.0, 0.5, 1.0])),
    }
    direction = str(draw.choice(["minimize", "maximize"]))
    budget = [None, 4, 12][draw.integers(3)]
    count, interrupted = int(draw.integers(8, most + 1)), int(draw.integers(2, 12))
    words = f"seed {seed}: {name}, {shape}, {direction}, budget {budget}, {count} trials, {rates}, {space}"
    path = folder / f"{seed}.db" if draw.random() < 0.5 else None
    optimizer = Optimizer(space, ACQUISITIONS[name](), seed, direction, budget, path)
    try:
        while len(optimizer.trials) < count:
            if path is not None and len(optimizer.trials) >= interrupted:
                optimizer.close()
                optimizer, path = Optimizer.resume(path), None
                for trial in optimizer.reclaim():
                    end(optimizer, trial, function(trial.params), draw, rates)
            way = draw.random()
            if way < 0.08:
                params = space.decode(
                    space.encoding.sample_from_unit(space.encode([]).new_tensor(draw.random((1, space.dim))))
                )[0]
                optimizer.add(params, function(params))
                continue
            try:
                stein = SteinBatch() if name.startswith("Bore") and not space.fidelities else None
                size = int(draw.integers(2, 4)) if way > 0.85 else None
                asked = [optimizer.ask()] if size is None else optimizer.ask(size, stein)
            except SpaceExhausted:
                blocking = {json.dumps(trial.params) for trial in optimizer.trials if trial.informative}
                assert len(blocking) == number_of_points(space), "not all points are taken"
                break
            for trial in asked:
                assert space.check(trial.params) == trial.params
                end(optimizer, trial, function(trial.params), draw, rates)
        trials = optimizer.trials
    except Exception as error:
        error.add_note(words)
        raise
    finally:
        optimizer.close()
    for trial in trials:
        assert "fallback" not in trial.provenance, (
            f"trial {trial.id} of {words}: {trial.provenance['fallback']}"
        )
    return words, trials


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 5)) for seed in range(12)]
)
def test_a_random_run(seed: int, tmp_path: Path) -> None:
    play(seed, tmp_path, most=8)


@pytest.mark.slow
def test_five_hundred_random_runs(tmp_path: Path) -> None:
    counts, failures = Counter[str](), []
    for seed in range(100, 600):
        try:
            _, trials = play(seed, tmp_path)
        except Exception as error:
            failures.append(f"{error!r:.300} {' '.join(getattr(error, '__notes__', []))}")
        else:
            counts.update(trial.state for trial in trials)
    print(dict(counts))
    assert not failures, f"{len(failures)} of 500:\n" + "\n".join(failures)

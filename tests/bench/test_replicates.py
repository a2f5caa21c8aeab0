"""Replicates beside single runs of the same seeds.

Both do the same arithmetic in another order. Most of its rounding errors vanish at once, since a Float
decodes to eleven digits; a run differs from its replicate only once the ends of two searches are rounded to
different digits, by 1e-11 of the range at first. From then on every suggestion is made from data that differ.
Largest difference of an encoded point, of seeds 0 to 5, by evaluation (measured on one machine):

    LogExpectedImprovement, hartmann6   none until 12, 1e-8 at 20, 6e-4 at 30; four of six none at all
    the same with SGPR, hartmann6       none until 10, 2e-9 at 15, 5e-5 at 24; three of six none at all
    NoisyExpectedImprovement, branin and hartmann3      none until 15, 4e-10 at 23
    UpperConfidenceBound, branin        none until 16, 3e-9 at 26
    KnowledgeGradient, branin           none until 9, 8e-10 at 23; but seed 1: 2e-6 at 11, 2e-3 at 18
    KnowledgeGradient, hartmann3        none until 6, 1e-5 at 12, 1e-1 at 16
    Bore with its network, branin       none at all, 24 evaluations

Once there is a difference it grows by about three times an evaluation under LogExpectedImprovement, by about
ten under KnowledgeGradient, and hardly where runs have settled. KnowledgeGradient can also jump: its
alternatives are the ends of searches that stop within a tolerance, and where one of them stops a step sooner,
the score differs a little and its maximum by up to 1e-3, on equal data (3 of 105 suggestions that were
compared). Whole runs are compared for as many evaluations as the table allows, single suggestions on
equal data.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Acquisition,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.bench.replicates import Replicates, run_replicates
from bo_suite.classifiers import GPClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError, TrialError
from bo_suite.problems import Problem, get_problem, noisy
from bo_suite.space.space import Params
from bo_suite.study.observations import dataset_of
from bo_suite.study.step import next_steps
from bo_suite.surrogates import SGPR, ExactGP, ExactProcess, WarmStart

KINDS: list[Acquisition] = [
    LogExpectedImprovement(),
    NoisyExpectedImprovement(),
    UpperConfidenceBound(),
    KnowledgeGradient(),
    LogExpectedImprovement(surrogate=SGPR()),
    Bore(),
]
NAMES = ["LogEI", "NEI", "UCB", "KG", "SGPR", "Bore"]


def tilted(params: Params) -> float:
    weight = {"a": 0.0, "b": 0.3, "c": -0.2}[str(params["k"])]
    number = math.log(float(params["n"])) / 3.0  # type: ignore[arg-type]
    x, y = float(params["x"]), float(params["y"])  # type: ignore[arg-type]
    return (x - 0.3) ** 2 + math.sin(3.0 * y) * number + weight * x


MIXED = Problem(
    "tilted",
    Space(
        {
            "x": Float(-1, 2),
            "n": Int(1, 20, log=True),
            "k": Choice(["a", "b", "c"]),
            "y": Float(1e-3, 1.0, log=True),
        }
    ),
    tilted,
)


def solo(
    problem: Problem, acquisition: Acquisition, seed: int, budget: int
) -> tuple[Tensor, Tensor, list[str]]:
    """Rows, values and sources of a single run, without noise."""
    optimizer = Optimizer(problem.space, acquisition, seed=seed, budget=budget)
    for _ in range(min(budget, problem.space.cardinality or budget)):
        trial = optimizer.ask()
        optimizer.tell(trial, problem.value(trial.params))
    trials = optimizer.trials
    rows = problem.space.encode([trial.params for trial in trials])
    values = torch.tensor([trial.value for trial in trials], dtype=torch.float64)
    return rows, values, [trial.provenance["source"] for trial in trials]


def assert_solo(found: Replicates, acquisition: Acquisition, budget: int, tolerance: float = 1e-6) -> None:
    for place, seed in enumerate(found.seeds):
        rows, values, sources = solo(found.problem, acquisition, seed, budget)
        assert_close(found.rows[place], rows, rtol=0.0, atol=tolerance)
        assert_close(found.values[place], values, rtol=tolerance, atol=tolerance)
        assert [step[place]["source"] for step in found.sources] == sources


@pytest.mark.parametrize(
    ("acquisition", "name", "seeds", "budget"),
    [
        (KINDS[0], "hartmann6", (0, 1), 12),
        pytest.param(KINDS[0], "hartmann6", (0, 1, 2), 20, marks=pytest.mark.slow),
        pytest.param(KINDS[1], "branin", (0, 1, 2), 20, marks=pytest.mark.slow),
        pytest.param(KINDS[2], "branin", (0, 1, 2), 20, marks=pytest.mark.slow),
        pytest.param(KINDS[3], "branin", (0, 1, 2), 9, marks=pytest.mark.slow),
        pytest.param(KINDS[4], "hartmann6", (0, 1), 12, marks=pytest.mark.slow),
    ],
)
def test_replicates_are_the_runs_of_their_seeds(
    acquisition: Acquisition, name: str, seeds: tuple[int, ...], budget: int
) -> None:
    found = run_replicates(get_problem(name), acquisition, seeds, budget)
    assert found.seeds == seeds
    assert torch.equal(found.true_values, found.values)
    assert not torch.equal(found.rows[0], found.rows[1])
    assert_solo(found, acquisition, budget)


@pytest.mark.slow
def test_replicates_with_a_network_are_the_runs_of_their_seeds_to_the_last_bit() -> None:
    found = run_replicates(get_problem("branin"), Bore(), (0, 1), 10)
    assert_solo(found, Bore(), 10, tolerance=0.0)


def test_replicates_of_a_mixed_space_are_the_runs_of_their_seeds() -> None:
    assert MIXED.vectorized is None
    found = run_replicates(MIXED, LogExpectedImprovement(), (4, 7), 12)
    assert_solo(found, LogExpectedImprovement(), 12)


def observed(problem: Problem, seeds: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
    """Random points of each seed and their values."""
    space = problem.space
    uniform = Seeds.of_each(seeds, -1).uniform((count, space.dim), torch.zeros(1, dtype=torch.float64))
    rows = space.encoding.project(space.encoding.sample_from_unit(uniform))
    values = [[problem.value(point) for point in space.decode(one)] for one in rows]
    return rows, torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("acquisition", "problem"),
    [
        pytest.param(
            acquisition,
            problem,
            marks=[pytest.mark.slow] * (place == 3 or (place in (1, 5)) != (problem is MIXED)),
        )
        for place, acquisition in enumerate(KINDS)
        for problem in (get_problem("hartmann3"), MIXED)
    ],
    ids=[f"{name}-{problem}" for name in NAMES for problem in ("hartmann3", "mixed")],
)
def test_given_equal_data_a_replicate_and_a_run_suggest_the_same(
    acquisition: Acquisition, problem: Problem
) -> None:
    """Fits from afresh, then from where the run's last one ended, of which the third trusts it alone.

    A KnowledgeGradient may differ by more than the others, where the score of the run is as good.
    """
    seeds, space = (0, 1), problem.space
    near = 1e-3 if acquisition == KnowledgeGradient() else 1e-7
    x, values = observed(problem, seeds, 22)
    starts: list[WarmStart | None] = [None, None]
    for n in (8, 21, 22):
        data = dataset_of(space, x[:, :n], values[:, :n])
        together = next_steps(data, space, acquisition, Seeds.of_each(seeds, n), starts)
        for index, (step, seed, start) in enumerate(zip(together, seeds, starts, strict=True)):
            key, one = Seeds.of(seed, n), data.replicates(index)
            (alone,) = next_steps(one, space, acquisition, key, [start])
            assert_close(step.row, alone.row, rtol=0.0, atol=near)
            if not torch.equal(step.row, alone.row):
                with torch.no_grad():
                    scores = acquisition.build(one, key, start)(torch.stack((step.row, alone.row)))
                assert_close(scores[0], scores[1], rtol=0.0, atol=1e-6)
            if alone.start is not None:
                assert step.start is not None
                assert_close(step.start.hyperparameters, alone.start.hyperparameters, rtol=1e-6, atol=1e-9)
        starts = [step.start for step in together]


@dataclass(frozen=True)
class Fragile:
    """An ExactGP that fails on some numbers of observations, where the second point is a given one."""

    second: tuple[float, ...]
    sizes: tuple[int, ...]
    whole: ExactGP = field(default_factory=ExactGP)

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ExactProcess:
        second = data.x.new_tensor(self.second)
        if data.x.shape[-2] in self.sizes and bool((data.x[..., 1, :] == second).all(-1).any()):
            raise FitError("it is fragile")
        return self.whole.fit(data, seeds, start)


def test_a_fit_that_fails_for_one_replicate_leaves_all_the_runs_of_their_seeds() -> None:
    problem, seeds, budget, sizes = get_problem("branin"), (0, 1, 2), 12, (6, 7, 10)
    second = run_replicates(problem, LogExpectedImprovement(), (1,), 2).rows[0, 1]
    acquisition = LogExpectedImprovement(surrogate=Fragile(tuple(second.tolist()), sizes))
    found = run_replicates(problem, acquisition, seeds, budget)
    fallbacks = [
        (n, place) for n, step in enumerate(found.sources) for place in range(3) if "fallback" in step[place]
    ]
    assert fallbacks == [(n, 1) for n in sizes]
    assert {found.sources[n][1]["fallback"] for n in sizes} == {"it is fragile"}
    assert_solo(found, acquisition, budget)


def code(params: Params) -> float:
    return float(params["n"]) * (1.5 if params["k"] == "a" else -0.5)  # type: ignore[arg-type]


def test_replicates_of_a_finite_space_end_with_its_last_point() -> None:
    problem = Problem("code", Space({"n": Int(1, 4), "k": Choice(["a", "b"])}), code)
    found = run_replicates(problem, LogExpectedImprovement(), (0, 1, 2), 12)
    assert found.rows.shape == (3, 8, 2)
    for rows in found.rows:
        assert len({tuple(row) for row in rows.tolist()}) == 8
    assert bool((found.best[:, -1] == -2.0).all())
    assert len(found.sources) == len(found.ask_seconds) == len(found.evaluate_seconds) == 8
    assert_solo(found, LogExpectedImprovement(), 12)


def undefined(params: Params) -> float:
    return math.nan if float(params["x"]) > 0.6 else 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "budget", "kind", "words"),
    [
        ((), 5, DataError, "seeds must be given and differ"),
        ((1, 2, 1), 5, DataError, r"differ, got \(1, 2, 1\)"),
        ((1,), 0, TrialError, "budget"),
        ((1,), 2.5, TrialError, "budget must be an integer, got 2.5"),
        ((1.5,), 5, TrialError, "seed must be an integer, got 1.5"),
        ((True,), 5, TrialError, "seed must be an integer, got True"),
    ],
)
def test_bad_arguments_are_refused(
    seeds: tuple[int, ...], budget: int, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run_replicates(get_problem("branin"), LogExpectedImprovement(), seeds, budget)


def test_an_outcome_that_is_no_number_is_refused_by_name() -> None:
    problem = Problem("undefined", Space({"x": Float(0, 1)}), undefined)
    with pytest.raises(DataError, match=r"nan.* of undefined"):
        run_replicates(problem, LogExpectedImprovement(), range(3), 6)


NOISY = noisy(get_problem("branin"), 30.0)


def test_noise_is_drawn_from_the_seed_and_the_point() -> None:
    found = run_replicates(NOISY, LogExpectedImprovement(), (3, 5), 8)
    points = [NOISY.space.decode(rows) for rows in found.rows]
    drawn = [[NOISY.noise_of(point, seed) for point in run] for seed, run in zip((3, 5), points, strict=True)]
    noise = found.values - found.true_values
    assert_close(noise, torch.tensor(drawn, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    true = torch.tensor([[NOISY.value(point) for point in run] for run in points], dtype=torch.float64)
    assert_close(found.true_values, true, rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class Proportional:
    """Adds the value times a normal number."""

    def __call__(self, value: float, generator: np.random.Generator) -> float:
        return value * float(generator.standard_normal())


def test_noise_of_a_model_is_drawn_from_the_seed_and_the_point() -> None:
    problem = replace(get_problem("branin"), noise_model=Proportional())
    found = run_replicates(problem, LogExpectedImprovement(), (3, 5), 4)
    for seed, rows, values, true in zip((3, 5), found.rows, found.values, found.true_values, strict=True):
        drawn = [problem.noise_of(point, seed) for point in problem.space.decode(rows)]
        assert_close(values - true, torch.tensor(drawn, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_best_and_the_table_agree_with_a_plain_loop() -> None:
    found = run_replicates(NOISY, LogExpectedImprovement(), (3, 5, 8), 9)
    frame = found.to_frame()
    assert len(frame) == 27
    lines = iter(frame.to_dict("records"))
    for place, seed in enumerate((3, 5, 8)):
        lowest, best = math.inf, math.nan
        for number in range(9):
            value, true = float(found.values[place, number]), float(found.true_values[place, number])
            if value < lowest:
                lowest, best = value, true
            assert float(found.best[place, number]) == best
            line = next(lines)
            assert (line["seed"], line["evaluation"]) == (seed, number + 1)
            assert (line["value"], line["true_value"]) == (value, true)
            assert NOISY.space.encode([line["params"]])[0].tolist() == found.rows[place, number].tolist()
            assert line["provenance"] == found.sources[number][place]
            assert line["failure"] is None
            assert line["ask_seconds"] == pytest.approx(found.ask_seconds[number] / 3)
            assert line["evaluate_seconds"] == pytest.approx(found.evaluate_seconds[number] / 3)
    assert bool((found.best != found.true_values.cummin(-1).values).any())


@pytest.mark.parametrize("acquisition", KINDS, ids=NAMES)
def test_the_kinds_compared_here_are_those_that_go_in_lockstep(acquisition: Acquisition) -> None:
    assert acquisition.batched


@pytest.mark.parametrize(
    "acquisition",
    [
        Bore(classifier=GPClassifier()),
        LogExpectedImprovement(surrogate=Fragile((0.5,), ())),
        ThompsonSampling(),
    ],
)
def test_others_do_not(acquisition: Acquisition) -> None:
    assert not getattr(acquisition, "batched", False)

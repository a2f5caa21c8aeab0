"""Replicates on a CUDA device beside the same on the CPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import (
    Acquisition,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.bench import replicates
from bo_suite.bench.replicates import run_replicates
from bo_suite.data import Dataset, Seeds
from bo_suite.problems import Problem, get_problem
from bo_suite.study.observations import dataset_of
from bo_suite.study.step import Step, next_steps
from bo_suite.surrogates import SGPR

DEVICE = "cuda"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

KINDS: list[Acquisition] = [
    LogExpectedImprovement(),
    NoisyExpectedImprovement(),
    UpperConfidenceBound(),
    KnowledgeGradient(),
    LogExpectedImprovement(surrogate=SGPR()),
    Bore(),
]
NAMES = ["LogEI", "NEI", "UCB", "KG", "SGPR", "Bore"]


def test_replicates_agree_with_those_on_the_cpu() -> None:
    problem = get_problem("hartmann3")
    here, there = (
        run_replicates(problem, LogExpectedImprovement(), range(4), 12, device) for device in ("cpu", DEVICE)
    )
    assert torch.equal(there.rows[:, :4], here.rows[:, :4])
    assert_close(there.rows, here.rows, rtol=0.0, atol=1e-5)
    assert_close(there.values, here.values, rtol=1e-5, atol=1e-5)
    assert_close(there.best, here.best, rtol=1e-5, atol=1e-5)


NO_STARTS = [None] * 4


@pytest.mark.parametrize("acquisition", KINDS, ids=NAMES)
def test_given_equal_data_both_devices_suggest_about_as_good_points(acquisition: Acquisition) -> None:
    """Rounding errors differ, and so may the ends of searches, within their tolerance."""
    space, seeds, count = get_problem("branin").space, Seeds.of_each(range(4), 12), 12
    uniform = seeds.uniform((count, space.dim), torch.zeros(1, dtype=torch.float64))
    x = space.encoding.project(uniform)
    values = (x - 0.4).square().sum(-1) + 0.1 * torch.sin(9.0 * x[..., 0])
    data = dataset_of(space, x, values)
    here = next_steps(data, space, acquisition, seeds, NO_STARTS)
    there = next_steps(data.to(torch.device(DEVICE)), space, acquisition, seeds, NO_STARTS)
    assert {step.row.device.type for step in there} == {torch.device(DEVICE).type}
    with torch.no_grad():
        score = acquisition.build(data, seeds)
        rows = (torch.stack([step.row.cpu() for step in steps]) for steps in (there, here))
        found, expected = (score(one[:, None])[:, 0] for one in rows)
    if acquisition == Bore():  # hundreds of gradient steps make much of rounding errors
        assert bool(torch.isfinite(found).all())
    else:
        assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_tensors_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, seen = torch.device(DEVICE).type, list[str]()

    def watched(data: Dataset, *others: Any) -> list[Step]:
        seen.extend(tensor.device.type for tensor in (data.x, data.y, data.pending))
        steps = following(data, *others)
        seen.extend(step.row.device.type for step in steps)
        return steps

    def watched_values(problem: Problem, rows: Tensor) -> Tensor:
        value = evaluated(problem, rows)
        seen.extend((rows.device.type, value.device.type))
        return value

    following, evaluated = replicates.next_steps, replicates._evaluate
    monkeypatch.setattr(replicates, "next_steps", watched)
    monkeypatch.setattr(replicates, "_evaluate", watched_values)
    found = run_replicates(get_problem("branin"), LogExpectedImprovement(), range(3), 8, DEVICE)
    assert set(seen) == {kind}
    assert len(seen) == 6 * (3 + 3) + 8 * 2
    assert {part.device.type for part in (found.rows, found.values, found.true_values)} == {"cpu"}


def test_a_warm_start_from_the_cpu_is_taken() -> None:
    space, seeds = get_problem("branin").space, Seeds.of_each(range(2), 9)
    x = space.encoding.project(seeds.uniform((9, space.dim), torch.zeros(1, dtype=torch.float64)))
    data = dataset_of(space, x, x.sum(-1)).to(torch.device(DEVICE))
    first = next_steps(data, space, LogExpectedImprovement(), seeds, [None, None])
    starts = [replace(step.start, hyperparameters=step.start.hyperparameters.cpu()) for step in first]
    again = next_steps(data, space, LogExpectedImprovement(), seeds, starts)
    for one, other in zip(first, again, strict=True):
        assert other.start.hyperparameters.device.type == torch.device(DEVICE).type
        assert_close(other.start.hyperparameters, one.start.hyperparameters, rtol=0.0, atol=0.5)

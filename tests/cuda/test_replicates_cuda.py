"""Replicates on a CUDA device beside the same on the CPU."""

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
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.suggest import Suggestion, attempt
from bo_suite.surrogates import SGPR, WarmStart

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


def moved(data: Dataset, device: str) -> Dataset:
    return Dataset(
        data.x.to(device), data.y.to(device), None, data.pending.to(device), data.unordered, data.levels
    )


@pytest.mark.parametrize("acquisition", KINDS, ids=NAMES)
def test_given_equal_data_both_devices_suggest_about_as_good_points(acquisition: Acquisition) -> None:
    """Rounding errors differ, and so may the ends of searches, within their tolerance."""
    space, seeds, count = get_problem("branin").space, Seeds.of_each(range(4), 12), 12
    uniform = seeds.uniform((count, space.dim), torch.zeros(1, dtype=torch.float64))
    x = space.encoding.project(uniform)
    values = (x - 0.4).square().sum(-1) + 0.1 * torch.sin(9.0 * x[..., 0])
    data = Dataset(x, OutcomeTransform.fit(values)(values), None, x[:, :0], space.unordered, space.levels)
    here = attempt(data, space, acquisition, seeds)
    there = attempt(moved(data, DEVICE), space, acquisition, seeds)
    assert there.rows.device.type == torch.device(DEVICE).type
    with torch.no_grad():
        score = acquisition.build(data, seeds)
        found, expected = (score(rows.cpu()[:, None])[:, 0] for rows in (there.rows, here.rows))
    if acquisition == Bore():  # hundreds of gradient steps make much of rounding errors
        assert bool(torch.isfinite(found).all())
    else:
        assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_tensors_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, seen = torch.device(DEVICE).type, list[str]()

    def watched(
        data: Dataset,
        problem: Problem,
        acquisition: Acquisition,
        seeds: Seeds,
        *starts: object,
    ) -> list[Suggestion]:
        seen.extend(part.device.type for part in (data.x, data.y, data.pending))
        found = following(data, problem, acquisition, seeds, *starts)
        seen.extend(one.rows.device.type for one in found)
        return found

    def watched_values(problem: Problem, rows: Tensor) -> Tensor:
        value = evaluated(problem, rows)
        seen.extend((rows.device.type, value.device.type))
        return value

    following, evaluated = replicates._next, replicates._evaluate
    monkeypatch.setattr(replicates, "_next", watched)
    monkeypatch.setattr(replicates, "_evaluate", watched_values)
    found = run_replicates(get_problem("branin"), LogExpectedImprovement(), range(3), 8, DEVICE)
    assert set(seen) == {kind}
    assert len(seen) == 6 * (3 + 3) + 8 * 2
    assert {part.device.type for part in (found.rows, found.values, found.true_values)} == {"cpu"}


def test_a_warm_start_from_the_cpu_is_taken() -> None:
    space, seeds = get_problem("branin").space, Seeds.of_each(range(2), 9)
    x = space.encoding.project(seeds.uniform((9, space.dim), torch.zeros(1, dtype=torch.float64)))
    data = moved(Dataset(x, x.sum(-1) - 1.0, None, x[:, :0], space.unordered, space.levels), DEVICE)
    first = attempt(data, space, LogExpectedImprovement(), seeds)
    assert first.hyperparameters is not None
    start = WarmStart(first.hyperparameters.cpu(), 9)
    again = attempt(data, space, LogExpectedImprovement(), seeds, start)
    assert again.hyperparameters is not None
    assert again.hyperparameters.device.type == torch.device(DEVICE).type
    assert_close(again.hyperparameters, first.hyperparameters, rtol=0.0, atol=0.5)

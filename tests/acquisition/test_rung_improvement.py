"""Expected improvement at MOBSTER's rung."""

from dataclasses import replace

import pytest
import torch

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement, RungImprovement
from bo_suite.acquisition.improvement import log_expected_improvement
from bo_suite.acquisition.rung_improvement import rung_index
from bo_suite.data import Columns, Curves, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.run.schedulers import ASHA, PromotionASHA
from bo_suite.surrogates import DecayGP, ExactGP
from bo_suite.testing import check_acquisition

STEPS = torch.tensor([0.125, 0.25, 0.5, 1.0], dtype=torch.float64)
SEEDS = Seeds.of(0, 20)


def curves(reached: list[int], seed: int = 0) -> Curves:
    """Two columns; curve i is observed at its first reached[i] steps."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(len(reached), 2, generator=generator, dtype=torch.float64)
    y = (2 * x - 1).square().sum(-1)[:, None] + 1.5 * torch.exp(-3 * STEPS) - 1.0
    y = torch.where(torch.arange(4) < torch.tensor(reached)[:, None], y, torch.nan)
    return Curves(x, STEPS, y)


def dataset(of: Curves, stopped: list[int] = ()) -> Dataset:
    """Finished curves are observations."""
    ended = ~of.y[:, -1].isnan()
    rows = of.x[list(stopped)] if stopped else None
    return Dataset(of.x[ended], of.y[ended, -1], curves=of, stopped=rows)


def test_it_keeps_the_contract_of_an_acquisition() -> None:
    check_acquisition(RungImprovement(fantasies=8))


@pytest.mark.parametrize(
    ("reached", "index"),
    [([1, 1, 1], 0), ([1], 0), ([4, 1, 1], 0), ([4, 2, 1], 1), ([4, 3, 3], 2), ([4, 4, 1], 3), ([0, 0], 0)],
)
def test_the_rung_is_the_largest_step_with_as_many_observations_as_columns(reached, index) -> None:
    assert int(rung_index(curves(reached))) == index


def test_without_curves_it_is_expected_improvement_at_the_last_step() -> None:
    of = curves([4] * 8)
    data = Dataset(of.x, of.y[:, -1])
    test = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = RungImprovement().build(data, SEEDS)
    same = LogExpectedImprovement(DecayGP()).build(data, SEEDS)
    torch.testing.assert_close(own(test), same(test))
    assert float(own.step) == 1.0


def test_half_finished_curves_count_at_a_step_that_enough_have_reached() -> None:
    data = dataset(curves([4, 3, 3, 3, 1, 1, 1, 1, 1, 1]), stopped=[1, 2, 3, *range(4, 10)])
    score = RungImprovement().build(data, SEEDS)
    assert float(score.step) == 0.5
    process = DecayGP().process(data, score.hyperparameters).at(0.5)
    test = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    best = data.curves.y[:4, 2].min()[None]
    expected = log_expected_improvement(*process.mean_and_var(test), best)
    torch.testing.assert_close(score(test), expected)
    assert score.notes == ({"rule": "improvement after 0.5 of the steps"},)


@pytest.mark.parametrize("kind", ["running", "pending"])
def test_an_outcome_that_is_still_to_come_is_integrated_over(kind) -> None:
    of = curves([4, 4, 3, 3, 1, 1, 1, 1])
    data = dataset(of, stopped=[2, 3, 5, 6, 7, 4] if kind == "pending" else [2, 3, 5, 6, 7])
    point = of.x[4:5] if kind == "running" else torch.tensor([[0.5, 0.45]], dtype=torch.float64)
    if kind == "pending":
        data = replace(data, pending=point)
    score = RungImprovement(fantasies=2048).build(data, SEEDS)
    process = DecayGP().process(data, score.hyperparameters).at(1.0)
    assert float(score.step) == 1.0
    test = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (mean, var), (own, spread) = process.mean_and_var(test), process.mean_and_var(point)
    cross = process.cov(test, point)[:, 0]
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.exp(-0.5 * z.square())
    value = own + spread.sqrt() * z
    means = mean + (cross / spread.sqrt()) * z[:, None]
    best = torch.minimum(of.y[:2, -1].min(), value)[:, None]
    improvement = log_expected_improvement(means, var - cross.square() / spread, best).exp()
    expected = (weights[:, None] * improvement).sum(0) / weights.sum()
    torch.testing.assert_close(score(test).exp(), expected, rtol=2e-2, atol=1e-6)


def test_stopped_and_failed_curves_are_not_fantasised() -> None:
    of = curves([4, 4, 1, 1, 1, 1])
    score = RungImprovement().build(dataset(of, stopped=[2, 3, 4, 5]), SEEDS)
    assert score(of.x).shape == (6,)
    assert score.improvement.best.shape == (1,), "no dimension of fantasies"
    failed = replace(dataset(of, stopped=[2, 3, 4]), failures=of.x[5:])
    assert RungImprovement().build(failed, SEEDS).improvement.best.shape == (1,)
    running = RungImprovement(fantasies=16).build(dataset(of, stopped=[2, 3]), SEEDS)
    assert running.improvement.best.shape == (16, 1)


def test_replicates_have_their_own_steps_and_unknown_outcomes() -> None:
    several = [curves([4, 4, 2, 1, 1], 1), curves([3, 3, 3, 1, 1], 2)]
    both = Curves(torch.stack([one.x for one in several]), STEPS, torch.stack([one.y for one in several]))
    data = Dataset(both.x[:, :2], both.y[:, :2, 0], curves=both)
    surrogate = DecayGP(ExactGP(restarts=1))
    score = RungImprovement(surrogate, fantasies=512).build(data, Seeds((3, 4), (2,)))
    assert score.step.tolist() == [1.0, 0.5]
    test = torch.rand(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for index in range(2):
        alone = RungImprovement(surrogate, fantasies=512).build(
            data.replicates(index), Seeds((index + 3,)), None
        )
        assert float(alone.step) == float(score.step[index])
        torch.testing.assert_close(score(test)[index].exp(), alone(test[index]).exp(), rtol=0.2, atol=1e-3)


def test_the_point_to_improve_on_is_in_the_space_and_has_the_fixed_columns() -> None:
    of = curves([4, 4, 4, 4])
    best = int(of.y[:, -1].argmin())
    moved = Curves(of.x.clone(), STEPS, of.y)
    moved.x[best, 0] = 1.5
    data = replace(dataset(moved), columns=Columns(narrowed=True, levels=(None, None)))
    others = [index for index in range(4) if index != best]
    assert float(RungImprovement().build(data, SEEDS).improvement.best) == float(of.y[others, -1].min())
    fixed = replace(dataset(of), columns=Columns(fixed=((0, 0.2),)))
    score = RungImprovement().build(fixed, SEEDS)
    rows = of.x.clone()
    rows[:, 0] = 0.2
    torch.testing.assert_close(score.improvement.best[0], score.improvement.process.mean(rows).min())


@numerical_environment()
def test_the_gradient_is_that_of_the_score() -> None:
    score = RungImprovement(fantasies=4).build(dataset(curves([4, 4, 2, 1, 1])), SEEDS)
    x = torch.tensor([[0.3, 0.6]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(score, x)


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(DataError, match="fantasies >= 1"):
        RungImprovement(fantasies=0)


@pytest.mark.parametrize("scheduler", [ASHA(9), PromotionASHA(9)])
def test_an_optimizer_takes_it_with_a_scheduler(scheduler) -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    optimizer = Optimizer(space, RungImprovement(fantasies=4), scheduler=scheduler, initial=3, seed=1)
    waiting = []
    for _ in range(6):
        trial = optimizer.ask()
        level = (trial.params["x"] - 0.3) ** 2 + (trial.params["y"] - 0.6) ** 2
        for step in range(trial.step + 1, 10):
            if optimizer.report(trial, step, level + 1.0 / step) == "stop":
                break
            if not waiting and step == 2:
                waiting.append(trial)
                break
        else:
            optimizer.tell(trial, level)
    sources = [trial.provenance["source"] for trial in optimizer.trials]
    assert set(sources[3:]) <= {"acquisition"}
    rules = [trial.provenance["chosen"]["rule"] for trial in optimizer.trials[3:]]
    assert rules
    assert all(rule.startswith("improvement after") for rule in rules)

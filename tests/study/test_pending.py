"""Points that wait for their outcomes condition a fit, and do not make another one due."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space, Trial
from bo_suite.acquisition import (
    Acquisition,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.data import Dataset, Seeds
from bo_suite.storage.goals import MINIMIZE, Goals
from bo_suite.study import step
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, WarmStart, exact, sgpr
from bo_suite.surrogates.warm_start import MANY, trusted

SPACE = Space({"x": Float(0, 1), "n": Int(1, 9), "k": Choice(["a", "b"])})
PLANE = Space({"x": Float(0, 1), "y": Float(0, 1)})
SEEDS = Seeds.of(0, 0)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Number of observations in each search for hyperparameters."""
    found: list[int] = []
    for module in (exact, sgpr):
        search = module.minimize_batch

        def counted(objective: Any, *rest: Any, search: Any = search, **others: Any) -> Any:
            found.append(objective.data.x.shape[-2])
            return search(objective, *rest, **others)

        monkeypatch.setattr(module, "minimize_batch", counted)
    return found


def filled(count: int = 10, acquisition: Acquisition | None = None, **rest: Any) -> Optimizer:
    """An optimizer on a plane that knows so many outcomes."""
    optimizer = Optimizer(PLANE, acquisition, **rest)
    for place in range(count):
        x, y = (0.37 * place) % 1.0, (0.61 * place + 0.2) % 1.0
        optimizer.add({"x": x, "y": y}, (x - 0.3) ** 2 + math.sin(5 * y))
    return optimizer


def test_a_batch_takes_one_search_for_hyperparameters_and_so_do_single_asks(searches: list[int]) -> None:
    optimizer = filled()
    batch = optimizer.ask(4)
    assert searches == [10]
    first, *others = (trial.provenance["hyperparameters"] for trial in batch)
    assert all(other == first for other in others)
    optimizer.ask()
    optimizer.ask(2)
    assert searches == [10]
    optimizer.tell(batch[0], 0.5)
    optimizer.ask(2)
    assert searches == [10, 11]
    optimizer.withdraw(batch[1])  # its point may be suggested again, but nothing was learnt
    optimizer.ask()
    assert searches == [10, 11]


@pytest.mark.parametrize(
    "acquisition",
    [
        None,
        NoisyExpectedImprovement(),
        UpperConfidenceBound(),
        ThompsonSampling(),
        pytest.param(KnowledgeGradient(candidates=2, quantiles=3), marks=pytest.mark.slow),
    ],
    ids=lambda one: type(one).__name__,
)
def test_points_asked_for_together_are_those_asked_for_one_by_one_and_across_a_resume(
    acquisition: Acquisition | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_DEEP", 2)  # the last two points are deep in a batch
    together = [trial.params for trial in filled(8, acquisition).ask(4)]
    alone = filled(8, acquisition, storage=tmp_path / "run.db")
    points = [alone.ask().params, *(trial.params for trial in alone.ask(2))]
    alone.close()
    points.append(Optimizer.resume(tmp_path / "run.db").ask().params)
    assert points == together
    assert len({tuple(point.values()) for point in points}) == 4


def test_a_failure_makes_a_fit_due_again(searches: list[int]) -> None:
    optimizer = filled()
    batch = optimizer.ask(3)
    optimizer.fail(batch[0], "broken")
    del searches[:]
    after = optimizer.ask(3)
    assert 10 in searches  # the outcomes again, besides successes and failures
    assert sum(count == 10 for count in searches) == 1
    assert len({str(trial.provenance["success"]) for trial in after}) == 1


def trial(number: int, x: float, value: float, std: float | None = None, **provenance: Any) -> Trial:
    point = {"x": x, "y": 1.0 - x}
    return Trial(number, point, "finished", value, std, None, 1, True, provenance, 0.0, 1.0)


def known() -> list[Trial]:
    """Outcomes, and a suggestion that came of them."""
    trials = [trial(place, place / 9, (place / 9 - 0.4) ** 2) for place in range(8)]
    (suggestion,) = Suggester(PLANE, LogExpectedImprovement()).suggest(trials)
    return [
        *trials,
        Trial(8, suggestion.params, "running", None, None, None, 1, True, suggestion.provenance, 0, None),
    ]


@pytest.mark.parametrize(
    ("change", "goals"),
    [
        (lambda trials: [*trials[:3], replace(trials[3], value=7.0), *trials[4:]], MINIMIZE),
        (lambda trials: [*trials[:3], replace(trials[3], std=0.1), *trials[4:]], MINIMIZE),
        (lambda trials: [trial(9, 0.93, 0.2), *trials[1:]], MINIMIZE),
        (lambda trials: trials[1:], MINIMIZE),
        (
            lambda trials: [
                replace(one, outcomes=None if one.value is None else {"value": one.value, "c": one.id - 2.5})
                for one in trials
            ],
            Goals.of("minimize", {"c": (None, 0.0)}),
        ),
    ],
    ids=["value", "std", "another trial", "one less", "constraints"],
)
def test_what_was_learnt_is_compared_and_not_counted(change: Any, goals: Goals, searches: list[int]) -> None:
    trials = known()
    suggester = Suggester(PLANE, LogExpectedImprovement())
    del searches[:]
    suggester.suggest(trials)
    assert searches == []
    changed = Suggester(PLANE, LogExpectedImprovement(), goals=goals)
    changed.suggest(change(trials), number=9)
    assert searches


def test_the_fit_of_another_acquisition_is_not_taken(searches: list[int]) -> None:
    trials = known()
    del searches[:]
    Suggester(PLANE, LogExpectedImprovement(surrogate=ExactGP(noise_location=-3.0))).suggest(trials)
    assert len(searches) == 1


@dataclass(frozen=True)
class Nameless:
    """An acquisition with a part whose repr is its address."""

    part: object = field(default_factory=object)

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Any:
        return LogExpectedImprovement().build(data, seeds, start)


def test_an_address_in_memory_does_not_tell_a_resumed_run_from_one_that_went_on() -> None:
    trials = known()[:-1]
    ways = [Suggester(PLANE, Nameless()).suggest(trials)[0].provenance["data"] for _ in range(2)]
    assert ways[0] == ways[1]


def test_a_history_of_0_8_whose_rows_say_nothing_of_their_data_is_fitted_anew(searches: list[int]) -> None:
    *trials, last = known()
    older = {key: value for key, value in last.provenance.items() if key != "data"}
    del searches[:]
    Suggester(PLANE, LogExpectedImprovement()).suggest([*trials, replace(last, provenance=older)])
    assert searches == [8]


def data(count: int) -> Dataset:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.sin(5 * x[:, 0]) + x[:, 1]
    return Dataset(x, (y - y.mean()) / y.std())


@pytest.mark.parametrize(
    "surrogate",
    [
        ExactGP(),
        AutoGP(handover=20, inducing=8),
        SGPR(inducing=8),
        pytest.param(SVGP(inducing=8), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_surrogate_takes_a_settled_start_as_it_is(surrogate: Any, searches: list[int]) -> None:
    theta = surrogate.fit(data(30), SEEDS).hyperparameters + 0.1
    del searches[:]
    process = surrogate.fit(data(30), SEEDS, WarmStart(theta, 30, settled=True))
    torch.testing.assert_close(process.hyperparameters, theta)
    assert searches == []
    foreign = WarmStart(torch.zeros(17, dtype=torch.float64), 30, settled=True)
    assert surrogate.fit(data(30), SEEDS, foreign).hyperparameters.shape == theta.shape


def test_inducing_inputs_that_are_learnt_are_not_in_a_start_and_so_learnt_again(searches: list[int]) -> None:
    surrogate = SGPR(inducing=4, learn_inducing=True)
    theta = surrogate.fit(data(12), SEEDS).hyperparameters
    del searches[:]
    surrogate.fit(data(12), SEEDS, WarmStart(theta, 12, settled=True))
    assert searches


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(999, 1000, True), (1004, 1023, True), (1000, 1004, False), (500, 501, True), (499, 500, False)],
)
def test_of_very_many_observations_a_fiftieth_more_makes_a_search_due(
    before: int, now: int, expected: bool
) -> None:
    start = trusted(WarmStart(torch.zeros(3, dtype=torch.float64), before), data(now))
    assert start is not None
    assert start.settled == expected
    assert trusted(None, data(now)) is None


@pytest.mark.slow
def test_more_than_five_hundred_observations_are_not_searched_at_each_ask(searches: list[int]) -> None:
    seen = data(MANY + 10)
    theta = ExactGP().start(seen)
    ExactGP().fit(seen, SEEDS, WarmStart(theta, MANY + 9))
    assert searches == []
    few = AutoGP(handover=50, inducing=8)
    few.fit(seen, SEEDS, WarmStart(theta, MANY + 9))
    assert searches == []
    ExactGP().fit(data(40), SEEDS, WarmStart(theta, 39))
    assert searches == [40]


def test_a_deep_batch_in_a_mixed_space_is_new_points_all_of_them() -> None:
    optimizer = Optimizer(SPACE)
    for place in range(7):
        optimizer.add({"x": place / 7, "n": 1 + place, "k": "ab"[place % 2]}, abs(place - 2.5))
    batch = optimizer.ask(14)
    assert len({tuple(one.params.values()) for one in batch}) == 14
    assert not any("fallback" in one.provenance for one in batch)

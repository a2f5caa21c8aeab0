"""Failed trials: the probability of success, what it does, and what failures without a cause do not do."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import (
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    SteinBatch,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.acquisition.likely import LikelyScore, build_score
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.classifiers import GPClassifier, MLPClassifier, SklearnClassifier
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import SpaceExhausted
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.process import WarmStart

SEEDS = Seeds.of(0, 9)
PLANE = Space({"x": Float(0, 1), "z": Float(0, 1)})
LINE = Space({"x": Float(0, 1)})
MIXED = Space({"x": Float(-1, 2), "n": Int(1, 9), "kind": Choice(["a", "b", "c"])})


def rows(count: int, dim: int = 2, seed: int = 0, **options: Any) -> Tensor:
    return torch.rand(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        **options
    )


def dataset(x: Tensor, failures: Tensor | None, **options: Any) -> Dataset:
    y = (x.sum(-1) - 0.8).square()
    return Dataset(x, y, failures=failures, **options)


def region(x: Tensor) -> Tensor:
    """Which rows fail: those in the upper third."""
    return x[..., 0] > 2 / 3


def split(x: Tensor, **options: Any) -> Dataset:
    return dataset(x[~region(x)], x[region(x)], **options)


def by_hand(data: Dataset, at: Tensor) -> np.ndarray:
    """log P by dense algebra, with the kernel and the hyperparameters that were found."""
    assert data.failures is not None
    found = SuccessProbability.fit(data, SEEDS)
    process = found.process
    x = torch.cat((data.x, data.failures))
    label = np.r_[np.ones(len(data.x)), np.zeros(len(data.failures))]
    mean = label.mean()
    scale = math.sqrt(mean * (1 - mean))
    y = (label - mean) / scale
    gram, _ = process.kernel.gram(process.theta, torch.cat((x, at)))  # type: ignore[attr-defined]
    whole = gram.numpy()
    n, noise = len(x), float(process.noise)
    k = whole[:n, :n] + (noise + float(process.jitter)) * np.eye(n)  # type: ignore[attr-defined]
    one = np.linalg.solve(k, np.ones(n))
    centre = one @ y / (one.sum() + 1.0)
    weights = np.linalg.solve(k, y - centre)

    def posterior(cross: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return centre + cross @ weights, prior - np.einsum("ij,ji->i", cross, np.linalg.solve(k, cross.T))

    known, _ = posterior(whole[: len(data.x), :n], np.diag(whole)[: len(data.x)])
    share = 0.5 + 0.4 * max(1.0 - noise, 0.0)
    level = (share * np.clip((mean + scale * known).mean(), 0, 1) - mean) / scale
    value, var = posterior(whole[n:, :n], np.diag(whole)[n:])
    return np.asarray(norm.logcdf((value - level) / np.sqrt(np.maximum(var, 1e-12))))


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (split(rows(30)), rows(50, seed=1)),
        (dataset(rows(1), rows(1, seed=3)), rows(20, seed=1)),
        (dataset(rows(5), rows(5)), rows(20, seed=1)),  # each point once so and once so
        (dataset(rows(12), rows(1, seed=7)), rows(20, seed=1)),
        (dataset(rows(1), rows(12, seed=7)), rows(20, seed=1)),
        (
            dataset(torch.tensor([[0.0, 0.1], [0.5, 0.2], [0.0, 0.9]]).double(),
                    torch.tensor([[1.0, 0.1], [1.0, 0.6]]).double(),
                    columns=Columns((0,), (3, None))),
            torch.tensor([[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]]).double(),
        ),
        (split(rows(20), columns=Columns(fidelities=(1,))), rows(20, seed=1)),
    ],
    ids=["region", "one each", "duplicates", "one failure", "one success", "categories", "fidelities"],
)  # fmt: skip
def test_the_probability_is_that_of_a_dense_regression(data: Dataset, at: Tensor) -> None:
    with torch.no_grad():
        value = SuccessProbability.fit(data, SEEDS).log(at)
    assert value.shape == at.shape[:-1]
    assert bool((value <= 0).all())
    np.testing.assert_allclose(value.numpy(), by_hand(data, at), rtol=1e-3, atol=1e-4)


def test_failures_in_a_region_are_likely_there_and_nowhere_else() -> None:
    success = SuccessProbability.fit(split(rows(40)), SEEDS)
    at = rows(400, seed=1)
    with torch.no_grad():
        inside, outside = success.log(at[at[:, 0] > 0.75]), success.log(at[at[:, 0] < 0.58])
    assert float(inside.mean()) < math.log(0.1)
    assert float(outside.min()) > math.log(0.5)


def test_failures_by_chance_cost_little_where_much_is_known() -> None:
    x, at = rows(240), rows(200, seed=1)
    for rate, least in ((10, 0.8), (3, 0.6)):
        failed = torch.arange(240) % rate == 1
        with torch.no_grad():
            value = SuccessProbability.fit(dataset(x[~failed], x[failed]), SEEDS).log(at)
        assert float(value.median()) > math.log(least)
        assert float(value.std()) < 0.6, "the order of the scores is hardly changed"


def test_each_category_has_a_probability() -> None:
    grid = torch.linspace(0, 1, 6).double()
    good = torch.cat([torch.stack((torch.full_like(grid, kind), grid), -1) for kind in (0.0, 0.5)])
    bad = torch.stack((torch.ones_like(grid), grid), -1)
    success = SuccessProbability.fit(dataset(good, bad, columns=Columns((0,), (3, None))), SEEDS)
    with torch.no_grad():
        value = success.log(torch.tensor([[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]]).double())
    assert value[0] > math.log(0.8)
    assert value[1] > math.log(0.8)
    assert value[2] < math.log(0.1)


def test_replicates_are_each_as_alone() -> None:
    x = torch.stack([rows(20, seed=seed)[rows(20, seed=seed)[:, 0].argsort()] for seed in range(3)])
    data, seeds = dataset(x[:, :14], x[:, 14:]), Seeds.of_each((0, 1, 2), 9)
    at = rows(10, seed=5)
    with torch.no_grad():
        together = SuccessProbability.fit(data, seeds).log(at.expand(3, -1, -1))
        assert together.shape == (3, 10)
        for place in range(3):
            alone = SuccessProbability.fit(data.replicates(place), Seeds.of(place, 9)).log(at)
            torch.testing.assert_close(together[place], alone, rtol=2e-2, atol=2e-3)


def test_single_precision_is_kept() -> None:
    data = split(rows(25, dtype=torch.float32))
    success = SuccessProbability.fit(data, SEEDS)
    at = rows(30, seed=1, dtype=torch.float32)
    with torch.no_grad():
        value, double = success.log(at), SuccessProbability.fit(split(rows(25)), SEEDS).log(at.double())
    assert value.dtype == success.level.dtype == torch.float32
    assert bool(torch.isfinite(value).all())
    near = (double > -20) & (double < -1e-3)
    torch.testing.assert_close(value[near].double(), double[near], rtol=0.2, atol=0.1)


def test_the_gradient_is_that_of_finite_differences() -> None:
    success = SuccessProbability.fit(split(rows(25)), SEEDS)
    at = rows(6, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(success.log(at).sum(), at)
    with torch.no_grad():
        for column in range(2):
            step = torch.zeros(2, dtype=torch.float64)
            step[column] = 1e-6
            numeric = (success.log(at + step) - success.log(at - step)) / 2e-6
            torch.testing.assert_close(slope[:, column], numeric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("failures", [1, 40])
def test_of_very_many_rows_the_failures_stay(failures: int) -> None:
    x = rows(700)
    good = x[~region(x)][:400]
    bad = rows(failures, seed=3)
    bad[:, 0] = 0.85 + 0.1 * bad[:, 0]
    success = SuccessProbability.fit(dataset(good, bad), SEEDS)
    assert success.rows == 400 + failures
    assert success.process.x.shape[-2] == 300  # type: ignore[attr-defined]
    with torch.no_grad():
        values = success.log(torch.cat((bad[-1:], good[:5])))
    assert float(values[0]) < float(values[1:].min()) - 0.2
    for many in (dataset(good, rows(400, seed=3)), dataset(good[:1], rows(400, seed=3))):
        process = SuccessProbability.fit(many, SEEDS).process
        assert process.x.shape[-2] == 300  # type: ignore[attr-defined]


def test_the_score_is_weighted_in_log_space() -> None:
    data = split(rows(20))
    at = rows(15, seed=1)
    plain = Dataset(data.x, data.y, None, data.pending)
    with torch.no_grad():
        likely = build_score(LogExpectedImprovement(), data, SEEDS, None)
        assert isinstance(likely, LikelyScore)
        alone = build_score(LogExpectedImprovement(), plain, SEEDS, None)
        assert not isinstance(alone, LikelyScore)
        success = SuccessProbability.fit(data, SEEDS)
        torch.testing.assert_close(likely(at), alone(at) + success.log(at))
    assert likely.differentiable


def test_a_warm_start_is_kept_until_the_rows_have_grown_by_a_fifth() -> None:
    few, more = split(rows(30)), split(rows(31))
    first = SuccessProbability.fit(few, SEEDS)
    next_one = SuccessProbability.fit(more, SEEDS, first.warm_start)
    torch.testing.assert_close(next_one.process.hyperparameters, first.process.hyperparameters)
    afresh = SuccessProbability.fit(split(rows(60)), SEEDS, first.warm_start)
    assert not torch.equal(afresh.process.hyperparameters, first.process.hyperparameters)
    foreign = WarmStart(torch.zeros(17, dtype=torch.float64), 31)
    assert SuccessProbability.fit(more, SEEDS, foreign).process.hyperparameters.shape[-1] != 17
    assert ExactGP().start(more).shape == first.process.hyperparameters.shape


# The loop


def fails(x: float) -> bool:
    return x > 2 / 3


def drive(optimizer: Optimizer, count: int, *, bad: Any = fails, first: str = "x") -> int:
    """Asks and ends so many trials, of which those that are bad fail; how many have failed."""
    failed = 0
    for _ in range(count):
        trial = optimizer.ask()
        x = trial.params[first]
        if bad(x):
            failed += 1
            optimizer.fail(trial, "it is there")
        else:
            optimizer.tell(trial, sum((value - 0.4) ** 2 for value in trial.params.values()))
    return failed


ACQUISITIONS = {
    "LogEI": LogExpectedImprovement(),
    "NoisyEI": NoisyExpectedImprovement(),
    "UCB": UpperConfidenceBound(),
    "Thompson": ThompsonSampling(),
    "KG": KnowledgeGradient(),
    "Bore, network": Bore(MLPClassifier()),
    "Bore, process": Bore(GPClassifier()),
}


def forest() -> Bore:
    from sklearn.ensemble import RandomForestClassifier

    return Bore(SklearnClassifier(RandomForestClassifier(n_estimators=20)))


SLOW = ("KG", "UCB", "Thompson", "NoisyEI", "Bore, network", "Bore, process", "Bore, forest")


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in (*ACQUISITIONS, "Bore, forest")],
)
def test_every_acquisition_leaves_a_region_that_always_fails(name: str) -> None:
    acquisition = forest() if name == "Bore, forest" else ACQUISITIONS[name]
    optimizer = Optimizer(PLANE, acquisition)
    drive(optimizer, 8)
    assert any(trial.state == "failed" for trial in optimizer.trials)
    assert drive(optimizer, 10) <= 3
    last = optimizer.trials[-1].provenance
    assert last["failures"] >= 1
    assert last["source"] == "acquisition"


@pytest.mark.slow
def test_a_joint_batch_leaves_a_region_that_fails() -> None:
    optimizer = Optimizer(PLANE, Bore(GPClassifier()))
    drive(optimizer, 10)
    batch = optimizer.ask(6, SteinBatch(steps=20, turns=2))
    assert len({tuple(trial.params.values()) for trial in batch}) == 6
    assert sum(fails(trial.params["x"]) for trial in batch) <= 2


def test_points_asked_for_together_leave_it_too() -> None:
    optimizer = Optimizer(PLANE)
    drive(optimizer, 9)
    batch = optimizer.ask(4)
    assert len({tuple(trial.params.values()) for trial in batch}) == 4
    assert sum(fails(trial.params["x"]) for trial in batch) <= 1
    assert all("success" in trial.provenance for trial in batch)


def test_before_the_first_success_the_space_is_filled() -> None:
    optimizer = Optimizer(PLANE)
    for _ in range(15):
        optimizer.fail(optimizer.ask(), "no")
    untold = Optimizer(PLANE)
    filling = [untold.ask() for _ in range(16)]
    trial = optimizer.ask()
    assert [one.params for one in optimizer.trials] == [one.params for one in filling]
    assert {one.provenance["source"] for one in optimizer.trials} == {"design"}
    optimizer.tell(trial, 1.0)
    assert optimizer.ask().provenance["source"] == "acquisition"


def test_categories_and_integers_that_fail_are_left() -> None:
    optimizer, failed = Optimizer(MIXED), 0
    for _ in range(24):
        trial = optimizer.ask()
        if trial.params["kind"] == "b":
            failed += 1
            optimizer.fail(trial, "no such kind")
        else:
            optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2 + abs(trial.params["n"] - 4))
    assert failed <= 6


def test_fidelities_and_failures() -> None:
    space = Space({"x": Float(0, 1), "epochs": Int(1, 9, fidelity=True)})
    optimizer, failed = Optimizer(space), 0
    for place in range(14):
        trial = optimizer.ask()
        if fails(trial.params["x"]):
            failed += place >= 6
            optimizer.fail(trial, "no")
        else:
            optimizer.tell(trial, (trial.params["x"] - 0.6) ** 2 + 0.1 / trial.params["epochs"])
    assert failed <= 3
    found = optimizer.recommend()
    assert found["epochs"] == 9
    assert not fails(found["x"])


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    optimizer = Optimizer(PLANE, storage=tmp_path / "run.db")
    drive(optimizer, 9)
    assert any(trial.state == "failed" for trial in optimizer.trials)
    optimizer.close()
    whole = Optimizer(PLANE)
    drive(whole, 9)
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert [trial.params for trial in resumed.ask(2)] == [trial.params for trial in whole.ask(2)]


# What teaches nothing


def numbered(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [trial.params for trial in optimizer.trials]


@pytest.mark.parametrize(
    ("how", "space"), [("transient", MIXED), pytest.param("withdrawn", PLANE, marks=pytest.mark.slow)]
)
def test_a_trial_without_information_teaches_nothing(how: str, space: Space) -> None:
    taught, told = Optimizer(space), Optimizer(space)
    first = next(iter(space.parameters))

    def end(optimizer: Optimizer, trial: Any) -> None:
        if fails(trial.params[first]):
            optimizer.fail(trial, "for certain")
        else:
            optimizer.tell(trial, float(trial.params[first]) ** 2)

    for place in range(12):
        trial = taught.ask()
        if place in (2, 7, 8, 10):
            taught.fail(trial, "lost", transient=True) if how == "transient" else taught.withdraw(trial)
        else:
            end(taught, trial)
    informative = [trial for trial in taught.trials if trial.informative]
    assert len(informative) == 8
    for trial in informative:
        if trial.state == "failed":
            told.add_failed(trial.params, "for certain")
        else:
            told.add(trial.params, trial.value)
    suggesters = [one._suggester for one in (taught, told)]
    data = [
        one.observations.dataset(optimizer.trials)
        for one, optimizer in zip(suggesters, (taught, told), strict=True)
    ]
    for name in ("x", "y", "pending", "failures", "taken"):
        assert torch.equal(getattr(data[0], name), getattr(data[1], name)), name
    # the same trials and the same number: the same suggestion, whether the others were asked or not
    (asked,) = suggesters[0].suggest(taught.trials, number=12)
    (never,) = suggesters[0].suggest(informative, number=12)
    assert asked == never or asked.params == never.params
    assert asked.provenance["observations"] == never.provenance["observations"] == len(data[0].x)
    assert taught.ask().params == asked.params
    assert len(taught.recommend()) == len(space.parameters)


def test_the_space_filling_start_is_as_long_as_if_they_had_not_been_asked() -> None:
    optimizer = Optimizer(PLANE)
    for _ in range(5):
        optimizer.tell(optimizer.ask(), 1.0)
    for place in range(6):
        trial = optimizer.ask()
        assert trial.provenance["source"] == "design"
        optimizer.fail(trial, "lost", transient=True) if place % 2 else optimizer.withdraw(trial)
    optimizer.tell(optimizer.ask(), 2.0)
    assert optimizer.ask().provenance["source"] == "acquisition"


def test_a_model_of_failures_needs_a_failure_with_a_cause() -> None:
    optimizer = Optimizer(PLANE)
    for place in range(10):
        trial = optimizer.ask()
        if place % 3:
            optimizer.tell(trial, trial.params["x"])
        else:
            optimizer.fail(trial, "lost", transient=True)
    assert optimizer._suggester.observations.dataset(optimizer.trials).failures is None
    assert "success" not in optimizer.ask().provenance


SMALL = Space({"n": Int(1, 3), "kind": Choice(["a", "b"])})


def test_of_a_finite_space_a_failed_point_is_not_asked_again_and_one_that_was_lost_is() -> None:
    optimizer, seen = Optimizer(SMALL), []
    for place in range(10):
        trial = optimizer.ask()
        seen.append(tuple(trial.params.values()))
        if place < 2:
            optimizer.fail(trial, "lost", transient=True)
        elif place < 4:
            optimizer.withdraw(trial)
        elif place < 7:
            optimizer.fail(trial, "for certain")
        else:
            optimizer.tell(trial, float(place))
    assert len(set(seen[4:])) == 6, "each point once, however often it was lost"
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
    assert len(optimizer.trials) == 10


def test_of_a_finite_space_one_that_was_lost_at_the_end_comes_again() -> None:
    optimizer = Optimizer(SMALL)
    for place in range(6):
        trial = optimizer.ask()
        last = trial.params
        if place < 5:
            optimizer.fail(trial, "for certain") if place == 1 else optimizer.tell(trial, float(place))
    running = trial
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
    optimizer.fail(running, "lost", transient=True)
    again = optimizer.ask()
    assert (again.params, again.id) == (last, 6)
    optimizer.withdraw(again)
    assert len(optimizer.ask(4)) == 1


def test_minimize_ends_when_all_points_are_used_up() -> None:
    def one(params: dict[str, Any]) -> float:
        if params["kind"] == "b":
            raise ValueError("no")
        return params["n"]

    result = minimize(one, SMALL, 20, progress=False, catch=ValueError)
    assert len(result.trials) == 6
    assert sum(trial.state == "failed" for trial in result.trials) == 3
    assert result.stopped is not None


# Recommendations, bounds and pictures


def test_nothing_is_recommended_where_trials_fail() -> None:
    optimizer = Optimizer(LINE)
    for place in range(16):
        x = place / 15
        if fails(x):
            optimizer.add_failed({"x": x}, "no")
        else:
            optimizer.add({"x": x}, (x - 0.9) ** 2)
    assert 0.5 < optimizer.recommend()["x"] < 0.72
    bound = optimizer.regret_bound()
    assert bound.trial.params["x"] == pytest.approx(10 / 15)
    assert 0 <= bound.value < 0.05
    for _ in range(3):
        optimizer.withdraw(optimizer.ask())
    trial = optimizer.ask()
    optimizer.fail(trial, "lost", transient=True)
    assert optimizer.regret_bound().trial.id == bound.trial.id


def test_failures_by_chance_do_not_move_a_recommendation() -> None:
    found = []
    for flaky in (False, True):
        optimizer = Optimizer(LINE)
        for place in range(20):
            x = place / 19
            optimizer.add({"x": x}, (x - 0.37) ** 2)
            if flaky and place % 4 == 1:
                optimizer.add_failed({"x": min(x + 0.01, 1.0)}, "no")
        found.append(optimizer.recommend()["x"])
    assert found == pytest.approx([0.37, 0.37], abs=0.02)


# Translators


@pytest.fixture
def quiet_optuna() -> Iterator[Any]:
    optuna = pytest.importorskip("optuna")
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield optuna
    optuna.logging.set_verbosity(before)


def test_a_study_with_failed_trials_asks_what_an_optimizer_asks(quiet_optuna: Any) -> None:
    from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna

    def objective(trial: Any) -> float:
        x, z = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("z", 0.0, 1.0)
        if fails(x):
            raise ValueError("no")
        return (x - 0.4) ** 2 + (z - 0.4) ** 2

    study = quiet_optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.optimize(objective, n_trials=9, catch=(ValueError,))
    optimizer = Optimizer(PLANE)
    drive(optimizer, 9)
    assert [trial.params for trial in study.trials] == numbered(optimizer)
    copied = from_optuna(study)
    states = [trial.state for trial in optimizer.trials]
    assert sorted(trial.state for trial in copied.trials) == sorted(states)
    assert sum(fails(trial.params["x"]) for trial in copied.ask(3)) <= 1


def test_scikit_learns_search_leaves_what_fails() -> None:
    import warnings

    from sklearn.base import BaseEstimator, RegressorMixin

    from bo_suite.integrations.sklearn import BOSearchCV

    class Fragile(RegressorMixin, BaseEstimator):
        def __init__(self, x: float = 0.0) -> None:
            self.x = x

        def fit(self, X: Any, y: Any) -> "Fragile":
            if fails(self.x):
                raise ValueError("no")
            self.fitted_ = True
            return self

        def predict(self, X: Any) -> np.ndarray:
            return np.full(len(X), self.x)

    X, y = np.zeros((12, 1)), np.tile([0.8, 1.0], 6)
    search = BOSearchCV(Fragile(), LINE, n_iter=16, cv=2, random_state=0, scoring="neg_mean_squared_error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y)
    failed = [trial for trial in search.trials_ if trial.state == "failed"]
    assert 1 <= len(failed) <= 6
    assert all(fails(trial.params["x"]) for trial in failed)
    assert 0.6 < search.best_params_["x"] <= 2 / 3


def test_a_search_of_ray_leaves_what_fails() -> None:
    pytest.importorskip("ray")
    from bo_suite.integrations.ray_tune import BoSuiteSearch

    search, optimizer = BoSuiteSearch(PLANE, metric="loss", mode="min"), Optimizer(PLANE)
    for place in range(9):
        config = search.suggest(f"t{place}")
        if fails(config["x"]):
            search.on_trial_complete(f"t{place}", error=True)
        else:
            loss = sum((value - 0.4) ** 2 for value in config.values())
            search.on_trial_complete(f"t{place}", {"loss": loss})
    drive(optimizer, 9)
    assert numbered(search.optimizer) == numbered(optimizer)


# The numbers, of benchmarks/failures.py


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["branin", "hartmann3"])
def test_failures_at_random_cost_next_to_nothing(problem: str) -> None:
    benchmark = _benchmark()
    problem_range = {"branin": 300.0, "hartmann3": 3.8}[problem]
    regrets = {}
    for rate in (0.0, 0.1, 0.3):
        runs = [benchmark.run(benchmark.Case(problem, rate), seed) for seed in range(8)]
        assert {one.succeeded for one in runs} == {40}
        regrets[rate] = float(np.median([one.regret for one in runs]))
    floor = 1e-5 * problem_range  # where no failures at all leave next to nothing, a factor says nothing
    for rate in (0.1, 0.3):
        assert regrets[rate] <= 10 * max(regrets[0.0], floor), regrets


@pytest.mark.slow
@pytest.mark.parametrize("third", range(3))
def test_a_region_that_always_fails_is_left(third: int) -> None:
    benchmark = _benchmark()
    runs = [benchmark.run(benchmark.Case("branin", third=third), seed) for seed in range(8)]
    assert np.median([one.wasted for one in runs]) <= 8, [one.wasted for one in runs]
    assert max(one.regret for one in runs) < 0.01


def _benchmark() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    import failures

    return failures

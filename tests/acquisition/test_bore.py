import math
from dataclasses import dataclass, replace

import jaxtyping as jt
import pytest
import torch
from jaxtyping import TypeCheckError
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import Bore, RootGamma, SteinBatch
from bo_suite.acquisition.bore import split
from bo_suite.classifiers import WeightedExamples
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError, FitError, TrialError
from bo_suite.surrogates.process import WarmStart

F64 = torch.float64
SEEDS = Seeds.of(0, 1)


@dataclass(frozen=True, eq=False)
class Odds:
    data: WeightedExamples
    width: float
    differentiable: bool
    hyperparameters: None = None

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        square = (x[..., :, None, :] - self.data.x[..., None, :, :]).square().sum(-1)
        log_kernel = -0.5 * square / self.width**2
        total = log_kernel.logsumexp(-1) * 0.0
        for sign, weights in ((1.0, self.data.positive), (-1.0, self.data.negative)):
            density = (log_kernel + (weights + 1e-12).log()[..., None, :]).logsumexp(-1)
            total = total + sign * torch.logaddexp(density, torch.tensor(-6.0, dtype=x.dtype))
        return total


@dataclass(frozen=True)
class Density:
    """The odds of two kernel density estimates, each with a floor."""

    width: float = 0.1
    differentiable: bool = True

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> Odds:
        return Odds(data, self.width, self.differentiable)


@dataclass(frozen=True)
class Recorder:
    """Keeps what it is fitted to."""

    seen: list[WeightedExamples]

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> Odds:
        self.seen.append(data)
        return Odds(data, 0.1, True)


def labelled(y: list[float], pending: int = 0, **fields: object) -> WeightedExamples:
    x = torch.linspace(0.0, 1.0, len(y), dtype=F64)[:, None]
    seen: list[WeightedExamples] = []
    data = Dataset(x, torch.tensor(y, dtype=F64), None, torch.full((pending, 1), 0.5, dtype=F64))
    Bore(classifier=Recorder(seen), **fields).build(data, SEEDS)  # type: ignore[arg-type]
    return seen[0]


# --- labels and weights -----------------------------------------------------------------------------------


def test_probability_labels_the_best_share_and_nothing_twice() -> None:
    data = labelled([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 8.0, 7.0], weighting="probability", gamma=0.25)
    assert data.positive.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert data.negative.tolist() == [1, 0, 1, 0, 1, 1, 1, 1]


def test_improvement_weighs_the_best_by_what_they_gain_and_counts_all_as_negative() -> None:
    data = labelled([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 8.0, 7.0], weighting="improvement", gamma=0.25)
    assert_close(data.positive, torch.tensor([0, 1.5, 0, 0.5, 0, 0, 0, 0], dtype=F64) * 2.0)  # tau = 2.5
    assert_close(data.negative, torch.full((8,), 0.5, dtype=F64))
    assert float(data.positive.sum()) == pytest.approx(float(data.negative.sum()))


@pytest.mark.parametrize("weighting", ["probability", "improvement"])
def test_pending_points_are_negative(weighting: str) -> None:
    data = labelled([1.0, 2.0, 3.0, 4.0], pending=2, weighting=weighting)
    assert data.positive[4:].tolist() == [0, 0]
    assert_close(data.negative[4:], data.negative[3].expand(2))
    assert data.x[4:].tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("y", "gamma", "good"),
    [
        ([1, 1, 1, 2, 3, 4, 5, 6], 0.25, [1, 1, 1, 0, 0, 0, 0, 0]),  # ties at the minimum are never none
        ([1, 2, 2, 2, 2, 2, 2, 2], 0.5, [1, 0, 0, 0, 0, 0, 0, 0]),  # nor everything
        ([1, 2, 2, 3, 4, 5, 6, 7], 0.25, [1, 1, 1, 0, 0, 0, 0, 0]),  # as near to two as one is
        ([1, 2, 3, 3, 3, 3, 3, 4], 0.375, [1, 1, 0, 0, 0, 0, 0, 0]),
        ([3, 1, 2, 4, 5, 6, 7, 8], 0.01, [0, 1, 0, 0, 0, 0, 0, 0]),  # gamma n below one
        ([2, 1], 0.99, [0, 1]),
    ],
)
def test_ties_are_split_nearest_to_the_share_with_both_classes_present(
    y: list[float], gamma: float, good: list[int]
) -> None:
    data = labelled([float(value) for value in y], gamma=gamma, weighting="probability")
    assert data.positive.tolist() == good
    weighted = labelled([float(value) for value in y], gamma=gamma, weighting="improvement")
    assert (weighted.positive > 0).tolist() == [bool(one) for one in good]


@pytest.mark.parametrize("weighting", ["probability", "improvement"])
@pytest.mark.parametrize("count", [1, 5])
def test_equal_outcomes_say_nothing(weighting: str, count: int) -> None:
    data = labelled([3.0] * count, weighting=weighting)
    assert_close(data.positive, data.negative)
    score = Bore(classifier=Density(), weighting=weighting).build(
        Dataset(data.x, torch.zeros(count, dtype=F64), None, data.x[:0]), SEEDS
    )
    grid = torch.linspace(0, 1, 21, dtype=F64)[:, None]
    assert_close(score(grid), torch.zeros(21, dtype=F64), rtol=0.0, atol=1e-9)


def test_the_threshold_lies_between_the_classes_even_where_outcomes_are_adjacent_numbers() -> None:
    y = torch.tensor([1.0, math.nextafter(1.0, 2.0), 3.0, 4.0], dtype=F64)
    good, threshold = split(y, 1)
    assert good.tolist() == [True, False, False, False]
    assert 1.0 <= float(threshold) <= math.nextafter(1.0, 2.0)
    data = labelled(y.tolist(), gamma=0.25)
    assert data.positive.tolist() == [2.0, 0.0, 0.0, 0.0]


def test_replicates_are_labelled_as_alone() -> None:
    y = torch.randn(3, 10, dtype=F64, generator=torch.Generator().manual_seed(0))
    y[1] = 0.0
    y[2, :8] = -1.0
    good, threshold = split(y, 3)
    for place in range(3):
        alone = split(y[place], 3)
        assert torch.equal(good[place], alone[0])
        assert torch.equal(threshold[place], alone[1])


def test_a_schedule_gives_the_share_at_each_number_of_observations() -> None:
    assert [RootGamma()(n) for n in (1, 16, 64, 400)] == [0.25, 0.25, 0.125, 0.05]
    seen = [labelled([float(v) for v in range(n)], gamma=RootGamma()) for n in (16, 64, 100)]
    assert [int((one.positive > 0).sum()) for one in seen] == [4, 8, 10]


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_share_outside_the_open_interval_is_refused(gamma: float) -> None:
    with pytest.raises(DataError, match="`0 < gamma < 1` must hold, got"):
        Bore(classifier=Density(), gamma=gamma)
    with pytest.raises(DataError, match="`0 < gamma < 1` must hold, got"):
        labelled([1.0, 2.0, 3.0], gamma=lambda n: gamma)


def test_other_bad_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(DataError, match="weighting must be 'improvement' or 'probability', got 'ei'"):
        Bore(classifier=Density(), weighting="ei")
    with pytest.raises(DataError, match="`0 < scale` and `0 < largest < 1` must hold"):
        RootGamma(scale=0.0)
    empty = torch.zeros(0, 2, dtype=F64)
    with pytest.raises(FitError, match="at least one observation"):
        Bore(classifier=Density()).build(Dataset(empty, empty[:, 0], None, empty), SEEDS)
    with pytest.raises(DataError, match="steps, turns >= 1 and rate > 0 must hold"):
        SteinBatch(steps=0)
    space = Space({"x": Float(0, 1), "s": Float(0, 1, fidelity=True)})
    with pytest.raises(DataError, match="Bore does not support fidelities"):
        Optimizer(space, acquisition=Bore(classifier=Density()), budget=6)


@dataclass(frozen=True)
class Broken:
    """Log odds that are not a number."""

    differentiable: bool = True
    hyperparameters: None = None

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> "Broken":
        return self

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        return x.sum(-1) * torch.nan


@pytest.mark.parametrize("batch", [None, SteinBatch()])
def test_log_odds_that_are_not_finite_are_recorded_and_a_random_point_taken(batch: SteinBatch | None) -> None:
    optimizer = Optimizer(MIXED, acquisition=Bore(classifier=Broken()), budget=6)
    for trial in [*optimizer.ask(2), *optimizer.ask(2, batch)]:
        optimizer.tell(trial, mixed(trial.params))
    for trial in optimizer.ask(3, batch):
        assert trial.provenance["source"] == "fallback"
        assert trial.provenance["fallback"] == "log odds must be finite, got nan"


def test_what_is_no_classifier_of_this_package_is_refused_at_once() -> None:
    for wrong in (RandomForestClassifier(), RandomForestClassifier, Density, "xgb", None):
        with pytest.raises((DataError, TypeCheckError), match="classifier"):
            Bore(classifier=wrong)
    with pytest.raises(
        DataError, match=r"wrap one of scikit-learn: SklearnClassifier\(estimator\); got RandomForest"
    ):
        Bore(classifier=RandomForestClassifier())
    with pytest.raises((DataError, TypeCheckError), match="gamma"):
        Bore(classifier=Density(), gamma=RootGamma)


def test_a_batch_that_is_none_is_refused_before_anything_is_asked() -> None:
    optimizer = Optimizer(MIXED, acquisition=Bore(classifier=Density()))
    for wrong in ("stein", SteinBatch, 4):
        with pytest.raises(TrialError, match=r"a batch must be a SteinBatch\(\)"):
            optimizer.ask(2, wrong)
    space = Space({"x": Float(0, 1), "s": Float(0, 1, fidelity=True)})
    with pytest.raises(TrialError, match="no fidelity in the space"):
        Optimizer(space).ask(2, SteinBatch())
    assert optimizer.trials == []


@pytest.mark.slow
def test_more_particles_than_points_to_draw_from_are_as_many_as_these() -> None:
    space = Space({"a": Float(0, 1), "b": Float(0, 1)})
    x = torch.rand(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    data = Dataset(x, x[:, 0])
    assert len(SteinBatch(steps=1, turns=1).choose(Bowl(0.0), space, data, SEEDS, 1500)) == 2 * 1280


# --- what the odds estimate -------------------------------------------------------------------------------


def gaussian_data(n: int) -> tuple[Dataset, Tensor]:
    """Outcomes f + noise, dense in one dimension, and f's values on a grid."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, dtype=F64, generator=generator)
    y = truth(x[:, 0]) + 0.3 * torch.randn(n, dtype=F64, generator=generator)
    return Dataset(x, y), torch.linspace(0.02, 0.98, 97, dtype=F64)


def truth(x: Tensor) -> Tensor:
    return torch.sin(9.0 * x) + 0.8 * x


def spearman(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack((a.argsort().argsort(), b.argsort().argsort())).double()
    return float(torch.corrcoef(ranks)[0, 1])


def test_the_odds_of_improvement_rank_as_expected_improvement_and_probabilities_are_calibrated() -> None:
    data, grid = gaussian_data(20_000)
    normal = torch.distributions.Normal(0.0, 1.0)
    score = Bore(classifier=Density(0.02), weighting="improvement").build(data, SEEDS)
    z = (score.threshold - truth(grid)) / 0.3
    improvement = 0.3 * (z * normal.cdf(z) + normal.log_prob(z).exp())
    assert spearman(score(grid[:, None]), improvement) > 0.95
    plain = Bore(classifier=Density(0.02), weighting="probability").build(data, SEEDS)
    assert_close(plain.probability(grid[:, None]), normal.cdf(z), rtol=0.0, atol=0.06)


# --- the loop ---------------------------------------------------------------------------------------------

MIXED = Space({"x": Float(-1, 1), "n": Int(1, 9), "k": Choice(["a", "b", "c", "d"])})


def mixed(params: dict) -> float:
    return params["x"] ** 2 + 0.1 * abs(params["n"] - 6) + (0.0 if params["k"] == "c" else 0.5)


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_mixed_space_is_searched_without_a_repeat(differentiable: bool) -> None:
    acquisition = Bore(classifier=Density(0.25, differentiable))
    optimizer = Optimizer(MIXED, acquisition=acquisition, seed=1)
    for _ in range(30):
        trial = optimizer.ask()
        optimizer.tell(trial, mixed(trial.params))
    points = [tuple(trial.params.items()) for trial in optimizer.trials]
    assert len(set(points)) == 30
    assert {trial.provenance["source"] for trial in optimizer.trials[6:]} == {"acquisition"}
    assert optimizer.best.value < 0.25


def test_a_finite_space_is_searched_to_its_end() -> None:
    space = Space({"n": Int(1, 4), "k": Choice(["a", "b", "c"])})
    optimizer = Optimizer(space, acquisition=Bore(classifier=Density(0.3, False)), budget=6)
    for _ in range(12):
        trial = optimizer.ask()
        optimizer.tell(trial, float(trial.params["n"]))
    assert len({tuple(trial.params.values()) for trial in optimizer.trials}) == 12


@pytest.mark.parametrize("batch", [None, SteinBatch(steps=20, turns=2)])
@pytest.mark.parametrize("differentiable", [True, False])
def test_a_batch_has_distinct_new_points_and_comes_back_after_a_resume(
    batch: SteinBatch | None, differentiable: bool, tmp_path: object
) -> None:
    acquisition = Bore(classifier=Density(0.25, differentiable))
    asked = []
    for _ in range(2):
        optimizer = Optimizer(MIXED, acquisition=acquisition, seed=3)
        for trial in optimizer.ask(8, batch):
            optimizer.tell(trial, mixed(trial.params))
        running = optimizer.ask(5, batch)
        more = optimizer.ask(3, batch)
        points = [tuple(trial.params.items()) for trial in optimizer.trials]
        assert len(set(points)) == len(points) == 16
        assert all(MIXED.check(trial.params) == trial.params for trial in running + more)
        asked.append(points)
    assert asked[0] == asked[1]


@dataclass(frozen=True)
class Bowl:
    """Logits top - |x - (0.4, 0.6)|² / (2 s²), s = 0.1."""

    top: float
    differentiable: bool = True
    hyperparameters: None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.top - 0.5 * (x - torch.tensor([0.4, 0.6], dtype=F64)).square().sum(-1) / 0.1**2


def test_stein_particles_are_distributed_as_the_class_probability() -> None:
    """π = σ(logit) is a Gaussian density where logits are far below 0."""

    space = Space({"a": Float(0, 1), "b": Float(0, 1)})
    x = torch.rand(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    data = Dataset(x, x[:, 0])
    found = SteinBatch(steps=400).choose(Bowl(-20.0), space, data, SEEDS, 32)[:32]
    assert_close(found.mean(0), torch.tensor([0.4, 0.6], dtype=F64), rtol=0.0, atol=0.02)
    assert_close(found.std(0), torch.full((2,), 0.1, dtype=F64), rtol=0.2, atol=0.0)


def test_stein_particles_keep_their_distance_where_draws_do_not() -> None:
    space = Space({"a": Float(0, 1), "k": Choice(["u", "v", "w"])})
    x = space.encode([{"a": 0.5, "k": "u"}, {"a": 0.1, "k": "w"}, {"a": 0.9, "k": "v"}, {"a": 0.6, "k": "u"}])
    data = Dataset(x, torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=F64), columns=Columns((1,), (None, 3)))
    for differentiable in (True, False):
        score = Bowl(3.0, differentiable)
        found = SteinBatch().choose(score, space, data, SEEDS, 6)[:6]
        assert_close(space.encoding.round_to_levels(found), found)
        gap = (found[:, None] - found[None]).abs().sum(-1) + torch.eye(6, dtype=F64)
        drawn = SteinBatch(steps=1, turns=1, rate=1e-9).choose(score, space, data, SEEDS, 6)[:6]
        before = (drawn[:, None] - drawn[None]).abs().sum(-1) + torch.eye(6, dtype=F64)
        assert float(gap.min()) > 0.02
        assert float(gap.min()) > float(before.min())
        assert float(torch.sigmoid(score(found)).mean()) > 0.5


def test_a_pending_point_sends_the_next_elsewhere() -> None:
    x = torch.tensor([[0.1], [0.3], [0.5], [0.7], [0.9]], dtype=F64)
    data = Dataset(x, torch.tensor([2.0, 0.5, 0.0, 0.6, 2.0], dtype=F64))
    place = torch.tensor([[0.52]], dtype=F64)
    for weighting in ("improvement", "probability"):
        acquisition = Bore(classifier=Density(), weighting=weighting)
        alone = acquisition.build(data, SEEDS)(place)
        assert float(acquisition.build(replace(data, pending=place), SEEDS)(place)) < float(alone) - 0.1

"""The knowledge gradient: beside a dense grid, simulated pending outcomes, other processes, and in runs."""

import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, median

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import AffineCost, KnowledgeGradient, discrete_knowledge_gradient
from bo_suite.acquisition import log_discrete_knowledge_gradient as log_value
from bo_suite.acquisition.alternatives import StartingPoints, at_target
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.knowledge_gradient import KnowledgeGradientScore, Penalty
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.problems import get_problem, mixed, noisy
from bo_suite.surrogates import SGPR, ExactGP, Process

F64, F32 = torch.float64, torch.float32
SEEDS = Seeds.of(0, 0)
CANDIDATE = torch.tensor([[1.1 / 3.0]], dtype=F64)
"""x = 0.1 on [-1, 2]."""
LINE = torch.linspace(0.0, 1.0, 200, dtype=F64)[:, None]
SHORT, LONG = ((0.06, 0.3, 0.05), (0.12, 0.3, 0.02))
"""Lengthscale, outputscale and noise."""


@dataclass(frozen=True, eq=False)
class Given:
    """A surrogate whose process is known."""

    process: Process

    def fit(self, data: Dataset, seeds: Seeds, start: object = None) -> Process:
        return self.process


@dataclass(frozen=True)
class At:
    """An ExactGP of given hyperparameters."""

    parameters: tuple[float, ...]

    def fit(self, data: Dataset, seeds: Seeds, start: object = None) -> Process:
        return ExactGP().process(data, logs(self.parameters).to(data.x).expand(*data.batch_shape, -1))


def logs(parameters: tuple[float, ...]) -> Tensor:
    return torch.tensor(parameters, dtype=F64).log()


def guide(seed: int = 2, noise: float = 0.2) -> Dataset:
    """Ten noisy values of sin 3x + x² - 0.7x, x on [-1, 2] mapped to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(10, 1, generator=generator, dtype=F64)
    x = 3.0 * rows[:, 0] - 1.0
    y = torch.sin(3.0 * x) + x.square() - 0.7 * x
    return Dataset(rows, y + noise * torch.randn(10, generator=generator, dtype=F64))


def levels(count: int, dim: int = 2, seed: int = 0) -> Dataset:
    """Noisy outcomes whose last column is a fidelity, never as high as the target."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, dim, generator=generator, dtype=F64)
    x[:, -1] *= 0.5
    y = torch.sin(6.0 * x[:, 0]) + 0.5 * (1.0 - x[:, -1]) * torch.cos(4.0 * x[:, 0])
    y = (y - y.mean()) / y.std() + 0.05 * torch.randn(count, generator=generator, dtype=F64)
    return Dataset(x, y, columns=Columns(fidelities=(dim - 1,)))


def built(process: Process, data: Dataset, seeds: Seeds = SEEDS, **options: int) -> KnowledgeGradientScore:
    return KnowledgeGradient(surrogate=Given(process), **options).build(data, seeds)


def lines(process: Process, x: Tensor, alternatives: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Means, to be maximised, and their slopes at the alternatives and at the target of each x."""
    deviation = (process.var(x) + process.noise).sqrt()
    own = process.cov(target, x).diagonal()
    slopes = torch.cat((process.cov(x, alternatives), own[:, None]), -1) / deviation[:, None]
    means = process.mean(alternatives).expand(len(x), -1)
    return -torch.cat((means, process.mean(target)[:, None]), -1), slopes


@cache
def fine(process: Process, fidelities: int = 0) -> Tensor:
    """2,001 points, and more of them where the mean is smallest; the other column at the target."""
    grid = torch.linspace(0.0, 1.0, 2001, dtype=F64)[:, None]
    ones = torch.ones(2001, fidelities, dtype=F64)
    best = grid[process.mean(torch.cat((grid, ones), -1)).argmin()]
    near = (best + torch.linspace(-1e-3, 1e-3, 401, dtype=F64)[:, None]).clamp(0.0, 1.0)
    both = torch.cat((grid, near))
    return torch.cat((both, torch.ones(len(both), fidelities, dtype=F64)), -1)


def dense(process: Process, x: Tensor) -> Tensor:
    """Log of the knowledge gradient over the fine grid and the candidate."""
    target = x.clone()
    target[:, 1:] = 1.0
    return log_value(*lines(process, x, fine(process, x.shape[-1] - 1), target))


@cache
def process_of(seed: int, parameters: tuple[float, ...] | None) -> Process:
    return (ExactGP() if parameters is None else At(parameters)).fit(guide(seed), SEEDS)


@pytest.mark.parametrize("parameters", [None, LONG])
def test_at_the_candidate_of_the_guide_the_score_is_the_dense_value_within_one_per_cent(
    parameters: tuple[float, ...] | None,
) -> None:
    process = process_of(2, parameters)
    z = torch.linspace(-9.0, 9.0, 4001, dtype=F64)
    a, b = lines(process, CANDIDATE, fine(process), CANDIDATE)
    gain = (a[0, :, None] + b[0, :, None] * z).amax(0) - a.max()
    value = torch.trapezoid(gain * torch.exp(-0.5 * z.square()), z) / math.sqrt(2.0 * math.pi)
    assert_close(dense(process, CANDIDATE).exp()[0], value, rtol=1e-5, atol=0.0)
    assert float(value) > 0.01
    assert_close(built(process, guide())(CANDIDATE).exp()[0], value, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("parameters", [None, LONG, SHORT])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_over_the_space_the_score_is_nearly_the_dense_value_and_never_above_it(
    seed: int, parameters: tuple[float, ...] | None
) -> None:
    process = process_of(seed, parameters)
    score, exact = built(process, guide(seed))(LINE), dense(process, LINE)
    assert float(score.exp().sum()) >= 0.95 * float(exact.exp().sum())
    seen = exact > math.log(1e-6)
    assert float((score - exact)[seen].max()) <= 1e-3
    assert float(exact[score.argmax()]) >= float(exact.max()) + math.log(0.99)


def test_the_gain_goes_to_nothing_as_noise_grows() -> None:
    process, best = process_of(2, LONG), []
    for noise in (1e-2, 1.0, 1e2, 1e4, 1e8):
        noisier = replace(process, noise=torch.tensor(noise, dtype=F64))
        score = built(noisier, guide())(LINE)
        assert not bool(torch.isnan(score).any())
        best.append(float(score.max()))
        if noise <= 1e4:
            assert_close(score.max(), dense(noisier, LINE).max(), rtol=0.0, atol=0.1)
    assert best == sorted(best, reverse=True)
    assert best[0] > math.log(0.01)
    assert best[-1] < math.log(1e-9)


def awkward(case: str, dim: int) -> Dataset:
    x = torch.rand(12, dim, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = torch.sin(5.0 * x).sum(-1) + 0.1 * torch.cos(90.0 * x).sum(-1)
    x, y = {
        "plain": (x, y),
        "constant": (x, torch.full_like(y, 7.0)),
        "one": (x[:1], y[:1]),
        "the same twice": (x[:1].repeat(2, 1), y[:1].repeat(2)),
        "a place twice": (x[:1].repeat(2, 1), y[:2]),
        "duplicates": (torch.cat((x, x[:5])), torch.cat((y, y[5:10]))),
        "huge": (x, 1e8 * y),
        "tiny": (x, 1e-8 * y),
        "corners": (x.round(), y),
    }[case]
    return Dataset(x, y)


CASES = (
    "plain",
    "constant",
    "one",
    "the same twice",
    "a place twice",
    "duplicates",
    "huge",
    "tiny",
    "corners",
)


@pytest.mark.parametrize(
    ("case", "dim", "dtype"),
    [
        *((case, 1, F32) for case in CASES),
        *(
            pytest.param(case, 3, F64, marks=[] if case in ("constant", "huge") else [pytest.mark.slow])
            for case in CASES
        ),
    ],
)
def test_awkward_data_give_finite_scores_and_gradients(case: str, dim: int, dtype: torch.dtype) -> None:
    data = awkward(case, dim)
    data = Dataset(data.x.to(dtype), data.y.to(dtype), None, data.pending.to(dtype))
    anywhere = torch.rand(50, dim, generator=torch.Generator().manual_seed(1), dtype=F64).to(dtype)
    for pending in (data.pending, torch.cat((data.x[:1], data.x[:1]))):
        score = KnowledgeGradient(fantasies=4).build(replace(data, pending=pending), SEEDS)
        leaf = torch.cat((data.x, anywhere)).requires_grad_()
        value = score(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert value.dtype == dtype
        assert bool(torch.isfinite(value).all()), value
        assert bool(torch.isfinite(gradient).all()), gradient


def test_short_lengthscales_in_single_precision_give_finite_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 2, generator=generator), torch.randn(20, generator=generator)
    data = Dataset(x, y)
    score = KnowledgeGradient(surrogate=At((0.01, 0.01, 1.0, 0.01))).build(data, SEEDS)
    leaf = torch.rand(200, 2, generator=generator).requires_grad_()
    value = score(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(gradient).all()), "NaN where a term of the sum underflows"


def test_single_precision_agrees_with_double() -> None:
    data = guide()
    single = Dataset(data.x.float(), data.y.float(), None, data.pending.float())
    scores = [
        KnowledgeGradient(surrogate=At(LONG)).build(one, SEEDS)(LINE.to(one.x)) for one in (data, single)
    ]
    assert scores[1].dtype == F32
    double = scores[0].exp()
    assert_close(scores[1].double().exp(), double, rtol=0.0, atol=0.01 * float(double.max()))


@pytest.mark.parametrize("places", [pytest.param([0.3], marks=pytest.mark.slow), [0.2, 0.45, 0.47]])
def test_pending_points_are_averaged_over_as_a_simulation_says(places: list[float]) -> None:
    process = process_of(2, LONG)
    pending = torch.tensor(places, dtype=F64)[:, None]
    score = built(process, replace(guide(), pending=pending), fantasies=32)
    x = torch.tensor([[0.25], [0.3], [0.35]], dtype=F64)
    outcomes = process.cov(pending, pending) + process.noise * torch.eye(len(places), dtype=F64)
    normal = torch.randn(6_000, len(places), generator=torch.Generator().manual_seed(0), dtype=F64)
    surprise = normal @ torch.linalg.cholesky(outcomes).mT
    for row, value in zip(x, score(x).exp(), strict=True):
        points = torch.cat((score.lookahead.points, row[None]))
        gain = torch.linalg.solve(outcomes, process.cov(pending, points))
        left = process.cov(points, row[None])[:, 0] - process.cov(points, pending) @ gain[:, -1]
        slopes = left / (left[-1] + process.noise).sqrt()
        means = process.mean(points) + surprise @ gain
        simulated = discrete_knowledge_gradient(-means, slopes.expand_as(means))
        error = 4.0 * simulated.std() / math.sqrt(len(means)) + 0.05 * simulated.mean()
        assert abs(float(value - simulated.mean())) < float(error)


def test_a_pending_point_is_worth_far_less_than_before() -> None:
    process = process_of(2, LONG)
    before = built(process, guide())(LINE)
    place = LINE[before.argmax()][None]
    after = built(process, replace(guide(), pending=place))
    assert float(after(place)[0]) < float(before.max()) + math.log(0.5)
    twice = built(process, replace(guide(), pending=place.repeat(3, 1)))
    assert float(twice(place)[0]) < float(after(place)[0])


def test_points_asked_for_together_differ() -> None:
    problem = noisy(get_problem("sin3"), 0.3)
    optimizer = Optimizer(problem.space, KnowledgeGradient(fantasies=8), budget=12)
    for _ in range(6):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
    trials = optimizer.ask(4)
    assert [trial.provenance["source"] for trial in trials] == ["acquisition"] * 4
    places = sorted(value for trial in trials for value in trial.params.values())
    assert min(np.diff(places)) > 1e-6
    assert max(places) - min(places) > 0.05


@pytest.mark.parametrize("pending", [0, 2])
def test_replicates_score_as_each_alone(pending: int) -> None:
    sets = [replace(guide(seed), pending=LINE[40 * seed : 40 * seed + pending]) for seed in (1, 2, 3)]
    batch = Dataset(
        torch.stack([one.x for one in sets]),
        torch.stack([one.y for one in sets]),
        None,
        torch.stack([one.pending for one in sets]),
    )
    acquisition = KnowledgeGradient(surrogate=At(LONG), fantasies=4)
    keys = [Seeds.of(seed, 0).keys[0] for seed in range(3)]
    together = acquisition.build(batch, Seeds(tuple(keys), (3,)))
    values = together(LINE.expand(3, -1, -1))
    for k, one in enumerate(sets):
        alone = acquisition.build(one, Seeds((keys[k],)))
        value = alone(LINE)
        most = float(value.max())
        assert float(value[values[k].argmax()]) > most + math.log(0.99)
        assert_close(values[k].exp(), value.exp(), rtol=0.0, atol=0.01 * math.exp(most))
        same = replace(alone, lookahead=replace(together.lookahead, **part_of(together, alone, k)))
        same = replace(same, means=together.means[..., k, :])
        value = same(LINE)
        seen = value > most + math.log(1e-6)
        assert_close(values[k][seen], value[seen], rtol=0.0, atol=1e-6)


def part_of(together: KnowledgeGradientScore, alone: KnowledgeGradientScore, k: int) -> dict[str, object]:
    """The lookahead of one replicate at the alternatives of the batch, on the process fitted alone."""
    lookahead = together.lookahead
    return {
        "basis": alone.lookahead.basis,
        "points": lookahead.points[k],
        "weights": lookahead.weights[k],
        "prior_mean": alone.lookahead.prior_mean,
    }


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_sparse_process_whose_inducing_inputs_are_the_data_scores_as_the_exact_one(seed: int) -> None:
    data, theta = guide(seed), logs(LONG)
    exact, sparse = ExactGP().process(data, theta), SGPR().process(data, theta, data.x)
    score, other = built(exact, data)(LINE), built(sparse, data)(LINE)
    assert_close(other.exp(), score.exp(), rtol=0.0, atol=1e-7)
    seen = score > math.log(1e-6)
    assert int(seen.sum()) > 50
    assert_close(other[seen], score[seen], rtol=0.0, atol=1e-5)


def test_the_score_is_the_log_of_the_gain_less_the_log_of_the_cost() -> None:
    data = levels(14)
    score = KnowledgeGradient(surrogate=At((0.25, 0.8, 1.0, 0.02))).build(data, SEEDS)
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    assert score.cost == AffineCost(0.1, 0.9)
    assert_close(score.cost(x, (1,)), 0.1 + 0.9 * x[:, 1])
    free = replace(score, cost=None)(x)
    for cost in (AffineCost(0.1, 0.9), AffineCost(2.0, 5.0)):
        expected = free - (cost.fixed + cost.slope * x[:, 1]).log()
        assert_close(replace(score, cost=cost)(x), expected, rtol=1e-12, atol=1e-12)
    given = KnowledgeGradient(surrogate=At((0.25, 0.8, 1.0, 0.02)), cost=AffineCost(2.0, 5.0))
    assert given.build(data, SEEDS).cost == AffineCost(2.0, 5.0)
    assert KnowledgeGradient(surrogate=At(LONG)).build(guide(), SEEDS).cost is None


class MetAtTheTarget(Feasibility):
    """Constraints that are met for certain at the target fidelity, and never below."""

    def log(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 1] == 1.0, 0.0, -50.0).to(x)


def test_with_fidelities_what_counts_is_whether_the_target_is_feasible() -> None:
    process = At((0.25, 0.8, 1.0, 0.02)).fit(levels(14), SEEDS)
    score = KnowledgeGradient(surrogate=Given(process)).build(levels(14), SEEDS)
    chances = torch.ones_like(score.means)
    met = MetAtTheTarget(None, (), torch.zeros(0, dtype=F64), 14)
    penalty = Penalty(met, chances, torch.full((1,), 9.0, dtype=F64))
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(5), dtype=F64)
    assert_close(replace(score, penalty=penalty)(x), score(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, 4))])
def test_with_fidelities_the_gain_is_that_at_the_target(seed: int) -> None:
    process = At((0.25, 0.8, 1.0, 0.02)).fit(levels(14, seed=seed), SEEDS)
    acquisition = KnowledgeGradient(surrogate=Given(process), cost=AffineCost(1.0, 0.0))
    score = acquisition.build(levels(14, seed=seed), SEEDS)
    assert bool((score.lookahead.points[:, 1] == 1.0).all())
    place = torch.rand(50, 1, generator=torch.Generator().manual_seed(5), dtype=F64)
    gains = []
    for fidelity in (0.0, 0.3, 0.7, 1.0):
        x = torch.cat((place, torch.full_like(place, fidelity)), -1)
        gains.append(score(x))
        exact = dense(process, x)
        assert float((score(x) - exact)[exact > math.log(1e-6)].max()) <= 1e-3
        assert float(score(x).exp().sum()) >= 0.9 * float(exact.exp().sum())
    for lower in gains[:-1]:
        assert float((gains[-1] >= lower).double().mean()) >= 0.95


def test_gradients_with_fidelities_pending_points_and_categories_agree_with_finite_differences() -> None:
    data = levels(14, 4)
    x = data.x.clone()
    x[:, 1] = torch.floor(3.0 * x[:, 1]) / 2.0
    data = replace(data, x=x, pending=x[:2] * 0.9, columns=Columns((1,), (None, 3, None, None)))
    score = KnowledgeGradient(surrogate=At((0.4, 0.5, 0.6, 0.8, 1.0, 0.02)), fantasies=4).build(data, SEEDS)
    point = torch.rand(20, 4, generator=torch.Generator().manual_seed(3), dtype=F64)
    point[:, 1] = torch.floor(3.0 * point[:, 1]) / 2.0
    leaf = point.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    for column in (0, 2, 3):
        step = torch.zeros(4, dtype=F64)
        step[column] = 1e-6
        slope = (score(point + step) - score(point - step)) / 2e-6
        assert_close(gradient[:, column], slope, rtol=1e-4, atol=1e-4)
        assert bool((slope.abs() > 1e-2).any())


def test_alternatives_are_points_of_the_space_at_levels_that_were_observed() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(9, 3, generator=generator, dtype=F64)
    x[:, 1] = torch.floor(5.0 * x[:, 1]) / 4.0
    x[:, 2] = (x[:, 2] > 0.5).double()
    data = Dataset(x, torch.sin(4.0 * x).sum(-1), columns=Columns((2,), (None, 5, 2)))
    score = KnowledgeGradient().build(data, SEEDS)
    points = score.lookahead.points
    assert bool(((points >= 0.0) & (points <= 1.0)).all())
    for column in (1, 2):
        assert set(points[:, column].tolist()) == set(x[:, column].tolist())
    assert len(set(points[:, 0].tolist())) > 20
    assert float(score.means.min()) <= float(score.lookahead.mean_and_cov(x)[0].min())
    pool = StartingPoints.of(data, data.y, 64, SEEDS)
    assert pool.x.shape == (64, 3)
    assert pool.held == (1, 2)


def test_rows_at_the_target_keep_all_but_their_fidelities() -> None:
    x = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert at_target(x, ()) is x
    moved = at_target(x, (0, 2))
    assert_close(moved[..., 1], x[..., 1], rtol=0.0, atol=0.0)
    assert_close(moved[..., [0, 2]], torch.ones(2, 5, 2, dtype=F64), rtol=0.0, atol=0.0)


def test_each_candidate_adds_an_alternative_a_quantile() -> None:
    process = process_of(2, LONG)

    def alternatives(candidates: int, quantiles: int) -> int:
        return built(process, guide(), candidates=candidates, quantiles=quantiles).lookahead.points.shape[-2]

    rest = alternatives(1, 1) - 1
    for candidates in (1, 2, 3, 8):
        for quantiles in (1, 5):
            added = alternatives(candidates, quantiles) - rest
            assert 0 <= added <= candidates * quantiles  # copies are left out
    assert alternatives(8, 5) - rest > 8


@pytest.mark.slow
def test_augmented_branin_is_minimised_at_several_fidelities_lower_ones_where_cheap() -> None:
    problem = get_problem("augmented_branin")
    shares = []
    for budget, cost in ((10, AffineCost(1.0, 0.1)), (6, None)):
        acquisition = KnowledgeGradient(cost=cost)
        result = minimize(problem, problem.space, budget, acquisition=acquisition, progress=False)
        chosen = [trial for trial in result.trials if trial.provenance["source"] == "acquisition"]
        assert len(chosen) == budget - max(2, budget // 3)
        shares.append([float(trial.params["fidelity"] or 0.0) for trial in chosen])
    assert len({round(share, 2) for share in shares[0]}) >= 3
    assert max(shares[0]) > 0.3
    assert fmean(shares[1]) < fmean(shares[0])


SPACES = {
    "mixed": noisy(mixed(get_problem("hartmann3"), integers=[0], unordered=[1]), 0.1),
    "discrete": noisy(mixed(get_problem("branin"), integers=[0], unordered=[1]), 0.5),
    "three fidelities": get_problem("branin_3_fidelities"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_discrete_columns_and_fidelities_are_searched_and_the_same_seed_repeats_the_run(name: str) -> None:
    problem = SPACES[name]
    runs = [
        minimize(problem, problem.space, budget=6, seed=3, acquisition=KnowledgeGradient(), progress=False)
        for _ in range(2)
    ]
    first, second = ([trial.params for trial in run.trials] for run in runs)
    assert first == second
    assert len({str(params) for params in first}) == 6
    sources = [trial.provenance["source"] for trial in runs[0].trials]
    assert sources == ["design"] * 2 + ["acquisition"] * 4


def test_where_only_the_fidelity_is_continuous_the_search_goes_on() -> None:
    space = Space({"i": Int(0, 5), "k": Choice(["a", "b"]), "s": Float(0, 1, fidelity=True)})
    result = minimize(lambda p: (p["i"] - 3) ** 2 + (p["k"] == "a") - p["s"], space, budget=6, progress=False)
    assert [trial.provenance["source"] for trial in result.trials][2:] == ["acquisition"] * 4


@pytest.mark.parametrize("name", ["quantiles", "candidates", "fantasies"])
@pytest.mark.parametrize("count", [0, -3])
def test_there_must_be_some_of_each(name: str, count: int) -> None:
    with pytest.raises(DataError, match=f"`{name} >= 1` must hold, got {count}"):
        KnowledgeGradient(**{name: count})


@pytest.mark.parametrize(
    ("fixed", "slope"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (math.inf, 1.0), (1.0, math.inf), (math.nan, 1.0)],
)
def test_costs_must_be_positive_and_finite(fixed: float, slope: float) -> None:
    with pytest.raises(DataError, match=f"must hold and be finite, got {fixed} and {slope}"):
        AffineCost(fixed, slope)


def test_the_cost_is_affine_in_the_mean_of_the_fidelities() -> None:
    x = torch.tensor([[0.2, 0.0, 1.0], [0.9, 1.0, 1.0], [0.1, 0.0, 0.0]], dtype=F64)
    assert_close(AffineCost(0.5, 2.0)(x, (1, 2)), torch.tensor([1.5, 2.5, 0.5], dtype=F64))
    assert_close(AffineCost(0.5, 2.0)(x, ()), torch.tensor([2.5, 2.5, 2.5], dtype=F64))


@pytest.mark.slow
def test_under_noise_the_recommendation_is_far_better_than_that_of_random_search() -> None:
    regrets: tuple[list[float], list[float]] = ([], [])
    for seed in range(5):
        problem = noisy(get_problem("hartmann3"), 0.1, seed=seed)
        assert problem.minimum is not None
        optimizer = Optimizer(problem.space, KnowledgeGradient(), seed, budget=20)
        random = Optimizer(problem.space, None, seed, budget=20)
        for row in np.random.default_rng(seed).uniform(size=(20, 3)):
            trial = optimizer.ask()
            optimizer.tell(trial, problem(trial.params))
            place = {name: float(unit) for name, unit in zip(problem.space.parameters, row, strict=True)}
            random.add(place, problem(place))
        for kind, run in zip(regrets, (optimizer, random), strict=True):
            kind.append(problem.value(run.recommend()) - problem.minimum)
    assert median(regrets[0]) < 0.3 * median(regrets[1]), regrets

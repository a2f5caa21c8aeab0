import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Matern52
from bo_suite.surrogates.inducing import (
    Given,
    GreedyVariance,
    InducingSelection,
    KMeans,
    Subset,
    inducing_count,
)
from bo_suite.testing.data import DIM, dataset, rows

KERNEL = Matern52(unordered=(DIM - 1,))
RULES = [
    GreedyVariance(),
    GreedyVariance(0.7),
    GreedyVariance(pool=16),
    GreedyVariance(0.7, pool=16),
    KMeans(),
    Subset(),
]


def hyperparameters(*batch: int, lengthscale: float = 0.3) -> Tensor:
    theta = torch.tensor([math.log(lengthscale)] * DIM + [math.log(2.0)], dtype=torch.float64)
    return theta.expand(*batch, DIM + 1)


def seeds_of(*keys: int) -> Seeds:
    return Seeds(keys, (len(keys),)) if len(keys) > 1 else Seeds(keys)


def select(rule: InducingSelection, data: Dataset, count: int, *keys: int) -> Tensor:
    theta = hyperparameters(*data.batch_shape).to(data.x)
    return rule.select(data, KERNEL, theta, count, seeds_of(*(keys or (0,))))


def with_rows(x: Tensor, seed: int = 0) -> Dataset:
    y = torch.randn(x.shape[:-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Dataset(x, y.to(x), columns=Columns((DIM - 1,)))


def repeated(n: int, copies: int, seed: int) -> Dataset:
    """Each of n rows several times over, with different outcomes, in random order."""
    x = rows(n, seed=seed).repeat(copies, 1)
    return with_rows(x[torch.randperm(n * copies, generator=torch.Generator().manual_seed(seed))], seed)


def as_set(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.tolist()}


def residual_trace(data: Dataset, z: Tensor) -> float:
    theta = hyperparameters()
    across = KERNEL.cross(theta, z, data.x)[0]
    explained = across * torch.linalg.solve(KERNEL.gram(theta, z)[0], across)
    return float(KERNEL.diagonal(theta, data.x).sum() - explained.sum())


def scores_by_definition(data: Dataset, quality: float, z: Tensor) -> Tensor:
    """Weighted variance of each row given z, minus infinity for rows equal to one of z."""
    theta, n = hyperparameters(), data.y.shape[0]
    ranks = [sum(other < own for other in data.y.tolist()) for own in data.y.tolist()]
    weights = torch.tensor([1 - quality + quality * 2 ** (-rank / (0.1 * n)) for rank in ranks]).double()
    across = KERNEL.cross(theta, z, data.x)[0]
    explained = (across * torch.linalg.solve(KERNEL.cross(theta, z, z)[0], across)).sum(0)
    scores = (KERNEL.diagonal(theta, data.x) - explained) * weights.square()
    return scores.masked_fill((data.x[:, None] == z).all(-1).any(-1), -torch.inf)


@pytest.mark.parametrize(
    ("n", "count"), [(0, 0), (1, 1), (10, 10), (100, 100), (2000, 243), (10_000, 464), (100_000, 512)]
)
def test_the_number_of_inducing_inputs_has_the_stated_values(n: int, count: int) -> None:
    assert inducing_count(n) == count


def test_the_number_of_inducing_inputs_never_falls_and_is_never_above_n() -> None:
    counts = [inducing_count(n) for n in range(20_000)]
    assert counts == sorted(counts)
    assert all(count <= n for n, count in enumerate(counts))


@pytest.mark.parametrize("rule", [*RULES, Given(torch.zeros(1, DIM))], ids=repr)
def test_every_rule_is_an_inducing_selection(rule: InducingSelection) -> None:
    assert isinstance(rule, InducingSelection)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 25),
    copies=st.integers(1, 3),
    quality=st.sampled_from([0.0, 0.3, 0.9, 0.999]),
)
def test_greedy_variance_agrees_with_its_definition(seed: int, n: int, copies: int, quality: float) -> None:
    data = repeated(n, copies, seed)
    count = min(n, 12)
    found = select(GreedyVariance(quality), data, count)
    for step in range(count):
        scores = scores_by_definition(data, quality, found[:step])
        own = scores[(data.x == found[step]).all(-1)].max()
        assert_close(own, scores.max(), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_replicates_together_choose_what_each_chooses_alone(rule: InducingSelection) -> None:
    data, keys = dataset(40, 3, seed=5), (4, 5, 6)
    together = select(rule, data, 12, *keys)
    assert together.shape == (3, 12, DIM)
    for place, key in enumerate(keys):
        assert_close(together[place], select(rule, data.replicates(place), 12, key), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_outcomes_of_one_run_choose_what_each_chooses_alone(rule: InducingSelection) -> None:
    data = dataset(40, 3, seed=5)
    together = rule.select(data, KERNEL, hyperparameters(3), 12, Seeds.of(0, 4))
    assert together.shape == (3, 12, DIM)
    for index in range(3):
        alone = rule.select(data.replicates(index), KERNEL, hyperparameters(), 12, Seeds.of(0, 4))
        assert_close(together[index], alone, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_any_number_of_replicate_dimensions_is_kept(rule: InducingSelection) -> None:
    data = dataset(20, 2, 3, seed=1)
    found = rule.select(data, KERNEL, hyperparameters(2, 3), 5, Seeds(tuple(range(6)), (2, 3)))
    flat = data.replicates(torch.arange(6))
    assert_close(found.flatten(0, 1), select(rule, flat, 5, *range(6)), rtol=0.0, atol=0.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    copies=st.integers(1, 4),
    count=st.integers(1, 30),
    rule=st.sampled_from(RULES),
)
def test_rows_are_distinct_and_only_distinct_rows_limit_their_number(
    seed: int, n: int, copies: int, count: int, rule: InducingSelection
) -> None:
    data = repeated(n, copies, seed)
    found = select(rule, data, count, seed)
    assert found.shape == (min(n, count), DIM)
    assert len(as_set(found)) == found.shape[0]
    if count >= n or not isinstance(rule, KMeans):
        assert as_set(found) <= as_set(data.x)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_equal_rows_give_a_single_one(rule: InducingSelection) -> None:
    data = with_rows(rows(1, seed=2).expand(30, DIM).clone())
    assert_close(select(rule, data, 8), data.x[:1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_replicate_with_the_fewest_distinct_rows_sets_the_number(rule: InducingSelection) -> None:
    x = rows(20, 2, seed=3)
    x[1] = x[1, :4].repeat(5, 1)
    found = select(rule, with_rows(x), 10, 1, 2)
    assert found.shape == (2, 4, DIM)
    assert as_set(found[1]) == as_set(x[1])
    assert len(as_set(found[0])) == 4


def test_signed_zeros_are_equal_rows() -> None:
    x = torch.zeros(4, DIM, dtype=torch.float64)
    x[1, 0] = -0.0
    x[2, 1] = 0.5
    assert select(GreedyVariance(), with_rows(x), 4).shape == (2, DIM)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_that_differ_by_rounding_alone_are_all_given(
    rule: InducingSelection, dtype: torch.dtype
) -> None:
    x = torch.full((30, DIM), 0.5, dtype=dtype)
    x[:, 0] += torch.arange(30) * torch.finfo(dtype).eps
    data = with_rows(x.repeat(2, 1))
    everything = select(rule, data, 40)
    assert everything.shape == (30, DIM)
    assert as_set(everything) == as_set(x)
    some = select(rule, data, 9)
    assert some.shape == (9, DIM)
    assert len(as_set(some)) == 9


@pytest.mark.parametrize("quality", [0.0, 0.999])
def test_rows_without_residual_variance_come_after_those_with_some(quality: float) -> None:
    x = torch.full((40, DIM), 0.97, dtype=torch.float64)
    x[:, 0] += torch.arange(40) * 3e-10
    x[-1, 0] += 3e-6
    data = Dataset(x, torch.arange(40, dtype=torch.float64), columns=Columns((DIM - 1,)))
    assert_close(select(GreedyVariance(quality), data, 40)[1], x[-1], rtol=0.0, atol=0.0)


def test_copies_never_fill_up_a_replicate_with_few_rows() -> None:
    x = rows(20, 2, seed=26)
    x[1] = 0.5
    x[1, :, 0] += torch.arange(4).repeat_interleave(5) * 1e-15
    data = Dataset(x, torch.arange(20.0, dtype=torch.float64).expand(2, 20), columns=Columns((DIM - 1,)))
    found = select(GreedyVariance(0.9), data, 10, 1, 2)
    assert found.shape == (2, 4, DIM)
    assert as_set(found[1]) == as_set(x[1])


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_single_precision_is_kept(rule: InducingSelection) -> None:
    data = dataset(60, 2, seed=7)
    single = Dataset(data.x.float(), data.y.float(), None, data.pending.float(), data.columns)
    found = select(rule, single, 20, 1, 2)
    assert found.dtype == torch.float32
    assert found.shape == (2, 20, DIM)
    for replicate in found:
        assert len(as_set(replicate)) == 20


def test_single_precision_chooses_the_same_rows_while_variances_are_large() -> None:
    data = dataset(60, seed=7)
    single = Dataset(data.x.float(), data.y.float(), None, data.pending.float(), data.columns)
    assert_close(select(GreedyVariance(0.5), single, 8), select(GreedyVariance(0.5), data, 8).float())


@pytest.mark.parametrize("pool", [60, 2048])
def test_greedy_variance_leaves_less_variance_than_random_rows(pool: int) -> None:
    data, keys = dataset(200, seed=11), range(6)
    greedy = [residual_trace(data, select(GreedyVariance(pool=pool), data, 30, key)) for key in keys]
    random = [residual_trace(data, select(Subset(), data, 30, key)) for key in keys]
    assert sum(greedy) < sum(random)


def test_quality_places_more_rows_where_outcomes_are_good() -> None:
    data = dataset(500, seed=12)
    best = as_set(data.x[data.y.argsort()[:50]])
    without, some, much = (
        len(as_set(select(GreedyVariance(quality), data, 60)) & best) for quality in (0.0, 0.7, 0.99)
    )
    assert without < some < much


def test_equal_outcomes_make_quality_irrelevant() -> None:
    data = with_rows(rows(30, seed=13))
    flat = Dataset(data.x, torch.full_like(data.y, -1.5), None, data.pending, data.columns)
    assert_close(
        select(GreedyVariance(0.9), flat, 12), select(GreedyVariance(), data, 12), rtol=0.0, atol=0.0
    )


@pytest.mark.parametrize("quality", [0.0, 0.5])
def test_a_small_pool_holds_the_best_rows_and_random_others(quality: float) -> None:
    data = dataset(300, seed=14)
    rule = GreedyVariance(quality, pool=40)
    found = [as_set(select(rule, data, 40, key)) for key in (1, 2)]
    best = as_set(data.x[data.y.argsort()[:5]])
    assert best <= found[0] & found[1]
    assert found[0] != found[1]
    assert len(found[0]) == 40


def test_the_best_rows_of_a_pool_are_counted_without_their_copies() -> None:
    data = repeated(100, 3, seed=15)
    found = as_set(select(GreedyVariance(pool=40), data, 40))
    best = list(dict.fromkeys(tuple(row) for row in data.x[data.y.argsort()].tolist()))[:5]
    assert set(best) <= found


@pytest.mark.parametrize("rule", [GreedyVariance(pool=16), KMeans(), Subset()], ids=repr)
def test_the_same_seeds_give_the_same_rows_and_other_seeds_others(rule: InducingSelection) -> None:
    data = dataset(80, seed=16)
    first = select(rule, data, 10, 1)
    assert_close(select(rule, data, 10, 1), first, rtol=0.0, atol=0.0)
    assert as_set(select(rule, data, 10, 2)) != as_set(first)


def test_random_rows_are_all_equally_likely() -> None:
    data = dataset(10, seed=17)
    places = {tuple(row): place for place, row in enumerate(data.x.tolist())}
    hits = torch.zeros(10)
    for key in range(400):
        for row in select(Subset(), data, 3, key).tolist():
            hits[places[tuple(row)]] += 1
    assert_close(hits / 400, torch.full((10,), 0.3), rtol=0.0, atol=0.1)  # four standard deviations


def test_the_centres_of_separate_clusters_are_their_means() -> None:
    corners = torch.tensor([[0.1, 0.1, 0.0], [0.9, 0.1, 0.5], [0.5, 0.9, 1.0]], dtype=torch.float64)
    x = corners.repeat_interleave(20, 0)
    x[:, :2] += 0.05 * rows(60, seed=18)[:, :2]
    found = select(KMeans(), with_rows(x), 3)
    means = x.reshape(3, 20, DIM).mean(1)
    assert_close(found[found[:, -1].argsort()], means, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [50, 10_050])
def test_centres_are_spread_over_the_data_with_codes_that_occur(n: int) -> None:
    data = dataset(n, seed=19)
    found = select(KMeans(), data, 15)
    assert len(as_set(found)) == 15
    assert set(found[:, -1].tolist()) <= set(data.x[:, -1].tolist())
    assert bool((found >= data.x.amin(0)).all())
    assert bool((found <= data.x.amax(0)).all())
    nearest = torch.cdist(data.x, found).amin(-1).square().mean()
    random = torch.cdist(data.x, select(Subset(), data, 15)).amin(-1).square().mean()
    assert float(nearest) < float(random)


def test_centres_that_rounding_makes_equal_are_replaced_by_rows() -> None:
    x = torch.zeros(12, DIM, dtype=torch.float64)
    x[:, 0] = 1e-200 * torch.arange(12, dtype=torch.float64)
    x[-1, 0] = 1.0
    found = select(KMeans(), with_rows(x), 6)
    assert found.shape == (6, DIM)
    assert len(as_set(found)) == 6


def test_centres_keep_the_value_of_a_constant_column() -> None:
    x = rows(10_050, seed=25)
    x[:, 1] = 0.7
    found = select(KMeans(), with_rows(x), 20)
    assert_close(found[:, 1], torch.full_like(found[:, 1], 0.7), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("count", [2, 5, 11, 17, 18])
def test_centres_of_categories_alone_are_rows_of_the_data(count: int) -> None:
    levels = [torch.linspace(0, 1, size, dtype=torch.float64) for size in (3, 3, 2)]
    x = torch.cartesian_prod(*levels).repeat(2, 1)
    data = Dataset(x, torch.zeros(36, dtype=torch.float64), columns=Columns((0, 1, 2)))
    found = select(KMeans(), data, count)
    assert found.shape == (count, DIM)
    assert len(as_set(found)) == count
    assert as_set(found) <= as_set(x)


def test_given_rows_are_expanded_to_the_replicates_and_take_the_dtype_of_the_data() -> None:
    z = rows(4, seed=20).float()
    data = dataset(10, 2, seed=21)
    found = select(Given(z), data, 1, 1, 2)
    assert found.dtype == torch.float64
    assert_close(found, z.double().expand(2, 4, DIM), rtol=0.0, atol=0.0)


def test_given_rows_of_each_replicate_stay_with_it() -> None:
    z = rows(4, 2, seed=22)
    assert_close(select(Given(z), dataset(10, 2, seed=21), 1, 1, 2), z, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(0, DIM), "none of it zero"),
        (torch.zeros(2, 0), "none of it zero"),
        (torch.rand(DIM), "none of it zero"),
        (torch.tensor([[0.1, math.nan, 0.2]]), "finite"),
        (torch.tensor([[0.1, math.inf, 0.2]]), "finite"),
        (torch.tensor([[0.1, 0.0, 0.2], [0.3, 0.0, 0.2], [0.1, -0.0, 0.2]]), "equal rows"),
        (torch.tensor([[[0.1], [0.2]], [[0.3], [0.3]]]), "equal rows"),
    ],
)
def test_given_rows_must_be_finite_and_distinct(z: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Given(z)


@pytest.mark.parametrize("shape", [(4, DIM + 1), (3, 4, DIM), (2, 2, 4, DIM), (1, 2, 4, DIM)])
def test_given_rows_must_fit_the_data(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="columns and replicates"):
        select(Given(torch.rand(shape)), dataset(10, 2, seed=21), 1, 1, 2)


def test_given_rows_that_single_precision_makes_equal_are_refused() -> None:
    z = torch.tensor([[0.5, 0.5, 0.0], [0.5 + 1e-12, 0.5, 0.0]], dtype=torch.float64)
    single = with_rows(rows(10, seed=23).float())
    with pytest.raises(DataError, match="equal rows"):
        select(Given(z), single, 2)


@pytest.mark.parametrize("quality", [-0.1, 1.0, math.nan])
def test_quality_is_at_least_zero_and_below_one(quality: float) -> None:
    with pytest.raises(DataError, match="0 <= quality < 1"):
        GreedyVariance(quality)


def test_a_pool_holds_at_least_one_row() -> None:
    with pytest.raises(DataError, match="pool >= 1"):
        GreedyVariance(pool=0)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_data_and_a_positive_count_are_needed(rule: InducingSelection) -> None:
    with pytest.raises(DataError, match="count >= 1"):
        select(rule, dataset(5, seed=24), 0)
    with pytest.raises(DataError, match="at least one observation"):
        select(rule, with_rows(rows(0, seed=24)), 3)


def test_the_best_outcomes_come_first_and_the_rest_is_chosen_given_them() -> None:
    x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = Matern52().start(2)
    rows = GreedyVariance(best=0.25).select(Dataset(x, y), Matern52(), theta, 20, Seeds.of(0, 0))
    best = x[y.argsort()[:5]]
    assert sorted(map(tuple, rows[:5].tolist())) == sorted(map(tuple, best.tolist()))
    known = list(rows[:5])
    for row in rows[5:]:
        chol = torch.linalg.cholesky(Matern52().gram(theta, torch.stack(known))[0])
        a = torch.linalg.solve_triangular(
            chol, Matern52().cross(theta, torch.stack(known), x)[0], upper=False
        )
        variance = Matern52().diagonal(theta, x) - a.square().sum(0)
        assert torch.equal(x[variance.argmax()], row)
        known.append(row)
    with pytest.raises(DataError, match=r"`0 <= best <= 1` must hold, got 1\.5"):
        GreedyVariance(best=1.5)

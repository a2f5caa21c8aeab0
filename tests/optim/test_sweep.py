import pytest
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import Acquisition, KnowledgeGradient, LogExpectedImprovement, ThompsonSampling
from bo_suite.acquisition.alternatives import distinct
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceError
from bo_suite.kernels import Matern52, ard
from bo_suite.optim.maximize import maximize
from bo_suite.optim.sweep import Sweep
from bo_suite.space.checks import MOST_PARAMETERS, check_searchable

F64 = torch.float64
OPTIONS = [f"option {number}" for number in range(30)]
SPACES = {
    "int": Space({f"x{i}": Int(0, 1000) for i in range(15)}),
    "choice": Space({f"x{i}": Choice(OPTIONS) for i in range(15)}),
    "mixed": Space(
        {f"f{i}": Float(0, 1) for i in range(5)}
        | {f"n{i}": Int(0, 1000) for i in range(5)}
        | {f"c{i}": Choice(OPTIONS) for i in range(5)}
    ),
}


def told(space: Space, observations: int, pending: int = 0, *batch: int) -> Dataset:
    uniform = torch.rand(
        (*batch, observations + pending, space.dim), generator=torch.Generator().manual_seed(1), dtype=F64
    )
    rows = space.encoding.sample_from_unit(uniform)
    y = (rows[..., :observations, :] - 0.4).square().sum(-1)
    y = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    x, waiting = rows[..., :observations, :], rows[..., observations:, :]
    return Dataset(x, y, None, waiting, space.columns)


class Counting:
    """A score that counts the rows it is asked for."""

    def __init__(self, score, costly: bool) -> None:
        self.score, self.costly, self.rows = score, costly, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += x[..., 0].numel()
        return self.score(x)


def summit(target: Tensor):
    return lambda x: -(x - target).square().sum(-1)


@pytest.mark.parametrize("kind", list(SPACES))
def test_a_costly_score_is_asked_for_few_rows_and_searched_as_well(kind: str) -> None:
    space = SPACES[kind]
    data = told(space, 10)
    target = torch.linspace(0.13, 0.81, space.dim, dtype=F64)
    plain, costly = (Counting(summit(target), flag) for flag in (False, True))
    with_rounds, with_passes = (maximize(score, space, data, Seeds.of(0, 1)) for score in (plain, costly))
    assert costly.rows < 0.6 * plain.rows
    assert float(summit(target)(with_passes)) >= float(summit(target)(with_rounds))


@pytest.mark.parametrize(
    ("acquisition", "pending"), [(ThompsonSampling(features=64), 0), (KnowledgeGradient(fantasies=4), 2)]
)
def test_thompson_sampling_and_fantasies_of_the_knowledge_gradient_are_costly(
    acquisition: Acquisition, pending: int
) -> None:
    space = Space({f"c{i}": Choice(OPTIONS[:12]) for i in range(5)} | {"n": Int(0, 1000)})
    data = told(space, 6, pending)
    rows = []
    for chosen in (acquisition, LogExpectedImprovement(fantasies=4)):
        score = chosen.build(data, Seeds.of(0, 0))
        counted = Counting(score, getattr(score, "costly", False))
        maximize(counted, space, data, Seeds.of(0, 1))
        rows.append(counted.rows)
    assert rows[0] < 0.8 * rows[1]


def test_the_knowledge_gradient_is_costly_with_fidelities_and_not_without() -> None:
    plain = Space({"n": Int(0, 50), "c": Choice(list("abc"))})
    several = Space({"n": Int(0, 50), "epochs": Int(1, 9, fidelity=True)})
    costly = [KnowledgeGradient().build(told(space, 5), Seeds.of(0, 0)).costly for space in (plain, several)]
    assert costly == [False, True]


def test_passes_reach_the_summit_of_levels_that_do_not_lean_on_each_other() -> None:
    space = Space({f"x{i}": Choice(list("abcdefg"), ordered=True) for i in range(12)})
    target = torch.arange(12, dtype=F64) % 7 / 6.0
    score = Counting(summit(target), True)
    rows = told(space, 3).x
    found = Sweep(passes=4, turn=0)(score, space, rows, Seeds.of(0, 0))
    assert_close(found, target.expand(3, 12), rtol=0.0, atol=0.0)
    assert score.rows == 3 + 2 * 3 * 12 * 7  # a pass that moves, and one that does not


def test_passes_of_replicates_are_those_of_each_alone() -> None:
    space = Space({"a": Int(0, 10**12), "b": Choice(OPTIONS), "c": Int(1, 1000, log=True), "d": Float(0, 1)})
    data = told(space, 5, 0, 3)
    target = torch.rand(3, 1, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    together = Sweep(3, 0)(summit(target), space, data.x, Seeds.of_each(range(3), 0))
    for place in range(3):
        alone = Sweep(3, 0)(summit(target[place]), space, data.x[place], Seeds.of(place, 0))
        assert torch.equal(together[place], alone)


@pytest.mark.parametrize("passes", [None, 3])
def test_columns_of_one_level_have_no_moves(passes: int | None) -> None:
    space = Space({"one": Choice(["only"]), "a": Int(0, 1000), "two": Choice(["only"])})
    rows = told(space, 3).x
    seen: list[Tensor] = []

    def score(x: Tensor) -> Tensor:
        seen.append(x)
        return -(x[..., 1] - 0.5).square()

    found = Sweep(passes, 0)(score, space, rows, Seeds.of(0, 0))
    assert_close(found[:, 1], torch.full((3,), 0.5, dtype=F64))
    assert all(bool((x[..., [0, 2]] == 0.0).all()) for x in seen)
    assert {len(x) for x in seen} == {3, 3 * 50}
    still = Space({"one": Choice(["only"]), "f": Float(0, 1)})
    seen.clear()
    assert torch.equal(Sweep(passes, 0)(score, still, rows[:, :2], Seeds.of(0, 0)), rows[:, :2])
    assert not seen


@pytest.mark.parametrize(
    "parameter", [Int(0, 1000), Choice(OPTIONS[:5]), Choice([1, 2, 3], ordered=True), Int(0, 10**12)]
)
def test_a_sweep_of_a_thousand_columns_scores_a_bounded_number_of_rows(parameter) -> None:
    space = Space({f"x{i}": parameter for i in range(1000)})
    rows = told(space, 8).x
    largest, touched = 0, []
    for turn in range(3):
        score = Counting(summit(torch.full((1000,), 0.5, dtype=F64)), False)
        found = Sweep(None, turn)(score, space, rows, Seeds.of(0, turn))
        largest = max(largest, score.rows)
        touched.append({int(column) for column in (found != rows).any(0).nonzero()})
        assert float(score.score(found).min() - score.score(rows).min()) > 0.0
    assert largest * 1000 <= 1.1 * 2**22
    assert min(map(len, touched)) >= 5
    assert not touched[0] & touched[1] & touched[2]  # others have their turn


def test_copies_among_rows_are_dropped_in_every_replicate() -> None:
    first = torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.5, 1.0], [0.2, 0.3]], dtype=F64)
    second = torch.tensor([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1], [0.7, 0.1]], dtype=F64)
    assert torch.equal(distinct(first), first[[0, 1, 4]])
    assert torch.equal(
        distinct(torch.stack((first, second))), torch.stack((first[[0, 1, 4]], second[[0, 4, 1]]))
    )
    assert torch.equal(distinct(first[[0, 1, 4]]), first[[0, 1, 4]])


@pytest.mark.parametrize("pending", [0, 4])
def test_alternatives_of_the_knowledge_gradient_are_distinct_where_all_columns_are_discrete(
    pending: int,
) -> None:
    space = Space({"x": Int(0, 1000)})
    data = told(space, 20, pending)
    score = KnowledgeGradient().build(data, Seeds.of(0, 0))
    assert score.means.shape[-1] <= 20 + pending
    assert len({float(x) for x in score.lookahead.points[:, 0]}) == score.means.shape[-1]


@pytest.mark.parametrize("batch", [(), (2,)])
def test_many_categories_compared_together_give_the_kernel_of_one_after_another(
    batch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randint(0, 3, (*batch, m, 130), generator=generator).to(F64) / 2.0 for m in (9, 6))
    theta = torch.randn((*batch, 131), generator=generator, dtype=F64)
    kernel = Matern52(tuple(range(2, 130)))
    weights, square = (torch.randn((*batch, 9, n), generator=generator, dtype=F64) for n in (6, 9))
    square = square + square.mT
    found = []
    for many, pairs in ((1000, 1), (100, 2**20), (100, 500)):
        monkeypatch.setattr(ard, "_MANY", many)
        monkeypatch.setattr(ard, "_PAIRS", pairs)
        k, pullback = kernel.joint(theta, x, z)
        gram, by_theta = kernel.gram(theta, x)
        found.append((k, *pullback(weights), gram, by_theta(square)))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert_close(same, one)


def test_a_space_beyond_the_dimensions_of_sobol_points_is_refused_before_anything_is_evaluated(
    tmp_path,
) -> None:
    limit = MOST_PARAMETERS
    assert limit == SobolEngine.MAXDIM
    check_searchable(limit)
    space = Space({f"x{i}": Float(0, 1) for i in range(limit + 1)})
    with pytest.raises(SpaceError, match=r"at most 21,201 parameters, .* got a Space of 21,202"):
        Optimizer(space, storage=tmp_path / "run.jsonl")
    assert not list(tmp_path.iterdir())

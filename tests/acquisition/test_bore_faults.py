"""What else Bore, batches by Stein descent, evolution and density ratios promise, each at its edge."""

from dataclasses import dataclass, field, replace

import jaxtyping as jt
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Space
from bo_suite.acquisition import Bore, SteinBatch
from bo_suite.classifiers import WeightedExamples
from bo_suite.classifiers.density_ratio import fit_density_ratio, ratio_of
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError
from bo_suite.optim.evolve import evolve
from bo_suite.space.candidates import mutate, project, sample
from bo_suite.study.step import batch_steps
from bo_suite.surrogates.process import Hyperparameters, WarmStart

F64 = torch.float64
SEEDS = Seeds.of(0, 1)
SQUARE = Space({"a": Float(0, 1), "b": Float(0, 1)})
GRID = Space({"n": Int(1, 40), "m": Int(1, 40)})


@dataclass(frozen=True, eq=False)
class Flat:
    hyperparameters: Hyperparameters | None
    differentiable: bool

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        return -x.sum(-1)


@dataclass(frozen=True)
class Witness:
    """Keeps what it is given; what it fits prefers rows near the origin, and may be warm-started."""

    differentiable: bool = False
    seen: list[tuple[WeightedExamples, WarmStart | None]] = field(default_factory=list)

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> Flat:
        self.seen.append((data, start))
        return Flat(torch.tensor([1.0, 2.0], dtype=F64), self.differentiable)


@dataclass(frozen=True)
class Broken:
    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> Flat:
        raise FitError("this one is never fitted")


@dataclass(frozen=True, eq=False)
class Peaks:
    """Logit of the largest of some bumps far below one: height - |x - centre|² / (2 width²)."""

    centres: Tensor
    heights: Tensor
    width: float
    differentiable: bool = False
    hyperparameters: None = None

    def __call__(self, x: Tensor) -> Tensor:
        square = (x[..., None, :] - self.centres).square().sum(-1)
        return (self.heights - 0.5 * square / self.width**2).amax(-1) - 20.0


def observations(x: Tensor, space: Space = SQUARE) -> Dataset:
    return Dataset(x, torch.arange(float(len(x)), dtype=x.dtype), columns=space.columns)


# --- Bore -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "gamma", "good"), [(10, 0.25, 3), (9, 0.25, 3), (100, 0.07, 7), (25, 0.28, 7)])
def test_the_number_of_positives_is_rounded_up_but_not_by_a_rounding_error(
    n: int, gamma: float, good: int
) -> None:
    witness = Witness()
    x = torch.linspace(0.0, 1.0, n, dtype=F64)[:, None].expand(n, 2)
    Bore(classifier=witness, gamma=gamma).build(observations(x), SEEDS)
    assert int((witness.seen[0][0].positive > 0).sum()) == good


@pytest.mark.parametrize("differentiable", [True, False])
def test_bore_hands_on_columns_and_warm_start_and_what_the_classifier_says_of_itself(
    differentiable: bool,
) -> None:
    space = Space({"k": Choice(["u", "v", "w"]), "n": Int(1, 5), "x": Float(0, 1)})
    x = space.encoding.sample_from_unit(
        torch.rand(6, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    )
    witness, start = Witness(differentiable), WarmStart(torch.tensor([3.0, 4.0], dtype=F64), 5)
    score = Bore(classifier=witness).build(observations(x, space), SEEDS, start)
    labelled, given = witness.seen[0]
    assert (labelled.unordered, labelled.levels) == ((0,), (3, 5, None))
    assert given is not None
    assert given.hyperparameters.tolist() == [3.0, 4.0]
    assert score.hyperparameters is not None
    assert score.hyperparameters.tolist() == [1.0, 2.0]
    assert score.differentiable is differentiable


# --- batches ----------------------------------------------------------------------------------------------


def test_particles_start_as_draws_and_not_at_the_highest_bump_alone() -> None:
    centres = torch.tensor([[0.2, 0.2], [0.8, 0.8]], dtype=F64)
    score = Peaks(centres, torch.tensor([4.0, 4.0 - 1.4], dtype=F64), 0.05)
    found = torch.cat(
        [
            SteinBatch(steps=1, turns=1).choose(score, SQUARE, observations(centres), Seeds.of(0, k), 10)[:10]
            for k in range(6)
        ]
    )
    lower = (found.sum(-1) > 1.0).double().mean()  # its share is e⁻¹·⁴ / (1 + e⁻¹·⁴) = 0.2
    assert 0.08 < float(lower) < 0.4


def test_a_particle_that_no_move_would_raise_stays_where_it_is() -> None:
    x = project(SQUARE, torch.tensor([[0.31, 0.62], [0.9, 0.1]], dtype=F64))
    score = Peaks(x[:1], torch.zeros(1, dtype=F64), 1e-6)
    found = SteinBatch(steps=1).choose(score, SQUARE, observations(x), SEEDS, 1)
    assert torch.equal(found[0], x[0])


def test_candidates_are_representable_and_after_the_particles_come_the_best_of_many() -> None:
    space = Space({"x": Float(0.1, 7.3), "l": Float(1e-4, 1, log=True), "n": Int(1, 9)})
    x = space.encoding.sample_from_unit(
        torch.rand(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    )
    score = Flat(None, True)
    found = SteinBatch(steps=10, turns=2).choose(score, space, observations(x, space), SEEDS, 5)
    assert torch.equal(found[:5], space.encoding.project(found[:5]))
    assert found.shape[0] > 1000
    spare = score(found[5:])
    assert bool((spare[1:] <= spare[:-1]).all())


def test_a_batch_leaves_out_what_is_told_or_pending_and_keeps_the_fit() -> None:
    space = Space({"n": Int(1, 4), "m": Int(1, 3)})
    every = space.encode([{"n": n, "m": m} for n in range(1, 5) for m in range(1, 4)])
    data = replace(observations(every[:4], space), pending=every[4:7])
    witness, start = Witness(), WarmStart(torch.tensor([3.0, 4.0], dtype=F64), 4)
    found = batch_steps(data, space, Bore(classifier=witness), SEEDS, start, SteinBatch(), 9)
    rows = {tuple(step.row.tolist()) for step in found}
    assert rows == {tuple(row) for row in every[7:].tolist()}
    assert len(found) == 5
    seen = witness.seen[0][1]
    assert seen.hyperparameters is start.hyperparameters
    assert seen.observations == 4 + 3
    assert all(step.start is not None for step in found)
    last = batch_steps(
        replace(data, pending=every[4:11]), space, Bore(classifier=Witness()), SEEDS, None, SteinBatch(), 1
    )
    assert_close(last[0].row, every[11], rtol=0.0, atol=1e-9)


def test_a_new_point_is_found_where_every_candidate_of_a_batch_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SteinBatch, "choose", lambda self, score, space, data, seeds, count: data.x)
    x = sample(GRID, torch.rand(9, 2, dtype=F64, generator=torch.Generator().manual_seed(0)))
    acquisition = Bore(classifier=Witness())
    found = batch_steps(observations(x, GRID), GRID, acquisition, SEEDS, None, SteinBatch(), 3)
    assert found
    assert not {tuple(step.row.tolist()) for step in found} & {tuple(row) for row in x.tolist()}


def test_a_batch_of_a_classifier_that_fails_is_one_random_point_and_says_why() -> None:
    x = torch.rand(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = batch_steps(observations(x), SQUARE, Bore(classifier=Broken()), SEEDS, None, SteinBatch(), 3)
    assert [(one.source, one.reason) for one in found] == [("fallback", "this one is never fitted")]


# --- evolution --------------------------------------------------------------------------------------------


def test_pending_points_are_no_parents_though_nothing_is_told() -> None:
    every = GRID.encode([{"n": n, "m": m} for n in range(1, 41) for m in range(1, 4)])
    data = Dataset(every[:0], every[:0, 0], None, every)
    rows = sample(GRID, torch.rand(100, 2, dtype=F64, generator=torch.Generator().manual_seed(0)))
    found = evolve(lambda x: -x.sum(-1), GRID, data.taken, rows, SEEDS)
    assert not {tuple(row) for row in found.tolist()} & {tuple(row) for row in every.tolist()}


def test_of_equal_scores_in_a_finite_space_the_seed_decides_which_comes_first() -> None:
    x = sample(GRID, torch.rand(100, 2, dtype=F64, generator=torch.Generator().manual_seed(0)))
    data = observations(x[:1], GRID)
    ends = [
        evolve(lambda x: torch.zeros_like(x[..., 0]), GRID, data.taken, x, Seeds.of(0, k)) for k in range(4)
    ]
    assert len({tuple(end[0].tolist()) for end in ends}) > 1


def test_a_category_changes_to_any_other_as_often() -> None:
    space = Space({"k": Choice(list("abcdefghi"))})
    rows = torch.zeros(4000, 1, dtype=F64)
    moved = mutate(space, rows, SEEDS)[:, 0]
    far = float((moved > 0.8).double().mean())  # two of nine levels, drawn anew half of the time
    assert far > 0.08


# --- ratios -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_ratio_keeps_what_the_classifier_offers_and_scales_its_rows(differentiable: bool) -> None:
    normal = torch.randn(2, 500, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    witness = Witness(differentiable)
    ratio = fit_density_ratio(witness, 40.0 + 3.0 * normal[0], 50.0 + normal[1], SEEDS)
    rows = witness.seen[0][0].x[:, 0]
    assert float(rows.mean()) == pytest.approx(0.5)
    assert float(rows.std(correction=0)) == pytest.approx(1.0 / 6.0)
    assert ratio.log_odds.differentiable is differentiable
    assert ratio.log_odds.hyperparameters is not None
    start = WarmStart(torch.tensor([3.0], dtype=F64), 5)
    ratio_of(witness, witness.seen[0][0], SEEDS, start)
    assert witness.seen[1][1] is start

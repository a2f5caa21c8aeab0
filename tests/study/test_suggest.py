"""Suggestions from plain trials: when the model begins, what it is asked, and what is refused."""

import threading
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Acquisition,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.acquisition.confidence_bound import ConfidenceBoundScore
from bo_suite.acquisition.default import default_acquisition
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, TrialError
from bo_suite.linalg import environment
from bo_suite.optim import Search
from bo_suite.optim.maximize import maximize
from bo_suite.storage.goals import MINIMIZE, Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.observations import Observations, dataset_of
from bo_suite.study.recommend import surrogate_of
from bo_suite.study.step import next_steps
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates import AutoGP, ExactGP, ExactProcess, WarmStart

PLANE = Space({"x": Float(0, 1), "y": Float(-2, 2)})
EPOCHS = Space({"x": Float(0, 1), "epochs": Int(1, 9, fidelity=True)})
QUICK = Search(sobol=16, nearby=8, starts=2, evaluations=2)


def bowl(params: dict[str, float]) -> float:
    return (params["x"] - 0.3) ** 2 + sum(value for name, value in params.items() if name != "x") ** 2


def trials(count: int, space: Space = PLANE) -> list[Trial]:
    optimizer = Optimizer(space, seed=1)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, bowl(trial.params))
    return optimizer.trials


@dataclass(frozen=True)
class PosteriorMean:
    """An acquisition of a user that declares nothing."""

    surrogate: ExactGP = field(default_factory=ExactGP)

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ConfidenceBoundScore:
        process = self.surrogate.fit(data, seeds, start)
        return ConfidenceBoundScore(process, 0.0, process.hyperparameters)


@dataclass(frozen=True)
class Supporting(PosteriorMean):
    supports: ClassVar[frozenset[str]] = frozenset({"fidelities"})


# --- initial points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [1, 4, 9])
def test_so_many_points_are_initial_as_were_set(initial: int) -> None:
    optimizer = Optimizer(PLANE, initial=initial)
    for _ in range(initial + 2):
        trial = optimizer.ask()
        optimizer.tell(trial, bowl(trial.params))
    sources = [trial.provenance["source"] for trial in optimizer.trials]
    assert sources == ["design"] * initial + ["acquisition"] * 2


def test_the_number_of_initial_points_is_stored_and_may_be_set_anew(tmp_path) -> None:
    Optimizer(PLANE, storage=tmp_path / "run.db", initial=2).close()
    for optimizer in (Optimizer.resume(tmp_path / "run.db"), Optimizer(PLANE, storage=tmp_path / "run.db")):
        assert optimizer._suggester.initial == 2
        optimizer.close()
    Optimizer(PLANE, storage=tmp_path / "run.db", initial=3).close()
    assert Optimizer.resume(tmp_path / "run.db")._suggester.initial == 3


@pytest.mark.parametrize("initial", [0, 2.5, "6", True])
def test_a_number_of_initial_points_that_is_none_is_refused(initial: object) -> None:
    with pytest.raises(TrialError, match="initial"):
        Optimizer(PLANE, initial=initial)  # type: ignore[arg-type]


def test_a_withdrawn_trial_is_no_initial_point() -> None:
    known = trials(5)
    suggester = Suggester(PLANE, LogExpectedImprovement(), initial=5)
    assert suggester.suggest(known)[0].provenance["source"] == "acquisition"
    withdrawn = [*known[:4], replace(known[4], state="withdrawn", value=None)]
    assert suggester.suggest(withdrawn)[0].provenance["source"] == "design"


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("acquisition", [PosteriorMean(), UpperConfidenceBound(), LogExpectedImprovement()])
def test_an_acquisition_that_does_not_declare_fidelities_is_refused_before_a_file_is_made(
    acquisition: Acquisition, tmp_path
) -> None:
    words = rf"{type(acquisition).__name__} does not support fidelities: choose KnowledgeGradient"
    with pytest.raises(DataError, match=words):
        Optimizer(EPOCHS, acquisition, storage=tmp_path / "run.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("acquisition", [PosteriorMean(), Bore(), Supporting()])
def test_an_acquisition_that_does_not_declare_constraints_is_refused_where_there_are_some(
    acquisition: Acquisition,
) -> None:
    with pytest.raises(DataError, match="does not support constraints"):
        Suggester(PLANE, acquisition, goals=Goals.of("minimize", {"c": (None, 0.0)}))


def test_an_acquisition_that_declares_fidelities_is_asked() -> None:
    optimizer = Optimizer(EPOCHS, Supporting(), initial=2)
    for _ in range(4):
        trial = optimizer.ask()
        optimizer.tell(trial, bowl(trial.params))
    assert optimizer.trials[-1].provenance["source"] == "acquisition"


def test_the_default_supports_what_it_is_the_default_for() -> None:
    for aspects in ({"fidelities"}, {"constraints"}, frozenset()):
        assert set(aspects) <= set(getattr(default_acquisition(aspects), "supports", ()))
    assert isinstance(Optimizer(EPOCHS)._suggester.acquisition, KnowledgeGradient)


# --- the search -------------------------------------------------------------------------------------------


def test_the_search_effort_of_an_acquisition_is_that_of_its_search() -> None:
    acquisition = LogExpectedImprovement(search=QUICK)
    rows = PLANE.encode([trial.params for trial in trials(8)])
    data, seeds = dataset_of(PLANE, rows, rows.sum(-1)), Seeds.of(0, 8)
    (step,) = next_steps(data, PLANE, acquisition, seeds, [None])
    with environment.numerical_environment():
        score = acquisition.build(data, seeds)
        assert torch.equal(step.row, maximize(score, PLANE, data, seeds, search=QUICK))
        assert not torch.equal(step.row, maximize(score, PLANE, data, seeds))


def test_a_search_that_looks_nowhere_is_refused() -> None:
    for wrong in ({"sobol": 0}, {"starts": 0}, {"turns": -1}, {"evaluations": 0}, {"nearby": True}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            Search(**wrong)


# --- recommendation ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """An ExactGP that counts its fits."""

    fits: list[int] = field(default_factory=list)

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ExactProcess:
        self.fits.append(data.x.shape[-2])
        return ExactGP().fit(data, seeds, start)


def test_recommendation_and_regret_bound_are_by_the_surrogate_of_the_user() -> None:
    witness = Witness()
    optimizer = Optimizer(PLANE, LogExpectedImprovement(surrogate=witness), initial=20)
    for trial in trials(6):
        optimizer.add(trial.params, trial.value)
    optimizer.recommend()
    assert witness.fits == [6]
    assert optimizer.regret_bound().value >= 0.0
    assert witness.fits == [6, 6]
    assert surrogate_of(Bore()) == AutoGP()


# --- trials as data ---------------------------------------------------------------------------------------


def test_a_trial_is_encoded_by_what_it_is_and_not_by_its_id() -> None:
    observations = Observations(PLANE, MINIMIZE, torch.device("cpu"))
    known = trials(4)
    assert torch.equal(observations.dataset(known).x, PLANE.encode([trial.params for trial in known]))
    moved = [*known[:3], replace(known[3], params={"x": 0.125, "y": 1.0})]
    assert torch.equal(observations.dataset(moved).x[3], PLANE.encode([moved[3].params])[0])
    for turn in range(2000):  # rows of trials that are gone do not pile up
        observations.dataset([replace(known[0], params={"x": turn / 2000, "y": 0.0})])
    assert len(observations._encoded[0]) < 1100


def test_one_builder_serves_one_run_and_several() -> None:
    space = Space({"x": Float(0, 1), "k": Choice(["a", "b", "c"])})
    rows = torch.rand(3, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values, std = rows.sum(-1).exp(), rows[..., 0]
    together = dataset_of(space, rows, values, std)
    assert (together.unordered, together.levels) == ((1,), (None, 3))
    for index in range(3):
        alone = dataset_of(space, rows[index], values[index], std[index])
        torch.testing.assert_close(together.y[index], alone.y, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.noise[index], alone.noise, rtol=1e-12, atol=1e-12)


def test_maximisation_mirrors_the_outcomes_and_nothing_else() -> None:
    known = trials(6)
    there, back = (
        Observations(PLANE, Goals.of(direction), torch.device("cpu"))
        for direction in ("minimize", "maximize")
    )
    mirrored = [replace(trial, value=-trial.value) for trial in known]
    assert torch.equal(there.dataset(known).y, back.dataset(mirrored).y)


# --- threads ----------------------------------------------------------------------------------------------


def test_nobody_waits_while_trials_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    encode = Observations.dataset

    def look() -> None:
        if environment._lock.acquire(timeout=30):
            free.append(True)
            environment._lock.release()

    def looked(self: Observations, *args: object) -> Dataset:
        other = threading.Thread(target=look)
        other.start()
        other.join()
        return encode(self, *args)  # type: ignore[arg-type]

    known = trials(7)
    monkeypatch.setattr(Observations, "dataset", looked)
    Suggester(PLANE, LogExpectedImprovement()).suggest(known)
    assert free == [True]

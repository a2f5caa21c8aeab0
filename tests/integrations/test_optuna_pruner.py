"""BoSuitePruner decides as an Optimizer with its scheduler does, and the sampler learns from the curves."""

import logging
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import StorageError
from bo_suite.run.schedulers import ASHA, PASHA, CurveStopping, Hyperband, MedianRule, PromotionASHA

optuna = pytest.importorskip("optuna")

from optuna import storages  # noqa: E402
from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations.optuna import BoSuitePruner, BoSuiteSampler, from_optuna  # noqa: E402

LAST = 9
SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
BOUNDS = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def loss(x: float, y: float, step: int) -> float:
    return (x - 0.3) ** 2 + (y - 0.6) ** 2 + (1.0 + x) / step


def study_of(pruner: Any, direction: str = "minimize", **options: Any) -> Any:
    sampler = BoSuiteSampler(search_space=SPACE, seed=3)
    return optuna.create_study(sampler=sampler, pruner=pruner, direction=direction, **options)


def evaluate(study: Any, sign: float = 1.0, first: int = 0) -> tuple[dict[str, float], int]:
    """Run one trial of a study; return its point and its number of steps."""
    trial = study.ask()
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
    for step in range(1, LAST + 1):
        trial.report(sign * loss(x, y, step), step - 1 + first)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return trial.params, step
    study.tell(trial, sign * loss(x, y, LAST))
    return trial.params, LAST


def ended(state: TrialState, curve: dict[int, float], value: float | None = None, **fields: Any) -> Any:
    params = {"x": 0.2, "y": 0.1}
    rest = {"params": params, "distributions": BOUNDS, "intermediate_values": curve}
    return create_trial(state=state, value=value, **rest, **fields)


@pytest.mark.parametrize(
    ("scheduler", "direction", "first"),
    [
        (ASHA(LAST), "minimize", 0),
        (Hyperband(LAST, factor=2), "maximize", 1),
        pytest.param(MedianRule(LAST, min_step=2, min_trials=2), "minimize", 5, marks=pytest.mark.slow),
        pytest.param(CurveStopping(LAST, finished=3, threshold=0.3), "maximize", 0, marks=pytest.mark.slow),
    ],
)
def test_points_and_decisions_are_those_of_our_own_loop(scheduler: Any, direction: str, first: int) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    opt = Optimizer(SPACE, seed=3, direction=direction, scheduler=scheduler)
    study = study_of(BoSuitePruner(scheduler, first, seed=3), direction)
    for _ in range(8):
        ours = opt.ask()
        for step in range(1, LAST + 1):
            value = sign * loss(**ours.params, step=step)
            if opt.report(ours, step, value) == "stop":
                break
        else:
            opt.tell(ours, value)
        assert evaluate(study, sign, first) == (ours.params, step)
    counts = {TrialState.PRUNED: "stopped", TrialState.COMPLETE: "finished"}
    assert [counts[trial.state] for trial in study.trials] == [trial.state for trial in opt.trials]
    assert any(trial.state == "stopped" for trial in opt.trials)


def test_processes_share_what_they_decide_by(tmp_path: Path) -> None:
    pruners = [BoSuitePruner(ASHA(LAST)) for _ in range(2)]
    stores = [
        storages.JournalStorage(storages.journal.JournalFileBackend(str(tmp_path / "log"))) for _ in pruners
    ]
    first = study_of(pruners[0], storage=stores[0], study_name="s")
    sampler = BoSuiteSampler(search_space=SPACE, seed=3)
    other = optuna.load_study(study_name="s", storage=stores[1], sampler=sampler, pruner=pruners[1])
    alone = study_of(BoSuitePruner(ASHA(LAST)))
    for number in range(5):
        assert evaluate(other if number % 2 else first) == evaluate(alone)
    good, bad = other.ask(), first.ask()
    good.report(-1.0, 0)
    bad.report(1e3, 0)
    assert not good.should_prune()  # it is the best at the first rung, while both are running
    assert bad.should_prune()


def test_a_trial_is_judged_once_at_a_rung_and_the_answer_stays() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    trial = study.ask()
    assert not trial.should_prune()  # it has reported nothing
    trial.report(1.0, 1)  # the rungs are our steps 1 and 3
    assert not trial.should_prune()
    study.add_trials([ended(TrialState.COMPLETE, {0: 0.0, 2: 0.0}, 0.0)] * 3)
    assert not trial.should_prune()
    trial.report(1.0, 5)
    assert trial.should_prune()
    trial.report(-1.0, 6)
    assert trial.should_prune()


def test_a_repeated_trial_is_judged_again() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    study.add_trials([ended(TrialState.COMPLETE, {0: 0.0}, 0.0)] * 3)
    attributes = {"bo_suite:judged": [7, 8, "continue"]}  # copied from trial 7
    trial = ended(TrialState.RUNNING, {0: 1.0}, system_attrs=attributes)
    study.add_trial(trial)
    assert study.pruner.prune(study, study.get_trials()[-1])


def test_a_value_that_is_not_finite_prunes_and_counts_as_a_failure() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    study.add_trial(ended(TrialState.COMPLETE, {0: 0.1}, 0.1))
    trial = study.ask()
    trial.report(1.0, 0)
    trial.report(math.nan, 1)
    assert trial.should_prune()
    study.tell(trial, state=TrialState.PRUNED)
    sampler = study.sampler
    translation = sampler._translation(sampler._given.distributions, sampler._given)
    trials, _ = sampler._other_trials(study, study.ask()._cached_frozen_trial, translation)
    assert [(one.state, one.value) for one in trials] == [("finished", 0.1), ("failed", None)]


def test_steps_above_the_last_one_decide_nothing(caplog: pytest.LogCaptureFixture) -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    study.add_trials([ended(TrialState.COMPLETE, {0: 0.0, LAST: 5.0}, 0.0)] * 3)
    with caplog.at_level(logging.WARNING, "bo_suite"):
        for _ in range(2):
            trial = study.ask()
            trial.report(9.0, LAST)
            assert not trial.should_prune()
    assert caplog.text.count("steps above 8, the last one by first_step = 0 and max_step = 9") == 1


def test_with_constraints_the_sampler_learns_as_beside_other_pruners() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    plain = study_of(optuna.pruners.NopPruner())
    for one in (study, plain):
        one.add_trials([ended(TrialState.COMPLETE, {0: 0.1}, 0.1), ended(TrialState.PRUNED, {0: 2.0})])
        for value in (0.3, 0.4):
            trial = one.ask({name: FloatDistribution(0.0, 1.0) for name in BOUNDS})
            trial.set_constraint("limit", value)
            one.tell(trial, value)
    assert study.ask(BOUNDS).params == plain.ask(BOUNDS).params


def test_an_optimizer_from_the_study_has_pruned_trials_by_their_values() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    study.add_trials([ended(TrialState.COMPLETE, {0: 0.1}, 0.1), ended(TrialState.PRUNED, {0: 2.0})])
    assert [trial.value for trial in from_optuna(study).trials] == [0.1, 2.0]


@pytest.mark.parametrize("scheduler", [PromotionASHA(LAST), PASHA(LAST)])
def test_schedulers_that_pause_are_refused(scheduler: Any) -> None:
    with pytest.raises(ValueError, match="Optuna cannot continue a paused one, got P"):
        BoSuitePruner(scheduler)


class Pausing:
    """A scheduler from outside the package, which pauses."""

    max_step = LAST

    def rungs(self, trial: Any, progress: Any) -> list[int]:
        return [1]

    def verdict(self, trial: Any, progress: Any) -> str:
        return "pause"

    def promoted(self, progress: Any) -> None:
        return None


def test_a_verdict_to_pause_is_refused() -> None:
    study = study_of(BoSuitePruner(Pausing()))
    trial = study.ask()
    trial.report(1.0, 0)
    with pytest.raises(ValueError, match="got the verdict 'pause'"):
        trial.should_prune()


@pytest.mark.parametrize(
    ("given", "law"),
    [
        (("asha",), "a scheduler must be an object with max_step"),
        ((ASHA(LAST), -1), "first_step >= 0"),
        ((ASHA(LAST), 0, 0.5), "seed must be"),
    ],
)
def test_bad_arguments_are_refused(given: tuple[Any, ...], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        BoSuitePruner(*given)


def test_damage_is_refused() -> None:
    study = study_of(BoSuitePruner(ASHA(LAST)))
    study.add_trial(ended(TrialState.RUNNING, {0: 1.0}, system_attrs={"bo_suite:judged": [0, "first", 1]}))
    with pytest.raises(StorageError, match="bo_suite:judged must be a number, a step and a verdict"):
        study.pruner.prune(study, study.get_trials()[0])


def test_a_pickled_pruner_decides_alike() -> None:
    study = study_of(BoSuitePruner(Hyperband(LAST), 1, seed=5))
    evaluate(study, first=1)
    copied = pickle.loads(pickle.dumps(study.pruner))
    assert (copied.scheduler, copied.steps, copied._seed) == (Hyperband(LAST), study.pruner.steps, 5)

"""BoSuiteScheduler under Ray Tune's contract with a scheduler, without a cluster, and in one run on one."""

import math
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import TrialError
from bo_suite.run.schedulers import ASHA, PromotionASHA

WHY = "needs ray[tune], which `pip install 'bo-suite[ray]'` brings"
tune = pytest.importorskip("ray.tune", exc_type=ImportError, reason=WHY)

import ray  # noqa: E402
from ray.tune.search import ConcurrencyLimiter, SearchGenerator  # noqa: E402

from bo_suite.integrations.ray_scheduler import BoSuiteScheduler  # noqa: E402
from bo_suite.integrations.ray_tune import BoSuiteSearch  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]

LAST = 9
SPACE = Space({"x": Float(0.0, 1.0)})


def search_of(scheduler: Any = None, mode: str = "min", **options: Any) -> BoSuiteSearch:
    scheduler = ASHA(LAST) if scheduler is None else scheduler
    return BoSuiteSearch(SPACE, "loss", mode, scheduler=scheduler, **options)


def loss(x: float, step: int) -> float:
    return (x - 0.3) ** 2 + 1.0 / step


class Run:
    """What Ray does with a search and a scheduler, one trial after another."""

    def __init__(self, search: Any, scheduler: BoSuiteScheduler | None = None) -> None:
        self.search, self.scheduler = search, scheduler or BoSuiteScheduler()
        self.controller = SimpleNamespace(search_alg=SearchGenerator(search))

    def begin(self, name: str) -> dict[str, Any]:
        config: dict[str, Any] = self.search.suggest(name)
        self.scheduler.on_trial_add(self.controller, SimpleNamespace(trial_id=name))
        return config

    def result(self, name: str, step: int, value: float, **fields: Any) -> str:
        result = {"training_iteration": step, "loss": value, "time_total_s": 2.0 * step} | fields
        trial = SimpleNamespace(trial_id=name)
        decision = str(self.scheduler.on_trial_result(self.controller, trial, result))
        if decision == "STOP":
            self.search.on_trial_complete(name, result)
        else:
            self.search.on_trial_result(name, result)
        return decision


@pytest.mark.parametrize("mode", ["min", "max"])
def test_trials_are_those_of_our_own_loop(mode: str) -> None:
    sign, direction = (1.0, "minimize") if mode == "min" else (-1.0, "maximize")
    opt = Optimizer(SPACE, direction=direction, scheduler=ASHA(LAST))
    run = Run(search_of(mode=mode))
    for number in range(8):
        trial, config = opt.ask(), run.begin(f"t{number}")
        assert config == trial.params
        for step in range(1, LAST + 1):
            value = sign * loss(config["x"], step)
            answer = opt.report(trial, step, value, 2.0 * step)
            decision = run.result(f"t{number}", step, value)
            if answer == "stop":
                break
            assert decision == ("STOP" if step == LAST else "CONTINUE")
        else:
            opt.tell(trial, value)
        assert decision == "STOP"
    theirs = run.search.optimizer.trials
    assert [(one.state, one.value, one.step) for one in theirs] == [
        (one.state, one.value, one.step) for one in opt.trials
    ]
    assert {one.state for one in theirs} == {"finished", "stopped"}
    assert theirs[0].reports[-1].seconds == 18.0


def test_what_was_reported_before_judges_nothing(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(search_of())
    run.begin("a")
    assert [run.result("a", step, 1.0) for step in (1, 2, 2, 1, 4)] == ["CONTINUE"] * 5
    assert run.result("unknown", 1, 1.0) == "CONTINUE"
    assert run.result("a", 5, 1.0, loss=None) == "CONTINUE"
    assert [report.step for report in run.search.optimizer.trial(0).reports] == [1, 2, 4]
    assert run.result("a", LAST + 3, 0.5) == "STOP"  # the last step was jumped over
    assert (run.search.optimizer.trial(0).state, run.search.optimizer.trial(0).value) == ("finished", 0.5)
    assert not caplog.records


def test_a_value_that_is_not_finite_fails_a_trial(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(search_of())
    run.begin("a")
    run.result("a", 1, 1.0)
    assert run.result("a", 2, math.nan) == "STOP"
    assert run.search.optimizer.trial(0).reason == "reported nan at step 2"
    assert "ignored" not in caplog.text


def test_a_restored_search_goes_on_with_its_reports(tmp_path: Path) -> None:
    run = Run(search_of(storage=tmp_path / "history.db"))
    run.begin("a")
    run.result("a", 1, 1.0)
    run.search.optimizer.close()
    again = Run(pickle.loads(pickle.dumps(run.search)), pickle.loads(pickle.dumps(run.scheduler)))
    assert again.result("a", 1, 0.9) == "CONTINUE"  # the trial is run again, as another attempt
    assert again.result("a", 2, 0.8) == "CONTINUE"
    trial = again.search.optimizer.trial(0)
    assert [(one.step, one.value, one.attempt) for one in trial.reports] == [(1, 0.9, 2), (2, 0.8, 2)]
    assert again.search.optimizer.scheduler == ASHA(LAST)


@pytest.mark.parametrize(
    "search", [tune.search.BasicVariantGenerator(), SearchGenerator(BoSuiteSearch(SPACE, "loss", "min"))]
)
def test_another_search_is_refused(search: Any) -> None:
    with pytest.raises(ValueError, match=r"needs the search_alg BoSuiteSearch\(scheduler=...\), got"):
        BoSuiteScheduler().on_trial_add(SimpleNamespace(search_alg=search), None)


def test_the_search_is_found_in_a_limiter() -> None:
    wrapped = SearchGenerator(ConcurrencyLimiter(search_of(), 2))
    BoSuiteScheduler().on_trial_add(SimpleNamespace(search_alg=wrapped), None)


def test_a_paused_trial_is_continued_before_a_new_one() -> None:
    run = Run(search_of(PromotionASHA(LAST)))
    for name, value in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        run.begin(name)
        assert run.result(name, 1, value) == "PAUSE"
    assert run.search.suggest("d") is None  # b goes on in place of a new trial
    trials = [tune.experiment.Trial("t", trial_id=name, stub=True) for name in "abc"]
    for trial in trials:
        trial.status = trial.PAUSED
    stopped: list[Any] = []
    controller = SimpleNamespace(
        search_alg=SimpleNamespace(searcher=run.search, is_finished=lambda: True),
        get_trials=lambda: trials,
        stop_trial=stopped.append,
    )
    assert run.scheduler.choose_trial_to_run(controller) is trials[1]
    assert run.scheduler.choose_trial_to_run(controller) is trials[1]
    trials[1].status = trials[1].RUNNING
    assert run.scheduler.choose_trial_to_run(controller) is None
    assert [run.result("b", step, 1.0) for step in (1, 2, 3)] == ["CONTINUE", "CONTINUE", "PAUSE"]
    trials[1].status = trials[1].PAUSED
    assert stopped == []
    assert run.scheduler.choose_trial_to_run(controller) is None
    assert stopped == trials  # nothing runs, and nothing is promoted
    for name in "abc":
        run.search.on_trial_complete(name)
    assert [trial.state for trial in run.search.optimizer.trials] == ["paused"] * 3


def test_bad_steps_are_refused() -> None:
    run = Run(search_of(), BoSuiteScheduler("epoch"))
    run.begin("a")
    with pytest.raises(TrialError, match="a result must have 'epoch', which counts the steps"):
        run.result("a", 1, 1.0)
    with pytest.raises(TrialError, match="step"):
        run.result("a", 1, 1.0, epoch=0.5)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.getcwd()]))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    memory = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "log_to_driver": False}
    ray.init(num_cpus=2, _temp_dir=str(folder / "ray"), **memory)
    yield folder
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def train(config: dict[str, Any]) -> None:
    for step in range(1, 50):
        tune.report({"loss": (config["x"] - 0.3) ** 2 + 1.0 / step})


def tuned(folder: Path, scheduler: Any) -> tuple[Any, list[Any]]:
    search = BoSuiteSearch(storage=folder / "history.db", scheduler=scheduler)
    plan = {"search_alg": search, "scheduler": BoSuiteScheduler(), "metric": "loss", "mode": "min"}
    tuner = tune.Tuner(
        train,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=8, max_concurrent_trials=2, reuse_actors=True, **plan),
        run_config=tune.RunConfig(name="run", storage_path=str(folder), verbose=0),
    )
    return tuner.fit(), search.optimizer.trials


@pytest.mark.slow
def test_a_run_on_a_cluster_ends_hopeless_trials(cluster: Path) -> None:
    results, trials = tuned(cluster, ASHA(LAST))
    assert len(results) == len(trials) == 8
    assert results.num_errors == 0
    assert sorted(result.metrics["training_iteration"] for result in results) == sorted(
        trial.step for trial in trials
    )
    assert all(trial.step == LAST for trial in trials if trial.state == "finished")
    assert {trial.state for trial in trials} == {"finished", "stopped"}


@pytest.mark.slow
def test_a_run_on_a_cluster_continues_the_best_of_the_paused_trials(cluster: Path) -> None:
    results, trials = tuned(cluster, PromotionASHA(LAST, factor=2))
    assert len(results) == len(trials) == 8
    assert results.num_errors == 0
    assert {trial.state for trial in trials} == {"finished", "paused"}
    assert {trial.step for trial in trials} <= {1, 2, 4, 8, LAST}
    assert all(trial.attempt > 1 for trial in trials if trial.step > 1)

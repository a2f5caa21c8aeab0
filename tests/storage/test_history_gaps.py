"""Rows that somebody took out of a history: the ids of the others stay, and everything goes on."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import change, make_history, select
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.cli import app
from bo_suite.errors import TrialError
from bo_suite.integrations.optuna_view import to_study
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.plot import plot_convergence
from bo_suite.storage.history import History

CUTS = {
    "second": {1},
    "first": {0},
    "last": {11},
    "first and last": {0, 11},
    "many": {1, 2, 3, 6, 7, 10},
    "all but one": set(range(12)) - {4},
    "all but the running one": set(range(11)),
    "all": set(range(12)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gaps") / "run.db"
    make_history(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "run.db"))


def cut(path: Path, ids: set[int]) -> None:
    assert change(path, f"DELETE FROM trials WHERE id IN ({', '.join(map(str, ids))})") == len(ids)


def stored_ids(path: Path) -> list[int]:
    return [number for (number,) in select(path, "SELECT id FROM trials ORDER BY id")]


FEW = [{0}, {11}, {1, 2, 3, 6, 7, 10}]


@pytest.mark.parametrize(
    ("ids", "under"),
    [
        *((ids, "open") for ids in CUTS.values()),
        *(pytest.param(ids, "resumed", marks=pytest.mark.slow) for ids in FEW),
    ],
)
def test_an_optimizer_goes_on(path: Path, ids: set[int], under: str) -> None:
    optimizer = Optimizer.resume(path)
    whole = optimizer.trials
    if under == "resumed":
        optimizer.close()
    cut(path, ids)
    if under == "resumed":
        optimizer = Optimizer.resume(path)
    with closing(optimizer):
        left = [trial for trial in whole if trial.id not in ids]
        assert optimizer.trials == left
        assert list(optimizer.to_frame().get("id", [])) == [trial.id for trial in left]
        first = optimizer.ask()
        assert first.id == (left[-1].id + 1 if left else 0)
        second, third = optimizer.ask(2)
        assert [second.id, third.id] == [first.id + 1, first.id + 2]
        told, failed = optimizer.tell(first, 0.5), optimizer.fail(second.id, "why")
        added = optimizer.add(whole[0].params, 0.25)
        assert added.id == third.id + 1
        left += [told, failed, third, added]
        assert optimizer.trials == left
        assert stored_ids(path) == [trial.id for trial in left]
        assert optimizer.best.id == told.id
        for number in ids - {trial.id for trial in left}:
            with pytest.raises(TrialError, match=f"got unknown id {number}$"):
                optimizer.tell(number, 1.0)
        assert len({json.dumps(trial.params) for trial in (told, failed, third)}) == 3
    with closing(Optimizer.resume(path)) as resumed:
        assert resumed.trials == left


def test_a_write_after_a_cut_is_seen_before_the_file_is_looked_at(path: Path) -> None:
    with closing(Optimizer.resume(path)) as optimizer, closing(Optimizer.resume(path)) as other:
        left = optimizer.trials[:-1]
        assert len(other.trials) == 12
        cut(path, {11})
        added = optimizer.add(left[0].params, 0.25)
        assert added.id == 11
        assert optimizer.trials == other.trials == [*left, added]
        cut(path, {11})
        assert optimizer.trials == other.trials == left
        asked = other.ask()
        told = other.tell(asked, 1.0)
        assert optimizer.trials == other.trials == [*left, told]


def test_suggestions_depend_on_what_is_left_alone(path: Path) -> None:
    """An Optimizer that saw the rows suggests what one does that never did."""
    with closing(Optimizer.resume(path)) as optimizer:
        assert len(optimizer.trials) == 12
        cut(path, {2, 4})
        copy = Path(shutil.copy(path, path.with_name("copy.db")))
        with closing(Optimizer.resume(copy)) as other:
            assert optimizer.ask(2)[1].params == other.ask(2)[1].params


def test_a_running_trial_of_a_dead_process_is_taken_over(path: Path) -> None:
    cut(path, {0, 5})
    with closing(Optimizer.resume(path)) as optimizer:
        (again,) = optimizer.reclaim()
        assert (again.id, again.attempt) == (11, 2)


@pytest.mark.parametrize("ids", CUTS.values(), ids=CUTS)
def test_optuna_sees_what_is_left(path: Path, ids: set[int]) -> None:
    cut(path, ids)
    study = to_study(path)
    assert [trial.number for trial in study.trials] == stored_ids(path)
    if len(ids) < 7:
        with closing(Optimizer.resume(path)) as optimizer:
            assert study.best_trial.number == optimizer.best.id
            plot_convergence(optimizer.trials, "maximize")
        assert list(study.trials_dataframe()["number"]) == stored_ids(path)


@pytest.mark.parametrize("ids", [FEW[0], *(pytest.param(ids, marks=pytest.mark.slow) for ids in FEW[1:])])
def test_the_command_line_goes_on(path: Path, ids: set[int]) -> None:
    cut(path, ids)
    left, runner = stored_ids(path), CliRunner()

    def call(*arguments: str) -> Any:
        done = runner.invoke(app, [arguments[0], str(path), *arguments[1:], "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert [form["id"] for form in call("trials")] == left
    asked = call("ask")["id"]
    assert asked == max(left, default=-1) + 1
    assert call("tell", str(asked), "9.5")["value"] == 9.5
    assert call("best")["id"] == asked
    assert call("fail", str(call("ask")["id"]), "why")["state"] == "failed"
    assert call("plot", "--out", str(path.with_suffix(".svg")))
    assert runner.invoke(app, ["trials", str(path)]).exit_code == 0
    assert stored_ids(path) == [*left, asked, asked + 1]


def test_minimize_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    def bowl(params: Any) -> float:
        return float((params["x"] - 0.3) ** 2)

    space = Space({"x": Float(0.0, 1.0)})
    minimize(bowl, space, budget=8, storage=path, progress=False)
    cut(path, {0, 3, 7})
    result = minimize(bowl, space, budget=8, storage=path, progress=False)
    assert [trial.id for trial in result.trials] == stored_ids(path) == [1, 2, 4, 5, 6, 7, 8, 9]
    with closing(History.open(path, None)) as history:
        assert {trial.state for trial in history.trials()} == {"finished"}


@pytest.mark.parametrize("ids", [pytest.param({0}, marks=pytest.mark.slow), {1, 3}])
def test_a_search_of_scikit_learn_goes_on(tmp_path: Path, ids: set[int]) -> None:
    path, draw = tmp_path / "run.db", np.random.default_rng(0)
    x = draw.normal(size=(30, 3))
    y = x[:, 0] + 0.1 * draw.normal(size=30)

    def search(count: int) -> BOSearchCV:
        space = {"alpha": Float(1e-3, 1e3, log=True)}
        return BOSearchCV(Ridge(), space, count, cv=2, storage=path, random_state=0).fit(x, y)

    before = search(5)
    cut(path, ids)
    after = search(7)
    left = [number for number in range(5) if number not in ids]
    numbers = [trial.id for trial in after.trials_]
    assert numbers == [*left, *range(5, 5 + 7 - len(left))]
    alphas = [before.cv_results_["params"][number]["alpha"] for number in left]
    assert [params["alpha"] for params in after.cv_results_["params"]][: len(left)] == alphas
    scores = before.cv_results_["mean_test_score"][left]
    assert np.array_equal(after.cv_results_["mean_test_score"][: len(left)], scores)
    assert len(set(map(str, after.cv_results_["params"]))) == 7

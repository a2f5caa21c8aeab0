"""Parameters with one value: every point holds them, and no search pays for them."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import Bore, LogExpectedImprovement, ThompsonSampling
from bo_suite.bench.replicates import run_replicates
from bo_suite.cli import app
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.optuna import BoSuiteSampler
from bo_suite.integrations.optuna_trials import to_distribution, to_translation
from bo_suite.integrations.optuna_view import to_study
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.problems import Problem

SINGLE = {
    "int": (Int(3, 3), 3),
    "log int": (Int(7, 7, log=True), 7),
    "negative": (Int(-4, -4), -4),
    "zero": (Int(0, 0), 0),
    "float": (Float(2.0, 2.0), 2.0),
    "log float": (Float(1e-3, 1e-3, log=True), 1e-3),
    "zero float": (Float(0, 0), 0.0),
    "huge": (Float(1e300, 1e300), 1e300),
    "tiny": (Float(5e-324, 5e-324), 5e-324),
    "epochs": (Int(27, 27, fidelity=True), 27),
    "share": (Float(1.0, 1.0, fidelity=True), 1.0),
    "choice": (Choice(["only"]), "only"),
    "ordered": (Choice([None], ordered=True), None),
}
PARAMETERS = {name: parameter for name, (parameter, _) in SINGLE.items()}
VALUES = {name: value for name, (_, value) in SINGLE.items()}


def loss(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + 0.1 * (params.get("n", 5) - 5) ** 2)


@pytest.mark.parametrize("name", SINGLE)
def test_a_parameter_of_one_value_has_one_level(name: str) -> None:
    parameter, value = SINGLE[name]
    assert parameter.levels == 1
    assert parameter.check(value) == value
    assert parameter.encode(value) == 0.0
    for unit in (0.0, 0.3, 0.5, 1.0):
        found = parameter.decode(unit)
        assert (type(found), found) == (type(value), value)
    with pytest.raises(SpaceError):
        parameter.check("other" if isinstance(parameter, Choice) else float(value) + 1.0 + abs(float(value)))
    if not isinstance(parameter, Float):
        uniform = np.array([0.0, 0.5, 1.0])
        for found in (parameter.position(np.zeros(3)), parameter.level(uniform), parameter.quantile(uniform)):
            assert found.tolist() == [0.0] * 3


def test_a_space_holds_them_in_every_point() -> None:
    space = Space({"x": Float(0, 1), **PARAMETERS, "n": Int(1, 9)})
    rows = space.encoding.sample_from_unit(torch.rand(20, space.dim, dtype=torch.float64))
    points = space.decode(rows)
    assert {name: points[0][name] for name in VALUES} == VALUES
    assert space.decode(space.encode(points)) == points
    assert torch.equal(space.encode(points), space.encoding.project(rows))
    assert (
        space.encoding.project(space.encoding.round_to_levels(torch.rand(3, space.dim)))[:, 1:-1].abs().max()
        == 0.0
    )
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.varying.names == ("x", "n")
    assert torch.equal(space.widened(space.varying.encode(points)), space.encode(points))
    assert space.fidelities == ()
    assert space.target_fidelity == {"epochs": 27, "share": 1.0}
    with pytest.warns(DeprecationWarning, match="target_fidelity"):
        assert space.target == space.target_fidelity
    assert [space.at_target(point) for point in points] == points
    floats = Space({"x": Float(0, 1), "f": Float(2.0, 2.0)})
    assert floats.encoding.values(torch.full((1, 2), 0.5)).tolist() == [[0.5, 2.0]]


def test_a_space_without_them_is_what_a_search_is_about() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 9)})
    assert space.varying is space
    rows = torch.rand(2, 2)
    assert space.widened(rows) is rows


def asked(space: Space, acquisition: Any, count: int, **given: Any) -> list[tuple[Any, Any]]:
    optimizer = Optimizer(space, acquisition, **given)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
    found = [(trial.params["x"], trial.params["n"]) for trial in optimizer.trials]
    best, bound = optimizer.recommend(), optimizer.regret_bound()
    return [*found, (best["x"], best["n"]), bound.value]


@pytest.mark.parametrize(
    "acquisition",
    [
        LogExpectedImprovement(),
        pytest.param(ThompsonSampling(), marks=pytest.mark.slow),
        pytest.param(Bore(), marks=pytest.mark.slow),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_search_beside_them_is_the_search_without_them(acquisition: Any) -> None:
    plain = {"x": Float(0, 1), "n": Int(1, 9)}
    beside = Space({"f": Float(2.0, 2.0), "x": plain["x"], **PARAMETERS, "n": plain["n"]})
    assert asked(beside, acquisition, 8) == asked(Space(plain), acquisition, 8)


def test_batches_and_the_default_acquisition_take_no_note_of_them() -> None:
    plain, beside = Space({"x": Float(0, 1)}), Space({"epochs": Int(9, 9, fidelity=True), "x": Float(0, 1)})
    first, second = Optimizer(plain), Optimizer(beside)
    for _ in range(2):
        for one, other in zip(first.ask(5), second.ask(5), strict=True):
            assert other.params == {"epochs": 9, "x": one.params["x"]}
            assert one.provenance.get("acquisition") == other.provenance.get("acquisition")
            first.tell(one, loss(one.params))
            second.tell(other, loss(other.params))
    assert second.best.params["x"] == first.best.params["x"]


@pytest.mark.slow
def test_replicates_are_the_runs_of_optimizers_beside_them() -> None:
    space = Space({"f": Float(2.0, 2.0), "x": Float(0, 1), "n": Int(1, 9), "k": Choice(["only"])})
    problem = Problem(
        "bowl", space, loss, minimum=0.0, minimizers=({"f": 2.0, "x": 0.3, "n": 5, "k": "only"},)
    )
    found = run_replicates(problem, LogExpectedImprovement(), [0, 1], 8)
    optimizer = Optimizer(space, LogExpectedImprovement(), seed=1, budget=8)
    for evaluation in found.evaluations()[1]:
        trial = optimizer.ask()
        assert trial.params["x"] == pytest.approx(evaluation.params["x"], abs=1e-6)
        assert trial.params | {"x": 0} == evaluation.params | {"x": 0}
        optimizer.tell(trial, loss(trial.params))


@pytest.mark.parametrize(
    "parameters",
    [{"a": Int(3, 3), "b": Float(2.0, 2.0)}, {"b": Float(1e-3, 1e-3, log=True)}, {"k": Choice(["only"])}],
)
def test_where_nothing_varies_there_is_one_point(parameters: dict[str, Any], tmp_path: Path) -> None:
    space = Space(parameters)
    assert space.cardinality == 1
    path = tmp_path / "run.db"
    with closing(Optimizer(space, storage=path)) as optimizer:
        optimizer.tell(optimizer.ask(), 1.0)
        only = space.decode(torch.zeros(1, space.dim))[0]
        assert optimizer.best.params == optimizer.recommend() == only
    with closing(Optimizer.resume(path)) as again, pytest.raises(SpaceExhausted):
        again.ask()


def test_a_run_ends_where_nothing_varies() -> None:
    result = minimize(lambda params: 1.0, Space({"b": Float(2.0, 2.0)}), 5, progress=False)
    assert len(result.trials) == 1
    assert "the only point of the space has been suggested" in str(result.stopped)


def test_a_fidelity_alone_may_vary() -> None:
    space = Space({"x": Int(3, 3), "epochs": Int(1, 9, fidelity=True)})
    assert space.varying is space
    optimizer = Optimizer(space)
    for _ in range(3):
        trial = optimizer.ask()
        assert trial.params["x"] == 3
        optimizer.tell(trial, 1.0 / trial.params["epochs"])
    assert optimizer.recommend() == {"x": 3, "epochs": 9}
    with pytest.raises(SpaceError, match="a parameter that is no fidelity"):
        Space({"epochs": Int(9, 9, fidelity=True)})


def test_files_and_the_shell(tmp_path: Path) -> None:
    toml = tmp_path / "space.toml"
    toml.write_text(
        '[x]\ntype = "float"\nlow = 0\nhigh = 1\n[n]\ntype = "int"\nlow = 3\nhigh = 3\n'
        '[lr]\ntype = "float"\nlow = 1e-3\nhigh = 1e-3\nlog = true\n'
    )
    run = str(tmp_path / "run.db")
    asked = CliRunner().invoke(app, ["ask", run, "--space", str(toml), "--json"])
    params = json.loads(asked.stdout)["params"]
    assert (params["n"], params["lr"]) == (3, 1e-3)
    assert CliRunner().invoke(app, ["tell", run, "0", "0.5"]).exit_code == 0
    shown = CliRunner().invoke(app, ["best", run])
    assert shown.exit_code == 0
    assert to_study(run).best_params["n"] == 3


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ((3, 3), 3),
        ((2.0, 2.0), 2.0),
        ((1e-3, 1e-3, "log-uniform"), 1e-3),
        (range(3, 4), 3),
        (stats.randint(3, 4), 3),
        ([3], 3),
        (Float(2.0, 2.0), 2.0),
    ],
)
def test_distributions_of_one_value(given: Any, value: Any) -> None:
    translation = translated({"x": (0.0, 1.0), "n": given})
    assert translation.space.varying.names == ("x",)
    point = translation.theirs(translation.space.decode(torch.full((1, 2), 0.5))[0])
    assert (type(point["n"]), point["n"]) == (type(value), value)


def test_a_search_of_scikit_learn() -> None:
    x, y = load_iris(return_X_y=True)
    space = {"n_neighbors": (3, 3), "p": range(1, 3), "leaf_size": [30]}
    search = BOSearchCV(KNeighborsClassifier(), space, n_iter=4, cv=3, random_state=0).fit(x, y)
    assert {point["n_neighbors"] for point in search.cv_results_["params"]} == {3}
    assert len(search.cv_results_["params"]) == 2
    assert "have been suggested" in str(search.stopped_)


def test_distributions_of_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: to_distribution(parameter) for name, parameter in PARAMETERS.items()}
    assert all(distribution.single() for distribution in distributions.values())
    translation = to_translation({**distributions, "x": to_distribution(Float(0, 1))})
    assert translation.space.names == ("x",)
    assert translation.theirs({"x": 0.5}) == {**VALUES, "x": 0.5}
    names = ("int", "log float", "choice")
    space = Space({"x": Float(0, 1), **{name: PARAMETERS[name] for name in names}})
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=0))

    def objective(trial: optuna.Trial) -> float:
        assert trial.suggest_int("int", 3, 3) == 3
        assert trial.suggest_float("log float", 1e-3, 1e-3, log=True) == 1e-3
        assert trial.suggest_categorical("choice", ["only"]) == "only"
        return (trial.suggest_float("x", 0, 1) - 0.3) ** 2

    study.optimize(objective, 8)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}

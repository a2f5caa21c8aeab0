"""Spaces with fidelities: what counts as best, who refuses them, and problems that have them."""

import io
import json
import math
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.testing import assert_close
from typer.testing import CliRunner

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import (
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.acquisition.default import default_acquisition
from bo_suite.acquisition.likely import build_score
from bo_suite.cli import app
from bo_suite.data import Columns, Seeds
from bo_suite.errors import DataError, StorageError, TrialError
from bo_suite.problems import embedded, get_problem, mixed, noisy, shifted
from bo_suite.problems.fidelity import FIDELITY
from bo_suite.problems.synthetic import _botorch
from bo_suite.run import minimize as loop
from bo_suite.study.suggest import Suggester
from bo_suite.testing import check_problem
from bo_suite.testing.data import dataset

SPACE = Space({"x": Float(-1, 2), "s": Float(0, 1, fidelity=True), "k": Choice(["a", "b"])})


def told(optimizer: Optimizer, *outcomes: tuple[float, float, float]) -> Optimizer:
    """The optimiser told of values at (x, s)."""
    for x, s, value in outcomes:
        optimizer.add({"x": x, "s": s, "k": "a"}, value)
    return optimizer


@dataclass(frozen=True)
class Ramp:
    """The column of the fidelity, less the first one."""

    fidelity: int
    differentiable: bool = field(default=True, init=False)
    hyperparameters: None = field(default=None, init=False)

    def __call__(self, x: Tensor) -> Tensor:
        return x[..., self.fidelity] - x[..., 0]


@dataclass(frozen=True)
class ToTheTarget:
    """Leads to the target fidelity and the left end of the first column."""

    supports = frozenset({"fidelities"})

    def build(self, data, seeds, start=None):
        (column,) = data.fidelities
        return Ramp(column)


# --- the best, at the target -----------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "expected"), [("minimize", 2), ("maximize", 1)])
def test_the_best_is_at_the_target(direction: str, expected: int) -> None:
    optimizer = told(
        Optimizer(SPACE, direction=direction),
        (0.0, 0.2, -9.0),
        (0.1, 1.0, 2.0),
        (0.2, 1.0, 1.0),
        (0.3, 0.9, 9.0),
    )
    assert optimizer.best.id == expected
    result = loop.Result(optimizer.trials, direction, None, SPACE)
    assert result.best == optimizer.best


def test_without_a_trial_at_the_target_there_is_no_best() -> None:
    optimizer = told(Optimizer(SPACE), (0.0, 0.2, -9.0), (0.1, 0.5, 2.0))
    with pytest.raises(
        TrialError, match=r"at the target fidelity .* got 2 finished, none with \{'s': 1.0\}$"
    ):
        _ = optimizer.best
    with pytest.raises(TrialError, match="none finished"):
        _ = Optimizer(SPACE).best


def test_a_recommendation_is_judged_at_the_target() -> None:
    optimizer = Optimizer(SPACE)
    for x in (-1.0, -0.5, 0.0, 0.6, 1.0, 1.5, 2.0):
        for s in (0.0, 0.5, 1.0):  # the best place moves from 1.5 to 0.3
            told(optimizer, (x, s, s * (x - 0.3) ** 2 + (1 - s) * ((x - 1.5) ** 2 - 3.0)))
    told(optimizer, (0.3, 0.0, (0.3 - 1.5) ** 2 - 3.0))
    assert min(optimizer.trials, key=lambda trial: trial.value).params["x"] == 1.5
    point = optimizer.recommend()
    assert abs(point["x"] - 0.3) < 0.1
    assert point["s"] == 1.0
    assert optimizer.best.params["x"] in (0.0, 0.6)


def test_the_plot_is_of_the_trials_at_the_target() -> None:
    optimizer = told(Optimizer(SPACE), (0.0, 0.2, -9.0), (0.1, 1.0, 2.0), (0.2, 1.0, 1.0))
    lines = loop.Result(optimizer.trials, "minimize", None, SPACE).plot().axes[0].get_lines()
    (dots,) = [line for line in lines if line.get_label() == "evaluation"]
    assert list(dots.get_xdata()) == [1, 2]
    assert list(dots.get_ydata()) == [2.0, 1.0]
    away = told(Optimizer(SPACE), (0.0, 0.2, -9.0))
    assert loop.Result(away.trials, "minimize", None, SPACE).plot().axes


def test_the_progress_bar_speaks_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=True)
    monkeypatch.setattr("rich.console.Console", lambda stderr: console)
    optimizer = Optimizer(SPACE)
    with loop._bar(True, optimizer, 4) as show:
        told(optimizer, (0.0, 0.2, -9.0))
        show()
    assert "none at the target fidelity" in written.getvalue()
    with loop._bar(True, told(optimizer, (0.1, 1.0, 2.5)), 4):
        pass
    assert "best 2.5" in written.getvalue()


# --- histories and runs ----------------------------------------------------------------------------------


def test_a_history_keeps_fidelities_and_is_not_that_of_a_space_without(tmp_path: Path) -> None:
    told(Optimizer(SPACE, storage=tmp_path / "run.db"), (0.0, 1.0, 3.0)).close()
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert resumed.space == SPACE
    assert resumed.best.value == 3.0
    plain = Space({**SPACE.parameters, "s": Float(0, 1)})
    with pytest.raises(StorageError, match=r"another space: 's': .*fidelity=True\), got"):
        Optimizer(plain, storage=tmp_path / "run.db")


def test_data_tell_which_columns_are_which() -> None:
    space = Space({"n": Int(1, 9), **SPACE.parameters, "epochs": Int(1, 81, log=True, fidelity=True)})
    data = Suggester(space, default_acquisition(space.aspects)).observations.dataset([])
    assert (data.unordered, data.columns.discrete, data.fidelities) == ((3,), (0, 3, 4), (2, 4))
    moved = replace(data, y=data.y + 1.0)
    assert moved.columns == data.columns


def test_the_function_is_given_the_fidelity_and_the_data_tell_of_it() -> None:
    problem, seen = get_problem("augmented_branin"), []

    def f(params: dict) -> float:
        seen.append(dict(params))
        return problem(params)

    result = minimize(f, problem.space, budget=9, acquisition=ToTheTarget(), progress=False)
    assert [trial.params for trial in result.trials] == seen
    assert {tuple(point) for point in seen} == {("x1", "x2", "fidelity")}
    assert {trial.state for trial in result.trials} == {"finished"}
    assert [point["fidelity"] for point in seen[:3]] == [0.0] * 3, "the start is made where points are cheap"
    assert [(point["fidelity"], point["x1"]) for point in seen[3:5]] == [(1.0, -5.0)] * 2
    assert result.best.params["fidelity"] == 1.0
    assert result.best.value >= problem.minimum


@pytest.mark.parametrize(
    "acquisition",
    [LogExpectedImprovement(), NoisyExpectedImprovement(), UpperConfidenceBound(), ThompsonSampling()],
    ids=lambda acquisition: type(acquisition).__name__,
)
def test_acquisitions_of_one_fidelity_refuse_more(acquisition) -> None:
    data = replace(dataset(6), columns=Columns(fidelities=(0,)))
    with pytest.raises(DataError) as caught:
        build_score(acquisition, data, Seeds.of(0, 1))
    advice = "choose KnowledgeGradient, or an acquisition that lists them in `supports`"
    assert str(caught.value) == f"{type(acquisition).__name__} does not support fidelities: {advice}"


def test_a_refusal_comes_before_the_first_evaluation(tmp_path: Path) -> None:
    storage, problem = tmp_path / "run.db", get_problem("branin_3_fidelities")
    with pytest.raises(DataError, match="UpperConfidenceBound does not support fidelities"):
        minimize(
            problem, problem.space, 9, acquisition=UpperConfidenceBound(), storage=storage, progress=False
        )
    assert not storage.exists()


# --- the command line ------------------------------------------------------------------------------------


def call(line: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_commands_rank_and_draw_what_is_at_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told(Optimizer(SPACE, storage="run.db"), (0.0, 0.2, -9.0)).close()
    assert "none with {'s': 1.0}" in call("best run.db", code=1)
    told(Optimizer.resume("run.db"), (0.1, 1.0, 2.0), (0.2, 1.0, 1.0)).close()
    assert json.loads(call("best run.db --json"))["id"] == 2
    assert [trial["id"] for trial in json.loads(call("trials run.db --top 3 --json"))] == [2, 1]
    assert [trial["id"] for trial in json.loads(call("trials run.db --json"))] == [0, 1, 2]
    call("plot run.db --minimum 0")
    assert Path("run.png").stat().st_size > 1000


def test_the_command_minimize_says_when_nothing_is_at_the_target() -> None:
    assert "best: none at the target fidelity, of 2 evaluated, 0 failed" in call(
        "minimize augmented_branin --budget 2"
    )
    report = json.loads(call("minimize augmented_branin --budget 2 --json"))
    assert report["best"] is None
    assert len(report["trials"]) == 2
    refusal = call("minimize branin_3_fidelities --budget 6 --acquisition thompson-sampling", code=1)
    assert refusal.splitlines()[-1].startswith("error: ThompsonSampling does not support fidelities")


# --- problems --------------------------------------------------------------------------------------------


def points_of(space: Space, count: int) -> list[dict]:
    uniform = torch.rand(count, space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return space.decode(space.encoding.sample_from_unit(uniform))


@pytest.mark.parametrize(
    ("name", "kind", "dim"),
    [("augmented_branin", "AugmentedBranin", 3), ("augmented_hartmann6", "AugmentedHartmann", 7)],
)
def test_augmented_problems_are_those_of_botorch(name: str, kind: str, dim: int) -> None:
    problem, theirs = get_problem(name), _botorch(kind, dim)
    bounds = [[parameter.low, parameter.high] for _, parameter in problem.space]
    assert bounds == theirs.bounds.mT.tolist()
    points = points_of(problem.space, 200)
    x = torch.tensor([list(point.values()) for point in points], dtype=torch.float64)
    ours = torch.tensor([problem(point) for point in points], dtype=torch.float64)
    assert_close(ours, theirs.evaluate_true(x), rtol=1e-12, atol=1e-12)
    assert problem.minimum == pytest.approx(theirs.optimal_value, abs=1e-5)


@pytest.mark.parametrize("name", FIDELITY)
def test_the_target_is_the_known_function(name: str) -> None:
    problem, known = get_problem(name), get_problem(FIDELITY[name].target)
    assert problem.space.fidelities == (known.space.dim,)
    for point in points_of(problem.space, 50):
        final = problem.space.at_target(point)
        plain = {key: final[key] for key in known.space.parameters}
        assert problem(final) == pytest.approx(known(plain), rel=1e-12, abs=1e-12)
    assert problem.minimum == pytest.approx(known.minimum, rel=1e-12)
    assert len(problem.minimizers) == len(known.minimizers)


def test_the_levels_of_three_fidelities_are_shares_of_the_augmented_one() -> None:
    three, augmented = get_problem("branin_3_fidelities"), get_problem("augmented_branin")
    assert three.space.parameters["fidelity"] == Int(1, 3, fidelity=True)
    for level, share in ((1, 0.0), (2, 0.5), (3, 1.0)):
        point = {"x1": 2.5, "x2": 7.0}
        assert three({**point, "fidelity": level}) == augmented({**point, "fidelity": share})
    values = {three({"x1": 2.5, "x2": 7.0, "fidelity": level}) for level in (1, 2, 3)}
    assert len(values) == 3


def test_lower_fidelities_may_be_below_the_minimum_but_the_target_may_not() -> None:
    problem = get_problem("augmented_hartmann6")
    lowered = replace(problem, function=Deeper(1.0))
    assert lowered({**problem.minimizers[0], "fidelity": 0.0}) < problem.minimum - 5
    check_problem(lowered)
    with pytest.raises(AssertionError, match="below the minimum"):
        check_problem(replace(problem, function=Deeper(0.0), minimizers=()))
    away = {**problem.minimizers[0], "fidelity": 0.5}
    with pytest.raises(AssertionError, match="a minimizer must be at the target fidelity"):
        check_problem(replace(problem, minimizers=(away,)))


@dataclass(frozen=True)
class Deeper:
    """Augmented Hartmann, lower by ten times the distance of the fidelity to a share."""

    share: float

    def __call__(self, params: dict) -> float:
        value = FIDELITY["augmented_hartmann6"].function(params)
        return value - 10.0 * abs(self.share - params["fidelity"])


@pytest.mark.parametrize("name", FIDELITY)
def test_wrappers_leave_the_fidelity_as_it_is(name: str) -> None:
    problem = get_problem(name)
    parameter = problem.space.parameters["fidelity"]
    for wrapped in (noisy(problem, 0.1), shifted(problem, 1), noisy(shifted(problem), 0.2, seed=1)):
        check_problem(wrapped)
        assert wrapped.space.parameters["fidelity"] == parameter
        assert wrapped.space.fidelities == problem.space.fidelities
    assert shifted(problem, 1).space != problem.space
    wider = embedded(problem, problem.space.dim + 2, seed=1)
    check_problem(wider)
    assert [wider.space.parameters[key] for key in wider.space.target_fidelity] == [parameter]
    reduced = mixed(problem, integers=(0,), unordered=(1,), levels=4)
    check_problem(reduced)
    assert reduced.space.parameters["fidelity"] == parameter


def test_a_fidelity_is_not_reduced_to_levels() -> None:
    with pytest.raises(DataError, match="a fidelity cannot be reduced to levels, got 'fidelity'"):
        mixed(get_problem("augmented_branin"), integers=(2,))
    assert math.isfinite(mixed(get_problem("augmented_branin"), integers=(0,)).minimum)

"""Runs over conditional spaces: what is asked, stored, changed, shown and read back."""

import contextlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from branching import SMALL, TREE, every_point
from typer.testing import CliRunner

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import Bore, KnowledgeGradient, SteinBatch, ThompsonSampling
from bo_suite.bench.replicates import run_replicates
from bo_suite.cli import app
from bo_suite.errors import SpaceError, SpaceExhausted, TableError, TrialError
from bo_suite.plot import (
    plot_contour,
    plot_convergence,
    plot_cross_validation,
    plot_importance,
    plot_parallel,
    plot_slices,
)
from bo_suite.problems import Problem
from bo_suite.report import report_run
from bo_suite.storage.csv_files import read_csv, read_points, write_csv
from bo_suite.study.initial import initial_size

RBF = {"model": "svm", "kernel": "rbf", "gamma": 0.5, "scale": "unit"}


def loss(params: dict[str, Any]) -> float:
    value = {"svm": 0.0, "forest": 0.3, "linear": 0.8}[params["model"]] + 0.1 * (params["scale"] == "none")
    value += abs(math.log10(params["gamma"]) + 2) / 4 if "gamma" in params else 0.2
    value += abs(params["degree"] - 3) / 10 if "degree" in params else 0.1
    return float(value + abs(params.get("depth", 6) - 6) / 12 + abs(params.get("share", 0.5) - 0.5))


def run(storage: Path | None, count: int, **settings: Any) -> Optimizer:
    opt = Optimizer(TREE, storage=storage, **settings)
    for _ in range(count):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params))
    return opt


@pytest.fixture(scope="module")
def nine_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("conditional") / "run.db"
    run(file, 9, seed=4).close()
    return file


@pytest.fixture
def storage(nine_trials: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copy(nine_trials, tmp_path))


@pytest.fixture
def opt(storage: Path) -> Iterator[Optimizer]:
    with contextlib.closing(Optimizer.resume(storage)) as opt:
        yield opt


@pytest.fixture
def _coarse_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows and draws: what is shown is tested, and tests/study/test_importance.py tests the numbers."""
    monkeypatch.setattr("bo_suite.study.importance._MOST_POINTS", 256)
    monkeypatch.setattr("bo_suite.study.importance._POINTS_OF_DRAWS", 64)
    monkeypatch.setattr("bo_suite.study.importance._DRAWS", 4)


# Asking.


@pytest.mark.parametrize(
    "acquisition",
    [None, ThompsonSampling(), Bore(), KnowledgeGradient(candidates=2, quantiles=3)],
    ids=lambda acquisition: type(acquisition).__name__,
)
def test_every_acquisition_asks_for_points_of_the_space(acquisition: Any) -> None:
    opt = run(None, 9, acquisition=acquisition)
    assert all(TREE.check(trial.params) == trial.params for trial in opt.trials)
    assert len({json.dumps(trial.params) for trial in opt.trials}) == 9
    assert len({trial.params["model"] for trial in opt.trials}) == 3


def test_a_joint_batch_is_of_points_of_the_space() -> None:
    opt = run(None, 8, acquisition=Bore())
    batch = opt.ask(5, SteinBatch())
    assert all(TREE.check(trial.params) == trial.params for trial in batch)
    assert len({json.dumps(trial.params) for trial in batch}) == 5


def test_initial_points_are_in_every_branch() -> None:
    for seed in range(4):
        opt = run(None, 6, seed=seed)
        assert len({trial.params["model"] for trial in opt.trials}) == 3
        chosen = [trial.provenance.get("chosen", {}).get("branch") for trial in opt.trials]
        assert chosen[0] is None  # the centre
        assert len({branch for branch in chosen if branch}) >= 2


def test_the_design_covers_the_branches_with_at_most_a_quarter_of_the_budget() -> None:
    options = Choice([f"o{index}" for index in range(15)])
    space = Space({"k": options, "x": Float(0, 1, when={"k": ["o1", "o2"]}), "y": Float(0, 1)})
    plain = Space({"x": Float(0, 1)})
    sizes = [initial_size(budget, space) for budget in (None, 4, 20, 40, 60, 400)]
    assert sizes == [15, 2, 6, 10, 15, 15]
    assert [initial_size(budget, plain) for budget in (None, 4, 12, 400)] == [6, 2, 4, 6]
    opt = Optimizer(space, seed=2, budget=60)
    for number in range(16):
        opt.tell(opt.ask(), float(number % 3))
    assert Counter(trial.params["k"] for trial in opt.trials[:15]) == dict.fromkeys(options.options, 1)
    assert {trial.params["x"] for trial in opt.trials[:15] if "x" in trial.params} == {0.5}
    assert len({trial.params["y"] for trial in opt.trials[:15]}) == 15, "what is always active is spread out"
    sources = [trial.provenance["source"] for trial in opt.trials]
    assert sources == ["design"] * 15 + ["acquisition"]


@pytest.mark.slow
def test_a_branch_that_is_never_good_gets_some_points_and_no_more() -> None:
    space = Space(
        {
            "k": Choice(["good", "bad", "worse"]),
            "x": Float(0, 1, when={"k": "good"}),
            "y": Float(0, 1, when={"k": ["bad", "worse"]}),
        }
    )
    opt = Optimizer(space, seed=1)
    for _ in range(30):
        trial = opt.ask()
        opt.tell(
            trial, {"good": 0.0, "bad": 5.0, "worse": 9.0}[trial.params["k"]] + trial.params.get("x", 1.0)
        )
    counts = Counter(trial.params["k"] for trial in opt.trials)
    assert min(counts["bad"], counts["worse"]) >= 2
    assert counts["good"] >= 18
    reasons = [trial.provenance.get("chosen", {}).get("branch") for trial in opt.trials[6:]]
    assert {reason for reason in reasons if reason} <= {"k is 'bad'", "k is 'worse'"}


def test_a_finite_space_is_exhausted_after_its_last_point() -> None:
    opt = Optimizer(SMALL, seed=0, initial=(SMALL.cardinality or 0) - 6)
    asked = set()
    for number in range(SMALL.cardinality or 0):
        trial = opt.ask()
        asked.add(tuple(trial.params.items()))
        opt.tell(trial, float(number % 7), std=0.0)
    assert asked == every_point(SMALL)
    with pytest.raises(SpaceExhausted, match=f"all {SMALL.cardinality} points of the space"):
        opt.ask()


def test_fixed_and_queued_values_bring_their_parents(opt: Optimizer) -> None:
    trial = opt.ask(fixed={"degree": 4})
    assert (trial.params["model"], trial.params["kernel"], trial.params["degree"]) == ("svm", "poly", 4)
    opt.tell(trial, 1.0)
    assert set(opt.ask(fixed={"model": "linear"}).params) == {"model", "share", "scale"}
    opt.enqueue([{"leaf": 3, "depth": 5}, RBF, {"kernel": "sigmoid"}])
    assert opt.queue[0] == {"model": "forest", "depth": 5, "leaf": 3}
    first, second, third = opt.ask(3)
    assert (first.params["model"], first.params["depth"], first.params["leaf"]) == ("forest", 5, 3)
    assert second.params == RBF
    assert second.provenance["source"] == "queue"
    assert third.params["kernel"] == "sigmoid"
    for wrong in ({"leaf": 3}, {"degree": 3, "model": "forest"}):
        with pytest.raises(
            SpaceError, match=r"'depth' must be given|'kernel' is only active|'degree' is only"
        ):
            opt.enqueue(wrong)
    opt.enqueue({"kernel": "rbf"})
    assert "kernel" not in opt.ask(fixed={"model": "forest"}).params  # the queued point does not agree
    assert opt.recommend(fixed={"kernel": "poly"})["model"] == "svm"


def test_contexts_decide_what_is_active() -> None:
    space = Space(
        {
            "day": Choice(["mon", "sun"], context=True),
            "x": Float(0, 1),
            "y": Int(1, 3, when={"day": "sun"}),
        }
    )
    opt = Optimizer(space, seed=0)
    for number in range(10):
        day = ["mon", "sun"][number % 2]
        trial = opt.ask(fixed={"day": day})
        assert ("y" in trial.params) == (day == "sun")
        opt.tell(trial, trial.params["x"] + trial.params.get("y", 0))
    assert opt.recommend(fixed={"day": "mon"}).keys() == {"day", "x"}


def test_replicates_are_their_solo_runs() -> None:
    problem = Problem("tree", TREE, loss, None)
    together = run_replicates(problem, None, (3, 5), budget=8)
    for index, seed in enumerate((3, 5)):
        opt = run(None, 8, seed=seed, budget=8)
        points = TREE.decode(together.rows[index])
        assert points == [trial.params for trial in opt.trials]


def test_minimize_and_its_result() -> None:
    result = minimize(loss, TREE, budget=9, seed=2, progress=False)
    frame = result.to_frame()
    assert len(frame) == 9
    assert TREE.check(result.best.params) == result.best.params
    assert "<td></td>" in (result._repr_html_() or "")
    again = [
        TREE.check({name: row[f"param_{name}"] for name in TREE.names if f"param_{name}" in frame})
        for _, row in frame.iterrows()
    ]
    assert again == [trial.params for trial in result.trials]


# Histories.


def test_a_run_is_resumed_with_the_same_next_point(opt: Optimizer, storage: Path) -> None:
    assert opt.space == TREE
    assert opt.ask().params == run(None, 9, seed=4).ask().params
    with pytest.raises(Exception, match="belongs to another space"):
        Optimizer(
            Space({**TREE.parameters, "leaf": Int(1, 9, when={"depth": (4, 9)})}),
            storage=storage,
            seed=4,
        )


def test_observations_from_elsewhere_and_corrections(opt: Optimizer) -> None:
    trial = opt.add(RBF, 0.05)
    assert opt.amend(trial, 0.01).value == 0.01
    opt.add_failed({"model": "linear", "share": 0.9, "scale": "none"}, "broke")
    opt.forget(opt.trials[0])
    assert opt.best.params == RBF
    with pytest.raises(SpaceError, match="'degree' is only active when kernel is 'poly', got kernel='rbf'"):
        opt.add({**RBF, "degree": 3}, 1.0)
    for _ in range(2):
        opt.tell(trial := opt.ask(), loss(trial.params))


def test_a_table_has_blank_cells_for_inactive_parameters(opt: Optimizer, tmp_path: Path) -> None:
    opt.add_failed(RBF, "broke")
    write_csv(opt.trials, TREE, tmp_path / "run.csv")
    past = read_csv(tmp_path / "run.csv", TREE)
    assert [one.params for one in past.observations] == [trial.params for trial in opt.trials]
    assert read_points(tmp_path / "run.csv", TREE) == [trial.params for trial in opt.trials]
    (tmp_path / "few.csv").write_text("model,kernel,gamma,scale,value\nsvm,rbf,0.5,unit,1\nlinear,,,unit,2\n")
    with pytest.raises(TableError, match="line 3: parameter 'share' must be given, as it is active when"):
        read_csv(tmp_path / "few.csv", TREE)
    (tmp_path / "few.csv").write_text(
        "model,kernel,gamma,share,scale,value\nsvm,rbf,0.5,,unit,1\nlinear,,,0.5,unit,2\n"
    )
    assert len(read_csv(tmp_path / "few.csv", TREE).observations) == 2
    (tmp_path / "few.csv").write_text("model,kernel,gamma,share,scale,value\nsvm,rbf,0.5,0.5,unit,1\n")
    with pytest.raises(TableError, match="line 2: 'share' is only active when model is 'forest' or 'linear'"):
        read_csv(tmp_path / "few.csv", TREE)


def test_the_frame_of_a_run_can_be_predicted_at(opt: Optimizer) -> None:
    frame = opt.to_frame()
    assert bool(frame["param_gamma"].isna().any())
    points = pd.DataFrame({name: frame[f"param_{name}"] for name in TREE.names if f"param_{name}" in frame})
    predicted = opt.predict(points)
    assert len(predicted) == 9
    assert not predicted["outside"].any()
    importance = opt.importance()
    assert set(importance.index) == set(TREE.names)
    assert bool(importance[["main", "total"]].notna().all().all())


# Changes of the space.


def test_ranges_of_conditional_parameters_change_and_conditions_do_not(opt: Optimizer) -> None:
    opt.extend({"degree": Int(2, 9, when={"kernel": "poly"})})
    opt.tell(trial := opt.ask(), loss(trial.params))
    assert opt.space["degree"] == Int(2, 9, when={"kernel": "poly"})
    for other in (Int(2, 9), Int(2, 9, when={"kernel": ["poly", "rbf"]})):
        with pytest.raises(SpaceError, match="the condition of 'degree' must stay kernel is 'poly', got"):
            opt.extend({"degree": other})
    with pytest.raises(SpaceError, match="the condition of 'scale' must stay None, got kernel is 'poly'"):
        opt.extend({"scale": Choice(["none", "unit"], when={"kernel": "poly"})})


def test_a_new_conditional_parameter_has_its_value_where_it_is_active(opt: Optimizer) -> None:
    with pytest.raises(
        SpaceError, match="parameter 'cost' must be given, as it is active when model is 'svm'"
    ):
        opt.extend({"cost": Float(0, 1, when={"model": "svm"})})
    opt.extend({"cost": Float(0, 1, when={"model": "svm"})}, {"cost": 0.25})
    for trial in opt.trials:
        assert trial.params.get("cost") == (0.25 if trial.params["model"] == "svm" else None)
    opt.extend(
        {"model": Choice(["svm", "forest", "linear", "net"]), "width": Int(1, 99, when={"model": "net"})}
    )
    for _ in range(4):
        opt.tell(trial := opt.ask(), loss({**trial.params, "model": "svm"}))
        assert opt.space.check(trial.params) == trial.params


def test_an_option_that_conditions_name_can_be_retired(opt: Optimizer, storage: Path) -> None:
    opt.extend({"kernel": Choice(["poly", "sigmoid"], when={"model": "svm"})})
    assert dict(opt.space["gamma"].when or {}) == {"kernel": ("rbf", "poly")}
    assert dict(opt.space.current["gamma"].when or {}) == {"kernel": ("poly",)}
    assert any(trial.params.get("kernel") == "rbf" for trial in opt.trials)
    for _ in range(5):
        opt.tell(trial := opt.ask(), loss(trial.params))
        assert trial.params.get("kernel") != "rbf"
        assert opt.space.check(trial.params) == trial.params
    current = opt.space.current
    opt.close()
    again = Optimizer(current, storage=storage, seed=4)  # as a user would write it now
    assert again.extend(current) == again.space
    with pytest.raises(SpaceError, match="each parameter must be active in some point, got 'degree'"):
        again.extend({"kernel": Choice(["sigmoid"], when={"model": "svm"})})
    again.close()


# Figures, pages and commands.


@pytest.mark.usefixtures("_coarse_importance")
def test_figures_leave_out_what_is_inactive(opt: Optimizer) -> None:
    recommended = opt.recommend()
    figure = plot_slices(opt)
    assert sum(axes.get_visible() for axes in figure.axes) == len(recommended)
    inactive = next(name for name in TREE.names if name not in recommended)
    with pytest.raises(
        TrialError, match=f"must be active in the recommended point to be drawn, got '{inactive}'"
    ):
        plot_slices(opt, [inactive])
    with pytest.raises(TrialError, match="must be active in the recommended point"):
        plot_contour(opt, inactive)
    inner = [name for name in recommended if TREE[name].when is not None]
    for figure in (
        plot_contour(opt),
        plot_contour(opt, "model", inner[0]),
        plot_convergence(opt),
        plot_importance(opt),
        plot_parallel(opt),
        plot_cross_validation(opt),
    ):
        figure.canvas.draw()


@pytest.mark.usefixtures("_coarse_importance")
def test_the_page_and_the_commands_of_a_run(storage: Path, tmp_path: Path) -> None:
    report_run(storage, tmp_path / "run.html")
    assert "{&#39;kernel&#39;: &#39;poly&#39;}" in (tmp_path / "run.html").read_text()
    cli = CliRunner()

    def call(*arguments: str) -> str:
        result = cli.invoke(app, [*arguments])
        assert result.exit_code == 0, result.output
        return result.output

    asked = json.loads(call("ask", str(storage), "--fixed", "degree=4", "--json"))
    assert asked["params"]["kernel"] == "poly"
    call("tell", str(storage), str(asked["id"]), "0.3")
    call("enqueue", str(storage), "model=linear", "share=0.5")
    assert "linear" in call("enqueue", str(storage), "--list")
    assert json.loads(call("space", str(storage), "--json"))["space"] == TREE.to_dict()
    assert "degree" in call("space", str(storage))
    call("trials", str(storage))
    call("best", str(storage))
    call("why", str(storage), str(asked["id"]))
    call("importance", str(storage))
    call("recommend", str(storage))
    assert "kernel" in call("export", str(storage))
    refused = cli.invoke(app, ["ask", str(storage), "--fixed", "leaf=4"])
    assert refused.exit_code != 0
    assert "'depth' must be given with 'leaf'" in " ".join(refused.output.split())


def test_a_contour_whose_parameters_are_never_active_together_on_its_grid_is_drawn() -> None:
    """The second parameter is active between two of the values that are drawn of the first."""
    space = Space({"a": Float(0, 1), "b": Float(0, 1, when={"a": (0.301, 0.304)})})
    optimizer = Optimizer(space, seed=0)
    for a, b in ((0.302, 0.2), (0.303, 0.8), (0.9, None), (0.1, None)):
        optimizer.add({"a": a, "b": b}, 3.0 if b is None else b)
    mesh = plot_contour(optimizer, "a", "b").axes[0].collections[0].get_array()
    assert mesh is not None
    assert bool(np.isnan(np.ma.filled(mesh.astype(float), np.nan)).all())

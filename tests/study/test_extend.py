"""The space of a history changes: what is learnt stays, what is outside is not suggested."""

import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.data import Columns, Dataset
from bo_suite.errors import SpaceError, SpaceExhausted, StorageError, TrialError
from bo_suite.plot import plot_contour, plot_parallel, plot_slices
from bo_suite.study.suggest import Suggester

SPACE = Space(
    {
        "x": Float(0.0, 10.0),
        "n": Int(1, 64, log=True),
        "solvent": Choice(["water", "ethanol", "dmso"]),
        "size": Choice(["S", "M", "L"], ordered=True),
    }
)


def loss(params: dict[str, Any]) -> float:
    """Best at x = 3, n = 8, dmso, M."""
    return float(
        (params["x"] - 3.0) ** 2 * 0.1
        + abs(params["n"] - 8) * 0.05
        + {"water": 0.4, "ethanol": 0.2, "dmso": 0.0, "thf": 0.1}[params["solvent"]]
        + 0.3 * (params["size"] != "M")
        + params.get("salt", 0.0)
    )


def run(opt: Optimizer, steps: int) -> list[dict[str, Any]]:
    points = []
    for _ in range(steps):
        trial = opt.ask()
        points.append(trial.params)
        opt.tell(trial, loss(trial.params))
    return points


NARROWED = {
    "x": Float(4.0, 10.0),
    "n": Int(16, 64, log=True),
    "solvent": Choice(["water", "ethanol"]),
    "size": Choice(["S", "L"], ordered=True),
}


@pytest.mark.parametrize(
    "acquisition",
    [
        None,
        KnowledgeGradient(candidates=2, quantiles=3),
        ThompsonSampling(),
        Bore(),
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (LogExpectedImprovement(), NoisyExpectedImprovement(), UpperConfidenceBound())
        ),
    ],
    ids=lambda acquisition: "default" if acquisition is None else type(acquisition).__name__,
)
def test_nothing_outside_a_narrowed_space_is_suggested(acquisition: Any) -> None:
    opt = Optimizer(SPACE, acquisition, seed=0, initial=12)
    run(opt, 13)
    space = opt.extend(NARROWED)
    assert space.current == Space(NARROWED)
    points = run(opt, 4)
    for point in points:
        assert space.contains(point)
    assert len({tuple(point.items()) for point in points}) == 4
    assert space.contains(opt.recommend())
    assert space.contains(opt.best.params)


def test_what_was_learnt_outside_still_teaches() -> None:
    """After the best region was cut off, the first suggestions already lie at the new best border."""
    opt = Optimizer(SPACE, seed=0)
    run(opt, 30)
    opt.extend({"x": Float(4.0, 10.0), "solvent": Choice(["water", "ethanol"])})
    points = run(opt, 6)
    best = min(points, key=loss)
    assert best["solvent"] == "ethanol"
    assert best["x"] < 4.3
    assert loss(best) < 0.45, "0.3 at the border"
    assert opt.best.params["solvent"] == "ethanol"


def test_a_widened_space_is_searched_where_it_is_new() -> None:
    opt = Optimizer(Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}), seed=0)
    for _ in range(14):
        trial = opt.ask()
        opt.tell(trial, (trial.params["x"] - 1.6) ** 2 + (trial.params["y"] - 0.4) ** 2)
    assert opt.best.params["x"] > 0.9
    opt.extend({"x": Float(0.0, 2.0)})
    for _ in range(10):
        trial = opt.ask()
        opt.tell(trial, (trial.params["x"] - 1.6) ** 2 + (trial.params["y"] - 0.4) ** 2)
    assert opt.best.value < 0.01


def test_options_and_parameters_are_added() -> None:
    opt = Optimizer(SPACE, seed=0, initial=10)
    run(opt, 11)
    opt.extend(
        {"solvent": Choice(["water", "ethanol", "dmso", "thf"]), "salt": Float(0.0, 2.0)}, {"salt": 0.5}
    )
    assert all(trial.params["salt"] == 0.5 for trial in opt.trials)
    assert list(opt.trials[0].params) == ["x", "n", "solvent", "size", "salt"]
    points = run(opt, 14)
    assert min(point["salt"] for point in points) < 0.1
    assert opt.extend({"solvent": Choice(["water", "thf"])})["solvent"] == Choice(
        ["water", "thf"], retired=[("ethanol", 2), ("dmso", 3)]
    )
    opt.extend({"solvent": Choice(["dmso", "thf"])})
    assert {point["solvent"] for point in run(opt, 4)} <= {"dmso", "thf"}, "it came back"


def test_a_history_of_a_changed_space_is_continued_by_it_and_refused_to_another(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(SPACE, seed=5, storage=path)) as opt:
        run(opt, 9)
    with pytest.raises(StorageError, match=r"another space: .*'x'.*extend"):
        Optimizer(Space(dict(SPACE) | NARROWED), storage=path, seed=5)
    with closing(Optimizer.resume(path)) as opt, closing(Optimizer.resume(path)) as other:
        assert other.space == SPACE
        opt.extend(NARROWED)
        assert other.ask().params == opt.trials[-1].params, "others follow"
        assert opt.space.contains(opt.trials[-1].params)
        assert other.space == opt.space
        opt.tell(opt.trials[-1], 1.0)
    with closing(Optimizer(Space(NARROWED), seed=5, storage=path)) as opt:  # as a user would write it
        following = opt.ask().params
        (change,) = opt.to_frame(history=True).to_dict("records")
    assert (change["action"], change["before_space"]) == ("extend", SPACE.to_dict())
    with closing(Optimizer(SPACE, seed=5)) as replayed:
        run(replayed, 9)
        replayed.extend(NARROWED)
        replayed.tell(replayed.ask(), 1.0)
        assert replayed.ask().params == following, "a replay suggests the same"


@pytest.mark.parametrize(
    ("parameters", "values", "message"),
    [
        ({"x": Int(0, 10)}, None, "must stay of its kind, got 'x'"),
        ({"x": Float(2.0, 2.0)}, None, "'x' must have more than one value left"),
        ({"salt": Float(0.0, 1.0)}, None, r"none for \['salt'\]"),
        ({"x": Float(1.0, 2.0)}, {"x": 1.0}, r"one for \['x'\]"),
        ({"salt": Float(0.1, 1.0, log=True)}, {"salt": 0.0}, "'salt'.*log scale"),
        ({"x": Float(0.1, 10.0, log=True)}, None, "'x'.*log scale"),
        ({"n": Int(1, 64, log=True, fidelity=True)}, None, "`fidelity` of 'n'"),
        (Space({"x": Float(0.0, 1.0)}), None, "cannot be removed"),
        ({"x": 3}, None, "must be a Float, Int or Choice"),
        (3, None, "`parameters` must be a dict"),
        ({"x": Float(1.0, 2.0)}, 3, "`values` must be a dict"),
    ],
)
def test_what_no_history_can_follow_is_refused_and_nothing_changes(
    parameters: Any, values: Any, message: str
) -> None:
    opt = Optimizer(SPACE, seed=0)
    opt.add({"x": 0.0, "n": 1, "solvent": "water", "size": "S"}, 1.0)
    with pytest.raises(SpaceError, match=message):
        opt.extend(parameters, values)
    assert opt.space == SPACE
    assert len(opt.to_frame(history=True)) == 0


def test_a_narrowed_space_that_leaves_no_trial_inside() -> None:
    opt = Optimizer(SPACE, seed=0)
    run(opt, 8)
    opt.extend({"x": Float(20.0, 30.0)})
    with pytest.raises(TrialError, match="inside the space"):
        _ = opt.best
    with pytest.raises(TrialError, match="inside the space"):
        opt.regret_bound()
    assert opt.recommend()["x"] >= 20.0
    assert opt.predict(opt.trials[0].params)["outside"].tolist() == [True]
    points = run(opt, 6)
    assert all(20.0 <= point["x"] <= 30.0 for point in points)
    assert min(point["x"] for point in points) < 21.0, "the trend of the trials outside is known"
    assert opt.best.params["x"] < 21.0


def test_a_finite_space_is_exhausted_by_its_own_points_alone() -> None:
    opt = Optimizer(Space({"kind": Choice(["a", "b", "c"]), "n": Int(1, 3)}))
    for kind, n in itertools.product("ab", (1, 2, 3)):
        opt.add({"kind": kind, "n": n}, n)
    opt.extend({"kind": Choice(["c"]), "n": Int(2, 3)})
    assert {opt.ask().params["n"] for _ in range(2)} == {2, 3}
    with pytest.raises(SpaceExhausted, match="all 2 points"):
        opt.ask()


def test_an_extension_to_the_same_space_changes_nothing() -> None:
    opt = Optimizer(SPACE)
    assert opt.extend(SPACE) == SPACE
    assert len(opt.to_frame(history=True)) == 0


def test_rows_outside_are_moved_into_the_space_and_are_no_incumbents() -> None:
    x = torch.tensor([[-0.5, 0.2], [0.3, 0.5], [0.4, 1.0]], dtype=torch.float64)
    y = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    columns = Columns(levels=(None, 3), between=(1,), narrowed=True)
    outside = torch.tensor([True, False, False])
    data = Dataset(x, y, columns=columns, outside=outside)
    assert data.within_space(x).tolist() == [[0.0, 0.0], [0.3, 0.5], [0.4, 1.0]]
    assert data.reachable.tolist() == [False, True, True]
    alone = Dataset(x[:1], y[:1], columns=columns, outside=outside[:1])
    assert alone.reachable.tolist() == [True], "there is none other"


def test_importances_and_figures_leave_out_what_is_retired(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1), "kind": Choice(["a", "b", "c"])})
    with closing(Optimizer(space)) as optimizer:
        for number in range(9):
            optimizer.add({"x": number / 8, "kind": "abc"[number % 3]}, number / 8 + (number % 3))
        optimizer.extend({"kind": Choice(["a", "b"])})
        table = optimizer.importance()
        assert table["ped_anova"].sum() == pytest.approx(1.0)
        for figure in (plot_slices(optimizer), plot_contour(optimizer), plot_parallel(optimizer)):
            figure.savefig(tmp_path / "figure.png")
        optimizer.extend({"x": Float(0.7, 0.9), "kind": Choice(["a"])})
        assert optimizer.importance()["ped_anova"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("options", [["a", "b"], ["a", "b", "c"]])
def test_one_option_that_is_left_is_not_mixed_up_with_retired_ones(options: list[str]) -> None:
    """Option a is best at 0.9, the others at 0.2 and better."""
    opt = Optimizer(Space({"x": Float(0.0, 1.0), "kind": Choice(options)}), seed=0)
    for step in range(16):
        kind, x = options[step % len(options)], (step // len(options)) / 7.0
        opt.add({"x": min(x, 1.0), "kind": kind}, (x - 0.9) ** 2 + 1.0 if kind == "a" else (x - 0.2) ** 2)
    opt.extend({"kind": Choice(["a"])})
    assert opt.recommend()["x"] > 0.6
    assert opt.regret_bound().trial.params["kind"] == "a"
    assert opt.ask().provenance["why"]["best"] >= 1.0


@pytest.mark.parametrize("log", [False, True])
def test_points_between_the_levels_of_a_new_step_are_no_incumbents(log: bool) -> None:
    low = 0.5 if log else 0.0
    opt = Optimizer(Space({"x": Float(low, 2.5, log=log), "y": Float(0.0, 1.0)}), seed=0)
    for number in range(9):
        x = low + 0.25 * number
        opt.add({"x": min(x, 2.5), "y": 0.1 * number}, abs(x - 1.25) + 0.01 * number)
    opt.extend({"x": Float(low, 2.5, log=log, step=0.5)})
    assert opt.best.params["x"] in (1.0, 1.5)
    trial = opt.ask()
    assert trial.params["x"] in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    assert trial.provenance["why"]["best"] >= 0.25
    assert opt.regret_bound().trial.params["x"] in (1.0, 1.5)


def test_the_value_of_a_single_valued_parameter_is_not_changed() -> None:
    opt = Optimizer(Space({"x": Float(0.0, 1.0), "k": Float(1.0, 1.0)}))
    opt.add({"x": 0.5, "k": 1.0}, 1.0)
    with pytest.raises(SpaceError, match="'k' must have more than one value left"):
        opt.extend({"k": Float(2.0, 2.0)})
    with pytest.raises(SpaceError, match="'new' must have more than one value"):
        opt.extend({"new": Int(3, 3)}, {"new": 2})
    assert opt.extend({"k": Float(1.0, 2.0), "new": Int(2, 2)}, {"new": 2})["k"] == Float(1.0, 2.0)


def test_another_process_sees_the_new_space_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(SPACE, seed=5, storage=path)) as opt, closing(Optimizer.resume(path)) as other:
        run(opt, 8)
        assert other.space == SPACE
        opt.extend({"x": Float(0.0, 0.5), "salt": Float(0.0, 1.0)}, {"salt": 0.0})
        assert other.recommend()["x"] <= 0.5
        opt.extend({"x": Float(0.0, 0.25)})
        assert other.predict(opt.trials[0].params)["outside"].tolist() == [True]
        opt.extend({"z": Float(0.0, 1.0)}, {"z": 0.5})
        assert other.ask(fixed={"z": 0.25}).params["z"] == 0.25
        assert other.space == opt.space


def test_a_point_chosen_in_an_older_space_is_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread extends the space of the same Optimizer while a point is being chosen."""
    opt = Optimizer(SPACE, seed=0)
    run(opt, 3)
    suggest, calls = Suggester.suggest, []

    def slow(self: Suggester, *arguments: Any, **named: Any) -> Any:
        suggestions = suggest(self, *arguments, **named)
        if not calls:
            opt.extend({"x": Float(20.0, 30.0), "salt": Float(0.0, 1.0)}, {"salt": 0.0})
        calls.append(suggestions)
        return suggestions

    monkeypatch.setattr(Suggester, "suggest", slow)
    assert 20.0 <= opt.ask().params["x"] <= 30.0
    assert len(calls) == 2

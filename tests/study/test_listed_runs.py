"""Runs over candidates: their rows alone are asked, files hold them, and other observations teach."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from typer.testing import CliRunner

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import Bore, KnowledgeGradient, SteinBatch, ThompsonSampling
from bo_suite.cli import app
from bo_suite.errors import SpaceError, SpaceExhausted, StorageError
from bo_suite.plot import plot_contour, plot_slices
from bo_suite.study.views import OutcomeView

POLARITY = {"water": 10.2, "dmf": 6.4, "thf": 4.0, "hexane": 0.1}
PARAMETERS = {
    "heat": Float(20, 90),
    "steps": Int(1, 4),
    "solvent": Choice(list(POLARITY), descriptors={"polarity": POLARITY}),
}


def table(count: int, seed: int = 0) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "heat": draws.uniform(20, 90, count),
            "steps": draws.integers(1, 5, count),
            "solvent": draws.choice(list(POLARITY), count),
        }
    )


def loss(params: dict[str, Any]) -> float:
    return float(
        (params["heat"] - 60) ** 2 / 1000 + params["steps"] / 4 + abs(POLARITY[params["solvent"]] - 6.0) / 5
    )


def space(count: int = 60, seed: int = 0) -> Space:
    return Space(PARAMETERS, candidates=table(count, seed))


def tell_all(optimizer: Optimizer, count: int) -> None:
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))


def points(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [(row["heat"], row["steps"], row["solvent"]) for row in frame.to_dict("records")]


def test_the_best_of_many_candidates_is_found_early() -> None:
    result = minimize(loss, space(500), budget=20, progress=False)
    losses = [loss(row) for row in table(500).to_dict("records")]
    assert result.best.value == min(losses)
    asked = [tuple(trial.params.values()) for trial in result.trials]
    assert len(set(asked)) == len(asked)
    assert set(asked) <= set(points(table(500)))


@pytest.mark.parametrize(
    "acquisition", [KnowledgeGradient(), ThompsonSampling(), Bore()], ids=lambda one: type(one).__name__
)
def test_every_acquisition_asks_for_candidates_alone(acquisition: Any) -> None:
    optimizer = Optimizer(space(), acquisition, seed=1, initial=3)
    tell_all(optimizer, 5)
    optimizer.ask(2)
    assert {tuple(trial.params.values()) for trial in optimizer.trials} <= set(points(table(60)))
    optimizer.space.check(optimizer.recommend())


def test_points_that_are_chosen_jointly_are_candidates() -> None:
    optimizer = Optimizer(space(), Bore(), seed=1)
    tell_all(optimizer, 6)
    batch = optimizer.ask(4, batch=SteinBatch(steps=10, turns=2))
    assert len({tuple(trial.params.values()) for trial in batch} & set(points(table(60)))) == 4


def test_several_objectives_over_candidates() -> None:
    optimizer = Optimizer(space(), seed=0, direction={"first": "minimize", "second": "maximize"})
    for _ in range(8):
        trial = optimizer.ask()
        optimizer.tell(trial, {"first": loss(trial.params), "second": trial.params["heat"]})
    for point in [*optimizer.recommend(), *(trial.params for trial in optimizer.trials)]:
        assert tuple(point.values()) in points(table(60))


def test_a_table_is_exhausted_as_a_discrete_space_is() -> None:
    optimizer = Optimizer(space(7), seed=0)
    tell_all(optimizer, 5)
    assert len(optimizer.ask(9)) == 2
    with pytest.raises(SpaceExhausted, match="all 7 points of the space have been suggested"):
        optimizer.ask()
    assert {tuple(trial.params.values()) for trial in optimizer.trials} == set(points(table(7)))


def test_noisy_candidates_are_evaluated_again() -> None:
    optimizer = Optimizer(space(7), seed=0)
    for _ in range(9):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params), std=0.5)
    assert optimizer.trials[-1].provenance["repeat"]


def test_fixed_values_and_queued_points_are_completed_by_candidates() -> None:
    optimizer = Optimizer(space(), seed=0)
    optimizer.enqueue([{"solvent": "thf", "steps": 2}, table(60).iloc[5].to_dict()])
    first, second = optimizer.ask(2)
    assert (first.params["solvent"], first.params["steps"]) == ("thf", 2)
    assert tuple(second.params.values()) == points(table(60))[5]
    for trial in (first, second):
        optimizer.tell(trial, loss(trial.params))
    for _ in range(6):
        trial = optimizer.ask(fixed={"solvent": "dmf"})
        optimizer.tell(trial, loss(trial.params))
        assert trial.params["solvent"] == "dmf"
    assert {tuple(trial.params.values()) for trial in optimizer.trials} <= set(points(table(60)))
    assert optimizer.recommend(fixed={"solvent": "hexane"})["solvent"] == "hexane"
    for call in (optimizer.enqueue, lambda values: optimizer.ask(fixed=values)):
        with pytest.raises(
            SpaceError, match=r"one of the 60 candidates must have all given values, got .*21.0"
        ):
            call({"heat": 21.0})


def test_observations_beside_the_table_teach_and_are_neither_asked_nor_best() -> None:
    optimizer = Optimizer(space(), seed=0, initial=1)
    beside = {"heat": 61.0, "steps": 1, "solvent": "dmf"}
    optimizer.add(beside, -1.0)
    tell_all(optimizer, 2)
    assert optimizer.best.params != beside
    optimizer.space.check(optimizer.recommend())
    prediction = optimizer.predict([beside, optimizer.trials[-1].params])
    assert prediction["outside"].tolist() == [True, False]
    assert prediction["mean"].iloc[0] < prediction["mean"].iloc[1]
    with pytest.raises(SpaceError, match="must hold, got 95"):
        optimizer.add(beside | {"heat": 95.0}, 1.0)


def test_a_file_holds_the_table_and_gives_the_same_next_points(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(space(), seed=3, storage=path)
    tell_all(optimizer, 7)
    optimizer.add({"heat": 61.0, "steps": 1, "solvent": "dmf"}, 0.3)
    other = Optimizer.resume(path)
    assert other.space == optimizer.space
    assert [trial.params for trial in other.trials] == [trial.params for trial in optimizer.trials]
    twin = Optimizer(space(), seed=3)
    tell_all(twin, 7)
    twin.add({"heat": 61.0, "steps": 1, "solvent": "dmf"}, 0.3)
    assert other.ask().params == twin.ask().params
    with pytest.raises(StorageError, match="other candidates: <60 rows>, got <61 rows>"):
        Optimizer(space(61), seed=3, storage=path)


def test_two_optimizers_of_one_file_ask_for_different_candidates(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    both = [Optimizer(space(9), seed=0, storage=path) for _ in range(2)]
    for turn in range(8):
        trial = both[turn % 2].ask()
        both[turn % 2].tell(trial, loss(trial.params))
    assert len({tuple(trial.params.values()) for trial in both[0].trials}) == 8


def test_candidates_are_added_and_left_out_by_extend(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(space(5), seed=0, storage=path)
    tell_all(optimizer, 5)
    best = optimizer.best
    more = pd.concat([table(5), table(40, seed=1)])
    optimizer.extend(Space(PARAMETERS, candidates=more))
    trial = optimizer.ask()
    optimizer.tell(trial, 5.0)
    assert tuple(trial.params.values()) in points(table(40, seed=1))
    optimizer.extend({"heat": Float(10, 100)})  # the candidates stay
    assert optimizer.space.candidates is not None
    assert len(optimizer.space.candidates) == 45
    assert optimizer.best.params == best.params
    optimizer.extend(Space({**PARAMETERS, "heat": Float(10, 100)}, candidates=table(40, seed=1)))
    assert optimizer.best.params == trial.params  # the others lie outside
    with pytest.raises(SpaceError, match=r"values of 'heat' in candidates .* must hold"):
        optimizer.extend({"heat": Float(60, 100)})
    with pytest.raises(SpaceError, match=r"a column for each parameter, missing \['salt'\]"):
        optimizer.extend({"salt": Float(0, 1)}, {"salt": 0.5})
    assert any("candidates: <5 rows> -> <45 rows>" in text for text in _shown_changes(path))
    assert Optimizer.resume(path).space == optimizer.space


def test_options_with_descriptors_are_added_and_left_out_by_extend(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(Space(PARAMETERS), seed=0, storage=path)
    for solvent in POLARITY:
        optimizer.add({"heat": 50.0, "steps": 1, "solvent": solvent}, abs(POLARITY[solvent] - 6.0))
    tell_all(optimizer, 3)
    fewer = {name: POLARITY[name] for name in ("thf", "dmf")} | {"acetone": 5.1}
    changed = optimizer.extend({"solvent": Choice(list(fewer), descriptors={"polarity": fewer})})
    prediction = optimizer.predict(
        [{"heat": 50.0, "steps": 1, "solvent": name} for name in (*fewer, "hexane")]
    )
    assert prediction["outside"].tolist() == [False, False, False, True]
    assert prediction["mean"].iloc[2] < prediction["mean"].iloc[0] < prediction["mean"].iloc[3]
    assert optimizer.ask().params["solvent"] in fewer
    stored = Optimizer.resume(path)
    assert stored.space == changed
    assert stored.space.current["solvent"] == Choice(list(fewer), descriptors={"polarity": fewer})
    with pytest.raises(SpaceError, match=r"descriptors of options must stay \['polarity'\], got \[\]"):
        stored.extend({"solvent": Choice(["thf"])})


def _shown_changes(path: Path) -> list[str]:
    shown = CliRunner().invoke(app, ["space", str(path)])
    assert shown.exit_code == 0, shown.output
    return shown.output.splitlines()


def test_candidates_of_a_space_with_functions_are_changed_with_these(tmp_path: Path) -> None:
    def mild(params: dict[str, Any]) -> bool:
        return bool(params["heat"] < 70)

    path = tmp_path / "run.db"
    optimizer = Optimizer(Space(PARAMETERS, [mild], table(30)), seed=0, storage=path)
    tell_all(optimizer, 2)
    optimizer.close()
    with_functions = Optimizer.resume(path, functions=[mild])
    assert with_functions.ask().params["heat"] < 70
    with_functions.extend(Space(PARAMETERS, [mild], table(40)))
    assert all(point["heat"] < 70 for point in with_functions.space.candidates or ())
    without = Optimizer.resume(path)
    form = without.space.to_dict() | {"candidates": table(50).to_dict("list")}
    with pytest.raises(SpaceError, match=r"with the constraint functions.*functions=\[mild\]"):
        without.extend(Space.from_dict(form))


def test_figures_interpolate_between_candidates() -> None:
    optimizer = Optimizer(space(), seed=0)
    tell_all(optimizer, 6)
    belief = optimizer.belief()
    view = OutcomeView.of(belief, optimizer.trials, optimizer.goals, optimizer.space)
    rows = view.rows_through([{"heat": heat} for heat in (30.0, 50.0, 70.0)])
    assert rows[:, 0].tolist() == pytest.approx([1 / 7, 3 / 7, 5 / 7])
    assert not bool(view.outside(rows).any())
    for figure in (plot_slices(optimizer), plot_contour(optimizer, "heat", "solvent")):
        pyplot.close(figure)
    assert math.isclose(float(optimizer.importance()["ped_anova"].sum()), 1.0)


def test_the_command_line_reads_a_space_with_candidates(tmp_path: Path) -> None:
    file, path = tmp_path / "space.json", tmp_path / "run.db"
    file.write_text(json.dumps(space(9).to_dict()))
    asked = CliRunner().invoke(app, ["ask", str(path), "--space", str(file), "--seed", "0"])
    assert asked.exit_code == 0, asked.output
    assert tuple(Optimizer.resume(path).trials[0].params.values()) in points(table(9))
    assert any("<9 rows>" in line for line in _shown_changes(path))

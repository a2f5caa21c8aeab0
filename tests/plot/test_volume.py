"""The figure of convergence of runs with constraints and with several objectives."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import ArgumentError, TrialError
from bo_suite.plot import plot_convergence

SPACE = Space({"x": Float(0.0, 1.0)})


def run(direction: object, constraints: dict | None, *rows: dict[str, float] | None) -> Optimizer:
    optimizer = Optimizer(SPACE, direction=direction, constraints=constraints)
    for number, told in enumerate(rows):
        if told is None:
            optimizer.add_failed({"x": number / 20}, "no luck")
        else:
            optimizer.add({"x": number / 20}, told)
    return optimizer


def drawn(figure: Figure, label: str) -> list[tuple[float, float]]:
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == label]
    return [tuple(pair) for pair in line.get_xydata()]


def test_infeasible_trials_are_grey_and_never_the_best() -> None:
    rows = [{"$e$": 3.0, "m": 1}, {"$e$": 1.0, "m": 9}, None, {"$e$": 2.0, "m": 2}, {"$e$": 0.5}, {"m": 1}]
    figure = plot_convergence(run({"$e$": "minimize"}, {"m": (None, 8.0)}, *rows))
    axes = figure.axes[0]
    assert drawn(figure, "evaluation") == [(0, 3.0), (3, 2.0)]
    assert drawn(figure, "infeasible") == [(1, 1.0), (4, 0.5)]
    assert drawn(figure, "best so far") == [(0, 3.0), (3, 2.0)]
    assert axes.get_title(loc="left") == "best 2 at trial 3  (4 evaluated, 2 infeasible, 1 failed)"
    assert axes.get_ylabel() == "$e$"
    assert not axes.yaxis.label.get_parse_math()


def test_nothing_feasible() -> None:
    optimizer = run("maximize", {"m": (1.0, None)}, {"value": 1.0, "m": 0.0}, {"value": 2.0, "m": 0.5})
    figure = plot_convergence(optimizer, minimum=3.0)
    assert figure.axes[0].get_title(loc="left") == "2 evaluated, 2 infeasible"
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["infeasible"]


TWO = {"a": "minimize", "b": "maximize"}
ROWS = [{"a": 4, "b": 1, "m": 1}, {"a": 0, "b": 9, "m": 9}, None, {"a": 2, "b": 3, "m": 1}, {"a": 3}]


def test_the_hypervolume_of_the_feasible_front() -> None:
    optimizer = run(TWO, {"m": (None, 8.0)}, *ROWS)
    figure = plot_convergence(optimizer)
    axes = figure.axes[0]
    assert drawn(figure, "hypervolume") == [(0, 0.0), (3, pytest.approx(4.0))]
    assert [x for x, _ in drawn(figure, "infeasible or outside")] == [1]
    assert [x for x, _ in drawn(figure, "failed")] == [2]
    assert [x for x, _ in drawn(figure, "not fully measured")] == [4]
    assert axes.get_ylabel() == "hypervolume up to the worst feasible\na 4, b 1"
    words = "hypervolume 4, 1 in the Pareto front  (2 feasible of 4 evaluated, 1 failed)"
    assert axes.get_title(loc="left") == words

    figure = plot_convergence(optimizer, reference={"a": 6, "b": 0})
    assert [y for _, y in drawn(figure, "hypervolume")] == pytest.approx([2.0, 12.0])
    assert figure.axes[0].get_ylabel() == "hypervolume up to\na 6, b 0"
    trials = plot_convergence(optimizer.trials, TWO, space=SPACE)  # without the constraint trial 1 counts
    assert [x for x, _ in drawn(trials, "hypervolume")] == [0, 1, 3]


@pytest.mark.parametrize(
    "rows", [[], ROWS[1:3], ROWS[:1], [None, None]], ids=["none", "infeasible", "one", "failed"]
)
def test_a_run_that_has_hardly_begun_can_be_drawn(rows: list, tmp_path: Path) -> None:
    figure = plot_convergence(run(TWO, {"m": (None, 8.0)}, *rows))
    figure.savefig(tmp_path / "figure.png", dpi=30)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ([] if rows == ROWS[:1] else ["no trial is feasible yet"])


def test_refusals() -> None:
    two, one = run(TWO, None, {"a": 1, "b": 1}), run("minimize", None, {"value": 1.0})
    with pytest.raises(TrialError, match="`minimum` needs one objective, got 0"):
        plot_convergence(two, minimum=0.0)
    with pytest.raises(TrialError, match="`reference` needs several objectives"):
        plot_convergence(one, reference={"value": 1.0})
    with pytest.raises(ArgumentError, match="must have a finite number for each of"):
        plot_convergence(two, reference={"a": 1.0})
    with pytest.raises(TrialError, match="trials with several objectives need `space`"):
        plot_convergence(two.trials, TWO)

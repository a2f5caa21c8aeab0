"""The figure of several objectives."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import ArgumentError, TrialError
from bo_suite.plot import plot_pareto
from bo_suite.storage.history import History

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
TWO = {"error $a$": "minimize", "gain_b": "maximize"}


def run(
    direction: dict[str, str], *outcomes: dict[str, float] | None, constraints: dict | None = None
) -> Optimizer:
    """A run with these outcomes; None is a failed trial."""
    optimizer = Optimizer(SPACE, direction=direction, constraints=constraints)
    for number, told in enumerate(outcomes):
        point = {"x": (0.37 * number) % 1.0, "y": (0.61 * number + 0.2) % 1.0}
        if told is None:
            optimizer.add_failed(point, "no luck")
        else:
            optimizer.add(point, told)
    return optimizer


def drawn(axes: Axes, label: str) -> list[tuple[float, float]]:
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return [tuple(pair) for pair in line.get_xydata()]


def labels(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def pairs(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [dict(zip(TWO, pair, strict=True)) for pair in values]


def test_dots_and_the_line_of_what_is_attained(tmp_path: Path) -> None:
    optimizer = run(TWO, *pairs((1, 1), (2, 4), (3, 3), (4, 5), (2, 2)), None, {"gain_b": 9.0})
    figure = plot_pareto(optimizer)
    (axes,) = figure.axes
    assert drawn(axes, "front") == [(1, 1), (2, 4), (4, 5)]
    assert sorted(drawn(axes, "dominated")) == [(2, 2), (3, 3)]
    bottom, right = axes.get_ylim()[0], axes.get_xlim()[1]
    line = [(1, bottom), (1, 1), (2, 1), (2, 4), (4, 4), (4, 5), (right, 5)]
    assert drawn(axes, "attained") == line
    assert {"1 not fully measured", "1 failed"} <= set(labels(axes))
    assert axes.get_xlabel() == "error $a$ (minimize)"
    assert figure.get_suptitle() == "3 trials in the Pareto front"
    figure.savefig(tmp_path / "front.png", dpi=40)


def test_the_line_bounds_what_is_as_good_as_some_trial() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 2))
    (axes,) = plot_pareto(run(TWO, *pairs(*values.tolist()))).axes
    corners = np.array(drawn(axes, "attained"))
    for x in random.uniform(*axes.get_xlim(), size=200):
        attained = values[values[:, 0] <= x, 1].max(initial=-math.inf)
        passed = corners[corners[:, 0] <= x]
        assert (passed[-1, 1] if len(passed) else -math.inf) == attained


def test_infeasible_trials_are_grey_and_not_on_the_front() -> None:
    told = [dict(zip((*TWO, "memory"), row, strict=True)) for row in ((1, 1, 9), (2, 1, 3), (3, 3, 2))]
    optimizer = run(TWO, *told, constraints={"memory": (None, 8.0)})
    (axes,) = plot_pareto(optimizer).axes
    assert drawn(axes, "infeasible") == [(1, 1)]
    assert drawn(axes, "front") == [(2, 1), (3, 3)]
    optimizer.extend({"x": Float(0.3, 1.0)})  # trial 0 is outside
    optimizer.amend(0, {"memory": 1.0})
    (axes,) = plot_pareto(optimizer).axes
    assert drawn(axes, "outside of the space") == [(1, 1)]


def test_the_model_has_a_mean_and_a_deviation_at_each_point_of_the_front() -> None:
    optimizer = run(TWO, *pairs(*[(math.sin(k), math.cos(1.3 * k)) for k in range(9)]))
    (axes,) = plot_pareto(optimizer).axes
    across, up = (segments.get_segments() for segments in axes.collections)
    points = [trial.params for trial in optimizer.pareto]
    for name, segments, side in (("error $a$", across, 0), ("gain_b", up, 1)):
        predicted = optimizer.belief(name).predict(points)
        for segment, (_, row) in zip(segments, predicted.iterrows(), strict=True):
            ends = row["mean"] - row["std"], row["mean"] + row["std"]
            assert [end[side] for end in segment] == pytest.approx(ends)


def test_three_objectives_have_three_panels_and_more_are_chosen() -> None:
    names = ["a", "b", "c", "d"]
    values = np.random.default_rng(1).normal(size=(12, 4))
    told = [dict(zip(names, row, strict=True)) for row in values.tolist()]
    figure = plot_pareto(
        run(dict.fromkeys(names[:3], "minimize"), *[{n: t[n] for n in names[:3]} for t in told])
    )
    assert [(axes.get_xlabel()[0], axes.get_ylabel()[0]) for axes in figure.axes] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    four = run(dict.fromkeys(names, "minimize"), *told)
    assert plot_pareto(four).get_suptitle().endswith("in the Pareto front, 3 of 4 objectives")
    figure = plot_pareto(four, ["d", "b"])
    (axes,) = figure.axes
    front = {(trial.outcomes["d"], trial.outcomes["b"]) for trial in four.pareto}
    assert set(drawn(axes, "front")) == front


def asked_with_reference(factor: float) -> Optimizer:
    """A run whose latest suggestion had the worst transformed outcomes, times a factor, as its reference."""
    optimizer = run(TWO, *pairs((1, 10), (2, 40), (3, 35), (4, 50)))
    scaled = [factor * float(optimizer.belief(name).data.y.max()) for name in TWO]
    history: History = optimizer._history
    history.insert([{"x": 0.5, "y": 0.5}], [{"observations": 4, "chosen": {"reference": scaled}}], expected=4)
    return optimizer


def test_the_reference_point_of_the_latest_suggestion_is_in_the_units_of_the_user() -> None:
    optimizer = asked_with_reference(1.0)
    (axes,) = plot_pareto(optimizer).axes
    ((x, y),) = drawn(axes, "reference point")
    assert (x, y) == pytest.approx((4.0, 10.0), rel=1e-6)
    optimizer.forget(0)  # then the scale of the suggestion is unknown
    assert "reference point" not in labels(plot_pareto(optimizer).axes[0])


def test_a_far_reference_point_does_not_squash_the_front() -> None:
    (axes,) = plot_pareto(asked_with_reference(9.0)).axes
    assert "reference point" not in labels(axes)
    assert axes.get_xlim()[1] < 5.0


@pytest.mark.parametrize(
    "told",
    [
        [],
        [(1.0, 1.0)],
        [(1.0, 1.0)] * 4,
        [(1e300, -1e300), (-1e300, 1e300), (0.0, 0.0)],
        [(1e-300, 1e-300), (2e-300, 3e-300), (1e-299, 1.0)],
        [(10.0**k, 10.0**-k) for k in range(8)],
        [(0.1 * k, -(0.1 * k)) for k in range(9)] + [(1e6, 3.0)],
    ],
    ids=["none", "one", "equal", "huge", "tiny", "decades", "outlier"],
)
def test_extreme_runs_can_be_drawn(told: list[tuple[float, float]], tmp_path: Path) -> None:
    optimizer = run(TWO, *pairs(*told))
    figure = plot_pareto(optimizer)
    figure.savefig(tmp_path / "front.png", dpi=30)
    for axes in figure.axes:
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


def test_nothing_feasible_and_nothing_complete(tmp_path: Path) -> None:
    told = [dict(zip((*TWO, "memory"), row, strict=True)) for row in ((1, 1, 9), (2, 1, 13))]
    figure = plot_pareto(run(TWO, *told, constraints={"memory": (None, 8.0)}))
    assert labels(figure.axes[0]) == ["infeasible"]
    assert figure.get_suptitle() == "0 trials in the Pareto front"
    figure = plot_pareto(run(TWO, {"gain_b": 1.0}, None))
    assert labels(figure.axes[0]) == ["1 not fully measured", "1 failed"]
    figure.savefig(tmp_path / "front.png", dpi=30)


def test_refusals() -> None:
    with pytest.raises(TrialError, match="needs several objectives, got minimize: see plot_convergence"):
        plot_pareto(Optimizer(SPACE))
    for names in (["gain_b"], "gain_b", ["gain_b", "gain_b"], ["gain_b", "memory"], []):
        with pytest.raises(ArgumentError, match="outcomes must be at least two different ones of"):
            plot_pareto(run(TWO), names)
    with pytest.raises(TrialError, match="must be of an Optimizer or a Result"):
        plot_pareto("run.db")

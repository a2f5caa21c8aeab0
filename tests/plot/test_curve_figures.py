"""The figures of learning curves, of rungs, and of simulated time."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bo_suite import Float, Optimizer, Space
from bo_suite.bench.simulation import Event, Simulation
from bo_suite.errors import DataError, TrialError
from bo_suite.plot import plot_curves, plot_rungs, plot_simulated_time
from bo_suite.run.minimize import Result
from bo_suite.run.schedulers import ASHA, MedianRule, PromotionASHA
from bo_suite.study.extrapolation import Extrapolation

SPACE = Space({"x": Float(0, 1)})


def level(x: float, step: int) -> float:
    return x + 2.0 / (1 + step)


def evaluated(scheduler=None, direction="minimize", storage=None, points=9, last=27, initial=100):
    """A run of some points, which are ever worse but for one; the eighth fails, the last one is running."""
    optimizer = Optimizer(SPACE, direction=direction, scheduler=scheduler, storage=storage, initial=initial)
    sign = 1.0 if direction == "minimize" else -1.0
    for number in range(points):
        optimizer.enqueue({"x": 0.05 if number in (4, points - 1) else 0.1 + 0.08 * number})
        trial = optimizer.ask()
        x = trial.params["x"]
        for step in range(trial.step + 1, last + 1):
            if number == points - 1 and step == 6:
                return optimizer
            value = float("nan") if number == 7 and step == 2 else sign * level(x, step)
            if optimizer.report(trial, step, value) == "stop":
                break
        else:
            optimizer.tell(trial, sign * level(x, last))
    return optimizer


def lines(figure: Figure, panel: int = 0) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[panel].get_lines()}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_curves_are_drawn_by_fate_with_the_best_and_the_rungs(direction):
    optimizer = evaluated(ASHA(27), direction)
    figure = plot_curves(optimizer)
    states = {trial.id: trial.state for trial in optimizer.trials}
    drawn = lines(figure)
    best = optimizer.best
    assert best.id == 4
    x, y = drawn[f"best, trial {best.id}"].get_data()
    assert list(x) == list(range(1, 28))
    assert list(y) == [report.value for report in best.reports]
    for state in ("stopped", "running", "finished"):
        count = sum(one == state for number, one in states.items() if number != best.id)
        steps = sum(trial.step for trial in optimizer.trials if trial.state == state and trial.id != best.id)
        line = drawn[f"{state} ({count})"]
        assert np.isfinite(line.get_xdata()).sum() == steps
        assert np.isnan(line.get_xdata()).sum() == count
    axes = figure.axes[0]
    rungs = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert {1, 3, 9} <= {int(rung) for rung in rungs}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "3", "9", "27"]
    assert axes.get_xscale() == "log"
    spent = sum(trial.step for trial in optimizer.trials)
    shown = sum(bool(trial.reports) for trial in optimizer.trials)
    assert axes.get_title(loc="left") == f"{shown} trials, {spent} of {shown * 27} steps"


def test_paused_and_failed_trials_have_lines_of_their_own():
    drawn = lines(plot_curves(evaluated(PromotionASHA(9), last=9)))
    assert any(label.startswith("paused (") for label in drawn)
    assert any(label.startswith("failed (1)") for label in lines(plot_curves(evaluated(last=9))))


def test_a_file_a_result_and_the_optimizer_give_the_same_figure(tmp_path: Path):
    optimizer = evaluated(ASHA(9), storage=tmp_path / "run.db", points=4, last=9)
    result = Result(tuple(optimizer.trials), "minimize", None, SPACE, None, optimizer.scheduler)
    first, *others = (
        {name: line.get_xydata().tolist() for name, line in lines(plot_curves(run)).items()}
        for run in (optimizer, result, tmp_path / "run.db", str(tmp_path / "run.db"))
    )
    assert all(str(other) == str(first) for other in others)
    optimizer.close()


def test_outcomes_without_reports_are_at_the_last_step_and_a_few_bad_values_are_cut_off():
    optimizer = evaluated(ASHA(27))
    optimizer.add({"x": 0.9}, 1e9)
    figure = plot_curves(optimizer)
    (label,) = (label for label in lines(figure) if label.startswith("finished"))
    assert list(lines(figure)[label].get_xydata()[-2]) == [27, 1e9]
    assert figure.axes[0].get_ylim()[1] < 10


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_extrapolation_of_a_running_trial_has_its_reports_and_ends_near_its_outcome(direction):
    optimizer = evaluated(ASHA(27), direction, points=12)
    sign = 1.0 if direction == "minimize" else -1.0
    running = optimizer.trials[-1]
    assert (running.state, running.step) == ("running", 5)
    expected = Extrapolation.of(optimizer.trials, SPACE, optimizer.goals, 27, running.id)
    assert (expected.low <= expected.mean).all()
    assert (expected.mean <= expected.high).all()
    assert expected.steps.tolist()[-1] == 27
    width = expected.high - expected.low
    assert width[-1] > 2 * width[expected.steps.tolist().index(running.step)], "it is known there"
    true = sign * level(0.05, 27)
    margin = 0.5 * width[-1]
    assert expected.low[-1] - margin <= true <= expected.high[-1] + margin
    figure = plot_curves(optimizer, trial=running.id)
    assert list(lines(figure)[f"reports of trial {running.id}"].get_xdata()) == [1, 2, 3, 4, 5]
    assert f"trial {running.id}, running at step 5" in figure.axes[0].get_title(loc="left")


def test_what_cannot_be_drawn_is_said():
    none = Optimizer(SPACE)
    with pytest.raises(TrialError, match="no trial has reported"):
        plot_curves(none)
    two = Optimizer(SPACE, direction={"a": "minimize", "b": "minimize"})
    with pytest.raises(TrialError, match="one objective"):
        plot_curves(two)
    optimizer = evaluated(ASHA(27))
    for number, what in ((optimizer.best.id, "finished"), (99, "unknown")):
        with pytest.raises(TrialError, match=f"running, stopped or paused.*{what}"):
            plot_curves(optimizer, trial=number)
    with pytest.raises(TrialError, match="must have a scheduler"):
        plot_rungs(evaluated(last=9))
    with pytest.raises(TrialError, match="an Optimizer or a Result"):
        plot_rungs(5)


@pytest.mark.parametrize("scheduler", [ASHA(27), PromotionASHA(27)])
def test_rungs_count_who_reached_them_and_who_went_on(scheduler):
    optimizer = evaluated(scheduler)
    figure = plot_rungs(optimizer)
    trials = [trial for trial in optimizer.trials if trial.reports]
    texts = [text.get_text() for text in figure.axes[0].texts]
    for text, rung in zip(texts, (1, 3, 9), strict=False):
        reached = [trial for trial in trials if trial.step >= rung]
        ended = [one for one in reached if one.step == rung and one.state != "running"]
        assert text == f"{len(reached) - len(ended)} of {len(reached)}"
    assert texts[-1] == str(sum(trial.step == 27 for trial in trials))


def test_of_many_rungs_some_are_drawn_and_all_have_dots():
    optimizer = evaluated(MedianRule(40, 1), last=40, points=3)
    figure = plot_rungs(optimizer)
    assert len(figure.axes[1].get_xticks()) == 9
    assert figure.axes[1].get_xticklabels()[0].get_text() == "1"
    labels = [text.get_text() for text in plot_curves(optimizer).axes[0].get_xticklabels()]
    assert {"1", "2", "5", "10", "20"} <= set(labels)


def simulated(values, direction="minimize", seconds=100.0):
    events = tuple(Event(10.0 * (k + 1), k, 9, value, 0) for k, value in enumerate(values))
    return Simulation(direction, 9, 1, seconds, events, ())


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_the_median_over_simulated_time_and_the_share_that_reached_the_target(direction, sign):
    runs = [simulated([sign * value for value in values], direction) for values in ((5, 3), (4, 1), (6, 2))]
    late = [simulated([sign * value for value in values], direction) for values in ((5,), (), ())]
    figure = plot_simulated_time({"ours": runs, "$late$": late}, target=sign * 2.0, highlight="ours")
    median = lines(figure)["ours"]
    at = dict(zip(*median.get_data(), strict=True))
    assert set(at.values()) == {sign * 5, sign * 2}
    assert min(at) == pytest.approx(10.0)
    assert max(at) == pytest.approx(100.0)
    assert all(value == sign * (5 if moment < 20 - 1e-9 else 2) for moment, value in at.items())
    shares = figure.axes[1].get_lines()[0].get_ydata()
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(2 / 3))
    assert np.isnan(next(iter(lines(figure).values())).get_ydata()).sum() == 0
    others = [line for label, line in lines(figure).items() if "late" in label]
    assert np.isnan(others[0].get_ydata()).all(), "half of the runs never had an outcome"


def test_distances_to_the_best_are_positive_on_a_log_axis():
    figure = plot_simulated_time({"a": [simulated([5, 3, 2, 1])]}, best=1.0)
    heights = lines(figure)["a"].get_ydata()
    assert sorted(set(heights)) == [0.5, 1.0, 2.0, 4.0]
    assert figure.axes[0].get_yscale() == "log"


def test_results_that_are_no_comparison_are_refused():
    run = simulated([1.0])
    with pytest.raises(DataError, match="one to 8 methods"):
        plot_simulated_time({})
    with pytest.raises(DataError, match="must have a run"):
        plot_simulated_time({"a": [run], "b": []})
    with pytest.raises(DataError, match="same direction"):
        plot_simulated_time({"a": [run], "b": [simulated([1.0], "maximize")]})
    with pytest.raises(DataError, match="highlight"):
        plot_simulated_time({"a": [run]}, highlight="b")


@pytest.mark.parametrize("draw", [plot_curves, plot_rungs])
def test_figures_can_be_saved(draw, tmp_path: Path):
    picture = tmp_path / "run.png"
    draw(evaluated(ASHA(9), last=9)).savefig(picture, dpi=30)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("values", [(-5.0,), (1e300, -1e300, 0.0, 1e-300), (2.0, 2.0)])
@pytest.mark.parametrize("draw", [plot_curves, plot_rungs])
def test_one_report_equal_ones_and_extreme_ones_can_be_drawn(values, draw, tmp_path: Path):
    optimizer = Optimizer(SPACE, scheduler=ASHA(9), initial=100)
    for value in values:
        optimizer.report(optimizer.ask(), 1, value)
    draw(optimizer).savefig(tmp_path / "run.png", dpi=30)
    assert (tmp_path / "run.png").stat().st_size > 0

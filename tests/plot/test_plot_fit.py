"""The plot of a sparse fit: its band, the truth where it is known, and where each inducing input went."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.plot import plot_fit
from bo_suite.surrogates import SGPR

X = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
Y = torch.sin(6 * X[:, 0])
PROCESS = SGPR(inducing=5, learn_inducing=True).fit(Dataset(X, Y, None, X[:0]), Seeds.of(0, 0))


def test_a_fit_is_drawn_with_its_band_inducing_inputs_and_losses() -> None:
    band, inducing, losses = plot_fit(PROCESS, X, Y).axes
    (mean,) = [line for line in band.lines if len(line.get_xdata()) == 400]
    assert band.get_title(loc="left") == "60 observations, 5 inducing inputs"
    assert abs(float(mean.get_ydata()[200]) - float(PROCESS.mean(X[30:31])[0])) < 0.1
    fitted, chosen = inducing.lines
    assert list(fitted.get_xdata()) == PROCESS.inducing[:, 0].tolist()
    assert list(chosen.get_xdata()) == PROCESS.trace.initial[:, 0].tolist()
    assert list(losses.lines[0].get_ydata()) == PROCESS.trace.losses.tolist()
    assert len(plot_fit(PROCESS.absorb(X[:1], Y[:1]), X, Y).axes) == 2, "without a trace there is no loss"


def test_the_truth_is_drawn_where_it_is_given() -> None:
    band = plot_fit(PROCESS, X, Y, truth=lambda rows: torch.sin(6 * rows[:, 0])).axes[0]
    named = {line.get_label(): line for line in band.lines}
    assert list(named) == ["observation", "truth", "mean, and two standard deviations"]
    at, height = (torch.as_tensor(values) for values in named["truth"].get_data())
    assert_close(height, torch.sin(6 * at))
    without = plot_fit(PROCESS, X, Y).axes[0]
    assert "truth" not in [line.get_label() for line in without.lines]


def test_a_line_leads_each_inducing_input_from_where_it_was_chosen_to_where_it_went() -> None:
    rows = plot_fit(PROCESS, X, Y).axes[1]
    (ways,) = rows.collections
    ends = torch.stack([torch.as_tensor(way) for way in ways.get_segments()])
    assert_close(ends[:, 0, 0], PROCESS.trace.initial[:, 0])
    assert_close(ends[:, 1, 0], PROCESS.inducing[:, 0])
    assert [label.get_text() for label in rows.get_yticklabels()] == ["fitted", "chosen"]
    assert not plot_fit(PROCESS.absorb(X[:1], Y[:1]), X, Y).axes[1].collections, "nothing has moved"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_observation_is_drawn(dtype) -> None:
    x = torch.full((1, 1), 0.3, dtype=dtype)
    process = SGPR(inducing=1).fit(Dataset(x, x[:, 0], None, x[:0]), Seeds.of(0, 0))
    figure = plot_fit(process, x, x[:, 0])
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    assert low < 0.3 < high


def test_only_one_input_of_one_replicate_can_be_drawn() -> None:
    for process, x, y, got in (
        (PROCESS, X.expand(60, 2), Y, r"\(60, 2\), \(60,\) and \(5,\)"),
        (PROCESS, X, Y[:9], r"\(60, 1\), \(9,\)"),
        (PROCESS, X, Y[:, None], r"\(60, 1\), \(60, 1\)"),
        (replace(PROCESS, linear=PROCESS.linear.expand(2, 5)), X, Y, r"and \(2, 5\)"),
    ):
        with pytest.raises(DataError, match=rf"x must be \(n, 1\), .* of one replicate, got .*{got}"):
            plot_fit(process, x, y)

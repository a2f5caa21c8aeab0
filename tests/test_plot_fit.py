"""The plot of a sparse fit: the truth where it is known, and where each inducing input went."""

import torch
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.plot import plot_fit
from bo_suite.surrogates import SGPR

X = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
Y = torch.sin(6 * X[:, 0])
PROCESS = SGPR(inducing=5, learn_inducing=True).fit(Dataset(X, Y, None, X[:0]), Seeds.of(0, 0))


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

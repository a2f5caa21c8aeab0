"""The figure of leave-one-out predictions beside outcomes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.errors import TrialError
from bo_suite.plot.run import Run, require_run
from bo_suite.plot.style import INK, MIST, RED, draw_name, legend_below, new_figure, short_name
from bo_suite.study.belief import Belief
from bo_suite.study.outcomes import HALF_WIDTH
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.process import ExactProcess

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Outcomes and their predictions from all others, in the user's units, at most the cap of the model.

    Attributes:
        outcomes: of the finished trials.
        low: lower ends of their central 90 % intervals.
        middle: medians.
        high: upper ends.
        inside: which outcomes lie in their intervals.
    """

    outcomes: Tensor
    low: Tensor
    middle: Tensor
    high: Tensor
    inside: Tensor

    @property
    def coverage(self) -> str:
        """How many outcomes lie in their intervals, in words."""
        share = f"{int(self.inside.sum())} of {len(self.inside)} outcomes"
        return f"{share} ({float(self.inside.double().mean()):.0%}) lie in their 90% intervals"


def held_out(belief: Belief) -> HeldOut:
    """The predictions of each outcome from all others.

    Hyperparameters stay those of all observations (Rasmussen and Williams 2006, equation 5.12).

    Raises:
        TrialError: fewer than two trials are finished, or the model is not an exact Gaussian process.
    """
    process, y = belief.process, belief.data.y
    if len(belief.trials) < 2:
        raise TrialError(f"cross validation needs two finished trials, got {len(belief.trials)}")
    if not isinstance(process, ExactProcess):
        raise TrialError(
            f"cross validation needs an exact Gaussian process (as AutoGP has for up to 1,200 observations), "
            f"got {type(process).__name__}"
        )
    mean, variance = leave_one_out(process, y)
    y, mean, variance = (each[belief.rows] for each in (y, mean, variance))
    reach = HALF_WIDTH * variance.sqrt()
    ends = belief.values(torch.stack((mean - reach, mean, mean + reach)).cpu())
    low, middle, high = ends.sort(0).values
    return HeldOut(belief.values(y.cpu()), low, middle, high, ((y - mean).abs() <= reach).cpu())


def plot_cross_validation(run: Run, *, outcome: str | None = None) -> "Figure":
    """Draw what the model predicts of each outcome from all others, with 90 % intervals, beside the outcome.

    Hyperparameters stay those of all observations (Rasmussen and Williams 2006, equation 5.12). Of a good
    model the intervals are short, and nine of ten meet the diagonal; the title says how many do. Outcomes
    beyond the cap of the model count as equal to it (see `Belief`).

    Args:
        run: an Optimizer or a Result.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: fewer than two trials are finished, or the model is not an exact Gaussian process, such as
            after the handover of `AutoGP`.
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    held = held_out(require_run(run).belief(outcome))
    outcomes, low, middle, high, inside = held.outcomes, held.low, held.middle, held.high, held.inside

    figure, ((axes,),) = new_figure(width=5.6, height=5.2)
    axes.set_title(held.coverage, loc="left", fontsize=11)
    limits = float(min(low.min(), outcomes.min())), float(max(high.max(), outcomes.max()))
    axes.plot(limits, limits, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label="prediction = outcome")
    for chosen, colour, line, label in (
        (inside, MIST, INK, "inside"),
        (~inside, RED, RED, "outside"),
    ):
        if bool(chosen.any()):
            axes.vlines(outcomes[chosen], low[chosen], high[chosen], color=colour, linewidth=1.4)
            axes.plot(outcomes[chosen], middle[chosen], "o", color=line, markersize=4, label=label)
    draw_name(axes.xaxis.label, "outcome" if outcome is None else short_name(outcome))
    axes.set_ylabel("prediction from all others")
    axes.grid(color="0.92", linewidth=0.8)
    legend_below(figure, columns=3)
    return figure

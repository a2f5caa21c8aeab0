"""How much of the variation of a modelled function each parameter explains."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.alternatives import at_target
from bo_suite.data import Seeds
from bo_suite.errors import TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.candidates import sample
from bo_suite.space.space import Space
from bo_suite.study.belief import Belief
from bo_suite.study.summary import trials_at_target
from bo_suite.surrogates.paths import draw_paths, has_paths, mean_path
from bo_suite.surrogates.process import Process

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

LEAST = 3
"""Finished trials that importances need."""

_MOST_POINTS, _MOST_ROWS = 4096, 100_000
"""Most rows of each of the two samples of the quasi Monte Carlo integrals, and of all samples together."""

_POINTS_OF_DRAWS = 512
"""Rows of each of the two samples where functions are drawn."""

_DRAWS = 32
"""Draws from the posterior that the intervals are taken over."""

_SMALLEST_VARIANCE = 1e-10
"""A function with a smaller variance counts as constant; outcomes have variance one."""

_BEST_SHARE = 0.1
"""Share of the trials whose distribution PED-ANOVA compares with that of all."""

_BINS = 50
"""Points of the grid that PED-ANOVA evaluates the density of a continuous column on."""

_Function = Callable[[Tensor], Tensor]
"""Encoded rows (m, d) to values (s, m) of s functions."""


def sobol_indices(
    function: _Function, space: Space, count: int, seeds: Seeds
) -> tuple[jt.Float64[Tensor, "s d"], jt.Float64[Tensor, "s d"]]:
    """First-order and total Sobol indices of the inputs that are no fidelities, for s functions at once.

    With two independent samples A and B of the rows, and A with column i of B as A_i:
    main_i = 1 - E[(f(B) - f(A_i))²] / (2 V) and total_i = E[(f(A) - f(A_i))²] / (2 V) (Jansen 1999), with
    V = var f over both samples. Inputs are independent and uniform over the encoded space: levels are equally
    likely, log scales uniform in the log. A and B are halves of one Sobol sequence (Saltelli 2002).

    Args:
        function: of encoded rows.
        space: of the rows; fidelities are held at their target, where their indices are 0.
        count: rows of each sample, a power of two.
        seeds: of the shift of the Sobol sequence.
    """
    uniform = seeds.sobol(count, torch.empty(0, 2 * space.dim, dtype=torch.float64, device="cpu"))
    rows = [at_target(sample(space, half), space.fidelities) for half in uniform.split(space.dim, -1)]
    first, second = (function(half) for half in rows)
    both = torch.cat((first, second), -1)
    variance = both.var(-1, correction=0)
    main, total = torch.zeros(2, len(first), space.dim, dtype=torch.float64, device="cpu")
    for column, levels in enumerate(space.levels):
        if column in space.fidelities or levels == 1:
            continue
        mixed = rows[0].clone()
        mixed[:, column] = rows[1][:, column]
        values = function(mixed)
        main[:, column] = variance - 0.5 * (second - values).square().mean(-1)
        total[:, column] = 0.5 * (first - values).square().mean(-1)
    varies = variance > _SMALLEST_VARIANCE * both.square().mean(-1).clamp(min=1.0)
    scale = torch.where(varies, variance, math.inf)[:, None]
    return (main / scale).clamp(0.0, 1.0), total / scale


def ped_anova(
    rows: jt.Float64[Tensor, "n d"], losses: jt.Float64[Tensor, " n"], space: Space
) -> jt.Float64[Tensor, " d"]:
    """Importances of the inputs for being among the best tenth of the trials; their sum is 1, or all are 0.

    v_i = Σ p_i (q_i / p_i - 1)², the Pearson divergence of the density q_i of column i among the best trials
    from its density p_i among all, on a grid (Watanabe et al. 2023, equation 15, with γ = 1). Densities are
    those of Gaussian kernels with Scott's bandwidth, or frequencies of categories; each is mixed with a
    uniform one that counts as one more trial.

    Args:
        rows: of the trials.
        losses: their outcomes, smaller is better.
        space: of the rows.
    """
    count = max(math.ceil(_BEST_SHARE * len(losses)), min(2, len(losses)))
    best = rows[losses <= losses.sort().values[count - 1]]  # all, if all are equal
    divergence = rows.new_zeros(space.dim)
    for column, levels in enumerate(space.levels):
        bins = _BINS if levels is None else min(levels, _BINS)
        of_all, of_best = (
            _density(part[:, column], bins, smooth=column not in space.unordered) for part in (rows, best)
        )
        divergence[column] = (of_all * (of_best / of_all - 1.0).square()).sum()
    sum_of_all = divergence.sum()
    return divergence / sum_of_all if float(sum_of_all) > 1e-12 else torch.zeros_like(divergence)


def _density(positions: Tensor, bins: int, *, smooth: bool) -> Tensor:
    """Probabilities of the points of a grid over [0, 1]."""
    grid = torch.linspace(0.0, 1.0, bins, dtype=positions.dtype)
    if smooth and bins > 1:
        deviation = float(positions.std(correction=0))
        width = max(1.059 * deviation * len(positions) ** -0.2, 0.5 / (bins - 1))  # at least half a step
        kernels = torch.softmax(-0.5 * ((grid - positions[:, None]) / width).square(), -1)
    else:
        kernels = torch.nn.functional.one_hot((positions * (bins - 1)).round().long(), bins).to(positions)
    return (kernels.sum(0) + 1.0 / bins) / (len(positions) + 1.0)


def importance_of(belief: Belief) -> "pd.DataFrame":
    """The importance of each parameter, the most important first; see `Optimizer.importance`.

    Raises:
        TrialError: fewer than three trials are finished.
    """
    import pandas as pd

    if len(belief.trials) < LEAST:
        raise TrialError(f"importances need {LEAST} finished trials, got {len(belief.trials)}")
    space, target = belief.searched, belief.space.target_fidelity
    with numerical_environment(), torch.no_grad():
        main, total = sobol_indices(_mean(belief.process), space, _points(space), belief.seeds.split("mean"))
        low, high = _interval(belief)
    columns = (main[0], total[0], low, high, _second_opinion(belief))
    found = dict(zip(space.names, torch.stack(columns, -1).tolist(), strict=True))
    table = {name: found.get(name, [0.0] * len(columns)) for name in belief.space.names if name not in target}
    frame = pd.DataFrame.from_dict(
        table, orient="index", columns=["main", "total", "low", "high", "ped_anova"]
    )
    return frame.sort_values("total", ascending=False, kind="stable").rename_axis("parameter")


def _points(space: Space) -> int:
    """Rows of each sample: a power of two, fewer if there are many parameters."""
    return int(min(_MOST_POINTS, 2 ** math.floor(math.log2(max(_MOST_ROWS / (space.dim + 2), 1.0)))))


def _mean(process: Process) -> _Function:
    """The posterior mean."""
    mean = mean_path(process) if has_paths(process) else None

    def values(rows: Tensor) -> Tensor:
        moved = rows.to(process.noise)
        return (process.mean(moved)[None] if mean is None else mean(moved)).cpu().double()

    return values


def _interval(belief: Belief) -> tuple[Tensor, Tensor]:
    """The 5 % and the 95 % quantiles of the total indices of draws; NaN if none can be drawn."""
    process, space = belief.process, belief.searched
    if not has_paths(process):
        unknown = torch.full((space.dim,), math.nan, dtype=torch.float64, device="cpu")
        return unknown, unknown
    draws = draw_paths(process, _DRAWS, belief.seeds.split("paths"))

    def values(rows: Tensor) -> Tensor:
        return draws(rows.to(process.noise)).cpu().double()

    _, total = sobol_indices(values, space, _POINTS_OF_DRAWS, belief.seeds.split("draws"))
    return total.quantile(0.05, dim=0), total.quantile(0.95, dim=0)


def _second_opinion(belief: Belief) -> Tensor:
    """`ped_anova` of the trials in the space, at the target fidelity; of all fidelities if they are too few.

    All are 0 if fewer than `LEAST` trials lie in the space.
    """
    within = [trial for trial in belief.trials if belief.space.contains(trial.params)]
    final = trials_at_target(within, belief.space)
    trials = final if len(final) >= LEAST else within
    if len(trials) < LEAST:
        return torch.zeros(belief.searched.dim, dtype=torch.float64, device="cpu")
    losses = torch.tensor(
        [belief.sign * trial.value for trial in trials if trial.value is not None],
        dtype=torch.float64,
        device="cpu",
    )
    shares = ped_anova(belief.encode([trial.params for trial in trials]), losses, belief.searched)
    shares[list(belief.searched.fidelities)] = 0.0
    return shares / shares.sum().clamp(min=1e-12)

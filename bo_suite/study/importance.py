"""How much of the variation of a modelled function each parameter explains."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.alternatives import at_target
from bo_suite.data import CPU_DOUBLES, Dataset, Seeds
from bo_suite.errors import TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.candidates import sample
from bo_suite.space.space import Space
from bo_suite.storage.trial import Finished
from bo_suite.study.belief import Belief
from bo_suite.study.encoded import EncodedTrials
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

_DECILE, _WHISKER = 0.9, 2.0
"""Outcomes beyond the upper decile plus twice its distance from the best count as the worst of the others.
With the cap of the process, which is lower, sums look like interactions (benchmarks/importance.py)."""

_LARGEST_STD = 1e3
"""Standard deviations of the noise are clipped here; outcomes have standard deviation 1."""

_BEST_SHARE = 0.25
"""Share of the trials whose distribution PED-ANOVA compares with the uniform one. Compared with all trials,
it was right less often than by chance: a run gathers where the most important input is good, and then that
input no longer tells the best trials from the others."""

_BINS = 50
"""Points of the grid that PED-ANOVA evaluates the density of a continuous column on."""

_Function = Callable[[Tensor], Tensor]
"""Encoded rows (m, d) to values (s, m) of s functions."""


def sobol_indices(
    function: _Function, space: Space, count: int, seeds: Seeds
) -> tuple[jt.Float64[Tensor, "s d"], jt.Float64[Tensor, "s d"]]:
    """First-order and total Sobol indices of the inputs that are no fidelities, for s functions at once.

    With two independent samples A and B of uniform draws, A with column i of B as A_i, and f of a draw that
    of the row that it stands for:
    main_i = (E[(f(B) - f(A))²] - E[(f(B) - f(A_i))²]) / (2 V) and total_i = E[(f(A) - f(A_i))²] / (2 V)
    (Jansen 1999; his first numerator has 2 V for E[(f(B) - f(A))²], which is its expectation, but leaves an
    error to inputs without effect). V = var f over both samples, and 0 <= main_i <= total_i <= 1: what the
    errors of the samples bring beyond is cut off. Inputs are independent and uniform over the encoded space:
    levels are equally likely, log scales uniform in the log. A conditional input has an effect where it is
    active. A and B are halves of one Sobol sequence (Saltelli 2002).

    Args:
        function: of encoded rows.
        space: of the rows; fidelities are held at their target, where their indices are 0.
        count: rows of each sample, a power of two.
        seeds: of the shift of the Sobol sequence.
    """
    uniform = seeds.sobol(count, torch.empty(0, 2 * space.dim, **CPU_DOUBLES))
    halves = uniform.split(space.dim, -1)
    first, second = (function(at_target(sample(space, half), space.fidelities)) for half in halves)
    both = torch.cat((first, second), -1)
    variance = both.var(-1, correction=0)
    main, total = torch.zeros(2, len(first), space.dim, **CPU_DOUBLES)
    for column, levels in enumerate(space.levels):
        if column in space.fidelities or levels == 1:
            continue
        mixed = halves[0].clone()  # draws, not rows, in which inactive columns have no position to mix
        mixed[:, column] = halves[1][:, column]
        values = function(at_target(sample(space, mixed), space.fidelities))
        main[:, column] = 0.5 * ((second - first).square() - (second - values).square()).mean(-1)
        total[:, column] = 0.5 * (first - values).square().mean(-1)
    varies = variance > _SMALLEST_VARIANCE * both.square().mean(-1).clamp(min=1.0)
    scale = torch.where(varies, variance, math.inf)[:, None]
    total = torch.minimum(total, variance[:, None])
    return torch.minimum(main.clamp(min=0.0), total) / scale, total / scale


def ped_anova(
    rows: jt.Float64[Tensor, "n d"], losses: jt.Float64[Tensor, " n"], space: Space
) -> jt.Float64[Tensor, " d"]:
    """Importances of the inputs for being among the best quarter of the trials; their sum is 1, or all are 0.

    v_i = Σ p (q_i / p - 1)², the Pearson divergence of the density q_i of column i among the best trials from
    the uniform one p, on a grid (Watanabe et al. 2023, importance in the whole space). q_i is of Gaussian
    kernels with Scott's bandwidth, or frequencies of categories, mixed with a uniform density that counts as
    one more trial. Of a conditional column only the trials in which it is active count.

    Args:
        rows: of the trials.
        losses: their outcomes, smaller is better.
        space: of the rows.
    """
    divergence = rows.new_zeros(space.dim)
    if bool((losses == losses[0]).all()):
        return divergence
    count = max(math.ceil(_BEST_SHARE * len(losses)), 2)
    best = rows[losses <= losses.sort().values[count - 1]]
    active = space.columns.active(best)
    for column, levels in enumerate(space.levels):
        bins = _BINS if levels is None else min(levels, _BINS)
        density = _density(best[active[:, column], column], bins, smooth=column not in space.unordered)
        divergence[column] = (density * bins - 1.0).square().mean()
    whole = divergence.sum()
    return divergence / torch.where(whole > 0.0, whole, 1.0)


def _density(positions: Tensor, bins: int, *, smooth: bool) -> Tensor:
    """Probabilities of the points of a grid over [0, 1]."""
    grid = torch.linspace(0.0, 1.0, bins, dtype=positions.dtype)
    if smooth and bins > 1 and len(positions):
        quartiles = positions.quantile(positions.new_tensor([0.25, 0.75]))
        deviation = min(float(positions.std(correction=0)), float(quartiles.diff()) / 1.34)
        width = max(1.059 * deviation * len(positions) ** -0.2, 0.5 / (bins - 1))  # at least half a step
        kernels = torch.softmax(-0.5 * ((grid - positions[:, None]) / width).square(), -1)
    else:
        kernels = torch.nn.functional.one_hot((positions * (bins - 1)).round().long(), bins).to(positions)
    return (kernels.sum(0) + 1.0 / bins) / (len(positions) + 1.0)


def importance_of(belief: Belief) -> "pd.DataFrame":
    """The importance of each parameter, the most important first; see `Belief.importance`.

    Raises:
        TrialError: fewer than three trials are finished.
    """
    import pandas as pd

    if len(belief.trials) < LEAST:
        raise TrialError(f"importances need {LEAST} finished trials, got {len(belief.trials)}")
    space, target = belief.searched, belief.space.target_fidelity
    with numerical_environment(), torch.no_grad():
        process = belief.surrogate.fit(_outcomes_in_units(belief), belief.seeds)
        main, total = sobol_indices(_mean(process), space, _points(space), belief.seeds.split("mean"))
        low, high = _interval(process, space, total[0], belief.seeds.split("draws"))
        shares = _second_opinion(belief)
    if not bool(total.any()):  # the mean is constant
        low = high = torch.zeros_like(total[0])
    columns = (main[0], total[0], low, high, shares)
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


def _interval(process: Process, space: Space, total: Tensor, seeds: Seeds) -> tuple[Tensor, Tensor]:
    """The 5 % and the 95 % quantiles of the total indices of draws; NaN if none can be drawn.

    The error of a small sample is nearly that of the mean on the same sample, and is taken away; what lies
    outside of [0, 1] after that is moved there.

    Args:
        process: the model.
        space: of its rows.
        total: indices of the mean, from a large sample.
        seeds: of the draws and of the sample.
    """
    if not has_paths(process):
        unknown = torch.full_like(total, math.nan)
        return unknown, unknown
    mean, draws = mean_path(process), draw_paths(process, _DRAWS, seeds.split("paths"))

    def values(rows: Tensor) -> Tensor:
        moved = rows.to(process.noise)
        return torch.cat((mean(moved), draws(moved))).cpu().double()

    _, totals = sobol_indices(values, space, _POINTS_OF_DRAWS, seeds)
    corrected = (totals[1:] + (total - totals[0])).clamp(0.0, 1.0)
    return corrected.quantile(0.05, dim=0), corrected.quantile(0.95, dim=0)


def _outcomes_in_units(belief: Belief) -> Dataset:
    """The data of a belief with outcomes in the user's units, capped and standardised."""
    losses = _losses(belief, belief.trials)
    unit = losses.abs().max()
    unit = torch.where(unit > 0, unit, 1.0)  # outcomes may be as large as 1e300
    relative = losses / unit
    best, decile = relative.min(), relative.quantile(_DECILE)
    usual = relative <= decile + _WHISKER * (decile - best)
    capped = relative.clamp(max=relative[usual].max()) if decile > best else relative
    scale = capped.std(correction=0)
    scale = torch.where(scale > 1e-13, scale, 1.0)
    noise = None
    if belief.data.noise is not None:
        std = [math.nan if trial.std is None else trial.std for trial in belief.trials]
        noise = (torch.tensor(std, **CPU_DOUBLES) / unit / scale).clamp(max=_LARGEST_STD).square()
    data, rows = belief.data, belief.rows
    y = (capped - capped.mean()) / scale
    gradient = EncodedTrials.of(belief.searched, belief.trials).known_gradient
    if gradient is not None:
        gradient = torch.where(
            (relative <= capped)[:, None], belief.sign * gradient / unit / scale, torch.nan
        )
    return replace(
        data,
        x=data.x[rows],
        y=y.to(data.y),
        noise=None if noise is None else noise.to(data.y),
        outside=None if data.outside is None else data.outside[rows],
        curves=None,
        gradient=None if gradient is None else gradient.to(data.y),
        x_std=None if data.x_std is None else data.x_std[rows],
    )


def _losses(belief: Belief, trials: Sequence[Finished]) -> Tensor:
    """Outcomes, smaller is better."""
    return belief.sign * torch.tensor([trial.value for trial in trials], **CPU_DOUBLES)


def _second_opinion(belief: Belief) -> Tensor:
    """`ped_anova` of the trials in the space and at the target fidelity; at any if there are too few there.

    All 0 if fewer than `LEAST` are in the space, as after it was narrowed.
    """
    trials = [trial for trial in belief.trials if belief.space.contains(trial.params)]
    final = [trial for trial in trials if belief.space.at_target(params := trial.params) == params]
    trials = final if len(final) >= LEAST else trials
    if len(trials) < LEAST:
        return torch.zeros(belief.searched.dim, **CPU_DOUBLES)
    rows = belief.encode([trial.params for trial in trials])
    shares = ped_anova(rows, _losses(belief, trials), belief.searched)
    shares[list(belief.searched.fidelities)] = 0.0
    return shares / shares.sum().clamp(min=1e-12)

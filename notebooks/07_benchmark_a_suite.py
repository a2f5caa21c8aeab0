# %% [markdown]
# # Benchmark a suite
#
# Somebody shows you a curve: their optimiser finds the minimum in half the evaluations. Should you
# believe it? You will see two methods win and lose by the seed alone, two dozen runs made as one
# tensor program, a small suite with its report, and then the longer part: what such a report does
# not show. Most of that is shown on methods that are all the same. It runs in about a minute and
# needs `optuna` beside `bo_suite`.

# %% tags=["parameters"]
SEEDS, BUDGET = 24, 30  # runs of one problem, and evaluations of each
SUITE_SEEDS, SUITE_BUDGET = 8, 20
TWIN_SEEDS = 40  # runs of each of six methods that are the same
TOURNAMENTS = 2000

# %%
# %matplotlib inline
import tempfile
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bo_suite import Optimizer
from bo_suite.acquisition import LogExpectedImprovement, UpperConfidenceBound
from bo_suite.bench import BoSuite, compare, get_method, report, run_replicates, run_suite
from bo_suite.plot import plot_regret
from bo_suite.plot.style import LINES, new_figure
from bo_suite.problems import get_problem

scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
torch.set_num_threads(1)  # seconds below are of one core

# %% [markdown]
# ## One run says nothing
#
# `hartmann3` is a smooth function of three parameters with a minimum that is known, so we can draw
# the regret: how far the best point so far is above it. `run_replicates` minimises it once for
# every seed, all runs at once. Here are two acquisitions. The two panels on the left are what you
# may get if you run each of them once, with one seed or with another (we picked the largest lead
# of either); the panel on the right is every run, with the medians thick.

# %%
problem = get_problem("hartmann3")
contenders = {
    "log expected improvement": LogExpectedImprovement(),
    "upper confidence bound": UpperConfidenceBound(),
}
found, took = {}, {}
for name, acquisition in contenders.items():
    start = time.process_time()
    found[name] = run_replicates(problem, acquisition, seeds=range(SEEDS), budget=BUDGET)
    took[name] = time.process_time() - start
regret = {name: (runs.best - problem.minimum).clamp_min(1e-7) for name, runs in found.items()}

first, second = regret.values()
lead = (first / second)[:, -1]
chosen = [int(lead.argmin()), int(lead.argmax())]  # where the first leads by most, and the second
steps = range(1, BUDGET + 1)
figure, [panels] = new_figure(1, 3, width=8.4, height=3.6)
for axes, seeds, title in zip(
    panels,
    ([chosen[0]], [chosen[1]], range(SEEDS)),
    (
        f"seed {chosen[0]}: solid is better",
        f"seed {chosen[1]}: dashed is better",
        f"all {SEEDS} seeds",
    ),
    strict=True,
):
    for style, (name, paths) in zip(LINES, regret.items(), strict=False):
        single = len(seeds) == 1
        if not single:
            axes.plot(steps, paths.T, color=style.color, linewidth=0.5, alpha=0.4)
        axes.plot(
            steps,
            paths[list(seeds)].quantile(0.5, 0),
            color=style.color,
            linestyle=style.dashes,
            linewidth=1.8 if single else 3.0,
            label=name,
        )
    axes.set(yscale="log", ylim=(5e-8, 8), xlabel="evaluations")
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelleft=axes is panels[0])
panels[0].set_ylabel("regret")
entries = panels[0].get_legend_handles_labels()
figure.legend(*entries, loc="outside lower center", ncols=2, frameon=False)
figure

# %%
for name, paths in regret.items():
    low, high = (float(end) for end in paths[:, -1].quantile(torch.tensor([0.1, 0.9]).double()))
    print(f"{name}: a run in ten ends below {low:.1e}, and one in ten above {high:.1e}.")
assert lead.min() < 1 < lead.max(), "each has a seed with which it wins"
assert all(paths[:, -1].max() > 2 * paths[:, -1].min() for paths in regret.values())

# %% [markdown]
# The horizontal threads in the right panel are runs that have settled elsewhere, and nothing in
# such a run tells its owner. Whoever shows one run can show you either story.
#
# ## Two dozen runs as one program
#
# A replicate is not an approximation of a run. Every matrix has one more dimension, and what one
# run decides it decides alone: its fit, its search, its step lengths. So a replicate is the run
# that an `Optimizer` makes with the same seed, up to rounding errors, which may grow after some
# dozens of evaluations. Let us make one of them the slow way.

# %%
optimizer = Optimizer(problem.space, acquisition=LogExpectedImprovement(), seed=1, budget=BUDGET)
values, clock = [], []
start = time.process_time()
for _ in range(BUDGET):
    trial = optimizer.ask()
    values.append(problem(trial.params))
    optimizer.tell(trial, values[-1])
    clock.append(time.process_time() - start)

together = took["log expected improvement"] / SEEDS
apart = (torch.tensor(values) - found["log expected improvement"].values[1]).abs()
print(f"The values of the two runs differ by {apart.max():.0e} at most.")
print(f"Alone a run takes {clock[-1]:.2f} s of CPU; of {SEEDS} together each takes", end=" ")
print(f"{together:.2f} s: {clock[-1] / together:.1f} times as fast.")
assert apart[:15].max() < 1e-5
assert clock[-1] > together

# %% [markdown]
# ## A suite
#
# One problem says little more than one seed. `run_suite` runs every method on every problem with
# every seed, and stores each run in the folder when it ends. Kill it, and the same call goes on
# where it was; several runners may share a folder. Where a problem is cheap, the seeds of our own
# methods run as one program without being asked to.
#
# A method of your own is an object with a name that says how to `start`, and a configuration of
# ours is one: `BoSuite(acquisition, name=...)`.

# %%
methods = [
    "bo_suite",
    BoSuite(UpperConfidenceBound(), name="bo_suite, UCB"),
    "tpe",
    "sobol",
    "random",
]
records = run_suite(
    "branin,goldstein_price,hartmann3,noisy_branin",
    methods,
    seeds=range(SUITE_SEEDS),
    budget=SUITE_BUDGET,
    out=folder / "first",
    workers=1,
    progress=False,
)
records.evaluations[["problem", "method", "seed", "evaluation", "value", "regret"]].tail(3)

# %% [markdown]
# `compare` turns the records into tables, and into sentences that are meant to be quoted whole.

# %%
comparison = compare(records)
print(comparison)

# %%
page = report(folder / "first")
print(f"{page.name}: {page.stat().st_size / 1e3:.0f} kB, needs no network;")
print("beside it, the script that draws its figures, and the tables:")
print(textwrap.fill(", ".join(sorted(table.name for table in page.parent.glob("*.csv"))), 90))

# %% [markdown]
# The page lies in the folder of the suite. It shows the same numbers as pictures, and the commands
# and versions that made them. Two of its pictures are worth drawing here: the median over all
# problems and seeds of the normalised regret (1 is where a run typically starts), after each
# evaluation and after each second that a method spent on choosing. For the panel on the right mind
# the last sentence that `compare` printed: seconds of runs that went together are shares, and a
# run of ours that goes alone takes several times as long.

# %%
plot_regret(comparison.overall_curves, comparison.overall_curves_over_time, highlight="bo_suite")

# %% [markdown]
# ## Reading it critically: the intervals
#
# The bands say where the median would be if the *seeds* were drawn anew, on these very problems.
# They know nothing of other problems. With more seeds they shrink to nothing, and four problems
# remain four problems: that is why the sentence "over problems, ranks that differ by less than
# ..." asks for so large a difference. See how the order changes from row to row, and what little
# is left of it where the observations are noisy.

# %%
medians = comparison.summary.pivot(index="problem", columns="method", values="normalized")
assert len(medians.rank(axis=1).drop_duplicates()) > 1, "the order is not the same everywhere"
medians.round(4)

# %% [markdown]
# And from column to column: the order after a few evaluations is not the order at the end. A table
# at one budget is one cut through the curves, and whoever picks the cut picks the winner. If you
# can afford 8 evaluations, read at 8.

# %%
cuts = sorted({2, 5, SUITE_BUDGET // 2, SUITE_BUDGET})
overall = comparison.overall_curves.pivot(index="evaluation", columns="method", values="normalized")
order = overall.loc[cuts].rank(axis=1)
assert (order.iloc[0] != order.iloc[-1]).any()
order.rename_axis(columns="rank by the median")

# %% [markdown]
# ## A method against itself
#
# Now six methods that cannot differ: each is random search under another name. With a seed in
# common all of them would draw the same points and tie, so `salt` gives each draws of its own. A
# sound analysis should find nothing. This class, by the way, is all it takes to be a method.


# %%
@dataclass(frozen=True)
class Twin:
    """Random search under another name, with draws of its own."""

    name: str
    salt: int

    def start(self, task):
        return get_method("random").start(replace(task, seed=task.seed + self.salt))


twins = run_suite(
    "branin",
    [Twin(f"twin {letter}", salt) for salt, letter in enumerate("ABCDEF")],
    seeds=range(TWIN_SEEDS),
    budget=SUITE_BUDGET,
    out=folder / "twins",
    workers=1,
    progress=False,
)
equal = compare(twins)
ranked = equal.ranks.table
least = equal.pairs.loc[equal.pairs["p"].idxmin()]
print(f"Best mean rank: {ranked['method'].iloc[0]}, {ranked['mean_rank'].iloc[0]:.2f} of 6;")
print(f"worst: {ranked['method'].iloc[-1]}, {ranked['mean_rank'].iloc[-1]:.2f}.")
print(f"The smallest of {len(equal.pairs)} p-values, {least['first']} against {least['second']},")
print(f"is {least['p']:.3f}; Holm's correction makes {least['p_holm']:.2f} of it.")
assert not equal.pairs["separated"].any()

# %% [markdown]
# Somebody is always first. Fifteen tests at a level of 5% raise 0.75 false alarms on average, and
# the pair with the smallest p-value is the one that gets into the abstract. `compare` corrects for
# the number of pairs, says "do not separate", and how many seeds would. Two habits undo that: to
# run a benchmark until it separates, and to report only the pair that did.
#
# ## The winner's curse
#
# How much better does the best of six equal methods *look*? Since they are equal, every run of the
# last cell may have been anybody's. So deal them out at random: six players, $n$ runs each, the
# least median wins. Then let the winner play $n$ fresh runs.

# %%
pool = equal.finals["normalized"].to_numpy()
rng = np.random.default_rng(0)
counts = [2, 4, 8, 16, 32]
claimed, held = [], []
for n in counts:
    dealt = np.median(rng.choice(pool, (TOURNAMENTS, 6, n)), axis=-1)
    again = np.median(rng.choice(pool, (TOURNAMENTS, n)), axis=-1)
    claimed.append(np.quantile(np.median(pool) / dealt.min(axis=1), [0.1, 0.5, 0.9]))
    held.append(np.quantile(np.median(pool) / again, [0.1, 0.5, 0.9]))

figure, [[axes]] = new_figure(width=6.6, height=3.4)
for style, ends, name in zip(
    LINES, (claimed, held), ("in the tournament that it won", "in fresh runs"), strict=False
):
    low, middle, high = np.array(ends).T
    axes.fill_between(counts, low, high, color=style.color, alpha=0.15, linewidth=0)
    axes.plot(counts, middle, style.marker, color=style.color, linestyle=style.dashes, label=name)
axes.axhline(1, color="0.6", linewidth=0.8)
axes.set(xscale="log", yscale="log", xlabel="seeds a method", ylabel="times better than the field")
axes.set_xticks(counts, [str(n) for n in counts])
axes.set_yticks([0.5, 1, 2, 5, 10], ["½", "1", "2", "5", "10"])
axes.minorticks_off()
axes.set_title("The best of six equal methods, 80% of the tournaments", loc="left", fontsize=10)
axes.legend(frameon=False)
figure

# %%
print(f"With 2 seeds the winner of equals looks {claimed[0][1]:.1f} times better than the field,")
print(f"with 32 seeds {claimed[-1][1]:.1f} times; in fresh runs {held[-1][1]:.1f} times.")
assert claimed[0][1] > claimed[-1][1] > 1
assert 0.7 < held[-1][1] < 1.4

# %% [markdown]
# The same happens to whoever tunes a method on a benchmark and then reports that benchmark. Choose
# on some seeds and problems, report on others. Our own default was chosen on some of the problems
# on which the README reports it; the page of benchmarks says so.
#
# ## What an evaluation costs decides
#
# Test functions take microseconds; yours may take minutes. An optimiser that thinks for a fraction
# of a second is slow in the one case and free in the other. Random search in the suite stopped
# when its evaluations were spent; let it go on for as long as `bo_suite` took, and charge both for
# evaluations that cost nothing, and that cost a second. On the left, look at who leads early and
# who leads late.

# %%
spent = comparison.summary.set_index("method")["suggestion_seconds"]
each = float(spent.loc["random"].median())
draws = int(clock[-1] / each)
ends = torch.tensor([[parameter.low, parameter.high] for _, parameter in problem.space])
low, high = ends.double().T
sampled = []
for seed in range(SEEDS):
    rows = torch.rand(draws, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sampled.append(problem.vectorized(low + (high - low) * rows).cummin(0).values)
guessed = torch.stack(sampled).median(0).values - problem.minimum
searched = regret["log expected improvement"].median(0).values

figure, [panels] = new_figure(1, 2, width=8.4, height=3.4)
number = torch.arange(1, draws + 1)
costs = {"free evaluations": 0.0, "a second each": 1.0}
for axes, (title, cost) in zip(panels, costs.items(), strict=True):
    thinking = torch.tensor(clock) + cost * torch.arange(1, BUDGET + 1)
    guessing = (each + cost) * number
    shown = guessing <= thinking[-1]
    for style, x, y, name in (
        (LINES[0], thinking, searched, "bo_suite"),
        (LINES[1], guessing[shown], guessed[shown], "random search"),
    ):
        axes.step(x, y, where="post", color=style.color, linestyle=style.dashes, label=name)
    axes.set(xscale="log", yscale="log", xlabel="seconds, evaluations included")
    axes.set_ylim(0.4 * float(min(searched[-1], guessed[-1])), 8)
    axes.tick_params(labelleft=axes is panels[0])
    axes.set_title(title, loc="left", fontsize=10)
panels[0].set_ylabel("median regret on hartmann3")
panels[1].legend(frameon=False)
figure

# %%
tenth = sum(when <= 0.1 * clock[-1] for when in clock)
print(f"In {0.1 * clock[-1]:.2f} s bo_suite evaluates {tenth} times,", end=" ")
print(f"random search {draws // 10:,}:")
print(f"regrets of {searched[max(tenth, 1) - 1]:.2g} and {guessed[draws // 10 - 1]:.2g}.")
print(f"At a second each, {BUDGET} evaluations leave", end=" ")
print(f"{searched[-1]:.1g} and {guessed[BUDGET - 1]:.1g}.")
assert guessed[draws // 10 - 1] < searched[max(tenth, 1) - 1]
assert searched[-1] < guessed[BUDGET - 1]

# %% [markdown]
# ## What crashes do
#
# A run that died has no result, and the tempting thing is to average over the others. That rewards
# methods that fail where it is hard. Here a crashed run counts as the worst outcome, a time-out
# keeps what it had found, and both are counted in plain sight.


# %%
@dataclass(frozen=True)
class Fragile:
    """Sobol points, but with about one seed in four it cannot start."""

    name: str = "fragile"

    def start(self, task):
        if task.seed % 4 == 0:
            raise RuntimeError("a matrix was not positive definite")
        return get_method("sobol").start(task)


broken = compare(
    run_suite(
        "branin",
        [Fragile(), "sobol"],
        seeds=range(16),
        budget=8,
        out=folder / "broken",
        workers=1,
        progress=False,
    )
)
print(*broken.sentences[1:3], *broken.sentences[-1:], sep="\n")
pair = broken.pairs.iloc[0]
print(f"Of {pair['pairs']} pairs {pair['ties']} are ties; {pair['first']} loses {pair['losses']}.")
crashed = broken.failures.set_index("method")["crashed"]
assert crashed["fragile"] == pair["losses"] > 0 == crashed["sobol"]
scratch.cleanup()

# %% [markdown]
# Where `fragile` lives, it is `sobol`, point for point. Leave out the crashes and the two are the
# same; count them, and it is worse, though a few crashes do not separate it. So read the count as
# well: no test needs to tell you that you do not want it. Once it is mended, `run_suite(...,
# again=("crashed",))` runs those units alone.

# %% [markdown]
# ## When to use this
#
# Use `run_suite` and `compare` when you have to choose an optimiser for many runs to come, or have
# changed one and want to know whether it is better: on problems like yours, given as `Problem`
# objects or by `module:attribute`, with ten or more seeds, at the budget you can afford. The
# suites `synthetic`, `noisy`, `mixed`, `tuning` and `tabular` are a start; smooth functions of a
# few parameters flatter Gaussian processes, and none of them is your problem. Use `run_replicates`
# when one cheap problem is enough and you want the spread: a new acquisition, a regression test, a
# picture such as the first one. From the shell it is `bo-suite bench` and `bo-suite report`.
#
# Do not use it to choose for a single expensive problem. Its runs cost more than the answer is
# worth; run `minimize` with the defaults, and look at `plot_convergence`. Do not read seconds of
# several seeds that ran as one program as times of a suggestion: say `together=1` for those. And
# where the report says that the data do not separate two methods, take the one that is simpler.

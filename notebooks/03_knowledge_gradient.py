# %% [markdown]
# # The knowledge gradient: what is one more observation worth?
#
# You may measure once more, and then you must name the lowest point. Where do you measure? Not
# necessarily where you hope for a low value: where the answer would most improve what you *believe*
# to be the lowest value. That improvement, averaged over what you may see, is the knowledge
# gradient.
#
# We follow Louis Tiao's draft [An Illustrated Guide to the Knowledge Gradient
# ](https://tiao.io/post/an-illustrated-guide-to-the-knowledge-gradient-acquisition-function/)
# picture by picture. Then we go where the guide stops: the same number without simulation, at every
# point of the axis, and a search under noise. It takes ten minutes to read and one to run.

# %% tags=["parameters"]
OUTCOMES = 1800  # simulated at one candidate, at least 100
SIMULATED = 200  # at each of a few other candidates
SEEDS = 10  # searches under noise
BUDGET = 24  # evaluations of each
FIDELITY_BUDGET = 16  # evaluations of the last example

# %%
# %matplotlib inline
import time

import numpy as np
import pandas as pd
import torch
from scipy.stats import wilcoxon

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import (
    AffineCost,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    discrete_knowledge_gradient,
)
from bo_suite.bench import run_replicates
from bo_suite.data import Dataset, Seeds
from bo_suite.plot.style import GOLD, INK, LINES, MIST, RED, draw_process, new_figure
from bo_suite.problems import get_problem, noisy
from bo_suite.surrogates import ExactGP
from figures import plot_lines, plot_simulation
from simulation import simulate_knowledge_gradient

torch.set_num_threads(1)  # these matrices are small

# %% [markdown]
# ## Ten noisy observations
#
# The guide's function is $f(x) = \sin 3x + x^2 - 0.7x$ on $[-1, 2]$. We see it at ten random
# places, with noise. The package works on inputs scaled to $[0, 1]$, so `user` maps them back for
# the pictures.


# %%
def f(x):
    return torch.sin(3 * x) + x**2 - 0.7 * x


def user(rows):
    return 3 * rows[..., 0] - 1


torch.manual_seed(2)
x = torch.rand(10, 1, dtype=torch.float64)
y = f(user(x)) + 0.2 * torch.randn(10, dtype=torch.float64)
grid = torch.linspace(0, 1, 601, dtype=torch.float64)[:, None]

figure, ((axes,),) = new_figure(height=3.2)
axes.plot(user(grid), f(user(grid)), ":", color=INK, label="truth")
axes.plot(user(x), y, "o", color=INK, markersize=5, label="observation")
axes.set(xlabel="x", ylabel="y", xlim=(-1, 2))
axes.set_title("what we want to minimise, and what we have seen of it", loc="left", fontsize=10)
axes.legend(frameon=False, loc="upper center")
figure

# %% [markdown]
# ## Step 1: fit the hyperparameters
#
# A Gaussian process with a lengthscale, an amplitude and a noise that nobody chose with care (all
# one) fits badly, and its band says little. So we estimate them. The guide maximises the
# likelihood; `ExactGP` adds weak priors, which matter with ten points. The dark band is for the
# function, the light one for the next observation.

# %%
data, seeds = Dataset(x, y), Seeds.of(seed=0, trial=0)
surrogate = ExactGP()
process = surrogate.fit(data, seeds)
ones = torch.tensor([1 / 3, 1.0, 1.0], dtype=torch.float64)  # lengthscale 1 is a third of the range
before = surrogate.process(data, ones.log())

candidate = torch.tensor([(0.1 + 1) / 3], dtype=torch.float64)  # x = 0.1, as in the guide
draws = Seeds.of(seed=36, trial=0)  # chosen so that the first five outcomes are told apart
once = simulate_knowledge_gradient(process, candidate, 1, draws)
scene = {"x": x, "y": y, "truth": lambda rows: f(user(rows)), "bounds": (-1, 2)}
plot_simulation(once, **scene, before=before, panels=("before", "fit"))

# %% [markdown]
# ## Step 2: what we believe the minimum to be
#
# If we had to stop now, we would name the lowest point of the mean. Its value, at the star, is
# $\tau_n = \min_{x'} \mu_n(x')$.

# %%
plot_simulation(once, **scene, panels=("minimum",))

# %% [markdown]
# ## Steps 3 and 4: one imagined outcome
#
# What would we learn at $x_c = 0.1$? Imagine an outcome there, drawn from the predictive
# distribution. Condition on it, and the mean bends (left). Minimise the new mean, and its minimum
# is $\tau_{n+1}^{(1)}$ (right, enlarged). The distance between the two dashed lines is one sample
# of the knowledge gradient
#
# $$\alpha(x_c) = \mathbb{E}\,[\tau_n - \tau_{n+1}].$$

# %%
plot_simulation(once, **scene, panels=("outcomes", "minima"))

# %% [markdown]
# One sample is a crude estimate. With five, something shows that is easy to miss in a formula: good
# news *and* bad news both help. A low outcome draws the minimum towards the candidate. A high
# outcome pushes it away, to the left, and the mean there falls too.

# %%
five = simulate_knowledge_gradient(process, candidate, 5, draws)
plot_simulation(five, **scene, panels=("outcomes", "minima"))

# %% [markdown]
# ## Is one sample unbiased?
#
# The guide says so. It is true with a condition: every inner minimum must be the *global* one. Here
# is the extreme case. Suppose that the search for the new minimum never leaves the old minimiser.
# The mean at any fixed point rises as often as it falls, so the estimate is zero on average,
# whatever the candidate. A search that gets stuck halfway ends, on average, somewhere between zero
# and the truth.

# %%
many = simulate_knowledge_gradient(process, candidate, OUTCOMES, seeds)
gains = many.minimum - many.minima

given = process.condition(candidate[None], many.outcomes[:, None])
stuck = many.minimum - given.mean(many.minimizer[None])[:, 0]  # inner searches that go nowhere
stuck_error = stuck.std() / OUTCOMES**0.5
print(f"inner problems solved    {many.value:.4f} ± {many.standard_error:.4f}")
print(f"inner searches stuck     {stuck.mean():.4f} ± {stuck_error:.4f}")
print(f"single samples below 0   {(gains < 0).double().mean():.0%}: the believed minimum went up")
assert abs(stuck.mean()) < 4 * stuck_error  # nothing but noise
assert many.value > 4 * many.standard_error  # clearly positive

# %% [markdown]
# ## The same without simulation
#
# The guide calls the expectation intractable. Over a continuum of places it is. Over finitely many
# it is a formula, and it is worth a picture. The posterior mean at any $x'$ after an observation at
# $x_c$ is a *straight line* in the standardised outcome $z$:
#
# $$\mu_{n+1}(x') = \mu_n(x') + \tilde\sigma(x', x_c)\,z,
# \qquad \tilde\sigma(x', x_c)
# = \frac{\mathrm{cov}_n(x', x_c)}{\sqrt{\mathrm{var}_n(x_c) + \sigma^2}},
# \qquad z \sim \mathcal N(0, 1).$$
#
# Draw one line for each of 31 evenly spread places and one for the present minimiser. For every $z$
# the lowest line is $\tau_{n+1}$: the red envelope. Each piece of it belongs to one place $x'$, and
# the pieces meet at the breakpoints.

# %%
best = many.minimizer[None]
places = torch.cat((torch.linspace(0, 1, 31, dtype=torch.float64)[:, None], best))
plot_lines(process, candidate, places, bounds=(-1, 2))

# %% [markdown]
# Read it from the left. Low outcomes (small $z$) make places near the candidate the best. High ones
# make places to the left of the present minimiser the best. Near $z = 0$ little changes, and the
# believed minimum may even rise a little: those are the samples below zero that we counted. The gap
# to $\tau_n$, averaged over $z$, is the knowledge gradient. Between two breakpoints that is an
# integral of a straight line times a normal density, known in closed form (Frazier, Powell and
# Dayanik, 2009). `discrete_knowledge_gradient` adds up the pieces. It asks which line is the
# *highest*, so we change the signs.


# %%
def closed_form(candidates, alternatives):
    deviation = (process.var(candidates) + process.noise).sqrt()
    slopes = process.cov(candidates, alternatives) / deviation[:, None]
    means = process.mean(alternatives).expand_as(slopes)
    return discrete_knowledge_gradient(-means, -slopes)


rows = []
for count in (6, 11, 31, 151, 601, 3001):
    alternatives = torch.cat((torch.linspace(0, 1, count, dtype=torch.float64)[:, None], best))
    rows.append((count + 1, float(closed_form(candidate[None], alternatives))))
values = [value for _, value in rows]
exact = values[-1]
assert values[0] < values[2] < exact
assert abs(values[-2] / exact - 1) < 0.01
pd.DataFrame(rows, columns=["alternatives", "knowledge gradient"]).round(4)

# %% [markdown]
# With few alternatives the value is too small: a minimum between them cannot be found. (The present
# minimiser is always among them, or $\tau_n$ itself would be wrong.) A few hundred are enough in
# one dimension.
#
# Does the simulation agree? We cut the outcomes into blocks, each four times as long as the one
# before. Their averages should scatter about the line, within bands that halve each time.

# %%
sizes = [5 * 4**k for k in range(6) if 5 * (4 ** (k + 1) - 1) / 3 <= OUTCOMES]
blocks = gains[: sum(sizes)].split(sizes)
means = np.array([float(block.mean()) for block in blocks])
errors = np.array([float(block.std()) / len(block) ** 0.5 for block in blocks])
reach = 2 * float(gains.std()) / np.geomspace(sizes[0] / 1.6, sizes[-1] * 1.6, 50) ** 0.5

figure, ((axes,),) = new_figure(height=3.4)
axes.fill_between(
    np.geomspace(sizes[0] / 1.6, sizes[-1] * 1.6, 50),
    exact - reach,
    exact + reach,
    color=MIST,
    alpha=0.4,
    linewidth=0,
    label=r"two standard errors, $\propto 1/\sqrt{M}$",
)
axes.axhline(exact, color=RED, linewidth=1.8, label="closed form")
label = "Monte Carlo, a block of outcomes"
axes.errorbar(sizes, means, 2 * errors, fmt="o", color=INK, capsize=4, label=label)
axes.set(xscale="log", xlabel="simulated outcomes M", ylabel="knowledge gradient at 0.1")
axes.set_title("the simulation closes in on the closed form", loc="left", fontsize=10)
axes.legend(frameon=False, fontsize=9)
assert all(abs(means - exact) < 4 * float(gains.std()) / np.array(sizes) ** 0.5)
figure

# %% [markdown]
# ## Every candidate at once
#
# The guide scores one candidate and stops before choosing one. It also speaks of *minimising* the
# knowledge gradient; what is to be minimised is $f$, and the gradient is a gain, to be maximised.
# `KnowledgeGradient` is made for that. Its `build` finds a modest set of alternatives that matter,
# and returns a score (the logarithm of the gain) for any number of candidates, with derivatives.

# %%
start = time.perf_counter()
score = KnowledgeGradient(surrogate=surrogate).build(data, seeds)
build_ms = 1e3 * (time.perf_counter() - start)
start = time.perf_counter()
with torch.no_grad():
    gain = score(grid).exp()
score_ms = 1e3 * (time.perf_counter() - start)

chosen = torch.tensor([0.12, 0.2, 0.27, 0.32, 0.4, 0.75], dtype=torch.float64)[:, None]
start = time.perf_counter()
simulated = [simulate_knowledge_gradient(process, row, SIMULATED, seeds) for row in chosen]
simulation_ms = 1e3 * (time.perf_counter() - start) / len(chosen)

dense = closed_form(grid, torch.cat((grid, best)))
top = int(gain.argmax())
place, least = user(grid)[top], user(grid)[gain.argmin()]
print(f"measure next at x = {place:.3f}: worth {gain[top] / exact:.1f} times as much as x = 0.1")
print(f"the smallest gain is at x = {least:.3f}: {gain.min():.5f} of {gain.max():.4f}")
print(f"closed form: {build_ms:.0f} ms to build, {score_ms:.0f} ms for {len(grid)} candidates")
print(f"Monte Carlo: {simulation_ms:.0f} ms for one candidate, {SIMULATED} outcomes")
assert (gain <= 1.01 * dense + 1e-6).all()
assert gain.sum() > 0.95 * dense.sum()
assert gain.min() < 0.1 * gain.max()

# %%
figure, ((above,), (below,)) = new_figure(2, 1, height=5.4, ratios=(1.2, 1.0))
draw_process(above, process, grid, at=user(grid))
above.plot(user(x), y, "o", color=INK, markersize=5, label="observation")
above.set(ylabel="y", xlim=(-1, 2), ylim=(-1.1, 2.6))
below.plot(user(grid), gain, color=RED, linewidth=1.8, label="closed form")
below.errorbar(
    user(chosen),
    [float(one.value) for one in simulated],
    [2 * float(one.standard_error) for one in simulated],
    fmt="s",
    color=INK,
    markersize=4,
    capsize=4,
    label="Monte Carlo, two standard errors",
)
below.plot(user(x), [0] * len(x), "|", color=INK, markersize=10, label="observed here")
for panel in (above, below):
    panel.axvline(float(user(grid)[top]), color=GOLD, linewidth=2, zorder=0, label="measure next")
    panel.legend(frameon=False, fontsize=9, loc="upper right")
below.set(xlabel="x", ylabel="knowledge gradient", xlim=(-1, 2))
above.set_title("what we believe", loc="left", fontsize=10)
above.tick_params(labelbottom=False)
below.set_title("what one more observation would be worth", loc="left", fontsize=10)
for one, row in zip(simulated, chosen, strict=True):
    value = closed_form(row[None], torch.cat((grid, best)))
    assert abs(one.value - value) < 5 * one.standard_error + 1e-4
figure

# %% [markdown]
# The curve has two peaks, one on each side of the lowest observation, and is next to nothing *at*
# it: there we know what we would hear. It is next to nothing in most of the right half too,
# although the band is wide: no outcome there is likely to change which point we would name.
#
# ## A search under noise
#
# In a search the pieces come together: fit, maximise the score, evaluate, and start again. Is it
# better than expected improvement (notebook 01)? That hopes to beat the lowest observation, which
# noise may have made too low; `NoisyExpectedImprovement` averages over what the function may be at
# the observed points. We run three acquisitions on the same function with noise of standard
# deviation 0.2, on the same seeds, all seeds in lockstep. The judge is the true value of the point
# that `Optimizer.recommend()` would name at the end, not the luckiest observation.

# %%
problem = noisy(get_problem("sin3"), 0.2)  # the same function, as a problem with a known minimum
methods = {
    "KnowledgeGradient": KnowledgeGradient(),
    "LogExpectedImprovement": LogExpectedImprovement(),
    "NoisyExpectedImprovement": NoisyExpectedImprovement(),
}
runs = {
    name: run_replicates(problem, acquisition, seeds=range(SEEDS), budget=BUDGET)
    for name, acquisition in methods.items()
}


def regrets(run, count):
    found = []
    for seed, rows, values in zip(run.seeds, run.rows, run.values, strict=True):
        told = Optimizer(problem.space, seed=seed)
        for params, value in zip(problem.space.decode(rows[:count]), values[:count], strict=True):
            told.add(params, float(value))
        found.append(problem.value(told.recommend()) - problem.minimum)
    return np.array(found)


half, full = ({name: regrets(run, n) for name, run in runs.items()} for n in (BUDGET // 2, BUDGET))

# %% [markdown]
# First, where they measure. Every dot is an evaluation of one of the searches; the first ones are a
# space-filling start.

# %%
figure, panels = new_figure(1, 3, width=8.4, height=3.4)
for panel, (name, run), line in zip(panels[0], runs.items(), LINES, strict=False):
    number = torch.arange(1, BUDGET + 1).expand(run.values.shape)
    at = user(run.rows).flatten()
    panel.plot(number.flatten(), at, line.marker, color=line.color, ms=4, alpha=0.6)
    panel.axhline(problem.minimizers[0]["x1"], color=INK, linewidth=1, linestyle="--")
    panel.set(xlabel="evaluation", ylim=(-1.05, 2.05))
    panel.set_title(name, loc="left", fontsize=10)
    panel.tick_params(labelleft=panel is panels[0, 0])
panels[0, 0].set_ylabel("x  (dashed: the minimiser)")
figure

# %%
figure, ((axes,),) = new_figure(height=2.6)
for place, (regret, line) in enumerate(zip(full.values(), LINES, strict=False)):
    axes.plot(regret, [place] * len(regret), line.marker, color=line.color, ms=7, mfc="none")
    axes.plot(np.median(regret), place, "|", color=INK, ms=24, mew=2)
axes.set(xscale="log", xlabel="regret of the recommended point (bars: medians)", ylim=(2.6, -0.6))
axes.minorticks_off()
axes.set_yticks(range(3), list(full))
axes.set_title(f"{SEEDS} searches each, {BUDGET} evaluations", loc="left", fontsize=10)
figure

# %%
ours = full["KnowledgeGradient"]
rows = {
    name: {
        f"median after {BUDGET // 2}": np.median(half[name]),
        f"median after {BUDGET}": np.median(regret),
        "wrong valley": f"{(regret > 0.3).sum()} of {SEEDS}",
        "KG is lower": "" if regret is ours else f"{(ours < regret).sum()} of {SEEDS}",
        "Wilcoxon's p": "" if regret is ours else f"{wilcoxon(ours, regret).pvalue:.2f}",
        "ms an evaluation": 1e3 * sum(runs[name].ask_seconds) / SEEDS / BUDGET,
    }
    for name, regret in full.items()
}
assert BUDGET < 20 or all(np.median(regret) < 0.3 for regret in full.values())  # the valley
pd.DataFrame(rows).T

# %% [markdown]
# A few seeds of one function decide little. Look at the p-values: they would have to be small
# before the order of the medians meant anything, and in a mean a single search that settles in the
# wrong valley would outweigh all else. Our benchmarks take twenty seeds of four problems
# (`benchmarks/README.md`, "Under noise"). There, too, the knowledge gradient is *not* shown to be
# better than `LogExpectedImprovement`, which is far cheaper: the last column is the time to choose
# a point, with all seeds in one program.

# %% [markdown]
# ## Cheap approximations
#
# The same question also prices an observation that is *not* of the function itself: a coarse mesh,
# few epochs, a tenth of the data. Declare that parameter with `fidelity=True`. The gain is then
# that of the mean at the target, and it is divided by the cost. Here a coarse evaluation is off by
# a wave, and costs a tenth. (The six points of the space-filling start are all at the lowest
# detail, by design.)


# %%
def coarse(params):
    place = torch.tensor(params["x"])
    return float(f(place) + 0.6 * (1 - params["detail"]) * torch.cos(4 * place))


cost = AffineCost(fixed=0.1, slope=0.9)
space = Space({"x": Float(-1, 2), "detail": Float(0, 1, fidelity=True)})
optimizer = Optimizer(space, KnowledgeGradient(cost=cost), seed=0)
for _ in range(FIDELITY_BUDGET):
    trial = optimizer.ask()
    optimizer.tell(trial, coarse(trial.params))
details = np.array([trial.params["detail"] for trial in optimizer.trials])
named = optimizer.recommend()
regret = coarse(named) - problem.minimum
spent = (cost.fixed + cost.slope * details).sum()
print(f"{len(details)} evaluations cost as much as {spent:.1f} at full detail")
print(f"recommended: x = {named['x']:.3f} at detail {named['detail']:.0f}, regret {regret:.4f}")
assert named["detail"] == 1
assert spent < len(details)

figure, ((axes,),) = new_figure(height=2.8)
axes.plot(range(1, len(details) + 1), details, "o-", color=RED, linewidth=1)
axes.set(xlabel="evaluation", ylabel="detail (1: the target)", ylim=(-0.06, 1.06))
axes.set_title("it learns the shape cheaply, and pays for detail later", loc="left", fontsize=10)
figure

# %% [markdown]
# ## When to use this
#
# Use `KnowledgeGradient()` when an evaluation may be a cheap approximation (`fidelity=True`, with
# `AffineCost` or a cost of your own): there it is the default, and there it pays most.
#
# Otherwise stay with the default, `AdaptiveImprovement()`, also under noise, and name the point
# of `Optimizer.recommend()` at the end. The default costs a third or less, and in our benchmarks
# under noise (`benchmarks/README.md`) neither the knowledge gradient nor
# `NoisyExpectedImprovement()` is shown to be better.
#
# Use `simulate_knowledge_gradient` to understand or to check, `discrete_knowledge_gradient` when
# your alternatives are a finite list anyway, and `KnowledgeGradient(quantiles=..., candidates=...)`
# to spend more on alternatives.

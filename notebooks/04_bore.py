# %% [markdown]
# # A classifier that optimises
#
# Suppose that all you have is a classifier: something that tells good from bad. Can it find the
# minimum of an expensive function? BORE (Bayesian optimisation by density-ratio estimation, Tiao et
# al. 2021) says yes, without a model of the function at all. This notebook starts with two bell
# curves, ends with neural architectures and trees, and shows on the way what the classifier
# estimates, and where a Gaussian process is better. It takes about a minute to run and needs
# lightgbm and scikit-learn beside bo_suite.

# %% tags=["parameters"]
SAMPLES = 4000  # of each of two Gaussians
STEPS = (1, 3, 10, 30, 100, 300)  # of training
DENSE = 3000  # observations of a noisy function
MEMBERS = 3  # networks in an ensemble
SEEDS = 5  # runs of each method
SMOOTH = 20  # evaluations of a smooth function
JUMPY = 40  # evaluations of one with jumps

# %%
# %matplotlib inline
import itertools
import math
import time

import pandas as pd
import torch
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from torch.distributions import Normal

from bo_suite import Choice, Optimizer, Space
from bo_suite.acquisition import Bore, LogExpectedImprovement
from bo_suite.bench import run_replicates
from bo_suite.classifiers import MLPClassifier, SklearnClassifier
from bo_suite.classifiers.density_ratio import fit_density_ratio
from bo_suite.data import Dataset, Seeds
from bo_suite.plot.style import GOLD, INK, LINES, MIST, RED, new_figure
from bo_suite.problems import Problem, get_problem
from figures import plot_bore

# %% [markdown]
# ## Two bell curves
#
# Draw numbers from $p = N(1, 1)$ and from $q = N(0, 4)$, and train a classifier to say which of
# the two a number came from. By Bayes' rule its odds are the ratio of the densities, times the
# ratio of the sample sizes:
#
# $$\frac{P(\text{from } p \mid x)}{P(\text{from } q \mid x)}
# = \frac{N_p}{N_q}\,\frac{p(x)}{q(x)}.$$
#
# So whoever classifies well knows $r(x) = p(x) / q(x)$, without an estimate of either density. We
# give it a quarter as many samples of $p$ as of $q$.

# %%
torch.manual_seed(0)
p, q = Normal(torch.tensor(1.0).double(), 1.0), Normal(torch.tensor(0.0).double(), 2.0)
ratio = fit_density_ratio(
    MLPClassifier(members=MEMBERS),
    p.sample((SAMPLES // 4, 1)),
    q.sample((SAMPLES, 1)),
    Seeds.of(seed=0, trial=0),
)
x = torch.linspace(-4.0, 6.0, 401, dtype=torch.float64)
with torch.no_grad():
    estimate = ratio.ratio(x[:, None])
    naive = ratio.log_odds(x[:, None]).exp()  # the odds, sizes forgotten
truth = (p.log_prob(x) - q.log_prob(x)).exp()

figure, ((left, right),) = new_figure(columns=2, height=3.2)
for density, style, name in ((p, LINES[0], "p = N(1, 1)"), (q, LINES[1], "q = N(0, 4)")):
    left.plot(x, density.log_prob(x).exp(), color=style.color, linestyle=style.dashes, label=name)
left.set(xlabel="x", ylabel="density", ylim=(0, 0.52), title="two densities")
right.plot(x, truth, color=INK, linewidth=3.5, alpha=0.35, label="truth")
right.plot(x, estimate, color=LINES[0].color, label=r"odds $\cdot\; N_q / N_p$")
right.plot(x, naive, color=LINES[1].color, linestyle=LINES[1].dashes, label="odds alone")
right.set(xlabel="x", ylabel="p(x) / q(x)", ylim=(0, 3.3), title="their ratio, by a classifier")
for axes in (left, right):
    axes.legend(frameon=False, fontsize=9, loc="upper right")
figure

# %% [markdown]
# The [post that this example comes from](https://tiao.io/post/density-ratio-estimation-for-kl-divergence-minimization-between-implicit-distributions/)
# assumes equal sample sizes from some point on, and drops $N_q / N_p$. Here, where they differ,
# that costs a factor of four. `DensityRatio` keeps it.
#
# A ratio is a useful thing: the mean of $\log r$ over samples of $p$ is the Kullback-Leibler
# divergence, here $\log 2 - 1/4$. The mean over the very samples that were fitted to would
# flatter, so we draw fresh ones.

# %%
fresh = p.sample((20_000, 1))
with torch.no_grad():
    right_kl = float(ratio.kl(fresh))
    naive_kl = float(ratio.log_odds(fresh).mean())
KL = math.log(2) - 0.25
print(f"KL[p || q] is {KL:.3f}; estimated {right_kl:.3f}; with the sizes forgotten {naive_kl:.3f}")
assert abs(right_kl - KL) < 0.1
assert naive_kl < 0  # which no divergence is

# %% [markdown]
# ## How good can a classifier get?
#
# No classifier has a cross-entropy (summed over both classes) below
# $2 \log 2 - 2\,\mathrm{JS}[p, q]$, with JS the Jensen-Shannon divergence; the one that knows the
# true ratio gets there. The post calls this inequality an upper bound, while its formula,
# correctly, says $\geq$: the loss comes down onto a floor. We train for longer and longer, and
# integrate numerically, so that no sampling error blurs who is above what.

# %%
grid = torch.linspace(-16.0, 16.0, 8001, dtype=torch.float64)
p_at, q_at = p.log_prob(grid).exp(), q.log_prob(grid).exp()


def cross_entropy(log_ratio):
    loss = torch.nn.functional.softplus
    return float(torch.trapezoid(p_at * loss(-log_ratio) + q_at * loss(log_ratio), grid))


floor = cross_entropy(p.log_prob(grid) - q.log_prob(grid))
one, other = p.sample((SAMPLES, 1)), q.sample((SAMPLES, 1))
losses = []
for steps in STEPS:
    trained = fit_density_ratio(MLPClassifier(steps=steps), one, other, Seeds.of(seed=0, trial=0))
    with torch.no_grad():
        losses.append(cross_entropy(trained.log_ratio(grid[:, None])))

figure, ((axes,),) = new_figure(height=2.8)
axes.plot(STEPS, losses, color=RED, marker="o", label="a network")
axes.axhline(2 * math.log(2), color="0.5", linestyle=":", linewidth=2, label="a coin: 2 log 2")
axes.axhline(floor, color=INK, linestyle="--", label=f"floor: {floor:.4f}")
axes.set(xscale="log", xlabel="steps of training", ylabel="cross-entropy")
axes.set_title("the loss comes down onto a floor, and never through it")
axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
assert math.isclose(floor, 1.1299444, abs_tol=1e-6)
assert all(loss > floor for loss in losses)
figure

# %% [markdown]
# ## From ratios to a search
#
# Now the trick. Evaluate a function at a few places. Call the best quarter of the outcomes *good*:
# those below a threshold $\tau$. Their places are samples of one density, the other places of
# another one. Train a classifier to tell them apart, and evaluate next where it is surest of a good
# outcome. That is `Bore()`, but for weights of the examples, which we come to; its default
# classifier is a small network. Six suggestions on the Forrester function, after four starting
# points:

# %%
forrester = get_problem("forrester")
acquisition = Bore()
opt = Optimizer(forrester.space, acquisition=acquisition, seed=0, budget=12)
for _ in range(10):
    trial = opt.ask()
    opt.tell(trial, forrester(trial.params))
regret = opt.best.value - forrester.minimum
print(f"after six suggestions the best outcome is {regret:.4f} above the minimum")
plot_bore(acquisition, forrester.space, opt.trials, forrester, steps=6)

# %% [markdown]
# Read a step from the left. Discs are good, circles are not; the dashed line is $\tau$. It goes
# on into the narrow panel, the distribution of the outcomes so far, which passes the share of the
# good ones just there. Below is the class probability $\pi(x)$, and the golden line is where it
# is largest. Watch $\tau$ sink: as better outcomes come in, yesterday's good ones become today's
# bad ones, and the hill of $\pi$ narrows.
#
# Note also what is missing: nothing says how sure the classifier is of its probabilities. It goes
# where good outcomes were seen.

# %% [markdown]
# ## Is it expected improvement?
#
# The [article](https://tiao.io/post/bore/) says that $\pi$ is expected improvement (EI) up to
# constant factors. Here is what is true for any outcome $y$ at $x$:
#
# $$\mathrm{EI}(x) = E[(\tau - y)_+ \mid x] = \underbrace{P(y \le \tau \mid x)}_{\pi(x)} \cdot
# \underbrace{E[\tau - y \mid y \le \tau, x]}_{\text{by how much}}.$$
#
# The claim holds if the second factor is the same everywhere, that is, if good places are spread
# alike whatever the amount by which they are good. The tree-structured Parzen estimator (TPE,
# Bergstra et al. 2011), whose argument BORE takes up, assumes just that. In general, $\pi$ is the
# probability of improvement, and does not care by how much. `Bore(weighting="probability")` is this
# BORE. The default, `weighting="improvement"` (LFBO, likelihood-free Bayesian optimisation, Song et
# al. 2022), lets good examples weigh $\tau - y$ and makes every example a bad one as well; then the
# odds $\pi/(1-\pi)$ are EI up to a factor.
#
# To see it we need a function where the two disagree: a valley that is reliably a little good, and
# a gamble that is good less than half of the time, but then very. With thousands of observations
# the classifiers can be held against formulas.

# %%
torch.manual_seed(0)
standard = Normal(torch.tensor(0.0).double(), 1.0)


def bump(x, centre):
    return torch.exp(-(((x - centre) / 0.12) ** 2))


def mean(x):
    return 1 - 0.4 * bump(x, 0.25) - 0.1 * bump(x, 0.75)


def noise(x):
    return 0.08 + 0.7 * bump(x, 0.75)


rows = torch.rand(DENSE, 1, dtype=torch.float64)
y = mean(rows[:, 0]) + noise(rows[:, 0]) * standard.sample((DENSE,))
data = Dataset(rows, y)
network = MLPClassifier(members=MEMBERS)
bore = Bore(network, weighting="probability").build(data, Seeds.of(seed=0, trial=0))
lfbo = Bore(network, weighting="improvement").build(data, Seeds.of(seed=0, trial=0))

at = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
tau = bore.threshold
z = (tau - mean(at)) / noise(at)
exact_pi = standard.cdf(z)
exact_ei = noise(at) * (z * standard.cdf(z) + standard.log_prob(z).exp())
with torch.no_grad():
    pi, odds = bore.probability(at[:, None]), lfbo(at[:, None]).exp()

# %%
figure, panels = new_figure(rows=4, height=7.6, ratios=(1.5, 1.2, 1.2, 0.8))
top, middle, lower, bottom = panels[:, 0]
shown = slice(0, 500)
below = y[shown] <= tau
seen, outcome = rows[shown, 0], y[shown]
top.plot(seen[~below], outcome[~below], "o", ms=2.5, mfc="none", color=MIST, label="other")
top.plot(seen[below], outcome[below], "o", ms=2.5, color=RED, label="good")
top.plot(at, mean(at), color=INK, label="mean")
top.axhline(float(tau), color=GOLD, linestyle="--", label="τ")
top.set(ylabel="y", title="a sure thing on the left, a gamble on the right")
for axes, exact, found, names in (
    (middle, exact_pi, pi, ("exact P(y ≤ τ)", "BORE: π")),
    (lower, exact_ei, odds, ("exact EI", "LFBO: odds")),
):
    for curve, style, name in zip((exact, found), LINES[1::-1], names, strict=True):
        curve = curve / curve.max()
        axes.plot(at, curve, color=style.color, linestyle=style.dashes, linewidth=1.8, label=name)
        axes.plot(at[curve.argmax()], 1.0, style.marker, color=style.color, ms=7)
    axes.set(ylabel="share of maximum", ylim=(0, 1.1))
middle.set_title("BORE goes for the sure thing")
lower.set_title("LFBO goes for the gamble, as expected improvement does")
bottom.plot(at, exact_ei / exact_pi, color=INK)
bottom.set(xlabel="x", ylabel="EI / π", ylim=(0, None), title="by how much: far from constant")
for axes in panels[:-1, 0]:
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.tick_params(labelbottom=False)
figure


# %% [markdown]
# Solid red lines are what the classifiers found, dashed ones what they should find; the marks are
# the maxima, where each would evaluate next. In numbers:


# %%
def rank_correlation(a, b):
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


table = pd.DataFrame(
    [[rank_correlation(a, b) for b in (exact_pi, exact_ei)] for a in (pi, odds)],
    index=["BORE's π", "LFBO's odds"],
    columns=["with P(y ≤ τ)", "with EI"],
)
assert table.iloc[0, 0] > 0.9  # each to its own
assert table.iloc[1, 1] > 0.9
assert at[pi.argmax()] < 0.5 < at[exact_ei.argmax()]
margin = exact_ei / exact_pi
print(f"by how much: {float(margin.min()):.3f} to {float(margin.max()):.3f}, so no constant factor")
table.round(3)

# %% [markdown]
# One caveat that the formulas hide. The spread that a classifier knows is that of outcomes seen
# nearby, noise included: it gambles on noise. The EI of a Gaussian process is about the function
# behind the noise, and about what that may be where nobody has looked.
#
# ## The race on a smooth function
#
# So BORE, LFBO and EI with a Gaussian process minimise Forrester, from the same starting points,
# each with a handful of seeds. `run_replicates` runs all seeds as one program.


# %%
def race(problem, methods, budget):
    """Regret of every seed after every evaluation, and the seconds a suggestion took."""
    found = {}
    for name, acquisition in methods.items():
        start = time.process_time()
        run = run_replicates(problem, acquisition, seeds=range(SEEDS), budget=budget)
        seconds = (time.process_time() - start) / (SEEDS * budget)
        found[name] = (run.best - problem.minimum).clamp(min=0.0), seconds
    return found


def random_search(values, minimum, budget):
    """The median best of k blind draws from all values, for k = 1, 2, ..."""
    shares = 1 - 0.5 ** (1 / torch.arange(1, budget + 1, dtype=torch.float64))
    return torch.quantile(values, shares) - minimum


def draw_race(axes, found, blind, least):
    evaluations = range(1, len(blind) + 1)
    for (name, (regret, _)), style in zip(found.items(), LINES, strict=False):
        axes.plot(
            evaluations,
            regret.median(0).values.clamp(min=least),
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker,
            markevery=(4, 5),
            label=name,
        )
    axes.plot(evaluations, blind.clamp(min=least), color="0.55", linestyle=":", label="blind draws")
    axes.set(yscale="log", xlabel="evaluations", ylabel="median regret")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


smooth = race(
    forrester,
    {
        "EI, Gaussian process": LogExpectedImprovement(),
        "LFBO, network": Bore(),
        "BORE, network": Bore(weighting="probability"),
    },
    SMOOTH,
)
everywhere = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
values = torch.tensor([forrester(point) for point in forrester.space.decode(everywhere)]).double()
figure, ((axes,),) = new_figure(width=8.0, height=3.2)
draw_race(axes, smooth, random_search(values, forrester.minimum, SMOOTH), 1e-9)
axes.set_title("Forrester: smooth, so the Gaussian process is far ahead")
last = {name: float(regret[:, -1].median()) for name, (regret, _) in smooth.items()}
assert SMOOTH < 20 or last["EI, Gaussian process"] < last["LFBO, network"]
figure

# %% [markdown]
# The [benchmarks](../benchmarks/README.md) repeat this picture on six functions. A Gaussian process
# learns from every outcome how steeply the function falls, and so knows something between the
# points. A classifier learns only which points were good, and walks down step by step. LFBO, told
# by how much, walks a little better than BORE.
#
# ## Where a classifier is at home
#
# Now six unordered choices of five: the operations on the edges of a small network cell, as in
# NAS-Bench-201, with a made-up loss. Nothing is smooth here. A cell without a path from input to
# output is dead, one with fewer than two convolutions is crippled, and every operation has a
# price. There are few enough cells to know the best.

# %%
OPERATIONS = {  # strength, price
    "none": (0.0, 0.0),
    "skip": (0.5, 0.02),
    "pool": (0.35, 0.05),
    "conv1": (0.8, 0.15),
    "conv3": (1.0, 0.4),
}
EDGES = ("a→b", "a→c", "b→c", "a→d", "b→d", "c→d")
cells = Space({edge: Choice(list(OPERATIONS)) for edge in EDGES})


def loss(cell):
    ab, ac, bc, ad, bd, cd = (OPERATIONS[cell[edge]][0] for edge in EDGES)
    signal = ad + bd * ab + cd * (ac + bc * ab)
    if signal == 0:
        return 2.3  # dead
    price = sum(OPERATIONS[cell[edge]][1] for edge in EDGES)
    crippled = sum(strength >= 0.8 for strength in (ab, ac, bc, ad, bd, cd)) < 2
    return 2 * math.exp(-signal) + 0.25 * price + 0.6 * crippled


combinations = itertools.product(OPERATIONS, repeat=len(EDGES))
every = [dict(zip(EDGES, options, strict=True)) for options in combinations]
values = torch.tensor([loss(cell) for cell in every], dtype=torch.float64)
best = every[int(values.argmin())]
architecture = Problem("cell", cells, loss, minimum=loss(best), minimizers=(best,))
print(f"{len(every)} cells, losses from {float(values.min()):.3f} to {float(values.max()):.3f}")

# %% [markdown]
# Any classifier will do. scikit-learn's, LightGBM's and their kin go into a `SklearnClassifier`,
# which shows them categories as indicator columns, passes the weights on, and makes log odds of
# their probabilities. What has no gradient is searched by evolution. The last one below is made in
# two lines: logistic regression on pairs of operations. For a classifier that is not
# scikit-learn's at all, [Parts of your own](../docs/parts-of-your-own.md#a-classifier) has a recipe.

# %%
trees = LGBMClassifier(n_estimators=50, num_leaves=8, min_child_samples=1, n_jobs=1, verbose=-1)
products = PolynomialFeatures(2, interaction_only=True)
pairs = make_pipeline(products, LogisticRegression(max_iter=500))
jumpy = race(
    architecture,
    {
        "EI, Gaussian process": LogExpectedImprovement(),
        "LFBO, network": Bore(),
        "BORE, LightGBM": Bore(SklearnClassifier(trees), weighting="probability"),
        "LFBO, logistic on pairs": Bore(SklearnClassifier(pairs)),
    },
    JUMPY,
)
figure, ((axes,),) = new_figure(width=8.2, height=3.4)
draw_race(axes, jumpy, random_search(values, architecture.minimum, JUMPY), 1e-4)
axes.set_title("cells: the best of the classifiers keep up (at the bottom: found)")
last = {name: float(regret[:, -1].median()) for name, (regret, _) in jumpy.items()}
assert last["LFBO, network"] < float(values.median()) - architecture.minimum
figure

# %%
summary = pd.DataFrame(
    {
        name: {
            "median regret, half-way": float(regret[:, JUMPY // 2 - 1].median()),
            "median regret, end": float(regret[:, -1].median()),
            "runs within 0.01 of the best": f"{int((regret[:, -1] < 0.01).sum())} of {SEEDS}",
            "CPU ms a suggestion": round(1e3 * seconds),
        }
        for name, (regret, seconds) in jumpy.items()
    }
).T
summary

# %% [markdown]
# A handful of seeds separates little here, and that is the message: on ground without slopes a
# network and a logistic regression are no longer behind. Nor are they clearly ahead: the Gaussian
# process of bo_suite knows categories, too. The trees are last, but they are also the only ones
# here with BORE's weighting; which classifier is best differs from problem to problem. On seven
# tables of trained networks LFBO with a network had the best mean rank after 100 evaluations; the
# [benchmarks](../benchmarks/README.md) have the numbers and the exceptions.

# %% [markdown]
# ## When to use this
#
# Stay with the default, also where most parameters are categories or levels: on seven tables of
# trained networks the [benchmarks](../benchmarks/README.md) do not separate `Bore()` from it, at
# three times the time of a suggestion. `Bore()` is the alternative there, where outcomes jump and
# you can afford a hundred evaluations or more. Take `Bore(SklearnClassifier(...))` when you trust a certain
# classifier on data like yours: boosted trees on tables, or a pipeline with features of your own.
# Mind its options: boosting that wants 20 examples in every leaf sees nothing in 30 outcomes.
# `weighting="improvement"` (LFBO) is the default; `"probability"` (BORE) looks at the order of the
# outcomes alone, so that outliers and odd scales do not move it.
#
# Do not take it for smooth functions of a few real numbers: there `LogExpectedImprovement()`, the
# default, is far ahead. Nor for fidelities or constraints, which `Bore` refuses.
#
# `fit_density_ratio` stands alone: for divergences between samples, or for weights when a
# distribution has changed. Keep fresh samples to evaluate it on.

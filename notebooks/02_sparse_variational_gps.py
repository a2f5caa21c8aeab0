# %% [markdown]
# # Sparse variational Gaussian processes
#
# An exact Gaussian process compares every observation with every other: $n$ of them cost $n^3$
# operations and $n^2$ numbers. Can a handful of well-placed inputs stand for them all, and how
# would we know what that loses? You will see twenty such *inducing inputs* find their places, a
# lower bound that says how good they are, a published figure that is above every such bound,
# batches that are right on average, harmonics and units of a network in the place of inputs, and a
# fit to 100,000 observations in seconds. It runs in about a minute, from a checkout of the
# repository: the first data lie among its tests.

# %% tags=["parameters"]
STEPS = 800  # of Adam, as in the article that the first half follows
COUNTS = (4, 6, 8, 10, 12, 14, 16, 18, 20, 24)  # of inducing inputs
BATCH_STEPS = 300
N, M = 100_000, 150  # observations, and inducing inputs, of the second half

# %%
# %matplotlib inline
import math
import time
from dataclasses import replace

import gpytorch
import numpy as np
import pandas as pd
import torch
from torch.distributions import MultivariateNormal

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import ChordalMatern52, ChordalSquaredExponential, Zonal
from bo_suite.kernels.sphere import funk_hecke, zonal_sum
from bo_suite.plot.style import GOLD, INK, LINES, MIST, RED, draw_process, new_figure
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP
from bo_suite.surrogates.features import Activations, Orthogonal, ReLU, SphericalHarmonics
from bo_suite.surrogates.features.harmonics import harmonics
from bo_suite.surrogates.inducing import Given, GreedyVariance
from bo_suite.surrogates.variational.likelihoods import Gaussian
from bo_suite.surrogates.variational.training import Adam, NaturalAdam
from figures import plot_fit
from spheres import plot_circle, plot_harmonics

# %% [markdown]
# ## Data with a gap
#
# The first half follows an article, the notebook *Standard SVGP with pyrox*, and takes its data:
# 500 noisy observations of a wave, none of them in the middle. An honest model should be sure to
# the left and to the right, and unsure in between.


# %%
def wave(rows):
    return torch.sin(2 * rows[:, 0]) + 0.3 * torch.cos(5 * rows[:, 0])


xy = torch.from_numpy(pd.read_csv("../tests/surrogates/fixtures/pyrox_svgp_xy.csv").to_numpy())
x, y = xy[:, :1], xy[:, 1]
data, seeds = Dataset(x, y), Seeds.of(seed=0, trial=0)

grid = torch.linspace(-3.5, 3.5, 400, dtype=torch.float64)[:, None]
figure, [[axes]] = new_figure(width=8.0, height=3.0)
axes.plot(x[:, 0], y, ".", color=MIST, label="observation")
axes.plot(grid[:, 0], wave(grid), color=INK, linestyle="--", label="truth")
axes.set(xlabel="x", ylabel="y")
axes.set_title("500 observations, and none between -0.6 and 0.6", loc="left", fontsize=10)
axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
figure

# %% [markdown]
# ## Twenty inputs find their places
#
# Let $u$ be the values of the function at $M$ *inducing inputs* $Z$, and $q(u)$ any Gaussian. All
# that the process knows passes through $q$, at a cost of $n M^2$. For every $q$ and $Z$
#
# $$\mathcal L = \sum_i \mathbb E_q[\log p(y_i \mid f_i)] - \mathrm{KL}[q(u) \,\|\, p(u)]
# \;\le\; \log p(y),$$
#
# so we may move everything at once uphill: $q$, the inducing inputs, the kernel's two parameters
# and the noise. That is a *stochastic variational* Gaussian process, `SVGP` (stochastic, since the
# sum can be estimated from batches, as we shall see). Below are the article's settings: its twenty
# random inputs, 800 steps of Adam at 0.05, and its jitter of $10^{-4}$.

# %%
kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
random_inputs = Given(torch.from_numpy(np.loadtxt("../tests/surrogates/fixtures/pyrox_svgp_Z0.csv"))[:, None])
flat = Gaussian(noise_location=math.log(0.15**2), noise_spread=1e6)  # so wide a prior says nothing

svgp = SVGP(
    kernel=kernel,
    selection=random_inputs,
    learn_inducing=True,
    likelihood=flat,
    training=Adam(steps=STEPS, rate=0.05),
    mean=0.0,
    jitter=1.63e-4,  # as a share of the variance, which ends near 0.61
)
process = svgp.fit(data, seeds)
plot_fit(process, x, y, truth=wave)

# %% [markdown]
# The thin lines lead from where an inducing input began to where it went: most of those in the gap
# leave it, since there is nothing to explain. Some end side by side, since the bound does not
# punish two inputs that tell the same. The dark band, of the function, opens over the gap and
# beyond the data; the light one is of further observations. Below is the negative bound, which Adam
# lowers. `SVGP` begins with the best kernel for the inputs as they lay, not from afar.
#
# The article calls such a curve monotone. Adam makes no such promise:

# %%
losses = process.trace.losses
rises = int((losses.diff() > 0).sum())
moved = [int((inputs.abs() < 0.6).sum()) for inputs in (process.trace.initial, process.inducing)]
print(f"{rises} of {len(losses) - 1} steps raise the loss that they should lower")
print(f"inducing inputs in the gap: {moved[0]} before, {moved[1]} after")
assert rises > 0

# %% [markdown]
# ## What the bound is a bound of
#
# With 500 observations we can still afford the log evidence $\log p(y)$ itself, and compute it
# independently of the package's bounds. Its largest value over the parameters of the kernel and the
# noise is what no bound can pass. To find that we need nothing new: with an inducing input at
# *every* observation the bound is the evidence.


# %%
def log_evidence(fitted, rows=x):
    """Exact log evidence of all data at the hyperparameters of a process."""
    k = fitted.kernel.gram(fitted.theta, rows)[0] + fitted.noise * torch.eye(len(y), dtype=y.dtype)
    return float(MultivariateNormal(torch.zeros_like(y), k).log_prob(y))


sgpr = SGPR(kernel=kernel, selection=random_inputs, learn_inducing=True, likelihood=flat, mean=0.0)
full = replace(sgpr, selection=Given(x), learn_inducing=False)
best = full.fit(data, seeds)
evidence = log_evidence(best)
adam = float(svgp.bound(data, process))
print(f"largest log evidence     {evidence:.3f}")
print(f"bound with Z = X there   {float(full.bound(data, best.hyperparameters, x)):.3f}")
print(f"bound of the twenty      {adam:.3f}, evidence at their kernel {log_evidence(process):.3f}")
assert adam <= log_evidence(process) <= evidence + 1e-3
assert abs(float(full.bound(data, best.hyperparameters, x)) - evidence) < 0.01

# %% [markdown]
# ## The best $q$ needs no training
#
# For Gaussian noise the best $q$ has a closed form (Titsias 2009), and the bound at it is a
# function of the kernel, the noise and $Z$ alone. That is `SGPR`: fewer unknowns, and L-BFGS
# instead of Adam. The $q$ that an `SVGP` is trained towards, an `SGPR` has from the start.

# %%
at = process.hyperparameters, process.inducing
held = replace(sgpr, jitter=svgp.jitter)
begin = time.perf_counter()
collapsed = held.fit(data, seeds)
seconds = time.perf_counter() - begin
closed = float(held.bound(data, collapsed.hyperparameters, collapsed.inducing))
print(f"Adam's q at its last step            {-float(losses[-1]):.4f}")
print(f"the closed form, same kernel and Z   {float(held.bound(data, *at)):.4f}")
print(f"SGPR, from the same random inputs    {closed:.4f}, in {seconds:.1f} s")
assert abs(float(held.bound(data, *at)) - adam) < 1e-4
assert -float(losses[-1]) <= adam + 0.5
assert closed <= evidence

# %% [markdown]
# `SVGP.fit` ends with that very step, so its $q$ is the best one for its kernel and inputs; Adam
# by itself had stopped just short of it. `SVGP` is for what has no closed form: labels, counts,
# outliers, batches.
#
# ## How many inducing inputs are enough?
#
# The bound answers. Fit an `SGPR` for each number of them, and stop where more no longer raise it.
# (Here with the default jitter of $10^{-8}$, which costs the bound next to nothing.)

# %%
rows = []
for count in COUNTS:
    several = replace(sgpr, selection=GreedyVariance(), inducing=count)
    fitted = several.fit(data, seeds)
    bound = float(several.bound(data, fitted.hyperparameters, fitted.inducing))
    rows.append((count, bound, log_evidence(fitted)))
sweep = pd.DataFrame(rows, columns=["inducing inputs", "bound", "evidence at its kernel"])
assert (sweep["bound"] <= sweep["evidence at its kernel"] + 1e-3).all()
assert (sweep["evidence at its kernel"] <= evidence + 1e-3).all()
sweep.set_index("inducing inputs").T.round(2)

# %% [markdown]
# The article ends at a negative bound of $-193.226$, so a bound of 193.226, with these data and
# twenty inducing inputs. Here it is in the picture.

# %%
PUBLISHED = 193.226
figure, [panels] = new_figure(1, 2, width=8.0, height=3.6)
for axes in panels:
    axes.axhline(evidence, color=INK, linestyle="--", linewidth=1.4)
    for name, line in zip(("evidence at its kernel", "bound"), (LINES[3], LINES[0]), strict=True):
        axes.plot(
            sweep["inducing inputs"],
            sweep[name],
            color=line.color,
            linestyle=line.dashes,
            marker=line.marker,
            label=name,
        )
    axes.set(xlabel="inducing inputs", ylabel="log evidence (nats)")
panels[0].set_title("The bound climbs to the evidence", loc="left", fontsize=10)
panels[0].legend(loc="center right", frameon=False)
panels[1].set_title("The last few nats", loc="left", fontsize=10)
panels[1].plot(20, PUBLISHED, "X", color=GOLD, markeredgecolor=INK, markersize=11)
panels[1].set(ylim=(184.5, 195.5), xlim=(12.5, 25.0))
panels[1].axhspan(evidence, 195.5, color=GOLD, alpha=0.15, linewidth=0)
panels[1].text(12.8, 194.7, "above every evidence", fontsize=10, va="center")
panels[1].text(19.5, PUBLISHED, "as published", fontsize=10, va="center", ha="right")
panels[1].text(12.8, evidence + 0.2, f"largest evidence {evidence:.2f}", fontsize=10, va="bottom")
assert evidence < PUBLISHED
figure

# %% [markdown]
# ## Why the published figure cannot be a bound
#
# It is larger than the largest evidence of any kernel of this family, so it is not below the
# evidence of the one that it was found with. What went wrong is a small thing. Write the
# covariance of $q$, in coordinates where the prior is $N(0, I)$, as $W W^\top$. With a
# lower-triangular $W$ of $M$ rows and mean $m$,
#
# $$\mathrm{KL} = \tfrac12 \left(\lVert m \rVert^2 + \lVert W \rVert^2 - M\right) -
# \sum_i \log |W_{ii}| ,$$
#
# since the determinant of a triangular matrix is the product of its diagonal. The article's
# library, in the version that we read, keeps $W$ as a full square array, uses all of it in
# $W W^\top$, and still takes the diagonal for the determinant. The same $q$ has many square roots.
# Take the triangular one and the symmetric one of ours:

# %%
precision = process.precision_chol @ process.precision_chol.mT
covariance = torch.linalg.inv(precision)
mean = covariance @ process.linear
triangular = torch.linalg.cholesky(covariance)
values, vectors = torch.linalg.eigh(covariance)
symmetric = vectors @ torch.diag(values.sqrt()) @ vectors.mT
assert torch.allclose(symmetric @ symmetric.mT, triangular @ triangular.mT)


def diagonal_kl(root):
    """The formula above, of any square root: right for triangular ones alone."""
    squares = mean.square().sum() + root.square().sum() - len(mean)
    return float(0.5 * squares - root.diagonal().abs().log().sum())


q = torch.distributions.MultivariateNormal(mean, scale_tril=triangular)
identity = torch.eye(len(mean), dtype=mean.dtype)
whitened_prior = torch.distributions.MultivariateNormal(torch.zeros_like(mean), scale_tril=identity)
kl = float(torch.distributions.kl_divergence(q, whitened_prior))
print(f"bound, true KL                 {adam:.3f}")
print(f"bound, triangular root         {adam + kl - diagonal_kl(triangular):.3f}")
print(f'"bound", symmetric root        {adam + kl - diagonal_kl(symmetric):.3f}')
print(f"largest log evidence           {evidence:.3f}")
assert abs(diagonal_kl(triangular) - kl) < 1e-6
assert diagonal_kl(symmetric) < kl

# %% [markdown]
# The same $q$, the same predictions, another number, and it passes the evidence as the published
# one does: by Hadamard's inequality the diagonal of a symmetric root never promises too small a
# determinant. Training is then rewarded for filling the upper triangle. `bo_suite` keeps the root
# triangular, and its tests hold every bound to the evidence.
#
# ## Batches: wrong each time, right on average
#
# The sum over observations can be estimated from $B$ of them, scaled by $n / B$; the KL is not
# scaled. Each batch then gives a noisy estimate of the bound, which may well be above the evidence.
# The mean over an epoch of equal batches is the bound itself, to the last digits:

# %%
order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
estimates = []
for part in order.split(25):
    batch = Dataset(x[part], y[part])
    likelihood = float(svgp.bound(batch, process)) + kl
    estimates.append(len(y) / len(part) * likelihood - kl)
print(f"{len(estimates)} batches say {min(estimates):.1f} to {max(estimates):.1f}")
print(f"their mean is {np.mean(estimates):.9f}")
print(f"the bound is  {adam:.9f}")
assert abs(np.mean(estimates) - adam) < 1e-6

# %% [markdown]
# That is enough to climb by. `NaturalAdam`, the default `training` of an `SVGP`, takes
# natural-gradient steps of $q$ (notebook 06) and Adam steps of all else. With all data and Gaussian
# noise each natural step is a whole one, to the closed form. With batches it is a fifth of the way
# towards what the batch asks for, so that $q$ averages over several.

# %%
whole = replace(svgp, training=NaturalAdam(steps=BATCH_STEPS, rate=0.05, batch=None))
parts = replace(svgp, training=NaturalAdam(steps=BATCH_STEPS, rate=0.05, batch=100))
fits = {"all 500": whole.fit(data, seeds), "batches of 100": parts.fit(data, seeds)}
for name, fitted in fits.items():
    bound = float(svgp.bound(data, fitted))
    print(f"{name:>14} a step: bound {bound:.2f}")
    assert bound <= log_evidence(fitted)

figure, [panels] = new_figure(1, 2, width=8.0, height=3.4)
panels[0].hist(estimates, bins=10, color=MIST, edgecolor="white")
panels[0].axvline(adam, color=LINES[0].color, linewidth=2.0, label="the bound, and their mean")
panels[0].set(xlabel="bound by one batch (nats)", ylabel="batches of 25")
panels[0].set_title("One epoch of estimates", loc="left", fontsize=10)
panels[0].legend(loc="lower left", bbox_to_anchor=(0.0, 1.08), frameon=False)
panels[1].plot(
    -fits["batches of 100"].trace.losses,
    ".",
    color=LINES[3].color,
    markersize=4,
    label="batches of 100",
)
panels[1].plot(-fits["all 500"].trace.losses, color=LINES[0].color, linewidth=2.0, label="all 500")
panels[1].set(xlabel="step", ylabel="bound, as estimated (nats)")
panels[1].set_title("Two ways up", loc="left", fontsize=10)
panels[1].legend(loc="lower right", bbox_to_anchor=(1.0, 1.08), ncols=2, frameon=False)
figure

# %% [markdown]
# With 500 observations batches gain nothing, and end a little lower. (The dip at the start: Adam's
# first steps are as long as its rate, however steep the bound.) There are two other ways: `Adam`
# moves $q$ by plain gradients, and `NaturalLBFGS` alternates natural steps with L-BFGS on all data,
# which suits few labels or counts.
#
# ## Features instead of points
#
# Inducing variables need not be values of the function. They may be its projections on other
# functions, *features*, and the bound stays a bound. Which ones? Centre a row at one half, divide it
# by the lengthscale, append a constant 1, and keep the direction. A line so becomes a part of a
# circle, a plane a part of a sphere. A kernel of the angle between two directions is called
# *zonal*. The default of `Zonal` is the arc-cosine kernel, that of a network with infinitely many
# rectified units. Any function on a circle is a Fourier series. Its terms are the *harmonics*, and
# there are such on every sphere. From here on rows are scaled to $[0, 1]$, as in an optimisation.


# %%
def unit(rows):
    return (rows - x.min()) / (x.max() - x.min())


scaled = Dataset(unit(x), y)
arc = Zonal()
theta = torch.tensor([0.4, 1.0], dtype=torch.float64).log()  # lengthscale and variance
directions = arc.project(theta, scaled.x)[0]
assert torch.allclose(directions.norm(dim=-1), torch.ones_like(y))
assert (directions[:, -1] > 0).all()
plot_circle(arc, theta, torch.linspace(0, 1, 9, dtype=torch.float64)[:, None], (1, 2, 4, 8))

# %% [markdown]
# The data reach less than half of the circle, since the appended 1 is positive. A harmonic does not
# stop there: it summarises the function as a whole, where there are data and where there are none.
# With two inputs, some look so:

# %%
plane = torch.tensor([0.4, 0.4, 1.0], dtype=torch.float64).log()
plot_harmonics(arc, plane, ((1, 2), (2, 0), (4, 4), (6, 4)))

# %% [markdown]
# ## A covariance that is diagonal
#
# Harmonics are the eigenfunctions of every zonal kernel: with $\hat x$ the direction of $x$,
# $\kappa(\hat x^\top \hat z) = \sum_l \lambda_l \sum_m Y_{lm}(\hat x) \, Y_{lm}(\hat z)$. So the
# projections on them are independent, with variances $\lambda_l$, and their covariance $K_{uu}$ is
# diagonal: nothing to factorise, no jitter, no places to choose (Dutordoir, Durrande and Hensman
# 2020). Below are both covariances, of twenty values at points and of twenty projections. The latter
# are double integrals over the circle, computed as sums over 2,000 directions.

# %%
spread = GreedyVariance()  # wherever the data are; the default of an SGPR prefers good outcomes
twenty = SGPR(inducing=20, selection=spread, kernel=arc, likelihood=flat, mean=0.0)
start = torch.cat((theta, torch.tensor([math.log(0.15**2)], dtype=torch.float64)))
points = twenty.place(scaled, start, seeds).points
of_points = arc.gram(theta, points)[0]

turn = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)
circle = torch.stack((turn.cos(), turn.sin()), -1)
kappa = arc.profile.kappa((2 - 2 * circle @ circle.mT).clamp(min=0), None)[0]
every = harmonics(circle, 18)  # degrees 0 to 18, the odd ones too
projected = every.mT @ kappa @ every / len(turn) ** 2
features = replace(twenty, inducing=SphericalHarmonics(count=20)).place(scaled, start, seeds)
chosen = [0, 1, 2, *(2 * degree - side for degree in features.degrees[2:] for side in (1, 0))][:20]
of_features = projected[chosen][:, chosen]
assert torch.allclose(of_features, torch.diag(features.variances(arc, theta)), atol=1e-6)

# %% [markdown]
# How fast the $\lambda_l$ fall says how many harmonics a kernel needs. The arc-cosine kernel has no
# odd degree above 1, and its harmonics of these degrees are left out.

# %%
figure, [panels] = new_figure(1, 3, width=8.4, height=3.4)
shown = of_points, of_features
for axes, matrix, name in zip(panels, shown, ("20 points", "20 harmonics"), strict=False):
    share = (matrix / matrix.max()).abs().clamp(min=1e-9).log10()
    mesh = axes.imshow(share.numpy(), cmap="cividis", vmin=-6, vmax=0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(f"$K_{{uu}}$ of {name}", loc="left", fontsize=10)
bar = figure.colorbar(mesh, ax=panels[:2], orientation="horizontal", shrink=0.7, ticks=[-6, -3, 0])
bar.set_label("$\\log_{10}$ of the share of the largest entry", fontsize=9)
smooth = {"Matérn 5/2": ChordalMatern52(), "squared exponential": ChordalSquaredExponential()}
profiles = {"arc-cosine": arc.profile, **smooth}
for (name, profile), line in zip(profiles.items(), LINES, strict=False):
    own = torch.tensor([0.5], dtype=torch.float64) if profile.has_lengthscale else None
    values = profile.coefficients(2, 16, own)[0]
    degrees = [degree for degree in range(17) if not profile.vanishes(degree)]
    style = {"color": line.color, "linestyle": line.dashes, "marker": line.marker, "markersize": 4}
    panels[2].semilogy(degrees, values[degrees], label=name, **style)
panels[2].set(xlabel="degree $l$", ylabel="$\\lambda_l$", ylim=(1e-9, 2))
panels[2].set_title("Variance by degree", loc="left", fontsize=10)
panels[2].legend(loc="lower left", frameon=False, fontsize=9)
odd = [2 * degree for degree in range(3, 19, 2)]
assert projected.diagonal()[odd].abs().max() < 1e-9
figure

# %% [markdown]
# ## Units of a network
#
# Take as features the units of a network, $\sigma(z^\top \hat x)$. Then the mean of the process *is* a
# network with one hidden layer. It is trained by the bound: the output weights in closed form, and
# with `learn_inducing=True` the directions $z$ as well.
#
# There is a catch. The arc-cosine kernel gives a ReLU an infinite norm: each even degree adds the
# same to its square. So the more degrees are summed, the less such a unit explains. `Activations`
# smooths it, so that degrees of small $\lambda_l$ count less.

# %%
network = replace(twenty, inducing=Activations(20, ReLU()), learn_inducing=True)
units = network.fit(scaled, seeds)
cross = units.variables.cross(arc, units.theta, unit(grid))
weighted = units.weights * cross
assert torch.allclose(weighted.sum(0), units.mean(unit(grid)), atol=1e-6)

sigma = funk_hecke(ReLU(), 2, 40)
norms = (2 * sigma.square() / arc.coefficients(theta, 2, 40)[0])[2::2]
print(f"each even degree adds {float(norms.min()):.3f} to {float(norms.max()):.3f} to the squared norm")
assert torch.allclose(norms, norms[0].expand_as(norms))

height = float(units.mean(unit(x)).abs().max())
t = torch.linspace(-1, 1, 201, dtype=torch.float64)
figure, [panels] = new_figure(1, 2, width=8.0, height=3.6)
panels[0].plot(grid[:, 0], (cross / cross.amax(-1, keepdim=True)).T, color=MIST, linewidth=1.0)
panels[0].plot([], [], color=MIST, label="the units, each of height 1")
panels[0].plot(grid[:, 0], weighted.sum(0), color=RED, linewidth=2.0, label="their weighted sum, the mean")
panels[0].set(xlabel="x", ylabel="y", ylim=(-2.2, 2.4))
panels[0].set_title("Twenty units, learnt", loc="left", fontsize=10)
panels[1].plot(t, ReLU()(t), color=INK, linewidth=1.2, linestyle="--", label="ReLU")
variance = arc.coefficients(theta, 2, 40)[0]
for smoothing, line in zip((0.1, 0.001), (LINES[0], LINES[3]), strict=True):
    kept = sigma * variance / (variance + smoothing * variance[0])
    values = zonal_sum(t[None], kept, 2)[0][0]
    panels[1].plot(t, values, color=line.color, linestyle=line.dashes, label=f"smoothed by {smoothing}")
panels[1].set(xlabel="cosine of row and unit", ylabel="unit")
panels[1].set_title("A ReLU, and what it is smoothed to", loc="left", fontsize=10)
for axes in panels:
    axes.legend(loc="upper left", frameon=False, fontsize=9)
print(f"the largest weighted unit reaches {float(weighted.abs().max()):.0e}, their sum {height:.1f}")
assert weighted.abs().max() > 100 * height
figure

# %% [markdown]
# The units are smooth and differ by little. So the network gives them large weights of both signs,
# which cancel: what it learns is what is left.
#
# ## What units can not tell, and points can
#
# A ReLU has no odd degrees above 1. Take another kernel, the Matérn one, which has: no number of such
# units ever tells anything of these degrees, and their share of the variance stays. The remedy is
# to add points, and to let them tell only what the units do not (Shi, Titsias and Mnih 2020; Tiao,
# Dutordoir and Picheny 2023): `Orthogonal`. Here the kernel is held where a fit to points has left
# it, and the number of inducing variables grows:

# %%
matern = replace(twenty, inducing=40, kernel=Zonal(ChordalMatern52()))
fitted = matern.fit(scaled, seeds)
held_at = fitted.hyperparameters
by_degree = matern.kernel.coefficients(fitted.theta, 2, 999)[0]
lacking = float(2 * by_degree[3::2].sum())
kinds = {
    "units": lambda m: Activations(m, ReLU()),
    "harmonics": lambda m: SphericalHarmonics(count=m),
    "half units, half points": lambda m: Orthogonal(Activations(m // 2, ReLU()), m // 2, spread),
}


def told(inducing):
    """A surrogate, its variables, and the share of the variance at the data that they leave."""
    surrogate = replace(matern, inducing=inducing)
    variables = surrogate.place(scaled, held_at, seeds)
    chol = variables.covariance(matern.kernel, fitted.theta, 1e-8).factor
    explained = chol.solve(variables.cross(matern.kernel, fitted.theta, scaled.x)).square().sum(0)
    prior = matern.kernel.diagonal(fitted.theta, scaled.x)
    return surrogate, variables, float((1 - explained / prior).mean())


counts = (6, 10, 20, 30, 40, 60, 80)
left = {name: [told(kind(m))[2] for m in counts] for name, kind in kinds.items()}
assert min(left["units"]) >= lacking
assert left["half units, half points"][-1] < 0.01

figure, [[axes]] = new_figure(width=6.4, height=3.2)
for (name, shares), line in zip(left.items(), (LINES[1], LINES[3], LINES[0]), strict=True):
    style = {"color": line.color, "linestyle": line.dashes, "marker": line.marker}
    axes.plot(counts, shares, label=name, **style)
axes.axhline(lacking, color=INK, linewidth=1.0, linestyle="--")
axes.text(counts[-1], lacking - 0.02, "what a ReLU lacks", ha="right", va="top", fontsize=10)
axes.set(xlabel="inducing variables", ylabel="share of variance left", ylim=(-0.03, 1.0))
axes.set_title("No number of units tells all", loc="left", fontsize=10)
axes.legend(loc="upper right", frameon=False)
figure

# %% [markdown]
# Here are both fits. With units alone the mean follows the data, but the band is nearly as wide
# among them as in the gap. With half of the variables points, it is that of the exact process. The
# bound of units and points together is never below that of the units alone.

# %%
exact = ExactGP(kernel=matern.kernel, mean=0.0).process(scaled, held_at)
exact_mean, deviation = exact.mean(unit(grid)), exact.var(unit(grid)).sqrt()
figure, [panels] = new_figure(1, 2, width=8.0, height=3.5)
widths = []
compared = {"40 units": kinds["units"](40), "20 units, 20 points": kinds["half units, half points"](40)}
for axes, (name, inducing) in zip(panels, compared.items(), strict=True):
    surrogate, variables, _ = told(inducing)
    shown = surrogate.process(scaled, held_at, variables)
    among, gap = (float(shown.var(unit(where)).sqrt().mean()) for where in (x, torch.zeros_like(x[:1])))
    widths.append(among / gap)
    print(f"{name}: standard deviation {among:.2f} among the data, {gap:.2f} in the gap")
    axes.plot(x[:, 0], y, ".", color=MIST, markersize=3)
    draw_process(axes, shown, unit(grid), at=grid[:, 0])
    for side in (-2, 2):
        axes.plot(grid[:, 0], exact_mean + side * deviation, color=INK, linewidth=0.9, linestyle="--")
    axes.set(xlabel="x", ylabel="y", ylim=(-3.1, 2.8))
    bound = f"{float(surrogate.bound(scaled, held_at, variables)):.0f}"
    axes.set_title(f"{name}: bound {bound}".replace("-", "\N{MINUS SIGN}"), loc="left", fontsize=10)
axes.plot([], [], color=INK, linewidth=0.9, linestyle="--", label="exact process, without noise")
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
assert widths[0] > 0.9
assert (shown.var(unit(grid)).sqrt() - deviation).abs().max() < 0.05
alone, together = (told(inducing) for inducing in (Activations(20), Orthogonal(Activations(20), 20, spread)))
bounds = [float(each.bound(scaled, held_at, variables)) for each, variables, _ in (alone, together)]
assert bounds[0] <= bounds[1] <= log_evidence(fitted, scaled.x)
figure

# %% [markdown]
# ## Twenty of each
#
# Every kind now gets twenty variables, and a fit of its own of the kernel's parameters and of the
# noise. Each bound is beside the exact evidence at its own kernel, and the dashed line is the
# largest evidence of the squared exponential kernel.

# %%
square = replace(sgpr, learn_inducing=False)
half = Orthogonal(Activations(10, ReLU()), 10, spread)
tried = {
    "squared exp.: random points": (square, data),
    "squared exp.: greedy points": (replace(square, selection=spread, inducing=20), data),
    "squared exp.: learnt points": (sgpr, data),
    "arc-cosine: greedy points": (twenty, scaled),
    "arc-cosine: learnt points": (replace(twenty, learn_inducing=True), scaled),
    "arc-cosine: harmonics": (replace(twenty, inducing=SphericalHarmonics(count=20)), scaled),
    "arc-cosine: units": (replace(twenty, inducing=Activations(20, ReLU())), scaled),
    "arc-cosine: learnt units": (network, scaled),
    "arc-cosine: half units, half points": (replace(twenty, inducing=half), scaled),
    "arc-cosine: the same, learnt": (replace(twenty, inducing=half, learn_inducing=True), scaled),
}
rows = []
for name, (surrogate, observed) in tried.items():
    fitted = surrogate.fit(observed, seeds)
    bound = float(surrogate.bound(observed, fitted.hyperparameters, fitted.variables))
    rows.append((name, fitted.variables.count, bound, log_evidence(fitted, observed.x)))
twenties = pd.DataFrame(rows, columns=["kernel: variables", "count", "bound", "evidence at its kernel"])
assert (twenties["count"] == 20).all()
assert (twenties["bound"] <= twenties["evidence at its kernel"] + 1e-3).all()
assert (twenties["evidence at its kernel"] <= evidence + 1e-3).all()
twenties.set_index("kernel: variables").round(2)

# %%
figure, [[axes]] = new_figure(width=7.6, height=4.0)
ends = "bound", "evidence at its kernel"
for level, pair in enumerate(twenties[[*ends]].to_numpy()):
    axes.plot(pair, [level, level], color=MIST, linewidth=2.0, zorder=1)
hollow = {"markersize": 9, "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.2}
axes.plot(twenties[ends[1]], twenties.index, "s", label=ends[1], **hollow)
axes.plot(twenties[ends[0]], twenties.index, "o", color=RED, markersize=5, label=ends[0])
axes.axvline(evidence, color=INK, linestyle="--", linewidth=1.2, zorder=0, label="largest evidence")
axes.set_yticks(range(len(rows)), twenties["kernel: variables"])
axes.invert_yaxis()
axes.set(xlabel="log evidence (nats)")
axes.set_title("No bound is above its evidence", loc="left", fontsize=10)
figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
bounds = twenties.set_index("kernel: variables")["bound"]
assert bounds["arc-cosine: greedy points"] > bounds["arc-cosine: harmonics"]
assert bounds["arc-cosine: harmonics"] > bounds["arc-cosine: units"]
assert bounds["arc-cosine: learnt units"] > bounds["arc-cosine: units"]
assert bounds["arc-cosine: the same, learnt"] > bounds["arc-cosine: learnt units"]
figure

# %% [markdown]
# On this wave nothing beats points. They sit where the data are, while harmonics spend themselves on
# the whole circle, of which the data see a part. Units in random directions are the worst, learnt
# ones do about as well as harmonics, and with points among them they come closer to points alone.
# The arc-cosine kernel itself costs twenty nats: it is rough, and the wave is smooth.
#
# ## A hundred thousand observations
#
# Two inputs, a surface of hills and hollows, and noise of standard deviation 0.3. An exact process
# would have to hold a matrix of $n^2$ numbers. We compare what fits: an exact process of the first
# thousand observations, an `SGPR` of more and more of them, an `SVGP` on batches of 1024, and
# `AutoGP`.


# %%
def surface(rows):
    a, b = rows.unbind(-1)
    return torch.sin(9 * a) * torch.cos(7 * b) + torch.sin(12 * a * b)


torch.manual_seed(0)
inputs = torch.rand(N + 2000, 2, dtype=torch.float64)
truth = surface(inputs)
outcomes = truth + 0.3 * torch.randn(len(inputs), dtype=torch.float64)
print(f"one matrix of all pairs would take {8 * N**2 / 1e9:.3g} GB")


def first(n):
    return Dataset(inputs[:n], outcomes[:n])


def row(name, surrogate, n):
    """Seconds to fit the first n, and how it does on 2,000 that it has not seen."""
    begin = time.perf_counter()
    fitted = surrogate.fit(first(n), seeds)
    seconds = time.perf_counter() - begin
    mean, var = fitted.mean_and_var(inputs[N:])
    error = float((mean - truth[N:]).square().mean().sqrt())
    inside = (outcomes[N:] - mean).abs() < 2.0 * (var + fitted.noise).sqrt()
    share, noise = float(inside.double().mean()), float(fitted.noise.sqrt())
    results.append((name, n, seconds, error, share, noise))
    return fitted


results = []
few = min(1000, N // 3)
row("exact", ExactGP(), few)
for n in (few, N // 10, N):
    large = row("SGPR", SGPR(inducing=M, selection=spread), n)
brief = NaturalAdam(steps=BATCH_STEPS // 3)
row("SVGP, batches", SVGP(inducing=M, selection=spread, training=brief), N)
row("AutoGP", AutoGP(), N // 10)
names = ["surrogate", "observations", "seconds", "error", "share in band", "noise"]
table = pd.DataFrame(results, columns=names)
error = table["error"]
assert error[3] < 0.5 * error[0] or N < 100_000
assert error[4] < 0.5 * error[0] or N < 100_000
table.round({"seconds": 1, "error": 4, "share in band": 3, "noise": 3})

# %% [markdown]
# `error` is the root mean square distance to the true surface at inputs that no fit has seen; an
# ideal band holds 0.95 of the held-out outcomes. Throwing observations away is what costs: a
# sparse process of all of them is several times as close as an exact one of some, and takes
# seconds. `SGPR` searches its hyperparameters on 5,000 observations at most, and then finds $q$
# from all observations, in closed form.
#
# `AutoGP` is made for optimisation: beyond 1,000 observations it takes its hyperparameters from
# the 500 best, which are the luckiest as well. So it thinks the noise smaller than it is, and its
# band is too narrow. To predict everywhere, take an `SGPR`.

# %%
side = torch.linspace(0, 1, 90, dtype=torch.float64)
square = torch.cartesian_prod(side, side)
figure, [panels] = new_figure(1, 2, width=8.0, height=3.9)
shown = surface(square), large.mean(square)
titles = "Truth", f"Mean of {N:,} through {M}"
for axes, heights, title in zip(panels, shown, titles, strict=True):
    levels = torch.linspace(-2.4, 2.4, 17)
    mesh = axes.contourf(side, side, heights.reshape(90, 90).T, levels, cmap="cividis")
    axes.set(xlabel="first input", ylabel="second input", aspect="equal")
    axes.set_title(title, loc="left", fontsize=10)
panels[1].plot(*large.inducing.T, "o", color="white", markeredgecolor=INK, markersize=4.5)
figure.colorbar(mesh, ax=panels, label="y", shrink=0.8, ticks=[-2, -1, 0, 1, 2])
figure

# %% [markdown]
# ## Data that keep coming
#
# A fitted process streams. `absorb` adds observations to $q$ by a low-rank update, as if it had
# been refitted with the kernel and $Z$ held, and `release` takes them back. What the inducing
# inputs cannot express is lost. `condition` loses nothing: the new inputs become inducing inputs
# as well, and the process grows. Sixty observations arrive where nothing was known, to the right
# of all others:

# %%
torch.manual_seed(1)
later = 3.2 + 1.6 * torch.rand(60, 1, dtype=torch.float64)
told = wave(later) + 0.15 * torch.randn(60, dtype=torch.float64)
absorbed, conditioned = process.absorb(later, told), process.condition(later, told)

together = Dataset(torch.cat((x, later)), torch.cat((y, told)))
refitted = held.process(together, *at)
assert torch.allclose(absorbed.mean(grid), refitted.mean(grid), atol=1e-6)

right = torch.linspace(1.5, 5.2, 200, dtype=torch.float64)[:, None]
figure, [panels] = new_figure(1, 2, width=8.0, height=3.4)
streamed = {"absorb": absorbed, "condition": conditioned}
for axes, (title, after) in zip(panels, streamed.items(), strict=True):
    known = x[:, 0] > 1.5
    axes.plot(x[known, 0], y[known], ".", color=MIST, label="known")
    axes.plot(later[:, 0], told, "^", color=LINES[3].color, markersize=3.5, label="arrived")
    axes.plot(right[:, 0], wave(right), color=INK, linestyle="--", label="truth")
    draw_process(axes, after, right, label="mean")
    axes.set(xlabel="x", ylabel="y", ylim=(-2.2, 2.2))
    axes.set_title(f"{title}: {after.inducing.shape[0]} inducing inputs", loc="left", fontsize=10)
handles = panels[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False)
misses = [each.mean(later) - wave(later) for each in (absorbed, conditioned)]
errors = [float(miss.square().mean().sqrt()) for miss in misses]
print(f"error at the new inputs: {errors[0]:.2f} absorbed, {errors[1]:.2f} conditioned")
assert errors[1] < errors[0]
figure

# %% [markdown]
# ## When to use this
#
# **Within an optimisation, do nothing.** `AutoGP`, the default surrogate, is exact up to 1,000
# observations and sparse beyond. It then places its inducing inputs by itself, most of them where
# outcomes are good, and takes another approximation than this bound (FITC), one that passes closer
# to the best outcomes.
#
# **To model a whole function** from thousands of observations with Gaussian noise, take
# `SGPR(inducing=..., selection=GreedyVariance())`. Raise `inducing` until the bound stops rising,
# and set `learn_inducing=True` if you can wait. Take `SVGP(likelihood=...)` where outcomes are
# labels, counts or have outliers: with `NaturalAdam` for many observations, `NaturalLBFGS` for
# few.
#
# **Features** need a kernel of the angle, `Zonal`. Take `SGPR(inducing=SphericalHarmonics())` for a
# smooth function of few inputs: nothing is factorised, placed or learnt. With units, add points:
# `Orthogonal(Activations(64), 64)`. Compare the bounds, as above.
#
# **Stay exact** with `ExactGP` up to one or two thousand observations: it is simpler, and nothing
# is lost. Sparse processes do not help where a function wiggles more often than you can afford
# inducing inputs, as in many dimensions with short lengthscales. The bound says so: it keeps
# rising with every input that you add.

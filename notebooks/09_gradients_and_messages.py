# %% [markdown]
# # Learn from more than outcomes
#
# You ran a simulation, and it returned one number. But the adjoint code beside it could have told
# you how that number changes with each of twenty inputs, at about the price of a second run. The
# machine that set your inputs is known to miss them by a little. And you have ten thousand old
# readings, too many for an exact model. What can a Gaussian process make of all that?
#
# First we teach a model slopes, integrals and differences beside values, and see what each is
# worth. Then a search gets gradients, right ones and wrong ones. Then the inputs become noisy, and
# the sharp minimum that looked best is no longer the one you want. At the end readings arrive one
# by one as messages to a small model, and we check that it does not count them twice.
#
# Ten minutes to read, about half a minute to run.

# %% tags=["parameters"]
BUDGET = 20  # evaluations of each search with gradients
SEEDS = 3
ROBUST_BUDGET = 22  # evaluations of the search with noisy inputs
READINGS = 1000  # in the stream of the last part

# %%
# %matplotlib inline
import math
from itertools import pairwise

import numpy as np
import torch

from bo_suite import Float, Optimizer, Space
from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Functionals, SquaredExponential
from bo_suite.plot.style import GOLD, INK, LINES, MIST, RED, draw_process, legend_below, new_figure
from bo_suite.surrogates import ExactGP

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
GRID = torch.linspace(0.0, 1.0, 401)[:, None]

# %% [markdown]
# ## A value, and where it is going
#
# Six values of a function, evenly spread, and a model of them. On the left it knows the values
# alone. On the right it also knows the slope at each of the six: in the picture, arrows that point
# downhill. A derivative of a Gaussian process is jointly Gaussian with it, so there is nothing to
# approximate: six more numbers enter the same linear algebra.


# %%
def wave(x):
    return 0.6 * torch.sin(9 * x) + 2 * (x - 0.35) ** 2 + 0.3 * torch.sin(21 * x + 1)


def slope_of_wave(x):
    return 5.4 * torch.cos(9 * x) + 4 * (x - 0.35) + 6.3 * torch.cos(21 * x + 1)


x = torch.linspace(0.05, 0.95, 6)[:, None]
y, slopes = wave(x[:, 0]), slope_of_wave(x[:, 0])
surrogate, seeds = ExactGP(kernel=SquaredExponential()), Seeds.of(seed=0, trial=0)
models = {
    "six values": surrogate.fit(Dataset(x, y), seeds),
    "six values and six slopes": surrogate.fit(Dataset(x, y, gradient=slopes[:, None]), seeds),
}


def draw_arrow(axes, at, height, slope, reach=0.07):
    """An arrow along the tangent, downhill."""
    run = -math.copysign(reach / math.hypot(1.0, slope / 5.0), slope)
    tip, tail = (at + run, height + slope * run), (at - run, height - slope * run)
    style = {"arrowstyle": "-|>", "color": GOLD, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tip, tail, arrowprops=style, zorder=4)


figure, (panels,) = new_figure(1, 2, width=8.4, height=3.7)
for axes, (title, process) in zip(panels, models.items(), strict=True):
    draw_process(axes, process, GRID)
    axes.plot(GRID[:, 0], wave(GRID[:, 0]), "--", color=INK, linewidth=1.2, label="function")
    axes.plot(x[:, 0], y, "o", color=INK, markersize=5, zorder=5, label="value")
    axes.set(xlabel="x", ylim=(-1.4, 2.4), title=title)
for point in zip(x[:, 0].tolist(), y.tolist(), slopes.tolist(), strict=True):
    draw_arrow(panels[1], *point)
panels[0].set_ylabel("y")
panels[1].tick_params(labelleft=False)
legend_below(figure, 3)
figure

# %%
with torch.no_grad():
    errors = {
        name: (one.mean(GRID) - wave(GRID[:, 0])).square().mean().sqrt() for name, one in models.items()
    }
for name, error in errors.items():
    print(f"{name}: the mean is off by {error:.3f} (root mean square)")
assert errors["six values and six slopes"] < 0.5 * errors["six values"]

# %% [markdown]
# And if the slopes are wrong, because the adjoint code has a bug? Derivatives have a noise of their
# own, which is fitted as that of the values is. Let every slope have the wrong sign.

# %%
figure, (panels,) = new_figure(1, 2, width=8.4, height=3.7)
wrong = {}
for axes, count in zip(panels, (6, 12), strict=True):
    at = torch.linspace(0.05, 0.95, count)[:, None]
    y_at, mirrored = wave(at[:, 0]), -slope_of_wave(at[:, 0])
    process = surrogate.fit(Dataset(at, y_at, gradient=mirrored[:, None]), seeds)
    draw_process(axes, process, GRID)
    axes.plot(GRID[:, 0], wave(GRID[:, 0]), "--", color=INK, linewidth=1.2, label="function")
    axes.plot(at[:, 0], y_at, "o", color=INK, markersize=5, zorder=5, label="value")
    for point in zip(at[:, 0].tolist(), y_at.tolist(), mirrored.tolist(), strict=True):
        draw_arrow(axes, *point, reach=0.05)
    axes.set(xlabel="x", ylim=(-1.4, 2.4), title=f"{count} values, slopes of the wrong sign")
    wrong[count] = process
panels[0].set_ylabel("y")
panels[1].tick_params(labelleft=False)
legend_below(figure, 3)
figure

# %%
with torch.no_grad():
    for count, process in wrong.items():
        at = torch.linspace(0.05, 0.95, count)[:, None]
        without = surrogate.fit(Dataset(at, wave(at[:, 0])), seeds).mean(GRID)
        apart = float((process.mean(GRID) - without).square().mean().sqrt())
        deviation = math.exp(0.5 * float(process.hyperparameters[-1]))
        print(f"{count} values: noise of the slopes {deviation:.2f} of their size,", end=" ")
        print(f"the mean is {apart:.3f} from that without them")
assert apart < 0.02

# %% [markdown]
# Six values cannot contradict six slopes: a function with more wiggles has both, and the model
# believes in it. Twelve can. The noise of the slopes becomes larger than the slopes are, and the
# mean is that of the values alone. So a wrong adjoint misleads a search at first, and is found
# out as values come in.
#
# ## Other things that one may know
#
# A slope is one linear functional of a function; there are others. Start with four values only.
# Then somebody tells you the mean of the function over the right half of the range. Or the
# difference between two points that nobody measured. Or only the slope at one point. Each
# conditions the same process, by `Functionals`, with the variance of its error.

# %%
few = torch.tensor([0.05, 0.2, 0.35, 0.5])[:, None]
four = surrogate.fit(Dataset(few, wave(few[:, 0])), seeds)
tiny = torch.tensor([1e-8])
middle, left, right = torch.tensor([[0.5]]), torch.tensor([[0.65]]), torch.tensor([[0.9]])
half = Functionals.integrals(middle, column=0, low=0.5, high=1.0)
known = {
    "the integral from 0.5 to 1": (half, half.of(lambda rows: wave(rows))[:, 0]),
    "the difference of 0.9 and 0.65": (
        Functionals.differences(right, left),
        wave(right[:, 0]) - wave(left[:, 0]),
    ),
    "the slope at 0.65": (Functionals.partials(left, column=0), slope_of_wave(left[:, 0])),
}
figure, (panels,) = new_figure(1, 4, width=9.6, height=3.3)
told = {"four values": four} | {
    name: four.condition(functional, value, noise=tiny) for name, (functional, value) in known.items()
}
for axes, (title, process) in zip(panels, told.items(), strict=True):
    draw_process(axes, process, GRID)
    axes.plot(GRID[:, 0], wave(GRID[:, 0]), "--", color=INK, linewidth=1.2, label="function")
    axes.plot(few[:, 0], wave(few[:, 0]), "o", color=INK, markersize=5, zorder=5, label="value")
    axes.set(xlabel="x", ylim=(-3.2, 3.2))
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelleft=axes is panels[0])
panels[0].set_ylabel("y")
legend_below(figure, 3)
figure

# %%
with torch.no_grad():
    for name, process in told.items():
        mean, cov = process.mean(half), process.cov(half, half)[0]
        print(f"with {name}: the integral is {float(mean):+.3f} ± {float(cov.clamp(min=0).sqrt()):.3f}")
print(f"in truth {float(known['the integral from 0.5 to 1'][1]):+.3f}")

# %% [markdown]
# The integral is a number about the whole right half, and after the second panel it is known
# exactly, although no point there is. The difference ties two points to each other and leaves
# open how high both are: the integral is as uncertain as before. The slope helps a little, near
# its point.
#
# ## A search that is told gradients
#
# Now the loop. `opt.tell(trial, value, gradient={"x": ...})` takes derivatives by the name of the
# parameter, in the user's units and direction; those that are unknown are left out. On a log
# scale the chain rule is applied for you.
#
# The task is a fit, as simulators have it: six parameters, of which two are on a log scale, and a
# sum of squares that is zero where the model meets the data. The same seeds with and without
# gradients, which begin with the same six points.


# %%
RATES = {f"rate{k}": Float(0.05, 5.0, log=True) for k in (1, 2)}
WEIGHTS = {f"weight{k}": Float(-2.0, 2.0) for k in (1, 2, 3, 4)}
space = Space(RATES | WEIGHTS)
TIMES = torch.linspace(0.0, 4.0, 25)


def simulated(values):
    rate1, rate2, *weights = values
    fast, slow = torch.exp(-rate1 * TIMES), torch.exp(-rate2 * TIMES)
    waves = torch.stack((fast, slow, fast * torch.sin(3 * TIMES), slow * torch.cos(2 * TIMES)))
    return torch.stack(tuple(weights)) @ waves


TRUTH = torch.tensor([1.9, 0.3, 1.1, -0.7, 1.4, 0.6])
MEASURED = simulated(TRUTH)


def misfit(params):
    """The mean squared misfit, and its derivatives by automatic differentiation."""
    values = torch.tensor(list(params.values()), requires_grad=True)
    loss = (simulated(values) - MEASURED).square().mean()
    (gradient,) = torch.autograd.grad(loss, values)
    return loss.item(), dict(zip(params, gradient.tolist(), strict=True))


def searched(seed, gradients, distort=lambda gradient: gradient):
    """The best misfit after each evaluation."""
    opt = Optimizer(space, seed=seed, budget=BUDGET)
    for _ in range(BUDGET):
        trial = opt.ask()
        value, gradient = misfit(trial.params)
        opt.tell(trial, value, gradient=distort(gradient) if gradients else None)
    return np.minimum.accumulate([trial.value for trial in opt.trials])


runs = {
    "with gradients": [searched(seed, gradients=True) for seed in range(SEEDS)],
    "without": [searched(seed, gradients=False) for seed in range(SEEDS)],
}

# %%
figure, ((axes,),) = new_figure(1, 1, width=6.4, height=3.6)
for style, (name, curves) in zip(LINES, runs.items(), strict=False):
    for curve in curves:
        axes.step(range(1, BUDGET + 1), curve, where="post", color=style.color, alpha=0.35, linewidth=1)
    middle = np.median(curves, axis=0)
    line = {"color": style.color, "linestyle": style.dashes, "linewidth": 2.2, "label": name}
    axes.step(range(1, BUDGET + 1), middle, where="post", **line)
axes.set(xlabel="evaluations", ylabel="best misfit", yscale="log")
axes.xaxis.get_major_locator().set_params(integer=True)
axes.set_title(f"medians of {SEEDS} seeds, and each of them", loc="left", fontsize=10)
axes.legend(frameon=False)
figure

# %%
final = {name: np.median([curve[-1] for curve in curves]) for name, curves in runs.items()}
print(*(f"{name}: {value:.2g}" for name, value in final.items()), sep="\n")
assert final["with gradients"] < final["without"]

# %% [markdown]
# Up to the sixth evaluation the two are the same: the model has not spoken yet. From then on each
# evaluation brings seven numbers instead of one. How this compares with L-BFGS and with BoTorch on
# six functions of up to twenty parameters is in "Gradients" of [the
# benchmarks](../benchmarks/README.md).

# %% [markdown]
# ## Two minima, and a machine that misses
#
# The next function has two minima: a sharp one, deep, and a broad one, not quite as deep. If the
# machine sets exactly what you ask for, take the sharp one. If it misses by 0.07, most of its
# products come from the walls beside the sharp minimum. What you want then is the smallest
# *average* over what will really be set: `opt.recommend(robust={"x": 0.07})`, where the number is
# the standard deviation of the miss, in the user's units.


# %%
MISS = 0.07


def two_minima(x):
    sharp, broad = np.exp(-(((x - 0.22) / 0.07) ** 2)), np.exp(-(((x - 0.7) / 0.2) ** 2))
    return 1.0 - sharp - 0.8 * broad


opt = Optimizer(Space({"x": Float(0, 1)}), seed=0, budget=ROBUST_BUDGET)
for _ in range(ROBUST_BUDGET):
    trial = opt.ask()
    opt.tell(trial, float(two_minima(trial.params["x"])))
plain, robust = opt.recommend()["x"], opt.recommend(robust={"x": MISS})["x"]
nodes, weights = np.polynomial.hermite_e.hermegauss(40)


def on_average(x):
    """The mean outcome of a machine that misses by MISS."""
    return two_minima(np.asarray(x)[..., None] + MISS * nodes) @ (weights / weights.sum())


# %%
at = np.linspace(0, 1, 401)
figure, ((axes,),) = new_figure(1, 1, width=7.2, height=3.8)
axes.plot(at, two_minima(at), "--", color=INK, linewidth=1.2, label="function")
axes.plot(at, on_average(at), color=LINES[1].color, linewidth=2.0, label=f"average over a miss of {MISS}")
for params, value in ((trial.params, trial.value) for trial in opt.trials):
    axes.plot(params["x"], value, "o", color=MIST, markeredgecolor=INK, markersize=5)
for name, x_best, color, marker in (
    ("recommend()", plain, RED, "v"),
    (f'recommend(robust={{"x": {MISS}}})', robust, GOLD, "D"),
):
    axes.errorbar(
        x_best,
        on_average(x_best),
        xerr=MISS,
        color=color,
        marker=marker,
        markersize=9,
        capsize=4,
        linewidth=1.8,
        linestyle="none",
        label=name,
        zorder=4,
    )
axes.set(xlabel="x", ylabel="outcome")
legend_below(figure, 2)
figure

# %%
for name, x_best in (("plain", plain), ("robust", robust)):
    print(f"{name}: x = {x_best:.3f}, value {two_minima(x_best):.3f}, on average {on_average(x_best):.3f}")
assert two_minima(plain) < two_minima(robust)
assert on_average(robust) < on_average(plain)

# %% [markdown]
# The red triangle has the smaller value, the golden diamond the smaller average: the bars are one
# standard deviation of the miss, and the left one reaches over the walls.
#
# What if the readings came from such a machine, too? Say that you know where it was meant to go,
# and by how much it misses. Then each outcome is a value of the function *somewhere near x*.
# `opt.tell(trial, value, params_std={"x": 0.07})` says so, and to a model of your own
# `Dataset(x, y, x_std=...)`. Without it, the model has to take the scatter for noise of the
# outcomes, the same everywhere, flat or steep.

# %%
meant = Seeds.of(seed=1, trial=0).sobol(40, torch.zeros(1)[:, None])
really = meant + MISS * torch.randn(meant.shape, generator=torch.Generator().manual_seed(0))
read = torch.as_tensor(two_minima(really[:, 0].numpy()))
deviations = torch.full_like(meant, MISS)
fits = {
    "as if x were exact": surrogate.fit(Dataset(meant, read), seeds),
    "with the standard deviation of x": surrogate.fit(Dataset(meant, read, x_std=deviations), seeds),
}
figure, (panels,) = new_figure(1, 2, width=8.4, height=3.7)
for axes, (title, process) in zip(panels, fits.items(), strict=True):
    draw_process(axes, process, GRID)
    axes.plot(at, two_minima(at), "--", color=INK, linewidth=1.2, label="function")
    axes.errorbar(
        meant[:, 0],
        read,
        xerr=MISS,
        fmt="o",
        color=MIST,
        markersize=4,
        linewidth=1,
        zorder=1,
        label="reading, and where it may have been taken",
    )
    axes.set(xlabel="x", ylim=(-0.4, 1.6), title=title)
panels[0].set_ylabel("outcome")
panels[1].tick_params(labelleft=False)
legend_below(figure, 3)
figure

# %%
with torch.no_grad():
    truth = torch.as_tensor(two_minima(at))
    for name, process in fits.items():
        error = float((process.mean(GRID) - truth).square().mean().sqrt())
        deviation = float(process.noise.sqrt())
        print(f"{name}: the mean is off by {error:.3f}, the noise has deviation {deviation:.3f}")
noises = [float(process.noise) for process in fits.values()]
assert noises[1] < 0.25 * noises[0]

# %% [markdown]
# On the left all the scatter is noise of the outcomes, and the mean is smoothed over the sharp
# minimum. On the right next to nothing is: the model knows that outcomes differ because inputs
# do, is unsure of the function instead, and its mean goes deeper. The gain in the mean is small.
# The gain in what is noise and what is not is large.

# %% [markdown]
# ## Readings as messages
#
# An exact model of n readings costs n³. A sparse one summarises them by the values at a few
# inducing inputs, and then each reading is a *message* to these values: it adds one number to
# their precision in one direction, and one to their mean. The noise is unknown as well, and each
# reading sends a message to its precision, a Gamma distribution. `StreamingGP` takes them in any
# order and in batches of any size, and need not store them.
#
# Here the function is sin(πt)/(πt) over t from -5 to 5, and twenty inducing inputs listen.

# %%
from bo_suite.surrogates import SGPR
from bo_suite.surrogates.messages import GammaPrecision, ScalarOutputs, StreamingGP

generator = torch.Generator().manual_seed(0)
x = torch.rand(READINGS, 1, generator=generator)
y = torch.sinc(10 * x[:, 0] - 5) + 0.1 * torch.randn(READINGS, generator=generator)
kernel, inducing = SquaredExponential(), torch.linspace(0.0, 1.0, 20)[:, None]
theta = SGPR(inducing=20, kernel=kernel).fit(Dataset(x[:200], y[:200]), seeds).hyperparameters[:-1]
noise = GammaPrecision(shape=torch.tensor(1.0), rate=torch.tensor(0.01))
stream = StreamingGP.start(kernel, theta, inducing, ScalarOutputs(), noise)

after, first = {}, 0
for count in (10, 100, READINGS):
    for rows, values in zip(x[first:count].split(10), y[first:count].split(10), strict=True):
        stream = stream.observed(rows, values)  # ten readings at a time
    first, after[count] = count, stream.iterated()

figure, (panels,) = new_figure(1, 3, width=9.0, height=3.5)
for axes, (count, one) in zip(panels, after.items(), strict=True):
    draw_process(axes, one.process, GRID, at=10 * GRID[:, 0] - 5)
    axes.plot(10 * x[:count, 0] - 5, y[:count], ".", color=MIST, markersize=3, zorder=1, label="reading")
    axes.plot(
        10 * GRID[:, 0] - 5, torch.sinc(10 * GRID[:, 0] - 5), "--", color=INK, linewidth=1.2, label="sinc"
    )
    axes.set(xlabel="t", ylim=(-0.7, 1.4), title=f"after {count:,} readings")
    axes.tick_params(labelleft=axes is panels[0])
panels[0].set_ylabel("y")
legend_below(figure, 3)
figure

# %% [markdown]
# Two things are unknown, the function and the noise, and each is inferred given the other. So one
# has to go around: the precision of the noise given the function, the function given the noise.
# That looks at the same readings again and again. If each round took the posterior of the last as
# its prior, as one implementation of these messages does, then a thousand readings would count as
# two thousand after the second round, and as three thousand after the third.
#
# `StreamingGP` stores the sum of the messages, each datum once, and a round (`iterated`) computes
# both distributions from it anew. Below, the same thousand readings, looked at up to five times.

# %%
rounds, counted = [stream], [stream]
for _ in range(5):
    rounds.append(rounds[-1].iterated())
    counted.append(counted[-1].observed(x, y))  # wrong: the same readings as if they were new


def spread(one):
    return one.process.var(GRID).sqrt()


figure, (panels,) = new_figure(1, 2, width=8.4, height=3.6)
for number, style in zip((1, 2, 5), LINES, strict=False):
    line = {"color": style.color, "linestyle": style.dashes, "linewidth": 1.8}
    name = f"after {number} look{'s' * (number > 1)}"
    panels[0].plot(10 * GRID[:, 0] - 5, spread(rounds[number]), label=name, **line)
    panels[1].plot(10 * GRID[:, 0] - 5, spread(counted[number - 1]), label=name, **line)
panels[0].set(xlabel="t", ylabel="standard deviation of the function", title="rounds of coordinate ascent")
panels[1].set(xlabel="t", title="the posterior as the next prior")
panels[1].tick_params(labelleft=False)
top = 1.1 * float(spread(rounds[1]).max())
for axes in panels:
    axes.set_ylim(0, top)
legend_below(figure, 3)
figure

# %%
bounds = [float(one.bound) for one in rounds]
print("the bound by round:", *(f"{bound:.4f}" for bound in bounds))
print(f"noise: {float(rounds[-1].process.noise.sqrt()):.4f}, in truth 0.1")
again, twice = (float((spread(one) / spread(rounds[1])).mean()) for one in (rounds[5], counted[4]))
print(f"after five looks the deviation is {again:.4f} of that after one; counted five times, {twice:.2f}")
assert all(later >= earlier - 1e-9 for earlier, later in pairwise(bounds))
assert 0.99 < again < 1.01
assert twice < 0.6

# %% [markdown]
# ## When to use this
#
# **Gradients**: whenever your simulator has them, by an adjoint or by automatic differentiation,
# and at most a few times the price of a value. Tell those that you have; a missing one is no
# problem. Do not compute them by finite differences for the search: d more evaluations are worth
# more as evaluations elsewhere. Where the function is one smooth bowl, L-BFGS is hard to beat.
#
# **`recommend(robust=...)`**: whenever what will be set differs from what you ask for.
# **`params_std`**: when past settings were missed by a known amount, and outcomes are steep enough
# to feel it.
#
# **`Functionals`**: when somebody knows an integral, an average or a difference. **`StreamingGP`**:
# for readings that come without end, at fixed kernel parameters, or for vectors of outputs whose
# noise is correlated. In the loop you need none of the two: the default becomes sparse by itself.

# %% [markdown]
# # Natural gradients and Pólya-gamma: classification without the crawl
#
# Labels are not Gaussian, so a Gaussian process cannot learn from them in closed form. The usual
# way out is a Gaussian $q(f)$ that maximises a lower bound of the evidence (ELBO). How should $q$
# move? You will see a published example end in `nan`, find out why, and see it done right in about
# ten steps; then the same ascent by Adam, in good coordinates and in bad ones; then a likelihood,
# the logistic one, for which one more bound gives even the expectations closed forms. It takes ten
# minutes to read, less than one to run, and no optional library.

# %% tags=["parameters"]
natural_count = 40  # natural-gradient steps
adam_count = 800  # Adam steps
sweeps = 1000  # of the Gibbs sampler
fresh = 20_000  # rows that check the calibration
n_plane = 300  # labels of the example in the plane
rounds = 5  # of its fit

# %%
# %matplotlib inline
import math
import time
from dataclasses import dataclass, replace

import gpytorch
import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch.nn.functional import logsigmoid

from bo_suite.classifiers import GPClassifier, WeightedExamples
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.kernels import as_kernel
from bo_suite.plot.style import INK, LINES, MIST, RED, new_figure
from bo_suite.surrogates import SVGP
from bo_suite.surrogates.variational.likelihoods import BernoulliLogit, BernoulliProbit, MonteCarloLikelihood
from bo_suite.surrogates.variational.natural import riemannian_step
from bo_suite.surrogates.variational.quadrature import polya_gamma_mean
from bo_suite.surrogates.variational.training import NaturalLBFGS

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # matrices as small as these gain nothing by more
nothing = torch.zeros(0)  # these likelihoods have no parameters

# %% [markdown]
# ## 1. A published loop, and where it breaks
#
# Thirty labels on a line, a prior $f \sim N(0, K)$ with a squared exponential kernel, and a probit
# likelihood $p(y = 1 \mid f) = \Phi(f)$. A Gaussian has natural parameters $\eta_1 = P\,m$ and
# $\eta_2 = -\tfrac12 P$, with $P$ its precision. The published loop, of a tutorial on
# natural-gradient variational inference, moves them half of the way towards *prior plus
# likelihood*:
#
# $$\eta \leftarrow (1 - \rho)\,\eta + \rho\,(\eta_\text{prior} + \eta_\text{site}),
# \qquad \rho = \tfrac12 .$$
#
# So far, so good. But the function that makes the site returns the precision $\Lambda = -H$ in the
# place of $\eta_2$, where $-\tfrac12\Lambda = \tfrac12 H$ belongs. Each label then makes $q$
# *less* certain. Look at the eigenvalues of the precision after the very first step.

# %%
published_data = "../tests/surrogates/fixtures/gaussx_probit.csv"
table = np.loadtxt(published_data, delimiter=",", skiprows=1)
x, sign = torch.from_numpy(table[:, 0]), torch.from_numpy(table[:, 1])
labels = (sign + 1.0) / 2.0
K = 1.5 * torch.exp(-0.5 * (x[:, None] - x).square()) + 1e-6 * torch.eye(len(x))


@dataclass(frozen=True)
class Natural:
    """A Gaussian by its natural parameters, η₁ = precision mean and η₂ = -precision / 2."""

    linear: torch.Tensor
    quadratic: torch.Tensor

    @property
    def precision(self):
        return -2.0 * self.quadratic

    def moments(self):
        cov = torch.cholesky_inverse(torch.linalg.cholesky(self.precision))
        return cov @ self.linear, cov

    def towards(self, target, rate):
        """The weighted mean of the parameters of this Gaussian and of a target."""
        return Natural(
            torch.lerp(self.linear, target.linear, rate),
            torch.lerp(self.quadratic, target.quadratic, rate),
        )


prior = Natural(torch.zeros_like(x), -0.5 * torch.cholesky_inverse(torch.linalg.cholesky(K)))


def log_likelihood(f):
    return torch.special.log_ndtr(sign * f).sum()


start = torch.zeros_like(x)
gradient = torch.autograd.functional.jacobian(log_likelihood, start)
hessian = torch.autograd.functional.hessian(log_likelihood, start)
published, right = (
    prior.towards(Natural(gradient, prior.quadratic + site), 0.5) for site in (-hessian, 0.5 * hessian)
)
spectra = {
    "prior": torch.linalg.eigvalsh(prior.precision),
    "published, +Λ": torch.linalg.eigvalsh(published.precision),
    "right, -Λ/2": torch.linalg.eigvalsh(right.precision),
}
least = float(spectra["published, +Λ"][0])
print(f"least eigenvalue of the published precision: {least:.3f}; of the right one: "
      f"{float(spectra['right, -Λ/2'][0]):.3f}")  # fmt: skip
assert abs(least - -0.579) < 1e-3
assert spectra["right, -Λ/2"][0] > spectra["prior"][0]
try:
    riemannian_step(published.precision, prior.precision, 0.5)
except NumericalError as error:
    print("bo_suite refuses it:", error)

# %%
figure, ((left, axes),) = new_figure(columns=2, width=7.6, height=3.3)
for value, style, name in ((1.0, LINES[0], "label 1"), (0.0, LINES[1], "label 0")):
    there = labels == value
    left.plot(x[there], labels[there], style.marker, color=style.color, alpha=0.7, label=name)
left.set(xlabel="x", ylabel="label", yticks=(0, 1), ylim=(-0.4, 1.4), title="The data")
left.legend(frameon=False, loc="center left")
for (name, values), style in zip(spectra.items(), (LINES[6], LINES[0], LINES[1]), strict=True):
    (drawn,) = axes.plot(range(1, 11), values[:10], style.marker, color=style.color, label=name)
    drawn.set_linestyle(style.dashes)
axes.axhline(0.0, color=INK, linewidth=0.8)
axes.set_yscale("symlog", linthresh=1.0)
axes.set_yticks([-1, 0, 1, 10, 100], ["-1", "0", "1", "10", "100"])
axes.minorticks_off()
axes.set_ylim(-2.0, 500.0)
axes.set(xlabel="rank of the eigenvalue", ylabel="eigenvalue of the precision")
axes.set_title("One step: below zero there is no Gaussian")
axes.legend(frameon=False)
figure

# %% [markdown]
# A precision with negative eigenvalues is no Gaussian's, its Cholesky factor is `nan`, and so is
# all that follows. The natural steps of `bo_suite` never add jitter to a precision: they say that
# something went wrong.
#
# ### What the step really is
#
# The tutorial justifies it by saying that in natural coordinates the Fisher matrix is the
# identity. It is not; the cell prints it for one Gaussian. What holds is better. The natural
# gradient by $\eta$ is the plain gradient by the *expectation parameters* $(E[f], E[f^2])$, and
# for an expected log likelihood $E_q[\ell]$ that gradient *is* the site,
# $(g - h m,\ \tfrac12 h)$ with $g = E_q[\nabla\ell]$ and $h = E_q[\nabla^2\ell]$. That is why a
# step is a weighted mean.

# %%
probit = BernoulliProbit()
eta = torch.tensor([2.0, -1.0], requires_grad=True)  # mean 1, variance 1/2


def log_partition(e):
    return -e[0].square() / (4.0 * e[1]) - 0.5 * torch.log(-2.0 * e[1])


fisher = torch.autograd.functional.hessian(log_partition, eta.detach())
one, mean, var = torch.ones(1), -eta[:1] / (2.0 * eta[1:]), -0.5 / eta[1:]
value = probit.expected_log_density(one, mean, var, nothing, None).sum()
natural_gradient = torch.linalg.solve(fisher, torch.autograd.grad(value, eta)[0])
linear, precision = probit.sites(one, mean.detach(), var.detach(), nothing, None)
print("Fisher matrix: ", np.round(fisher.numpy(), 3).tolist())
print("natural gradient:", np.round(natural_gradient.numpy(), 6).tolist())
print(f"site:            [{float(linear):.6f}, {float(-0.5 * precision):.6f}]")
assert torch.allclose(natural_gradient, torch.cat((linear, -0.5 * precision)))

# %% [markdown]
# ### Done right
#
# `sites` gives a likelihood's sites under $q$, and the step puts them in the right place. The
# tutorial takes the derivatives at the mean of $q$ alone, which leads to Laplace's
# approximation and not to the bound's maximum; `spread=0` does so, for comparison. (The tutorial
# has a second loop, by the Bayesian learning rule, whose signs are right; that is where it ends.)

# %%
prior_chol = torch.linalg.cholesky(K)


def whitened_kl(mean, chol):
    """KL[N(mean, chol cholᵀ) || N(0, I)], from the lower triangle of chol."""
    squares = chol.tril().square().sum() + mean.square().sum() - len(mean)
    return 0.5 * squares - chol.diagonal().abs().log().sum()


def gaussian_kl(mean, chol, prior_chol):
    """KL[N(mean, chol cholᵀ) || N(0, prior_chol prior_cholᵀ)]."""
    both = torch.cat((chol.tril(), mean[:, None]), -1)
    white = torch.linalg.solve_triangular(prior_chol, both, upper=False)
    return whitened_kl(white[:, -1], white[:, :-1])


def bound(mean, chol):
    """The ELBO of q(f) = N(mean, chol cholᵀ)."""
    var = chol.tril().square().sum(-1)
    fit = probit.expected_log_density(labels, mean, var, nothing, None).sum()
    return fit - gaussian_kl(mean, chol, prior_chol)


def natural_steps(count, rate, spread=1.0):
    q, values, seconds, begun = prior, [], [], time.process_time()
    for _ in range(count + 1):
        mean, cov = q.moments()
        values.append(float(bound(mean, torch.linalg.cholesky(cov))))
        seconds.append(time.process_time() - begun)
        linear, precision = probit.sites(labels, mean, spread * cov.diagonal(), nothing, None)
        target = Natural(prior.linear + linear, prior.quadratic - 0.5 * precision.diag())
        q = q.towards(target, rate)
    return np.array(values), np.array(seconds)


natural, natural_seconds = natural_steps(natural_count, rate=0.5)
laplace, _ = natural_steps(natural_count, rate=0.5, spread=0.0)
shown = [0, 1, 2, 5, 10, 20]
print(f"after {natural_count} steps: ELBO {natural[-1]:.4f}")
print(f"linearised at the mean: {laplace[-1]:.4f}")
assert abs(natural[-1] - -7.8734) < 1e-3
assert (np.diff(natural) > -1e-9).all(), "no step lowers the bound"
assert laplace[-1] < natural[-1] - 0.1
pd.DataFrame({"E_q": natural[shown], "at the mean": laplace[shown]}, index=shown).T.round(3)

# %% [markdown]
# No step falls, and after twenty no digit shown here moves. In practice one line does this:
# `SVGP.process` takes given hyperparameters and inducing inputs (here all rows) and brings $q$ to
# its optimum; `SVGP.fit` finds the hyperparameters too.
#
# It also draws the picture that the tutorial had wanted. The tutorial predicted $K_{*}\,m$ where
# $K_{*}K^{-1}m$ was meant. The grey line is what that mean says, even of a perfect $q$: a cliff.

# %%
kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
kernel.outputscale, kernel.base_kernel.lengthscale = 1.5, 1.0
theta = as_kernel(kernel, ()).start(1)  # that very kernel's parameters
surrogate = SVGP(kernel=kernel, likelihood=probit, mean=0.0, jitter=1e-6 / 1.5)
data = Dataset(x[:, None], labels, None, x[:0, None])
process = surrogate.process(data, theta, inducing=x[:, None])
reached = float(surrogate.bound(data, process))
print(f"ELBO of SVGP: {reached:.4f}")
assert abs(reached - -7.8734) < 1e-3

grid = torch.linspace(-3.5, 3.5, 200)
with torch.no_grad():
    mean, var = process.mean_and_var(grid[:, None])
    at_data = process.mean(x[:, None])
    probability = surrogate.predictive_mean(process, grid[:, None])
without_inverse = 1.5 * torch.exp(-0.5 * (grid[:, None] - x).square()) @ at_data
figure, ((axes,),) = new_figure(height=3.6)
low, high = (torch.special.ndtr(mean + z * var.sqrt()) for z in (-2.0, 2.0))
band = axes.fill_between(grid, low, high, color=RED, alpha=0.2, linewidth=0)
band.set_label("Φ(mean ± 2 deviations)")
axes.plot(grid, probability, color=RED, linewidth=2.0, label="P(y = 1 | x)")
wrong = torch.special.ndtr(without_inverse)
axes.plot(grid, wrong, color="0.45", linestyle="--", label="without the inverse of K")
for value, style, name in ((1.0, LINES[0], "label 1"), (0.0, LINES[1], "label 0")):
    there = labels == value
    axes.plot(x[there], labels[there], style.marker, color=style.color, alpha=0.7, label=name)
axes.set(xlabel="x", ylabel="probability of label 1", title="Sure amid like labels, open elsewhere")
figure.legend(loc="outside right center", frameon=False)
figure

# %% [markdown]
# ## 2. Against Adam
#
# Adam moves the mean and the Cholesky factor of $q$ along gradients of the same bound. In which
# coordinates? Either of $f$ itself, or of the whitened $v$ with $f = Lv$, $K = LL^\top$, for which
# the prior is $N(0, I)$. All runs start at the prior.
#
# First the tutorial's own Adam run, which ended at $-3738293339.769$ and stands there for how slow
# Euclidean gradients are. Read its update closely: it *adds* the gradient of the *negative* bound,
# a slip of one sign, and so descends the bound. So does the next cell, and finds that number to
# four digits, with exact expectations where the tutorial draws samples.


# %%
def adam(bound, start, rate, steps, maximize=True):
    parameters = [part.clone().requires_grad_() for part in start]
    optimiser = torch.optim.Adam(parameters, lr=rate, maximize=maximize)
    values, seconds, begun = [], [], time.process_time()
    for _ in range(steps):
        optimiser.zero_grad()
        value = bound(*parameters)
        value.backward()
        values.append(value.item())
        seconds.append(time.process_time() - begun)
        optimiser.step()
    return np.array(values), np.array(seconds)


def whitened_bound(mean, chol):
    var = (prior_chol @ chol.tril()).square().sum(-1)
    fit = probit.expected_log_density(labels, prior_chol @ mean, var, nothing, None).sum()
    return fit - whitened_kl(mean, chol)


eye = torch.eye(len(x))
theirs = (torch.zeros_like(x), 0.5 * eye)  # the tutorial's start, rate and number of steps
downhill, _ = adam(bound, theirs, 0.01, 300, maximize=False)
uphill, _ = adam(bound, theirs, 0.01, 300)
print(f"as published: {downhill[-1]:.4g};  with the sign put right: {uphill[-1]:.4g}")
assert math.isclose(downhill[-1], -3738293339, rel_tol=1e-4)

# %% [markdown]
# With its sign put right it is still far away. That is the geometry. Near the optimum the
# curvature of the bound by the mean of $f$ is $K^{-1} + W$, and by that of $v$ it is
# $I + L^\top W L$, where $W$ holds the sites' precisions.

# %%
W = probit.sites(labels, at_data, process.var(x[:, None]), nothing, None)[1].diag()
print(f"condition number by f: {float(torch.linalg.cond(prior.precision + W)):.2g}, "
      f"by v: {float(torch.linalg.cond(eye + prior_chol.T @ W @ prior_chol)):.2g}")  # fmt: skip
runs = {}
for rate in (0.1, 0.03, 0.01, 0.001):
    runs["Adam, whitened", rate] = adam(whitened_bound, (start, eye), rate, adam_count)
    runs["Adam, unwhitened", rate] = adam(bound, (start, prior_chol), rate, adam_count)
runs["natural gradient", 0.5] = natural_steps(natural_count, 0.5)
runs["natural gradient", 1.0] = natural_steps(natural_count, 1.0)
best = max(values.max() for values, _ in runs.values())


def steps_to(values, target):
    near = values > target
    return str(int(near.argmax())) if near.any() else "never"


gaps = [
    [name, rate, best - values[-1], steps_to(values, best - 0.1), steps_to(values, best - 1e-3)]
    for (name, rate), (values, _) in runs.items()
]
columns = ["method", "rate", "last gap", "steps to 0.1", "steps to 0.001"]
comparison = pd.DataFrame(gaps, columns=columns).sort_values(["method", "rate"], ignore_index=True)
assert steps_to(natural, best - 1e-3) != "never"
slow = comparison[comparison["method"] == "Adam, unwhitened"]
assert (slow["steps to 0.1"] == "never").all()
comparison.round(4)


# %%
def log_gap(values, seconds):
    return np.log(np.maximum(best - values, 1e-9))


figure, ((by_step, by_second),) = new_figure(columns=2, width=7.6, height=3.7)
methods = ("natural gradient", "Adam, whitened", "Adam, unwhitened")
for method, style in zip(methods, LINES[:3], strict=True):
    rates = [rate for name, rate in runs if name == method]
    rate = min(rates, key=lambda rate: log_gap(*runs[method, rate]).mean())  # the fastest one
    values, seconds = runs[method, rate]
    gap = np.exp(log_gap(values, seconds))
    for axes, at in ((by_step, np.arange(len(gap)) + 1), (by_second, seconds)):
        axes.loglog(at, gap, color=style.color, linestyle=style.dashes, linewidth=1.8,
                    label=f"{method}, rate {rate:g}")  # fmt: skip
by_step.set(xlabel="bounds evaluated", ylabel="gap to the best ELBO (nats)", title="By iteration")
by_second.set(xlabel="seconds of the processor", ylabel="gap to the best ELBO (nats)")
by_second.set_title("By seconds")
near, adam_near = best - 1e-3, runs["Adam, whitened", 0.1]
if adam_near[0][-1] > near:
    took = [float(at[values > near][0]) for values, at in ((natural, natural_seconds), adam_near)]
    print(f"CPU seconds to a gap of 0.001: natural (0.5) {took[0]:.3f}, Adam (0.1) {took[1]:.3f}")
handles = by_step.get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
figure

# %% [markdown]
# Natural steps need no good coordinates: they are the same by $f$ and by $v$, as by any linear
# change. Whitened Adam arrives, later, once someone has found its rate. Unwhitened, every step
# that would matter along the flat directions of $K^{-1}$ throws $q$ off along the steep ones, and
# no rate in the table helps: a large one explodes, a small one crawls.

# %% [markdown]
# ## 3. Pólya-gamma: a likelihood that turns Gaussian
#
# Swap probit for the logistic $\sigma(f) = 1 / (1 + e^{-f})$. Its expectations have no closed form
# either, but it has a lower bound whose expectations and sites do. The reason is an identity of
# Polson, Scott and Windle (2013):
#
# $$\sigma(f) = \tfrac12 e^{f/2}\, \frac{1}{\cosh(f/2)}, \qquad
# \frac{1}{\cosh(f/2)} = E\big[e^{-\omega f^2/2}\big], \quad \omega \sim \mathrm{PG}(1, 0).$$
#
# The right factor is a mixture of Gaussian bells of precisions $\omega$. Given $\omega$ a label is
# a Gaussian observation, and given $f$ all that is needed of $\omega \sim \mathrm{PG}(1, f)$ is
# its mean, $\tanh(c/2)/2c$ at $c = |f|$. Put that in, and the bells become a quadratic lower
# bound of $\log\sigma(f)$ that touches it at $\pm c$, the bound of Jaakkola and Jordan (2000).
# Under a Gaussian $q$ the best $c$ is $\sqrt{E_q[f^2]}$.

# %%
generator = np.random.default_rng(0)


def draw_polya_gamma(c, terms=200):
    """PG(1, c) as a sum of scaled exponential variables, cut off."""
    scales = 2.0 * np.pi**2 * ((np.arange(terms) + 0.5) ** 2 + (c[..., None] / (2.0 * np.pi)) ** 2)
    return (generator.standard_exponential(scales.shape) / scales).sum(-1)


f = np.linspace(-8.0, 8.0, 321)
omega = draw_polya_gamma(np.zeros(5000))
bells = np.exp(-0.5 * omega[:, None] * f**2)
figure, ((left, right),) = new_figure(columns=2, width=7.6, height=3.3)
left.plot(f, bells[:9].T, color=MIST, linewidth=0.7)
left.plot(f, bells.mean(0), color=RED, linewidth=2.2, label="mean of 5,000 bells")
left.plot(f, 1.0 / np.cosh(f / 2.0), color=INK, linestyle=(0, (2, 2)), label="1 / cosh(f / 2)")
left.set(xlabel="f", ylabel="bell", title="A mixture of Gaussian bells", ylim=(0.0, 1.35))
right.plot(f, logsigmoid(torch.from_numpy(f)), color=INK, label="log σ(f)")
for c, style in ((1.0, LINES[0]), (4.0, LINES[1])):
    tilt = torch.tensor([c, -c])
    touch, precision = logsigmoid(tilt), float(polya_gamma_mean(tilt)[0])
    quadratic = 0.5 * (f - c) - 0.5 * precision * (f**2 - c**2) + float(touch[0])
    right.plot(f, quadratic, color=style.color, linestyle=style.dashes, label=f"bound, c = {c:g}")
    right.plot(tilt, touch, style.marker, color=style.color)
    assert (quadratic <= logsigmoid(torch.from_numpy(f)).numpy() + 1e-12).all()
right.set(xlabel="f", ylabel="log probability of label 1", ylim=(-9, 1))
right.set_title("A quadratic that touches at ±c")
for axes in (left, right):
    axes.legend(frameon=False, loc="upper center" if axes is left else "lower right")
figure

# %%
tilts = torch.tensor([0.0, 1.0, 3.0, 8.0])
draws = draw_polya_gamma(np.tile(tilts.numpy(), (10_000, 1)))
moments = pd.DataFrame(
    {"c": tilts, "tanh(c/2) / 2c": polya_gamma_mean(tilts), "mean of draws": draws.mean(0)}
)
assert np.allclose(moments.iloc[:, 1], moments.iloc[:, 2], atol=1e-2)
moments.round(4)

# %% [markdown]
# ### Classification in closed form
#
# The data of a primer on these variables: 64 draws of $N(1, 1)$ labelled 1, and 64 of $N(0, 2^2)$
# labelled 0. The true log odds are $\log 2 - \tfrac12 + x - \tfrac38 x^2$, so a regression
# on $(1, x, x^2)$ can be exactly right. The primer runs a Gibbs sampler for 1,000 sweeps. With
# the mean of $\omega$ instead of draws, it is a natural step of rate 1, again and again.

# %%
one_class, other_class = norm(1.0, 1.0), norm(0.0, 2.0)
truth = np.array([math.log(2.0) - 0.5, 1.0, -0.375])
logit, alpha = BernoulliLogit(), 2.0  # alpha: the prior precision of the weights
weights_prior = Natural(torch.zeros(3), -0.5 * alpha * torch.eye(3))


def toy(count, state):
    draws = [part.rvs(size=count // 2, random_state=state) for part in (one_class, other_class)]
    features = torch.from_numpy(np.concatenate(draws))[:, None] ** torch.arange(3)
    return features, torch.tensor([1.0, 0.0]).repeat_interleave(count // 2)


def latent(features, q):
    mean, cov = q.moments()
    return features @ mean, ((features @ cov) * features).sum(-1)


def closed_form_step(q, features, y):
    linear, precision = logit.sites(y, *latent(features, q), nothing, None)
    site = Natural(features.T @ linear, -0.5 * (features.T * precision) @ features)
    return Natural(weights_prior.linear + site.linear, weights_prior.quadratic + site.quadratic)


features, y = toy(128, np.random.RandomState(8888))
q, seconds = weights_prior, time.process_time()
path = [q]
for _ in range(30):
    path.append(closed_form_step(path[-1], features, y))
seconds = time.process_time() - seconds
mean, cov = path[-1].moments()

# %% [markdown]
# The primer's sampler, for comparison, without its dependency on a library of samplers. (The
# primer also has a playful version that calls itself once a sweep, and warns that it may meet the
# recursion limit: 1,000 sweeps do. Its loop, which we follow, does not.)

# %%
phi, beta, gibbs, gibbs_seconds = features.numpy(), np.zeros(3), [], time.process_time()
for _ in range(sweeps):
    precision = (phi.T * draw_polya_gamma(phi @ beta)) @ phi + alpha * np.eye(3)
    cov_given = np.linalg.inv(precision)
    beta = generator.multivariate_normal(cov_given @ phi.T @ (y.numpy() - 0.5), cov_given)
    gibbs.append(beta)
gibbs, gibbs_seconds = np.array(gibbs[sweeps // 10 :]), time.process_time() - gibbs_seconds
print(f"{len(path) - 1} closed-form steps: {seconds:.3f} s; {sweeps} sweeps: {gibbs_seconds:.2f} s")
deviation = cov.diagonal().sqrt()
assert (np.abs(mean.numpy() - gibbs.mean(0)) < gibbs.std(0)).all()
pd.DataFrame(
    {
        "truth": truth,
        "closed form": mean,
        "Gibbs": gibbs.mean(0),
        "deviation, closed form": deviation,
        "deviation, Gibbs": gibbs.std(0),
    },
    index=["1", "x", "x²"],
).round(3)

# %% [markdown]
# The means agree with the sampler's, within a fraction of a deviation. The deviations show the
# price: a lower bound tells less of the evidence than there is, and a factorised $q(f)\,q(\omega)$
# is too sure of itself, here for the weights of $x$ and $x^2$. Are the probabilities still
# honest? On fresh rows, group the predictions, and count labels.

# %%
checked, checked_y = toy(fresh, np.random.RandomState(1))
many, many_y = toy(4096, np.random.RandomState(2))
large = weights_prior
for _ in range(30):
    large = closed_form_step(large, many, many_y)
predicted, losses = {}, {}
for name, posterior in (("128", path[-1]), ("4,096", large)):
    there = latent(checked, posterior)
    predicted[name] = logit.predictive_mean(*there, nothing)
    density = logit.log_predictive_density(checked_y, *there, nothing, None)
    losses[name] = -float(density.mean())
known = logsigmoid((2.0 * checked_y - 1.0) * (checked @ torch.from_numpy(truth)))
print(f"log loss: {losses['128']:.4f} after 128 labels, {losses['4,096']:.4f} after 4,096; "
      f"the truth's own {-float(known.mean()):.4f}, a coin's {math.log(2.0):.4f}")  # fmt: skip
assert losses["4,096"] < losses["128"] < math.log(2.0)

# %%
line = torch.linspace(-4.5, 6.0, 200)[:, None] ** torch.arange(3)
figure, ((left, right),) = new_figure(columns=2, width=7.6, height=4.0)
left.plot(line[:, 1], line.numpy() @ truth, color=INK, linestyle=(0, (6, 2)), label="truth")
m, v = latent(line, path[-1])
low, high = m - 2.0 * v.sqrt(), m + 2.0 * v.sqrt()
left.fill_between(line[:, 1], low, high, color=RED, alpha=0.2, linewidth=0)
left.plot(line[:, 1], m, color=RED, linewidth=1.8, label="closed form, ± 2 deviations")
for edge, name in ((2.5, "Gibbs, 95 %"), (97.5, None)):
    sampled = np.percentile(gibbs @ line.numpy().T, edge, axis=0)
    left.plot(line[:, 1], sampled, ":", color=INK, label=name)
for value, height, style, name in ((1, 3.0, LINES[0], "above"), (0, -12.5, LINES[1], "below")):
    ticks = features[y == value, 1]
    left.plot(ticks, torch.full_like(ticks, height), "|", color=style.color, markersize=9,
              label=f"label {value}, {name}")  # fmt: skip
left.set(xlabel="x", ylabel="log odds of label 1", xlim=(-4.5, 6.0), ylim=(-13.5, 4.0))
left.set_title("Log odds beside the truth")
for (name, probability), style in zip(predicted.items(), LINES, strict=False):
    groups = pd.DataFrame({"bin": (10.0 * probability).floor(), "p": probability, "y": checked_y})
    groups = groups.groupby("bin").mean()
    right.plot(groups["p"], groups["y"], style.marker, linestyle=style.dashes, color=style.color,
               label=f"{name} labels seen")  # fmt: skip
right.plot([0, 0.8], [0, 0.8], color=INK, linewidth=0.8, label="perfectly calibrated")
right.set(xlabel="predicted probability of label 1", ylabel="share of label 1")
right.set_title("Calibration on fresh rows")
for axes in (left, right):
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)
figure

# %% [markdown]
# With 128 labels the low probabilities are too high, and with 4,096 the squares lie on the line.
# Now count steps: the same bound, raised by Adam from the same start.


# %%
def toy_bound(mean, chol):
    var = (features @ chol.tril()).square().sum(-1)
    fit = logit.expected_log_density(y, features @ mean, var, nothing, None).sum()
    return fit - gaussian_kl(mean, chol, torch.eye(3) / math.sqrt(alpha))


moments = [each.moments() for each in path]
values = [float(toy_bound(mean, torch.linalg.cholesky(cov))) for mean, cov in moments]
assert (np.diff(values) > -1e-9).all(), "no closed-form step lowers the bound"
near = values[-1] - 1e-3
counts = [["closed form", "none to choose", steps_to(np.array(values), near)]]
for rate in (0.1, 0.03, 0.01):
    found, _ = adam(toy_bound, (torch.zeros(3), torch.eye(3) / math.sqrt(alpha)), rate, adam_count)
    counts.append(["Adam", rate, steps_to(found, near)])
pd.DataFrame(counts, columns=["method", "rate", "steps to a gap of 0.001"])

# %% [markdown]
# ### In the plane
#
# The same updates drive a sparse Gaussian process: `SVGP(likelihood=BernoulliLogit())`. The labels
# are drawn from a spiral of known probability. Markers, not colours alone, tell them apart.

# %%
torch.manual_seed(0)


def log_odds(rows):
    shifted = rows - 0.5
    angle = torch.atan2(shifted[..., 1], shifted[..., 0])
    return 3.0 * torch.sin(3.2 * math.pi * shifted.norm(dim=-1) + angle)


rows, test = torch.rand(n_plane, 2), torch.rand(fresh, 2)
label, test_label = (torch.bernoulli(log_odds(part).sigmoid()) for part in (rows, test))
plane, seeds = Dataset(rows, label), Seeds.of(seed=0, trial=0)
spiral = SVGP(inducing=40, likelihood=BernoulliLogit(), training=NaturalLBFGS(rounds=rounds))
fit_seconds = time.process_time()
fitted = spiral.fit(plane, seeds)
fit_seconds = time.process_time() - fit_seconds

# %%
mesh = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, 80)] * 2, indexing="xy"), -1)
with torch.no_grad():
    found = spiral.predictive_mean(fitted, mesh.reshape(-1, 2)).reshape(80, 80)
figure, (panels,) = new_figure(columns=2, width=7.6, height=4.5)
for axes, surface, title in (
    (panels[0], log_odds(mesh).sigmoid(), "True probability"),
    (panels[1], found, f"Fitted to {n_plane} labels"),
):
    levels = np.linspace(0, 1, 6)
    filled = axes.contourf(*mesh.movedim(-1, 0), surface, levels, cmap="Blues", vmax=1.7)
    axes.contour(*mesh.movedim(-1, 0), surface, [0.5], colors=INK, linewidths=1.6)
    axes.set(xlabel="x₁", ylabel="x₂", title=title, aspect="equal")
for value, marker, color, name in ((1.0, "o", RED, "label 1"), (0.0, "s", "white", "label 0")):
    panels[1].plot(*rows[label == value].T, marker, color=color, markeredgecolor=INK,
                   markersize=4.5, markeredgewidth=0.6, label=name)  # fmt: skip
panels[1].plot(*fitted.inducing.T, "+", color=INK, markersize=8, label="inducing input")
figure.colorbar(filled, ax=panels, shrink=0.75, label="probability of label 1")
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure

# %% [markdown]
# Other ways to the same picture: the logistic likelihood by quadrature, a likelihood that is
# nothing but a function, and `GPClassifier`, in which closed-form updates alone move $q$.

# %%
ways = {
    "quadrature": BernoulliLogit(polya_gamma=False),
    "function": MonteCarloLikelihood(
        lambda y, f: logsigmoid((2.0 * y - 1.0) * f), log_concave=True, response=torch.sigmoid
    ),
}
density = spiral.log_predictive_density(fitted, test, test_label)
table = [["SVGP, Pólya-gamma", fit_seconds, -float(density.mean()), float(fitted.scale.sqrt())]]
for name, likelihood in ways.items():
    way, begun = replace(spiral, likelihood=likelihood), time.process_time()
    other = way.fit(plane, seeds)
    taken = time.process_time() - begun
    density = way.log_predictive_density(other, test, test_label)
    table.append([f"SVGP, {name}", taken, -float(density.mean()), float(other.scale.sqrt())])
begun = time.process_time()
odds = GPClassifier(inducing=40).fit(WeightedExamples(rows, label, 1.0 - label), seeds)
taken = time.process_time() - begun
density = logsigmoid((2.0 * test_label - 1.0) * odds(test))
table.append(["GPClassifier", taken, -float(density.mean()), float(odds.process.scale.sqrt())])
known = -float(logsigmoid((2.0 * test_label - 1.0) * log_odds(test)).mean())
table.append(["the truth", math.nan, known, math.nan])
columns = ["fit", "CPU seconds", "log loss, fresh rows", "prior deviation of f"]
summary = pd.DataFrame(table, columns=columns)
assert (summary["log loss, fresh rows"][:4] > known).all()
assert (summary["log loss, fresh rows"][:4] < math.log(2.0)).all()
summary.round(3)

# %% [markdown]
# `GPClassifier` is by far the fastest. The Pólya-gamma bound costs a little: looser where $f$ is
# large and uncertain, it prefers smaller functions, as the last column shows, and the fresh labels
# are a little less well predicted. All of them are some way from the truth, which so few labels do
# not show in full.

# %% [markdown]
# ## When to use this
#
# **Natural gradients** whenever $q$ is Gaussian: `NaturalLBFGS` for thousands of rows,
# `NaturalAdam`, the default of `SVGP`, for minibatches. There is one rate in $(0, 1]$, 0.5 is
# rarely wrong, and whitening does not matter. Where a likelihood is not log-concave, as
# `StudentT`, `SVGP` takes `riemannian_step`s, which keep the precision positive definite.
#
# **Pólya-gamma** for labels and speed: `GPClassifier`, also inside `Bore`, or
# `SVGP(likelihood=BernoulliLogit())`. No quadrature, no rate, no step that falls. Where the
# deviations of the log odds matter more to you than speed, take
# `BernoulliLogit(polya_gamma=False)` or `BernoulliProbit()`; where you need the exact posterior of
# few weights, a sampler.
#
# **Adam** where $q$ is not Gaussian, or where one optimiser has to move everything:
# `Adam(whitened=True)`, never unwhitened on a smooth kernel. And for a likelihood of your own,
# `MonteCarloLikelihood(log_density)`: natural gradients take it as any other.

# %% [markdown]
# # Optimise a black box
#
# You have a function that takes an hour to evaluate: a training run, a simulation, an experiment.
# You may evaluate it a dozen times, or two dozen. Where? First you will watch `Optimizer` find
# the minimum of a function that we can draw, one suggestion after the other. Then it tunes a real
# model in a dozen lines, survives a `kill -9`, and says what each of its suggestions came from.
# This runs in half a minute on two cores, and needs nothing but `bo_suite`.

# %% tags=["parameters"]
BUDGET = 12  # evaluations of the function that is drawn, 12 to 14
PATIENTS = 300  # rows that the model is tuned on
EVALUATIONS = 25  # of the model

# %%
# %matplotlib inline
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import LinearRegression
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

import bo_suite
from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.plot import plot_convergence
from bo_suite.problems import get_problem
from figures import plot_search

# %% [markdown]
# ## Ask, evaluate, tell
#
# The function of Forrester, Sóbester and Keane (2008) is $f(x) = (6x - 2)^2 \sin(12x - 4)$ on
# $[0, 1]$. It has a shallow dip on the left, and a deep valley beside a steep wall on the right.
# The optimiser knows the interval and nothing else.
#
# A `Problem` is a space, a function, and what is known of its minimum.

# %%
problem = get_problem("forrester")
print(problem.space.parameters)
print(f"the minimum is {problem.minimum:.6f}, at x = {problem.minimizers[0]['x1']:.6f}")

# %% [markdown]
# `ask` returns a trial: a point, with a number. You evaluate the point wherever you like, and
# `tell` what came out. Nothing else is needed; the optimiser never calls your function.

# %%
acquisition = LogExpectedImprovement()  # the core of the default, since we draw it below
opt = Optimizer(problem.space, acquisition, seed=0, budget=BUDGET)

trial = opt.ask()
print(f"asked: trial {trial.id} at {trial.params}, {trial.state}")
trial = opt.tell(trial, problem(trial.params))
print(f"told:  trial {trial.id}, {trial.state} with value {trial.value:.4f}")

# %% [markdown]
# The first point is the centre, since nothing is known. A few more, spread over the space, follow
# before any model is worth fitting (six in all, the centre included; here four, because we
# announced a small budget). The first point after those is the first that the optimiser has thought
# about.

# %%
while trial.provenance["source"] == "design":
    trial = opt.ask()
    trial = opt.tell(trial, problem(trial.params))
print(f"trial {trial.id} came from the {trial.provenance['source']}, at {trial.params}")
assert trial.id == 4

# %%
plot_search(acquisition, problem.space, opt.trials, problem, steps=1)

# %% [markdown]
# This is one step. Above, the dashed line is the truth, which only we know. The optimiser knows
# the dots. It has fitted a Gaussian process to them: a curve that it holds likely (red), and a
# band in which the function should lie (two standard deviations, so usually). At the dots the
# band closes; between them it opens.
#
# Below is the score, the logarithm of *expected improvement*,
#
# $$\log\, \mathbb{E}\left[\max(y^* - f(x),\, 0)\right],$$
#
# where $y^*$ is the best outcome so far and the expectation is over what the model holds possible
# for $f(x)$. It is high where the curve is low, and where the band is wide enough to reach below
# $y^*$. The suggestion is where it is highest (gold). The logarithm keeps tiny improvements
# apart, so that there is always a slope to climb.
#
# Now the loop. This is all of it.

# %%
while len(opt.trials) < BUDGET:
    trial = opt.ask()
    opt.tell(trial, problem(trial.params))

best = opt.best
regret = best.value - problem.minimum
print(f"best of {BUDGET}: {best.value:.6f} at x = {best.params['x1']:.6f}, trial {best.id}")
print(f"that is {regret:.2g} above the minimum")
assert regret < 0.01

# %%
plot_search(acquisition, problem.space, opt.trials, problem)

# %% [markdown]
# These are the last six steps; read them row by row. At first the highest peak of the score is in
# the valley, and the suggestions close in on its floor. Once the floor is known, little is to be
# gained there: the peak becomes a needle and then loses, and the optimiser turns to the widest gap,
# then to the far edge, in case something deeper hides there. Nobody told it when to explore. The
# same score did both.
#
# Why is the band lopsided? The model sees the outcomes on a scale of its own, on which the long
# tail of bad values is shortened, and the score is computed there, too. Mapped back, what is high
# becomes very high. To find a minimum, it does not matter how high.
#
# Would luck have done as well? Here are many searches of as many random points.

# %%
torch.manual_seed(0)
draws = torch.rand(10_000, BUDGET, 1, dtype=torch.float64)
lucky = problem.vectorized(draws.reshape(-1, 1)).reshape(-1, BUDGET).amin(-1) - problem.minimum
as_good = (lucky <= regret).double().mean()
print(f"best of {BUDGET} random points, in the median: {lucky.median():.2g} above the minimum")
print(f"as close as ours: {as_good:.1%} of {len(lucky):,} searches")
assert as_good < 0.05

# %%
plot_convergence(opt.trials, "minimize", minimum=problem.minimum)

# %% [markdown]
# ## A real model in a dozen lines
#
# When the function can be called from Python, `minimize` is the loop. The function takes a dict
# of parameters and returns a number. Here it is the error of a support vector machine that
# predicts how a patient's diabetes progresses. Two parameters live on log scales, one is an
# integer (how many measurements to use), one a choice. Some patients are kept aside for later.

# %%
X, y = load_diabetes(return_X_y=True)
X, X_aside, y, y_aside = train_test_split(X, y, train_size=PATIENTS, random_state=0)

# %%
model = make_pipeline(StandardScaler(), SelectKBest(f_regression), SVR())
space = Space(
    {
        "selectkbest__k": Int(1, 10),
        "svr__C": Float(0.1, 1e4, log=True),
        "svr__gamma": Float(1e-5, 10.0, log=True),
        "svr__kernel": Choice(["rbf", "poly", "sigmoid"]),
    }
)


def error(params):
    tried = clone(model).set_params(**params)
    return -cross_val_score(tried, X, y, cv=3, scoring="neg_root_mean_squared_error").mean()


result = minimize(error, space, budget=EVALUATIONS, seed=0, progress=False)
print(result.best.params)

# %%
result.plot()

# %% [markdown]
# What did that buy? The lowest of many cross-validated errors flatters, since it was chosen for
# being low. So we look at the patients kept aside, too, and at a straight line, which has nothing
# to tune. The error is in units of the disease score.

# %%
candidates = {
    "SVR, defaults": model,
    "SVR, tuned": clone(model).set_params(**result.best.params),
    "straight line": LinearRegression(),
}
rows = []
for name, candidate in candidates.items():
    folds = cross_val_score(candidate, X, y, cv=3, scoring="neg_root_mean_squared_error")
    aside = root_mean_squared_error(y_aside, candidate.fit(X, y).predict(X_aside))
    rows.append({"model": name, "cross-validated": -folds.mean(), "kept aside": aside})
table = pd.DataFrame(rows).set_index("model")
table.round(1)

# %%
default, tuned, line = table["kept aside"]
print(f"on patients kept aside, tuning lowered the error from {default:.1f} to {tuned:.1f}")
print(f"a straight line has {line:.1f}")
assert tuned < default - 3

# %% [markdown]
# The defaults assume targets of about unit size, and ours are in the hundreds; tuning repairs
# that. It does not work wonders: compare the last row. Always fit the simple thing beside the
# tuned one.

# %% [markdown]
# ## Pull the plug
#
# An evaluation costs an hour, so a crash must not cost a day. With `storage=` every trial is on
# the disk before `ask` or `tell` returns. We try it on the run from above. A script of its own
# makes it again, and its eighth evaluation never ends, so that we can kill it right then, with a
# signal that no program can catch.

# %%
folder = tempfile.TemporaryDirectory()
storage, script = Path(folder.name, "run.db"), Path(folder.name, "run.py")
script.write_text("""
import sys, time
from bo_suite import Optimizer
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.problems import get_problem

problem = get_problem("forrester")
acquisition = LogExpectedImprovement()
opt = Optimizer(problem.space, acquisition, seed=0, budget=int(sys.argv[2]), storage=sys.argv[1])
while True:
    trial = opt.ask()
    print(trial.id, flush=True)
    if trial.id == 7:
        time.sleep(3600)
    opt.tell(trial, problem(trial.params))
""")

command = [sys.executable, str(script), str(storage), str(BUDGET)]
home = {**os.environ, "PYTHONPATH": str(Path(bo_suite.__file__).parents[1])}
with subprocess.Popen(command, env=home, stdout=subprocess.PIPE, text=True) as child:
    for asked in child.stdout:
        if int(asked) == 7:
            child.kill()
print(f"ended by {signal.Signals(-child.returncode).name} while it evaluated trial {int(asked)}")
assert child.returncode == -signal.SIGKILL

# %% [markdown]
# The file is all that is left. It is all that is needed.

# %%
resumed = Optimizer.resume(storage)
resumed.to_frame()[["id", "param_x1", "value", "state", "attempt"]].tail(3)

# %% [markdown]
# Seven outcomes are there. Trial 7 is still `running`: its evaluation was under way, and a file
# cannot know whether it still is. Perhaps the point is on a cluster that outlives our process;
# then you do nothing, and `tell(7, value)` by number when the result comes. Until then the point
# counts as pending, and new suggestions keep clear of it.
#
# Here its process has died. `reclaim` finds the trials whose process is gone and hands them out
# again, as a second attempt. (`minimize` with the same `storage` does that by itself, before
# anything else.)

# %%
lost = resumed.reclaim()
for trial in lost:
    print(f"trial {trial.id} again, attempt {trial.attempt}, at {trial.params}")
    resumed.tell(trial, problem(trial.params))
assert [trial.id for trial in lost] == [7]

while len(resumed.trials) < BUDGET:
    trial = resumed.ask()
    resumed.tell(trial, problem(trial.params))

# %% [markdown]
# Was anything lost on the way? The run of the first part was never interrupted. Every suggestion
# is a function of what the file holds (trials, seed, options), so on one machine all must agree,
# to the last digit.

# %%
for here, there in zip(opt.trials, resumed.trials, strict=True):
    assert here.params == there.params
    assert here.value == there.value
print(f"{BUDGET} suggestions and outcomes, identical, {BUDGET - 8} of them made after the kill")

# %% [markdown]
# ## Where did that suggestion come from?
#
# Months later someone asks why trial 10 was run at all. Each trial carries its *provenance*, in
# the file too.

# %%
trial = resumed.trials[10]
for key, value in trial.provenance.items():
    print(f"{key:16}{str(value)[:72]}")

# %% [markdown]
# `source` is `design` (the spread-out start), `acquisition`, or `fallback`: a random point,
# because the model could not be fitted, with the reason under that name. A point of yours that
# came through `add` has the source `added` in the table of `to_frame()`, which holds the times,
# too. Next come the trial's number, the number of observations that it knew, the acquisition with
# all its options, and the milliseconds to fit the model and to search for the highest score.
#
# The hyperparameters are the logarithms of what the fit found: a length scale for each parameter,
# the variance of the function, and that of the noise, on the model's own scale, where the outcomes
# have variance one. We exponentiate them, and make standard deviations of the variances.


# %%
def story(trial):
    """What one suggestion came from, as a row of a table."""
    known = trial.provenance
    length, variance, noise = map(math.exp, known.get("hyperparameters", [math.nan] * 3))
    return {
        "trial": trial.id,
        "source": known["source"],
        "knew": known["observations"],
        "fit ms": known.get("fit_ms"),
        "search ms": known.get("search_ms"),
        "length scale": length,
        "function sd": math.sqrt(variance),
        "noise sd": math.sqrt(noise),
        "x1": trial.params["x1"],
    }


stories = pd.DataFrame([story(trial) for trial in resumed.trials]).set_index("trial")
stories.round({"fit ms": 0, "search ms": 0, "length scale": 3, "function sd": 2, "noise sd": 4})

# %%
fallbacks = [trial for trial in resumed.trials if "fallback" in trial.provenance]
thought = stories[["fit ms", "search ms"]].sum().sum() / 1e3
print(f"{len(fallbacks)} fallbacks; {thought:.1f} s of thought for {len(stories)} evaluations")
print(f"made with bo_suite {bo_suite.__version__} and torch {torch.__version__.split('+')[0]}")
assert not fallbacks
assert stories["noise sd"].iloc[-1] < stories["noise sd"].iloc[4]

# %% [markdown]
# Read it like this. A length scale is a share of the parameter's range: within it the function
# keeps roughly to one direction, and one far above 1 would say that the parameter hardly matters.
# The noise starts near its prior and falls to almost nothing as the model finds that a smooth curve
# passes through every dot, as it should here. If it stays large for a function that you believe to
# be exact, look for what you have not controlled. If `fallback` appears often, look at its reason.
# The versions of the libraries are not in the file: keep them beside it, such as the last line that
# we printed.

# %%
opt.close()
resumed.close()
folder.cleanup()

# %% [markdown]
# ## When to use this
#
# Use `minimize` when an evaluation costs more than a second or so, there are up to about ten
# parameters (of more, too few runs were made to say how it compares), and you can afford tens or
# hundreds of evaluations. Use `Optimizer` with `ask` and
# `tell` when the evaluation happens elsewhere: on a cluster, in a laboratory, in another
# language. Give both a `storage=`.
#
# With noise, tell its `std` if you know it, and report `opt.recommend()` rather than `opt.best`.
# Where an evaluation may be a cheap approximation (`fidelity=True`), see notebook 03 on
# `KnowledgeGradient`; any classifier as the acquisition is in notebook 04. To stay in Optuna,
# scikit-learn, Ray Tune or BoTorch, see notebook 08.
#
# Do not use it when you have gradients (use them), or when an evaluation takes a millisecond: in
# the time of one suggestion random search has tried dozens of points.

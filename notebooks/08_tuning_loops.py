# %% [markdown]
# # Four doors to the same suggestions
#
# You already have a tuning loop: an Optuna study, a scikit-learn search, a Ray Tune experiment,
# or BoTorch code. Must you leave it to get suggestions from bo_suite? No. You change one line.
#
# Here one small model is tuned through each of the four, and at each door you see what passes
# through with the suggestions: failures, constraints, pruned trials, parallel workers, a file
# that survives a kill. Then a question that every loop has to answer: when to stop.
#
# It needs one or two minutes, and Optuna. The cells of Ray Tune also need Ray; nothing later
# depends on them.

# %% tags=["parameters"]
BUDGET = 30  # evaluations through each door
CUT = 11  # the evaluation after which the power fails
RAY_TRIALS = 12
STOP_BUDGET = 36  # evaluations of each run in the part on stopping

# %%
# %matplotlib inline
import logging
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import NuSVC

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.data import Dataset, Seeds
from bo_suite.plot.style import INK, LINES, MIST, RED, new_figure
from bo_suite.surrogates import ExactGP

with warnings.catch_warnings():  # tqdm misses its widgets, which nothing here shows
    warnings.filterwarnings("ignore", "IProgress not found")
    import optuna

FOLDER = tempfile.TemporaryDirectory()
HOME = Path(FOLDER.name)
optuna.logging.set_verbosity(optuna.logging.ERROR)  # failed trials are shown below, not logged
logging.getLogger("bo_suite").setLevel(logging.ERROR)

# %% [markdown]
# ## The model, and its defaults first
#
# A support vector machine tells malignant from benign tumours, after a projection to principal
# components. The loss is one minus the area under the ROC curve: the share of pairs, one tumour
# of each kind, that it puts in the wrong order.
#
# Four parameters are open: two real numbers, a category and an integer. And there is a trap. `nu`
# is the share of training points that may lie on the wrong side of the margin, and above a limit
# that depends on the data the model cannot be fitted at all: it raises an error.

# %%
X, y = load_breast_cancer(return_X_y=True)
MODEL = make_pipeline(StandardScaler(), PCA(), NuSVC())
FOLDS = list(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y))
SPACE = Space(
    {
        "nusvc__nu": Float(0.01, 1.0),
        "nusvc__gamma": Float(1e-5, 1.0, log=True),
        "nusvc__kernel": Choice(["rbf", "poly", "sigmoid"]),
        "pca__n_components": Int(2, 30),
    }
)
areas = partial(cross_val_score, X=X, y=y, cv=FOLDS, scoring="roc_auc", error_score="raise")


def loss(params):
    return 1 - areas(clone(MODEL).set_params(**params)).mean()


default = loss({})
smaller_class = min(np.mean(y == 0), np.mean(y == 1))
print(f"the defaults put {default:.2%} of the pairs in the wrong order")
print(f"nu must stay below {2 * smaller_class:.3f}, twice the share of the smaller class")
found = {}  # losses by evaluation, for each door that was taken

# %% [markdown]
# ## Optuna
#
# Before: `optuna.create_study(sampler=TPESampler(seed=0))`
#
# After: `optuna.create_study(sampler=BoSuiteSampler(seed=0))`
#
# The objective stays as it is.

# %%
from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna


def suggest(trial):
    return {
        "nusvc__nu": trial.suggest_float("nusvc__nu", 0.01, 1.0),
        "nusvc__gamma": trial.suggest_float("nusvc__gamma", 1e-5, 1.0, log=True),
        "nusvc__kernel": trial.suggest_categorical("nusvc__kernel", ["rbf", "poly", "sigmoid"]),
        "pca__n_components": trial.suggest_int("pca__n_components", 2, 30),
    }


study = optuna.create_study(sampler=BoSuiteSampler(seed=0))
study.optimize(lambda trial: loss(suggest(trial)), n_trials=BUDGET, catch=(ValueError,))

found["Optuna"] = [trial.value if trial.value is not None else np.nan for trial in study.trials]
print(f"{study.best_value:.2%} with {study.best_params}")
assert study.best_value < default

# %% [markdown]
# Some trials fell into the trap. Did the sampler learn to stay out? A failed trial is a place to
# avoid, and so later trials should keep to smaller values of `nu`.

# %%
failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
for trial in failed:
    print(f"trial {trial.number} failed with nu = {trial.params['nusvc__nu']:.3f}")
after = [trial.params["nusvc__nu"] for trial in study.trials[8:]]
print(f"from trial 8 on, nu was {min(after):.3f} to {max(after):.3f}")
assert failed
assert max(after) < min(trial.params["nusvc__nu"] for trial in failed)

# %% [markdown]
# Now ask for more. The model is to run on a small device, which has room for 60 support vectors.
# How many there will be is known only after training: a constraint that is as much a black box as
# the loss. And a trial that looks hopeless after one fold need not be trained on the others: it
# may be pruned.
#
# Both are said in Optuna's own words. The sampler models the constraint, and a pruned trial
# counts with its last value, but never as better than the median.

# %%
MOST_VECTORS = 60


def small_model(trial):
    params = suggest(trial)
    losses, vectors = [], []
    for step, (train, test) in enumerate(FOLDS):
        model = clone(MODEL).set_params(**params).fit(X[train], y[train])
        losses.append(1 - roc_auc_score(y[test], model.decision_function(X[test])))
        vectors.append(int(model[-1].n_support_.sum()))
        trial.report(np.mean(losses), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("support vectors", max(vectors))
    trial.set_constraint("support vectors", max(vectors) - MOST_VECTORS)  # met up to 0
    return np.mean(losses)


small = optuna.create_study(
    sampler=BoSuiteSampler(seed=0), pruner=optuna.pruners.MedianPruner(n_startup_trials=8)
)
small.optimize(small_model, n_trials=BUDGET, catch=(ValueError,))
free = optuna.trial.FixedTrial(study.best_params)
small_model(free)  # to count
count, fewer = (trial.user_attrs["support vectors"] for trial in (free, small.best_trial))
print(f"without a limit: {study.best_value:.2%} with {count} support vectors")
print(f"small device:    {small.best_value:.2%} with {fewer}")
assert fewer <= MOST_VECTORS


# %%
def outcome(trial):
    if trial.state.name != "COMPLETE":
        return {"FAIL": "failed", "PRUNED": "pruned"}[trial.state.name]
    return "fits" if trial.user_attrs["support vectors"] <= MOST_VECTORS else "too large"


thirds = np.array_split([outcome(trial) for trial in small.trials], 3)
pd.DataFrame(
    [pd.Series(third).value_counts() for third in thirds], index=["first third", "second", "last"]
).fillna(0).astype(int)

# %% [markdown]
# What does the study know by now? `from_optuna` makes an `Optimizer` of it. Its trials, as rows
# of numbers between 0 and 1, are all that a Gaussian process needs, and so we can look at its
# belief along a line through the best trial.


# %%
def belief(trials, space):
    """A process of log10 of the loss, and how to undo its standardisation."""
    told = [trial for trial in trials if trial.state == "finished"]
    rows = space.encode([trial.params for trial in told])
    level = torch.tensor([trial.value for trial in told], dtype=rows.dtype).log10()
    scaled = (level - level.mean()) / level.std()
    data = Dataset(rows, scaled, columns=space.columns)
    return ExactGP().fit(data, Seeds.of(seed=0, trial=0)), level.mean(), level.std()


known = from_optuna(small)
process, centre, scale = belief(known.trials, known.space)
nus = np.linspace(0.01, 0.3, 120)
line = known.space.encode([known.best.params | {"nusvc__nu": nu} for nu in nus])
with torch.no_grad():
    mean, var = process.mean_and_var(line)
band = [10 ** (centre + scale * (mean + k * var.sqrt())) for k in (-2, 0, 2)]

# %%
figure, ((left, right),) = new_figure(1, 2, width=8.4, height=3.8)
marks = {"fits": (RED, "o"), "too large": (INK, "^"), "pruned": (MIST, "s"), "failed": (INK, "x")}
for what, (colour, marker) in marks.items():
    some = [trial for trial in small.trials if outcome(trial) == what]
    high = [trial.user_attrs.get("support vectors", 0) for trial in some]
    numbers = [trial.number for trial in some]
    left.plot(numbers, high, marker, color=colour, label=what, clip_on=False, zorder=3)
left.axhline(MOST_VECTORS, color=INK, linestyle="--", linewidth=1)
left.text(BUDGET, MOST_VECTORS + 6, f"room for {MOST_VECTORS}", ha="right")
left.set(xlabel="trial", ylabel="support vectors", ylim=(0, None))
left.set_title("The search learns what fits")
left.legend(frameon=False, fontsize=9, loc="upper right")
right.fill_between(nus, band[0], band[2], color=RED, alpha=0.2, linewidth=0)
right.plot(nus, band[1], color=RED, label="mean, and two standard deviations")
best = known.best
right.plot(best.params["nusvc__nu"], best.value, "*", color=INK, markersize=12, label="best")
right.set(xlabel="nu, the rest as in the best trial", ylabel="1 - area under the ROC curve")
right.set(yscale="log", ylim=(1e-4, None), title="What it knows of the loss")
right.legend(frameon=False, fontsize=9, loc="lower left")
figure

# %% [markdown]
# On the left the first points are spread out, and many are too large. Then the trials keep close
# to the line, mostly below it. (What was pruned or failed was not counted, and is drawn at 0.) On
# the right, the band is narrow where trials that fit have been, and wide beyond: `from_optuna`
# takes a trial that breaks a constraint for a failed one, so nothing is learned from its loss.

# %% [markdown]
# Two workers on one study know of each other, too: a trial's whole point is in the study before
# its objective starts, and the next suggestion takes it into account.

# %%
pair = [suggest(study.ask()), suggest(study.ask())]
assert pair[0] != pair[1]
pd.DataFrame(pair, index=["first worker", "second worker"]).round(4)

# %% [markdown]
# ## scikit-learn
#
# Before: `RandomizedSearchCV(model, distributions, n_iter=30, random_state=0)`
#
# After: `BOSearchCV(model, distributions, n_iter=30, random_state=0)`
#
# Distributions of scipy are taken, and so is a `Space`, whose names reach into the pipeline. With
# `storage=` the search is in a file. Let us cut the power in the middle. (A callback that raises
# an error stands for it; scikit-learn warns of candidates that cannot be fitted, which we know
# of.)

# %%
from sklearn.exceptions import FitFailedWarning

from bo_suite.integrations.sklearn import BOSearchCV


def power_cut(optimizer, trial):
    if trial.id == CUT:
        raise RuntimeError(f"the power failed after {trial.id + 1} candidates")


search = BOSearchCV(
    MODEL,
    SPACE,
    n_iter=BUDGET,
    scoring="roc_auc",
    cv=FOLDS,
    storage=HOME / "search.db",
    random_state=0,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FitFailedWarning)
    warnings.filterwarnings("ignore", "One or more of the test scores", UserWarning)
    try:
        clone(search).set_params(callbacks=[power_cut]).fit(X, y)
    except RuntimeError as error:
        print(error)
    saved = Optimizer.resume(HOME / "search.db")
    before = saved.trials
    saved.close()
    search.fit(X, y)  # the same line again: it goes on

more = len(search.trials_) - len(before)
print(f"{len(before)} candidates were on the disk, {more} were evaluated now")
assert search.trials_[: len(before)] == before
found["scikit-learn"] = [1 - score for score in search.cv_results_["mean_test_score"]]

# %% [markdown]
# `cv_results_` has all of them, as scikit-learn's users expect it, those from before the cut
# included.

# %%
columns = [f"param_{name}" for name, _ in SPACE] + ["mean_test_score", "std_test_score"]
table = pd.DataFrame(search.cv_results_).sort_values("rank_test_score")[columns]
table.columns = [name.removeprefix("param_") for name in table.columns]
table.head(4).round(5)

# %% [markdown]
# A search by cross-validation knows more than a mean: it sees each fold. Their spread is mostly
# not noise, since all candidates meet the same folds, and a hard one is hard for all. What counts
# is how differently two *neighbouring* candidates do on each fold. That is what the model is
# told:

# %%
last = [trial for trial in search.trials_ if trial.state == "finished"][-1]
folds = len(FOLDS)
spread = search.cv_results_["std_test_score"][search.best_index_] / np.sqrt(folds - 1)
print(f"standard error, from the spread over the folds: {spread:.5f}")
print(f"noise between candidates, as told:              {last.std:.5f}")
print(f"where the last candidate came from: {last.provenance['source']}, ", end="")
print(f"after {last.provenance['observations']} observations")
assert last.std < spread

# %% [markdown]
# A history can also be looked at through a door that it did not come by. This one, of
# scikit-learn's search, becomes an Optuna study, for Optuna's plots and its dashboard:

# %%
from bo_suite.integrations.optuna_view import to_study

view = to_study(HOME / "search.db")
print(f"{len(view.trials)} trials, the best {view.best_trial.number}: {1 - view.best_value:.2%}")
assert view.best_value == search.best_score_

# %% [markdown]
# ## Ray Tune
#
# Before: `search_alg=OptunaSearch(space, metric="loss", mode="min")`
#
# After: `search_alg=BoSuiteSearch(space, metric="loss", mode="min")`
#
# Two trials run side by side. Each result is in the file before Ray goes on, and so the file
# knows more than Ray's own snapshot, which is written now and then. After a crash of the driver,
# `tune.Tuner.restore(path, trainable).fit()` goes on with all of them.

# %% tags=["needs-ray"]
import os

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"  # else it writes a token into the home folder
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # whose tables are not silenced by verbose=0

import ray
from ray import tune

from bo_suite.integrations.ray_tune import BoSuiteSearch

ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    logging_level=logging.CRITICAL,  # Ray logs a trial that fails
    object_store_memory=10**8,
    _temp_dir=str(HOME / "ray"),
)
tuner = tune.Tuner(
    lambda config: {"loss": 1 - areas(clone(MODEL).set_params(**config)).mean()},
    tune_config=tune.TuneConfig(
        search_alg=BoSuiteSearch(SPACE, metric="loss", mode="min", storage=HOME / "ray.db"),
        num_samples=RAY_TRIALS,
        max_concurrent_trials=2,
        reuse_actors=True,
    ),
    run_config=tune.RunConfig(name="run", storage_path=str(HOME), verbose=0),
)
try:
    results = tuner.fit()
finally:
    ray.shutdown()

# %% [markdown]
# The driver is gone now. The file is an ordinary history: open it, read it, or go on without Ray.

# %% tags=["needs-ray"]
history = Optimizer.resume(HOME / "ray.db")
states = pd.Series([trial.state for trial in history.trials]).value_counts().to_dict()
print(f"Ray has {len(results)} results, {results.num_errors} of them errors; the file has {states}")
found["Ray Tune"] = [trial.value if trial.value is not None else np.nan for trial in history.trials]
assert len(history.trials) == len(results) == RAY_TRIALS
assert states.get("failed", 0) == results.num_errors
following = history.ask().params
history.close()
pd.DataFrame([following], index=["what would come next"]).round(4)

# %% [markdown]
# ## BoTorch
#
# BoTorch has no loop to step into; it has parts. So this door opens in both directions. Their
# acquisition in our loop is one more argument:
#
# Before: `minimize(loss, SPACE)`
#
# After: `minimize(loss, SPACE, acquisition=theirs)`
#
# It gets all that the loop has: categories and integers that are searched as such, not rounded
# afterwards; failed trials; storage.

# %%
from botorch.acquisition import qLogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.optim import optimize_acqf

from bo_suite.integrations.botorch import BoTorchAcquisition, ProcessModel

theirs = BoTorchAcquisition(
    lambda model, seen: qLogNoisyExpectedImprovement(model, seen.X, sampler=seen.sampler(64))
)
run = minimize(loss, SPACE, budget=BUDGET, acquisition=theirs, progress=False)

found["BoTorch"] = [trial.value if trial.value is not None else np.nan for trial in run.trials]
print(f"{run.best.value:.2%} with {run.best.params}")
assert run.best.value < default

# %% [markdown]
# And our process as their model: `ProcessModel` is a BoTorch `Model`. Here is a process of what
# the run above has found, and BoTorch looks for two points to try together, with the kernel of
# the best trial. Compare the last two columns. The process need not expect a low loss there; it
# must be in doubt enough that one is possible ("if lucky" is two standard deviations below the
# mean).

# %%
torch.manual_seed(0)
process, centre, scale = belief(run.trials, run.space)
model = ProcessModel(process, negate=True)  # BoTorch maximises
best = run.space.encode([run.best.params])
kernel = [name for name, _ in run.space].index("nusvc__kernel")
points, _ = optimize_acqf(
    qLogExpectedImprovement(model, best_f=model.posterior(best).mean.max()),
    torch.stack((torch.zeros_like(best[0]), torch.ones_like(best[0]))),
    q=2,
    num_restarts=4,
    raw_samples=64,
    fixed_features={kernel: best[0, kernel].item()},
)
with torch.no_grad():
    there = -model.posterior(points).mean[:, 0]
    doubt = model.posterior(points).variance[:, 0].sqrt()
table = pd.DataFrame(run.space.decode(points))
for name, k in (("loss, if lucky", -2), ("expected loss", 0)):
    table[name] = (10 ** (centre + scale * (there + k * doubt))).numpy()
table.round(4)

# %% [markdown]
# ## Side by side

# %%
figure, ((axes,),) = new_figure(width=7.6, height=4.2)
height = -np.inf
ordered = sorted(zip(LINES, found.items(), strict=False), key=lambda pair: np.nanmin(pair[1][1]))
for style, (door, values) in ordered:
    best = 100 * np.fmin.accumulate(values)
    steps = np.arange(1, len(best) + 1)
    order = 2 + LINES.index(style)
    axes.step(steps, best, where="post", color=style.color, linestyle=style.dashes, zorder=order)
    axes.plot(steps[-1], best[-1], style.marker, color=style.color, zorder=order)
    assert best[-1] < 100 * default or len(best) < BUDGET
    height = max(best[-1], 1.1 * height)  # so that labels do not meet
    label = door if len(best) == BUDGET else f"{door} ({len(best)} trials)"
    axes.annotate(
        label,
        (steps[-1], best[-1]),
        (1.04 * BUDGET, height) if len(best) == BUDGET else (steps[-1] + 0.5, 1.08 * best[-1]),
        color=style.color,
        va="center",
    )
axes.axhline(100 * default, color=INK, linewidth=1)
axes.text(BUDGET, 103 * default, "the model's defaults", ha="right", va="bottom")
ticks = [0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3]
axes.set(xlabel="evaluation", ylabel="pairs in the wrong order, %", yscale="log")
axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
axes.set_yticks([], minor=True)
axes.set(xlim=(0, 1.22 * BUDGET), title="Best so far through each door")
figure

# %% [markdown]
# All doors leave the defaults behind. But do not read a ranking into the picture. The doors that
# were given our `Space` begin with the same points; then small things send them different ways:
# the folds' noise that scikit-learn's door tells, Ray's two trials side by side, another
# acquisition. Optuna's learns the parameters from its first trial, sorts them by name and so
# begins elsewhere. These are single runs, and single runs differ by chance. What was measured over
# seeds and problems, beside TPE, GPSampler, BayesSearchCV and random search, is in the part
# "Tuning models" of [the benchmarks](../benchmarks/README.md).

# %% [markdown]
# ## When to stop
#
# A budget is a guess. `minimize` takes rules that end a run earlier: when the time is over, when a
# value is good enough, or when a Gaussian process is sure that nothing much better is left. The
# first that has a reason ends the run, and says why. A rule is a function of the optimiser and
# the trial that has just ended, and so you can write your own: `watch` below ends nothing, but
# takes notes.
#
# We take a problem whose minimum is known, so that the third rule can be checked. The target is
# one that nobody can reach, as targets sometimes are.

# %%
from bo_suite.problems import get_problem, shifted
from bo_suite.run.stopping import RegretBelow, TargetValue, TimeLimit

hartmann = get_problem("hartmann3")
notes = {"hartmann3": [], "shifted ackley5": []}


def watch(name, problem, optimizer, trial):
    count = len(optimizer.trials)
    if count >= 6 and count % 3 == 0:
        own, narrow = optimizer.regret_bound(), optimizer.regret_bound(width=2.0)
        true = problem.value(own.trial.params) - problem.minimum
        notes[name].append((count, own.value, narrow.value, true))


watching = partial(watch, "hartmann3", hartmann)
rules = [TimeLimit(600), TargetValue(-4.0), RegretBelow(0.3, after=20, every=3)]
ended = minimize(
    hartmann,
    hartmann.space,
    budget=STOP_BUDGET,
    storage=HOME / "hartmann.db",
    callbacks=[watching, *rules],
    progress=False,
)
print(f"after {len(ended.trials)} evaluations: {ended.stopped or 'the budget is spent'}")
print(f"its true regret is {ended.best.value - hartmann.minimum:.1e}")

# %% [markdown]
# The rule was right, and far too careful. It goes by `Optimizer.regret_bound`: the upper
# confidence bound of the best point so far, less the lowest lower confidence bound in all of the
# space, both by a Gaussian process (Makarova et al. 2022). They are `width` standard deviations
# from the mean, by default as many as theory asks for, four to six. How does that bound shrink?
# The history is on the disk, so we let the run go on without the rules. And beside it we put one
# that is hard for a Gaussian process: Ackley's function in five dimensions, whose minimum is a
# narrow spike in wide ripples.

# %%
minimize(
    hartmann,
    hartmann.space,
    budget=STOP_BUDGET,
    storage=HOME / "hartmann.db",
    callbacks=[watching],
    progress=False,
)
ackley = shifted(get_problem("ackley5"))
watching = partial(watch, "shifted ackley5", ackley)
minimize(ackley, ackley.space, budget=STOP_BUDGET, callbacks=[watching], progress=False)

figure, (panels,) = new_figure(1, 2, width=8.4, height=3.9)
for axes, (name, rows) in zip(panels, notes.items(), strict=True):
    count, own, narrow, true = np.array(rows).T
    lines = (("bound", own), ("bound, width=2", narrow), ("true regret", true))
    for style, (label, line) in zip(LINES, lines, strict=False):
        colour = INK if label == "true regret" else style.color
        axes.plot(count, line, style.marker, color=colour, linestyle=style.dashes, label=label)
    axes.set(xlabel="evaluations", ylabel="regret", yscale="log", title=name)
panels[0].axvline(len(ended.trials), color="0.7", linewidth=1, zorder=0)
top = panels[0].get_xaxis_transform()
panels[0].text(len(ended.trials) + 0.5, 0.97, "the rule", va="top", color="0.4", transform=top)
panels[0].legend(frameon=False, fontsize=9, loc="lower left")
figure

# %%
for name, rows in notes.items():
    count, own, narrow, true = np.array(rows).T
    print(f"{name}: the bound held at {np.mean(true <= own):.0%} of the moments, ", end="")
    print(f"with width=2 at {np.mean(true <= narrow):.0%}. At the end it is ", end="")
    print(f"{own[-1] / true[-1]:,.1f} times the true regret.")
hartmann_notes, ackley_notes = (np.array(rows) for rows in notes.values())
assert hartmann_notes[-1, 3] <= hartmann_notes[-1, 1]
assert any(ackley_notes[:, 3] > ackley_notes[:, 1])  # a bound of the model, not of the function

# %% [markdown]
# (The true regret drawn is that of the point which the bound speaks of, and may rise when that
# changes.) On the left the bound lies above it all along, by orders of magnitude at the end. On
# the right the model has not seen the spike, and is sure of what is wrong: the true regret is
# above the bound for most of the run. The bound is a statement about the model. Over several
# problems and seeds it held in about nine of ten runs, and least often early and on such spikes:
# the numbers are in "When to stop" of [the benchmarks](../benchmarks/README.md). This is why
# `RegretBelow` keeps silent before `after=30` trials by default, and why a narrower `width` buys
# an earlier stop with broken promises.

# %%
FOLDER.cleanup()

# %% [markdown]
# ## When to use this
#
# Stay with the tool that you have. In **Optuna**, `BoSuiteSampler` is for studies of one
# or several objectives: constraints, `catch=` and pruners work as before. Which parameters exist
# in which branches of the objective it learns from the trials. Keep `TPESampler` where a trial
# takes milliseconds, or there will be many thousands.
#
# In **scikit-learn**, `BOSearchCV` is for an estimator, its cross-validation and a `refit`; with
# `storage=` where the search is long. Keep `GridSearchCV` for a handful of candidates. In **Ray
# Tune**, `BoSuiteSearch` is for a cluster, and for schedulers that stop trials early. For the
# cores of one machine Ray costs much start-up, and `minimize(..., workers=4)` will do. With
# **BoTorch**, take `BoTorchAcquisition` for an acquisition that we do not have, and
# `ProcessModel` for our processes in code of yours.
#
# If you have no tool yet, take plain `minimize`, or `Optimizer` where the evaluations happen
# elsewhere. Both keep a history that resumes exactly, and stop by rule: `TimeLimit` always,
# `TargetValue` where you know what is enough, `RegretBelow(bound)` where you know what is not
# worth the wait, and only after some 30 evaluations.

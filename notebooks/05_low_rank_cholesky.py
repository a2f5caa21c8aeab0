# %% [markdown]
# # Change the matrix, keep the factor
#
# You have factorised a large matrix. Then it changes a little: one sensor becomes noisier, one
# reading comes in, an old one goes. Must you start again?
#
# No. You will see which entries of a Cholesky factor move when its matrix moves, how much time
# that saves as matrices grow, where it breaks and what it says then. At the end a Gaussian
# process follows a drifting signal through a window of fixed size. Eight minutes to read, about
# half a minute to run. It starts from a blog post on low-rank updates, and goes on
# where the post stops.

# %% tags=["parameters"]
SIZES = (32, 64, 128, 256, 512, 1024, 2048)  # matrices to time
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # vectors to add to one of N rows
N = 1024
LONGEST_FOLD = 128  # vectors beyond which the fold is not timed
SECONDS = 0.15  # spent on each time
DRAWS = 9  # random vectors for each distance from singularity
READINGS = 1500  # in the stream of the last part
WINDOWS = (64, 96, 128, 256, 512, 1024)  # to time

# %%
# %matplotlib inline
import math
import time
from fractions import Fraction
from functools import reduce

import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch.utils.benchmark import Timer

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.linalg import (
    cholesky_delete,
    cholesky_downdate,
    cholesky_update,
    jittered_cholesky,
)
from bo_suite.plot.style import GOLD, INK, LINES, MIST, draw_process, legend_below, new_figure
from bo_suite.surrogates import ExactGP

torch.set_num_threads(1)
threadpool_limits(1)  # scipy has threads of its own
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)

start = time.perf_counter()
cholesky_update(torch.eye(2), torch.ones(2, 1))
print(f"The first call took {time.perf_counter() - start:.1f} s.")

# %% [markdown]
# That first call may take a few seconds: numba compiles the rotations, and keeps the result on
# disk for next time. We pay it here, outside of every clock. Without numba all of this works too,
# only slower.
#
# ## One vector, many entries
#
# A covariance matrix $A = LL^\top$ describes how thirty readings along a line go together. We add
# $uu^\top$: the simplest change there is, one of rank one. Our $u$ is zero for the first ten
# readings.

# %%
place = torch.linspace(0, 1, 30)
apart = (place[:, None] - place).abs()
A = (1 + 9 * apart) * torch.exp(-9 * apart) + 0.1 * torch.eye(30)
L = torch.linalg.cholesky(A)
u = 0.8 * torch.exp(-(((place - 0.5) / 0.2) ** 2))[:, None]
u[:10] = 0

updated = cholesky_update(L, u)
torch.testing.assert_close(updated, torch.linalg.cholesky(A + u @ u.mT))


# %%
def heat(axes, matrix, title, top, bottom=0.0, cmap="Blues", label="entry"):
    image = axes.imshow(matrix.numpy(), cmap=cmap, vmin=bottom, vmax=top)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xticks=(0, 10, 20), yticks=(0, 10, 20), xlabel="column", ylabel="row")
    axes.label_outer(remove_inner_ticks=True)
    axes.spines[:].set(visible=True, color=MIST, linewidth=0.6)
    axes.figure.colorbar(image, ax=axes, orientation="horizontal", pad=0.02, label=label)


def heat_change(axes, before, after):
    change = (after - before).abs().clamp(min=1e-6).log10()
    heat(axes, change, "what moved", 0.0, -6.0, "Greys", "$\\log_{10}$ |change|")


figure, panels = new_figure(1, 4, width=8.4, height=3.3)
heat(panels[0, 0], L, "factor $L$ of $A$", 1.2)
heat(panels[0, 1], u @ u.mT, r"added: $u\,u^\top$", 0.7)
heat(panels[0, 2], updated, "factor of the sum", 1.2)
heat_change(panels[0, 3], L, updated)
figure

# %% [markdown]
# Where $u$ is zero at the head, nothing moves: ten rows and ten columns stay as they were, bit
# for bit. From its first non-zero entry on, the whole triangle shifts, near the bump most. (Along
# the light streaks the change passes from plus to minus.)
#
# A triangle has $n^2/2$ entries, so $O(n^2)$ is the least that an update can cost, and it is what
# it costs. Column $j$ of $L$ and what is left of $u$ are turned in their plane until $u_j$ is
# zero,
#
# $$r = \sqrt{L_{jj}^2 + u_j^2}, \qquad
# \begin{pmatrix} L_{:j} & u \end{pmatrix} \leftarrow
# \begin{pmatrix} L_{:j} & u \end{pmatrix}
# \frac{1}{r}\begin{pmatrix} L_{jj} & -u_j \\ u_j & \phantom{-}L_{jj} \end{pmatrix},$$
#
# and then the next column. A turn keeps $L_{:j}L_{:j}^\top + uu^\top$ as it is; after the last
# one $u$ is used up, and $L$ has all of it.

# %%
moved = (updated - L).abs()
head, tail = moved[:, :10].max(), moved[10:, 10:].tril()
print(f"Largest change in the first ten columns: {head:g}")
print(f"Entries of the triangle that moved: {int((moved > 0).sum())} of {30 * 31 // 2}")
assert head == 0
assert (tail > 0).sum() == (moved > 0).sum()

# %% [markdown]
# ## From one vector to many: the fold
#
# Several vectors are a sum, $VV^\top = \sum_m v_m v_m^\top$, and can be added one by one. The
# post finds a lovely line for it: a fold, with the update as its operator. Translated to torch it
# runs as it stands.


# %%
def fold(chol, vectors):
    return reduce(cholesky_update, vectors.split(1, dim=-1), chol)


def random_matrix(n):
    root = torch.randn(n, n)
    return root @ root.mT / n + 0.1 * torch.eye(n)


A = random_matrix(N)
L = torch.linalg.cholesky(A)
V = torch.randn(N, max(RANKS))
few = V[:, :16]
torch.testing.assert_close(fold(L, few), torch.linalg.cholesky(A + few @ few.mT))
torch.testing.assert_close(cholesky_update(L, few), fold(L, few))

# %% [markdown]
# The fold is right. Is it quick? We time it beside one call of `cholesky_update` with all columns
# at once, and beside refactoring, which is given $A$ itself and only adds $VV^\top$. All times are
# medians of processor time on one thread, so that other work on the machine counts for less.


# %%
def milliseconds(call):
    timer = Timer("call()", globals={"call": call}, timer=time.thread_time, num_threads=1)
    return 1e3 * timer.blocked_autorange(min_run_time=SECONDS).median


def over_ranks(k):
    v = V[:, :k].clone()
    return {
        "one call": milliseconds(lambda: cholesky_update(L, v)),
        "refactoring": milliseconds(lambda: torch.linalg.cholesky(A + v @ v.mT)),
        "fold": milliseconds(lambda: fold(L, v)) if k <= LONGEST_FOLD else math.nan,
    }


by_rank = pd.DataFrame({k: over_ranks(k) for k in RANKS}).T


def draw_times(axes, table):
    for name, style in zip(table.columns, LINES, strict=False):
        dress = {"color": style.color, "linestyle": style.dashes, "marker": style.marker}
        axes.loglog(table.index, table[name], markersize=5, label=name, **dress)
    axes.set_xticks(table.index, [str(n) for n in table.index])
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.set_ylabel("milliseconds")
    axes.grid(alpha=0.25)


figure, ((axes,),) = new_figure(width=6.6, height=3.5)
draw_times(axes, by_rank)
axes.set_xlabel(f"vectors added to a matrix of {N} rows")
axes.set_title("Many vectors: one call is quicker than a fold", fontsize=10, loc="left")
axes.legend(frameon=False)
figure

# %%
k = by_rank["fold"].last_valid_index()
gain = by_rank["fold"][k] / by_rank["one call"][k]
lead = by_rank["refactoring"] / by_rank["one call"]
slow = by_rank.index[by_rank["fold"] > by_rank["refactoring"]]
print(f"With {k} vectors one call is {gain:.1f} times quicker than the fold.")
print(f"The fold falls behind refactoring at {min(slow, default='no number of')} vectors.")
print("One call beside refactoring, times quicker:")
print(lead.round(1).to_frame("").T.to_string(index=False))
if N >= 1024:
    assert gain > 1.2
    assert lead[1] > 3

# %% [markdown]
# Both are the post's $O(N^2M)$. But rotations are cheap and memory is slow: a fold fetches the
# whole factor for each vector, and makes a new one. One call passes over it once, with all
# vectors in hand. When there are many it turns to matrix products (LAPACK's `tpqrt`), and beyond
# $\tfrac34 n$ vectors it refactors by itself; it has to form $LL^\top$ first, so one who has $A$
# is better off.
#
# So $O(N^2M)$ beats $O(N^3)$ while $M$ is *small*, a fraction of $N$ that the picture shows.
#
# ## Speed over n

# %%
by_size = {}
for n in SIZES:
    a, v = random_matrix(n), torch.randn(n, 1)
    chol = torch.linalg.cholesky(a)
    torch.testing.assert_close(cholesky_update(chol, v), torch.linalg.cholesky(a + v @ v.mT))
    by_size[n] = {
        "update": milliseconds(lambda chol=chol, v=v: cholesky_update(chol, v)),
        "refactoring": milliseconds(lambda a=a, v=v: torch.linalg.cholesky(a + v @ v.mT)),
    }
by_size = pd.DataFrame(by_size).T

figure, ((axes,),) = new_figure(width=6.6, height=3.8)
draw_times(axes, by_size)
for name, power in (("update", 2), ("refactoring", 3)):
    guide = by_size[name].iloc[-1] * (by_size.index / by_size.index[-1]) ** power
    axes.plot(by_size.index[-4:], guide[-4:], color=INK, linewidth=0.9, linestyle=":")
    place_of = by_size.index[-3], guide[-3]
    axes.annotate(f"$n^{power}$", place_of, (14, -16), textcoords="offset points")
axes.set_xlabel("rows n")
axes.set_title("One vector: $n^2$ against $n^3$", fontsize=10, loc="left")
axes.legend(frameon=False)
figure

# %%
ratio = by_size["refactoring"] / by_size["update"]
print(ratio.rename("times faster").round(1).to_frame().T.to_string())
print(f"The update is ahead from n = {ratio[ratio > 1].index.min()} on.")
if max(SIZES) >= 1024:
    assert ratio.iloc[-1] > 5

# %% [markdown]
# Below a hundred rows or so the clock shows what a call from Python costs, and no more.
# Refactoring wins there. Beyond, the update leaves it further and further behind.
#
# ## What a matrix must be
#
# The post asks for a positive *semi*definite $A$. Such a matrix does have factors, but the
# factorisation divides by its pivots, and a singular matrix has a zero among them: in practice it
# takes a definite one. Two readings at one place, without noise, show it.

# %%
singular = torch.ones(2, 2)
print("torch gives up at pivot", int(torch.linalg.cholesky_ex(singular).info))
try:
    factor = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # its product with its transpose is all ones
    cholesky_update(factor, torch.ones(2, 1))
except NumericalError as error:
    print("update:", error)
repaired, jitter = jittered_cholesky(singular)
print(f"With {jitter:.0e} on its diagonal it has a factor: pivots {repaired.diagonal().tolist()}")

# %% [markdown]
# ## Taking away, and the brink
#
# `cholesky_downdate` removes what an update has added. Adding is always safe. Removing is not,
# since $A - uu^\top$ is positive definite only while $\|L^{-1}u\| < 1$, and
#
# $$\frac{\det(A - uu^\top)}{\det A} = 1 - \|L^{-1}u\|^2.$$
#
# That is the distance from singularity. Let us walk towards it and watch the log determinant,
# which the likelihood of a Gaussian process needs. We are given a factor $L$, of an
# ill-conditioned matrix as covariances often are: eigenvalues from $1$ down to $10^{-8}$. The
# truth comes from exact fractions, without any rounding.


# %%
def distance(chol, u):
    """1 - |L⁻¹ u|², in exact arithmetic."""
    white = []
    for row, entry in zip(chol.tolist(), u[:, 0].tolist(), strict=True):
        rest = Fraction(entry) - sum(Fraction(row[j]) * white[j] for j in range(len(white)))
        white.append(rest / Fraction(row[len(white)]))
    return float(1 - sum(entry**2 for entry in white))


Q = torch.linalg.qr(torch.randn(40, 40)).Q
L = torch.linalg.cholesky(Q * torch.logspace(0, -8, 40) @ Q.mT)


def errors(aimed):
    white = torch.nn.functional.normalize(torch.randn(40, 1), dim=0) * math.sqrt(1 - aimed)
    u = L @ white
    truth = math.log(distance(L, u))
    formed, failed = torch.linalg.cholesky_ex(L @ L.mT - u @ u.mT)
    found = {"downdate": cholesky_downdate(L, u), "refactoring": formed}
    wrong = {}
    for name, factor in found.items():
        log_ratio = 2 * (factor.diagonal() / L.diagonal()).log().sum()
        wrong[name] = abs(float(log_ratio) - truth)
    return wrong | ({"refactoring": math.inf} if failed else {})


aims = [float(f"1e-{digits}") for digits in range(1, 11)]
tables = {aim: pd.DataFrame([errors(aim) for _ in range(DRAWS)]) for aim in aims}
brink = pd.DataFrame({aim: table.median() for aim, table in tables.items()}).T

# %%
figure, ((axes,),) = new_figure(width=6.6, height=3.5)
for name, style in zip(brink.columns, LINES, strict=False):
    dress = {"color": style.color, "linestyle": style.dashes, "marker": style.marker}
    axes.loglog(brink.index, brink[name], markersize=5, label=name, **dress)
axes.invert_xaxis()
axes.set_xlabel(r"distance from singularity, $1 - \|L^{-1}u\|^2$")
axes.set_ylabel("error of the log determinant")
axes.set_title("Each step towards the brink costs a digit", fontsize=10, loc="left")
axes.grid(alpha=0.25)
axes.legend(frameon=False, loc="upper left")
figure

# %% [markdown]
# Every factor of ten towards the brink costs a digit: no method escapes that. But the factor has
# more digits to lose. Forming $LL^\top - uu^\top$ rounds to sixteen digits of its *largest*
# entries, and the small eigenvalues drown. This is why `cholesky_downdate` never refactors near
# the brink. Beyond it there is no factor, and you are told how far beyond you are.

# %%
ours, theirs = brink.loc[1e-6, ["downdate", "refactoring"]]
print(f"At 1e-6 refactoring is off by {theirs:.0e}, the downdate by {ours:.0e}.")
early = brink[:4]
assert (early["downdate"] < early["refactoring"]).all()
too_much = L @ torch.nn.functional.normalize(torch.ones(40, 1), dim=0) * 1.001
try:
    cholesky_downdate(L, too_much)
except NumericalError as error:
    print(error)

# %% [markdown]
# If you both add and remove, say both in one call, `cholesky_update(L, added, removed=...)`: it
# adds first, so that no matrix on the way is closer to the brink than it must be.
#
# ## Deleting a row is an update in disguise
#
# A reading that leaves takes its row and its column. It sounds like a downdate. Yet look at where
# the factor kept that reading: in row $i$, which goes, and in column $i$ below, which the rows
# that stay still need. With $\ell$ for that column and $L_c$ for the corner right of it, they
# held $\ell\ell^\top + L_cL_c^\top$. So $\ell$ is *added* to the corner, and nothing can fail.

# %%
A = (1 + 9 * apart) * torch.exp(-9 * apart) + 0.1 * torch.eye(30)
L = torch.linalg.cholesky(A)
i = 12
kept = [j for j in range(30) if j != i]
shorter = cholesky_delete(L, i)
torch.testing.assert_close(shorter, torch.linalg.cholesky(A[kept][:, kept]))
corner, column = L[i + 1 :, i + 1 :], L[i + 1 :, i : i + 1]
torch.testing.assert_close(shorter[i:, i:], cholesky_update(corner, column))

figure, panels = new_figure(1, 3, width=8.4, height=3.6)
heat(panels[0, 0], L, f"before: row {i} will go", 1.2)
panels[0, 0].axhline(i, color=INK, linewidth=2)
panels[0, 0].plot([i, i], [i + 1, 29], color=GOLD, linewidth=3)
arrow = {"arrowstyle": "->"}
panels[0, 0].annotate("added to\nthe corner", (i, 20), (15, 8), arrowprops=arrow)
heat(panels[0, 1], shorter, "after", 1.2)
heat_change(panels[0, 2], L[kept][:, kept], shorter)
figure

# %% [markdown]
# Appending is simpler still. `cholesky_append` solves for one new row, and touches no other.
#
# ## Differentiable
#
# All of these can stand inside of a model that is trained, by the factor and by the vectors. (The
# way back is that of a whole factorisation, $O(n^3)$.) One line compares the gradients of an
# update with finite differences.

# %%
small, v = (0.3 * torch.randn(5, 5)).tril(-1) + torch.eye(5), torch.randn(5, 2)
inputs = small.requires_grad_(), v.requires_grad_()
agree = torch.autograd.gradcheck(lambda chol, v: cholesky_update(chol.tril(), v), inputs)
print("The gradients agree:", agree)

# %% [markdown]
# ## A window that slides along a stream
#
# Now to what all of this is for. A machine has a response curve. Readings of it come in one at a
# time, at random inputs, with noise; and over the day the curve drifts. Only the latest readings
# speak of the curve as it is. We keep the last 96 in a Gaussian process. Each new reading pushes
# out the oldest: one row deleted, one appended.
#
# `ExactGP` takes inputs scaled to $[0, 1]$ ("encoded") and outcomes of about unit variance. It
# fits its hyperparameters to the first window; `slide` keeps them, and the prior mean, fixed.

# %%
torch.manual_seed(1)
WINDOW = 96
x = torch.rand(READINGS, 1)
day = torch.linspace(0, 1, READINGS)


def curve(x, t):
    return 1.4 * torch.sin(6 * x + 3 * t) * (1 - 0.5 * x)


y = curve(x[:, 0], day) + 0.3 * torch.randn(READINGS)

data = Dataset(x=x[:WINDOW], y=y[:WINDOW], noise=None, pending=x[:0])
first = ExactGP().fit(data, Seeds.of(seed=0, trial=0))

instants = [WINDOW, READINGS // 3, 2 * READINGS // 3, READINGS]
process, seen = first, {WINDOW: first}
for i in range(WINDOW, READINGS):
    process = process.slide(x[i : i + 1], y[i : i + 1])
    if i + 1 in instants:
        seen[i + 1] = process

# %%
grid = torch.linspace(0, 1, 101)[:, None]
figure, panels = new_figure(2, 2, width=7.2, height=4.8)
for axes, count in zip(panels.flat, instants, strict=True):
    window = slice(count - WINDOW, count)
    dots = {"color": MIST, "markersize": 3, "label": f"last {WINDOW} readings"}
    axes.plot(x[window, 0], y[window], "o", **dots)
    draw_process(axes, seen[count], grid)
    now = curve(grid, day[count - 1])
    axes.plot(grid, now, color=INK, linestyle="--", label="curve at this moment")
    axes.set_title(f"after {count} readings", fontsize=10, loc="left")
    axes.set(ylim=(-2.3, 2.6), xlabel="input, encoded", ylabel="response")
    axes.label_outer(remove_inner_ticks=True)
legend_below(figure, columns=3)
figure

# %% [markdown]
# The mean follows the curve, a little behind: its readings are on average half a window old. The
# band knows nothing of the drift. It takes a window's readings as those of one curve, so it is a
# little too narrow for the curve of this moment.
#
# Is it still the right posterior after all these steps? Sliding by a whole window at once
# factorises afresh, so that gives us the batch posterior to compare with. And the factor must be
# that of a new process over the last window.

# %%
batch = first.slide(x[-WINDOW:], y[-WINDOW:])
pairs = list(zip(process.mean_and_var(grid), batch.mean_and_var(grid), strict=True))
difference = max(float((slid - fresh).abs().max()) for slid, fresh in pairs)
print(f"After {READINGS - WINDOW} slides, slid and batch moments differ by {difference:.0e}.")
last = Dataset(x=x[-WINDOW:], y=y[-WINDOW:], noise=None, pending=x[:0])
torch.testing.assert_close(process.chol, ExactGP().process(last, first.hyperparameters).chol)
assert difference < 1e-9

# %% [markdown]
# How long should the window be? Sliding makes it cheap to ask. `condition` grows a process until
# it has its size, then `slide` takes over.


# %%
def root_mean_square(process, t):
    return float((process.mean(grid) - curve(grid[:, 0], t)).square().mean().sqrt())


def follow(size):
    """Error over the stream of a window of some size, at the hyperparameters of the first."""
    few = Dataset(x=x[:16], y=y[:16], noise=None, pending=x[:0])
    process, errors = ExactGP().process(few, first.hyperparameters), {}
    for i in range(16, READINGS):
        step = process.slide if process.x.shape[0] == size else process.condition
        process = step(x[i : i + 1], y[i : i + 1])
        if i % 30 == 0:
            errors[i] = root_mean_square(process, day[i])
    return errors


followed = pd.DataFrame({size: follow(size) for size in (WINDOW, 16, 4 * WINDOW)})

figure, ((axes,),) = new_figure(width=6.6, height=3.0)
for size, style in zip(followed.columns, LINES, strict=False):
    name = f"last {size} readings"
    axes.plot(followed[size], color=style.color, linestyle=style.dashes, label=name)
axes.set(xlabel="readings so far", ylabel="RMS error of the mean", ylim=(0, None))
axes.set_title("Too short is noisy, too long is late", fontsize=10, loc="left")
legend_below(figure, columns=3)
figure

# %%
average = followed.iloc[len(followed) // 3 :].mean()
print("Mean error over the last two thirds:", average.round(3).to_dict())
if READINGS >= 1000:
    assert average.idxmin() == WINDOW

# %% [markdown]
# And the time of a step? `ExactGP().process(...)` forms the covariance of a window and factorises
# it.


# %%
def time_a_step(size):
    data = Dataset(x=x[:size], y=y[:size], noise=None, pending=x[:0])
    process = ExactGP().process(data, first.hyperparameters)
    return {
        "slide, ms": milliseconds(lambda: process.slide(x[-1:], y[-1:])),
        "afresh, ms": milliseconds(lambda: ExactGP().process(data, first.hyperparameters)),
    }


steps = pd.DataFrame({size: time_a_step(size) for size in WINDOWS}).T.rename_axis("window")
steps["times faster"] = steps["afresh, ms"] / steps["slide, ms"]
if max(WINDOWS) >= 1024:
    assert steps["times faster"].iloc[-1] > 2
steps.round(2)

# %% [markdown]
# At small windows, ours of 96 among them, there is nothing to win: Python and the kernel take the
# time, not the factor. It starts to pay at a few hundred rows, and from there every doubling
# counts.

# %% [markdown]
# ## When to use this
#
# Use `cholesky_update`, `cholesky_downdate`, `cholesky_append` and `cholesky_delete` when you
# have a factor of hundreds of rows or more, and its matrix changes by a few terms or rows at a
# time: streams, windows, leave-one-out, a batch chosen point by point. Give all vectors to one
# call, those that go as `removed=`. On an `ExactGP` process the same is `condition`, `delete` and
# `slide`.
#
# Refactor instead, with `torch.linalg.cholesky` or `jittered_cholesky`, below about 128 rows, and
# when the vectors are many: the lead melts as they grow in number, and little is left of it at
# $n/2$. Removals lose it sooner; their times, those of batches and those without numba are in
# `benchmarks/README.md`. And near the brink, if you still have what the matrix was made of, form
# what stays directly rather than as a difference.
#
# Whenever hyperparameters change, the whole matrix does. `slide` keeps them; when a stream
# changes its character, fit again, with `ExactGP().fit(data, seeds, start=...)` from a
# `WarmStart`. For many thousand readings that all stay relevant take a sparse process, `SGPR` or
# `SVGP`, not a longer window.

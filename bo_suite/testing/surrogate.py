"""The contract of a surrogate."""

from dataclasses import replace

import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.linalg.environment import numerical_environment
from bo_suite.surrogates import Process, Surrogate, WarmStart
from bo_suite.testing.data import DIM, dataset, rows
from bo_suite.testing.require import require


@numerical_environment()
def check_surrogate(surrogate: Surrogate) -> None:
    """Check that a surrogate is what `Surrogate` promises and that what it fits is a `Process`.

    The surrogate fits one observation, equal observations and a batch of replicates. A fit is deterministic
    given the seeds and does not change the data. The covariance is symmetric, positive semidefinite and has
    the variance on its diagonal. Gradients agree with finite differences. Conditioning does not raise the
    variance, leaves the mean if the outcomes equal it, takes fantasy dimensions, and meets outcomes without
    noise.

    Args:
        surrogate: a frozen configuration; it is fitted to a few small data sets.

    Raises:
        AssertionError: a broken rule; the message gives the rule and the values.
    """
    data, seeds, test = dataset(12), Seeds.of(0, 1), rows(5, seed=9)
    before = data.x.clone(), data.y.clone()
    process = surrogate.fit(data, seeds)
    require(torch.equal(data.x, before[0]) and torch.equal(data.y, before[1]), "fit must not change the data")
    again = surrogate.fit(data, seeds)
    require(torch.equal(process.mean(test), again.mean(test)), "the same seeds must give the same process")
    warm = surrogate.fit(data, seeds, WarmStart(process.hyperparameters, 12))
    require(bool(torch.isfinite(warm.mean(test)).all()), "a warm-started fit must have a finite mean")
    require(
        process.hyperparameters.dtype == data.x.dtype and process.noise.shape == (),
        f"noise must have the replicates' shape (), got {tuple(process.noise.shape)}",
    )
    _check_moments(process, test)
    _check_gradients(process, test)
    _check_conditioning(process, test)
    _check_batch(surrogate)
    for count in (1, 2):
        small = surrogate.fit(dataset(count), seeds)
        require(bool(torch.isfinite(small.mean(test)).all()), f"{count} observations must be fitted")
    flat = dataset(20)
    flat = replace(flat, x=flat.x[:1].expand(20, -1), y=torch.zeros_like(flat.y))
    require(bool(torch.isfinite(surrogate.fit(flat, seeds).mean(test)).all()), "equal points must be fitted")


def _close(left: Tensor, right: Tensor, law: str, tolerance: float = 1e-6) -> None:
    require(left.shape == right.shape, f"{law}: shapes {tuple(left.shape)} and {tuple(right.shape)} differ")
    gap = float((left - right).abs().max())
    require(gap <= tolerance, f"{law}, but they differ by {gap:.2g}")


def _check_moments(process: Process, test: Tensor) -> None:
    cov = process.cov(test, test)
    _close(cov, cov.mT, "cov(x, x) must be symmetric", 1e-8)
    _close(cov.diagonal(dim1=-2, dim2=-1), process.var(test), "var(x) must be the diagonal of cov(x, x)")
    lowest = float(torch.linalg.eigvalsh(cov).min())
    require(lowest > -1e-8, f"cov(x, x) must be positive semidefinite, got eigenvalue {lowest:.2g}")
    require(bool((process.noise > 0).all()), f"noise must be positive, got {process.noise}")
    mean, var = process.mean_and_var(test)
    _close(mean, process.mean(test), "mean_and_var must agree with mean", 1e-12)
    _close(var, process.var(test), "mean_and_var must agree with var", 1e-12)


def _check_gradients(process: Process, test: Tensor) -> None:
    leaf = test.clone().requires_grad_()
    mean, var = process.mean_and_var(leaf)
    (gradient,) = torch.autograd.grad(mean.sum() + var.sum(), leaf)
    for column in range(DIM - 1):
        step = test.new_zeros(DIM)
        step[column] = 1e-5
        ahead, behind = process.mean_and_var(test + step), process.mean_and_var(test - step)
        slope = (ahead[0] + ahead[1] - behind[0] - behind[1]) / 2e-5
        _close(gradient[..., column], slope, "the gradient must agree with finite differences", 1e-4)


def _check_conditioning(process: Process, test: Tensor) -> None:
    x = rows(3, seed=5)
    with torch.no_grad():
        same = process.condition(x, process.mean(x))
        _close(same.mean(test), process.mean(test), "outcomes at the mean must leave the mean")
        require(
            bool((same.var(test) <= process.var(test) + 1e-9).all()), "observations must not add variance"
        )
        y = torch.randn(4, 3, generator=torch.Generator("cpu").manual_seed(0), dtype=test.dtype, device="cpu")
        together = process.condition(x, y)
        for fantasy in range(4):
            alone = process.condition(x, y[fantasy])
            _close(
                together.mean(test)[fantasy], alone.mean(test), "each fantasy must equal its own condition"
            )
        _close(together.var(test), same.var(test), "fantasies must share the variance")
        tiny = test.new_full((3,), 1e-8)
        _close(process.condition(x, y[0], tiny).mean(x), y[0], "noiseless outcomes must be met", 1e-2)


def _check_batch(surrogate: Surrogate) -> None:
    data, test = dataset(8, 2), rows(4, 2, seed=7)
    together = surrogate.fit(data, Seeds((1, 2), (2,)))
    require(together.mean(test).shape == (2, 4), f"means must be (2, 4), got {together.mean(test).shape}")
    for index in range(2):
        alone = surrogate.fit(data.replicates(index), Seeds((index + 1,)))
        _close(
            together.mean(test)[index], alone.mean(test[index]), "a replicate must equal its solo fit", 0.05
        )

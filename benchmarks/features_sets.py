"""Data sets and methods of benchmarks/features.py.

The three kinds of function are made from one: a sum of 500 random cosines, which is close to a draw of a
Gaussian process with a squared exponential kernel. *smooth* is that function of the first few columns;
*stepped* is constant in each of eight intervals per column, as over whole numbers; *periodic* runs twice
through every column. Their minima are found by brute force: over all cells where stepped, else from the best
of 65,536 points by L-BFGS.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_diabetes
from sparse_peers import Data, friedman, make_data
from torch import Tensor

from bo_suite.kernels import Zonal
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP
from bo_suite.surrogates.features import Activations, Orthogonal, SphericalHarmonics

STEPS, PERIODS, WAVES = 8, 2, 500


def identity(x: Tensor) -> Tensor:
    """The rows as they are."""
    return x


def stairs(x: Tensor) -> Tensor:
    """The middle of the interval that each value is in."""
    return ((x * STEPS).floor().clamp(0, STEPS - 1) + 0.5) / STEPS


def cycles(x: Tensor) -> Tensor:
    """Sines from 0 to 1, two periods a column."""
    return 0.5 + 0.5 * torch.sin(2.0 * math.pi * PERIODS * x)


WARPS = {"smooth": identity, "stepped": stairs, "periodic": cycles}
"""What becomes of the columns before the random cosines, by kind."""


@dataclass(frozen=True)
class Function:
    """A random function of some columns, with mean 0 and standard deviation 1 over uniform rows.

    Attributes:
        kind: smooth, stepped or periodic.
        active: number of columns that matter, the first ones.
        lengthscale: of the cosines, before the columns are stepped or periodic.
        seed: of the cosines.
        noise: standard deviation of the noise of an outcome.
    """

    kind: str
    active: int
    lengthscale: float
    seed: int
    noise: float = 0.1

    def __call__(self, x: Tensor) -> tuple[Tensor, float]:
        """Values without noise, and the standard deviation of the noise."""
        return self.values(x), self.noise

    def values(self, x: Tensor) -> Tensor:
        """Values at rows, without noise."""
        mean, spread = self._moments
        return (self._sum(x) - mean) / spread

    @cached_property
    def minimum(self) -> float:
        """The smallest value."""
        if self.kind == "stepped":
            levels = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
            return float(self.values(torch.cartesian_prod(*[levels] * self.active)).min())
        x = torch.rand(65_536, self.active, generator=self._generator(2), dtype=torch.float64)
        best = self.values(x).argsort()[:30]

        def value_and_slope(point: np.ndarray) -> tuple[float, np.ndarray]:
            row = torch.tensor(point[None], requires_grad=True)
            value = self.values(row).sum()
            return float(value.detach()), torch.autograd.grad(value, row)[0][0].numpy()

        box = [(0.0, 1.0)] * self.active
        return min(float(minimize(value_and_slope, row.numpy(), jac=True, bounds=box).fun) for row in x[best])

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    @cached_property
    def _waves(self) -> tuple[Tensor, Tensor]:
        generator = self._generator(0)
        frequencies = torch.randn(self.active, WAVES, generator=generator, dtype=torch.float64)
        phases = torch.rand(WAVES, generator=generator, dtype=torch.float64)
        return frequencies / self.lengthscale, 2.0 * math.pi * phases

    @cached_property
    def _moments(self) -> tuple[float, float]:
        x = torch.rand(20_000, self.active, generator=self._generator(1), dtype=torch.float64)
        values = self._sum(x)
        return float(values.mean()), float(values.std())

    def _sum(self, x: Tensor) -> Tensor:
        frequencies, phases = self._waves
        parts = WARPS[self.kind](x[:, : self.active]).split(10_000)
        return torch.cat([torch.cos(part @ frequencies + phases).sum(-1) for part in parts])


def diabetes(seed: int) -> Data:
    """The 442 patients of scikit-learn's diabetes data, a fifth held out."""
    x, y = (torch.from_numpy(part) for part in load_diabetes(return_X_y=True))
    x = (x - x.amin(0)) / (x.amax(0) - x.amin(0))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    mean, scale = y[train].mean(), y[train].std()
    y = (y - mean) / scale
    return Data(x[train], y[train], x[test], y[test], floor=math.nan)


@dataclass(frozen=True)
class Case:
    """A regression set.

    Attributes:
        data: rows and outcomes by seed.
        inducing: inducing variables of every sparse method.
        epochs: of GPyTorch, batches of 1,024.
        seeds: number of data sets.
    """

    data: Callable[[int], Data]
    inducing: int
    epochs: int
    seeds: int


def generated(kind: str, n: int, dim: int, lengthscale: float) -> Callable[[int], Data]:
    """Noisy outcomes of a function of all columns."""
    return lambda seed: make_data(Function(kind, dim, lengthscale, seed), n, dim, seed)


CASES = {
    "diabetes": Case(diabetes, 100, 1500, 3),
    "periodic": Case(generated("periodic", 10_000, 3, 0.5), 256, 150, 1),
    "stepped": Case(generated("stepped", 10_000, 4, 0.5), 256, 150, 1),
    "friedman": Case(lambda seed: make_data(friedman, 10_000, 20, seed), 256, 150, 1),
    "smooth": Case(generated("smooth", 100_000, 8, 1.0), 512, 15, 1),
}


METHODS: dict[str, Callable[[int], Any]] = {
    "SGPR points": lambda m: SGPR(inducing=m),
    "SGPR points, learned": lambda m: SGPR(inducing=m, learn_inducing=True),
    "SGPR points, zonal": lambda m: SGPR(inducing=m, kernel=Zonal()),
    "SGPR harmonics": lambda m: SGPR(inducing=SphericalHarmonics(count=m)),
    "SGPR activations": lambda m: SGPR(inducing=Activations(m)),
    "SGPR harmonics + points": lambda m: SGPR(
        inducing=Orthogonal(SphericalHarmonics(count=m // 2), m - m // 2)
    ),
    "SGPR activations + points": lambda m: SGPR(inducing=Orthogonal(Activations(m // 2), m - m // 2)),
    "SVGP points": lambda m: SVGP(inducing=m),
    "SVGP harmonics": lambda m: SVGP(inducing=SphericalHarmonics(count=m)),
    "SVGP activations": lambda m: SVGP(inducing=Activations(m)),
    "SVGP harmonics + points": lambda m: SVGP(
        inducing=Orthogonal(SphericalHarmonics(count=m // 2), m - m // 2)
    ),
    "SGPR": lambda m: SGPR(),
    "AutoGP": lambda m: AutoGP(),
    "ExactGP": lambda m: ExactGP(),
}
"""Surrogates by the number of their inducing variables; `+ points` are half orthogonal points."""

GPYTORCH = "GPyTorch SVGP"

MOST_EXACT = 2000
"""Largest number of observations for ExactGP."""

GUIDE = {"smooth": (5, 0.5), "stepped": (5, 0.5), "periodic": (3, 0.5)}
"""Active columns at most, and the lengthscale, of the functions of `guide` and `loop`."""


def guide_function(kind: str, dim: int, seed: int) -> Function:
    """The function of a kind over dim columns, of which some matter."""
    active, lengthscale = GUIDE[kind]
    return Function(kind, min(active, dim), lengthscale, seed)


def fewer_tests(data: Data) -> Data:
    """The same with 2,000 held-out rows at most."""
    return replace(data, test_x=data.test_x[:2000], test_y=data.test_y[:2000])

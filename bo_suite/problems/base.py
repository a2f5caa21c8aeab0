"""A problem: a space, a function to be minimised over it, and its minimum if known."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, SupportsFloat

import jaxtyping as jt
import numpy as np
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.values.describe import described

Rows = Callable[[jt.Float64[Tensor, "n d"]], jt.Float64[Tensor, " n"]]
"""A function of many points at once, one row per point."""


class NoiseModel(Protocol):
    """The noise of an observation where its size depends on the value; a frozen dataclass, so picklable."""

    def __call__(self, value: float, generator: np.random.Generator) -> float:
        """The noise to add to the noiseless value, drawn from the generator alone; a finite number."""
        ...


@dataclass(frozen=True)
class Problem:
    """A function over a space, smaller is better.

    An optimiser observes `problem(params)`; `problem.value(params)` is the value without noise. The noise is
    drawn from (seed, point), so it is the same in every process, in a resumed run and in a suite, and two
    optimisers on equal problems meet the same noise. `dataclasses.replace(problem, seed=3)` has other noise.
    A suite counts the repeats of a point and draws new noise for each.

    Attributes:
        name: Identifies the problem in reports.
        space: Space to search.
        function: Noiseless value of a point in canonical form (every parameter once, in the order of the
            space). It must be picklable: a function of a module or a frozen callable, not a lambda.
        minimum: Smallest noiseless value over the space; with fidelities, at the target (values at lower
            fidelities may be smaller). None if unknown.
        minimizers: Points that attain the minimum; there may be others.
        noise: Standard deviation of the additive Gaussian noise.
        seed: Seed of the noise.
        best_known: Equals the minimum if that is known, and None is replaced by it. Otherwise the smallest
            noiseless value seen so far, which is not a proven minimum, or None.
        vectorized: The function of many points at once, for cheap functions of Float columns: maps rows in
            the user's units, in the order of the space, to noiseless values on the device of the rows.
            Values may differ from the function's by rounding: at most 1e-12, relative or absolute. Picklable;
            None if there is no such function.
        noise_model: Draws noise that is not Gaussian or depends on the value; `noise` must then be 0. None
            for Gaussian noise.

    Raises:
        DataError: an empty name, minimizers without a minimum, a best known value that differs from the
            minimum, a vectorized function of columns that are not Float, a noise model besides Gaussian
            noise, or a number out of its range.
        SpaceError: a minimizer is not a point of the space.
    """

    name: str
    space: Space
    function: Callable[[Params], SupportsFloat]
    minimum: float | None = None
    minimizers: tuple[Params, ...] = field(default=(), hash=False)
    noise: float = 0.0
    seed: int = 0
    best_known: float | None = None
    vectorized: Rows | None = None
    noise_model: NoiseModel | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"a problem's name must be a non-empty string, got {described(self.name)}")
        if not isinstance(self.space, Space):
            raise DataError(f"a problem's space must be a Space, got {described(self.space)}")
        if not callable(self.function):
            raise DataError(f"a problem's function must be callable, got {described(self.function)}")
        if self.minimum is None and self.minimizers:
            raise DataError(f"minimizers need a minimum, got {len(self.minimizers)} minimizers and None")
        if self.minimum is not None and not math.isfinite(self.minimum):
            raise DataError(f"the minimum must be a finite number or None, got {self.minimum!r}")
        if self.best_known is None:
            object.__setattr__(self, "best_known", self.minimum)
        elif not math.isfinite(self.best_known):
            raise DataError(f"the best known value must be a finite number or None, got {self.best_known!r}")
        elif self.minimum is not None and self.best_known != self.minimum:
            raise DataError(
                "`best_known == minimum` must hold if the minimum is known, "
                f"got best_known={self.best_known!r}, minimum={self.minimum!r}"
            )
        self._check_vectorized()
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise DataError(f"`noise >= 0` must hold, got noise={self.noise!r}")
        self._check_noise_model()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise DataError(f"the seed must be an integer >= 0, got {self.seed!r}")
        object.__setattr__(self, "minimizers", tuple(self.space.check(point) for point in self.minimizers))

    def _check_vectorized(self) -> None:
        if self.vectorized is None:
            return
        if not callable(self.vectorized):
            raise DataError(
                f"a vectorized function must be callable or None, got {described(self.vectorized)}"
            )
        others = [name for name, parameter in self.space if not isinstance(parameter, Float)]
        if others:
            raise DataError(f"a vectorized function needs a space of Float columns alone, got {others}")

    def _check_noise_model(self) -> None:
        if self.noise_model is None:
            return
        if not callable(self.noise_model):
            raise DataError(f"a noise model must be callable or None, got {described(self.noise_model)}")
        if self.noise != 0.0:
            raise DataError(f"`noise == 0` must hold with a noise model, got noise={self.noise!r}")

    @property
    def noisy(self) -> bool:
        """Whether observations have noise, Gaussian or of a model."""
        return self.noise > 0.0 or self.noise_model is not None

    def value(self, params: Params) -> float:
        """The noiseless value of a point.

        Raises:
            SpaceError: params are not a point of the space.
        """
        return float(self.function(self.space.check(params)))

    def __call__(self, params: Params) -> float:
        """The observed value of a point, noise included.

        Raises:
            SpaceError: params are not a point of the space.
        """
        return self.value(params) + self.noise_of(params, self.seed)

    def noise_of(self, params: Params, seed: int, repeat: int = 0) -> float:
        """The noise of an evaluation, a function of the seed, the point and the repeat alone.

        Encoded points are rounded to six digits first, so that rounding errors do not change the noise.

        Args:
            params: the point.
            seed: of a run.
            repeat: number of earlier evaluations of the same point in the run.

        Raises:
            SpaceError: params are not a point of the space.
        """
        if not self.noisy:
            return 0.0
        (row,) = self.space.encode([self.space.check(params)]).tolist()
        digits = json.dumps([round(unit, 6) for unit in row]).encode()
        key = int.from_bytes(hashlib.blake2b(digits, digest_size=8).digest(), "big")
        generator = np.random.default_rng((seed, key, repeat))
        if self.noise_model is not None:
            return float(self.noise_model(self.value(params), generator))
        return self.noise * float(generator.standard_normal())

"""What a sparse process needs of its inducing variables, whatever they are.

Inducing variables u are jointly Gaussian with the latent function f: values of f at some inputs, its
projections on some functions (inter-domain features, Lázaro-Gredilla and Figueiras-Vidal 2009), or both.
All that a sparse process uses is K_uu = cov(u, u), k_u(x) = cov(u, f(x)) and their gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Functionals, Kernel
from bo_suite.kernels.base import CrossTo, Features
from bo_suite.linalg.factors import Factor

VariablesPullback = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A gradient by covariances to those by theta and by the variables' own parameters."""


@dataclass(frozen=True, eq=False)
class InducingCovariance:
    """K_uu, jitter included, as its factor.

    Attributes:
        factor: L with L Lᵀ = K_uu.
        info: zero where K_uu is positive definite.
        pullback: of a symmetric gradient by K_uu.
    """

    factor: Factor
    info: jt.Int[Tensor, "*b"]
    pullback: VariablesPullback


@runtime_checkable
class InducingVariables(Protocol):
    """m random variables that summarise a function, a set for each of `*b` replicates."""

    @property
    def count(self) -> int:
        """m."""

    @property
    def points(self) -> jt.Float[Tensor, "*b j d"]:
        """The inputs among them whose values are inducing variables; none of inter-domain features."""

    @property
    def parameters(self) -> jt.Float[Tensor, "*b q"]:
        """What a fit may move; no entries if nothing."""

    def moved(self, parameters: jt.Float[Tensor, "*b q"]) -> "InducingVariables":
        """The variables with other parameters, which may have more replicates."""

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b q"], jt.Float[Tensor, "*b q"]]:
        """Smallest and largest parameters for the rows of the data."""

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """K_uu and its gradient.

        Args:
            kernel: covariance function of f.
            theta: its parameters.
            jitter: share of the variances that is added to them, one for all or one a replicate. Variables
                that are independent need none and ignore it.
        """

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"] | Functionals
    ) -> jt.Float[Tensor, "*b m n"]:
        """k_u(x); if they hold values of f alone, also their covariance with functionals of f."""

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """k_u(x), and the map of W (*b m n) to d sum(W * k_u) by theta and by the parameters."""

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """The map of x to k_u(x)ᵀ and to the map of W (*b n m) to d sum(W * k_uᵀ) / d x."""

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """The diagonal of K_uu, without jitter."""

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """The variables' values if f is each of the g functions, which the kernel has returned."""

    def with_points(self, x: jt.Float[Tensor, "*b j d"] | Functionals) -> "InducingVariables":
        """These, followed by the values of f at x, or by functionals of f."""


def are_features(value: object) -> bool:
    """Whether a value is a recipe for inducing variables; a class of them is none."""
    return isinstance(value, InducingFeatures) and not isinstance(value, type)


@runtime_checkable
class InducingFeatures(Protocol):
    """A recipe for inducing variables: the `inducing` of an `SGPR` or `SVGP`."""

    @property
    def kernel(self) -> Kernel | None:
        """The covariance function if the surrogate is given none; None for that of `ExactGP`."""

    def limited(self, count: int) -> "InducingFeatures":
        """The same with at most that many variables, for a fit to a part of the data."""

    def place(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], seeds: Seeds
    ) -> InducingVariables:
        """The variables for the data.

        Raises:
            DataError: a kernel or data that these features are not made for.
        """

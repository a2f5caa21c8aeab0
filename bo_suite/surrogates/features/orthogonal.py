"""Any inducing variables, and points orthogonal to them."""

from dataclasses import dataclass, field

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Kernel
from bo_suite.surrogates.features.points import Points, Stacked
from bo_suite.surrogates.features.spherical import SphericalHarmonics
from bo_suite.surrogates.features.variables import InducingFeatures, are_features
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection, check_whole


@dataclass(frozen=True)
class Orthogonal:
    """Base variables u, and what they leave unexplained at points (SOLVE-GP, Shi, Titsias and Mnih 2020).

    The points learn what the base can not: local detail beside global harmonics, or the degrees that an
    activation lacks (Tiao, Dutordoir and Picheny 2023). u keeps its own factor, which a diagonal K_uu makes
    free, so that the cost of factorising grows with the cube of the points alone. The bound of an `SGPR` is
    that of the union of both, and never below that of the base.

    Attributes:
        base: features, or a number of inducing inputs.
        points: number of orthogonal points.
        selection: how points are chosen.
    """

    base: InducingFeatures | int = field(default_factory=lambda: SphericalHarmonics(count=128))
    points: int = 128
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.9))

    def __post_init__(self) -> None:
        check_whole("points", self.points, 1)
        if not are_features(self.base):
            check_whole("base", self.base, 1)

    @property
    def kernel(self) -> Kernel | None:
        """That of the base."""
        return None if isinstance(self.base, int) else self.base.kernel

    def limited(self, count: int) -> "Orthogonal":
        """Half of the variables at most are points."""
        half = max(count // 2, 1)
        base = min(half, self.base) if isinstance(self.base, int) else self.base.limited(half)
        return Orthogonal(base, min(half, self.points), self.selection)

    def place(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], seeds: Seeds
    ) -> Stacked | Points:
        """The base's variables, and points.

        Raises:
            DataError: as the base's `place`.
        """
        if isinstance(self.base, int):
            rows = self.selection.select(data, kernel, theta, self.base + self.points, seeds)
            first = min(self.base, max(rows.shape[-2] - self.points, 1))
            both = Points(rows[..., :first, :]), Points(rows[..., first:, :])
            return Stacked(*both) if both[1].count else both[0]
        rows = self.selection.select(data, kernel, theta, self.points, seeds)
        return Stacked(self.base.place(data, kernel, theta, seeds), Points(rows))

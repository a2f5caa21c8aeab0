"""The noise of bbob-noisy, which depends on the value."""

from dataclasses import dataclass

import numpy as np

from bo_suite.errors import DataError

_KINDS = ("gauss", "uniform", "cauchy")

_EXACT = 1e-8
"""Values this close to the minimum have no noise."""

_OFFSET = 1.01e-8
"""Added to a value with noise, so that it stays above the exact ones."""


@dataclass(frozen=True)
class BbobNoise:
    """Noise of bbob-noisy on f = value - minimum, which is observed as f + noise.

    gauss: f exp(beta N), with N standard normal.
    uniform: f U^beta max(1, (1e9 / (f + 1e-99))^(alpha V)), with U and V uniform on [0, 1].
    cauchy: f + alpha max(0, 1000 + 1[U < p] N / (|M| + 1e-199)), with N and M standard normal.

    1.01e-8 is added to each, and values f < 1e-8 have no noise.

    Reference: N. Hansen, S. Finck, R. Ros and A. Auger (2009). Real-parameter black-box optimization
    benchmarking 2009: noisy functions definitions. INRIA report RR-6869.

    Attributes:
        kind: gauss, uniform or cauchy.
        minimum: of the noiseless function.
        alpha: size of the uniform and of the cauchy noise.
        beta: size of the gauss and of the uniform noise.
        share: p, the share of cauchy observations with an outlier.
    """

    kind: str
    minimum: float
    alpha: float = 0.0
    beta: float = 0.0
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise DataError(f"the kind of a noise must be one of {_KINDS}, got {self.kind!r}")

    @classmethod
    def of(cls, function: int, dim: int, minimum: float) -> "BbobNoise":
        """The noise of a function of bbob-noisy: moderate for 101 to 106, severe for 107 to 130."""
        severe = function > 106
        kind = _KINDS[(function - 101) % 3]
        if kind == "gauss":
            return cls(kind, minimum, beta=1.0 if severe else 0.01)
        if kind == "uniform":
            alpha = 0.49 + 1.0 / dim
            return cls(kind, minimum, alpha if severe else 0.01 * alpha, beta=1.0 if severe else 0.01)
        return cls(kind, minimum, 1.0 if severe else 0.01, share=0.2 if severe else 0.05)

    def __call__(self, value: float, generator: np.random.Generator) -> float:
        """The noise of a value."""
        f = value - self.minimum
        if f < _EXACT:
            return 0.0
        return self._observed(f, generator) + _OFFSET - f

    def _observed(self, f: float, generator: np.random.Generator) -> float:
        if self.kind == "gauss":
            return float(f * np.exp(self.beta * generator.standard_normal()))
        if self.kind == "uniform":
            first, second = generator.random(2)
            return float(f * first**self.beta * max(1.0, (1e9 / (f + 1e-99)) ** (self.alpha * second)))
        outlier = 0.0
        if generator.random() < self.share:
            first, second = generator.standard_normal(2)
            outlier = first / (abs(second) + 1e-199)
        return float(f + self.alpha * max(0.0, 1000.0 + outlier))

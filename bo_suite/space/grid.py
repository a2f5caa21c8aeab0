"""Evenly spaced numbers, and their positions in [0, 1]."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """The numbers low, low + step, ..., high: levels 0 ... levels - 1.

    Attributes:
        low: number of level 0.
        high: number of the last level.
        step: distance of neighbours.
        levels: how many there are.
        log: whether positions are even in the logarithm of the numbers, which are positive.
    """

    low: float
    high: float
    step: float
    levels: int
    log: bool

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        if self.log and self.levels > 1:
            inside = np.log1p(level * self.step / self.low) / math.log(self.high / self.low)
            return np.where(level < self.levels - 1, np.minimum(inside, 1.0), 1.0)
        return np.asarray(level / max(self.levels - 1, 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        if self.log:
            raw = self.low * np.expm1(unit * math.log(self.high / self.low)) / self.step
        else:
            raw = unit * (self.levels - 1)
        return np.asarray(np.clip(np.rint(raw), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal probability per value, or per octave on a log scale."""
        if self.log:
            raw = self.low * np.expm1(uniform * math.log((self.high + self.step) / self.low)) / self.step
        else:
            raw = uniform * self.levels
        return np.asarray(np.clip(np.floor(raw), 0, self.levels - 1))

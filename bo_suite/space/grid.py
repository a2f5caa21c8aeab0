"""Evenly spaced numbers, and their positions in [0, 1]."""

import math
from dataclasses import dataclass
from decimal import Decimal

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
        """Positions of levels: in [0, 1] for 0 ... levels - 1, and outside for others."""
        last = self.levels - 1
        if self.log and last > 0:
            inner = np.log1p(level * self.step / self.low) / math.log(self.high / self.low)
            outer = np.where(level > last, np.maximum(inner, 1.0), 1.0)
            return np.where(level < last, np.minimum(inner, 1.0), outer)
        return np.asarray(level / max(last, 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest; on a log scale those whose numbers are."""
        if self.log:
            raw = self.low * np.expm1(unit * math.log(self.high / self.low)) / self.step
        else:
            raw = unit * (self.levels - 1)
        return np.asarray(np.clip(np.rint(raw), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal probability per number, or per octave on a log scale."""
        if self.log:
            raw = self.low * np.expm1(uniform * math.log((self.high + self.step) / self.low)) / self.step
        else:
            raw = uniform * self.levels
        return np.asarray(np.clip(np.floor(raw), 0, self.levels - 1))


@dataclass(frozen=True)
class Decimals:
    """The decimal numbers low, low + step, low + 2 step, ..., as the nearest floats.

    Three steps of 0.1 from 0 are 0.3, while `3 * 0.1` is 0.30000000000000004.

    Attributes:
        low: in units of 10^-places.
        step: in the same units.
        places: number of decimal places; negative if all numbers are multiples of ten.
    """

    low: int
    step: int
    places: int

    @staticmethod
    def of(low: float, step: float) -> "Decimals":
        """The numbers of the shortest decimals that are read as `low` and `step`."""
        decimals = [Decimal(repr(number)) for number in (low, step)]
        places = max(-int(decimal.as_tuple().exponent) for decimal in decimals)
        first, pace = (int(decimal.scaleb(places)) for decimal in decimals)
        return Decimals(first, pace, places)

    def value(self, level: int) -> float:
        """low + level step."""
        return float(f"{self.low + level * self.step}e{-self.places}")

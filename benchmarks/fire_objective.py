"""The evaluation of `under_fire.py`, in a module of its own that evaluating processes import in no time."""

import random
import time

_draw = random.SystemRandom()


def evaluation(shortest: float, longest: float, params: dict[str, object]) -> float:
    """A number that no other evaluation returns, also not one of the same point, after some seconds."""
    time.sleep(_draw.uniform(shortest, longest))
    return _draw.random()

"""Rungs at which trials are compared, each a factor above the one before."""

from collections.abc import Sequence

from bo_suite.errors import ArgumentError
from bo_suite.values.numbers import require_int


def checked_ladder(max_step: object, min_step: object, factor: object) -> tuple[int, int, int]:
    """The last step, the first rung and the factor between rungs, as integers.

    Raises:
        ArgumentError: one is no integer, the factor is below 2, or the first rung is not below the last step.
    """
    last = require_int("max_step", max_step, at_least=1, error=ArgumentError)
    first = require_int("min_step", min_step, at_least=1, error=ArgumentError)
    times = require_int("factor", factor, at_least=2, error=ArgumentError)
    if last <= first:
        raise ArgumentError(
            f"max_step must be above min_step, the first rung, got max_step = {last} and min_step = {first}"
        )
    return last, first, times


def ladder(max_step: int, min_step: int, factor: int) -> tuple[int, ...]:
    """The rungs min_step, min_step * factor, min_step * factor², ... below max_step."""
    rungs = [min_step]
    while (rung := rungs[-1] * factor) < max_step:
        rungs.append(rung)
    return tuple(rungs)


def highest_rung(rungs: Sequence[int], step: int) -> int:
    """The highest rung at or below a step, of ascending rungs; 0 if there is none."""
    return max((rung for rung in rungs if rung <= step), default=0)

"""Rungs at which trials are compared, each a factor above the one before."""

from collections.abc import Mapping, Sequence

from bo_suite.errors import ArgumentError
from bo_suite.storage.trial import Verdict
from bo_suite.study.scheduling import Progress
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


def verdict_among(losses: Mapping[int, float], trial: int, factor: int) -> Verdict:
    """ "continue" if the loss of a trial is one of the m // factor smallest, or m < factor; else "stop".

    Args:
        losses: m losses at a rung, by id.
        trial: id of one of them.
        factor: ratio of a rung and the one before.
    """
    if len(losses) < factor:
        return "continue"
    worst = sorted(losses.values())[len(losses) // factor - 1]
    return "continue" if losses[trial] <= worst else "stop"


def promotable(progress: Progress, rungs: Sequence[int], factor: int, top: int) -> int | None:
    """The best paused trial of the m // factor best of m at a rung; at the highest rung that has one.

    Args:
        progress: of the run.
        rungs: all rungs, ascending.
        factor: ratio of a rung and the one before.
        top: above the rungs that are considered.
    """
    paused = {
        trial.id: highest_rung(rungs, trial.step) for trial in progress.trials if trial.state == "paused"
    }
    for rung in sorted({rung for rung in paused.values() if rung < top}, reverse=True):
        losses = progress.losses(rung)
        best = sorted(losses, key=lambda number: (losses[number], number))[: len(losses) // factor]
        promoted = next((number for number in best if paused.get(number) == rung), None)
        if promoted is not None:
            return promoted
    return None

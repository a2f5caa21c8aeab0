"""Asynchronous halving that raises its last rung only while the ranking of the best trials is unsettled."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from bo_suite.run.schedulers.rungs import checked_ladder, ladder, promotable
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress

_SHARE = 0.9  # quantile of the distances of trials whose curves cross twice


@dataclass(frozen=True)
class PASHA:
    """`PromotionASHA` whose trials are not continued beyond a top rung, which rises only if it has to.

    The levels are the rungs min_step * factor^k below max_step, and max_step. The top is the second level at
    first. It rises by one level if the trials that have reached it rank otherwise than the same trials at the
    level below. Losses there that differ by at most epsilon count as equal: at each position in the ranking
    at the top, the trial's loss at the level below must be within epsilon of the loss of the trial in that
    position at the level below. Epsilon is the 0.9 quantile of the distances at the top of those pairs of
    trials whose order changes at least twice from step to step: such trials differ by noise alone. Without
    such pairs it is 0.

    If the ranking settles early, no trial reaches max_step: the best ones are paused at the top rung.

    Reference: Bohdal et al., "PASHA: efficient HPO and NAS with progressive resource allocation" (2023).

    Attributes:
        max_step: the last step of a whole evaluation.
        min_step: the first rung.
        factor: ratio of a rung and the one before; an integer of at least 2.

    Raises:
        ArgumentError: an attribute breaks a rule, or the first rung is not below max_step.
    """

    max_step: int
    min_step: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        values = checked_ladder(self.max_step, self.min_step, self.factor)
        for name, value in zip(("max_step", "min_step", "factor"), values, strict=True):
            object.__setattr__(self, name, value)

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps at which a trial is paused, ascending; the same for all trials."""
        return self._rungs

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """Always "pause"."""
        return "pause"

    def promoted(self, progress: Progress) -> int | None:
        """The best trial that may go on, at the highest rung below the top that has one."""
        return promotable(progress, self._rungs, self.factor, self.top(progress))

    def top(self, progress: Progress) -> int:
        """The step beyond which no trial is continued: a rung, or max_step.

        Later outcomes may settle a ranking again, so that it falls back before a trial has reached it.
        """
        levels = (*self._rungs, self.max_step)
        reached = max((trial.step for trial in progress.trials if trial.state != "withdrawn"), default=0)
        index = max(1, sum(level <= reached for level in levels) - 1)
        if index + 1 < len(levels) and not _settled(progress, levels[index - 1], levels[index]):
            index += 1
        return levels[index]

    @property
    def _rungs(self) -> tuple[int, ...]:
        return ladder(self.max_step, self.min_step, self.factor)


def _settled(progress: Progress, below: int, top: int) -> bool:
    """Whether the trials at the top rank as they did at the level below, up to noise."""
    losses, earlier = progress.losses(top), progress.losses(below)
    ranked = [earlier[number] for number in sorted(losses, key=lambda number: (losses[number], number))]
    gaps = [abs(loss - other) for loss, other in zip(ranked, sorted(ranked), strict=True)]
    widest = max(gaps, default=0.0)
    return widest == 0.0 or widest <= _noise(progress, set(losses), top)


def _noise(progress: Progress, numbers: set[int], top: int) -> float:
    """Epsilon: the distance at the top of trials whose order changes at least twice on the way."""
    curves = [
        {report.step: report.value for report in trial.reports if report.step <= top}
        for trial in progress.trials
        if trial.id in numbers
    ]
    distances = []
    for first, second in combinations(curves, 2):
        gaps = [first[step] - second[step] for step in sorted(first.keys() & second.keys())]
        signs = [gap > 0.0 for gap in gaps if gap != 0.0]
        if sum(sign != later for sign, later in pairwise(signs)) >= 2:
            distances.append(abs(gaps[-1]))
    return _quantile(sorted(distances), _SHARE) if distances else 0.0


def _quantile(values: Sequence[float], share: float) -> float:
    """A quantile of ascending values, linear between them."""
    position = share * (len(values) - 1)
    lower = int(position)
    upper = min(lower + 1, len(values) - 1)
    return values[lower] + (position - lower) * (values[upper] - values[lower])

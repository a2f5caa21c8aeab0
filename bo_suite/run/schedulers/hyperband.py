"""Hyperband's brackets, each an asynchronous successive halving with another first rung."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from bo_suite.run.schedulers.rungs import checked_ladder, highest_rung, ladder, verdict_among
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress


@dataclass(frozen=True)
class Hyperband:
    """Asynchronous successive halving in brackets, which judge their trials from different steps on.

    With the rungs r_0 < ... < r_(K-1) of `ASHA`, bracket b = 0, ..., K has the rungs r_b, ..., r_(K-1), and
    compares its trials with one another alone. Bracket 0 is `ASHA`; the trials of bracket K are never
    stopped. So a trial that starts slowly and is stopped in bracket 0 might not be in a later one.

    With h = K - b, the number of halvings, a trial is in bracket b with a probability in proportion to
    factor^h (K + 1) / (h + 1), the number of points that Hyperband starts there. It is drawn from the run's
    seed and the trial's id alone.

    Reference: Li et al., "Hyperband: a novel bandit-based approach to hyperparameter optimization" (2018).

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

    @property
    def shares(self) -> tuple[float, ...]:
        """The probability of each bracket, in their order; they sum to 1."""
        rungs = len(self._rungs)
        counts = [self.factor**halvings / (halvings + 1) for halvings in range(rungs, -1, -1)]
        return tuple(count / sum(counts) for count in counts)

    def bracket(self, trial: int, seed: int) -> int:
        """The bracket of the trial with an id, in a run with a seed."""
        uniform = _uniform(seed, trial)
        return next((b for b, end in enumerate(accumulate(self.shares)) if uniform < end), len(self._rungs))

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps at which a trial is judged, ascending: the rungs of its bracket, maybe none."""
        return self._rungs[self.bracket(trial.id, progress.seed) :]

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """ "stop" unless the trial is among the best of its bracket at the highest rung it has reached."""
        own = self.bracket(trial.id, progress.seed)
        rung = highest_rung(self._rungs[own:], trial.step)
        losses = {
            number: loss
            for number, loss in progress.losses(rung).items()
            if self.bracket(number, progress.seed) == own
        }
        return verdict_among(losses, trial.id, self.factor)

    def promoted(self, progress: Progress) -> int | None:
        """None: no trial is paused."""
        return None

    @property
    def _rungs(self) -> tuple[int, ...]:
        return ladder(self.max_step, self.min_step, self.factor)


@lru_cache(maxsize=65_536)
def _uniform(seed: int, trial: int) -> float:
    """A number in [0, 1), drawn from a seed and an id."""
    digest = hashlib.blake2b(f"{seed} {trial}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53

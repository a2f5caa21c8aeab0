"""An acquisition's score with the probabilities that an evaluation succeeds and meets the constraints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.base import Acquisition, Score, require_support
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates.process import Hyperparameters, WarmStart


@dataclass(frozen=True, eq=False)
class LikelyScore:
    """A score plus the log probabilities that an evaluation succeeds and meets all constraints.

    Attributes:
        score: of an evaluation that succeeds; None while no observation is feasible.
        success: the probability that it succeeds; None if none has failed.
        feasibility: the probability that it meets all constraints; None without constraints.
    """

    score: Score | None
    success: SuccessProbability | None
    feasibility: Feasibility | None

    @property
    def differentiable(self) -> bool:
        """Whether the score is differentiable."""
        return self.score is None or self.score.differentiable

    @property
    def costly(self) -> bool:
        """Whether the score takes many times the time of a mean and a variance."""
        return bool(getattr(self.score, "costly", False))

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The hyperparameters of the score; none while no observation is feasible."""
        if self.score is None:
            return None if self.feasibility is None else self.feasibility.hyperparameters[..., :0]
        return self.score.hyperparameters

    @property
    def notes(self) -> Sequence[Mapping[str, Any]]:
        """What the acquisition chose, a mapping for each replicate."""
        notes: Sequence[Mapping[str, Any]] = ({},) * self._runs
        if self.score is None:
            notes = ({"rule": "search for a feasible point"},)
        else:
            notes = getattr(self.score, "notes", notes)
        together = None if self.feasibility is None else self.feasibility.together
        if together is None or not bool(together.any()):
            return notes
        pairs = zip(notes, together.flatten().tolist(), strict=False)
        return tuple({**note, "constraints": "together"} if one else note for note, one in pairs)

    @property
    def weighs_success(self) -> bool:
        """Whether failures change the score."""
        return self.success is not None and not self.success.even

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """score(x) + log P(x succeeds) + log P(x is feasible); the former if it is not even."""
        total = x.new_zeros(x.shape[:-1]) if self.score is None else self.score(x)
        if self.success is not None and not self.success.even:
            total = total + self.success.log(x)
        return total if self.feasibility is None else total + self.feasibility.log(x)

    @property
    def _runs(self) -> int:
        """Number of replicates."""
        return 1 if self.success is None else self.success.level.shape[:-1].numel()


def build_score(
    acquisition: Acquisition, data: Dataset, seeds: Seeds, start: WarmStart | None = None
) -> Score:
    """The score of the acquisition given the data, with the probabilities of success and feasibility.

    Until an observation meets all constraints, these probabilities alone are the score: where the model knows
    little, the probability is far from 0, so that the search explores until it finds the feasible region.
    Pending points of one run that are not likely to be feasible are nothing to improve on.

    Raises:
        DataError: the acquisition does not support an aspect of the data.
        FitError, NumericalError: a model cannot be fitted.
    """
    require_support(acquisition, data.aspects)
    score, success, feasibility = None, None, None
    if data.violation is not None:
        of_limits = None if start is None else start.feasibility
        of_limits = None if of_limits is None or start is None else replace(of_limits, settled=start.settled)
        feasibility = Feasibility.fit(data, seeds, of_limits)
    if feasibility is None or bool(data.eligible.any(-1).all()):
        of_score = None if start is None or not start.hyperparameters.numel() else start
        score = acquisition.build(_with_likely_pending(data, feasibility), seeds, of_score)
    if data.failures is not None:
        success = SuccessProbability.fit(data, seeds, None if start is None else start.success)
    if score is not None and success is None and feasibility is None:
        return score
    return LikelyScore(score, success, feasibility)


def _with_likely_pending(data: Dataset, feasibility: Feasibility | None) -> Dataset:
    """The data without pending points that are infeasible with a probability above one half.

    As improvement is on all pending points, one that is infeasible and good in the objective would leave
    nothing to improve where constraints are met. Feasibility, which is given all of them, keeps away from it.
    """
    if feasibility is None or data.batch_shape or not data.pending.shape[-2]:
        return data
    with torch.no_grad():
        likely = feasibility.log(data.pending) >= math.log(0.5)
    return replace(data, pending=data.pending[likely])

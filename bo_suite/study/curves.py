"""The model of the learning curves of a run."""

from collections.abc import Sequence
from typing import Any

from bo_suite.storage.trial import Trial
from bo_suite.study.beliefs import belief_about
from bo_suite.study.suggest import Suggester


def curve_belief(suggester: Suggester, trials: Sequence[Trial]) -> Any:
    """What is known of the outcomes at the last step: the model of those of the finished trials."""
    return belief_about(suggester, trials, None)

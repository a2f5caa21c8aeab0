"""The acquisition that is used if the user chooses none."""

from collections.abc import Set

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition
from bo_suite.acquisition.hypervolume_improvement import LogExpectedHypervolumeImprovement
from bo_suite.acquisition.knowledge_gradient import KnowledgeGradient
from bo_suite.acquisition.scalarised import Scalarised

_MOST_OBJECTIVES = 4
"""Most objectives whose hypervolume is computed exactly in milliseconds."""


def default_acquisition(aspects: Set[str] = frozenset(), objectives: int = 1) -> Acquisition:
    """The default acquisition for a space and its goals.

    Args:
        aspects: of space and goals, beyond inputs and outcomes: names among `base.ASPECTS`.
        objectives: number of objectives.

    Returns:
        KnowledgeGradient with fidelities; LogExpectedHypervolumeImprovement with two to four objectives, and
        Scalarised with more; otherwise AdaptiveImprovement.
    """
    if "fidelities" in aspects:
        return KnowledgeGradient()
    if objectives > 1:
        return LogExpectedHypervolumeImprovement() if objectives <= _MOST_OBJECTIVES else Scalarised()
    return AdaptiveImprovement()

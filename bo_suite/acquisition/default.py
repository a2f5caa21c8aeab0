"""The acquisition that is used if the user chooses none."""

from collections.abc import Set

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition
from bo_suite.acquisition.knowledge_gradient import KnowledgeGradient


def default_acquisition(aspects: Set[str] = frozenset()) -> Acquisition:
    """The default acquisition for a space and its goals.

    Args:
        aspects: of space and goals, beyond inputs and outcomes: names among `base.ASPECTS`.

    Returns:
        KnowledgeGradient with fidelities, otherwise AdaptiveImprovement.
    """
    return KnowledgeGradient() if "fidelities" in aspects else AdaptiveImprovement()

"""The acquisition that is used if the user chooses none."""

from collections.abc import Set

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition
from bo_suite.acquisition.constrained import ConstrainedExpectedImprovement
from bo_suite.acquisition.knowledge_gradient import KnowledgeGradient


def default_acquisition(aspects: Set[str] = frozenset()) -> Acquisition:
    """The default acquisition for a space and its observations.

    Args:
        aspects: of space and observations, beyond inputs and outcomes: "constraints", "fidelities".

    Returns:
        ConstrainedExpectedImprovement with constraints, KnowledgeGradient with fidelities, otherwise
        AdaptiveImprovement.
    """
    if "constraints" in aspects:
        return ConstrainedExpectedImprovement()
    return KnowledgeGradient() if "fidelities" in aspects else AdaptiveImprovement()

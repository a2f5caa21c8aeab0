"""Which acquisition is chosen where the user has not chosen one."""

from collections.abc import Set

from bo_suite.acquisition.base import Acquisition
from bo_suite.acquisition.constrained import ConstrainedExpectedImprovement
from bo_suite.acquisition.improvement import LogExpectedImprovement
from bo_suite.acquisition.knowledge_gradient import KnowledgeGradient


def default_acquisition(aspects: Set[str] = frozenset()) -> Acquisition:
    """The default for a space and its observations.

    Args:
        aspects: what they have beyond inputs and outcomes: "constraints", "fidelities".

    Returns:
        LogExpectedImprovement; with constraints ConstrainedExpectedImprovement, with fidelities
        KnowledgeGradient.
    """
    if "constraints" in aspects:
        return ConstrainedExpectedImprovement()
    return KnowledgeGradient() if "fidelities" in aspects else LogExpectedImprovement()

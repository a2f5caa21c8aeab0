"""Points to start from, whole or in part, as users of other libraries give them."""

from collections.abc import Sequence

from bo_suite.space.space import Params
from bo_suite.storage.trial import Trial


def not_asked(points: Sequence[Params], trials: Sequence[Trial]) -> list[Params]:
    """Return the points that no trial was asked for with, in order.

    Each trial counts for one point: a resumed search asks for no point again, and a point that is listed
    twice is asked for twice.
    """
    asked = [trial for trial in trials if "fixed" in trial.provenance]
    waiting = []
    for point in points:
        match = next((trial for trial in asked if _was_asked_with(trial, point)), None)
        if match is None:
            waiting.append(point)
        else:
            asked.remove(match)
    return waiting


def _was_asked_with(trial: Trial, point: Params) -> bool:
    return set(trial.provenance["fixed"]) == set(point) and point.items() <= trial.params.items()

"""Points to start from: what is fixed of the first trials, as other libraries' users give it."""

from collections.abc import Iterator, Sequence

from bo_suite.space.space import Params
from bo_suite.storage.trial import Trial


def not_asked(points: Sequence[Params], trials: Sequence[Trial]) -> list[Params]:
    """The points, whole or in part, that no trial was asked for with, in order.

    Each trial stands for one point, so that a search that goes on does not begin anew, and a point that is
    given twice is asked for twice.
    """
    asked = [trial for trial in trials if "fixed" in trial.provenance]
    left = []
    for point in points:
        place = next(_places_of(point, asked), None)
        if place is None:
            left.append(point)
        else:
            del asked[place]
    return left


def _places_of(point: Params, asked: Sequence[Trial]) -> Iterator[int]:
    for place, trial in enumerate(asked):
        params = trial.params
        if set(trial.provenance["fixed"]) == set(point) and point.items() <= params.items():
            yield place

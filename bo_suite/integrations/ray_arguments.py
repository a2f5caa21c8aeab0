"""Checks of what a searcher of Ray Tune is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from bo_suite.values.describe import described


def checked_points(points: Any, rewards: Any) -> Sequence[Mapping[str, Any]]:
    """Return the points to start from; raise a ValueError unless they are dicts, each with a reward."""
    starts = [] if points is None else points
    if not (isinstance(starts, Sequence) and all(isinstance(point, Mapping) for point in starts)):
        raise ValueError(f"points_to_evaluate must be a list of configurations, got {described(points)}")
    if rewards is not None and not (isinstance(rewards, Sequence) and len(rewards) == len(starts)):
        raise ValueError(
            f"evaluated_rewards must be a list of {len(starts)} values, one for each of points_to_evaluate, "
            f"got {described(rewards)}"
        )
    return starts


def check_goal(metric: object, mode: object) -> None:
    """Raise a ValueError unless the metric is a name or None, and the mode "min", "max" or None."""
    if metric is not None and not (isinstance(metric, str) and metric):
        advice = ""
        if isinstance(metric, list | tuple | set | Mapping):
            advice = ": Ray Tune has one metric, so search for several objectives by minimize or an Optimizer"
        raise ValueError(f"the metric must be a name, got {described(metric)}{advice}")
    if mode not in (None, "min", "max"):
        raise ValueError(f"the mode must be 'min' or 'max', got {mode!r}")

"""Checks of what `minimize` and `work` are given, before anything is evaluated or written."""

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bo_suite.errors import SpaceError, TrialError
from bo_suite.run.evaluate import Returned
from bo_suite.space.space import Params, Space
from bo_suite.storage.paths import local_path
from bo_suite.study.arguments import listed_points
from bo_suite.values.describe import described
from bo_suite.values.scalars import python_scalar

if TYPE_CHECKING:
    from bo_suite.run.reporting import Reporter

Function = Callable[[Params], Returned] | Callable[[Params, "Reporter"], Returned | None]
"""Takes a dict of parameters and, with a scheduler, what it reports with. Returns a number, or numbers by
name, NaN if there is none, or a pair of these and a gradient; with a scheduler None stands for the last
reported value."""


def check_function(f: object, *, reports: bool) -> None:
    """Raises a TrialError unless f can be called on parameters and, if it `reports`, on a Reporter."""
    if not callable(f):
        raise TrialError(f"f must be a function of a dict of parameters, got {described(f)}")
    if not reports:
        return
    try:
        inspect.signature(f).bind({}, None)
    except TypeError as error:
        law = "with a scheduler f must take two arguments, f(params, report), and call report(step, value)"
        raise TrialError(f"{law}, got {described(f)}") from error
    except ValueError:  # some built-in functions have no signature
        return


def checked_folder(checkpoints: object, *, scheduled: bool) -> Path | None:
    """The absolute path of the folder for checkpoints, or None.

    Args:
        checkpoints: a path, or None.
        scheduled: whether the run has a scheduler.

    Raises:
        StorageError: it is no path on a local disk.
        TrialError: the run has no scheduler, so that nothing would use it.
    """
    if checkpoints is None:
        return None
    folder = local_path("the folder of checkpoints", checkpoints)
    if not scheduled:
        law = "a folder for checkpoints must be of a run with a scheduler"
        raise TrialError(f"{law}, got {described(checkpoints)} without one")
    return folder


def starting_points(start: Sequence[Params], space: object) -> list[Params]:
    """The points to start from, checked before a file is created.

    Raises:
        SpaceError: one is not of the space, or the space has a context, which no function can be asked at.
    """
    points = listed_points(start)
    if isinstance(space, Space):
        check_no_context(space, "minimize")
        for point in points:
            space.check_some(point)
    return points


def check_no_context(space: Space, function: str) -> None:
    """Raises a SpaceError, which names the function that cannot be used, if the space has a context."""
    if space.contexts:
        law = f"a context is given at each ask of an Optimizer, not to {function}"
        raise SpaceError(f"{law}, got {list(space.contexts)}")


def timeout_seconds(timeout: object) -> float | None:
    """The timeout as a float, or None."""
    if timeout is None:
        return None
    seconds = python_scalar(timeout)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise TrialError(f"a timeout must be a number of seconds above 0, or None, got {described(timeout)}")
    return float(seconds)

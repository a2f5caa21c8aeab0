"""The objective of `bo-suite minimize`: a problem by its name, or a user's function as module:function."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bo_suite.cli.console import USAGE, stop
from bo_suite.errors import DataError
from bo_suite.problems import get_problem
from bo_suite.space.space import Space
from bo_suite.storage.trial import Header
from bo_suite.values.describe import described
from bo_suite.values.imports import import_attribute


@dataclass(frozen=True)
class Objective:
    """A function with its space, and its minimum if that is known."""

    function: Callable[..., Any]
    space: Space
    minimum: float | None


def find(name: str, file: Path | None, header: Header | None, *, reports: bool = False) -> Objective:
    """The objective of a name; its space comes from the file, else the objective, else the history.

    Args:
        name: of a problem, or module:function.
        file: of a space, or None.
        header: of the history, or None.
        reports: whether it reports while it is evaluated, so that it takes (params, report).
    """
    if ":" not in name:
        if reports:
            stop(f"a problem reports no steps, so that it needs no scheduler, got {name!r}", USAGE)
        if file is not None:
            stop(f"a problem brings its own space, got {name!r} with --space {file}", USAGE)
        return _problem(name)
    function, space = _imported(name, ["params", "report"] if reports else ["params"])
    if file is not None:
        space = Space.from_file(file)
    elif space is None and header is not None:
        space = header.space
    if space is None:
        stop("a function needs --space FILE, or a Space named `space` in its module, got neither", USAGE)
    return Objective(function, space, None)


def _problem(name: str) -> Objective:
    try:
        problem = get_problem(name)
    except DataError as error:
        stop(f"{error}; to pass your own function, write module:function", USAGE)
    return Objective(problem, problem.space, problem.minimum)


def _imported(name: str, arguments: list[str]) -> tuple[Callable[..., Any], Space | None]:
    """The function of a name module:function, and the `space` of its module, if it has one."""
    try:
        function = import_attribute("an objective", name)
    except DataError as error:
        stop(str(error), USAGE)
    if not (callable(function) and _takes(function, arguments)):
        requirement = "an objective must take a dict of parameters and return a float"
        if len(arguments) > 1:
            requirement = "an objective must take (params, report) in a run with a scheduler"
        stop(f"{requirement}, got {name!r}: {described(function)}", USAGE)
    space = getattr(sys.modules[name.partition(":")[0]], "space", None)
    return function, space if isinstance(space, Space) else None


def _takes(function: Callable[..., Any], arguments: list[str]) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True

"""What users have in modules of their own, by name."""

import importlib
import os
import sys
from operator import attrgetter
from typing import Any

from bo_suite.errors import DataError
from bo_suite.values.describe import error_text


def imported(kind: str, name: str) -> Any:
    """What module:attribute names, the module imported from the current folder too.

    Args:
        kind: what it should be, for errors.
        name: of it.

    Raises:
        DataError: a module that cannot be imported, or that has no such attribute.
    """
    law = f"a {kind} of yours must be module:attribute, the module as in an import statement"
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        raise DataError(f"{law} (mine:thing for mine.py), got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user raises
        raise DataError(f"{law}, got {name!r}, whose import raised {error_text(error)}") from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise DataError(f"{law}, got {name!r}, but {module_name} has no {attribute!r}") from None

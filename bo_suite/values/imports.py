"""What users have in modules of their own, by name."""

import importlib
import os
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

from bo_suite.errors import DataError
from bo_suite.values.describe import error_text


def import_attribute(kind: str, name: str) -> Any:
    """The object that `module:attribute` names; the module may be in the current folder.

    Args:
        kind: of object, for errors: "a problem", "an objective".
        name: `module:attribute`.

    Raises:
        DataError: the module cannot be imported, or has no such attribute.
    """
    requirement = f"{kind} of yours must be module:attribute, the module as in an import statement"
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        raise DataError(f"{requirement} ({Path(module_name).stem}:{attribute}), got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's module may raise anything
        raise DataError(f"{requirement}, got {name!r}, whose import raised {error_text(error)}") from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise DataError(f"{requirement}, got {name!r}, but {module_name} has no {attribute!r}") from None

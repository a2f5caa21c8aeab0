"""Imports of the libraries of the extra `field`."""

import importlib.util
import warnings
from importlib import import_module
from typing import Any

from bo_suite.errors import DataError


def require_library(module: str, package: str) -> Any:
    """The module of a package of the extra `field`.

    Raises:
        DataError: the package is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise DataError(
            f"the suite field needs the package {package}: install it with `pip install 'bo-suite[field]'`"
        )
    with warnings.catch_warnings():  # bocode turns off all warnings of the process when it is imported
        return import_module(module)

"""Bayesian optimisation: minimise expensive functions, compare optimisers, tune models.

The names below are imported when first used, so that worker processes and the command line start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bo_suite.loop import Result, minimize
    from bo_suite.optimizer import Optimizer
    from bo_suite.parameters import Choice, Float, Int
    from bo_suite.space import Space
    from bo_suite.trials import Trial

__version__ = "0.9.0"

__all__ = ["Choice", "Float", "Int", "Optimizer", "Result", "Space", "Trial", "__version__", "minimize"]

_HOMES = {
    "bo_suite.parameters": ("Choice", "Float", "Int"),
    "bo_suite.space": ("Space",),
    "bo_suite.trials": ("Trial",),
    "bo_suite.optimizer": ("Optimizer",),
    "bo_suite.loop": ("Result", "minimize"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'bo_suite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

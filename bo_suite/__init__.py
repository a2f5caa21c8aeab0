"""Bayesian optimisation: minimise expensive functions, compare optimisers, tune models.

The names below are imported when first used, so that worker processes and the command line start fast.
"""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bo_suite.run.minimize import Result, minimize
    from bo_suite.space import Choice, Float, Int, Mixture, Space
    from bo_suite.storage.trial import Trial
    from bo_suite.study.optimizer import Optimizer

__version__ = "0.9.0"

__all__ = [
    "Choice",
    "Float",
    "Int",
    "Mixture",
    "Optimizer",
    "Result",
    "Space",
    "Trial",
    "__version__",
    "minimize",
]

_HOMES = {
    "bo_suite.space": ("Choice", "Float", "Int", "Mixture", "Space"),
    "bo_suite.storage.trial": ("Trial",),
    "bo_suite.study.optimizer": ("Optimizer",),
    "bo_suite.run.minimize": ("Result", "minimize"),
}

_MOVED = {
    "bo_suite.density_ratio": "bo_suite.classifiers.density_ratio",
    "bo_suite.stopping": "bo_suite.run.stopping",
    "bo_suite.surrogates.likelihoods": "bo_suite.surrogates.variational.likelihoods",
    "bo_suite.surrogates.natural": "bo_suite.surrogates.variational.natural",
    "bo_suite.surrogates.quadrature": "bo_suite.surrogates.variational.quadrature",
    "bo_suite.surrogates.training": "bo_suite.surrogates.variational.training",
}
"""New names of modules that the README or a notebook of version 0.8 imports."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'bo_suite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _MovedModules:
    """Imports a module under the name that it had in version 0.8, with a DeprecationWarning."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, _MovedModules) if name in _MOVED else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType | None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        old, new = module.__name__, _MOVED[module.__name__]
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)


sys.meta_path.append(_MovedModules)

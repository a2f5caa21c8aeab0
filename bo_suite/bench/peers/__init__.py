"""Methods to compare: bo_suite's own, baselines, and other libraries at their shipped defaults.

Each library has one small file. A library that ships parts without a loop has the loop of its documentation.
Libraries are imported when a run starts, so a missing library affects its own runs alone.
"""

import difflib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from bo_suite.bench.method import AnyMethod, Method, OutcomeMethod
from bo_suite.bench.peers.ax_client import AxClient
from bo_suite.bench.peers.baselines import Random, Sobol
from bo_suite.bench.peers.botorch_loop import BoTorchLoop
from bo_suite.bench.peers.botorch_outcomes import BoTorchConstrained, BoTorchHypervolume
from bo_suite.bench.peers.hebo import Hebo
from bo_suite.bench.peers.nevergrad_ngopt import NevergradNGOpt
from bo_suite.bench.peers.optuna_study import OptunaStudy
from bo_suite.bench.peers.own import (
    ACQUISITIONS,
    CLASSIFIERS,
    WEIGHTINGS,
    BoSuite,
    with_acquisition,
    with_classifier,
)
from bo_suite.bench.peers.pycma import PyCma
from bo_suite.bench.peers.pymoo_nsga2 import PymooNsga2
from bo_suite.bench.peers.scbo import Scbo
from bo_suite.bench.peers.scikit_optimize import ScikitOptimize
from bo_suite.bench.peers.smac_facade import SmacFacade
from bo_suite.bench.peers.smac_parego import SmacParego
from bo_suite.bench.peers.subprocess_method import SubprocessMethod
from bo_suite.bench.peers.syne_tune_bore import SyneTuneBore
from bo_suite.bench.peers.turbo import Turbo
from bo_suite.errors import DataError
from bo_suite.values.describe import described
from bo_suite.values.imports import import_attribute

__all__ = ["BoSuite", "SubprocessMethod", "get_method", "methods"]

_PEERS = "install it with `pip install 'bo-suite[peers]'`"
_TABLES = "install it with `pip install 'bo-suite[tables]'`"
_SYNE_TUNE = "install it with `pip install syne-tune`"
_HEBO = "it needs an interpreter of its own, passed as `python`"


@dataclass(frozen=True)
class _Listed:
    """Makes a method; with the modules that it imports and how to install them."""

    make: Callable[[], AnyMethod]
    modules: tuple[str, ...] = ()
    install: str = _PEERS


_TREES = {"xgb": ("xgboost",), "lgbm": ("lightgbm",)}
_LISTED: dict[str, _Listed] = {
    "bo_suite": _Listed(BoSuite),
    **{f"bo_suite:{name}": _Listed(partial(with_acquisition, name)) for name in ACQUISITIONS},
    **{
        f"{kind}:{name}": _Listed(partial(with_classifier, kind, name), _TREES.get(name, ()), _TABLES)
        for kind in WEIGHTINGS
        for name in CLASSIFIERS
    },
    "random": _Listed(Random),
    "sobol": _Listed(Sobol),
    "botorch": _Listed(BoTorchLoop),
    "turbo": _Listed(Turbo),
    "tpe": _Listed(partial(OptunaStudy, "tpe", "TPESampler"), ("optuna",)),
    "tpe_group": _Listed(
        partial(OptunaStudy, "tpe_group", "bo_suite.bench.peers.optuna_study:grouped_tpe"), ("optuna",)
    ),
    "optuna_gp": _Listed(partial(OptunaStudy, "optuna_gp", "GPSampler"), ("optuna", "jax")),
    "optuna_cmaes": _Listed(partial(OptunaStudy, "optuna_cmaes", "CmaEsSampler"), ("optuna", "cmaes")),
    "ax": _Listed(AxClient, ("ax",)),
    "scikit_optimize": _Listed(ScikitOptimize, ("skopt",)),
    "pycma": _Listed(PyCma, ("cma",)),
    "nevergrad": _Listed(NevergradNGOpt, ("nevergrad",)),
    "smac": _Listed(SmacFacade, ("smac", "ConfigSpace")),
    "syne_tune_bore": _Listed(SyneTuneBore, ("syne_tune", "xgboost"), _SYNE_TUNE),
    "hebo": _Listed(Hebo, ("hebo",), _HEBO),
    "botorch_hypervolume": _Listed(BoTorchHypervolume),
    "botorch_constrained": _Listed(BoTorchConstrained),
    "scbo": _Listed(Scbo),
    "optuna_nsga2": _Listed(partial(OptunaStudy, "optuna_nsga2", "NSGAIISampler"), ("optuna",)),
    "pymoo_nsga2": _Listed(PymooNsga2, ("pymoo",)),
    "smac_parego": _Listed(SmacParego, ("smac", "ConfigSpace")),
}


_KINDS = ("bo_suite", *WEIGHTINGS)


def methods() -> tuple[str, ...]:
    """Names of all methods, whether their libraries are installed or not."""
    return tuple(_LISTED)


def get_method(name: str, python: str | None = None) -> AnyMethod:
    """The method of a name, such as `bo_suite`, `bo_suite:KnowledgeGradient`, `lfbo:mlp`, `tpe` or `ax`.

    Args:
        name: one of methods(), or module:attribute of your own Method or OutcomeMethod.
        python: an interpreter with the library of the method, which then runs in a process of it.

    Raises:
        DataError: no method has the name, or the interpreter does not exist.
        ImportError: the library of the method is not installed; for another interpreter, `start` raises it.
    """
    listed = _LISTED.get(name)
    if listed is None and ":" in name and name.split(":")[0] not in _KINDS:
        return _outside(name)
    if listed is None:
        close = difflib.get_close_matches(name, methods(), n=3) or list(methods()[:3])
        raise DataError(f"a method's name must be one of methods(), such as {close}, got {name!r}")
    if python is not None:
        if shutil.which(python) is None:
            raise DataError(f"python must be an interpreter that can be run, got {python!r}")
        return SubprocessMethod(name, python)
    if missing := [module for module in listed.modules if find_spec(module) is None]:
        needed = " and ".join(missing)
        raise ImportError(f"the method {name!r} needs {needed}: {listed.install}")
    return listed.make()


def _outside(name: str) -> AnyMethod:
    method = import_attribute("a method", name)
    if isinstance(method, type) or not isinstance(method, Method | OutcomeMethod):
        law = f"{name} must be an object with `name` and `start`, or `start_outcomes`"
        raise DataError(f"{law}, got {described(method)}")
    return method

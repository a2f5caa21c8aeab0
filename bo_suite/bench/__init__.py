"""Comparing optimisers over suites of problems: runs, replicates, statistics and reports.

Names are imported when they are used: a method in a process of its own needs few of them.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bo_suite.bench.method import (
        AnyMethod,
        Method,
        OutcomeMethod,
        OutcomeRun,
        OutcomeTask,
        Run,
        Task,
    )
    from bo_suite.bench.peers import BoSuite, SubprocessMethod, get_method, methods
    from bo_suite.bench.records import Records
    from bo_suite.bench.replicates import Replicates, run_replicates
    from bo_suite.bench.reporting import report
    from bo_suite.bench.runner import run_suite
    from bo_suite.bench.simulation import Simulation, simulate
    from bo_suite.bench.statistics import Comparison, compare
    from bo_suite.bench.suite import Suite, get_suite, suites

__all__ = [
    "AnyMethod",
    "BoSuite",
    "Comparison",
    "Method",
    "OutcomeMethod",
    "OutcomeRun",
    "OutcomeTask",
    "Records",
    "Replicates",
    "Run",
    "Simulation",
    "SubprocessMethod",
    "Suite",
    "Task",
    "compare",
    "get_method",
    "get_suite",
    "methods",
    "report",
    "run_replicates",
    "run_suite",
    "simulate",
    "suites",
]


_HOMES = {
    "method": ("AnyMethod", "Method", "OutcomeMethod", "OutcomeRun", "OutcomeTask", "Run", "Task"),
    "peers": ("BoSuite", "SubprocessMethod", "get_method", "methods"),
    "records": ("Records",),
    "replicates": ("Replicates", "run_replicates"),
    "reporting": ("report",),
    "runner": ("run_suite",),
    "simulation": ("Simulation", "simulate"),
    "statistics": ("Comparison", "compare"),
    "suite": ("Suite", "get_suite", "suites"),
}


def __getattr__(name: str) -> Any:
    if name == "Isolated":
        warnings.warn("Isolated is now SubprocessMethod", DeprecationWarning, stacklevel=2)
        name = "SubprocessMethod"
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

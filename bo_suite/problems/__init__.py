"""Problems to compare optimisers on: test functions with known minima, models to tune, tables of models."""

import difflib

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.problems.fidelity import FIDELITY, fidelity_problem
from bo_suite.problems.model_choice import MODEL_CHOICE
from bo_suite.problems.synthetic import synthetic_names, synthetic_problem
from bo_suite.problems.tabular import TABLES, tabular_names, tabular_problem
from bo_suite.problems.tuning import TUNING, tuning_problem
from bo_suite.problems.wrappers import embedded, mixed, noisy, shifted

__all__ = ["Problem", "embedded", "get_problem", "mixed", "noisy", "problems", "shifted"]


def problems() -> tuple[str, ...]:
    """Names of all problems that are available here.

    A function that exists in every dimension is listed in one. The tables of the extra `bo-suite[tables]` are
    listed if it is installed.
    """
    return (*synthetic_names(), *FIDELITY, *TUNING, *MODEL_CHOICE, *tabular_names())


def get_problem(name: str) -> Problem:
    """The problem of a name, such as `branin`, `hartmann6`, `ackley20` or `svm_digits`.

    Raises:
        DataError: no problem has the name, the function does not exist in the dimension, or the library of
            a table is not installed.
    """
    if name in FIDELITY:
        return fidelity_problem(name)
    if name in TABLES:
        return tabular_problem(name)
    models = TUNING | MODEL_CHOICE
    problem = tuning_problem(name, models[name]) if name in models else synthetic_problem(name)
    if problem is None:
        close = difflib.get_close_matches(name, (*problems(), *TABLES), n=3) or list(problems()[:3])
        raise DataError(f"a problem's name must be one of problems(), such as {close}, got {name!r}")
    return problem

"""Problems to try optimisers on: test functions with known minima, and models to tune."""

import difflib

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.problems.fidelity import FIDELITY, fidelity_problem
from bo_suite.problems.synthetic import synthetic_names, synthetic_problem
from bo_suite.problems.tuning import TUNING, tuning_problem
from bo_suite.problems.wrappers import embedded, mixed, noisy, shifted

__all__ = ["Problem", "embedded", "get_problem", "mixed", "noisy", "problems", "shifted"]


def problems() -> tuple[str, ...]:
    """Names of all problems; a function of any dimension is listed in one of them."""
    return (*synthetic_names(), *FIDELITY, *TUNING)


def get_problem(name: str) -> Problem:
    """The problem of a name, such as `branin`, `hartmann6`, `ackley20` or `svm_digits`.

    Raises:
        DataError: a name that no problem has, or a dimension that a function does not exist in.
    """
    if name in FIDELITY:
        return fidelity_problem(name)
    problem = tuning_problem(name) if name in TUNING else synthetic_problem(name)
    if problem is None:
        close = difflib.get_close_matches(name, problems(), n=3) or list(problems()[:3])
        raise DataError(f"a problem's name must be one of problems(), such as {close}, got {name!r}")
    return problem

"""The exception tree.

BoSuiteError
├── SpaceError (ValueError)          a search space, or a point of it, breaks a rule
│   ├── SpaceExhausted               every point of a finite space has been suggested
│   └── UnknownParameter (KeyError)  a name that no parameter of a space has
├── DataError (ValueError)           observations that no surrogate can use
├── TrialError (ValueError)          an ask, tell or fail that the history refuses
├── FitError (RuntimeError)          a surrogate could not be fitted
├── NumericalError (ArithmeticError) a matrix is not positive definite, or not finite
├── WorkersDied (RuntimeError)       worker processes died with all that they were given
└── StorageError (RuntimeError)      a history file that cannot be used
"""


class BoSuiteError(Exception):
    """Root of every error that bo_suite raises on purpose."""


class SpaceError(BoSuiteError, ValueError):
    """A search space, or a point of it, breaks a rule."""


class SpaceExhausted(SpaceError):
    """Every point of a finite space has been suggested already."""


class UnknownParameter(SpaceError, KeyError):
    """A name that no parameter of a space has."""

    __str__ = Exception.__str__  # a KeyError's is the repr of its message


class DataError(BoSuiteError, ValueError):
    """Observations that no surrogate can use."""


class TrialError(BoSuiteError, ValueError):
    """An ask, tell or fail that the history refuses."""


class FitError(BoSuiteError, RuntimeError):
    """A surrogate could not be fitted."""


class NumericalError(BoSuiteError, ArithmeticError):
    """A matrix is not positive definite, bounded jitter included, or not finite."""


class WorkersDied(BoSuiteError, RuntimeError):
    """Worker processes died with every task that they were given, before one had ended."""


class StorageError(BoSuiteError, RuntimeError):
    """A history file that cannot be used."""

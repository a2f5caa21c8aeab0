"""The exception tree.

BoSuiteError
├── ArgumentError (ValueError)       an argument of a function or class is wrong
├── SpaceError (ValueError)          a search space, or a point of it, breaks a rule
│   ├── SpaceExhausted               every point of a finite space has been suggested
│   └── UnknownParameter (KeyError)  the space has no parameter of this name
├── DataError (ValueError)           observations that no surrogate can use
│   └── TableError                   rows of a table that are not what they should be
├── TrialError (ValueError)          an ask, tell or fail that breaks a rule
│   ├── BudgetSpent                  the history has as many trials as were allowed
│   └── SupersededError              an outcome of an attempt that another one has taken the place of
├── FitError (RuntimeError)          a surrogate could not be fitted
├── NumericalError (ArithmeticError) a matrix is not positive definite, or not finite
├── WorkersDied (RuntimeError)       worker processes died with all their tasks
└── StorageError (RuntimeError)      a file that cannot be used

New code raises ArgumentError for a wrong argument, and the others only for what their names say. Where
version 0.8 raised DataError or TrialError for an argument, and said so, this version does, too.
"""


class BoSuiteError(Exception):
    """Root of every error that bo_suite raises on purpose."""


class ArgumentError(BoSuiteError, ValueError):
    """An argument of a function or class is wrong, whatever the data are."""


class SpaceError(BoSuiteError, ValueError):
    """A search space, or a point of it, breaks a rule."""


class SpaceExhausted(SpaceError):
    """Every point of a finite space has been suggested already."""


class UnknownParameter(SpaceError, KeyError):
    """The space has no parameter of this name."""

    __str__ = Exception.__str__  # that of KeyError is the repr of its message


class DataError(BoSuiteError, ValueError):
    """Observations that no surrogate can use: wrong shapes, or values that are not finite."""


class TableError(DataError):
    """Rows of a table that are not what they should be.

    Args:
        requirement: what must hold, and what was got, in one sentence.
        faults: a line about each of these rows.
    """

    def __init__(self, requirement: str, faults: tuple[str, ...]) -> None:
        super().__init__(requirement, faults)
        self.requirement, self.faults = requirement, faults

    def __str__(self) -> str:
        return "\n".join((self.requirement, *self.faults))


class TrialError(BoSuiteError, ValueError):
    """An ask, tell or fail that breaks a rule: an unknown trial, one that has ended, or a wrong outcome."""


class BudgetSpent(TrialError):
    """The history has as many trials as were allowed, apart from withdrawn ones."""


class SupersededError(TrialError):
    """An outcome of an attempt that another one has taken the place of; it is kept beside the trials."""


class FitError(BoSuiteError, RuntimeError):
    """A surrogate could not be fitted."""


class NumericalError(BoSuiteError, ArithmeticError):
    """A matrix is not positive definite, bounded jitter included, or not finite."""


class WorkersDied(BoSuiteError, RuntimeError):
    """Worker processes died with all their tasks before any task had ended."""


class StorageError(BoSuiteError, RuntimeError):
    """A file that cannot be used: missing, damaged, not writable, or of another run."""

"""Named sets of problems to compare optimisers on, and problems from the user's modules."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bo_suite.errors import DataError
from bo_suite.problems import Problem, embedded, get_problem, mixed, noisy, shifted
from bo_suite.problems.field import FIELD, FIELD_PROBLEMS
from bo_suite.problems.model_choice import MODEL_CHOICE
from bo_suite.problems.outcomes import OUTCOME_PROBLEMS, OUTCOME_SUITES, AnyProblem, OutcomeProblem
from bo_suite.problems.tabular import TABLES
from bo_suite.problems.tuning import TUNING
from bo_suite.values.describe import described
from bo_suite.values.imports import import_attribute


@dataclass(frozen=True)
class Suite:
    """A named set of problems, which are made by `build`.

    Attributes:
        name: Identifies the suite.
        description: Its purpose, in a sentence.
        problems: Functions without arguments that make one problem each.

    Raises:
        DataError: an empty name or description, no problems, or an entry that is not a function.
    """

    name: str
    description: str
    problems: tuple[Callable[[], AnyProblem], ...]

    def __post_init__(self) -> None:
        for field in (self.name, self.description):
            if not isinstance(field, str) or not field:
                raise DataError(
                    f"a suite's name and description must be non-empty strings, got {described(field)}"
                )
        if not isinstance(self.problems, tuple) or not self.problems:
            raise DataError(f"a suite's problems must be a non-empty tuple, got {described(self.problems)}")
        for make in self.problems:
            if not callable(make) or isinstance(make, Problem | OutcomeProblem):
                raise DataError(f"a suite's problems must be functions that make them, got {described(make)}")

    def build(self) -> tuple[AnyProblem, ...]:
        """The problems.

        Raises:
            DataError: a result is not a Problem, two have the same name, or a library is missing.
        """
        return _distinct([make() for make in self.problems], f"the suite {self.name}")


def _distinct(problems: list[AnyProblem], source: str) -> tuple[AnyProblem, ...]:
    """The problems; raises a DataError unless all are Problems with different names."""
    if others := [problem for problem in problems if not isinstance(problem, Problem | OutcomeProblem)]:
        raise DataError(f"the problems of {source} must be Problems, got {described(others[0])}")
    names = [problem.name for problem in problems]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"the problems of {source} must have different names, got {duplicates} more than once"
        )
    return tuple(problems)


MADE: dict[str, Callable[[], Problem]] = {
    "shifted_levy4": lambda: shifted(get_problem("levy4")),
    "shifted_ackley5": lambda: shifted(get_problem("ackley5")),
    "shifted_levy10": lambda: shifted(get_problem("levy10")),
    "shifted_ackley20": lambda: shifted(get_problem("ackley20")),
    "shifted_levy20": lambda: shifted(get_problem("levy20")),
    "hartmann6_in_20d": lambda: embedded(get_problem("hartmann6"), 20),
    "branin_in_50d": lambda: embedded(get_problem("branin"), 50),
    "noisy_branin": lambda: noisy(get_problem("branin"), 2.0),
    "noisy_hartmann3": lambda: noisy(get_problem("hartmann3"), 0.2),
    "noisy_hartmann6": lambda: noisy(get_problem("hartmann6"), 0.2),
    "noisy_shifted_levy4": lambda: noisy(shifted(get_problem("levy4")), 1.0),
    "noisy_styblinski_tang5": lambda: noisy(get_problem("styblinski_tang5"), 5.0),
    "noisy_shifted_ackley5": lambda: noisy(shifted(get_problem("ackley5")), 0.5),
    "mixed_branin": lambda: mixed(get_problem("branin"), integers=(0,), levels=21),
    "mixed_rosenbrock5": lambda: mixed(get_problem("rosenbrock5"), integers=(0, 2, 4), levels=11),
    "mixed_hartmann6": lambda: mixed(get_problem("hartmann6"), ordered=(5,), unordered=(0, 3)),
    "mixed_shifted_levy6": lambda: mixed(shifted(get_problem("levy6")), integers=(1, 3), unordered=(2, 5)),
    "mixed_styblinski_tang5": lambda: mixed(
        get_problem("styblinski_tang5"), integers=(0, 1), ordered=(2,), unordered=(3, 4), levels=6
    ),
}
"""Problems made from others, by name. Results are stored by name: a changed recipe needs a new name."""


def _suite(name: str, description: str, names: tuple[str, ...]) -> Suite:
    return Suite(name, description, tuple(partial(named_problem, problem) for problem in names))


def named_problem(name: str) -> AnyProblem:
    """The problem of a name: of `get_problem`, made from these by the suites, of `field`, or of outcomes.

    Raises:
        DataError: no problem has the name, or `get_problem` raises it.
    """
    if name in MADE:
        return MADE[name]()
    if name in FIELD_PROBLEMS:
        return FIELD_PROBLEMS[name]()
    if name in OUTCOME_PROBLEMS:
        return OUTCOME_PROBLEMS[name]()
    try:
        return get_problem(name)
    except DataError as error:
        others = (*suites(), *MADE, *FIELD_PROBLEMS, *OUTCOME_PROBLEMS)
        close = difflib.get_close_matches(name, others, n=3) or list(suites())
        raise DataError(f"{error}; names of suites and of their problems include {close}") from None


_SYNTHETIC = (
    *("branin", "goldstein_price", "eggholder", "hartmann3", "shekel", "shifted_levy4"),
    *("shifted_ackley5", "rosenbrock5", "michalewicz5", "hartmann6"),
)
_NOISY = (
    *("noisy_branin", "noisy_hartmann3", "noisy_shifted_levy4", "noisy_styblinski_tang5"),
    *("noisy_shifted_ackley5", "noisy_hartmann6"),
)
_MIXED = (
    *("mixed_branin", "mixed_rosenbrock5", "mixed_styblinski_tang5", "mixed_hartmann6"),
    "mixed_shifted_levy6",
)
_HIGH = (
    *("hartmann6_in_20d", "shifted_ackley20", "shifted_levy20", "rosenbrock20", "styblinski_tang20"),
    "branin_in_50d",
)

_OUTCOMES = {
    "constrained": "one objective under constraints, of BoTorch",
    "constrained-field": "one objective under constraints, of COCO and bocode (extra `field`)",
    "multi-objective": "two to four objectives: functions of BoTorch, models to tune (extra `objectives`)",
    "constrained-multi-objective": "two objectives under constraints, of BoTorch (extra `objectives`)",
}
"""Descriptions of the suites of problems with several outcomes."""

_SUITES = {
    suite.name: suite
    for suite in (
        _suite(
            "smoke",
            "three cheap problems for a first try: smooth, noisy, and with integers and categories",
            ("branin", "noisy_hartmann6", "mixed_shifted_levy6"),
        ),
        _suite(
            "synthetic",
            "well-known functions in 2 to 6 dimensions, none with its minimum at the centre of the box",
            _SYNTHETIC,
        ),
        _suite("noisy", "functions in 2 to 6 dimensions, observed with Gaussian noise", _NOISY),
        _suite("mixed", "functions of real, integer, ordered and categorical parameters together", _MIXED),
        _suite("high-dimensional", "functions of 20 to 50 parameters, of which few matter in some", _HIGH),
        _suite("tuning", "models of scikit-learn to tune, on data that comes with it", tuple(TUNING)),
        _suite(
            "model-choice",
            "the choice of a model of scikit-learn with its parameters: conditional spaces",
            tuple(MODEL_CHOICE),
        ),
        _suite("tabular", "networks trained at every point of a grid (extra `tables`)", tuple(TABLES)),
        _suite("field", "all of the suites field-... (extra `field`)", tuple(FIELD_PROBLEMS)),
        *(
            _suite(f"field-{kind}", f"{kind} problems that others wrote (extra `field`)", tuple(recipes))
            for kind, recipes in FIELD.items()
        ),
        *(_suite(name, _OUTCOMES[name], tuple(recipes)) for name, recipes in OUTCOME_SUITES.items()),
    )
}


def suites() -> tuple[str, ...]:
    """Names of all suites."""
    return tuple(_SUITES)


def get_suite(name: str) -> Suite:
    """The suite of a name, such as `smoke` or `synthetic`.

    Raises:
        DataError: no suite has the name.
    """
    if name not in _SUITES:
        close = difflib.get_close_matches(name, suites(), n=3) or list(suites())
        raise DataError(f"a suite's name must be one of suites(), such as {close}, got {name!r}")
    return _SUITES[name]


def problems_of(spec: str) -> tuple[AnyProblem, ...]:
    """The problems of a text such as `synthetic`, `branin,noisy_hartmann6` or `mine:problems`.

    The text lists, separated by commas, names of suites, names of problems, and module:attribute. The module
    is importable, also from the current folder; the attribute is a Problem or an OutcomeProblem, a tuple of
    these, or a Suite.

    Raises:
        DataError: an unknown name, an import that fails, or two problems of the same name.
    """
    problems: list[AnyProblem] = []
    for name in spec.split(","):
        problems += _named(name.strip())
    return _distinct(problems, repr(spec))


def _named(name: str) -> tuple[AnyProblem, ...]:
    if ":" in name:
        return _imported(name)
    return get_suite(name).build() if name in _SUITES else (named_problem(name),)


def _imported(name: str) -> tuple[AnyProblem, ...]:
    attribute = import_attribute("a problem", name)
    if isinstance(attribute, Suite):
        return attribute.build()
    if isinstance(attribute, Problem | OutcomeProblem):
        return (attribute,)
    if isinstance(attribute, tuple | list) and attribute:
        return _distinct(list(attribute), name)
    raise DataError(f"{name} must be a Problem, a tuple of Problems or a Suite, got {described(attribute)}")

"""The constraints of a space: comparisons stated as text, and functions of a point."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.space.comparison import Comparison, comparisons_in, has_no_integers
from bo_suite.space.emptiness import contradictory
from bo_suite.space.fixed import Fixed
from bo_suite.space.mixture import Mixture
from bo_suite.space.parameters import Parameter
from bo_suite.space.table import Table
from bo_suite.values.describe import described, error_text
from bo_suite.values.numbers import bool_of

Function = Callable[[dict[str, Any]], bool]

Constraint = str | Function | Mixture
"""What a user states: a text, a function of a point that returns whether it is allowed, or a Mixture."""


@dataclass(frozen=True)
class Predicate:
    """A function of a point that returns whether it is allowed.

    Attributes:
        name: of the function, which files hold.
        function: None in a space from a file: it has to be given again before points can be chosen.
    """

    name: str
    function: Function | None = field(compare=False)

    def is_met(self, params: Mapping[str, Any]) -> bool:
        """Whether a point is allowed; a function that has to be given again allows every point.

        Raises:
            SpaceError: the function raises an exception, or returns neither True nor False.
        """
        if self.function is None:
            return True
        law = f"the constraint function {self.name!r} must return True or False"
        try:
            answer = self.function(dict(params))
        except Exception as error:
            raise SpaceError(f"{law}, got {error_text(error)} at {described(dict(params))}") from error
        allowed = bool_of(answer)
        if allowed is None:
            raise SpaceError(f"{law}, got {described(answer, 100)} at {described(dict(params))}")
        return allowed


@dataclass(frozen=True, eq=False)
class Constraints:
    """The constraints of a space, in order; iteration gives texts and functions.

    Attributes:
        stated: a text or a Predicate each.
        comparisons: of the texts.
        outside: values of parameters that the space of the constraints does not have.
        table: the candidates, which meet all others; None if the space has none.
    """

    stated: tuple[str | Predicate, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    outside: Mapping[str, Any] = field(default_factory=dict)
    table: Table | None = None

    @staticmethod
    def of(
        constraints: object, parameters: Mapping[str, Parameter | Fixed], candidates: object = None
    ) -> "Constraints":
        """The constraints that a user states about parameters; candidates that break one are left out.

        Raises:
            SpaceError: they are no list of texts, functions and Mixtures, a text is wrong, or no point can
                meet them all; or the candidates are no table of points, or all break a constraint.
        """
        if isinstance(constraints, Constraints) and candidates is None:
            constraints.check(parameters)
            return constraints
        constraints = constraints.stated if isinstance(constraints, Constraints) else constraints
        law = "constraints must be a list of texts such as 'a + b <= 1', functions of a point and Mixtures"
        if isinstance(constraints, str | bytes) or not isinstance(constraints, Sequence):
            raise SpaceError(f"{law}, got {described(constraints)}")
        stated = tuple(_stated(law, one) for one in constraints)
        if repeated := [one for index, one in enumerate(stated) if one in stated[:index]]:
            what = repeated[0].name if isinstance(repeated[0], Predicate) else repeated[0]
            raise SpaceError(f"the constraints of a space must differ, got {what!r} twice")
        for name, present in (("constraints", stated), ("candidates", candidates is not None)):
            if present and name in parameters:
                raise SpaceError(
                    f"a parameter of a space with {name} must not have the name {name!r}, which files use "
                    "for these"
                )
        texts = [one for one in stated if isinstance(one, str)]
        made = Constraints(stated, tuple(one for text in texts for one in comparisons_in(text, parameters)))
        made.check_activity(parameters)
        made.check(parameters)
        return made if candidates is None else made._with_candidates(Table.of(candidates, parameters))

    def _with_candidates(self, table: Table) -> "Constraints":
        """The constraints with those candidates that meet all of them."""
        if not self.stated:
            return replace(self, table=table)
        tests: tuple[Comparison | Predicate, ...] = (*self.comparisons, *self.predicates)
        if (allowed := table.allowed(lambda point: all(one.is_met(point) for one in tests))) is None:
            raise SpaceError(f"a candidate must meet all constraints, got {len(table)} that each break one")
        return replace(self, table=allowed)

    def __iter__(self) -> Iterator[str | Function | Predicate]:
        return (one if isinstance(one, str) or one.function is None else one.function for one in self.stated)

    def __len__(self) -> int:
        return len(self.stated)

    def __bool__(self) -> bool:
        return bool(self.stated) or self.table is not None

    def __repr__(self) -> str:
        return f"[{', '.join(repr(one) if isinstance(one, str) else one.name for one in self.stated)}]"

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What a table of the space says of each: "constraint", and its text or the name of its function.

        Of candidates it says how many there are.
        """
        of_table = [] if self.table is None else [("candidates", repr(self.table))]
        return [("constraint", one if isinstance(one, str) else one.name) for one in self.stated] + of_table

    @property
    def predicates(self) -> tuple[Predicate, ...]:
        """The constraints that are functions."""
        return tuple(one for one in self.stated if isinstance(one, Predicate))

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions that are known."""
        return tuple(one.function for one in self.predicates if one.function is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the functions that have to be given again."""
        return tuple(one.name for one in self.predicates if one.function is None)

    @property
    def form(self) -> list[Any]:
        """JSON form: texts, and names of functions."""
        return [one if isinstance(one, str) else {"function": one.name} for one in self.stated]

    @property
    def forms(self) -> dict[str, Any]:
        """The JSON forms of the constraints and of the candidates by name, of those that there are."""
        stated = {"constraints": self.form} if self.stated else {}
        return stated if self.table is None else {**stated, "candidates": self.table.form}

    @property
    def inner(self) -> tuple[Comparison, ...]:
        """The comparisons with the values of the parameters outside, of those that the space has."""
        given = [one.with_values(self.outside) for one in self.comparisons]
        return tuple(one for one in given if one is not None)

    def check(self, parameters: Mapping[str, Parameter | Fixed]) -> None:
        """Raises a SpaceError if comparisons contradict each other, or one has no solution in steps.

        Of candidates one must have all fixed values.
        """
        if self.table is not None and not self.table.matches(parameters):
            fixed = {name: one.value for name, one in parameters.items() if isinstance(one, Fixed)}
            raise SpaceError(
                f"one of the {len(self.table)} candidates must have all given values, got {described(fixed)}"
            )
        inner = self.inner
        for comparison in inner:
            if has_no_integers(comparison, parameters):
                raise SpaceError(
                    f"the constraint {comparison.text!r} must have a solution in the steps of its "
                    "parameters, got none"
                )
        if texts := contradictory(inner, parameters):
            fixed = {name: one.value for name, one in parameters.items() if isinstance(one, Fixed)}
            where = f"within the ranges and with {fixed} fixed" if fixed else "within the ranges"
            raise SpaceError(
                f"a point that meets the constraints must exist, got none {where} for {list(texts)}"
            )

    def check_activity(self, parameters: Mapping[str, Parameter | Fixed]) -> None:
        """Raises a SpaceError if a text uses a parameter that is not always active."""
        for comparison in self.comparisons:
            for name, _ in comparison.coefficients:
                if parameters[name].when is not None:
                    raise SpaceError(
                        f"the constraint {comparison.text!r} uses {name!r}, which is only active when "
                        f"{parameters[name].when}; state it as a function of a point"
                    )

    def check_point(self, params: Mapping[str, Any]) -> None:
        """Raises a SpaceError if a point breaks a constraint, with the constraint and by how much."""
        point = {**self.outside, **params}
        for comparison in self.comparisons:
            if not comparison.is_met(point):
                values = described({name: point[name] for name, _ in comparison.coefficients})
                raise SpaceError(
                    f"the constraint {comparison.text!r} must hold, got {values}, off by "
                    f"{comparison.violation(point)}"
                )
        for predicate in self.predicates:
            if not predicate.is_met(point):
                raise SpaceError(
                    f"the constraint function {predicate.name!r} must return True, got False at "
                    f"{described(point)}"
                )
        if self.table is not None and not self.table.has(point):
            raise SpaceError(
                f"a point must be one of the {len(self.table)} candidates, exactly as given, got "
                f"{described(point)}"
            )

    def without(self, values: Mapping[str, Any]) -> "Constraints":
        """The constraints of a space that lacks some parameters, which have these values."""
        table = None if self.table is None else self.table.without(values)
        return replace(self, outside={**self.outside, **values}, table=table)

    def with_functions(self, functions: Sequence[object]) -> "Constraints":
        """The constraints with functions in place of those of the same names that have to be given again.

        Raises:
            SpaceError: one is not a function, or has a name that none of the constraints has.
        """
        law = "functions must be a list of the constraint functions of the space"
        if isinstance(functions, str) or not isinstance(functions, Sequence):
            raise SpaceError(f"{law}, got {described(functions)}")
        named = {}
        for function in functions:
            predicate = _stated(law, function)
            if not isinstance(predicate, Predicate):
                raise SpaceError(f"{law}, got {described(function)}")
            named[predicate.name] = predicate
        names = [one.name for one in self.predicates]
        if unknown := [name for name in named if name not in names]:
            raise SpaceError(f"{law}, which are {names}, got unknown {unknown}")
        stated = (named.get(one.name, one) if isinstance(one, Predicate) else one for one in self.stated)
        return replace(self, stated=tuple(stated))


NONE = Constraints()
"""The constraints of a space that has none."""


def constraints_of(form: Mapping[str, Any]) -> list[str | Predicate]:
    """The constraints in the JSON or TOML form of a space: its list `constraints`; a parameter is a table.

    Raises:
        SpaceError: an item is neither a text nor the name of a function, or the list is empty.
    """
    items = form.get("constraints")
    if not isinstance(items, list):
        return []
    law = "`constraints` in a file must be texts, or tables with the name of a `function`"
    stated: list[str | Predicate] = []
    for item in items:
        if isinstance(item, Mapping) and set(item) == {"function"} and isinstance(item["function"], str):
            stated.append(Predicate(item["function"], None))
        elif isinstance(item, str):
            stated.append(item)
        else:
            raise SpaceError(f"{law}, got {described(item)}")
    if not stated:
        raise SpaceError(f"{law}, got none")
    return stated


def _stated(law: str, constraint: object) -> str | Predicate:
    """A constraint as the space holds it."""
    if isinstance(constraint, str | Predicate):
        return constraint
    if isinstance(constraint, Mixture):
        return constraint.text
    if isinstance(constraint, type) or not callable(constraint):
        raise SpaceError(f"{law}, got {described(constraint)}")
    name = getattr(constraint, "__name__", None)
    return Predicate(name if isinstance(name, str) and name else type(constraint).__name__, constraint)

"""Search spaces: named parameters, and their encoding as rows of numbers in [0, 1].

A parameter is either continuous (a `Float` without a step) or a finite list of levels. Searches move a
discrete parameter from level to level; they never round a relaxed value to a level.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bo_suite.errors import SpaceError, UnknownParameter
from bo_suite.space.checks import canonical, check_parameters, is_chosen
from bo_suite.space.constraints import NONE, Constraint, Constraints, constraints_of
from bo_suite.space.files import form_in, parameter_of
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Parameter, Value
from bo_suite.values.copies import Copied
from bo_suite.values.describe import described
from bo_suite.values.display import html_table, shown_line, shown_list, shown_value

if TYPE_CHECKING:
    import jaxtyping as jt
    from torch import Tensor

    from bo_suite.data import Columns
    from bo_suite.space.encoding import Encoding
    from bo_suite.space.region import Region

MOST_PARAMETERS = 21_201
"""Dimensions of torch's Sobol sequences, with which a search begins."""

Params = dict[str, Any]
"""Values by parameter name: each a float, int, str, bool or None."""


@dataclass(frozen=True, eq=False)
class Space:
    """Named parameters, in order; column i of an encoded row belongs to parameter i.

    `space["x"]` is a parameter; `"x" in space` and `len(space)` work as for a dict; iteration gives pairs of
    name and parameter.

    Attributes:
        parameters: by name.
        constraints: rules that every point obeys: texts such as "a + b <= 1", functions of a point that
            return whether it is allowed, and Mixtures.

    Raises:
        SpaceError: no parameters, fidelities and contexts alone, a name that is not a non-empty string, a
            value that is not a parameter, a constraint that is wrong, or constraints that contradict each
            other.
    """

    parameters: Mapping[str, Parameter]
    constraints: Constraints = NONE

    if TYPE_CHECKING:  # the argument may be any sequence of constraints; a Constraints is stored

        def __init__(
            self,
            parameters: Mapping[str, Any],
            constraints: Sequence[Constraint] | Sequence[Any] | Constraints = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        check_parameters(self.parameters)
        object.__setattr__(self, "constraints", Constraints.of(self.constraints, self._by_name))

    def with_fixed(self, values: Params) -> "Space":
        """The space with some parameters fixed at a value; its rows are rows of this space.

        A search over it chooses the other parameters. It is never stored.

        Args:
            values: by name, in canonical form.
        """
        parameters: Any = {name: Fixed(p, values[name]) if name in values else p for name, p in self}
        return Space(parameters, self.constraints)

    def with_functions(self, functions: Sequence[Any]) -> "Space":
        """The space with the constraint functions that a file has names of alone.

        Raises:
            SpaceError: one is not a function, or has a name that none of the constraints has.
        """
        return Space(self.parameters, self.constraints.with_functions(functions))

    @cached_property
    def region(self) -> "Region | None":
        """Where the constraints are met, in rows; None without constraints. Imports torch."""
        if not self.constraints:
            return None
        from bo_suite.space.region import Region

        return Region(self.encoding, self.constraints)

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return dict(self.parameters)

    @cached_property
    def _columns(self) -> tuple[Parameter, ...]:
        """The parameter that each column encodes; a Float with one value becomes a Choice of it."""
        return tuple(
            Choice((parameter.low,), ordered=True)
            if isinstance(parameter, Float) and parameter.levels == 1
            else parameter
            for parameter in self._by_name.values()
        )

    def __iter__(self) -> Iterator[tuple[str, Parameter]]:
        return iter(self._by_name.items())

    def __len__(self) -> int:
        return self.dim

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._by_name

    def __getitem__(self, name: str) -> Parameter:
        if name not in self:
            raise UnknownParameter(
                f"a name must be one of {described(list(self.names))}, got {described(name)}"
            )
        return self._by_name[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(self._by_name)

    def __repr__(self) -> str:
        lines = shown_list([f"{name!r}: {shown_value(parameter)}," for name, parameter in self])
        end = f"}}, constraints={self.constraints!r})" if self.constraints else "})"
        return "\n".join(["Space({", *(shown_line(f"    {line}") for line in lines), shown_line(end)])

    def _repr_html_(self) -> str:
        rows = [(name, shown_value(parameter)) for name, parameter in self] + self.constraints.rows
        return html_table(f"space of {self.dim}", ("parameter", "values"), rows)

    @property
    def dim(self) -> int:
        """Number of encoded columns: one per parameter."""
        return len(self._by_name)

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """Number of values of each column; None for a continuous one."""
        return tuple(parameter.levels for parameter in self._columns)

    @cached_property
    def unordered(self) -> tuple[int, ...]:
        """Columns whose values are only equal or different."""
        return tuple(
            column
            for column, parameter in enumerate(self._columns)
            if isinstance(parameter, Choice) and not parameter.ordered
        )

    @property
    def target_fidelity(self) -> Params:
        """The target, `high`, of each fidelity, by name."""
        return dict(self._target_fidelity)

    @property
    def target(self) -> Params:
        """The old name of `target_fidelity`."""
        warnings.warn("Space.target is now Space.target_fidelity", DeprecationWarning, stacklevel=2)
        return self.target_fidelity

    @cached_property
    def _target_fidelity(self) -> tuple[tuple[str, Value], ...]:
        return tuple((name, p.high) for name, p in self if not isinstance(p, Choice) and p.fidelity)

    @cached_property
    def fidelities(self) -> tuple[int, ...]:
        """Columns of the fidelities with more than one value; the target is encoded as 1."""
        names = self.target_fidelity
        return tuple(column for column, (name, p) in enumerate(self) if name in names and p.levels != 1)

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """Names of the parameters that nature sets, in order."""
        return tuple(name for name, parameter in self if parameter.context)

    @cached_property
    def columns(self) -> "Columns":
        """The kinds of the columns of rows; imports torch."""
        from bo_suite.data import Columns

        between = tuple(
            column
            for column, parameter in enumerate(self._columns)
            if isinstance(parameter, Choice) and parameter.ordered and parameter.retired
        )
        kinds = Columns(self.unordered, self.levels, self.fidelities, (), between)
        return self.restricted(kinds)

    def restricted(self, columns: "Columns") -> "Columns":
        """The columns of a space with more points, with where the next row of this one may be."""
        return replace(columns, fixed=self.fixed, region=self.region)

    @property
    def aspects(self) -> frozenset[str]:
        """Aspects that an acquisition must support to search the space: "fidelities" or none."""
        return frozenset({"fidelities"} if self.fidelities else ())

    @cached_property
    def fixed(self) -> tuple[tuple[int, float], ...]:
        """Columns that `with_fixed` has fixed, each with its encoded position."""
        return tuple(
            (column, parameter.encode(parameter.value))
            for column, (_, parameter) in enumerate(self)
            if isinstance(parameter, Fixed)
        )

    @cached_property
    def cardinality(self) -> int | None:
        """Number of points; None if a column is continuous.

        With constraints it is the number of allowed points if these can be listed, else a bound of it.
        """
        if self.region is not None:
            return self.region.cardinality
        product = 1
        for levels in self.levels:
            if levels is None:
                return None
            product *= levels
        return product

    @cached_property
    def varying_columns(self) -> tuple[int, ...]:
        """Columns of `varying`."""
        columns = [column for column, (_, parameter) in enumerate(self) if _varies(parameter)]
        chosen = [column for column, (_, parameter) in enumerate(self) if is_chosen(parameter)]
        if not set(columns) & set(chosen):
            columns.append(chosen[0])
        return tuple(sorted(columns))

    @property
    def varying(self) -> "Space":
        """The space of the parameters with more than one value, now or before, over which a search runs.

        It is this space if all parameters have more than one value. If fidelities and contexts alone would
        remain, the first other parameter stays.
        """
        if len(self.varying_columns) == len(self):
            return self
        names = [self.names[column] for column in self.varying_columns]
        single = {name: parameter.decode(0.0) for name, parameter in self if name not in names}
        return Space({name: self[name] for name in names}, self.constraints.without(single))

    @cached_property
    def current(self) -> "Space":
        """The space without its retired options: what a user would write."""
        if not any(isinstance(parameter, Choice) and parameter.retired for _, parameter in self):
            return self
        parameters = {name: replace(p, retired=()) if isinstance(p, Choice) else p for name, p in self}
        return Space(parameters, self.constraints)

    def check_searchable(self) -> None:
        """Raises a SpaceError if there are more parameters than a Sobol sequence has dimensions."""
        if self.dim > MOST_PARAMETERS:
            raise SpaceError(
                f"a search takes at most {MOST_PARAMETERS:,} parameters, the dimensions of a Sobol sequence, "
                f"got a Space of {self.dim:,}; leave out the least important"
            )

    def widened(self, rows: "jt.Float[Tensor, '*b k']") -> "jt.Float[Tensor, '*b d']":
        """Rows of `varying` as rows of this space; the other columns are 0."""
        if len(self.varying_columns) == len(self):
            return rows
        wide = rows.new_zeros(*rows.shape[:-1], self.dim)
        wide[..., list(self.varying_columns)] = rows
        return wide

    def check(self, params: object) -> Params:
        """The point in canonical form: every parameter once, in order, each within its range.

        Args:
            params: a dict, or a row with names such as a pandas Series.

        Raises:
            SpaceError: a parameter is missing, unknown, out of range or of the wrong type, or a constraint
                is broken.
        """
        point = canonical(self._by_name, params)
        self.constraints.check_point(point)
        return point

    def accept(self, params: object) -> Params:
        """A point in canonical form that may lie outside of the space, such as that of a past trial.

        Raises:
            SpaceError: a parameter is missing, unknown, of the wrong type or without a position: an option
                that never was one, or a number that is not positive on a log scale.
        """
        return canonical(self._by_name, params, outside=True)

    def contains(self, params: Params) -> bool:
        """Whether a point that the space accepts lies in it."""
        try:
            self.check(params)
        except SpaceError:
            return False
        return True

    def check_some(self, params: object) -> Params:
        """Some parameters of a point in canonical form, in order.

        Raises:
            SpaceError: a parameter is unknown, out of range or of the wrong type, or no point with these
                values meets the constraints.
        """
        some = canonical(self._by_name, params, partial=True)
        if self.constraints and some:
            self.with_fixed(some)
        if len(some) == len(self):
            self.constraints.check_point(some)
        return some

    def at_target(self, params: Params) -> Params:
        """The point with each fidelity at its target; the same point if the space has none."""
        return {**params, **self.target_fidelity}

    def encode(self, points: Sequence[Params]) -> "jt.Float64[Tensor, 'n d']":
        """Rows in [0, 1]^d of points in canonical form."""
        return self.encoding.encode(points)

    def decode(self, rows: "jt.Float[Tensor, 'n d']") -> list[Params]:
        """Points of rows; `encode(decode(rows))` are the nearest rows that encode points."""
        return self.encoding.decode(rows)

    @cached_property
    def encoding(self) -> "Encoding":
        """The map between points and rows of numbers; imports torch."""
        from bo_suite.space.encoding import Encoding

        return Encoding(self.names, self._columns)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: a table of parameters in order, each with its `type` and fields.

        A list of `constraints` comes first if there are any; of functions it has the names.
        """
        form = {name: parameter.to_dict() for name, parameter in self}
        return {"constraints": self.constraints.form, **form} if self.constraints else form

    @staticmethod
    def from_dict(form: Any) -> "Space":
        """The space of a JSON or TOML form.

        Raises:
            SpaceError: the form is not a table of parameters, or a parameter breaks a rule.
        """
        try:
            if not isinstance(form, Mapping):
                raise SpaceError(f"a space must be a table of parameters, got {described(form)}")
            constraints = constraints_of(form)
            names = [name for name in form if not (constraints and name == "constraints")]
            return Space({name: parameter_of(name, form[name]) for name in names}, constraints)
        except RecursionError:
            raise SpaceError(
                "a space must be a table of parameters, got one that is nested too deeply"
            ) from None

    @staticmethod
    def from_file(path: str | Path) -> "Space":
        """The space in a .toml or .json file of at most 10 MB.

        Raises:
            SpaceError: the file is missing, of another kind, too large or not readable, or is not a space.
        """
        return Space.from_dict(form_in(path))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, order, ranges and options: spaces with equal fingerprints are equal."""
        form = json.dumps(list(self.to_dict().items()), allow_nan=False)
        return hashlib.sha256(form.encode()).hexdigest()[:16]


def _varies(parameter: Parameter | Fixed) -> bool:
    """Whether trials may have different values of a parameter."""
    return parameter.levels != 1 or (isinstance(parameter, Choice) and bool(parameter.retired))


Space.parameters = Copied("parameters")  # type: ignore[assignment]

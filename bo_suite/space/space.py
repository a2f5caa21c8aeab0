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
from bo_suite.space.checks import check_parameters, check_roles
from bo_suite.space.conditions import Conditions, with_checked_conditions
from bo_suite.space.constraints import NONE, Constraints
from bo_suite.space.counting import cardinality
from bo_suite.space.files import form_in, parts_of
from bo_suite.space.fixed import Fixed, encoded
from bo_suite.space.parameters import Choice, Parameter, Value
from bo_suite.space.points import part_of_point, whole_point
from bo_suite.space.shown import shown_rows, shown_space
from bo_suite.space.table import Table, digest_of, with_descriptors
from bo_suite.space.varying import columns_that_vary
from bo_suite.values.copies import Copied
from bo_suite.values.describe import described
from bo_suite.values.display import html_table
from bo_suite.values.scalars import named_values

if TYPE_CHECKING:
    import jaxtyping as jt
    from torch import Tensor

    from bo_suite.data import Columns
    from bo_suite.space.encoding import Encoding
    from bo_suite.space.region import Region
    from bo_suite.space.table import Candidates
    from bo_suite.space.table_rows import TableRows

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
        candidates: a DataFrame, or a dict of columns, of the points that alone are suggested; a Table.

    Raises:
        SpaceError: no parameters, fidelities and contexts alone, a name that is not a non-empty string, a
            value that is not a parameter, conditions that are impossible, a constraint that is wrong,
            constraints that contradict each other, or candidates that are not points of the space.
    """

    parameters: Mapping[str, Parameter]
    constraints: Constraints = NONE
    candidates: Table | None = None

    if TYPE_CHECKING:  # of what the arguments may be, a Constraints and a Table are stored

        def __init__(
            self,
            parameters: Mapping[str, Parameter],
            constraints: Sequence[Any] | Constraints = (),
            candidates: "Candidates" = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        check_parameters(self.parameters)
        complete = with_checked_conditions(with_descriptors(self._by_name, self.candidates))
        object.__setattr__(self, "parameters", complete)
        del self.__dict__["_by_name"]
        check_roles(self._by_name)
        checked = Constraints.of(self.constraints, self._by_name, self.candidates)
        object.__setattr__(self, "constraints", checked)
        object.__setattr__(self, "candidates", checked.table)

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
    def region(self) -> "Region | TableRows | None":
        """Where the constraints are met, in rows; None without constraints. Imports torch."""
        if not self.constraints:
            return None
        from bo_suite.space.table_rows import region_of

        return region_of(self.encoding, self.constraints)

    @cached_property
    def unlisted(self) -> "Space":
        """The space without its candidates: all points that meet its constraints."""
        if self.candidates is None:
            return self
        return Space(self.parameters, replace(self.constraints, table=None))

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return dict(self.parameters)

    @cached_property
    def _columns(self) -> tuple[Parameter, ...]:
        """The parameter that each column encodes; a Float with one value becomes a Choice of it."""
        return tuple(map(encoded, self._by_name.values()))

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
        return shown_space(self, self.constraints)

    def _repr_html_(self) -> str:
        return html_table(f"space of {self.dim}", ("parameter", "values"), shown_rows(self, self.constraints))

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
    def conditions(self) -> Conditions:
        """When which parameters are active."""
        return Conditions(self._by_name)

    @cached_property
    def _kinds(self) -> "Columns":
        """The kinds of the columns of rows; imports torch."""
        from bo_suite.space.kinds import kinds_of

        return kinds_of(self, self._columns)

    @cached_property
    def columns(self) -> "Columns":
        """The kinds of the columns of rows, with where the next row may be; imports torch."""
        return self.restricted(self._kinds)

    def restricted(self, columns: "Columns") -> "Columns":
        """The columns of a space with more points, with where the next row of this one may be."""
        region = None if self.region is None else self.region.approached
        return replace(columns, fixed=self.fixed, region=region)

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
        """Number of points, or a bound of it with constraints; None if a continuous one can be active."""
        return cardinality(self.conditions) if self.region is None else self.region.cardinality

    @cached_property
    def open_columns(self) -> tuple[int, ...]:
        """Columns that are not fixed, of parameters that can be active with the fixed values."""
        return tuple(
            column
            for column, (name, parameter) in enumerate(self)
            if not isinstance(parameter, Fixed) and self.conditions.is_possible(name)
        )

    @cached_property
    def parent_columns(self) -> frozenset[int]:
        """Columns that conditions are on."""
        return frozenset(parent for one in self._kinds.conditions for parent, _ in one.parents)

    @cached_property
    def varying_columns(self) -> tuple[int, ...]:
        """Columns of `varying`."""
        return columns_that_vary(self._by_name, self.constraints)

    @property
    def varying(self) -> "Space":
        """The space of the parameters with more than one value, now or before, over which a search runs.

        It is this space if all parameters have more than one value. If fidelities and contexts alone would
        remain, the first other parameter stays.
        """
        if len(self.varying_columns) == len(self):
            return self
        names = [self.names[column] for column in self.varying_columns]
        single = {name: p.decode(0.0) for name, p in self if name not in names and p.when is None}
        return Space(self.conditions.kept(names), self.constraints.without(single))

    @cached_property
    def current(self) -> "Space":
        """The space without its retired options: what a user would write."""
        if not any(isinstance(parameter, Choice) and parameter.retired for _, parameter in self):
            return self
        return Space(self.conditions.without_retired(), self.constraints)

    def widened(self, rows: "jt.Float[Tensor, '*b k']") -> "jt.Float[Tensor, '*b d']":
        """Rows of `varying` as rows of this space; the other columns are 0."""
        if len(self.varying_columns) == len(self):
            return rows
        wide = rows.new_zeros(*rows.shape[:-1], self.dim)
        wide[..., list(self.varying_columns)] = rows
        return wide

    def check(self, params: object) -> Params:
        """The point in canonical form: every active parameter once, in order, each within its range.

        Args:
            params: a dict, or a row with names such as a pandas Series. None and NaN stand for an inactive
                parameter, too.

        Raises:
            SpaceError: a parameter is missing, unknown, inactive, out of range or of the wrong type, or a
                constraint is broken.
        """
        point = whole_point(self, named_values(params), within=True)
        self.constraints.check_point(point)
        return point

    def accept(self, params: object, defaults: Params | None = None) -> Params:
        """A point in canonical form that may lie outside of the space, such as that of a past trial.

        Args:
            params: as in `check`.
            defaults: values of parameters that the point lacks, where they are active.

        Raises:
            SpaceError: a parameter is missing, unknown, inactive, of the wrong type or without a position: an
                option that never was one, or a number that is not positive on a log scale.
        """
        return whole_point(self, named_values(params), within=False, defaults=defaults or {})

    def contains(self, params: Params) -> bool:
        """Whether a point that the space accepts lies in it."""
        try:
            self.check(params)
        except SpaceError:
            return False
        return True

    def check_some(self, params: object) -> Params:
        """Some parameters of a point in canonical form, in order, with the parents that they need.

        If a parameter is given and its parent is not, the parent has the only value with which the parameter
        is active.

        Raises:
            SpaceError: a parameter is unknown, out of range, of the wrong type, inactive, or active with
                several values of a parent that is not given; or no point with these values meets the
                constraints.
        """
        return part_of_point(self, named_values(params))

    def at_target(self, params: Params) -> Params:
        """The point with each fidelity at its target; the same point if the space has none."""
        return {**params, **self.target_fidelity}

    def encode(self, points: Sequence[Params]) -> "jt.Float64[Tensor, 'n d']":
        """Rows in [0, 1]^d of points in canonical form."""
        return self.encoding.encode(points)

    def decode(self, rows: "jt.Float[Tensor, 'n d']") -> list[Params]:
        """Points of rows; `encode(decode(rows))` are the nearest rows that encode points."""
        return self.encoding.decode(rows) if self.region is None else self.region.decode(rows)

    @cached_property
    def encoding(self) -> "Encoding":
        """The map between points and rows of numbers; imports torch."""
        from bo_suite.space.encoding import Encoding

        return Encoding(self.names, self._columns, self._kinds)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: a table of parameters in order, each with its `type` and fields.

        `constraints` and `candidates` come first if there are any; of functions it has the names.
        """
        return {**self.constraints.forms, **{name: parameter.to_dict() for name, parameter in self}}

    @staticmethod
    def from_dict(form: Any) -> "Space":
        """The space of a JSON or TOML form.

        Raises:
            SpaceError: the form is not a table of parameters, or a parameter breaks a rule.
        """
        return Space(*parts_of(form))

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
        forms = self.to_dict() | ({"candidates": digest} if (digest := digest_of(self.candidates)) else {})
        form = json.dumps(list(forms.items()), allow_nan=False)
        return hashlib.sha256(form.encode()).hexdigest()[:16]


Space.parameters = Copied("parameters")  # type: ignore[assignment]

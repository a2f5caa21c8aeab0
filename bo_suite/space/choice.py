"""A parameter that is one of several options."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.space.descriptors import NONE, Numbers, descriptors_of
from bo_suite.space.forms import Value, is_finite, plain_option, set_fields, shown
from bo_suite.space.when import set_when, when_form
from bo_suite.values.describe import described
from bo_suite.values.scalars import check_flags, python_scalar, rounded_like

if TYPE_CHECKING:
    import pandas as pd

_MOST_OPTIONS = 10**6
"""Most options of a Choice, which stores all of them."""


@dataclass(frozen=True)
class Choice:
    """One of several options; ordered options lie on a line, unordered ones are only equal or different.

    Scalars of NumPy and torch become Python scalars. Storages return the options as they are stored here.
    Numbers may be ordered too: neighbours are as far apart as any other neighbours, whatever their values.
    With `context` nature sets the value, such as the shift of the day.

    With `descriptors` unordered options are as alike as these numbers are: the model takes them in place of
    the option, each scaled to [0, 1]. Options then need not be tried one by one.

    Attributes:
        options: that may be suggested.
        ordered: whether they lie on a line.
        retired: options of past trials that are not suggested any more, each with its place on the line of
            the options, whose places are 0, 1, 2, ...; `Optimizer.extend` sets it.
        when: what other parameters must be for this one to be active; None if it always is.
        descriptors: by name a number for each option, in order or by option, as a dict or a DataFrame; or a
            list of names of columns of the candidates of the space. A mapping is stored, in which the numbers
            of retired options come last.

    Raises:
        SpaceError: no options, two equal options, an option that is not a str, finite number, bool or None,
            a flag that is not a bool, a condition that breaks a rule, or descriptors that are of ordered or
            conditional options, do not have a number for each, or are equal for two.
    """

    options: tuple[Value, ...]
    ordered: bool = False
    context: bool = field(default=False, kw_only=True)
    retired: tuple[tuple[Value, float], ...] = field(default=(), kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)
    descriptors: Numbers | tuple[str, ...] = field(default=NONE, kw_only=True)

    if TYPE_CHECKING:  # the argument may be any sequence; a tuple is stored

        def __init__(
            self,
            options: Sequence[Value | np.generic],
            ordered: bool = False,
            *,
            context: bool = False,
            retired: Sequence[tuple[Value, float]] = (),
            when: Mapping[str, Any] | None = None,
            descriptors: "Mapping[str, Any] | Sequence[str] | pd.DataFrame" = NONE,
        ) -> None: ...

    def __post_init__(self) -> None:
        check_flags(self, "ordered", "context")
        set_when(self, "context")
        object.__setattr__(self, "options", tuple(plain_option(option) for option in _listed(self.options)))
        if not self.options:
            raise SpaceError("a Choice must have at least one option, got none")
        if len(self._index) < len(self.options):
            raise SpaceError(f"the options of a Choice must differ, got {_repeated(self.options)}")
        object.__setattr__(self, "retired", tuple(_retired(entry) for entry in self.retired))
        if any(option in self._index for option, _ in self.retired):
            raise SpaceError(f"a retired option must not be an option, got {described(list(self.retired))}")
        options = [*self.options, *dict(self.retired)]
        object.__setattr__(self, "descriptors", descriptors_of(self.descriptors, options))
        if self.descriptors and (self.ordered or self.when is not None):
            kind = "ordered" if self.ordered else "conditional"
            raise SpaceError(
                f"a Choice with descriptors must be unordered and always active, got one that is {kind}"
            )

    def __repr__(self) -> str:
        return shown(self)

    @cached_property
    def _index(self) -> dict[Value, int]:
        return {option: index for index, option in enumerate(self.options)}

    @property
    def levels(self) -> int:
        """Number of options."""
        return len(self.options)

    def index(self, value: object) -> int:
        """Index of the option equal to the value; NaN counts as None, which pandas replaces by it.

        Raises:
            SpaceError: no option equals the value.
        """
        scalar = python_scalar(value)
        if isinstance(scalar, float) and math.isnan(scalar):
            scalar = None
        with suppress(Exception):  # comparing with a user's object may raise anything
            index = self._index.get(scalar)
            rounded = rounded_like(value) if index is None else None
            if rounded is not None:
                equal = [
                    option
                    for option in self.options
                    if isinstance(option, float) and rounded(option) == scalar
                ]
                index = self._index[equal[0]] if len(equal) == 1 else None
            if index is not None:
                return index
        raise SpaceError(f"the value must be one of {described(list(self.options))}, got {described(value)}")

    def accept(self, value: object) -> Value:
        """The option of a past trial, retired or not; raises SpaceError if there is none."""
        scalar = python_scalar(value)
        missing = isinstance(scalar, float) and math.isnan(scalar)  # pandas replaces None by it
        for option, _ in self.retired:
            if option == (None if missing else scalar):
                return option
        return self.check(value)

    def with_past(self, before: "Choice") -> "Choice":
        """This Choice in place of another one, whose other options are retired here.

        On a line, each is placed between the options that it was between.
        """
        places = [*((option, float(index)) for index, option in enumerate(before.options)), *before.retired]
        past = [option for option, _ in sorted(places, key=lambda entry: entry[1])]
        groups: dict[int, list[Value]] = {}
        last = -1 if self.ordered else max(self.levels, 2) - 1  # beyond 1, also if one option is left
        for option in past:
            if option in self._index:
                last = self._index[option] if self.ordered else last
            else:
                groups.setdefault(last, []).append(option)
        retired = [
            (option, last + (index / (len(group) + 1) if self.ordered else index))
            for last, group in groups.items()
            for index, option in enumerate(group, 1)
        ]
        return replace(self, retired=tuple(retired), descriptors=self._with_past(before, dict(retired)))

    @property
    def current(self) -> "Choice":
        """The Choice without its retired options."""
        if not self.retired:
            return self
        numbers: Any = self.descriptors
        if isinstance(numbers, Mapping):
            numbers = {name: of[: self.levels] for name, of in numbers.items()}
        return replace(self, retired=(), descriptors=numbers)

    def _with_past(self, before: "Choice", retired: Iterable[Value]) -> Any:
        """The descriptors, with those that retired options had before."""
        names, past = self.current.descriptors, before.descriptors
        if not isinstance(names, Mapping) or not isinstance(past, Mapping) or (not past and not retired):
            return names
        if set(names) != set(past):
            raise SpaceError(f"descriptors of options must stay {list(past)}, got {list(names)}")
        place = {option: index for index, option in enumerate((*before.options, *dict(before.retired)))}
        lost = [place[option] for option in retired]
        return {name: (*names[name], *(past[name][one] for one in lost)) for name in names}

    def check(self, value: object) -> Value:
        """The option equal to the value; raises SpaceError if no option is."""
        return self.options[self.index(value)]

    def encode(self, value: Value) -> float:
        """Position of an option in [0, 1]; that of a retired one may be beyond."""
        for option, place in self.retired:
            if option == value:
                return place / max(self.levels - 1, 1)
        return float(self.position(np.asarray(self.index(value))))

    def decode(self, unit: float) -> Value:
        """The option whose position is nearest."""
        return self.options[int(self.level(np.asarray(unit)))]

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        return np.asarray(level / max(self.levels - 1, 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        return np.asarray(np.clip(np.rint(unit * (self.levels - 1)), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal probability per option."""
        return np.asarray(np.clip(np.floor(uniform * self.levels), 0, self.levels - 1))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        form = {"type": "choice", "options": list(self.options), "ordered": self.ordered}
        form |= set_fields(self, "context") | when_form(self)
        if isinstance(self.descriptors, Mapping) and self.descriptors:
            form["descriptors"] = {name: list(of) for name, of in self.descriptors.items()}
        return form | ({"retired": [list(entry) for entry in self.retired]} if self.retired else {})


def _retired(entry: object) -> tuple[Value, float]:
    """A retired option and its place, as they are stored."""
    if isinstance(entry, list | tuple) and len(entry) == 2:
        option, place = entry
        if isinstance(place, int | float) and not isinstance(place, bool) and is_finite(place):
            return plain_option(option), float(place)
    raise SpaceError(f"a retired option must be a pair of an option and its place, got {described(entry)}")


def _listed(options: object) -> Sequence[Any]:
    """The options as a sequence; an array or a Series becomes the list of its elements."""
    if not isinstance(options, str | bytes | bytearray | Sequence) and getattr(options, "ndim", 0) == 1:
        with suppress(Exception):  # a user's object may raise anything
            options = options.tolist()  # type: ignore[attr-defined]
    if isinstance(options, str | bytes | bytearray) or not isinstance(options, Sequence):
        raise SpaceError(f"the options of a Choice must be a list, got {described(options)}")
    if len(options) > _MOST_OPTIONS:
        raise SpaceError(f"a Choice has at most {_MOST_OPTIONS} options, got {len(options)}; use an Int")
    return options


def _repeated(options: Sequence[Value]) -> str:
    """The first option that equals an earlier one, in words for an error."""
    first: dict[Value, Value] = {}
    for option in options:
        if option in first:
            other = first[option]
            same = "" if repr(other) == repr(option) else f", since {other!r} == {option!r}"
            return f"{described(option)} twice{same}"
        first[option] = option
    raise AssertionError("some option is repeated")

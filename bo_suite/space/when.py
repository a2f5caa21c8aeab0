"""When a parameter is active, as the user states it: the values that other parameters must have."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from bo_suite.errors import SpaceError
from bo_suite.space.forms import Value, finite, plain_option
from bo_suite.values.describe import described
from bo_suite.values.scalars import python_scalar


class Interval(NamedTuple):
    """A closed interval of numbers, in the user's units."""

    low: float
    high: float


Accepted = Interval | tuple[Value, ...]
"""What a condition accepts of a parent: an interval of numbers, or some values."""


@dataclass(frozen=True, eq=False)
class When(Mapping[str, Accepted]):
    """What a condition accepts of each parent, by name; all of it must hold.

    Attributes:
        parents: names, each with an interval or with values.
    """

    parents: tuple[tuple[str, Accepted], ...]

    @staticmethod
    def of(stated: object) -> "When":
        """The condition that a user states: by name a value, a list of values or a pair (low, high).

        In files an interval is a table of `low` and `high`.

        Raises:
            SpaceError: no parent, a name that is not a non-empty string, an empty list, a value that is not
                an option or a number, or a pair that is not an interval.
        """
        if isinstance(stated, When):
            return stated
        if not isinstance(stated, Mapping) or not stated:
            raise SpaceError(f"`when` must be a dict with at least one parameter, got {described(stated)}")
        for name in stated:
            if not isinstance(name, str) or not name:
                raise SpaceError(f"a name in `when` must be a non-empty string, got {described(name)}")
        return When(tuple((name, _accepted(name, stated[name])) for name in stated))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            name: accepted._asdict() if isinstance(accepted, Interval) else list(accepted)
            for name, accepted in self.parents
        }

    def __getitem__(self, name: str) -> Accepted:
        return dict(self.parents)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.parents))

    def __len__(self) -> int:
        return len(self.parents)

    def __hash__(self) -> int:
        return hash(self.parents)

    def __repr__(self) -> str:
        """The condition as a user writes it."""
        return repr({name: _as_written(accepted) for name, accepted in self.parents})

    def __str__(self) -> str:
        """The condition in words."""
        return " and ".join(_in_words(name, accepted) for name, accepted in self.parents)


def _accepted(name: str, stated: object) -> Accepted:
    """An interval or values of a parent; raises SpaceError if they are neither."""
    if isinstance(stated, Mapping):
        if set(stated) != {"low", "high"}:
            law = f"an interval of {name!r} in `when` must have `low` and `high` alone"
            raise SpaceError(f"{law}, got {described(stated)}")
        return _interval(name, stated["low"], stated["high"])
    if isinstance(stated, tuple):
        if len(stated) != 2:
            law = f"several values of {name!r} in `when` must be a list, and an interval a pair (low, high)"
            raise SpaceError(f"{law}, got {described(stated)}")
        return _interval(name, *stated)
    if getattr(stated, "ndim", 0) == 1:
        with suppress(Exception):  # a user's object may raise anything
            stated = stated.tolist()  # type: ignore[attr-defined]
    listed = stated if isinstance(stated, Sequence) and not isinstance(stated, str | bytes) else [stated]
    if not listed:
        raise SpaceError(f"`when` must have at least one value of {name!r}, got {described(stated)}")
    return tuple(dict.fromkeys(plain_option(value) for value in listed))


def _interval(name: str, low: object, high: object) -> Interval:
    try:
        ends = finite("low", low), finite("high", high)
    except SpaceError as error:
        law = f"a pair for {name!r} in `when` must be an interval (low, high), and several values a list"
        raise SpaceError(f"{law}: {error}") from None
    if not ends[0] <= ends[1]:
        raise SpaceError(f"`low <= high` must hold in an interval of {name!r} in `when`, got ({low}, {high})")
    return Interval(python_scalar(low), python_scalar(high))


def _as_written(accepted: Accepted) -> object:
    if isinstance(accepted, Interval):
        return tuple(accepted)
    return accepted[0] if len(accepted) == 1 else list(accepted)


def _in_words(name: str, accepted: Accepted) -> str:
    if isinstance(accepted, Interval):
        return f"{accepted.low} <= {name} <= {accepted.high}"
    return f"{name} is {described(' or '.join(map(repr, accepted)), 200)[1:-1]}"


def set_when(parameter: Any, *kinds: str) -> None:
    """Stores the condition of a parameter as a When; raises SpaceError if it must not have one.

    Args:
        parameter: that may have a condition.
        kinds: flags with which it must not have one.
    """
    if parameter.when is None:
        return
    object.__setattr__(parameter, "when", When.of(parameter.when))
    for kind in kinds:
        if getattr(parameter, kind):
            raise SpaceError(f"a {kind} must not be conditional, got when={parameter.when!r}")


def when_form(parameter: Any) -> dict[str, Any]:
    """The condition of a parameter in a JSON form; nothing if it is always active."""
    return {} if parameter.when is None else {"when": parameter.when.to_dict()}

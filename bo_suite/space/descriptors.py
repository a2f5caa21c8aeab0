"""Descriptors of the options of a Choice: numbers that say how alike options are."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.space.forms import Value, finite
from bo_suite.values.describe import described


@dataclass(frozen=True, eq=False)
class Numbers(Mapping[str, tuple[float, ...]]):
    """Descriptors by name, each with a number for every option, those of retired options last.

    Attributes:
        pairs: names, each with its numbers.
    """

    pairs: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __getitem__(self, name: str) -> tuple[float, ...]:
        return dict(self.pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return repr({name: list(numbers) for name, numbers in self.pairs})


NONE = Numbers()
"""No descriptors."""

_LAW = (
    "descriptors must be a dict or DataFrame with numbers of each option by name, or a list of names of "
    "columns of the candidates"
)


def descriptors_of(stated: object, options: Sequence[Value]) -> Numbers | tuple[str, ...]:
    """The descriptors that a user states: numbers, or names of columns of the candidates of a space.

    Args:
        stated: for each name a list of numbers in the order of the options, or a mapping of options to
            numbers, such as a Series; or a list of names.
        options: of the Choice, and then its retired ones.

    Raises:
        SpaceError: they are none of these, an option has no finite number, or two options have equal
            descriptors.
    """
    if isinstance(stated, list | tuple) and stated and all(isinstance(name, str) and name for name in stated):
        return tuple(dict.fromkeys(stated))
    by_name = _as_dict(stated)
    if not isinstance(by_name, Mapping) or not all(isinstance(name, str) and name for name in by_name):
        raise SpaceError(f"{_LAW}, got {described(stated)}")
    numbers = Numbers(tuple((name, _numbers(name, by_name[name], options)) for name in by_name))
    _check_different(numbers, options)
    return numbers


def _as_dict(stated: Any) -> Any:
    """The dict of a DataFrame or a Series; anything else as it is."""
    if not callable(getattr(stated, "to_dict", None)):
        return stated
    index = getattr(stated, "index", None)  # pandas would take the last of equal ones
    if not getattr(index, "is_unique", True):
        law = "the index of descriptors must have each option once"
        raise SpaceError(f"{law}, got {described(list(stated.index), 200)}")
    return stated.to_dict()


def _numbers(name: str, values: Any, options: Sequence[Value]) -> tuple[float, ...]:
    """The number of each option."""
    law = f"the descriptor {name!r} must have a number for each of {described(list(options), 200)}"
    by_option = _as_dict(values)
    if isinstance(by_option, Mapping):
        if missing := [option for option in options if option not in by_option]:
            raise SpaceError(
                f"{law}, got none for {described(missing, 200)} but for {described(list(by_option))}"
            )
        values = [by_option[option] for option in options]
    try:
        numbers = tuple(values)
    except TypeError as error:
        raise SpaceError(f"{law}, got {described(values)}") from error
    if isinstance(values, str) or len(numbers) != len(options):
        raise SpaceError(f"{law}, got {described(values)}")
    return tuple(finite(f"the descriptor {name!r}", number) for number in numbers)


def _check_different(numbers: Numbers, options: Sequence[Value]) -> None:
    """Raises SpaceError if two options have the same descriptors."""
    first: dict[tuple[float, ...], Value] = {}
    for option, of_option in zip(options, zip(*numbers.values(), strict=True), strict=False):
        if of_option in first:
            raise SpaceError(
                f"options must differ in a descriptor, got equal ones for {described(first[of_option])} and "
                f"{described(option)}; add one that tells them apart"
            )
        first[of_option] = option


def from_columns(
    names: Sequence[str], choice: str, options: Sequence[Value], columns: Mapping[str, Sequence[Any]]
) -> dict[str, dict[Value, float]]:
    """The descriptors of options that columns of the candidates hold, by name and option.

    Args:
        names: of the columns.
        choice: name of the Choice, whose column holds options.
        options: of the Choice.
        columns: of the candidates.

    Raises:
        SpaceError: a column is missing, has a value that is no number, or has several numbers for an option,
            or none.
    """
    found: dict[str, dict[Value, float]] = {}
    for name in names:
        if name not in columns or choice not in columns:
            raise SpaceError(
                f"descriptors of {choice!r} must be columns of the candidates, got {name!r} of "
                f"{described(list(columns))}"
            )
        if wrong := [option for option in columns[choice] if not isinstance(option, Hashable)]:
            raise SpaceError(f"values of {choice!r} in candidates must be options, got {described(wrong[0])}")
        found[name] = {}
        for option, number in zip(columns[choice], columns[name], strict=True):
            if option not in found[name]:
                found[name][option] = finite(f"the descriptor {name!r} of {described(option)}", number)
            elif found[name][option] != number:
                raise SpaceError(
                    f"a descriptor must have one number for each option, got {name!r} with "
                    f"{found[name][option]} and {described(number)} for {described(option)}"
                )
        if missing := [option for option in options if option not in found[name]]:
            raise SpaceError(
                f"each option must be in a candidate, or have descriptors of its own, got {choice!r} without "
                f"{described(missing, 200)}"
            )
    return found


def scaled(numbers: Numbers) -> tuple[tuple[float, ...], ...]:
    """The descriptors of each option, each mapped to [0, 1] over all options; constant ones become 0."""
    columns = []
    for of_options in numbers.values():
        halves = [0.5 * number for number in of_options]  # whose differences do not overflow
        low, width = min(halves), (max(halves) - min(halves)) or 1.0
        columns.append([(half - low) / width for half in halves])
    return tuple(zip(*columns, strict=True))

"""Values of parameters as text, for tables and the command line."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Choice, Parameter, Value
from bo_suite.space.space import Params, Space
from bo_suite.values.describe import described

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""A number as programs write it; Python's `float` also accepts 1_000 and infinity."""

_MOST_DIGITS = 19
"""Most digits of a text that is read as an int."""


def number_in(text: str, decimal: str = ".") -> int | float | None:
    """The number that a text is, which may be infinite by its size; None if it is none.

    Args:
        text: such as "3", "0.5" or "1e-4"; spaces around it are ignored.
        decimal: "," if a comma may stand for the decimal point.
    """
    plain = text.strip()
    if "." not in plain:
        plain = plain.replace(decimal, ".")
    if not _NUMBER.fullmatch(plain):
        return None
    digits = plain.lstrip("+-")
    return int(plain) if digits.isdigit() and len(digits) <= _MOST_DIGITS else float(plain)


@dataclass(frozen=True, eq=False)
class ParameterText:
    """The text of a parameter's values, in both directions.

    An option that is a string is its own text, unless that is blank or also the text of another option: then
    it has quotation marks, as in JSON. All other values are written as Python writes them.
    """

    parameter: Parameter

    def write(self, value: Value) -> str:
        """The text of a value, which `read` maps back to it exactly."""
        if not isinstance(value, str):
            return repr(value)
        return json.dumps(value) if not value.strip() or value in self._reserved else value

    def read(self, text: str, decimal: str = ".") -> Value:
        """The value that a text stands for, in the range or not.

        An option is found by its text, or else as a word (true, false, none) or as a number; a blank text is
        None. A text that stands for no value is returned unchanged, so that `parameter.check` refuses it.

        Args:
            text: of the value.
            decimal: "," if a comma may stand for the decimal point.
        """
        number = number_in(text, decimal)
        if not isinstance(self.parameter, Choice):
            return text if number is None else number
        for form in (text, text.strip()):
            if form in self._options:
                return self._options[form]
        if text in self._plain:
            return text
        word = text.strip().lower() or "none"
        numbers = [option for option in self._numbers if option == number]
        return self._words[word] if word in self._words else numbers[0] if numbers else text

    @cached_property
    def _all(self) -> tuple[Value, ...]:
        """The options, the retired ones too."""
        assert isinstance(self.parameter, Choice), "a number has no options"
        return (*self.parameter.options, *(option for option, _ in self.parameter.retired))

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset(option for option in self._all if isinstance(option, str))

    @cached_property
    def _numbers(self) -> tuple[int | float, ...]:
        return tuple(option for option in self._all if isinstance(option, int | float))

    @cached_property
    def _reserved(self) -> frozenset[str]:
        """Texts that a string must not have: those of other options, and strings in quotation marks."""
        others = [option for option in self._all if not isinstance(option, str)]
        words = [form for option in others for form in (repr(option), json.dumps(option))]
        return frozenset(words) | frozenset(map(json.dumps, self._plain))

    @cached_property
    def _options(self) -> dict[str, Value]:
        return {self.write(option): option for option in self._all}

    @cached_property
    def _words(self) -> dict[str, Value]:
        words: dict[str, Value] = {"true": True, "false": False, "none": None, "null": None}
        held = [option for option in self._all if option is None or isinstance(option, bool)]
        return {word: value for word, value in words.items() if any(value is option for option in held)}


def values_in(space: Space, assignments: Sequence[str]) -> Params:
    """The values of texts NAME=VALUE by name, not checked against their ranges; a name may contain "=" too.

    Raises:
        SpaceError: a text has no "=", the space has no parameter of its name, or a name occurs twice.
    """
    values: Params = {}
    for assignment in assignments:
        name = name_in(space, assignment)
        if name in values:
            raise SpaceError(f"a parameter must be given once, got {described(name)} twice")
        values[name] = ParameterText(space[name]).read(assignment[len(name) + 1 :])
    return values


def name_in(space: Space, assignment: str) -> str:
    """The longest name of a parameter that a text NAME=VALUE begins with.

    Raises:
        SpaceError: a text has no "=", or the space has no parameter of its name.
    """
    if "=" not in assignment:
        raise SpaceError(f"a value must be given as NAME=VALUE, got {described(assignment)}")
    names = [name for name in space.names if assignment.startswith(f"{name}=")]
    if not names:
        unknown = described(assignment.partition("=")[0])
        raise SpaceError(f"parameters must be among {list(space.names)}, got unknown {unknown}")
    return max(names, key=len)

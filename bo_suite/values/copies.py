"""Copies of nested values, so that changing what an immutable object returns changes nothing else."""

import json
from collections.abc import Mapping
from typing import Any


class Copied:
    """A field of a frozen dataclass that is deep-copied when it is set and each time it is read.

    A string is treated as JSON text, and is decoded when it is read.

    Args:
        name: name of the field.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        value = owner.__dict__[self._name]
        return json.loads(value) if type(value) is str else copied(value)

    def __set__(self, owner: Any, value: Any) -> None:
        owner.__dict__[self._name] = copied(value)


def copied(value: Any) -> Any:
    """A deep copy of nested mappings, lists and tuples; other values are not copied."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value

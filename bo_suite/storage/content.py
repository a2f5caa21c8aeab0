"""Checks of what is read from a file, which anybody may have written and any fault may have changed."""

import hashlib
import json
import math
from typing import Any

from bo_suite.errors import StorageError


def check(fits: bool, what: str, law: str, got: object) -> None:
    """Raises a StorageError unless a value in a file fits.

    Args:
        fits: whether it does.
        what: the value, by file, row and field.
        law: what the value must be.
        got: the value.
    """
    if not fits:
        raise StorageError(f"{what} must be {law}, got {got!r:.100}")


def parsed(what: str, text: object) -> Any:
    """The value of a JSON text.

    Raises:
        StorageError: no text, or no JSON.
    """
    check(isinstance(text, str | bytes), what, "JSON", text)
    try:
        return json.loads(text)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{what} must be JSON, got {text!r:.100}: {error}") from error


def is_whole(value: object, at_least: int | None = None) -> bool:
    """Whether a value is an int, and not too small."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and (at_least is None or value >= at_least)  # type: ignore[operator]


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def digest(value: object) -> str:
    """A hash of a value of JSON, by which a change shows that leaves it valid."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Checks of what is to be stored in a history."""

import json
from collections.abc import Mapping
from typing import Any, SupportsFloat

from bo_suite.errors import TrialError
from bo_suite.space.space import Space
from bo_suite.values.describe import described, plain_text
from bo_suite.values.numbers import require_finite


def require_outcome(value: SupportsFloat, std: SupportsFloat | None) -> dict[str, float | None]:
    """The value and std of a finished trial, by name.

    Raises:
        TrialError: one of them is not finite, or the std is negative.
    """
    number = require_finite("a value must be a finite number (use fail() if there is none)", value)
    requirement = "a std must be a finite number >= 0"
    noise = None if std is None else require_finite(requirement, std)
    if noise is not None and noise < 0:
        raise TrialError(f"{requirement}, got {described(std)}")
    return {"value": number, "std": noise}


def require_traceback(text: str | None) -> str | None:
    """The text, cut to the length that is stored.

    Raises:
        TrialError: it is neither a string nor None.
    """
    if text is not None and not issubclass(type(text), str):
        requirement = "a traceback must be a string, such as traceback.format_exc() returns, or None"
        raise TrialError(f"{requirement}, got {described(text)}")
    return None if text is None else plain_text(text)


def provenance_json(provenance: Mapping[str, Any]) -> str:
    """The provenance of a suggestion as JSON text.

    Raises:
        TrialError: it is not JSON, or contains NaN or infinity.
    """
    try:
        return json.dumps(dict(provenance), allow_nan=False)
    except (TypeError, ValueError) as error:
        requirement = "provenance must be JSON without NaN or infinity"
        raise TrialError(f"{requirement}, got {described(provenance)}") from error


def describe_space_difference(stored: Space, passed: Space) -> str:
    """The parameters in which two spaces differ, or the order if they differ in that alone."""
    old, new = stored.parameters, passed.parameters
    names = [name for name in {**old, **new} if repr(old.get(name)) != repr(new.get(name))]
    if not names:
        return f"in the order {list(old)}, got {list(new)}"
    texts = [f"{name!r}: {old.get(name, 'absent')}, got {new.get(name, 'absent')}" for name in names]
    return "; ".join(texts)

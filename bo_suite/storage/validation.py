"""Checks of arguments before a history stores them."""

import json
from collections.abc import Mapping
from typing import Any

from bo_suite.errors import SupersededError, TrialError
from bo_suite.space.space import Space
from bo_suite.space.table import digest_of
from bo_suite.storage.rows import Row
from bo_suite.values.describe import SHORT, described, plain_text, shortened


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


def check_is_current(law: str, row: Row, attempt: int | None, owner: str) -> None:
    """Raises a TrialError if a trial has ended, or a SupersededError if another attempt is the current one.

    Args:
        law: first part of the message if it has ended.
        row: the row of the trial.
        attempt: the attempt that is to end or to report; None for the only one, or for that of the owner.
        owner: the owner of that attempt.
    """
    if attempt is None and row.attempt > 1 and row.owner != owner:
        raise TrialError(
            f"the attempt must be named, since trial {row.id} was handed out again and is at attempt "
            f"{row.attempt}"
        )
    if attempt is not None and attempt != row.attempt:
        raise SupersededError(
            f"only the current attempt of a trial counts: trial {row.id} was handed out again as attempt "
            f"{row.attempt}, got attempt {attempt}"
        )
    if row.state != "running":
        reason = shortened(row.reason or "", SHORT)
        how = f", with value {row.value}" if row.value is not None else f" ({row.outcomes or reason})"
        raise TrialError(f"{law}: trial {row.id} is already {row.state}{how}")


def describe_space_difference(stored: Space, passed: Space) -> str:
    """The parameters and constraints in which two spaces differ, or the order if in that alone."""
    old, new = stored.parameters, passed.parameters
    names = [name for name in {**old, **new} if repr(old.get(name)) != repr(new.get(name))]
    texts = [f"{name!r}: {old.get(name, 'absent')}, got {new.get(name, 'absent')}" for name in names]
    if stored.constraints.form != passed.constraints.form:
        texts.append(f"constraints: {stored.constraints}, got {passed.constraints}")
    if digest_of(stored.candidates) != digest_of(passed.candidates):
        texts.append(f"other candidates: {stored.candidates}, got {passed.candidates}")
    return "; ".join(texts) or f"in the order {list(old)}, got {list(new)}"

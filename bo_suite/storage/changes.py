"""What was changed in a history after the fact: corrected outcomes, forgotten trials, edits of the space; and
what was told too late."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zlib import crc32

from bo_suite.storage.content import is_number, is_whole, parsed
from bo_suite.storage.database import Database
from bo_suite.storage.headers import row_error
from bo_suite.storage.rows import Row
from bo_suite.storage.trial import STATES
from bo_suite.system.owners import author
from bo_suite.values.copies import Copied

Action = Literal["amend", "forget", "extend", "late"]

_RARE = ("gradient", "params_std")
"""Fields that a change keeps only where there are any."""

_OUTCOME = ("state", "value", "std", "outcomes", "stds", "reason", "transient", *_RARE)
"""Fields of a row that a change keeps."""


@dataclass(frozen=True)
class Change:
    """One change of a history.

    Attributes:
        id: 1, 2, 3, ... in order of making.
        trial: id of the trial; None if the space was changed.
        action: "amend", "forget" or "extend"; "late" for an outcome of an attempt that had been superseded.
        author: user and host.
        made: unix seconds.
        before: what was there: the outcome of a trial (state, value, ...), or the form of the space.
        after: what is there instead; of "late", what was told and not taken.
    """

    id: int
    trial: int | None
    action: Action
    author: str
    made: float
    before: Mapping[str, Any]
    after: Mapping[str, Any]


Change.before, Change.after = Copied("before"), Copied("after")  # type: ignore[assignment]


def outcome_of(row: Row) -> dict[str, Any]:
    """The outcome of a row, by name."""
    return {name: getattr(row, name) for name in _OUTCOME}


def write_change(
    database: Database, action: Action, trial: int | None, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Adds a change, within a transaction."""
    number = database.number("SELECT coalesce(max(id), 0) FROM changes") + 1
    slim = ({k: v for k, v in form.items() if v is not None or k not in _RARE} for form in (before, after))
    forms = (json.dumps(form, allow_nan=False) for form in slim)
    content = (number, trial, action, author(), database.now(), *forms)
    database.write("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*content, _seal(content)))


def read_changes(database: Database) -> list[Change]:
    """All changes, in order of making.

    Raises:
        StorageError: a row is damaged.
    """
    changes = []
    for *content, seal in database.execute("SELECT * FROM changes ORDER BY id"):
        if seal != _seal(tuple(content)):
            raise row_error(database, content[1], f"a change {content[0]!r:.20} that differs from its seal")
        forms = [parsed(f"change {content[0]!r:.20} of {database.name}", text) for text in content[5:]]
        change = Change(*content[:5], *forms)
        if not _is_whole(change, forms):
            raise row_error(database, change.trial, f"a change {change.id!r:.20} that bo_suite has not made")
        changes.append(change)
    return changes


def _is_whole(change: Change, forms: Sequence[Any]) -> bool:
    """Whether a change is one that can be shown: anybody may have written it."""
    if not (all(isinstance(form, dict) for form in forms) and is_number(change.made)):
        return False
    if change.action == "extend" or change.trial is None:
        return change.action == "extend" and change.trial is None
    return change.action in get_args(Action) and all(map(_is_outcome, forms))


def _is_outcome(form: Mapping[str, Any]) -> bool:
    numbers = [form.get("value"), form.get("std")]
    for name in ("outcomes", *_RARE):
        values = {} if form.get(name) is None else parsed(f"{name} of a change", form[name])
        if not isinstance(values, dict):
            return False
        numbers += values.values()
    return (
        form.get("state") in STATES
        and isinstance(form.get("reason"), str | None)
        and (form.get("attempt") is None or is_whole(form["attempt"], 1))
        and all(number is None or is_number(number) for number in numbers)
    )


def _seal(content: tuple[Any, ...]) -> str:
    return f"{crc32(repr(content).encode()):08x}"

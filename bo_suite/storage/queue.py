"""Points that are asked next, before any suggestion."""

import json
from collections.abc import Sequence
from zlib import crc32

from bo_suite.errors import StorageError
from bo_suite.space.space import Params
from bo_suite.storage.content import check, parsed
from bo_suite.storage.database import Database
from bo_suite.storage.trial import Queued


def write_queued(database: Database, points: Sequence[Params]) -> list[Queued]:
    """Adds points at the end, within a transaction, and returns them."""
    queued = []
    for point in points:
        text = json.dumps(point, allow_nan=False)
        database.write("INSERT INTO queue (params, seal) VALUES (?, ?)", (text, _seal(text)))
        queued.append(Queued(database.number("SELECT max(id) FROM queue"), point))
    return queued


def read_queue(database: Database) -> list[Queued]:
    """The points, in order.

    Raises:
        StorageError: a row is damaged.
    """
    queued = []
    for number, text, seal in database.execute("SELECT id, params, seal FROM queue ORDER BY id"):
        if seal != _seal(text):
            raise StorageError(
                f"each queued point must be as it was stored, got point {number!r:.20} of {database.name}, "
                "which was changed since, by its seal"
            )
        name = f"queued point {number!r:.20} of {database.name}"
        point = parsed(name, text)
        check(isinstance(point, dict), name, "values by name", text)
        queued.append(Queued(number, point))
    return queued


def remove_queued(database: Database, numbers: Sequence[int]) -> bool:
    """Removes points, within a transaction; False, with nothing removed, if one of them is gone."""
    if not numbers:
        return True
    present = {number for (number,) in database.execute("SELECT id FROM queue")}
    if not present.issuperset(numbers):
        return False
    for number in numbers:
        database.write("DELETE FROM queue WHERE id = ?", (number,))
    return True


def remove_all_queued(database: Database) -> list[Queued]:
    """Removes all points, within a transaction, and returns them."""
    queued = read_queue(database)
    remove_queued(database, [point.id for point in queued])
    return queued


def _seal(text: object) -> str:
    return f"{crc32(repr(text).encode()):08x}"

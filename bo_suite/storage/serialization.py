"""The JSON form of an acquisition, so that a history can be resumed without naming it again.

A form comes from a file, which anybody may have written: a name in it is looked up in a fixed table of this
package's classes, never imported, and every value is checked against the type that its field declares.
"""

import dataclasses
from functools import cache
from importlib import import_module
from numbers import Integral, Real
from typing import Any, get_type_hints

from bo_suite.acquisition.base import Acquisition
from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.kernels import Kernel
from bo_suite.storage.field_types import is_of_type
from bo_suite.storage.stored_names import ADDED, CLASSES, GIVEN_AGAIN

_NAMES = {place: name for name, place in {**CLASSES, **GIVEN_AGAIN}.items()}
"""Names in files, by where the class is defined."""

_NARROWED: dict[str, Any] = {"kernel": Kernel | None, "mean": float | None}
"""Types of fields that also take objects from outside the package, without these objects."""


def to_form(part: object) -> Any:
    """Nested {"type", "fields"} of this package's frozen dataclasses; {"foreign": repr} of anything else."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, Integral):
        return int(part)
    if isinstance(part, Real):
        return float(part)
    if isinstance(part, tuple):
        return [to_form(item) for item in part]
    kind = type(part)
    if dataclasses.is_dataclass(part) and kind.__module__.split(".")[0] == "bo_suite":
        place = f"{kind.__module__}:{kind.__qualname__}"
        name = _NAMES.get(place, place)
        fields = {f.name: to_form(getattr(part, f.name)) for f in dataclasses.fields(part) if f.init}
        for field in dataclasses.fields(part):
            if field.name in ADDED.get(name, ()) and getattr(part, field.name) == field.default:
                del fields[field.name]
        return {"type": name, "fields": fields}
    return {"foreign": repr(part)}


def from_form(form: object) -> Acquisition:
    """The acquisition that `to_form` was given.

    Raises:
        StorageError: a form that is not an acquisition's, a part that is not of this package or that this
            version does not know, a field that is unknown, or a value that its field does not take.
    """
    try:
        found = _restored(form)
    except RecursionError:
        raise StorageError("a stored acquisition must be nested less deeply than this one") from None
    if not isinstance(found, Acquisition):
        raise StorageError(f"the stored acquisition must be an acquisition, got {form!r:.200}")
    return found


def _restored(form: object) -> Any:
    if form is None or isinstance(form, bool | int | float | str):
        return form
    if isinstance(form, list):
        return tuple(_restored(item) for item in form)
    if not isinstance(form, dict):
        raise StorageError(f"a part of a stored acquisition must be a value of JSON, got {form!r:.200}")
    name, fields = form.get("type"), form.get("fields")
    if "foreign" in form or (isinstance(name, str) and name in GIVEN_AGAIN):
        raise StorageError(
            "an acquisition with parts from outside bo_suite must be given again to resume, "
            f"got a history made with {form.get('foreign', form)!s:.500}"
        )
    if not isinstance(name, str) or name not in CLASSES:
        raise StorageError(
            "a part of a stored acquisition must be of a class that this version of bo_suite knows, "
            f"got {name!r:.200}"
        )
    if not isinstance(fields, dict) or len(form) != 2:
        raise StorageError(f"a stored {name} must have `type` and `fields` alone, got {form!r:.200}")
    return _made(name, {key: _restored(value) for key, value in fields.items()})


def _made(name: str, fields: dict[str, Any]) -> Any:
    """The object of a class in the table."""
    kind, declared = _declared(name)
    for key, value in fields.items():
        if key not in declared:
            raise StorageError(
                f"the fields of a stored {name} must be among {list(declared)}, got {key!r:.200}"
            )
        if not is_of_type(value, declared[key]):
            kinds = getattr(declared[key], "__name__", declared[key])
            raise StorageError(
                f"the field {key} of a stored {name} must be of type {kinds}, got {value!r:.200}"
            )
    try:
        return kind(**fields)
    except (BoSuiteError, ArithmeticError, TypeError, ValueError) as error:
        raise StorageError(f"the fields of a stored {name} must be valid: {error}") from error


@cache
def _declared(name: str) -> tuple[Any, dict[str, Any]]:
    """A class in the table and the types of its fields."""
    module, _, attribute = CLASSES[name].partition(":")
    kind = getattr(import_module(module), attribute)
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    return kind, {key: _NARROWED.get(key, hints[key]) for key in names}

"""The JSON form of an acquisition or a scheduler, so that a history is resumed without passing it again.

The form comes from a file that anybody may have written. So each class name is looked up in a fixed table of
this package's classes and never imported from the file, and each value is checked against the type that its
field declares.
"""

import dataclasses
from functools import cache
from importlib import import_module
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_type_hints

from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.storage.field_types import is_of_type
from bo_suite.storage.stored_names import ADDED, CLASSES, GIVEN_AGAIN

if TYPE_CHECKING:  # torch takes a second to import
    from bo_suite.acquisition.base import Acquisition

_NAMES = {home: name for name, home in (CLASSES | GIVEN_AGAIN).items()}
"""Names in files, by where the class is defined."""


def to_json(value: object) -> Any:
    """The value in JSON values.

    A frozen dataclass of this package becomes nested {"type", "fields"}, any other object {"foreign": repr}.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.split(".")[0] == "bo_suite":
        home = f"{kind.__module__}:{kind.__qualname__}"
        name = _NAMES.get(home, home)
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        stored = {
            field: to_json(part)
            for field, part in fields.items()
            if part is not None or ADDED.get(field) not in ("", home)
        }
        return {"type": name, "fields": stored}
    return {"foreign": repr(value)}


def from_json(form: object) -> "Acquisition":
    """The acquisition of a form that `to_json` returned.

    Raises:
        StorageError: the form is not that of an acquisition, or has a class from outside this package or
            unknown to this version, an unknown field, or a value of a wrong type.
    """
    from bo_suite.acquisition.base import Acquisition

    acquisition = restored(form, "an acquisition")
    if not isinstance(acquisition, Acquisition):
        raise StorageError(f"the stored acquisition must be an acquisition, got {form!r:.200}")
    return acquisition


def restored(form: object, what: str) -> Any:
    """The object of a form that `to_json` returned; it may be of any class that can be stored.

    Args:
        form: the form.
        what: "an acquisition" or "a scheduler", for the message.

    Raises:
        StorageError: as `from_json`.
    """
    try:
        return _restored(form, what)
    except RecursionError:
        raise StorageError(f"the form of {what} is nested too deeply") from None


def _restored(form: object, what: str) -> Any:
    if form is None or isinstance(form, bool | int | float | str):
        return form
    if isinstance(form, list):
        return tuple(_restored(item, what) for item in form)
    if not isinstance(form, dict):
        raise StorageError(f"a stored part of {what} must be a JSON value, got {form!r:.200}")
    name, fields = form.get("type"), form.get("fields")
    if "foreign" in form or (isinstance(name, str) and name in GIVEN_AGAIN):
        raise StorageError(
            f"{what} with parts from outside bo_suite must be given again to resume, "
            f"got a history made with {form.get('foreign', form)!s:.500}"
        )
    if not isinstance(name, str) or name not in CLASSES:
        raise StorageError(
            f"a stored part of {what} must be of a class that this version of bo_suite knows, "
            f"got {name!r:.200}"
        )
    if not isinstance(fields, dict) or len(form) != 2:
        raise StorageError(f"a stored {name} must have `type` and `fields` alone, got {form!r:.200}")
    return _instance(name, {key: _restored(value, what) for key, value in fields.items()})


def _instance(name: str, fields: dict[str, Any]) -> Any:
    """An object of a class in the table."""
    kind, declared = _declared(name)
    for key, value in fields.items():
        if key not in declared:
            raise StorageError(
                f"the fields of a stored {name} must be among {list(declared)}, got {key!r:.200}"
            )
        if not is_of_type(value, declared[key]):
            type_name = getattr(declared[key], "__name__", declared[key])
            raise StorageError(
                f"the field {key} of a stored {name} must be of type {type_name}, got {value!r:.200}"
            )
    try:
        return kind(**fields)
    except (BoSuiteError, ArithmeticError, TypeError, ValueError) as error:
        raise StorageError(f"the fields of a stored {name} must be valid: {error}") from error


@cache
def _declared(name: str) -> tuple[Any, dict[str, Any]]:
    """A class in the table, and the types of its fields.

    The types of the fields `kernel` and `mean` also admit objects from outside the package; files do not.
    """
    module, _, attribute = CLASSES[name].partition(":")
    kind = getattr(import_module(module), attribute)
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    narrowed: dict[str, Any] = {"mean": float | None}
    if "kernel" in names:  # torch is imported for it
        from bo_suite.kernels import Kernel

        narrowed["kernel"] = Kernel | None
    return kind, {key: narrowed.get(key, hints[key]) for key in names}

"""The JSON form of an acquisition, so that a history can be resumed without naming it again."""

import dataclasses
from importlib import import_module
from numbers import Integral, Real
from typing import Any

from bo_suite.errors import StorageError


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
        fields = {f.name: to_form(getattr(part, f.name)) for f in dataclasses.fields(part) if f.init}
        return {"type": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    return {"foreign": repr(part)}


def from_form(form: Any) -> Any:
    """The object that `to_form` was given.

    Raises:
        StorageError: a part that is not of this package, or that this version does not know.
    """
    if isinstance(form, list):
        return tuple(from_form(item) for item in form)
    if not isinstance(form, dict):
        return form
    module, _, name = form.get("type", "").partition(":")
    if module.split(".")[0] != "bo_suite":
        raise StorageError(
            "an acquisition with parts from outside bo_suite must be given again to resume, "
            f"got a history made with {form.get('foreign', form)}"
        )
    try:
        kind = getattr(import_module(module), name)
        return kind(**{key: from_form(value) for key, value in form["fields"].items()})
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise StorageError(
            f"this version of bo_suite does not know the acquisition {form}: {error}"
        ) from error

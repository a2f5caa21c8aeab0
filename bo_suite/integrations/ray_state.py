"""The state of a searcher of Ray Tune as JSON, which can be read without running code.

A pickle would run code of its file. What JSON cannot hold, such as objects in a `tune.choice`, is left out,
and must be passed to the searcher that reads the file.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from itertools import chain
from numbers import Integral
from types import NoneType
from typing import Any

from bo_suite.errors import SpaceError, StorageError, TrialError
from bo_suite.integrations.ray_space import _domains, leaves, nested, translated
from bo_suite.space.space import Space
from bo_suite.storage.content import check, digest, is_number, is_whole, parsed
from bo_suite.storage.serialization import from_json, to_json
from bo_suite.values.numbers import require_finite

_FORMAT = "bo_suite: the state of a BoSuiteSearch, 1"

_PLAIN = (str, int, float, bool, NoneType)

State = dict[str, Any]


class _NoJsonError(Exception):
    """JSON cannot hold a part of a space without loss."""


def state_text(state: State) -> str:
    """Write a searcher's state as text.

    Args:
        state: from `BoSuiteSearch.get_state`.
    """
    history = state["_copy"]
    form = {
        "space": _space_form(state["_space"]),
        "fingerprint": _fingerprint(state["_space"]),
        "metric": state["_metric"],
        "mode": state["_mode"],
        "acquisition": to_json(state["_acquisition"]),
        "seed": int(state["_seed"]),
        "storage": state["_storage"],
        "limit": state["_limit"],
        "known": {name: list(pair) for name, pair in state["_known"].items()},
        "live": sorted(state["_live"]),
        "reported": {name: _number_or_text(value) for name, value in state["_reported"].items()},
        "starts": state["_starts"],
        "history": None if history is None else base64.b64encode(history).decode("ascii"),
    }
    return json.dumps({"format": _FORMAT, "digest": digest(form), "state": form})


def state_of(file: str, content: bytes, own: State) -> State:
    """Read the state in a file.

    Args:
        file: its name.
        content: its bytes.
        own: the state of the searcher that reads it; its space and acquisition win if it has them.

    Raises:
        StorageError: the file is of version 0.8.0 or damaged, or lacks its space or acquisition and the
            searcher has none.
    """
    if content[:1] == b"\x80":
        raise StorageError(
            f"{file} is a pickle of bo_suite 0.8.0, which could run any code: begin a new search with the "
            "same `storage`, which continues its history"
        )
    saved = parsed(file, content)
    intact = (
        isinstance(saved, dict) and saved.get("format") == _FORMAT and isinstance(saved.get("state"), dict)
    )
    check(intact, file, f"a file of BoSuiteSearch.save with the format {_FORMAT!r}", saved)
    form = saved["state"]
    for name, (fits, law) in _FIELDS.items():
        check(name in form, f"{file}: the state", f"one with the field {name!r}", sorted(form))
        check(fits(form[name]), f"{file}: the field {name}", law, form[name])
    check(
        saved.get("digest") == digest(form), f"{file}: the digest", "that of the state", saved.get("digest")
    )
    unknown = set(form["live"]) - set(form["known"])
    check(not unknown, f"{file}: the field live", "names that the field known has", sorted(unknown))
    acquisition = own["_acquisition"]
    if acquisition is None and form["acquisition"] is not None:
        acquisition = from_json(form["acquisition"])
    return {
        "_space": _chosen_space(file, form, own["_space"]),
        "_metric": form["metric"] or own["_metric"],
        "_mode": form["mode"] or own["_mode"],
        "_acquisition": acquisition,
        "_seed": form["seed"],
        "_storage": form["storage"],
        "_limit": form["limit"],
        "_known": {name: (trial, attempt) for name, (trial, attempt) in form["known"].items()},
        "_live": set(form["live"]),
        "_reported": form["reported"],
        "_points": own["_points"],
        "_rewards": own["_rewards"],
        "_starts": form["starts"],
        "_scheduler": own["_scheduler"],  # that of the history, if it is None
        "_copy": None if form["history"] is None else base64.b64decode(form["history"]),
    }


def _chosen_space(file: str, form: State, own: Any) -> Any:
    """Return the searcher's own space, which must equal that of the file; if it has none, the file's."""
    if own is not None:
        if form["fingerprint"] not in (None, _fingerprint(own)):
            raise StorageError(f"{file} belongs to another space than that of the searcher")
        return own
    if form["space"] is None and form["fingerprint"] is not None:
        raise StorageError(
            f"{file} lacks the space, which has objects that JSON cannot hold: pass the space to the "
            "BoSuiteSearch, or as the `param_space` of the Tuner, before it is restored"
        )
    try:
        space = None if form["space"] is None else _space_of(form["space"])
        fingerprint = _fingerprint(space)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise StorageError(f"{file}: the field space must be a search space, got {error!r}") from error
    same = fingerprint == form["fingerprint"]
    check(same, f"{file}: the field space", "that of the fingerprint", fingerprint)
    return space


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_known(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and is_whole(pair[0], 0) and is_whole(pair[1], 1)
        for pair in value.values()
    )


def _is_base64(value: object) -> bool:
    try:
        return value is None or (
            isinstance(value, str) and base64.b64decode(value, validate=True) is not None
        )
    except (binascii.Error, ValueError):
        return False


def _is_limit(value: Any) -> bool:
    return is_number(value) and bool(value >= 0)


def _are_starts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, dict) and all(isinstance(one, _PLAIN) for one in point.values()) for point in value
    )


def _or_null(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "space": (_or_null(lambda value: isinstance(value, dict) and len(value) == 1), "a space or null"),
    "fingerprint": (_or_null(_is_text), "a text or null"),
    "metric": (_or_null(lambda value: _is_text(value) and bool(value)), "a name or null"),
    "mode": (lambda value: value in (None, "min", "max"), "'min', 'max' or null"),
    "acquisition": (_or_null(lambda value: isinstance(value, dict)), "an acquisition or null"),
    "seed": (is_whole, "an integer"),
    "storage": (_or_null(_is_text), "a path or null"),
    "limit": (_or_null(_is_limit), "a number >= 0 or null"),
    "known": (_is_known, "a trial and an attempt by Ray's names"),
    "live": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "reported": (
        lambda value: isinstance(value, dict) and all(isinstance(v, float | str) for v in value.values()),
        "numbers or texts by name",
    ),
    "starts": (_or_null(_are_starts), "a list of dicts of parameters or null"),
    "history": (_is_base64, "base64 or null"),
}
"""A check of each field of a state, and its law in words."""


def _number_or_text(value: Any) -> float | str:
    """Return a reported value as a number, or as a text that is refused in the same way."""
    try:
        return require_finite("", value)
    except TrialError:
        return repr(value)


def _fingerprint(space: Any) -> str | None:
    return None if space is None else translated(space)[0].space.fingerprint


def _space_form(space: Space | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a space as JSON; None if JSON cannot hold it."""
    if isinstance(space, Space):
        return None if space.constraints.predicates else {"space": space.to_dict()}
    try:
        return None if space is None else {"leaves": [_leaf_form(*leaf) for leaf in leaves(space)]}
    except _NoJsonError:
        return None


def _space_of(form: dict[str, Any]) -> Space | dict[Any, Any]:
    if "space" in form:
        return Space.from_dict(form["space"])
    values = {tuple(map(_value_of, path)): _leaf_of(leaf) for path, leaf in form["leaves"]}
    inner = set(chain.from_iterable([path[:depth] for depth in range(len(path))] for path in values))
    if inner & set(values) or len(values) < len(form["leaves"]):
        raise SpaceError("its names must differ, and none be the start of a nested one")
    return nested(values)


def _leaf_form(path: tuple[Any, ...], value: Any) -> list[Any]:
    return [[_value_form(key) for key in path], _domain_form(value)]


def _domain_form(value: Any) -> Any:
    """Return a domain or a constant as JSON."""
    if not isinstance(value, _domains.Domain):
        return {"constant": _value_form(value)}
    if isinstance(value, _domains.Categorical):
        return {"choice": [_value_form(option) for option in value.categories]}
    sampler, step = value.get_sampler(), None
    if isinstance(sampler, _domains.Quantized):
        sampler, step = sampler.sampler, _number(sampler.q)
    kind = "integer" if isinstance(value, _domains.Integer) else "float"
    bounds = [_number(value.lower), _number(value.upper)]
    return {kind: bounds, "log": isinstance(sampler, _domains.LogUniform), "step": step}


def _leaf_of(form: Any) -> Any:
    if "constant" in form:
        return _value_of(form["constant"])
    if "choice" in form:
        return _domains.Categorical([_value_of(option) for option in form["choice"]]).uniform()
    kind = _domains.Integer if "integer" in form else _domains.Float
    lower, upper = form["integer" if "integer" in form else "float"]
    if not (is_number(lower) and is_number(upper) and (form["step"] is None or is_number(form["step"]))):
        raise SpaceError(f"its bounds and steps must be finite numbers, got {form}")
    domain = kind(lower, upper)
    domain = domain.loguniform() if form["log"] else domain.uniform()
    return domain if form["step"] is None else domain.quantized(form["step"])


def _number(value: Any) -> int | float:
    """Return a number, possibly NumPy's, as Python's own."""
    return int(value) if isinstance(value, Integral) else float(value)


def _value_form(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [_value_form(item) for item in value]}
    if type(value) is dict:
        return {"dict": [[_value_form(key), _value_form(item)] for key, item in value.items()]}
    raise _NoJsonError


def _value_of(form: Any) -> Any:
    if not isinstance(form, dict):
        return form
    ((kind, items),) = form.items()
    if kind == "dict":
        return {_value_of(key): _value_of(item) for key, item in items}
    return {"list": list, "tuple": tuple}[kind](map(_value_of, items))

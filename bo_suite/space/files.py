"""Spaces in TOML or JSON files. Files are not trusted: size and depth are bounded."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.space.constraints import Predicate, constraints_of
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.values.describe import described

_LARGEST_FILE = 10_000_000
"""Most bytes of a space file: far more than any space needs."""

_TOKEN = re.compile(
    r"""\#[^\n]*+
    | \"{3} (?: [^"\\]++ | \\. | \"(?!\"\") )*+ (?:\"{3,5})?
    | '{3} (?: [^']++ | '(?!'') )*+ (?:'{3,5})?
    | (?P<key> PART (?: [ \t]*+ \. [ \t]*+ PART )*+ )
    | [\s=,.{}[\]]++ | .""".replace(
        "PART", r"""(?: [^\s\#"'=,.{}[\]]++ | \"(?: [^"\\\n]++ | \\. )*+\"? | '[^'\n]*+'? )"""
    ),
    re.VERBOSE | re.DOTALL,
)
"""A comment, a multi-line string, a TOML key with its parts (or a value), or the characters between them."""

_PARTS = 8
"""Most parts of a key: a space needs three, and the parser takes minutes for very many."""


def form_in(path: str | Path) -> Any:
    """The content of a .toml or .json file of at most 10 MB.

    Raises:
        SpaceError: the file is missing, of another kind, too large or not readable.
    """
    file = Path(path)
    if file.suffix not in (".toml", ".json"):
        raise SpaceError(f"a space file must end in .toml or .json, got {file.name!r}")
    try:
        text = _text(file)
        if file.suffix == ".toml" and _has_long_keys(text):
            raise SpaceError(
                f"a space must be a table of parameters, got {str(file)!r}, which is nested too deeply"
            )
        return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SpaceError):
            raise
        raise SpaceError(f"the space file {str(file)!r} cannot be read: {error}") from error


def _has_long_keys(text: str) -> bool:
    """Whether a key has more than `_PARTS` parts; in one pass over the text."""
    keys = (match["key"] for match in _TOKEN.finditer(text))
    return any(key is not None and key.count(".") >= _PARTS and _parts(key) > _PARTS for key in keys)


def _parts(key: str) -> int:
    """The number of parts of a key; dots in quotes do not separate parts."""
    return 1 + re.sub(r"""\"(?:[^"\\]|\\.)*+\"?|'[^']*+'?""", "", key).count(".")


def _text(file: Path) -> str:
    """The text of a regular file: a device may never end."""
    if file.exists() and not file.is_file():
        raise SpaceError(f"a space file must be a regular file, got {str(file)!r}")
    with file.open("rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise SpaceError(f"a space file must have at most {_LARGEST_FILE} bytes, got {str(file)!r}")
    return content.decode("utf-8")


def parts_of(form: Any) -> tuple[dict[str, Parameter], list[str | Predicate], Mapping[str, Any] | None]:
    """The parameters, the constraints and the candidates of a space in JSON or TOML form.

    Raises:
        SpaceError: the form is not a table of parameters, or a parameter or a constraint breaks a rule.
    """
    try:
        if not isinstance(form, Mapping):
            raise SpaceError(f"a space must be a table of parameters, got {described(form)}")
        constraints = constraints_of(form)
        table = form.get("candidates")
        candidates = table if isinstance(table, Mapping) and not isinstance(table.get("type"), str) else None
        other = {"constraints": constraints, "candidates": candidates is not None}
        names = [name for name in form if not other.get(name)]
        return {name: _parameter_of(name, form[name]) for name in names}, constraints, candidates
    except RecursionError:
        raise SpaceError("a space must be a table of parameters, got one that is nested too deeply") from None


def _parameter_of(name: str, form: Any) -> Parameter:
    """The parameter of a JSON or TOML form; raises SpaceError if the form is not one of a parameter."""
    if not isinstance(form, Mapping) or "type" not in form:
        raise SpaceError(f"parameter {name!r} must be a table with a `type`, got {described(form)}")
    kinds: dict[str, type[Parameter]] = {"float": Float, "int": Int, "choice": Choice}
    kind = kinds.get(form["type"]) if isinstance(form["type"], str) else None
    if kind is None:
        raise SpaceError(
            f"the type of {name!r} must be one of {sorted(kinds)}, got {described(form['type'])}"
        )
    fields = {key: value for key, value in form.items() if key != "type"}
    try:
        return kind(**fields)
    except TypeError as error:
        raise SpaceError(f"parameter {name!r} of type {form['type']!r} has wrong fields: {error}") from error
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error

"""Space files, which anybody may have written: TOML or JSON, of bounded size and depth."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from bo_suite.errors import SpaceError

_LARGEST_FILE = 10_000_000
"""Bytes of a space file: far more than any space takes."""

_DOTTED = re.compile(r"(?:\.[ \t\"']{0,4}[\w-]{1,64}[ \t\"']{0,4}){50}")
"""A key of TOML with very many parts, for which the parser takes minutes."""


def form_in(path: str | Path) -> Any:
    """The form in a .toml or .json file of up to 10 MB.

    Raises:
        SpaceError: a file that is missing, of another kind, too large or not readable.
    """
    file = Path(path)
    if file.suffix not in (".toml", ".json"):
        raise SpaceError(f"a space file must end in .toml or .json, got {file.name!r}")
    try:
        text = _text(file)
        if file.suffix == ".toml" and _DOTTED.search(text):
            raise SpaceError(f"a space must be a table of parameters, got {str(file)!r}, nested without end")
        return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SpaceError):
            raise
        raise SpaceError(f"the space file {str(file)!r} cannot be read: {error}") from error


def _text(file: Path) -> str:
    """The text of a file, which must have an end: a device may have none."""
    if file.exists() and not file.is_file():
        raise SpaceError(f"a space file must be a regular file, got {str(file)!r}")
    with file.open("rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise SpaceError(f"a space file must have at most {_LARGEST_FILE} bytes, got {str(file)!r}")
    return content.decode("utf-8")

"""What may name a storage: a path. Addresses are refused, and their passwords are never repeated."""

import os
import re
from pathlib import Path

from bo_suite.errors import StorageError
from bo_suite.values.describe import described

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]+):[/\\]", re.IGNORECASE)
"""The scheme of a URL, which has two letters or more: a single one is a drive of Windows."""

_SCHEME = re.compile(r"\s*(file|sqlite|jdbc)(?:\+\w+)?:", re.IGNORECASE)
"""Schemes that are written without a slash, too."""

_USER = re.compile(r"[^/\\:@]+:[^/\\@]+@")
"""A user and a password before a host."""

_PASSWORD = re.compile(r"\b(password|passwd|pwd)\s*=", re.IGNORECASE)
_HOST = re.compile(
    r"\b(host|hostaddr|server|data source|dbname|database|user|uid|user id)\s*=", re.IGNORECASE
)
"""Settings of a database, in any order."""


def storage_path(given: object) -> Path | None:
    """The absolute path of a storage; None where it is None.

    Raises:
        StorageError: an address such as `postgresql://...`, ":memory:", or what names no file.
    """
    if given is None:
        return None
    if isinstance(given, str | os.PathLike) and ":memory:" in str(given):
        raise StorageError("the storage must be None for a history in memory, got ':memory:'")
    return local_path("the storage", given)


def local_path(what: str, given: object) -> Path:
    """The absolute path of what is stored on this machine.

    Args:
        what: it is, in errors.
        given: a str or a path.

    Raises:
        StorageError: an address such as `postgresql://...`, or what names no file.
    """
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise StorageError(f"{what} must be a path, got an object of type {type(text).__name__}")
    if ":memory:" in text:
        raise StorageError(f"{what} must be a path on a local disk, got ':memory:'")
    if (kind := _address(text)) is not None:
        raise StorageError(
            f"{what} must be a path on a local disk, such as 'run.db' (databases and other addresses are not "
            f"supported), got {kind}"
        )
    if "\0" in text:
        raise StorageError(f"the path of a storage must have no NUL character, got {described(text)}")
    try:
        os.fsencode(text)
    except UnicodeError as error:
        raise StorageError(f"{what} must have a name that a file can have, got {described(text)}") from error
    if not text.strip():
        raise StorageError(f"{what} must be a path, got {text!r}")
    return Path(text).absolute()


def check_place(file: Path | None, *, there: bool) -> None:
    """Refuses what is no place for a file.

    Args:
        file: an absolute path.
        there: whether the file must exist.

    Raises:
        StorageError: a folder, a folder that is missing, or no file where one must exist.
    """
    law, fault = "the storage must exist to be resumed", f"got {file}, where there is no file"
    try:
        if file is None:
            fault = "got None, which is memory"
        elif file.is_dir():
            law, fault = "the storage must be a file", f"got the folder {file}"
        elif not file.parent.is_dir():
            law, fault = "the folder of the storage must exist", f"got {file}"
        elif file.exists() or not there:
            return
    except OSError as error:  # such as a name that is too long
        law, fault = "the storage must be a file that can be opened", f"got {file}: {error}"
    raise StorageError(f"{law}, {fault}")


def _address(text: str) -> str | None:
    """What kind of address a text is, without anything secret in it; None for a path."""
    if found := _ADDRESS.match(text) or _SCHEME.match(text):
        scheme = found[1].lower()
        hint = " (give the path of the file alone)" if scheme.startswith(("file", "sqlite")) else ""
        return f"an address that begins with {scheme}:{hint}"
    if _USER.search(text):
        return "an address with a user and a password"
    if _PASSWORD.search(text) and _HOST.search(text):
        return "settings of a database"
    return None

"""Where a storage is: a path, or the address of a database. Messages never repeat passwords."""

import os
import re
from pathlib import Path

from bo_suite.errors import StorageError
from bo_suite.storage.addresses import EXAMPLE, SCHEME, Address, parsed
from bo_suite.values.describe import described

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]+):[/\\]", re.IGNORECASE)
"""The scheme of a URL. It has two letters or more: one letter is a drive of Windows."""

_SCHEME = re.compile(r"\s*(file|sqlite|jdbc)(?:\+\w+)?:", re.IGNORECASE)
"""Schemes that are also written without a slash."""

_USER = re.compile(r"[^/\\:@]+:[^/\\@]+@")
"""User and password before a host."""

_PASSWORD = re.compile(r"\b(password|passwd|pwd)\s*=", re.IGNORECASE)
_HOST = re.compile(
    r"\b(host|hostaddr|server|data source|dbname|database|user|uid|user id)\s*=", re.IGNORECASE
)
"""Connection settings of a database, in any order."""


_SECRET = re.compile(r"(?<=//)([^/\s:@]*):[^\s@]*@")
"""User and password of an address in a text."""


def without_passwords(text: str) -> str:
    """A text in which passwords are replaced, such as of an address that was given for something else."""
    return _SECRET.sub(r"\1:***@", re.sub(r"(?i)\b((?:password|passwd|pwd)=)[^\s&;]+", r"\1***", text))


def storage_place(storage: object) -> Path | Address | None:
    """The absolute path of a storage, or its address; None if the storage is None.

    Raises:
        StorageError: it is another address, ":memory:", or not a valid path.
    """
    if storage is None or isinstance(storage, Address):
        return storage
    if isinstance(storage, str | os.PathLike) and ":memory:" in str(storage):
        raise StorageError("the storage must be None for a history in memory, got ':memory:'")
    return shared_place("the storage", storage)


def shared_place(what: str, place: object) -> Path | Address:
    """The absolute path of a local file or folder, or an address.

    Args:
        what: what it is, for error messages.
        place: a str, a path or an address.

    Raises:
        StorageError: it is another address, or not a valid path.
    """
    if isinstance(place, Address):
        return place
    if isinstance(place, str) and SCHEME.match(place):
        return parsed(place)
    if isinstance(place, os.PathLike) and SCHEME.match(str(place)):
        raise StorageError("the address of a database must be text, got a path, which has lost a slash")
    return _path(what, place, f"a path, such as 'run.db', or an address like {EXAMPLE}")


def local_path(what: str, path: object) -> Path:
    """The absolute path of a local file or folder.

    Args:
        what: what it is, for error messages.
        path: a str or a path.

    Raises:
        StorageError: it is an address such as `postgresql://...`, or not a valid path.
    """
    if isinstance(path, Address):
        path = str(path)
    return _path(what, path, "a path on a local disk, such as 'run.db'")


def _path(what: str, path: object, law: str) -> Path:
    """The absolute path; `law` says what it must be."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise StorageError(f"{what} must be a path, got an object of type {type(text).__name__}")
    if ":memory:" in text:
        raise StorageError(f"{what} must be a path on a local disk, got ':memory:'")
    if (kind := _address(text)) is not None:
        raise StorageError(f"{what} must be {law}, got {kind}")
    if "\0" in text:
        raise StorageError(f"the path of a storage must not contain a NUL character, got {described(text)}")
    try:
        os.fsencode(text)
    except UnicodeError as error:
        raise StorageError(f"{what} must have a valid file name, got {described(text)}") from error
    if not text.strip():
        raise StorageError(f"{what} must be a path, got {text!r}")
    return Path(text).absolute()


def exists(storage: object) -> bool:
    """Whether there is something at a place; a file may also be of another program.

    Raises:
        StorageError: as `storage_place`, or a database cannot be reached.
    """
    place = storage_place(storage)
    if isinstance(place, Address):
        from bo_suite.storage.runs import has_run

        return has_run(place)
    return place is not None and place.exists()


def output_of(storage: Path | Address, suffix: str) -> Path:
    """Where a file about a run goes: beside the run's file, or named after a run of a database, here."""
    if isinstance(storage, Address):
        return Path(re.sub(r"[^\w.-]", "_", storage.run) + suffix)
    return storage.with_suffix(suffix)


def check_path(file: Path | None, *, must_exist: bool) -> None:
    """Raises unless a storage can be at a path.

    Args:
        file: an absolute path, or None for memory.
        must_exist: whether the file must exist.

    Raises:
        StorageError: the path is a folder, its folder is missing, or the file is missing but must exist.
    """
    requirement, fault = "the storage must exist to be resumed", f"got {file}, where there is no file"
    try:
        if file is None:
            fault = "got None, which is memory"
        elif file.is_dir():
            requirement, fault = "the storage must be a file", f"got the folder {file}"
        elif not file.parent.is_dir():
            requirement, fault = "the folder of the storage must exist", f"got {file}"
        elif file.exists() or not must_exist:
            return
    except OSError as error:  # such as a name that is too long
        requirement, fault = "the storage must be a file that can be opened", f"got {file}: {error}"
    raise StorageError(f"{requirement}, {fault}")


def _address(text: str) -> str | None:
    """The kind of address, without secrets; None if the text is a path."""
    if match := _ADDRESS.match(text) or _SCHEME.match(text):
        scheme = match[1].lower()
        hint = " (give the path of the file alone)" if scheme.startswith(("file", "sqlite")) else ""
        return f"an address that begins with {scheme}:{hint}"
    if _USER.search(text):
        return "an address with a user and a password"
    if _PASSWORD.search(text) and _HOST.search(text):
        return "connection settings of a database"
    return None

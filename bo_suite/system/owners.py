"""Owners of running work: a name for this process, and whether the process of a name is alive."""

import getpass
import os
import platform
import sys
import uuid
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path


def new_owner() -> str:
    """A new name, "machine:pid:start time:unique", where machine is "host/boot/PID namespace".

    The start time, the boot and the namespace are empty if the system does not report them.
    """
    pid = os.getpid()
    return f"{_machine()}:{pid}:{start_time(pid)}:{uuid.uuid4().hex}"


def author() -> str:
    """User and host, as "user@host", of changes made by this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under an id without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node()}"


def is_owner(text: object) -> bool:
    """Whether a value is the name of an owner."""
    fields = text.rsplit(":", 3) if isinstance(text, str) else []
    return len(fields) == 4 and fields[1].isdecimal() and len(fields[1]) < 20


def process_of(owner: str) -> tuple[str, int]:
    """The host and the process id in the name of an owner."""
    machine, number, _, _ = owner.rsplit(":", 3)
    return machine.rsplit("/", 2)[0] if machine.count("/") >= 2 else machine, int(number)


def is_own(owner: str) -> bool:
    """Whether the owner belongs to this process."""
    machine, number, start, _ = owner.rsplit(":", 3)
    pid = os.getpid()
    here = machine in (_machine(), platform.node())  # version 0.8 stored the node alone
    return here and number == str(pid) and start in ("", start_time(pid))


def has_live_owner(owner: str, open_owners: Collection[str]) -> bool:
    """Whether the owner can still end its work.

    Args:
        owner: name of the owner.
        open_owners: owners of this process that are in use.
    """
    return owner in open_owners if is_own(owner) else is_process_alive(owner)


def is_process_alive(owner: str) -> bool:
    """Whether the owner's process is alive, as far as this process can see.

    Owners on other hosts, or in another PID namespace of this host (a container), count as alive. Owners of
    this host from before its last boot are dead.
    """
    machine, number, start, _ = owner.rsplit(":", 3)
    host, boot, namespace = machine.rsplit("/", 2) if machine.count("/") >= 2 else (machine, "", "")
    own_host, own_boot, own_namespace = _machine().rsplit("/", 2)
    if host != own_host:
        return True
    if boot and own_boot and boot != own_boot:
        return False
    if namespace and own_namespace and namespace != own_namespace:
        return True
    now = start_time(int(number))
    return now is not None and not (now and start and now != start)


def is_at_work(owner: str) -> bool:
    """Whether the owner's process can be seen from here, is alive, and was not stopped (SIGSTOP)."""
    machine, number, _, _ = owner.rsplit(":", 3)
    if machine != _machine() or not is_process_alive(owner):
        return False
    try:
        return Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"T", b"t")
    except OSError:  # the system does not report states
        return True


def start_time(pid: int) -> str | None:
    """Start time of a living process, "" if the system does not report it; None if there is no process."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()  # a zombie is dead
    if sys.platform != "win32":  # on Windows, os.kill would kill the process
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass
    return ""


@cache
def _machine() -> str:
    """Host, boot and PID namespace of this process; cached, since a fork does not change them."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{platform.node()}/{boot}/{namespace}"

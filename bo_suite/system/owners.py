"""Who a running trial belongs to: a name for this process, and whether the process of a name lives."""

import os
import platform
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path


def new_owner() -> str:
    """machine:pid:start time:unique, where a machine is host/boot/PID namespace.

    The start time, the boot and the namespace are empty where the system does not tell them.
    """
    pid = os.getpid()
    return f"{_machine()}:{pid}:{start_time(pid)}:{uuid.uuid4().hex}"


def is_owner(text: object) -> bool:
    """Whether a text names an owner."""
    parts = text.rsplit(":", 3) if isinstance(text, str) else []
    return len(parts) == 4 and parts[1].isdecimal() and len(parts[1]) < 20


def is_own(owner: str) -> bool:
    """Whether the owner is of this very process."""
    machine, number, start, _ = owner.rsplit(":", 3)
    pid = os.getpid()
    here = machine in (_machine(), platform.node())  # the node alone: as version 0.8 named it
    return here and number == str(pid) and start in ("", start_time(pid))


def is_alive(owner: str) -> bool:
    """Whether the owner's process lives, as far as can be told.

    Owners on other hosts, and those in another PID namespace of this one (a container), count as alive. Those
    of this host before it was started anew are dead.
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


def start_time(pid: int) -> str | None:
    """Start time of a living process ('' where the system does not tell); None where there is none."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()  # a zombie works no more
    if sys.platform != "win32":  # there, os.kill would kill
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass
    return ""


@cache
def _machine() -> str:
    """Host, boot and PID namespace of this process; a forked child has those of its parent."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{platform.node()}/{boot}/{namespace}"

"""Who a running trial belongs to: a name for this process, and whether the process of a name lives."""

import os
import platform
import sys
import uuid
from contextlib import suppress
from pathlib import Path


def new_owner() -> str:
    """host:pid:start time:unique, the start time empty where the system does not tell it."""
    pid = os.getpid()
    return f"{platform.node()}:{pid}:{start_time(pid)}:{uuid.uuid4().hex}"


def is_own(owner: str) -> bool:
    """Whether the owner is of this very process."""
    host, number, start, _ = owner.rsplit(":", 3)
    pid = os.getpid()
    return (host, number) == (platform.node(), str(pid)) and start in ("", start_time(pid))


def is_alive(owner: str) -> bool:
    """Whether the owner's process lives, as far as can be told; those of other hosts count as alive."""
    host, number, start, _ = owner.rsplit(":", 3)
    if host != platform.node():
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
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
    return ""

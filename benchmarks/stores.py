"""The stores that benchmarks measure, and what a line of results says of them."""

import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and torch load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

import psycopg
import torch
from postgres_server import ROLE, Server

from bo_suite.bench.environment import environment
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space

SPACE = Space(
    {
        "x": Float(-5.0, 10.0),
        "rate": Float(1e-5, 1e-1, log=True),
        "depth": Int(1, 12),
        "kernel": Choice(["rbf", "poly", "linear"]),
    }
)

torch.set_num_threads(1)


@contextmanager
def server(max_connections: int = 60) -> Iterator[Server]:
    """A server whose commits are on the disk before they are answered."""
    with Server(durable=True, max_connections=max_connections) as running:
        yield running


def optuna_storage(running: Server, database: str = ROLE) -> Any:
    """Optuna's storage in a database of the server, with as many connections as threads want."""
    from optuna.storages import RDBStorage

    url = running.url(database).replace("postgresql://", "postgresql+psycopg://", 1)
    return RDBStorage(url, engine_kwargs={"pool_size": 100})


def suggest_optuna(trial: Any) -> None:
    """Draws the parameters of SPACE."""
    trial.suggest_float("x", -5.0, 10.0)
    trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    trial.suggest_int("depth", 1, 12)
    trial.suggest_categorical("kernel", ["rbf", "poly", "linear"])


def random_point(draw: Callable[[], float]) -> Params:
    """A random point of SPACE, from numbers in [0, 1)."""
    return {
        "x": -5.0 + 15.0 * draw(),
        "rate": 10.0 ** (-5.0 + 4.0 * draw()),
        "depth": 1 + int(12 * draw()),
        "kernel": ("rbf", "poly", "linear")[int(3 * draw())],
    }


def cpu_seconds(running: Server) -> float:
    """CPU seconds of the server so far, with those of connections that have ended."""
    postmaster = int((running.folder / "data" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def quantile(seconds: Sequence[float], level: float) -> float:
    """The value below which a share of the numbers is; NaN of none."""
    ordered = sorted(seconds)
    return ordered[min(int(level * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def append(out: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """Appends JSON lines to a file, if there is one, with what they were measured on."""
    if out is None:
        return
    shared = {
        "environment": json.loads(environment()),
        "psycopg": psycopg.__version__,
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "load_average": [round(number, 1) for number in os.getloadavg()],
        "when": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as lines:
        lines.writelines(json.dumps(row | shared) + "\n" for row in rows)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table as the documents have it."""
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)

"""Writes the histories of version 0.8.0 that lie here: run it here with that version as PYTHONPATH."""

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

import bo_suite
from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import UpperConfidenceBound

assert bo_suite.__version__ == "0.8.0", bo_suite.__version__

SPACE = Space({"lr": Float(1e-5, 1.0, log=True), "depth": Int(1, 12), "kernel": Choice(["rbf", "poly"])})


def outcome(params: dict) -> float:
    return (
        -((params["lr"] - 0.01) ** 2) - 0.1 * (params["depth"] - 4) ** 2 - 0.5 * (params["kernel"] == "poly")
    )


def made(name: str, failures: bool) -> dict:
    path = Path(name)
    path.unlink(missing_ok=True)
    optimizer = Optimizer(SPACE, UpperConfidenceBound(beta=1.5), 3, "maximize", 20, path)
    optimizer.add({"lr": 0.003, "depth": 4, "kernel": "rbf"}, -0.25, std=0.125)
    for number in range(1, 11):
        trial = optimizer.ask()
        if failures and number in (3, 8):
            optimizer.fail(trial, f"out of memory: ünit {number}")
        else:
            optimizer.tell(trial, outcome(trial.params), std=None if number % 3 else 0.01)
    optimizer.ask()
    trials = [asdict(trial) for trial in optimizer.trials]
    optimizer.close()
    shutdown(path)
    copy = Path(f"next-{name}")
    copy.write_bytes(path.read_bytes())
    resumed = Optimizer.resume(copy)
    following = resumed.ask()
    resumed.close()
    copy.unlink()
    return {"trials": trials, "next": {"id": following.id, "params": following.params}}


def shutdown(path: Path) -> None:
    """All of it in one small file, which stays in write-ahead mode, as version 0.8.0 leaves it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("VACUUM")
    connection.close()


files = {"history_0_8_0.db": True, "history_0_8_0_finished.db": False}
contents = {name: made(name, failures) for name, failures in files.items()}
Path("history_0_8_0.json").write_text(json.dumps(contents, indent=1) + "\n")

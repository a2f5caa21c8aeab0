"""Runs of Ray Tune for the tests; as a script, one that may be killed and notes what Ray was told of."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

with suppress(ImportError):
    import ray
    from ray import tune

    from bo_suite.integrations.ray_tune import BoSuiteSearch

    class Ledger(tune.Callback):
        """One line for each trial that has ended, written once the searcher has taken its result."""

        def __init__(self, path: Path) -> None:
            self.path = path

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            params = {"x": trial.config["x"], "net/n": trial.config["net"]["n"]}
            line = {"trial": trial.trial_id, "params": params, "value": trial.last_result["loss"]}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())


TRIALS = 10


def loss(config: dict[str, Any]) -> float:
    return (config["x"] - 0.3) ** 2 + config["net"]["n"]


def slow(config: dict[str, Any]) -> dict[str, float]:
    time.sleep(0.7)
    return {"loss": loss(config)}


def first(flag: Path) -> bool:
    """Whether nobody has made this file before."""
    with suppress(FileExistsError):
        flag.touch(exist_ok=False)
        return True
    return False


def crashing(config: dict[str, Any]) -> dict[str, float]:
    if first(Path(config["home"]) / "raised"):
        raise RuntimeError("no luck")
    if first(Path(config["home"]) / "died"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"loss": loss(config)}


def tuner_of(trainable: Callable[..., Any], search: Any, folder: Path, trials: int, **space: Any) -> Any:
    return tune.Tuner(
        trainable,
        param_space={"x": tune.uniform(0, 1), "net": {"n": tune.randint(1, 4)}, **space},
        tune_config=tune.TuneConfig(
            search_alg=search,
            metric="loss",
            mode="min",
            num_samples=trials,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="run", storage_path=str(folder), callbacks=[Ledger(folder / "ledger")], verbose=0
        ),
    )


def start(folder: Path) -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _temp_dir=str(folder / "ray"),
    )


def run_with_crashes(folder: Path) -> tuple[Any, Any]:
    """Eight trials of which one raises and one kills its worker: the results, and the searcher."""
    search = BoSuiteSearch(storage=folder / "history.db")
    start(folder)
    try:
        return tuner_of(crashing, search, folder, 8, home=str(folder)).fit(), search
    finally:
        ray.shutdown()


def main(folder: Path, storage: str | None) -> None:
    start(folder)
    if tune.Tuner.can_restore(str(folder / "run")):
        tuner = tune.Tuner.restore(str(folder / "run"), slow)
    else:
        tuner = tuner_of(slow, BoSuiteSearch(storage=storage), folder, TRIALS)
    (folder / "done").write_text(str(len(tuner.fit())))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)

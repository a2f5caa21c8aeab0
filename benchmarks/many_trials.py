"""A run with 100,000 trials: seconds of each verb, on SQLite and on PostgreSQL, beside Optuna's storage.

    pip install 'bo-suite[postgres]' optuna sqlalchemy
    python benchmarks/many_trials.py --out FILE

The trials are finished ones of random points. "open" makes the object of a run that is stored; "first read"
is its first list of all trials; "again" is a second list, "after one" a list after somebody else has stored
one trial. "ask" stores a random point, through the turns and transactions of `Optimizer.ask`; "suggest" is
one ask of the default acquisition. Each number but that of "load" and "suggest" is the median of `--repeats`.

Optuna's `RDBStorage` has the same trials on the same server: loaded by its tables, since its verbs take
milliseconds a trial. "ask" is RandomSampler, "suggest" TPESampler.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import stores

from bo_suite import Optimizer
from bo_suite.storage.trial import Observation, Snapshot
from bo_suite.study.asking import asked_in_turn
from bo_suite.study.suggest import Suggestion

VERBS = ("load", "open", "first read", "again", "after one", "ask", "tell", "best", "to_frame", "suggest")


class Clock:
    """Seconds of verbs.

    Args:
        repeats: of each.
    """

    def __init__(self, repeats: int) -> None:
        self._repeats, self.seconds = repeats, dict[str, float]()

    def once(self, verb: str, work: Callable[[], Any]) -> Any:
        """Times one call, and returns what it returns."""
        began = time.perf_counter()
        result = work()
        self.seconds[verb] = round(time.perf_counter() - began, 5)
        return result

    def median(self, verb: str, work: Callable[[], Any], before: Callable[[], Any] | None = None) -> None:
        """Times some calls; what is done before each is not counted."""
        seconds = []
        for _ in range(self._repeats):
            if before is not None:
                before()
            self.once(verb, work)
            seconds.append(self.seconds[verb])
        self.seconds[verb] = statistics.median(seconds)


def measure(place: str, trials: int, repeats: int) -> dict[str, float]:
    """Seconds of each verb of bo_suite."""
    draw, clock = random.Random(0).random, Clock(repeats)
    observations = [Observation(stores.random_point(draw), draw()) for _ in range(trials)]
    first = Optimizer(stores.SPACE, storage=place)
    clock.once("load", lambda: first.add_all(observations))
    first.close()
    foreign = Optimizer.resume(place)
    optimizer = clock.once("open", lambda: Optimizer.resume(place))
    assert len(clock.once("first read", lambda: optimizer.trials)) == trials
    clock.median("again", lambda: optimizer.trials)
    clock.median("after one", lambda: optimizer.trials, lambda: foreign.add(stores.random_point(draw), 2.0))

    def random_ask() -> Any:
        def suggest(snapshot: Snapshot, count: int) -> list[Suggestion]:
            return [Suggestion(stores.random_point(draw), {"source": "random"})]

        return asked_in_turn(optimizer._history, suggest, 1, None)[0]

    asked: list[Any] = []
    clock.median("ask", lambda: asked.append(random_ask()))
    clock.median("tell", lambda: optimizer.tell(asked.pop(), 2.0))
    clock.median("best", lambda: optimizer.best)
    clock.median("to_frame", optimizer.to_frame)
    clock.once("suggest", optimizer.ask)
    for one in (optimizer, foreign):
        one.close()
    return clock.seconds


def measure_optuna(running: Any, trials: int, repeats: int) -> dict[str, float]:
    """Seconds of each verb of Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = f"optuna{time.time_ns()}"
    running.create_database(name)
    draw, clock = random.Random(0).random, Clock(repeats)
    study = optuna.create_study(study_name="many", storage=stores.optuna_storage(running, name))
    clock.once("load", lambda: _load(study, [(stores.random_point(draw), draw()) for _ in range(trials)]))

    def opened(sampler: Any) -> Any:
        storage = stores.optuna_storage(running, name)
        return optuna.load_study(study_name="many", storage=storage, sampler=sampler)

    foreign = opened(optuna.samplers.RandomSampler(seed=1))
    study = clock.once("open", lambda: opened(optuna.samplers.RandomSampler(seed=0)))
    assert len(clock.once("first read", lambda: study.get_trials(deepcopy=False))) == trials
    clock.median("again", lambda: study.get_trials(deepcopy=False))
    clock.median("after one", lambda: study.get_trials(deepcopy=False), lambda: _one(foreign))
    asked: list[Any] = []

    def ask() -> None:
        asked.append(study.ask())
        stores.suggest_optuna(asked[-1])

    clock.median("ask", ask)
    clock.median("tell", lambda: study.tell(asked.pop(), 2.0))
    clock.median("best", lambda: study.best_trial)
    clock.median("to_frame", study.trials_dataframe)
    study.sampler = optuna.samplers.TPESampler(seed=0)
    clock.once("suggest", ask)
    return clock.seconds


def _one(study: Any) -> None:
    trial = study.ask()
    stores.suggest_optuna(trial)
    study.tell(trial, 2.0)


def _load(study: Any, points: list[tuple[Any, float]]) -> None:
    """Writes finished trials to Optuna's tables."""
    import optuna
    import sqlalchemy
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    _one(study)  # its first trial shows how the others are stored
    shown = study.get_trials()[0].distributions
    texts = {name: distribution_to_json(one) for name, one in shown.items()}
    now, finished = datetime(2026, 1, 1), optuna.trial.TrialState.COMPLETE
    rows = {
        models.TrialModel: [
            {"trial_id": i, "number": i - 1, "study_id": study._study_id, "state": finished}
            | {"datetime_start": now, "datetime_complete": now}
            for i in range(2, len(points) + 1)
        ],
        models.TrialParamModel: [
            {"trial_id": i, "param_name": name, "distribution_json": texts[name]}
            | {"param_value": shown[name].to_internal_repr(value)}
            for i, (point, _) in enumerate(points[1:], 2)
            for name, value in point.items()
        ],
        models.TrialValueModel: [
            {"trial_id": i, "objective": 0, "value": value}
            | {"value_type": models.TrialValueModel.TrialValueType.FINITE}
            for i, (_, value) in enumerate(points[1:], 2)
        ],
    }
    with study._storage._backend.engine.begin() as connection:
        for model, values in rows.items():
            connection.execute(sqlalchemy.insert(model), values)
        next_id = f"SELECT setval('trials_trial_id_seq', {len(points)})"
        connection.execute(sqlalchemy.text(next_id))


def main() -> None:
    """Runs the measurements and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory() as folder, stores.server() as running:
        for name, work in {
            "SQLite": lambda: measure(f"{folder}/run.db", options.trials, options.repeats),
            "PostgreSQL": lambda: measure(running.url(run="many"), options.trials, options.repeats),
            "Optuna RDB, PostgreSQL": lambda: measure_optuna(running, options.trials, options.repeats),
        }.items():
            columns[name] = work()
            stores.append(options.out, [{"store": name, "trials": options.trials, **columns[name]}])
    rows = [[verb, *(f"{seconds[verb]:.3g}" for seconds in columns.values())] for verb in VERBS]
    stores.print_table([f"seconds, {options.trials} trials", *columns], rows)


if __name__ == "__main__":
    main()

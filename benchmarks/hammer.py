"""Many processes on one store: trials lost or doubled, asks per second, seconds of an ask, conflicts.

    pip install 'bo-suite[postgres]' optuna sqlalchemy
    python benchmarks/hammer.py --out FILE

Sixteen processes share 2,000 trials, each of which takes 5 ms to evaluate, on a SQLite file and on a
PostgreSQL server that is durable. "store" asks for random points through the turns, the transactions and the
budget of `Optimizer.ask`, so the store is what is measured; "start" is an `Optimizer` of which all points are
initial ones, "model" one with the default acquisition, both with fewer trials. Afterwards: ids without gaps,
each trial told by one process, its stored value the acknowledged one, the budget exact. A conflict is an
insertion that was refused since others had asked first, so that the ask was repeated.

Optuna's `RDBStorage` does the same on the same server, in equal shares of trials, and once with its
`MaxTrialsCallback` for a budget. The script of its issue 6172 queues 50 trials, which 100 threads ask for.

With `--crowd` 100 processes ask and tell on one server without evaluating.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import stores

from bo_suite import Optimizer
from bo_suite.errors import BudgetSpent
from bo_suite.storage.history import History
from bo_suite.storage.trial import Snapshot, Trial
from bo_suite.study.asking import asked_in_turn
from bo_suite.study.suggest import Suggestion

EVALUATION_S = 0.005
"""Seconds of an evaluation."""

processes = multiprocessing.get_context("forkserver")  # one import of torch serves every process
processes.set_forkserver_preload(
    ["bo_suite.study.suggest", "bo_suite.acquisition", "bo_suite.storage.postgresql", "stores"]
)

_barrier: Any = None


@dataclass(frozen=True)
class Plan:
    """What each process does.

    Attributes:
        place: a file, or the URL of a run.
        points: "store", "start" or "model", as the module says.
        budget: trials of all processes together.
        pause: seconds of an evaluation.
    """

    place: str
    points: str
    budget: int
    pause: float = EVALUATION_S


@dataclass
class Done:
    """What a process has done; times are of the clock of the machine."""

    asks: list[float] = field(default_factory=list)
    tells: list[float] = field(default_factory=list)
    conflicts: int = 0
    told: dict[int, float] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0


def create(plan: Plan) -> None:
    """Makes the store."""
    initial = plan.budget if plan.points == "start" else None
    optimizer = Optimizer(stores.SPACE, storage=plan.place, budget=plan.budget, initial=initial)
    optimizer.close()


def work(plan: Plan) -> Done:
    """Asks and tells until the budget is spent."""
    optimizer = Optimizer.resume(plan.place)
    history: History = optimizer._history
    done, insert = Done(), history.insert

    def counted(*args: Any, **kwargs: Any) -> list[Trial] | None:
        trials = insert(*args, **kwargs)
        done.conflicts += trials is None
        return trials

    history.insert = counted  # type: ignore[method-assign]
    ask: Callable[[], Trial] = partial(optimizer.ask, budget=plan.budget)
    if plan.points == "store":
        draw = random.Random(repr(history.owner)).random
        ask = partial(_random_ask, history, plan.budget, draw)
    if _barrier is not None:
        _barrier.wait()
    done.began = time.time()
    while True:
        before = time.perf_counter()
        try:
            trial = ask()
        except BudgetSpent:
            break
        done.asks.append(time.perf_counter() - before)
        if plan.pause:
            time.sleep(plan.pause)
        value, before = random.random(), time.perf_counter()
        optimizer.tell(trial, value)
        done.tells.append(time.perf_counter() - before)
        assert trial.id not in done.told
        done.told[trial.id] = value
    done.ended = time.time()
    if _barrier is not None:
        _barrier.wait()  # the connections are there until the CPU time of the server is read
    optimizer.close()
    return done


def _random_ask(history: History, budget: int, draw: Callable[[], float]) -> Trial:
    def suggest(snapshot: Snapshot, count: int) -> list[Suggestion]:
        return [Suggestion(stores.random_point(draw), {"source": "random"})]

    return asked_in_turn(history, suggest, 1, budget)[0]


def problems(plan: Plan, done: list[Done]) -> list[str]:
    """What is wrong with a store after all processes have ended."""
    optimizer = Optimizer.resume(plan.place)
    trials = {trial.id: trial for trial in optimizer.trials}
    optimizer.close()
    told = Counter(number for one in done for number in one.told)
    values = {number: value for one in done for number, value in one.told.items()}
    wrong = [f"{len(trials)} trials of {plan.budget}"] * (len(trials) != plan.budget)
    wrong += ["ids have gaps"] * (list(trials) != list(range(len(trials))))
    wrong += [f"trial {number} was told by {count} processes" for number, count in told.items() if count > 1]
    for number, value in values.items():
        if number not in trials or trials[number].value != value:
            wrong.append(f"the acknowledged value of trial {number} is not stored")
    wrong += [f"trial {number} is {one.state}" for number, one in trials.items() if one.state != "finished"]
    return wrong


def hammer(plan: Plan, count: int, running: Any = None) -> dict[str, Any]:
    """What so many processes have done on a new store; CPU time of the server, if there is one."""
    create(plan)
    done, cpu = _together(count, partial(work, plan), running)
    seconds = max(one.ended for one in done) - min(one.began for one in done)
    return _row(plan, count, done, seconds) | {"server_cpu_s": cpu, "wrong": problems(plan, done)}


def _together(count: int, task: Callable[[], Done], running: Any = None) -> tuple[list[Done], float | None]:
    """Results of a task in so many processes that begin at once, and CPU seconds of the server meanwhile."""
    barrier = processes.Barrier(count + (running is not None))
    cpu = None
    with ProcessPoolExecutor(count, processes, _set_barrier, (barrier,)) as pool:
        results = [pool.submit(task) for _ in range(count)]
        if running is not None:
            barrier.wait()
            before = stores.cpu_seconds(running)
            barrier.wait()
            cpu = round(stores.cpu_seconds(running) - before, 2)
        return [result.result() for result in results], cpu


def _set_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _row(plan: Plan, count: int, done: list[Done], seconds: float) -> dict[str, Any]:
    asks, tells = ([second for one in done for second in getattr(one, name)] for name in ("asks", "tells"))
    return {
        "store": plan.place.partition(":")[0] if "://" in plan.place else "sqlite",
        "points": plan.points,
        "processes": count,
        "trials": len(asks),
        "seconds": round(seconds, 2),
        "trials_per_s": round(len(asks) / seconds, 1),
        "ask_ms": [round(1000 * stores.quantile(asks, level), 1) for level in (0.5, 0.99)],
        "tell_ms": [round(1000 * stores.quantile(tells, level), 1) for level in (0.5, 0.99)],
        "conflicts": sum(one.conflicts for one in done),
    }


# Optuna.


def work_optuna(url: str, sampler: str, share: int, pause: float) -> Done:
    """Asks and tells a share of an Optuna study."""
    study, done = _study(url, sampler), Done()
    if _barrier is not None:
        _barrier.wait()
    done.began = time.time()
    for _ in range(share):
        before = time.perf_counter()
        trial = study.ask()
        stores.suggest_optuna(trial)
        done.asks.append(time.perf_counter() - before)
        time.sleep(pause)
        value, before = random.random(), time.perf_counter()
        study.tell(trial, value)
        done.tells.append(time.perf_counter() - before)
        done.told[trial.number] = value
    done.ended = time.time()
    if _barrier is not None:
        _barrier.wait()
    return done


def budget_optuna(url: str, budget: int) -> Done:
    """Optimises until the study has so many trials, as Optuna's documentation says."""
    import optuna

    study, done = _study(url, "random"), Done()
    if _barrier is not None:
        _barrier.wait()
    done.began = time.time()

    def objective(trial: Any) -> float:
        stores.suggest_optuna(trial)
        time.sleep(EVALUATION_S)
        return random.random()

    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(budget, states=None)])
    done.ended = time.time()
    return done


def _study(url: str, sampler: str) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    storage = optuna.storages.RDBStorage(url)
    return optuna.load_study(study_name="hammer", storage=storage, sampler=samplers[sampler]())


def hammer_optuna(running: Any, sampler: str, budget: int, count: int) -> dict[str, Any]:
    """The same of Optuna's storage, in shares."""
    import optuna

    with _optuna_study(running) as (url, study):
        task = partial(work_optuna, url, sampler, budget // count, EVALUATION_S)
        done, cpu = _together(count, task, running)
        seconds = max(one.ended for one in done) - min(one.began for one in done)
        row = _row(Plan(url, f"Optuna {sampler}", budget), count, done, seconds)
        numbers = [trial.number for trial in study.get_trials(deepcopy=False)]
        wrong = ["ids have gaps or repeat"] * (sorted(numbers) != list(range(budget)))
        finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        wrong += ["trials are not finished"] * (len(finished) != budget)
        return row | {"server_cpu_s": cpu, "wrong": wrong}


def overshot_optuna(running: Any, budget: int, count: int) -> int:
    """How many trials more than a budget Optuna's processes have evaluated."""
    with _optuna_study(running) as (url, study):
        barrier = processes.Barrier(count)
        with ProcessPoolExecutor(count, processes, _set_barrier, (barrier,)) as pool:
            list(pool.map(budget_optuna, [url] * count, [budget] * count))
        return len(study.get_trials(deepcopy=False)) - budget


@contextmanager
def _optuna_study(running: Any) -> Iterator[tuple[str, Any]]:
    """A study in a database of its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = f"optuna{time.time_ns()}"
    running.create_database(name)
    storage = stores.optuna_storage(running, name)
    url = running.url(name).replace("postgresql://", "postgresql+psycopg://", 1)
    yield url, optuna.create_study(study_name="hammer", storage=storage)
    storage.engine.dispose()


def queue_optuna(running: Any, queued: int = 50, threads: int = 100) -> tuple[int, int]:
    """Of queued trials of Optuna: how many were handed out, and how many to two threads."""
    import optuna

    with _optuna_study(running) as (_, study):
        for number in range(queued):
            study.enqueue_trial({"i": number})
        with ThreadPoolExecutor(threads) as pool:
            asked = list(pool.map(lambda _: study.ask(), range(queued)))
        waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    return queued - len(waiting), len(asked) - len({trial.number for trial in asked})


def queue(place: str, queued: int = 50, threads: int = 100) -> tuple[int, int]:
    """Of queued points of bo_suite: how many were handed out, and how many to two threads."""
    optimizer = Optimizer(stores.SPACE, storage=place)
    draw = random.Random(0).random
    optimizer.enqueue([stores.random_point(draw) for _ in range(queued)])
    started = threading.Barrier(queued)

    def ask(_: int) -> Trial:
        started.wait()
        own = Optimizer.resume(place)
        trial = own.ask()
        own.close()
        return trial

    with ThreadPoolExecutor(threads) as pool:
        asked = list(pool.map(ask, range(queued)))
    optimizer.close()
    points = {str(trial.params) for trial in asked if trial.provenance.get("source") == "queue"}
    return len(points), len(asked) - len({trial.id for trial in asked})


# The tables.

HEADINGS = (
    "store",
    "points",
    "processes",
    "trials",
    "trials/s",
    "ask ms: median, p99",
    "tell ms",
    "conflicts",
    "server CPU ms a trial",
    "lost, doubled or wrong",
)


def show(row: dict[str, Any]) -> list[object]:
    """A line of the table."""
    cpu = row["server_cpu_s"]
    return [
        row["store"],
        row["points"],
        row["processes"],
        row["trials"],
        row["trials_per_s"],
        ", ".join(map(str, row["ask_ms"])),
        ", ".join(map(str, row["tell_ms"])),
        row["conflicts"],
        "" if cpu is None else round(1000 * cpu / max(row["trials"], 1), 1),
        len(row["wrong"]),
    ]


def main() -> int:
    """Runs the measurements and prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--model-trials", type=int, default=200, help='of "start" and "model"')
    parser.add_argument("--optuna-trials", type=int, default=2000, help="of Optuna")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--crowd", type=int, default=0, help="also so many processes on one server")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, stores.server(max(60, 3 * options.crowd)) as running:
        stores.print_table(HEADINGS, [])

        def note(row: dict[str, Any]) -> None:
            rows.append(row)
            stores.append(options.out, [row])
            print("| " + " | ".join(map(str, show(row))) + " |", flush=True)

        for points in ("store", "start", "model"):
            trials = options.trials if points == "store" else options.model_trials
            note(hammer(Plan(f"{folder}/{points}.db", points, trials), options.processes))
            note(hammer(Plan(running.url(run=points), points, trials), options.processes, running))
        for sampler in ("random", "tpe"):
            note(hammer_optuna(running, sampler, options.optuna_trials, options.processes))
        if options.crowd:
            plan = Plan(running.url(run="crowd"), "store", 20 * options.crowd, 0.0)
            note(hammer(plan, options.crowd, running))
        facts = {
            "optuna_overshot": overshot_optuna(running, options.model_trials, options.processes),
            "optuna_queue": queue_optuna(running),
            "queue": queue(running.url(run="queue")),
            "queue_sqlite": queue(f"{folder}/queue.db"),
        }
        stores.append(options.out, [facts])
        print(f"Optuna evaluated {facts['optuna_overshot']} trials more than a budget.")
        for name in ("queue", "queue_sqlite", "optuna_queue"):
            handed, twice = facts[name]  # type: ignore[misc]
            print(f"{name}: of 50 queued trials 100 threads got {handed}, {twice} of them twice")
    return int(any(row["wrong"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""Workers under fire: killed, suspended, cut off and without a server, and what they acknowledged afterwards.

    pip install 'bo-suite[postgres]'
    python benchmarks/under_fire.py --out FILE

Eight workers (`bo_suite.run.worker.work`, as `bo-suite worker` calls it) evaluate one run on a PostgreSQL
server that is durable. They connect through two proxies. Meanwhile, at random instants: 200 workers get
SIGKILL and are replaced, 50 are stopped by SIGSTOP for longer than their lease, the server is restarted 20
times, gracefully or not, and 20 times a proxy passes nothing on for longer than a lease. The same on a SQLite
file, with kills and stops.

Each worker writes each outcome that `tell` has acknowledged to a ledger, with an fsync: trial, attempt,
value. No two evaluations return the same value. A trigger of the database notes each version of each row in
the transaction that writes it. In the end:

- lost: acknowledged outcomes that are not the stored ones;
- doubled: trials that were acknowledged twice or have ended twice, or gaps in the ids;
- late: acknowledged outcomes of an attempt that is not the last one of its trial;
- budget: the trials are as many as the budget;
- refused outcomes are in the table of changes;
- abandoned: seconds from the kill of a worker to the end of the trial that it held, unless the next worker
  of that trial was hit as well; to be at most two leases.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import stores
from fire_judge import AUDIT, Plan, Read, Result, examine
from fire_objective import evaluation
from postgres_server import ROLE
from stalling_proxy import Proxy

from bo_suite import Optimizer
from bo_suite.errors import StorageError, SupersededError
from bo_suite.run.worker import work
from bo_suite.storage import history
from bo_suite.storage.addresses import Lease
from bo_suite.storage.trial import Trial

RUN = "fire"
SCHEMA = f"bo_suite_run_{RUN}"

NO_SERVER = 75
"""Exit code of a worker that began while it could not reach the server, as services are restarted by."""

processes = multiprocessing.get_context("forkserver")  # one import of torch serves every worker
processes.set_forkserver_preload(
    ["bo_suite.study.suggest", "bo_suite.acquisition", "bo_suite.storage.postgresql", "under_fire"]
)


# A worker.


def serve(place: str, folder: str, plan: Plan) -> None:
    """Works until the budget is spent, and writes what was acknowledged and what was refused to two files."""
    if "://" not in place:
        history.Lease = partial(Lease, plan.lease, plan.lease / 3)  # type: ignore[attr-defined]
    try:
        optimizer = Optimizer.resume(place)
    except StorageError:  # a worker that never reached the server does not wait for it
        sys.exit(NO_SERVER)
    told, refused = (
        os.open(f"{folder}/{os.getpid()}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for kind in ("told", "refused")
    )
    tell = optimizer.tell

    def noted(trial: Trial, value: float, std: float | None = None, **more: None) -> Trial:
        line = json.dumps([trial.id, trial.attempt, value]).encode() + b"\n"
        try:
            stored = tell(trial, value, std, **more)
        except SupersededError:
            os.write(refused, line)
            raise
        os.write(told, line)
        os.fsync(told)
        return stored

    optimizer.tell = noted  # type: ignore[method-assign,assignment]
    work(partial(evaluation, *plan.evaluation), optimizer, plan.budget)
    optimizer.close()


class Crew:
    """The workers, each of which is replaced when it was killed.

    Args:
        places: of the run; workers take them in turn.
        folder: for the ledgers.
        plan: of the run.
        draw: chooses victims.
    """

    def __init__(self, places: Sequence[str], folder: Path, plan: Plan, draw: random.Random) -> None:
        self._places, self._folder, self._plan, self._draw = places, folder, plan, draw
        self._members = [self._started(number) for number in range(plan.workers)]
        self._stopped: set[int] = set()
        self._timers: list[threading.Timer] = []
        self.wrong: list[str] = []
        self.restarted = 0

    def _started(self, number: int) -> Any:
        place = self._places[number % len(self._places)]
        process = processes.Process(target=serve, args=(place, str(self._folder), self._plan))
        process.start()
        return process

    def _victim(self) -> int:
        """A worker that is neither stopped nor ended; one that has opened the run, if there is any."""
        able = [
            number
            for number, one in enumerate(self._members)
            if one.pid not in self._stopped and one.exitcode is None
        ]
        begun = [n for n in able if (self._folder / f"{self._members[n].pid}.told").exists()]
        return self._draw.choice(begun or able)

    def kill(self) -> int:
        """Kills a worker and starts another one; the process id of the dead."""
        number = self._victim()
        dead = self._members[number]
        dead.kill()
        dead.join()
        self._members[number] = self._started(number)
        return int(dead.pid)

    def stop(self, seconds: float) -> int:
        """Stops a worker for some seconds; its process id."""
        pid = int(self._members[self._victim()].pid)
        os.kill(pid, signal.SIGSTOP)
        self._stopped.add(pid)
        self.later(seconds, partial(self._go_on, pid))
        return pid

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Does something after some seconds."""
        timer = threading.Timer(seconds, action)
        self._timers.append(timer)
        timer.start()

    def _go_on(self, pid: int) -> None:
        self._stopped.discard(pid)
        os.kill(pid, signal.SIGCONT)

    def pids(self, group: int) -> list[int]:
        """Process ids of the workers with one of the places."""
        return [int(one.pid) for n, one in enumerate(self._members) if n % len(self._places) == group]

    def check(self) -> bool:
        """Replaces workers that have ended with an error, which is noted; whether all have ended well."""
        for number, one in enumerate(self._members):
            if one.exitcode in (None, 0):
                continue
            self._members[number] = self._started(number)
            self.restarted += 1
            if one.exitcode != NO_SERVER:
                self.wrong.append(f"a worker ended with {one.exitcode}")
        return all(one.exitcode == 0 for one in self._members)

    def end(self, patience: float) -> None:
        """Waits until all have ended."""
        for timer in self._timers:
            timer.join()
        deadline = time.monotonic() + patience
        while not self.check() and time.monotonic() < deadline:
            time.sleep(0.1)
        for one in self._members:
            if one.exitcode is None:
                self.wrong.append("a worker did not end")
                one.kill()


# The database, seen from beside.

_SQLITE_AUDIT = """
    CREATE TABLE audit (number INTEGER PRIMARY KEY, trial, attempt, state, owner, value, made);
    CREATE TRIGGER audit_insert AFTER INSERT ON trials BEGIN {note} END;
    CREATE TRIGGER audit_update AFTER UPDATE ON trials BEGIN {note} END
""".replace(
    "{note}",
    f"INSERT INTO audit ({AUDIT}) VALUES (NEW.id, NEW.attempt, NEW.state, NEW.owner, NEW.value, "
    "(julianday('now') - 2440587.5) * 86400.0);",
)
_POSTGRES_AUDIT = f"""
    CREATE TABLE audit (number BIGINT GENERATED ALWAYS AS IDENTITY, trial BIGINT, attempt BIGINT, state TEXT,
        owner TEXT, value FLOAT8, made FLOAT8);
    GRANT ALL ON audit TO {ROLE};
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.audit ({AUDIT}) VALUES (NEW.id, NEW.attempt, NEW.state, NEW.owner, NEW.value,
            extract(epoch FROM clock_timestamp()));
        RETURN NEW; END $$;
    CREATE TRIGGER audit AFTER INSERT OR UPDATE ON {SCHEMA}.trials FOR EACH ROW EXECUTE FUNCTION note()
"""


def sqlite_read(path: Path) -> Read:
    """Reads a file."""

    def read(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            return connection.execute(statement.replace("{schema}.", "")).fetchall()

    return read


def postgres_read(running: Any) -> Read:
    """Reads the run of a server."""
    return lambda statement: running.execute(statement.replace("{schema}", SCHEMA), database=ROLE)


# The experiment.


def sqlite_fire(plan: Plan, say: Callable[[str], None]) -> Result:
    """Kills and stops, on a file."""
    with tempfile.TemporaryDirectory() as place:
        path, folder = Path(place) / "run.db", Path(place) / "ledgers"
        folder.mkdir()
        _create(str(path), plan)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(_SQLITE_AUDIT)
        result, draw = Result("sqlite"), random.Random(plan.seed)
        crew = Crew([str(path)], folder, plan, draw)
        _fire(plan, crew, sqlite_read(path), {}, result, say)
        examine(plan, sqlite_read(path), folder, result)
        return result


def postgres_fire(plan: Plan, say: Callable[[str], None]) -> Result:
    """All events, on a server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(stores.server(max_connections=100))
        proxies = [stack.enter_context(Proxy("127.0.0.1", running.port)) for _ in range(2)]
        _create(running.url(run=RUN), plan)
        running.execute(_POSTGRES_AUDIT, database=ROLE)
        result, draw = Result("postgresql"), random.Random(plan.seed)
        lease = {"lease": plan.lease, "heartbeat": plan.lease / 3}
        crew = Crew([running.url(run=RUN, port=one.port, **lease) for one in proxies], folder, plan, draw)

        def restart() -> None:
            running.restart(draw.choice(["fast", "immediate"]))

        def partition() -> None:
            number, drops, began = draw.randrange(2), draw.random() < 0.5, time.time()
            pids = crew.pids(number)
            proxies[number].stall()

            def heal() -> None:
                if drops:
                    proxies[number].drop()
                proxies[number].resume()
                result.outages.append((began, time.time(), pids))

            crew.later(plan.outage, heal)

        _fire(plan, crew, postgres_read(running), {"restart": restart, "partition": partition}, result, say)
        examine(plan, postgres_read(running), folder, result)
        return result


def _create(place: str, plan: Plan) -> None:
    optimizer = Optimizer(stores.SPACE, storage=place, initial=plan.budget, budget=plan.budget)
    optimizer.close()


def _fire(
    plan: Plan,
    crew: Crew,
    read: Read,
    events: dict[str, Callable[[], None]],
    result: Result,
    say: Callable[[str], None],
) -> None:
    """Lets all events happen at random instants, evenly over the first nine tenths of the budget."""
    draw, began = random.Random(plan.seed + 1), time.perf_counter()

    def kill() -> None:
        result.hits.append((crew.kill(), time.time()))

    def stop() -> None:
        began = time.time()
        result.outages.append((began, began + plan.outage, [crew.stop(plan.outage)]))

    counts = {"kill": plan.kills, "stop": plan.stops, "restart": plan.restarts, "partition": plan.partitions}
    order = [name for name, count in counts.items() for _ in range(count)]
    draw.shuffle(order)
    actions = {"kill": kill, "stop": stop, **events}
    for number, name in enumerate(order):
        at = plan.budget * 0.9 * (number + draw.random()) / len(order)
        while (ended := read("SELECT count(*) FROM {schema}.trials WHERE ended IS NOT NULL")[0][0]) < at:
            crew.check()
            time.sleep(0.05)
        time.sleep(draw.uniform(0.0, 0.1))
        actions[name]()
        result.done[name] += 1
        say(f"{ended} of {plan.budget} trials, {dict(result.done)}, {time.perf_counter() - began:.0f} s")
    crew.end(120.0)
    result.seconds = round(time.perf_counter() - began, 1)
    result.wrong += crew.wrong
    result.counts["started again, for want of a server"] = crew.restarted


# The table.

_ROWS = (
    "started again, for want of a server",
    "trials",
    "attempts",
    "acknowledged",
    "refused",
    "used up",
    "lost",
    "doubled",
    "late",
    "gaps",
    "over or under budget",
    "not ended",
    "refused and not kept",
    "abandoned by a kill",
    "of these not hit again",
    "of these beyond two leases",
)


def show(results: Sequence[Result], plans: Sequence[Plan]) -> None:
    """Prints what was done and what was found."""
    rows: list[list[object]] = []
    for name in ("kill", "stop", "restart", "partition"):
        rows.append([f"{name}s", *(one.done[name] for one in results)])
    rows += [[name, *(one.counts[name] for one in results)] for name in _ROWS]
    for name, level in (("median", 0.5), ("largest", 1.0)):
        waits = (f"{stores.quantile(one.waits, level):.1f}" for one in results)
        rows.append([f"s from a kill to the end of the trial, {name}", *waits])
    rows.append(["lease, s", *(plan.lease for plan in plans)])
    rows.append(["seconds", *(one.seconds for one in results)])
    stores.print_table(["", *(one.engine for one in results)], rows)


def main() -> int:
    """Runs the experiment and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=1200)
    parser.add_argument("--share", type=float, default=1.0, help="of the events and of the budget")
    parser.add_argument("--engine", choices=["both", "sqlite", "postgresql"], default="both")
    parser.add_argument("--lease", type=float, default=4.0)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    budget, kills, stops, few = (round(options.share * n) for n in (options.budget, 200, 50, 20))
    plans = {
        "postgresql": Plan(budget, kills, stops, few, few, lease=options.lease),
        "sqlite": Plan(budget, kills, stops, lease=options.lease),
    }
    fires = {"postgresql": postgres_fire, "sqlite": sqlite_fire}
    chosen = list(plans) if options.engine == "both" else [options.engine]
    results = []
    for name in chosen:
        result = fires[name](plans[name], lambda text: print(f"\r{text}", end="", file=sys.stderr))
        results.append(result)
        print(file=sys.stderr)
        row = {"engine": name, "plan": vars(plans[name]), "done": result.done, "counts": result.counts}
        row |= {"waits": result.waits, "seconds": result.seconds, "wrong": result.wrong}
        stores.append(options.out, [row])
    show(results, [plans[name] for name in chosen])
    print(*(line for one in results for line in one.wrong or ["nothing lost, nothing doubled"]), sep="\n")
    return int(any(one.wrong or one.counts["of these beyond two leases"] for one in results))


if __name__ == "__main__":
    sys.exit(main())

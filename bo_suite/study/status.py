"""What a run is doing: who evaluates what, how fast, what went wrong, and what was told too late."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bo_suite.errors import TrialError
from bo_suite.storage.changes import Change
from bo_suite.storage.goals import Direction
from bo_suite.storage.leases import Holder
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import STATES, Snapshot, State, Trial, record
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.summary import best_trial, change_lines, pareto_trials

HOUR = 3600.0
MINUTES = 600.0
"""Seconds of the longer and of the shorter time in which ended trials are counted."""

_LATEST = 5
"""Number of failures and of late outcomes."""

WorkerState = Literal["working", "waiting", "held", "abandoned"]


@dataclass(frozen=True)
class Evaluation:
    """A running trial.

    Attributes:
        trial: its id.
        attempt: 1, plus one each time it was handed out again.
        started: unix seconds at which this attempt was handed out.
        seconds: since then.
    """

    trial: int
    attempt: int
    started: float
    seconds: float


@dataclass(frozen=True)
class Worker:
    """Who holds running trials, or has held some a short time ago.

    Attributes:
        owner: its unique name.
        name: user and host; "" if unknown.
        host: of its process.
        process: id of its process.
        state: "working"; "waiting" without a trial, such as while it chooses one; "held" until its trials are
            told, however long that takes; "abandoned" if its trials are free to be taken over.
        started: unix seconds of its first trial.
        started_ago: seconds since then.
        silent: seconds since its last sign of life.
        expires_in: seconds until its trials are free, below 0 if they are; None if they stay its own.
        trials: its running trials.
    """

    owner: str
    name: str
    host: str
    process: int
    state: WorkerState
    started: float
    started_ago: float
    silent: float
    expires_in: float | None
    trials: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Failure:
    """A failed trial: its id, the attempt, unix seconds of its end, why, and whether it failed by chance."""

    trial: int
    attempt: int
    ended: float | None
    reason: str
    transient: bool


@dataclass(frozen=True)
class Late:
    """An outcome of an attempt that another one had replaced: who told it, when, and what it was."""

    trial: int
    attempt: int | None
    author: str
    made: float
    outcome: str


@dataclass(frozen=True)
class Rate:
    """How many trials that were asked for have ended.

    Attributes:
        ten_minutes: in the last ten minutes.
        hour: in the last hour.
        per_hour: of the last hour, or of the time since the first trial of a younger run.
        budget_spent: unix seconds at which all of the budget will have ended; None if unknown, or if it has.
    """

    ten_minutes: int
    hour: int
    per_hour: float
    budget_spent: float | None


@dataclass(frozen=True)
class Status:
    """What a run is doing.

    Attributes:
        storage: its file or address, without password; None in memory.
        now: unix seconds, by the clock of the storage, as all times here.
        direction, seed, budget: of the run.
        left: trials of the budget that may still be asked for; None without a budget.
        counts: trials in each state.
        queued: points that are asked next.
        best: the best feasible trial; None if there is none, or with several objectives.
        pareto: with several objectives, the trials of the Pareto front.
        workers: those with abandoned and held trials first.
        rate: how fast it proceeds.
        failures: the last failed trials, the newest first.
        late: the last outcomes that were told too late, the newest first.
        late_count: number of all of these.
    """

    storage: str | None
    now: float
    direction: Direction
    seed: int
    budget: int | None
    left: int | None
    counts: dict[State, int]
    queued: int
    best: Trial | None
    pareto: tuple[Trial, ...]
    workers: tuple[Worker, ...]
    rate: Rate
    failures: tuple[Failure, ...]
    late: tuple[Late, ...]
    late_count: int

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON values."""
        best = None if self.best is None else record(self.best)
        return asdict(self) | {"best": best, "pareto": [record(trial) for trial in self.pareto]}


def status_of(run: Optimizer | Storage) -> Status:
    """What a run is doing at this moment; nothing is changed, so it may be one that can only be read.

    Raises:
        StorageError: the storage cannot be read.
    """
    storage = run._history if isinstance(run, Optimizer) else run
    snapshot, now = storage.snapshot(), storage.now()
    header, trials = snapshot.header, snapshot.trials
    late = [change for change in storage.changes() if change.action == "late"]
    failed = [trial for trial in trials if trial.state == "failed"]
    left = None if header.budget is None else max(header.budget - _counted(trials), 0)
    goals, space = header.goals, header.space
    return Status(
        storage=None if storage.place is None else str(storage.place),
        now=now,
        direction=header.direction,
        seed=header.seed,
        budget=header.budget,
        left=left,
        counts={state: sum(trial.state == state for trial in trials) for state in STATES},
        queued=len(snapshot.queue),
        best=_best(snapshot),
        pareto=tuple(pareto_trials(trials, goals, space)) if goals.several else (),
        workers=_workers(storage.holders(), trials, now),
        rate=_rate(trials, left, now),
        failures=tuple(map(_failure, sorted(failed, key=_end)[: -_LATEST - 1 : -1])),
        late=tuple(map(_late, late[: -_LATEST - 1 : -1])),
        late_count=len(late),
    )


def _counted(trials: Sequence[Trial]) -> int:
    """Number of trials that count for a budget."""
    return sum(trial.state != "withdrawn" for trial in trials)


def _end(trial: Trial) -> float:
    return trial.started if trial.ended is None else trial.ended


def _best(snapshot: Snapshot) -> Trial | None:
    header = snapshot.header
    try:
        return best_trial(snapshot.trials, header.goals, header.space)
    except TrialError:
        return None


def _workers(holders: Sequence[Holder], trials: Sequence[Trial], now: float) -> tuple[Worker, ...]:
    """The workers, those with abandoned and held trials first, else by the beginning of their work."""
    running = {trial.id: trial for trial in trials if trial.state == "running"}
    workers = []
    for holder in holders:
        own = [running[number] for number in holder.trials if number in running]
        host, process = holder.process
        workers.append(
            Worker(
                holder.owner,
                holder.worker,
                host,
                process,
                _state(holder),
                holder.started,
                max(now - holder.started, 0.0),
                max(now - holder.renewed, 0.0),
                None if holder.expires is None else holder.expires - now,
                tuple(Evaluation(t.id, t.attempt, t.started, max(now - t.started, 0.0)) for t in own),
            )
        )
    order: list[WorkerState] = ["abandoned", "held", "working", "waiting"]
    return tuple(sorted(workers, key=lambda worker: (order.index(worker.state), worker.started)))


def _state(holder: Holder) -> WorkerState:
    if holder.abandoned:
        return "abandoned"
    if not holder.trials:
        return "waiting"
    return "held" if holder.expires is None and holder.worker else "working"


def _rate(trials: Sequence[Trial], left: int | None, now: float) -> Rate:
    asked = [trial for trial in trials if trial.asked]
    ended = [trial.ended for trial in asked if trial.ended is not None and trial.state != "withdrawn"]
    minutes, hour = (sum(time > now - seconds for time in ended) for seconds in (MINUTES, HOUR))
    window = min(HOUR, max(now - min((trial.started for trial in asked), default=now), 1.0))
    per_hour = hour * HOUR / window
    open_ones = None if left is None else left + sum(trial.state == "running" for trial in trials)
    spent = now + open_ones / per_hour * HOUR if open_ones and per_hour else None
    return Rate(minutes, hour, per_hour, spent)


def _failure(trial: Trial) -> Failure:
    return Failure(trial.id, trial.attempt, trial.ended, trial.reason or "", trial.transient)


def _late(change: Change) -> Late:
    (line,) = change_lines(change)
    assert change.trial is not None
    return Late(change.trial, change.after.get("attempt"), change.author, change.made, line)

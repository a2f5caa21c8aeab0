"""What must hold after a fire: acknowledged outcomes compared with the database, row by row."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AUDIT = "trial, attempt, state, owner, value, made"
"""Columns of the table that has each version of each row."""

Read = Callable[[str], list[tuple[Any, ...]]]
"""Rows of a statement, read beside the workers; `{schema}` stands for where the tables are."""


@dataclass(frozen=True)
class Plan:
    """What happens.

    Attributes:
        budget: trials of the run.
        kills: workers that get SIGKILL.
        stops: workers that get SIGSTOP.
        restarts: of the server.
        partitions: times that half of the workers do not reach the server.
        workers: at a time.
        lease: seconds; the heartbeat is a third of it.
        evaluation: seconds of the shortest and of the longest one.
        seed: of the order of events.
    """

    budget: int
    kills: int
    stops: int
    restarts: int = 0
    partitions: int = 0
    workers: int = 8
    lease: float = 4.0
    evaluation: tuple[float, float] = (0.1, 2.0)
    seed: int = 5

    @property
    def outage(self) -> float:
        """Seconds of a stop and of a partition."""
        return 1.4 * self.lease


@dataclass
class Result:
    """What was done, and what was found.

    Attributes:
        done: events by name.
        hits: (process id, unix seconds) of workers that were killed.
        outages: (first, last) unix seconds, and process ids that were stopped or cut off.
        seconds: of all.
        counts: what was found.
        waits: seconds from the kill of a worker to the end of its trial.
        wrong: what must not be.
    """

    engine: str
    done: Counter[str] = field(default_factory=Counter)
    hits: list[tuple[int, float]] = field(default_factory=list)
    outages: list[tuple[float, float, list[int]]] = field(default_factory=list)
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def ledger(folder: Path, kind: str) -> list[tuple[int, int, float]]:
    """What workers have written; a line that a kill has cut off was not acknowledged."""
    lines = (line for path in sorted(folder.glob(f"*.{kind}")) for line in path.read_text().splitlines(True))
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def examine(plan: Plan, read: Read, folder: Path, result: Result) -> None:
    """Compares the ledgers with the database, row by row."""
    trials = read("SELECT id, attempt, state, value FROM {schema}.trials ORDER BY id")
    audit = read(f"SELECT {AUDIT} FROM {'public.' if result.engine != 'sqlite' else ''}audit ORDER BY number")
    late = [
        (number, form["attempt"], form["value"])
        for number, after in read("SELECT trial, after FROM {schema}.changes WHERE action = 'late'")
        if (form := json.loads(after))["state"] == "finished"
    ]
    compare(plan, trials, audit, (ledger(folder, "told"), ledger(folder, "refused"), late), result)
    waits = list(abandoned(audit, result))
    result.waits = sorted(round(wait, 2) for wait in waits if wait is not None)
    result.counts["abandoned by a kill"] = len(waits)
    result.counts["of these not hit again"] = len(result.waits)
    result.counts["of these beyond two leases"] = sum(wait > 2 * plan.lease for wait in result.waits)


def compare(
    plan: Plan,
    trials: Sequence[tuple[Any, ...]],
    audit: Sequence[tuple[Any, ...]],
    written: tuple[Sequence[tuple[int, int, float]], ...],
    result: Result,
) -> None:
    """Counts what is lost, doubled or late, and notes what is wrong.

    Args:
        plan: of the run.
        trials: id, attempt, state and value of each row, in order of id.
        audit: each version of each row, in order of writing.
        written: what was acknowledged, what was refused, and the outcomes that the database keeps as late.
        result: gets the counts.
    """
    told, refused, late = written
    stored = {number: (attempt, state, value) for number, attempt, state, value in trials}
    acknowledged = Counter(number for number, _, _ in told)
    ends = Counter(row[0] for row in audit if row[2] != "running")
    wrong = {
        "lost": [one for one in told if stored.get(one[0], (0, "", None))[1:] != ("finished", one[2])],
        "late": [one for one in told if one[0] in stored and one[1] != stored[one[0]][0]],
        "doubled": [number for number, count in (acknowledged | ends).items() if count > 1],
        "gaps": [number for number, (found, *_) in enumerate(trials) if number != found][:1],
        "over or under budget": [len(trials)] * (len(trials) != plan.budget),
        "not ended": [number for number, (_, state, _) in stored.items() if state == "running"],
        "refused and not kept": [one for one in refused if one not in late],
    }
    result.counts |= {"trials": len(trials), "acknowledged": len(told), "refused": len(late)}
    result.counts["attempts"] = sum(attempt for _, attempt, _, _ in trials)
    result.counts["used up"] = sum(state == "failed" for _, _, state, _ in trials)
    for name, found in wrong.items():
        result.counts[name] = len(found)
        result.wrong += [f"{name}: {one}" for one in found]


def abandoned(audit: Sequence[tuple[Any, ...]], result: Result) -> Iterator[float | None]:
    """Of each trial that a killed worker held: seconds from the kill to the end of the trial.

    None if its next worker was hit: killed, stopped or cut off.
    """
    versions: dict[int, list[tuple[Any, ...]]] = {}
    for row in audit:
        versions.setdefault(row[0], []).append(row)
    deaths = dict(result.hits)
    for rows in versions.values():
        end = next((row for row in rows if row[2] != "running"), None)
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            death = deaths.get(_pid(row[3]))
            if row[2] != "running" or death is None or row[5] > death or (after and after[5] <= death):
                continue
            if after and after[1:3] == (row[1], "finished"):  # its last statement was on the way
                continue
            if end is None or after is None or after[1] != end[1]:
                yield None
            else:
                yield None if _hit(_pid(after[3]), death, end[5], result) else end[5] - death


def _pid(owner: str) -> int:
    return int(owner.rsplit(":", 3)[1])


def _hit(pid: int, first: float, last: float, result: Result) -> bool:
    """Whether a worker was stopped or cut off between two instants."""
    return any(began < last and ended > first and pid in pids for began, ended, pids in result.outages)

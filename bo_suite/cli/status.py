"""`bo-suite status`: what a run is doing, once or again and again."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from bo_suite.cli.console import (
    USAGE,
    outcome,
    outcome_text,
    print_json,
    sentences,
    stop,
    table_of,
)
from bo_suite.cli.options import JsonOption, StorageArgument, existing
from bo_suite.values.describe import shortened, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bo_suite.storage.goals import Goals
    from bo_suite.study.status import Evaluation, Status, Worker

_MOST_WORKERS, _MOST_TRIALS, _REASON = 20, 4, 100
"""Most workers that are shown, most trials of one, and most characters of a reason."""


@sentences()
def status(
    storage: StorageArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", min=0.1, help="Time between two looks of --watch.", show_default="2"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who evaluates what, how fast the run proceeds, its last failures and late outcomes.

    It only reads, so a role without the right to write suffices. With --watch and --json, or where stdout is
    no terminal, each look is printed below the last one; Ctrl-C is the end, with exit code 0.
    """
    if every is not None and not watch:
        stop("--every needs --watch", USAGE)
    from bo_suite.study.status import status_of

    with existing(storage) as history:
        if not watch:
            _print(status_of(history), history.header.goals, as_json=as_json)
            return
        looks = ((status_of(history), history.header.goals) for _ in _moments(every or 2.0))
        with suppress(KeyboardInterrupt):
            if sys.stdout.isatty() and not as_json:
                _redraw(looks)
            for seen, goals in looks:
                _print(seen, goals, as_json=as_json)


def _moments(seconds: float) -> Iterator[None]:
    """Now, and then again after so many seconds each."""
    while True:
        yield
        time.sleep(seconds)


def _print(seen: "Status", goals: "Goals", *, as_json: bool) -> None:
    if as_json:
        print_json(seen.to_dict())
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(*_shown(seen, goals), sep="\n")
    sys.stdout.flush()


def _redraw(looks: "Iterator[tuple[Status, Goals]]") -> None:
    """Shows the latest look on a screen of its own, and leaves the last one on the terminal."""
    from rich.console import Console, Group
    from rich.live import Live

    console, latest = Console(highlight=False), Group()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for seen, goals in looks:
                latest = Group(*_shown(seen, goals))
                live.update(latest, refresh=True)
    finally:
        console.print(latest)


def _shown(seen: "Status", goals: "Goals") -> "list[RenderableType]":
    """The lines and tables of a status."""
    from rich.text import Text

    ended = [f"{count} {state}" for state, count in seen.counts.items() if count]
    left = [] if seen.budget is None else [f"{seen.left} of the budget of {seen.budget} left"]
    queued = [f"{seen.queued} queued"] if seen.queued else []
    lines = [
        f"{seen.storage}, {_date(seen.now)}",
        f"best: {_best(seen, goals)}",
        f"trials: {', '.join([*ended, *left, *queued]) or 'none yet'}",
        _pace(seen),
    ]
    parts: list[RenderableType] = [Text(visible(line)) for line in lines]
    if seen.workers:
        rows = [_worker(worker) for worker in seen.workers[:_MOST_WORKERS]]
        parts.append(
            table_of(("worker", "process", "state", "since", "last sign", "free in", "trials"), rows)
        )
        if more := len(seen.workers) - _MOST_WORKERS:
            parts += [Text(f"and {more} more workers (--json has all)")] * (more > 0)
    else:
        parts.append(Text("no worker holds a trial"))
    if seen.failures:
        failures = [
            (str(one.trial), _since(seen.now, one.ended), shortened(one.reason, _REASON))
            for one in seen.failures
        ]
        parts.append(table_of(("failed", "ago", "reason"), failures))
    if seen.late:
        late = [(str(one.trial), _since(seen.now, one.made), one.author, one.outcome) for one in seen.late]
        parts.append(table_of((f"late ({seen.late_count})", "ago", "by", "what"), late))
    return parts


def _best(seen: "Status", goals: "Goals") -> str:
    if goals.several:
        return f"{len(seen.pareto)} trials in the Pareto front"
    if seen.best is None:
        return "none yet"
    name = goals.objectives[0].name
    return f"{outcome_text(seen.best, name) if goals.named else outcome(seen.best)} at trial {seen.best.id}"


def _pace(seen: "Status") -> str:
    rate = seen.rate
    text = f"ended: {rate.ten_minutes} in the last 10 minutes, {rate.hour} in the last hour"
    if rate.budget_spent is None:
        return text
    return f"{text}; at {rate.per_hour:,.4g} an hour the budget ends {_date(rate.budget_spent)}"


def _worker(worker: "Worker") -> Sequence[str]:
    """The cells of a worker."""
    free = worker.expires_in
    trials = [_evaluation(one) for one in worker.trials[:_MOST_TRIALS]]
    more = [f"and {len(worker.trials) - _MOST_TRIALS} more"] * (len(worker.trials) > _MOST_TRIALS)
    at = (
        f"{worker.process}"
        if worker.name.endswith(f"@{worker.host}")
        else f"{worker.process} at {worker.host}"
    )
    return (
        *(worker.name or "unknown", at, worker.state, _span(worker.started_ago), _span(worker.silent)),
        "now" if worker.state == "abandoned" else "never" if free is None else _span(free),
        ", ".join([*trials, *more]),
    )


def _evaluation(one: "Evaluation") -> str:
    again = f", attempt {one.attempt}" if one.attempt > 1 else ""
    return f"{one.trial} ({_span(one.seconds)}{again})"


def _since(now: float, time_of_it: float | None) -> str:
    return "" if time_of_it is None else _span(now - time_of_it)


def _span(seconds: float) -> str:
    """A duration in one unit."""
    seconds = max(seconds, 0.0)
    for unit, length, most in (("s", 1.0, 100.0), ("min", 60.0, 6000.0), ("h", 3600.0, 172800.0)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400.0:.0f} d"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

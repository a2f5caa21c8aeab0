"""One unit of a suite: a method on a problem with a seed, from the first evaluation to the last."""

import hashlib
import json
import logging
import math
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from bo_suite.bench.method import Lockstep, Method, Run, Task, inside
from bo_suite.errors import SpaceExhausted
from bo_suite.problems import Problem
from bo_suite.space.space import Params
from bo_suite.values.describe import described, error_text, plain_text, shortened, visible

logger = logging.getLogger("bo_suite")

_LONGEST = 2000
"""The most characters of an error that are stored."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, as it goes into the records.

    Attributes:
        params: the point.
        value: as observed; None where it failed.
        true_value: without noise; None where it failed.
        ask_seconds: time to suggest the point, or its share of the time of several.
        evaluate_seconds: time to evaluate it.
        tell_seconds: time to take the outcome.
        provenance: where the point came from, as the method tells it.
        failure: why there is no value.
    """

    params: Params
    value: float | None
    true_value: float | None
    ask_seconds: float
    evaluate_seconds: float
    tell_seconds: float
    provenance: dict[str, Any]
    failure: str | None = None


@dataclass(frozen=True)
class Unit:
    """What has come of a method on a problem with a seed.

    Attributes:
        problem: name.
        method: name.
        seed: as given; the run's own, and that of its noise, is `seed_on` the problem.
        state: "finished", "crashed" or "timed out".
        reason: why it ended early; None where it did not.
        seconds: wall time, or its share of the time of several.
        replicates: units that ran at once as one program.
        evaluations: in order.
    """

    problem: str
    method: str
    seed: int
    state: str
    reason: str | None
    seconds: float
    replicates: int
    evaluations: tuple[Evaluation, ...]


def seed_on(problem: str, seed: int) -> int:
    """The seed of a unit's run, less than 2**31: equal draws on several problems would not be independent."""
    digest = hashlib.blake2b(f"{problem}/{seed}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def run_unit(problem: Problem, method: Method, seed: int, budget: int, time_limit: float | None) -> Unit:
    """The record of one run; nothing that the method or the problem raises gets out.

    Args:
        problem: what to minimise.
        method: what suggests points.
        seed: of the unit.
        budget: number of evaluations.
        time_limit: seconds after which the run is ended, if need be within a suggestion (there only on the
            main thread of a system with interval timers).
    """
    began, done = time.perf_counter(), list[Evaluation]()
    state, reason = "finished", None
    try:
        with _alarm(time_limit):
            own = seed_on(problem.name, seed)
            run = method.start(Task(problem.space, own, budget, problem.noise > 0))
            while len(done) < budget:
                done.append(_evaluation(problem, run, own, done))
                if time_limit is not None and time.perf_counter() - began > time_limit:
                    raise _TimeOut
    except SpaceExhausted as error:
        reason = plain_text(error)  # there is no more to be found
    except _TimeOut:
        if len(done) < budget:
            state, reason = "timed out", f"the time limit of {time_limit:g} s was over"
    except KeyboardInterrupt:
        raise
    except BaseException:
        state, reason = "crashed", shortened(traceback.format_exc(), _LONGEST)
    seconds = time.perf_counter() - began
    return Unit(problem.name, method.name, seed, state, reason, seconds, 1, tuple(done))


def run_together(
    problem: Problem, method: Lockstep, seeds: Sequence[int], budget: int, time_limit: float | None
) -> list[Unit] | None:
    """The records of the runs of all seeds as one tensor program; None where it fails or takes too long.

    Seconds are shares of the time of all. The time limit of each counts, for all of them together, as often
    as there are runs.
    """
    began = time.perf_counter()
    try:
        with _alarm(None if time_limit is None else time_limit * len(seeds)):
            found = method.replicates(problem, [seed_on(problem.name, seed) for seed in seeds], budget)
        runs = found.evaluations()
        json.dumps([one.provenance for run in runs for one in run])  # while it can be done in another way
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        logger.warning(
            "the runs of %s on %s are made one by one, since together there was %s",
            visible(method.name),
            visible(problem.name),
            described(error),
        )
        return None
    share = (time.perf_counter() - began) / len(seeds)
    return [
        Unit(problem.name, method.name, seed, "finished", None, share, len(seeds), evaluations)
        for seed, evaluations in zip(seeds, runs, strict=True)
    ]


def _evaluation(problem: Problem, run: Run, seed: int, done: Sequence[Evaluation]) -> Evaluation:
    """One round of ask, evaluate and tell."""
    began = time.perf_counter()
    params = run.ask()
    asked = time.perf_counter()
    point, value, failure = inside(problem.space, params), math.nan, None
    try:
        value = problem.value(point)
    except (KeyboardInterrupt, _TimeOut):
        raise
    except BaseException as error:
        failure = error_text(error, _LONGEST)
    if failure is None and not math.isfinite(value):
        failure = f"the function returned {value}"
    evaluated = time.perf_counter()
    observed = math.nan
    if failure is None:
        observed = value + problem.noise_of(point, seed, sum(one.params == point for one in done))
        run.tell(params, observed)
    else:
        run.fail(params, failure)
    told = time.perf_counter()
    provenance = run.provenance()
    json.dumps(provenance)  # here, where what cannot be stored costs this unit alone
    return Evaluation(
        point,
        None if failure is not None else observed,
        None if failure is not None else value,
        asked - began,
        evaluated - asked,
        told - evaluated,
        provenance,
        failure,
    )


class _TimeOut(BaseException):
    """The time is over: no `except Exception` of a method may hold it up."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raises _TimeOut inside after some seconds, where a signal can."""
    possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not possible:
        yield
        return

    over = False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise _TimeOut

    before = signal.signal(signal.SIGALRM, ring)
    # again every second, for a library may have swallowed the first
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

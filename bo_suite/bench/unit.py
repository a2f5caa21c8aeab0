"""One unit of a suite: the run of a method on a problem with a seed."""

import hashlib
import json
import logging
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.merit import merit
from bo_suite.bench.method import (
    AnyMethod,
    BatchMethod,
    Method,
    OutcomeMethod,
    OutcomeRun,
    OutcomeTask,
    Run,
    Task,
    inside,
)
from bo_suite.errors import SpaceExhausted
from bo_suite.problems import Problem
from bo_suite.problems.outcomes import AnyProblem, OutcomeProblem
from bo_suite.space.space import Params
from bo_suite.values.describe import described, error_text, plain_text, shortened, visible

logger = logging.getLogger("bo_suite")

_LONGEST = 2000
"""Most characters of an error that are stored."""


@dataclass(frozen=True)
class Unit:
    """The record of a method on a problem with a seed.

    Attributes:
        problem: name.
        method: name.
        seed: of the unit; run and noise use `seed_on` the problem.
        state: "finished", "crashed" or "timed out".
        reason: why it ended early; None if it did not.
        seconds: wall time, or the unit's share of the time of a batch.
        replicates: number of units that ran as one tensor program.
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
    """The seed of a run, below 2**31; differs between problems, so that runs on them are independent."""
    digest = hashlib.blake2b(f"{problem}/{seed}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def run_unit(
    problem: AnyProblem, method: AnyMethod, seed: int, budget: int, time_limit: float | None
) -> Unit:
    """Runs a method on a problem; errors of either are recorded, not raised.

    Args:
        problem: problem to minimise.
        method: suggests the points.
        seed: of the unit.
        budget: number of evaluations.
        time_limit: seconds after which the run is ended; within a suggestion only on the main thread of a
            system with interval timers.
    """
    began, done = time.perf_counter(), list[Evaluation]()
    state, reason = "finished", None
    try:
        with _alarm(time_limit):
            run_seed = seed_on(problem.name, seed)
            run = _started(problem, method, run_seed, budget)
            while len(done) < budget:
                done.append(_evaluation(problem, run, run_seed, done))
                if time_limit is not None and time.perf_counter() - began > time_limit:
                    raise _TimeOut
    except SpaceExhausted as error:
        reason = plain_text(error)  # every point of a finite space was evaluated
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
    problem: Problem, method: BatchMethod, seeds: Sequence[int], budget: int, time_limit: float | None
) -> list[Unit] | None:
    """Runs all seeds as one tensor program; returns None if it fails or exceeds the joint time limit.

    The joint limit is time_limit x number of runs. The seconds of a run are its share of the total.
    """
    began = time.perf_counter()
    try:
        with _alarm(None if time_limit is None else time_limit * len(seeds)):
            run_seeds = [seed_on(problem.name, seed) for seed in seeds]
            replicates = method.replicates(problem, run_seeds, budget)
        runs = replicates.evaluations()
        # what cannot be stored is detected here, while the units can still run alone
        json.dumps([evaluation.provenance for run in runs for evaluation in run])
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        logger.warning(
            "the seeds of %s on %s run one by one, since the joint run failed: %s",
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


def _started(problem: AnyProblem, method: AnyMethod, seed: int, budget: int) -> Run | OutcomeRun:
    """The run of a method that has what the problem needs."""
    if isinstance(problem, OutcomeProblem):
        assert isinstance(method, OutcomeMethod)
        return method.start_outcomes(
            OutcomeTask(problem.space, seed, budget, problem.goals, problem.reference)
        )
    assert isinstance(method, Method)
    return method.start(Task(problem.space, seed, budget, problem.noisy))


def _evaluation(
    problem: AnyProblem, run: Run | OutcomeRun, seed: int, done: Sequence[Evaluation]
) -> Evaluation:
    """One round of ask, evaluate and tell."""
    began = time.perf_counter()
    params = run.ask()
    suggested = time.perf_counter()
    point, failure = inside(problem.space, params), None
    value: float | dict[str, float] = math.nan
    try:
        value = problem(point) if isinstance(problem, OutcomeProblem) else problem.value(point)
    except (KeyboardInterrupt, _TimeOut):
        raise
    except BaseException as error:
        failure = error_text(error, _LONGEST)
    if failure is None and isinstance(value, float) and not math.isfinite(value):
        failure = f"the function returned {value}"
    evaluated = time.perf_counter()
    stored = _Stored(None, None, None)
    if failure is None:
        told, stored = _observed(problem, point, value, seed, done)
        tell: Callable[[Params, Any], None] = run.tell
        tell(params, told)
    else:
        run.fail(params, failure)
    ended = time.perf_counter()
    provenance = run.provenance()
    json.dumps(provenance)  # what cannot be stored raises here, where it costs this unit alone
    return Evaluation(
        point,
        stored.value,
        stored.true_value,
        suggested - began,
        evaluated - suggested,
        ended - evaluated,
        provenance,
        failure,
        stored.outcomes,
    )


@dataclass(frozen=True)
class _Stored:
    """The fields of an evaluation that has an outcome."""

    value: float | None
    true_value: float | None
    outcomes: dict[str, float] | None


def _observed(
    problem: AnyProblem,
    point: Params,
    value: float | dict[str, float],
    seed: int,
    done: Sequence[Evaluation],
) -> tuple[float | dict[str, float], _Stored]:
    """What the method is told, and what is stored."""
    if isinstance(problem, OutcomeProblem):
        assert isinstance(value, dict)
        earlier = [evaluation.outcomes for evaluation in done if evaluation.outcomes is not None]
        found = merit(problem, [*earlier, value])
        return dict(value), _Stored(found, found, value)
    assert not isinstance(value, dict)
    repeat = sum(evaluation.params == point for evaluation in done)
    observed = value + problem.noise_of(point, seed, repeat)
    return observed, _Stored(observed, value, None)


class _TimeOut(BaseException):
    """The time limit is exceeded; not an Exception, so that no `except Exception` of a method catches it."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raises _TimeOut inside the block after some seconds, on the main thread of a system with timers."""
    possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not possible:
        yield
        return

    over = False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise _TimeOut

    before = signal.signal(signal.SIGALRM, ring)
    # again every second, as a library may have swallowed the first
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

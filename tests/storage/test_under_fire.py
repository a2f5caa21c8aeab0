"""Workers that are killed, stopped, cut off and without a server lose nothing; and the judge who says so."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fire_judge
import under_fire
from fire_judge import Plan, Result


def quiet(text: str) -> None:
    """Shows no progress."""


def test_a_file_under_fire_loses_nothing() -> None:
    result = under_fire.sqlite_fire(Plan(16, 2, 1, workers=2, lease=1.0, evaluation=(0.05, 0.3)), quiet)
    assert result.wrong == []
    assert result.done == {"kill": 2, "stop": 1}
    assert result.counts["acknowledged"] + result.counts["used up"] >= 14  # two kills can cut off two notes


def test_a_server_under_fire_loses_nothing() -> None:
    result = under_fire.postgres_fire(
        Plan(20, 2, 1, 1, 1, workers=3, lease=1.0, evaluation=(0.05, 0.3)), quiet
    )
    assert result.wrong == []
    assert result.done == {"kill": 2, "stop": 1, "restart": 1, "partition": 1}
    assert result.counts["acknowledged"] + result.counts["used up"] >= 18


@pytest.mark.slow
def test_both_engines_under_a_longer_fire() -> None:
    for result in (
        under_fire.postgres_fire(Plan(200, 20, 5, 2, 2), quiet),
        under_fire.sqlite_fire(Plan(200, 20, 5), quiet),
    ):
        assert result.wrong == []
        assert result.counts["abandoned by a kill"] > 0


Rows = list[tuple[Any, ...]]
_OWNER = "host:{pid}:1:0"


def judged(trials: Rows, audit: Rows, told: Rows, refused: Rows, late: Rows) -> list[str]:
    result = Result("sqlite")
    fire_judge.compare(Plan(2, 0, 0), trials, audit, (told, refused, late), result)
    return [line.partition(":")[0] for line in result.wrong]


def version(trial: int, attempt: int, state: str, made: float, pid: int = 1) -> tuple[Any, ...]:
    return trial, attempt, state, _OWNER.format(pid=pid), None, made


TRIALS: Rows = [(0, 1, "finished", 0.5), (1, 2, "finished", 0.7)]
AUDIT: Rows = [version(0, 1, "running", 1.0), version(0, 1, "finished", 2.0)]
AUDIT += [version(1, 1, "running", 1.0), version(1, 2, "running", 3.0), version(1, 2, "finished", 4.0)]
TOLD: Rows = [(0, 1, 0.5), (1, 2, 0.7)]
REFUSED: Rows = [(1, 1, 0.6)]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, []),
        ({"told": TOLD[:1]}, []),  # killed after the answer, before it was noted
        ({"trials": [(0, 1, "finished", 0.4), TRIALS[1]]}, ["lost"]),
        ({"trials": [(0, 1, "running", None), TRIALS[1]]}, ["lost", "not ended"]),
        ({"trials": TRIALS[:1]}, ["lost", "over or under budget"]),
        ({"trials": [TRIALS[0], (2, *TRIALS[1][1:])], "told": TOLD[:1]}, ["gaps"]),
        ({"trials": [*TRIALS, (2, 1, "finished", 0.1)]}, ["over or under budget"]),
        ({"told": [TOLD[0], (1, 1, 0.7)]}, ["late"]),
        ({"told": [*TOLD, TOLD[0]]}, ["doubled"]),
        ({"audit": [*AUDIT, version(0, 1, "finished", 9.0)]}, ["doubled"]),
        ({"late": []}, ["refused and not kept"]),
    ],
)
def test_the_judge_notices(changed: dict[str, Rows], found: list[str]) -> None:
    rows = {"trials": TRIALS, "audit": AUDIT, "told": TOLD, "refused": REFUSED, "late": REFUSED}
    assert judged(**rows | changed) == found


def test_an_abandoned_trial_is_timed_from_the_kill_unless_the_next_worker_was_hit() -> None:
    audit = [version(0, 1, "running", 1.0, 7), version(0, 2, "running", 3.0, 8)]
    audit += [version(0, 2, "finished", 4.0, 8)]
    for hits, outages, waits in (
        ([(7, 2.0)], [], [2.0]),
        ([(7, 0.5)], [], []),  # it held nothing yet
        ([(7, 3.5)], [], []),  # it was taken over before
        ([(8, 3.5)], [], []),
        ([(7, 2.0)], [(2.5, 3.5, [8])], [None]),
        ([(7, 2.0)], [(2.5, 3.5, [9])], [2.0]),
    ):
        result = Result("sqlite", hits=hits, outages=outages)
        assert list(fire_judge.abandoned(audit, result)) == waits, (hits, outages)
    taken = [audit[0], audit[1], version(0, 3, "running", 6.0, 9), version(0, 3, "finished", 7.0, 9)]
    result = Result("sqlite", hits=[(7, 2.0), (8, 3.5)])
    assert list(fire_judge.abandoned(taken, result)) == [None, 3.5]

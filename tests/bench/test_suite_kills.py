"""SIGKILL at random instants of a suite, and a checker that notices what would be wrong."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import suite_kills


def quiet(text: str) -> None:
    """Shows no progress."""


@pytest.mark.slow
def test_eight_kills_at_random_instants_lose_nothing_and_double_nothing() -> None:
    result = suite_kills.random_kills(8, suite_kills.forked_workers, quiet)
    assert result.wrong == []
    assert result.kills == len(result.ended_at_kills) == 8
    assert result.equal == result.folders >= 1
    assert result.units == 24
    assert result.starts - result.started_again == 24 * result.folders
    assert result.started_again <= result.claimed_at_kills


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    process = suite_kills.processes.Process(target=suite_kills.forked_workers, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return folder


def damaged(whole: Path, folder: Path, damage: str) -> suite_kills.Content:
    (folder / suite_kills.FILE).write_bytes((whole / suite_kills.FILE).read_bytes())
    connection = sqlite3.connect(folder / suite_kills.FILE)
    assert connection.execute(damage).rowcount > 0
    connection.commit()
    connection.close()
    return suite_kills.content(folder)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE units SET state = 'crashed' WHERE method = 'random' AND seed = 0",
        "UPDATE units SET state = 'timed out', reason = 'slow' WHERE method = 'random' AND seed = 0",
        "UPDATE evaluations SET value = value + 1e-9 WHERE evaluation = 3 AND seed = 2",
        "UPDATE evaluations SET failure = 'another' WHERE failure IS NOT NULL",
        "DELETE FROM evaluations WHERE method = 'sobol' AND evaluation = 2 AND seed = 1",
        "DELETE FROM units WHERE method = 'bo_suite' AND seed = 3",
        "UPDATE units SET replicates = 1 WHERE method = 'bo_suite'",
    ],
)
def test_the_checker_notices(whole: Path, tmp_path: Path, damage: str) -> None:
    reference, result = suite_kills.content(whole), suite_kills.Result()
    assert suite_kills.check(reference, reference) == []
    suite_kills._compare(reference, reference, result)
    assert (result.wrong, result.equal) == ([], 1)
    found = damaged(whole, tmp_path, damage)
    assert suite_kills.check(reference, found) != []
    suite_kills._compare(found, reference, result)
    assert result.wrong != []
    assert result.equal == 1


def test_the_checker_notices_units_that_start_again(whole: Path) -> None:
    reference, began = suite_kills.content(whole), suite_kills.starts(whole)
    assert len(began) == 24
    nothing = suite_kills.Content({}, {}, 0)
    assert suite_kills.check_starts(began, nothing) == []
    assert suite_kills.check_starts([*began, began[0]], nothing) == [f"unit {began[0]} was started twice"]
    assert len(suite_kills.check_starts(began, reference)) == 24


def test_the_suite_has_units_of_every_kind(whole: Path) -> None:
    found = suite_kills.content(whole)
    assert {state for state, *_ in found.units.values()} == {"finished", "crashed"}
    assert {replicates for *_, replicates in found.units.values()} == {1, 4}
    assert {failure for *_, failure in found.evaluations.values()} == {None, "ValueError: too far"}


def test_a_result_is_one_line_of_json() -> None:
    form = json.loads(json.dumps(suite_kills.record(suite_kills.Result(kills=3))))
    assert form["kills"] == 3

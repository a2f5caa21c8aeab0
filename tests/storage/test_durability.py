"""kill -9 at random instants and at every statement, and many processes on one file."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import durability


def quiet(text: str) -> None:
    """Shows no progress."""


def test_ten_kills_at_random_instants() -> None:
    result = durability.random_kills(10, 9, quiet)  # six points of the start, three of the model
    assert result.problems == []
    assert result.kills == 10
    assert result.resumed_equal == result.files >= 1
    assert result.tells >= 9


@pytest.mark.slow
def test_a_kill_before_and_after_each_writing_statement() -> None:
    result = durability.statement_kills(1, quiet)
    assert result.problems == []
    assert result.resumed_equal == result.files > 50
    assert result.kills == sum(result.moments.values()) >= result.files - 1
    creation = ["PRAGMA application_id", "CREATE TABLE meta", "CREATE TABLE trials", "CREATE TABLE IF NOT"]
    creation += ["CREATE INDEX", "INSERT INTO meta", "DELETE FROM meta"]
    calls = ["BEGIN", "INSERT INTO trials", "INSERT INTO leases", "COMMIT"]
    for statement in creation + calls:
        for when in ("before", "after"):
            assert any(moment.startswith(f"{when} {statement}") for moment in result.moments), statement


@pytest.mark.parametrize(("count", "suggest"), [(80, False), (16, True)])
def test_eight_processes_double_no_trial_and_lose_none(count: int, suggest: bool) -> None:
    result = durability.hammer(8, count, suggest, quiet)
    assert result.problems == []
    assert result.tells == count


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE trials SET value = 0 WHERE id = 0", ["has value 0.0", "acknowledged tell 0"]),
        ("UPDATE trials SET value = NULL, state = 'running' WHERE id = 1", ["acknowledged tell 1"]),
        ("DELETE FROM trials WHERE id = 2", ["acknowledged ask 2", "acknowledged tell 2"]),
        ("DELETE FROM trials WHERE id = 0", ["ids have gaps", "acknowledged ask 0", "acknowledged tell 0"]),
        (
            "UPDATE trials SET params = replace(params, '0.001', '0.002') WHERE id = 0",
            ["has value", "another than in the uninterrupted run", "acknowledged ask 0"],
        ),
        (
            "UPDATE trials SET params = '{}' WHERE id = 0",
            ["lacks its point", "another than", "acknowledged ask"],
        ),
    ],
)
def test_the_checker_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, found: list[str]
) -> None:
    monkeypatch.setattr(durability.database, "_failpoint", durability.database._no_failpoint)  # work sets one
    path, result = tmp_path / "run.db", durability.Result("checker")
    ledger = durability.ledger_of(path)
    durability.work(str(path), str(ledger), 3, None)
    reference = [params for _, params, *_ in durability.stored(path)]
    assert durability.check(path, ledger, reference, result)
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    assert not durability.check(path, ledger, reference, result)
    assert len(result.problems) == len(found)
    for problem, words in zip(result.problems, found, strict=True):
        assert words in problem


def test_a_result_is_one_line_of_json() -> None:
    form = json.loads(json.dumps(durability.record(durability.Result("name", kills=3))))
    assert form["kills"] == 3

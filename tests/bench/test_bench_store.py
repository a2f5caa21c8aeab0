"""The folder of a suite: claims, what is stored as a whole, and records that cannot be read."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bo_suite.bench.environment import environment
from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.records import Records
from bo_suite.bench.store import FILE, Store
from bo_suite.bench.unit import Unit
from bo_suite.errors import StorageError
from bo_suite.storage import database

UNITS = [("p", "m", 0), ("p", "m", 1), ("p", "n", 0)]


def unit(seed: int = 0, state: str = "finished", evaluations: int = 2) -> Unit:
    done = [
        Evaluation({"x": 0.5}, 2.0 + number, 1.0 + number, 0.1, 0.2, 0.3, {}) for number in range(evaluations)
    ]
    return Unit("p", "m", seed, state, None if state == "finished" else "why", 1.5, 1, tuple(done))


def end(store: Store, *units: Unit, minimum: float | None = 0.25) -> None:
    store.finish(units, environment(), "the command", minimum)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    yield store
    store.close()


def test_a_unit_is_claimed_once_and_not_again_when_it_has_ended(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path)
    assert store.claim(UNITS[:2]) == UNITS[:2]
    assert store.claim(UNITS[:2]) == []
    assert other.claim(UNITS) == UNITS[2:]
    end(store, unit(0), unit(1, "crashed"))
    assert store.claim(UNITS) == other.claim(UNITS) == []
    assert store.states() == {UNITS[0]: "finished", UNITS[1]: "crashed", UNITS[2]: "running"}
    other.close()
    assert store.claim(UNITS) == UNITS[2:], "what a runner had claimed and not ended is free when it closes"


def test_the_claims_of_a_process_that_died_are_free(tmp_path: Path) -> None:
    code = f"""
import os, signal
from bo_suite.bench.store import Store
store = Store({str(tmp_path)!r})
store.claim({UNITS!r})
print("claimed", flush=True)
input()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "claimed\n"
    store = Store(tmp_path)
    assert store.claim(UNITS) == []
    child.kill()
    child.communicate()
    assert store.claim(UNITS) == UNITS
    store.close()


def test_a_unit_that_somebody_has_taken_over_is_left_to_them(store: Store, tmp_path: Path) -> None:
    store.claim(UNITS[:2])
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE units SET owner = 'elsewhere:1::x' WHERE seed = 0")
    connection.close()
    end(store, unit(0), unit(1))
    records = Records.read(tmp_path)
    assert list(records.units["seed"]) == [1]
    assert set(records.evaluations["seed"]) == {1}
    assert store.states()[UNITS[0]] == "running"
    assert store.claim(UNITS[:2]) == [], "a process of another host counts as alive"
    end(store, unit(1, "crashed", 1))
    assert list(Records.read(tmp_path).units["state"]) == ["finished"], "and what has ended stays"


def test_units_are_stored_all_or_none(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.claim(UNITS[:2])
    broken = unit(1)
    object.__setattr__(broken, "evaluations", (unit().evaluations[0], None))
    with pytest.raises(AttributeError):
        end(store, unit(0), broken)
    assert set(store.states().values()) == {"running"}
    records = Records.read(tmp_path)
    assert records.units.empty
    assert records.evaluations.empty
    end(store, unit(0), unit(1))
    assert len(Records.read(tmp_path).evaluations) == 4


def test_an_interrupt_at_any_statement_leaves_units_whole_or_unstored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.claim(UNITS[:2])
    for stop in range(100):
        moments: list[str] = []

        def interrupt(moment: str, stop: int = stop, moments: list[str] = moments) -> None:
            moments.append(moment)
            if len(moments) == stop + 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(database, "_failpoint", interrupt)
            try:
                end(store, unit(0), unit(1))
                break
            except KeyboardInterrupt:
                pass
        assert len(Records.read(tmp_path).evaluations) == 4 * ("after COMMIT" in moments)
    assert stop > 15
    assert len(Records.read(tmp_path).evaluations) == 4


def test_records_are_what_was_stored(store: Store, tmp_path: Path) -> None:
    store.agree("problems", "problem", "p", {"minimum": 0.25, "noise": 1.0, "dim": 1, "budget": 2})
    store.agree("problems", "problem", "unused", {"minimum": None})
    store.claim(UNITS)
    failed = Evaluation({"x": 0.0}, None, None, 0.1, 0.2, 0.3, {"source": "design"}, "too far")
    end(store, Unit("p", "m", 0, "timed out", "late", 2.5, 3, (failed,)), unit(1))
    end(store, Unit("p", "n", 0, "finished", None, 0.5, 1, unit().evaluations), minimum=None)
    records = Records.read(tmp_path)
    assert records.problems.to_dict("records")[0]["minimum"] == 0.25
    assert list(records.problems["problem"]) == ["p"]
    first = records.units.drop(columns="first_feasible").to_dict("records")[0]
    assert first == {
        **dict(zip(("problem", "method", "seed"), UNITS[0], strict=True)),
        "state": "timed out",
        "reason": "late",
        "seconds": 2.5,
        "replicates": 3,
        "environment": records.environments["environment"][0],
    }
    assert records.units["first_feasible"].isna().all(), "nothing is constrained"
    assert list(records.units["reason"]) == ["late", None, None]
    row = records.evaluations.iloc[0]
    assert (row["params"], row["provenance"], row["failure"]) == (
        '{"x": 0.0}',
        '{"source": "design"}',
        "too far",
    )
    assert records.evaluations.iloc[0][["value", "true_value", "regret"]].isna().all()
    assert list(records.evaluations["evaluation"]) == [1, 1, 2, 1, 2]
    assert list(records.evaluations["regret"])[1:3] == [0.75, 1.75]
    assert records.evaluations["regret"][3:].isna().all()
    assert list(records.evaluations["failure"])[1:] == [None] * 4
    assert len(records.environments) == 1, "equal environments are one"
    assert records.environments["command"][0] == "the command"
    assert "torch" in json.loads(records.environments["versions"][0])


def test_a_name_stands_for_one_thing(store: Store) -> None:
    store.agree("methods", "method", "m", {"a": 0})  # of no unit yet
    store.agree("methods", "method", "m", {"a": 1, "b": [2]})
    store.claim([("p", "m", 0)])
    store.agree("methods", "method", "m", {"b": [2], "a": 1})
    store.agree("methods", "method", "n", {"a": 2})
    with pytest.raises(StorageError, match=r"method 'm' must be what .*\"a\": 1.*got .*\"a\": 3"):
        store.agree("methods", "method", "m", {"a": 3, "b": [2]})


def test_units_are_forgotten_by_their_state(store: Store) -> None:
    units = [("p", "m", seed) for seed in range(3)]
    store.claim(units)
    end(store, unit(0), unit(1, "crashed"))
    store.forget(units, ("crashed",))
    assert store.states() == {units[0]: "finished", units[2]: "running"}
    store.forget(units, ("running", "timed out"))
    assert store.claim(units) == units[1:]


def test_many_runners_open_one_new_folder_at_once_and_share_its_units(tmp_path: Path) -> None:
    units, claimed, barrier = [("p", "m", seed) for seed in range(40)], [], threading.Barrier(6)

    def claim() -> None:
        barrier.wait()
        store = Store(tmp_path / "new")
        claimed.extend(found for one in units for found in store.claim([one]))
        barrier.wait()  # to close frees what was claimed
        store.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == units


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"cannot be created .'{tmp_path / 'file'}'"):
        Store(tmp_path / "file")
    (tmp_path / FILE).write_text("no database at all, and long enough to be seen as none" * 20)
    with pytest.raises(StorageError, match=f"must be the records of a suite .*{tmp_path / FILE}"):
        Store(tmp_path)
    with pytest.raises(StorageError, match="must be the records of a suite"):
        Records.read(tmp_path)
    with pytest.raises(StorageError, match=f"must hold {FILE}, which .* makes, got '.*/nowhere'"):
        Records.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "statement", ["UPDATE meta SET value = '4'", "DELETE FROM meta WHERE key = 'version'", "DROP TABLE meta"]
)
def test_records_of_another_version_are_an_error(tmp_path: Path, statement: str) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(StorageError, match=r"version 1, 2 or 3|must be the records of a suite"):
        Store(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_to_us_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="writable"):
        Store(tmp_path)
    tmp_path.chmod(0o700)

"""The units of a suite on both engines: claims, what is stored as a whole, what cannot be read."""

import json
import multiprocessing
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import HEADER

from bo_suite.bench.environment import environment
from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.records import Records
from bo_suite.bench.store import FILE, Store
from bo_suite.bench.unit import Unit
from bo_suite.errors import StorageError
from bo_suite.storage import database
from bo_suite.storage.addresses import Lease, parsed
from bo_suite.storage.history import History
from bo_suite.storage.runs import runs

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])

ELSEWHERE = "elsewhere:1::x"
UNITS = [("p", "m", 0), ("p", "m", 1), ("p", "n", 0)]


def unit(seed: int = 0, state: str = "finished", evaluations: int = 2) -> Unit:
    done = [
        Evaluation({"x": 0.5}, 2.0 + number, 1.0 + number, 0.1, 0.2, 0.3, {}) for number in range(evaluations)
    ]
    return Unit("p", "m", seed, state, None if state == "finished" else "why", 1.5, 1, tuple(done))


def end(store: Store, *units: Unit, minimum: float | None = 0.25) -> None:
    store.finish(units, environment(), "the command", minimum)


@pytest.fixture(params=["folder", "postgresql"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a suite is stored."""
    return str(tmp_path) if request.param == "folder" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(out: str) -> Iterator[Store]:
    with Store(out) as store:
        yield store


def changed(store: Store, statement: str, *values: object) -> None:
    """Does something to the tables that no runner would do."""
    store._database.atomically(lambda: store._database.write(statement, values))


def go_elsewhere(store: Store) -> None:
    """Makes the claims of a runner those of another one, on another host, that is silent."""
    store._heartbeat.stop()
    for table in ("units", "leases"):
        changed(store, f"UPDATE {table} SET owner = ? WHERE owner = ?", ELSEWHERE, store.owner)


def test_a_unit_is_claimed_once_and_not_again_when_it_has_ended(store: Store, out: str) -> None:
    other = Store(out)
    assert store.claim(UNITS[:2]) == UNITS[:2]
    assert store.claim(UNITS[:2]) == []
    assert other.claim(UNITS) == UNITS[2:]
    end(store, unit(0), unit(1, "crashed"))
    assert store.claim(UNITS) == other.claim(UNITS) == []
    assert store.states() == {UNITS[0]: "finished", UNITS[1]: "crashed", UNITS[2]: "running"}
    other.close()
    assert store.claim(UNITS) == UNITS[2:], "what a runner had claimed and not ended is free when it closes"


def claim_and_wait(folder: Path, claimed: Any) -> None:
    Store(folder).claim(UNITS)
    claimed.set()
    time.sleep(600)


def test_the_claims_of_a_process_that_died_are_free(tmp_path: Path) -> None:
    claimed = processes.Event()
    child = processes.Process(target=claim_and_wait, args=(tmp_path, claimed))
    child.start()
    assert claimed.wait(60.0)
    store = Store(tmp_path)
    assert store.claim(UNITS) == []
    child.kill()
    child.join()
    assert store.claim(UNITS) == UNITS
    store.close()


def test_a_unit_that_somebody_has_taken_over_is_left_to_them(store: Store, out: str) -> None:
    store.claim(UNITS[:2])
    changed(store, "UPDATE units SET owner = ? WHERE seed = 0", ELSEWHERE)
    end(store, unit(0), unit(1))
    records = Records.read(out)
    assert list(records.units["seed"]) == [1]
    assert set(records.evaluations["seed"]) == {1}
    assert store.states()[UNITS[0]] == "running"
    assert store.claim(UNITS[:2]) == [], "a process of another host counts as alive"
    end(store, unit(1, "crashed", 1))
    assert list(Records.read(out).units["state"]) == ["finished"], "and what has ended stays"


def test_the_claims_of_a_silent_runner_are_free_when_its_lease_has_expired(store: Store, out: str) -> None:
    other = Store(out)
    other.lease = Lease(0.3, 0.1)
    assert other.claim(UNITS) == UNITS
    go_elsewhere(other)
    end(store, unit(0))
    assert store.claim(UNITS) == [], "its lease lasts"
    time.sleep(0.4)
    assert store.claim(UNITS[:2]) == UNITS[:2]
    assert store.claim(UNITS[:2]) == [], "they have another owner"
    other.owner = ELSEWHERE
    end(other, unit(0, "crashed"))
    assert set(store.states().values()) == {"running"}, "it comes too late for this one"
    end(other, Unit("p", "n", 0, "crashed", "why", 1.0, 1, ()))
    end(store, unit(0))
    assert store.states() == {UNITS[0]: "finished", UNITS[1]: "running", UNITS[2]: "crashed"}
    assert store.claim([("p", "n", 1)])
    assert store._database.execute("SELECT owner FROM leases") == [(store.owner,)], "it has no unit left"
    other.close()


def test_a_runner_renews_its_lease_until_it_closes(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bo_suite.bench.store.Lease", lambda: Lease(60.0, 0.1))
    store = Store(out if out.startswith("/") else f"{out}&lease=60&heartbeat=0.1")
    store.claim(UNITS)
    ((began, first),) = store._database.execute("SELECT started, expires FROM leases")
    deadline = time.monotonic() + 20.0
    while store._database.execute("SELECT expires FROM leases") == [(first,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert store._database.execute("SELECT started FROM leases") == [(began,)]
    store.close()
    assert not store.renew(), "the thread ends"


def test_units_are_stored_all_or_none(store: Store, out: str) -> None:
    store.claim(UNITS[:2])
    broken = unit(1)
    object.__setattr__(broken, "evaluations", (unit().evaluations[0], None))
    with pytest.raises(AttributeError):
        end(store, unit(0), broken)
    assert set(store.states().values()) == {"running"}
    records = Records.read(out)
    assert records.units.empty
    assert records.evaluations.empty
    end(store, unit(0), unit(1))
    assert len(Records.read(out).evaluations) == 4


def test_an_interrupt_at_any_statement_leaves_units_whole_or_unstored(
    store: Store, out: str, monkeypatch: pytest.MonkeyPatch
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
        assert len(Records.read(out).evaluations) == 4 * ("after COMMIT" in moments)
    assert stop > 10
    assert len(Records.read(out).evaluations) == 4


def test_records_are_what_was_stored(store: Store, out: str) -> None:
    store.agree("problems", "problem", "p", {"minimum": 0.25, "noise": 1.0, "dim": 1, "budget": 2})
    store.agree("problems", "problem", "unused", {"minimum": None})
    store.claim(UNITS)
    failed = Evaluation({"x": 0.0}, None, None, 0.1, 0.2, 0.3, {"source": "design"}, "too far")
    end(store, Unit("p", "m", 0, "timed out", "late", 2.5, 3, (failed,)), unit(1))
    end(store, Unit("p", "n", 0, "finished", None, 0.5, 1, unit().evaluations), minimum=None)
    records = Records.read(out)
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


def test_many_runners_open_one_new_suite_at_once_and_share_its_units(out: str) -> None:
    units, claimed, barrier = [("p", "m", seed) for seed in range(40)], [], threading.Barrier(6)

    def claim() -> None:
        barrier.wait()
        store = Store(out)
        claimed.extend(found for one in units for found in store.claim([one]))
        barrier.wait()  # to close frees what was claimed
        store.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == units


def test_a_suite_that_is_not_in_a_database_is_an_error_that_names_it(postgres_url: str) -> None:
    shown = str(parsed(postgres_url))
    with pytest.raises(
        StorageError, match=rf"^the suite must exist .*got {re.escape(shown)}, where there is"
    ):
        Records.read(postgres_url)
    History.open(postgres_url, HEADER).close()
    with pytest.raises(StorageError, match=r"^the suite must exist"):
        Records.read(postgres_url)
    Store(postgres_url).close()
    assert Records.read(postgres_url).units.empty
    assert sorted(run.kind for run in runs(parsed(postgres_url)) if run.name == parsed(postgres_url).run) == [
        "run",
        "suite",
    ]


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

"""What a run is doing: counted and timed against values by hand, on a file and on a server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from histories import HEADER, POINT, SPACE, ask
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Space
from bo_suite.cli import app
from bo_suite.cli.status import _redraw, _span
from bo_suite.errors import StorageError, SupersededError
from bo_suite.storage.history import History
from bo_suite.storage.sqlite import SqliteDatabase
from bo_suite.storage.trial import STATES
from bo_suite.study.status import Status, status_of

NONE = dict.fromkeys(STATES, 0)

Opener = Callable[[], History]


@pytest.fixture(params=["disk", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same run again, as if each history were of a process that cannot be seen to be at work."""
    request.getfixturevalue("monkeypatch").setattr("bo_suite.storage.leases.is_at_work", lambda owner: False)
    disk = request.param == "disk"
    place = str(tmp_path / "run.db") if disk else request.getfixturevalue("postgres_url")
    histories = []

    def history() -> History:
        histories.append(History.open(place, HEADER))
        return histories[-1]

    yield history
    for one in histories:
        one.close()


def silence(history: History, seconds: float = 1000.0) -> None:
    """Makes a history silent for so many seconds, as a stop of its process does."""
    history._holding._heartbeat.stop()
    database = history._table.database
    earlier = "UPDATE leases SET renewed = renewed - ?, expires = expires - ? WHERE owner = ?"
    database.atomically(lambda: database.write(earlier, (seconds, seconds, history.owner)))


def told_too_late(mine: History, theirs: History) -> None:
    trial = ask(mine)
    silence(mine)
    assert [taken.id for taken in theirs.reclaim()] == [trial.id]
    with pytest.raises(SupersededError):
        mine.tell(trial.id, 0.25)
    with pytest.raises(SupersededError):
        mine.fail(trial.id, "out of \x1b[31mmemory", attempt=1)


def test_workers_in_every_state(opened: Opener) -> None:
    working, waiting, held, abandoned, watching = (opened() for _ in range(5))
    one, two = ask(working), ask(working)
    waiting.tell(ask(waiting).id, 0.5)
    kept, lost = ask(held), ask(abandoned)
    owners = [one.owner for one in (abandoned, held, working, waiting)]
    held.hold()
    silence(abandoned)
    status = status_of(watching)
    assert [worker.state for worker in status.workers] == ["abandoned", "held", "working", "waiting"]
    assert [worker.owner for worker in status.workers] == owners
    numbers = [[one.trial for one in worker.trials] for worker in status.workers]
    assert numbers == [[lost.id], [kept.id], [one.id, two.id], []]
    first, second, third, fourth = status.workers
    assert {worker.process for worker in status.workers} == {os.getpid()}
    assert third.name.endswith(f"@{third.host}")
    assert first.silent > 1000.0 > 60.0 > third.silent >= 0.0
    assert first.expires_in is not None
    assert first.expires_in < 0.0
    assert second.expires_in is None
    for worker in (third, fourth):
        assert worker.expires_in is not None
        assert 60.0 < worker.expires_in <= 120.0
    assert status.counts == {**NONE, "running": 4, "finished": 1}
    assert watching.reclaim()[0].id == lost.id
    held.tell(kept.id, 1.0)
    states = [worker.state for worker in status_of(watching).workers]
    assert states == ["working", "working", "waiting"], "nothing is left of who held trials that have ended"


def test_a_held_trial_stays_when_its_process_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    code = (
        "import sys; from bo_suite.storage.history import History; h = History.open(sys.argv[1], None)\n"
        "h.insert([{'x': 0.5}], [{}], expected=0); h.hold(); h.close()"
    )
    with closing(Optimizer(Space({"x": Float(0, 1)}), storage=path)) as optimizer:
        subprocess.run([sys.executable, "-c", code, path], check=True)
        assert optimizer.reclaim() == []
        assert [worker.state for worker in status_of(optimizer).workers] == ["held"]
        optimizer.tell(0, 0.5)


def test_rates_and_the_end_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(SqliteDatabase, "now", lambda self: clock[0])
    with closing(Optimizer(Space({"x": Float(0, 1)}), storage=None, budget=100, initial=99)) as optimizer:
        status = status_of(optimizer)
        assert (status.left, status.rate.per_hour, status.rate.budget_spent) == (100, 0.0, None)
        clock[0] = 10_000.0
        for minute in range(40):  # one a minute, every fourth fails
            trial = optimizer.ask()
            clock[0] += 60.0
            if minute % 4 == 3:
                optimizer.fail(trial, f"reason {minute}", transient=minute == 39)
            else:
                optimizer.tell(trial, float(minute))
        optimizer.withdraw(optimizer.ask())
        optimizer.add({"x": 0.5}, 50.0)  # asked of nobody
        optimizer.ask()
        optimizer.enqueue([{"x": 0.25}, {"x": 0.75}])
        clock[0] += 30.0
        status = status_of(optimizer)
        rate = status.rate
        assert (rate.ten_minutes, rate.hour) == (10, 40)
        assert rate.per_hour == pytest.approx(40 / (40 * 60 + 30) * 3600)
        assert (status.left, status.queued) == (100 - 42, 2)
        assert rate.budget_spent == pytest.approx(clock[0] + 59 / rate.per_hour * 3600)
        assert status.counts == {**NONE, "running": 1, "finished": 31, "failed": 10, "withdrawn": 1}
        assert [one.reason for one in status.failures] == [f"reason {n}" for n in (39, 35, 31, 27, 23)]
        assert [one.transient for one in status.failures] == [True, False, False, False, False]
        assert status.best is not None
        assert status.best.value == 0.0
        (worker,) = status.workers
        assert worker.trials[0].seconds == 30.0
        clock[0] += 3600.0
        later = status_of(optimizer).rate
        assert (later.ten_minutes, later.hour, later.budget_spent) == (0, 0, None)
        clock[0] -= 1800.0
        assert status_of(optimizer).rate.per_hour == status_of(optimizer).rate.hour == 30


def test_a_budget_that_is_spent_has_no_end_to_come(opened: Opener) -> None:
    history = opened()
    history.tell(ask(history).id, 0.5)
    with closing(Optimizer(HEADER.space, seed=HEADER.seed, budget=1, storage=history.place)) as optimizer:
        status = status_of(optimizer)
    assert status.left == 0
    assert status.rate.hour == 1
    assert status.rate.budget_spent is None


def test_late_outcomes_are_shown_everywhere(opened: Opener) -> None:
    mine, theirs = opened(), opened()
    told_too_late(mine, theirs)
    status = status_of(theirs)
    assert status.late_count == 2
    assert [(one.trial, one.attempt) for one in status.late] == [(0, 1), (0, 1)]
    texts = [
        "attempt 1 gave failed (out of \x1b[31mmemory), which was not taken; it was running then",
        "attempt 1 gave 0.25, which was not taken; it was running then",
    ]
    assert [one.outcome for one in status.late] == texts
    assert [(one.attempt, one.seconds < 60.0) for one in status.workers[0].trials] == [(2, True)]
    theirs.tell(0, 0.75, attempt=2)
    with pytest.raises(SupersededError):
        mine.withdraw(0, attempt=1)
    with closing(Optimizer.resume(theirs.place or "")) as optimizer:
        frame = optimizer.to_frame(history=True)
    assert frame["attempt"].tolist() == [1, 1, 1]
    assert frame["after_state"].tolist() == ["finished", "failed", "withdrawn"]
    assert frame["before_value"].tolist()[2] == 0.75
    for command in ("history", "status"):
        answer = CliRunner().invoke(app, [command, str(theirs.place)], env=_secret(theirs))
        assert answer.exit_code == 0, answer.output
        assert "\x1b" not in answer.output
        assert "late" in answer.output
        assert "\\x1b[31mmemory" in "".join(answer.output.split())


def _secret(history: History) -> dict[str, str]:
    """The environment in which the printed address of a history works."""
    place = history.place
    connection = "" if place is None or isinstance(place, Path) else place.connection
    from psycopg import conninfo

    return {"PGPASSWORD": str(conninfo.conninfo_to_dict(connection).get("password", "")), "COLUMNS": "150"}


def test_several_objectives_and_a_file_without_leases(tmp_path: Path) -> None:
    goals = {"error": "minimize", "speed": "maximize"}
    with closing(Optimizer(SPACE, direction=goals, storage=tmp_path / "run.db")) as optimizer:
        for error, speed in ((0.1, 1.0), (0.2, 2.0), (0.3, 1.5)):
            optimizer.add(POINT, {"error": error, "speed": speed})
        optimizer.ask()
        database = optimizer._history._table.database
        database.atomically(lambda: database.write("DELETE FROM leases"))
        status = status_of(optimizer)
        assert (status.best, [trial.id for trial in status.pareto]) == (None, [0, 1])
        (worker,) = status.workers
        assert (worker.name, worker.state, worker.expires_in) == ("", "working", None)
        assert json.loads(json.dumps(status.to_dict()))["pareto"][1]["outcomes"] == {
            "error": 0.2,
            "speed": 2.0,
        }
    answer = CliRunner().invoke(app, ["status", str(tmp_path / "run.db")])
    assert "best: 2 trials in the Pareto front" in answer.output
    assert "unknown" in answer.output


@pytest.mark.parametrize(
    "row", ["'a', 'b', 1, 1, 1", "'h:1:2:u', 'b', 'soon', 1, NULL", "'h:1:2:u', 'b', 1, 1, 'x'"]
)
def test_a_damaged_lease_is_an_error(tmp_path: Path, row: str) -> None:
    with closing(History.open(tmp_path / "run.db", HEADER)) as history:
        ask(history)
        database = history._table.database
        database.atomically(lambda: database.write(f"INSERT INTO leases VALUES ({row})"))
        with pytest.raises(StorageError, match=r"a lease must be one that bo_suite has written, got '"):
            status_of(history)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "run.db")
    with closing(Optimizer(Space({"x": Float(0, 1)}), storage=path, budget=5, initial=99)) as optimizer:
        assert "no worker holds a trial" in CliRunner().invoke(app, ["status", path]).output
        optimizer.tell(optimizer.ask(), 0.5)
        optimizer.fail(optimizer.ask(), "bad\x1b[2J\nluck")
        optimizer.ask(25)
        now = optimizer._history.now()
        monkeypatch.setattr(SqliteDatabase, "now", lambda self: now)
        shown = CliRunner().invoke(app, ["status", path], env={"COLUMNS": "150"}).output
        assert f"{path}, 20" in shown
        assert (
            "best: 0.5 at trial 0\ntrials: 25 running, 1 finished, 1 failed, 0 of the budget of 5 left"
            in shown
        )
        assert "ended: 2 in the last 10 minutes, 2 in the last hour; at " in shown
        assert "5 (0 s), and 21 more" in shown
        assert "bad\\x1b[2J\\nluck" in shown
        assert "\x1b" not in shown
        record = json.loads(CliRunner().invoke(app, ["status", path, "--json"]).output)
        assert record == json.loads(json.dumps(status_of(optimizer).to_dict()))
    assert CliRunner().invoke(app, ["status", path, "--every", "1"]).exit_code == 2


def test_watching_ends_with_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, naps = str(tmp_path / "run.db"), list[float]()
    optimizer = Optimizer(Space({"x": Float(0, 1)}), storage=path)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt
        optimizer.tell(optimizer.ask(), -float(len(naps)))

    monkeypatch.setattr("bo_suite.cli.status.time.sleep", nap)
    answer = CliRunner().invoke(app, ["status", path, "--watch", "--every", "7", "--json"])
    looks = [json.loads(line) for line in answer.output.splitlines()]
    assert (answer.exit_code, naps) == (0, [7.0, 7.0, 7.0])
    assert [(look["best"] or {}).get("value") for look in looks] == [None, -1.0, -2.0]
    naps.clear()
    answer = CliRunner().invoke(app, ["status", path, "--watch"])
    assert (answer.exit_code, naps) == (0, [2.0, 2.0, 2.0])
    assert answer.output.count("best: ") == 3
    optimizer.close()


def test_the_last_look_stays_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Optimizer(Space({"x": Float(0, 1)}), storage=tmp_path / "run.db")) as optimizer:

        def looks() -> Iterator[tuple[Status, object]]:
            for value in (0.5, 0.25):
                optimizer.tell(optimizer.ask(), value)
                yield status_of(optimizer), optimizer.goals
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _redraw(looks())  # type: ignore[arg-type]
    assert capsys.readouterr().out.rstrip().count("best: 0.25 at trial 1") >= 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"),
        (99.4, "99 s"),
        (120.0, "2 min"),
        (5999.0, "100 min"),
        (7200.0, "2 h"),
        (259200.0, "3 d"),
    ],
)
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert _span(seconds) == text

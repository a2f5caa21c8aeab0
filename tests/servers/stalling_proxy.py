"""A bad network in front of PostgreSQL: a TCP proxy on 127.0.0.1 that stalls, drops, refuses and cuts."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec

P = ParamSpec("P")

_ENCRYPTION_REQUESTS = (80877103, 80877104)
"""What a client may send before its startup message; these messages alone have no byte for their type."""

_READY_FOR_QUERY = b"Z\0\0\0\5"
"""How the last message of an answer begins; one byte follows."""


def _in_loop(
    verb: Callable[Concatenate["Proxy", P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate["Proxy", P], None]:
    """The verb as a function for other threads, which returns when it has taken effect."""

    @wraps(verb)
    def call(self: "Proxy", /, *args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run_coroutine_threadsafe(verb(self, *args, **kwargs), self._loop).result()

    return call


class Proxy:
    """Passes connections to its port on to `target`, until one of its verbs says otherwise.

    Connections must not be encrypted. While the server is down clients are accepted and disconnected at once.

    Args:
        host: Address of the server.
        port: Port of the server.

    Attributes:
        target: Where new connections go, (host, port): assign another server's for a failover.
        port: Port of the proxy.
        client_bytes: How many bytes of clients were passed on.
        cuts: How many connections `cut_after` has cut.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.client_bytes = 0
        self.cuts = 0
        self._cut: int | Callable[[bytes], bool] | None = None
        self._passing = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stalling proxy", daemon=True)
        self._thread.start()
        self.resume()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @_in_loop
    async def stall(self) -> None:
        """Takes and keeps connections, and passes nothing on in either direction."""
        self._passing.clear()

    @_in_loop
    async def resume(self) -> None:
        """Ends `stall`, and passes on what was sent meanwhile; ends `refuse`."""
        self._passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=self._socket)

    @_in_loop
    async def drop(self) -> None:
        """Closes all connections; new ones are taken."""
        dropped = list(self._connections)
        for connection in dropped:
            connection.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes sockets in its next turn

    @_in_loop
    async def refuse(self) -> None:
        """Refuses new connections, as if no server ran; those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = _bound(self.port)  # it does not listen, and nobody else gets the port

    @_in_loop
    async def cut_after(self, what: int | Callable[[bytes], bool]) -> None:
        """Closes one connection, once, after it has passed on what is said here.

        Args:
            what: A number of bytes of clients, counted from now on: no byte beyond it reaches the server, and
                the connection closes at once. Or a predicate on whole messages of clients: the first message
                for which it holds reaches the server, and the connection closes when the server has answered,
                without the answer.
        """
        self._cut = what

    def close(self) -> None:
        """Closes the port and all connections."""
        self.refuse()
        self.drop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._socket.close()

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        def end(connection: asyncio.Task[None]) -> None:
            self._connections.discard(connection)
            if connection.cancelled():
                to_client.transport.abort()
            else:
                to_client.close()  # after what the server said last

        connection = self._loop.create_task(self._connect(client, to_client))
        self._connections.add(connection)
        connection.add_done_callback(end)

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            return
        withhold = asyncio.Event()
        ways = [
            self._loop.create_task(self._pass_messages(client, to_server, withhold)),
            self._loop.create_task(self._pass_answers(server, to_client, withhold)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.close()

    async def _pass_messages(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, withhold: asyncio.Event
    ) -> None:
        """Ends with the client or with a cut."""
        typed = False
        while True:
            head = await client.readexactly(5 if typed else 4)
            message = head + await client.readexactly(int.from_bytes(head[-4:], "big") - 4)
            typed = typed or int.from_bytes(message[4:8], "big") not in _ENCRYPTION_REQUESTS
            await self._passing.wait()
            if isinstance(self._cut, int):
                message = message[: self._cut]
                self._cut -= len(message)
            elif self._cut is not None and self._cut(message):
                self._cut = None
                withhold.set()
            to_server.write(message)
            self.client_bytes += len(message)
            if self._cut == 0:
                self._cut = None
                self.cuts += 1
                return
            await to_server.drain()

    async def _pass_answers(
        self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter, withhold: asyncio.Event
    ) -> None:
        """Ends with the server, or with the answer that is withheld."""
        withheld = b""
        while data := await server.read(2**16):
            await self._passing.wait()
            if not withhold.is_set():
                to_client.write(data)
                await to_client.drain()
                continue
            withheld += data
            if withheld[-6:-1] == _READY_FOR_QUERY:
                self.cuts += 1
                return


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound

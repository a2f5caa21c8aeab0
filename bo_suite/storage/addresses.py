"""Addresses of PostgreSQL databases. A password in one is used to connect, and is never shown or stored."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from bo_suite.errors import StorageError
from bo_suite.values.describe import described

SCHEME = re.compile(r"\s*postgres(ql)?:", re.IGNORECASE)
"""How an address begins."""

LEASE_S, HEARTBEATS = 120.0, 3
"""Seconds that a lease lasts, and number of heartbeats within one, unless an address says otherwise."""

EXAMPLE = "postgresql://user@host:5432/database?run=NAME"

_FORM = f"an address must be like {EXAMPLE}, with special characters percent-encoded"
_OWN = ("run", "lease", "heartbeat")
_PLACE = re.compile(r"([^/:@]*(:[^/:@]*)?@)?([^/:@,\[\]]*|\[[\da-fA-F:.%]+\])(:\d*)?(,[^/@]*)?(/[^/@]*)?")
"""User, password, hosts and database. A password with a character that is not encoded would be taken for
another part."""
_SHOWN = (
    *_OWN,
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode", "krbsrvname"),
    *("target_session_attrs", "load_balance_hosts", "connect_timeout", "service", "passfile"),
)
"""Parameters without secrets."""

_LONGEST = 48
"""Bytes of the name of a run; PostgreSQL cuts names at 63."""

_INSTALL = 'a PostgreSQL database needs psycopg: pip install "bo-suite[postgres]"'


@dataclass(frozen=True)
class Lease:
    """How long a running trial stays with a worker that is silent.

    Attributes:
        seconds: until another worker may take it over.
        heartbeat: seconds between two renewals.
    """

    seconds: float = LEASE_S
    heartbeat: float = LEASE_S / HEARTBEATS


@dataclass(frozen=True)
class Address:
    """Where a run is in a PostgreSQL database.

    Attributes:
        connection: the address for libpq, with a password if there was one.
        shown: the same without secrets, for another process that gets its password otherwise.
        run: name of the run; each has a schema (namespace) of its own.
        lease: of the trials that are handed out here.
    """

    connection: str = field(repr=False)
    shown: str
    run: str
    lease: Lease = Lease()

    def __str__(self) -> str:
        """The address without secrets; PGPASSWORD or a .pgpass file can give a password."""
        return self.shown

    def __reduce__(self) -> "tuple[Any, ...]":
        """Pickles without secrets, since pickles are stored and sent."""
        return parsed, (self.shown,)

    def __deepcopy__(self, memo: object) -> "Address":
        return self

    def sibling(self, run: str) -> "Address":
        """The address of another run of the same database; a StorageError if it cannot have the name."""
        check_run(run)
        base, _, query = self.shown.partition("?")
        others = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "run"]
        return replace(self, run=run, shown=_with(base, [("run", run), *others]))

    def without_secrets(self, text: str) -> str:
        """A text in which the password, and other secrets of the connection, are replaced."""
        for name, secret in _parts(self.connection).items():
            text = text.replace(secret, "***") if secret and name in _secrets() else text
        return text


Location = str | Path | Address
"""Where a storage is: a path or an address."""


def parsed(text: str) -> Address:
    """The address in a text.

    Raises:
        StorageError: it is malformed, or psycopg is not installed; the message repeats no part of it that may
            be secret.
    """
    before, _, query = text.strip().partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in pairs if name in _OWN}
    rest = [(name, value) for name, value in pairs if name not in _OWN]
    scheme, _, place = before.partition("://")
    plain = "#" not in text and text.strip().isprintable()
    if not (plain and scheme.lower() in ("postgresql", "postgres") and _PLACE.fullmatch(place)):
        raise StorageError(f"{_FORM}, got one of another form")
    connection = f"postgresql://{place}" + (f"?{urlencode(rest, quote_via=quote)}" if rest else "")
    parts, run = _parts(connection), own.get("run", "default")
    check_run(run)
    lease = _lease(own)
    shown = [(name, value) for name, value in pairs if name in _SHOWN]
    return Address(connection, _with(_shown(parts), shown), run, lease)


def masked(text: str) -> str:
    """A text, such as an argument of a command, without the password of an address in it.

    What follows an address that cannot be read, or that has spaces or quotes behind it, is left out.
    """
    if (found := re.search(SCHEME.pattern, text, re.IGNORECASE)) is None:
        return text
    before, address = text[: found.start()], text[found.start() :]
    try:
        if re.search(r"[\s'\"]", address.strip()) is None:
            return before + str(parsed(address))
    except StorageError:
        pass
    return f"{before}postgresql:..."


def check_run(name: str) -> None:
    """Raises a StorageError unless a run can have the name."""
    if not (name.isprintable() and 0 < len(name.encode("utf-8", "replace")) <= _LONGEST):
        law = f"the name of a run must be printable text of 1 to {_LONGEST} bytes"
        raise StorageError(f"{law}, got {described(name)}")


def _psycopg() -> tuple[Any, type[Exception]]:
    try:
        import psycopg
        from psycopg import conninfo
    except ImportError as error:
        raise StorageError(_INSTALL) from error
    return conninfo, psycopg.Error


def _parts(connection: str) -> dict[str, str]:
    """What an address says, by the names of libpq; raises StorageError if libpq cannot read it."""
    conninfo, errors = _psycopg()
    parts: dict[str, str] | None = None
    with suppress(errors, UnicodeError):  # the error would repeat a part, which may be secret
        parts = conninfo.conninfo_to_dict(connection)
    if parts is None:
        raise StorageError(f"{_FORM}, got one that PostgreSQL's library cannot read")
    return parts


@cache
def _secrets() -> frozenset[str]:
    """Names of what libpq does not display, such as the password."""
    from psycopg.pq import Conninfo

    return frozenset(one.keyword.decode() for one in Conninfo.get_defaults() if one.dispchar == b"*")


def _shown(parts: dict[str, str]) -> str:
    """An address made of user, host, port and database alone."""
    user = f"{quote(parts['user'], safe='')}@" if "user" in parts else ""
    hosts, ports = (parts.get(name, "").split(",") for name in ("host", "port"))
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    places = ",".join(
        quote(host, safe="") + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=True)
    )
    return f"postgresql://{user}{places}/{quote(parts.get('dbname', ''), safe='')}"


def _with(address: str, pairs: list[tuple[str, str]]) -> str:
    """An address with parameters, of which the name of the default run is left out."""
    query = urlencode([pair for pair in pairs if pair != ("run", "default")], quote_via=quote, safe="")
    return f"{address}?{query}" if query else address


def _lease(own: dict[str, str]) -> Lease:
    """The lease that an address asks for."""
    seconds = _seconds("lease", own.get("lease"), LEASE_S)
    heartbeat = _seconds("heartbeat", own.get("heartbeat"), seconds / HEARTBEATS)
    if heartbeat >= seconds:
        raise StorageError(
            f"a lease must last longer than its heartbeat, got lease={seconds:g} and heartbeat={heartbeat:g}"
        )
    return Lease(seconds, heartbeat)


def _seconds(name: str, text: str | None, default: float) -> float:
    """Seconds in an address."""
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise StorageError(f"{name}= in an address must be a number of seconds above 0, got {text!r:.30}")
    return seconds

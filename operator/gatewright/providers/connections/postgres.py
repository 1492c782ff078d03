"""PostgreSQL, and the way SQL is asked of it: one statement, read-only, within the link's time, always rolled back.

A connection is kept for the next question (at most two at a time per identity) and used like this:

    BEGIN READ ONLY; SET LOCAL statement_timeout ...      one round trip
    the statement, by the extended protocol               which takes one statement only, in single-row mode
    ROLLBACK                                              settings and locks of the transaction go with it
    DISCARD ALL                                           and those of the session too (advisory locks)

libpq is told every address (`hostaddr`), checked by the address rules; the name stays for TLS. Of its other settings
a URL may hold only those that name no file of the operator's pod. Messages are our own, chosen by SQLSTATE: what the
server says may hold data of its tables, except in class 42, which speaks of the statement alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel

from gatewright.api.connection import PostgresAccess
from gatewright.core import foreign
from gatewright.ports import Link, Permanent, Retryable
from gatewright.providers.connections import addresses
from gatewright.providers.connections.secrets import said, secret
from gatewright.providers.connections.shelf import Shelf

SESSIONS = 2
"""Connections to one database at a time: checks must not be what fills it up."""
ENOUGH = 2
"""Rows that are read; the second tells that there are several."""
MARGIN = 0.25
"""Seconds of a question's time that are left for the way back."""

_PORT = re.compile(r"[0-9]{1,5}")
_PLAIN = frozenset(
    {
        *("host", "port", "user", "password", "dbname", "application_name", "client_encoding", "target_session_attrs"),
        *("sslmode", "sslnegotiation", "channel_binding", "gssencmode"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    }
)
"""Settings of libpq that name no file, no service and no server option."""
_REFUSED: Mapping[str, str] = {
    "password authentication failed": "the password is refused",
    "no pg_hba.conf entry": "this client may not connect (pg_hba.conf)",
    "no password supplied": "a password is needed, and the URL has none",
    "does not support SSL": "the server does not speak TLS, which sslmode asks for",
    "certificate verify failed": "the certificate is not trusted",
    "does not exist": "there is no such database",
}
_BUSY: Mapping[str, str] = {"too many": "it has too many clients", "connection slots": "it has too many clients"}
_LATER: Mapping[str, str] = {
    "57014": "the statement took too long and was cancelled",
    "53300": "the database has no connection left",
    "57P01": "the database is shutting down",
    "57P02": "the database has crashed",
    "57P03": "the database is starting or stopping",
    "55P03": "a lock was not to be had",
    "40001": "the transaction collided with another",
    "40P01": "the transaction was the victim of a deadlock",
    "55000": "it is not set up for this statement (pg_stat_statements: add it to shared_preload_libraries and restart)",
    "22012": "division by zero (nullif(x, 0) makes it no data)",
}
_NEVER: Mapping[str, str] = {
    "08P01": "the statement has placeholders ($1, $2 ...) which `parameters` does not fill",
    "25006": "the statement writes; checks run in a read-only transaction",
    "28P01": "the password is refused",
    "28000": "this role may not log in",
    "3D000": "there is no such database",
}

T = TypeVar("T")


Row = tuple[Any, ...]
Session = psycopg.AsyncConnection[Row]


async def ask(link: Link, statement: str, parameters: Sequence[str] = ()) -> list[Row]:
    """The first rows, at most two, of one statement that changes nothing. Raises Retryable, Permanent."""
    problem: Retryable | Permanent
    try:
        return await _within(link.timeout, _ask(link, statement, parameters))
    except (Retryable, Permanent) as error:
        problem = error
    except TimeoutError:
        problem = Retryable(f"the database gave no answer within {link.timeout:g}s")
    except psycopg.Error as error:
        problem = _converted(error)
    # raised out here, so that no traceback leads from it to an error that holds a connection
    raise said(problem, link)


class PostgresConnection:
    """A PostgreSQL database that answers `select 1`."""

    config: ClassVar[type[BaseModel]] = PostgresAccess

    async def check(self, link: Link) -> None:
        """Log in and ask, as gates do."""
        await ask(link, "select 1")

    async def close(self) -> None:
        """Close every connection."""
        await _shelf.aclose()
        for task in tuple(_late):
            task.cancel()
        if _late:
            await asyncio.wait(tuple(_late), timeout=1.0)


class Database:
    """One database by one role: a few connections, kept."""

    def __init__(self, link: Link) -> None:
        self._settings = _settings(secret(link, link.config.url))
        self._namespace = link.namespace
        self._slots = asyncio.Semaphore(SESSIONS)
        self._idle: list[Session] = []
        self._closed = False

    async def ask(self, statement: str, parameters: Sequence[str], deadline: float) -> list[Row]:
        """One statement in a transaction of its own; `deadline` is a time of the loop's clock."""
        async with self._slots:
            session = await self._begin(deadline)
            try:
                rows = await _rows(session, statement, parameters)
                if not session.closed:
                    await session.execute("ROLLBACK")
                    await session.execute("DISCARD ALL")
                    self._idle.append(session)
            finally:
                if session not in self._idle or self._closed:
                    await session.close()
            return rows

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _begin(self, deadline: float) -> Session:
        while self._idle:
            # one that broke while nobody used it says nothing about the database now
            with contextlib.suppress(psycopg.OperationalError):
                return await _begun(self._idle.pop(), deadline)
        return await _begun(await self._connect(), deadline)

    async def _connect(self) -> Session:
        return await psycopg.AsyncConnection.connect(
            **await _addressed(self._settings, self._namespace),
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.AsyncRawCursor,
        )


async def _ask(link: Link, statement: str, parameters: Sequence[str]) -> list[Row]:
    deadline = asyncio.get_running_loop().time() + link.timeout
    async with _shelf.lend(link.identity, lambda: Database(link)) as database:
        return await database.ask(statement, parameters, deadline)


async def _begun(session: Session, deadline: float) -> Session:
    # the server ends a statement before we walk away from it, and says so
    left = deadline - asyncio.get_running_loop().time()
    limit = max(left / 2, left - MARGIN)
    try:
        await session.execute(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {max(1, int(limit * 1000))}")
    except BaseException:
        await session.close()
        raise
    return session


async def _rows(session: Session, statement: str, parameters: Sequence[str]) -> list[Row]:
    """The first rows. The connection is closed where there are several: ending the statement would take longer."""
    rows: list[Row] = []
    # stream() alone always takes the extended protocol, and does not fetch a whole table to show its first rows
    stream = session.cursor().stream(statement, list(parameters) or None)
    async with contextlib.aclosing(stream) as found:  # type: ignore[type-var]  # a generator, typed as an iterator
        async for row in found:
            rows.append(row)
            if len(rows) == ENOUGH:
                session.pgconn.finish()
                break
    return rows


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, if it comes in time. Raises TimeoutError, and lets it clean up behind our back.

    Cancelling a statement waits for the server's word, up to ten seconds where there is none.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            _late.add(task)
            task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _late.discard(task)
    if not task.cancelled():
        task.exception()


def _settings(url: str) -> dict[str, str]:
    if not url.startswith(("postgresql://", "postgres://")):
        raise Permanent("the Secret holds no URL (try postgresql://user:password@host:5432/database)")
    problem = ""
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError:
        problem = "the Secret's URL cannot be read (try postgresql://user:password@host:5432/database; escape by %XX)"
    if problem:
        raise Permanent(problem)
    strange = sorted(found.keys() - _PLAIN)
    if strange:
        raise Permanent(f"the Secret's URL may not set {', '.join(strange)}")
    if not all(found.get("host", "").split(",")):
        raise Permanent("the Secret's URL names no host")
    if not found.get("user"):
        raise Permanent("the Secret's URL names no user")
    if any(foreign.has_control(value) for value in found.values()):
        raise Permanent("the Secret's URL may hold no control characters, not even escaped ones")
    # libpq would fill what is missing from the operator's own environment
    plain = {"dbname": found["user"], "port": "5432", "application_name": "gatewright"}
    return {**plain, **found}


async def _addressed(settings: Mapping[str, str], namespace: str) -> dict[str, Any]:
    hosts, ports = settings["host"].split(","), settings["port"].split(",")
    if len(ports) not in (1, len(hosts)) or not all(_PORT.fullmatch(port) for port in ports):
        raise Permanent("the Secret's URL needs one port, or one for each host")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    found = [
        (host, address, port)
        for host, port in zip(hosts, ports, strict=True)
        for address in await addresses.resolve(host, namespace)
    ]
    names, checked, numbers = zip(*found, strict=True)
    return {**settings, "host": ",".join(names), "hostaddr": ",".join(checked), "port": ",".join(numbers)}


def _converted(error: psycopg.Error) -> Retryable | Permanent:
    state = error.sqlstate or ""
    if state in _LATER:
        return Retryable(f"{_LATER[state]} ({state})")
    if state in _NEVER:
        return Permanent(f"{_NEVER[state]} ({state})")
    if state == "42601" and "multiple commands" in (error.diag.message_primary or ""):
        return Permanent("one statement only (42601)")
    if state.startswith("42"):
        return Permanent(f"{error.diag.message_primary} ({state})")
    if state:
        return Retryable(f"the database answered {state} ({type(error).__name__})")
    if isinstance(error, psycopg.OperationalError):
        return _unconnected(str(error))
    return Permanent("the statement has no result of rows and columns; select one value")


def _unconnected(text: str) -> Retryable | Permanent:
    """Errors of a login come without a SQLSTATE: told apart by words, and where they are strange nobody knows."""
    for words, meaning in _REFUSED.items():
        if words in text:
            return Permanent(meaning)
    for words in ("connection refused", "too many", "connection slots", "starting up", "shutting down"):
        if words in text.lower():
            return Retryable(f"cannot connect to the database: {_BUSY.get(words, words)}")
    return Retryable("cannot connect to the database")


_shelf: Shelf[Database] = Shelf()
_late: set[asyncio.Task[Any]] = set()

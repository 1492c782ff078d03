"""One connection to a PostgreSQL, by libpq's pipeline mode: what is known beforehand is sent at
once.

    BEGIN READ ONLY; SET LOCAL statement_timeout ...
    DECLARE ... CURSOR FOR the statement    nothing but a query can stand there, and it does not
                                            run yet
    (describe the cursor)                   what types its columns have
                                            --- first round trip: go on only if they are what can
                                            be read
    FETCH 2                                 the first row, and whether there are several
    ROLLBACK                                settings and locks of the transaction go with it
    DISCARD ALL                             and those of the session too (advisory locks)
                                            --- second round trip

Results are read as bytes and never by the driver's own loaders: whatever answers need not be a
PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from gatewright.ports import Permanent
from gatewright.providers.postgres import column_types
from gatewright.providers.postgres.column_types import Value
from gatewright.providers.postgres.errors import StatementFailed
from gatewright.providers.postgres.relay import Relay

MAX_ROWS = 2
"""Rows that are read; the second tells that there are several."""
TIMEOUT_MARGIN_S = 0.25
"""Seconds of a question's time that are left for the way back."""
DECLARE_PREFIX = "DECLARE gatewright NO SCROLL CURSOR FOR "

_FETCH = f"FETCH {MAX_ROWS} FROM gatewright".encode()
_CURSOR = b"gatewright"
# A member need not have inherited what a role may do: set_config('role', ...) stands in a query too
_POWERS = b"""
select bool_or(rolsuper), bool_or(rolreplication),
       bool_or(rolname in (
         'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'
       )),
       bool_or(rolname = 'pg_signal_backend')
from pg_catalog.pg_roles where pg_catalog.pg_has_role(session_user, oid, 'MEMBER')
"""
_WORDS = (
    "is a superuser or may become one",
    "may replicate",
    "may use files or programs of the server",
    "may end the sessions of others",
)
_STRANGE = "what answers is not a PostgreSQL: it does not keep to the protocol"
_SELECT = "select a number, a boolean or an interval"
_DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.PIPELINE_SYNC)

Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and what may come back."""

    statement: str
    parameters: tuple[str, ...]
    types: frozenset[int]
    """What its column may be, by object identifier."""
    longest: int
    """Bytes that may come back."""


class Session:
    """A connection, used for one question at a time. After any exception it is of no more use."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], relay: Relay) -> None:
        self._driver = driver
        self._libpq: PGconn = driver.pgconn
        self._libpq.enter_pipeline_mode()
        self.relay = relay

    @classmethod
    async def connect(cls, settings: Mapping[str, Any], relay: Relay) -> Session:
        """Log in, through a relay that the settings lead to. Raises psycopg.Error."""
        return cls(await psycopg.AsyncConnection.connect(**settings, autocommit=True), relay)

    async def check_role(self) -> None:
        """Refuse a role that may do more than a rollback can undo.

        Raises Permanent, StatementFailed.
        """
        self._send_statement(_POWERS)
        self._libpq.pipeline_sync()

        (result,) = await self._read_results(1)
        powers: list[Value] = []
        for row in _rows_of(result, {column_types.BOOLEAN}):
            powers += row

        if len(powers) != len(_WORDS):
            raise Permanent("the database does not say what its role may do")

        granted = [words for words, has in zip(_WORDS, powers, strict=True) if has is not False]
        if granted:
            danger = f"the role {' and '.join(granted)}, and a query could make use of that"
            remedy = "give the Connection a role that can only read, or say superuser: Allowed"
            raise Permanent(f"{danger}; {remedy}")

    async def begin(self, question: Question, left: float) -> int:
        """Open a cursor for the query; return the type of its only column, which may come.

        `left`: seconds that there are. Raises Permanent, StatementFailed, psycopg.Error.
        """
        self.relay.allow(question.longest)

        # The server ends a statement before we walk away from it, and says so.
        limit = max(left / 2, left - TIMEOUT_MARGIN_S)
        self._send_statement(b"BEGIN READ ONLY")
        self._send_statement(f"SET LOCAL statement_timeout = {max(1, int(limit * 1000))}".encode())
        self._send_statement(
            _to_bytes(DECLARE_PREFIX + question.statement),
            [_to_bytes(parameter) for parameter in question.parameters],
        )
        self._libpq.send_describe_portal(_CURSOR)
        self._libpq.pipeline_sync()

        columns = (await self._read_results(4))[3]
        if columns.nfields != 1:
            raise Permanent(f"{columns.nfields} columns; select one value")

        column = columns.ftype(0)
        if column not in question.types:
            raise Permanent(f"the value is of type {column_types.name_of(column)}; {_SELECT}")

        return column

    async def finish(self, question: Question, column: int) -> list[Row]:
        """Fetch the first rows, and go back to where it was.

        Raises Permanent, StatementFailed, psycopg.Error.
        """
        self._send_statement(_FETCH, binary=column_types.is_sent_binary(column))
        self._send_statement(b"ROLLBACK")
        self._libpq.pipeline_sync()
        self._send_statement(b"DISCARD ALL")
        self._libpq.pipeline_sync()

        rows = (await self._read_results(2))[0]
        await self._read_results(1)
        return _rows_of(rows, question.types)

    async def aclose(self) -> None:
        """Close it."""
        await self._driver.close()

    def _send_statement(
        self, statement: bytes, parameters: Sequence[bytes] = (), binary: bool = False
    ) -> None:
        form = pq.Format.BINARY if binary else pq.Format.TEXT
        self._libpq.send_query_params(statement, list(parameters) or None, result_format=form)

    async def _read_results(self, count: int) -> list[PGresult]:
        """Return what so many statements and the end behind them gave.

        Raises StatementFailed for the first that failed.
        """
        loop = asyncio.get_running_loop()
        while self._libpq.flush():
            await self._wait_for_socket(loop.add_writer, loop.remove_writer)

        results: list[PGresult] = []
        has_ended = False
        while True:
            result = await self._next_result()
            if result is None and not has_ended:
                # A statement has ended; the next result is another one's.
                has_ended = True
                continue
            if result is None:
                raise Permanent(_STRANGE)

            has_ended = False
            if result.status not in _DONE:
                raise StatementFailed.of(result)
            if (result.status == pq.ExecStatus.PIPELINE_SYNC) != (len(results) == count):
                raise Permanent(_STRANGE)
            if len(results) == count:
                return results

            results.append(result)

    async def _next_result(self) -> PGresult | None:
        loop = asyncio.get_running_loop()
        while self._libpq.is_busy():
            await self._wait_for_socket(loop.add_reader, loop.remove_reader)
            self._libpq.consume_input()
        return self._libpq.get_result()

    async def _wait_for_socket(self, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        descriptor = self._libpq.socket
        add(descriptor, _set_ready, ready)
        try:
            await ready
        finally:
            remove(descriptor)


def _set_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _to_bytes(written: str) -> bytes:
    """Return what libpq is told, which ends a text at its first NUL. Raises Permanent."""
    if "\0" in written:
        nul = "a NUL character, which PostgreSQL does not know"
        raise Permanent(f"the statement or a parameter holds {nul}")
    return written.encode(errors="replace")


def _rows_of(result: PGresult, types: set[int] | frozenset[int]) -> list[Row]:
    columns = [result.ftype(index) for index in range(result.nfields)]
    if any(column not in types for column in columns):
        raise Permanent(_STRANGE)

    return [
        tuple(
            column_types.read_value(oid, result.get_value(row, index))
            for index, oid in enumerate(columns)
        )
        for row in range(min(MAX_ROWS, result.ntuples))
    ]

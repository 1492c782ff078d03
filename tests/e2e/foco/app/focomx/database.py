"""A small pool, and the workspace each transaction belongs to.

The service connects as `foco_app`, which owns nothing and cannot bypass row level security. Each
transaction first sets `foco.workspace`; the policies of 2.4.0 compare rows with it. That first
statement also finds connections which died while idle (a restore ends them all): such a connection
is replaced before any work is done on it, so a user notices a restore only by waiting. The limits
are wide: a machine that is busy for some seconds makes the service slow, which is not the same as
broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_SESSION = "-c statement_timeout=8000 -c idle_in_transaction_session_timeout=10000"
_SET_WORKSPACE = "SELECT set_config('foco.workspace', %s, true)"


class UnavailableError(Exception):
    """No connection became free in time."""


class Pool:
    def __init__(self, url: str, size: int, application: str, timeout: float = 8.0) -> None:
        self._url = url
        self._timeout = timeout
        self._application = application
        # Last in, first out: a quiet service lives on one connection, not on all in turn.
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self._url, application_name=self._application, connect_timeout=5, options=_SESSION
        )

    async def _begin(self, idle: Connection | None, workspace: str) -> Connection:
        if idle is not None:
            try:
                await idle.execute(_SET_WORKSPACE, (workspace,))
                return idle
            except psycopg.OperationalError:
                await idle.close()
        fresh = await self._connect()
        await fresh.execute(_SET_WORKSPACE, (workspace,))
        return fresh

    @asynccontextmanager
    async def transaction(self, workspace: str) -> AsyncIterator[Connection]:
        """One transaction in one workspace; committed at the end, rolled back by an exception."""
        try:
            idle = await asyncio.wait_for(self._free.get(), self._timeout)
        except TimeoutError as error:
            raise UnavailableError("no free database connection") from error
        connection: Connection | None = None
        keep = False
        try:
            connection = await self._begin(idle, workspace)
            yield connection
            await connection.commit()
            keep = True
        except Exception:
            keep = connection is not None and await _rolled_back(connection)
            raise
        finally:
            if connection is not None and not keep:
                await connection.close()
            self._free.put_nowait(connection if keep else None)

    async def close(self) -> None:
        while not self._free.empty():
            connection = self._free.get_nowait()
            if connection is not None:
                await connection.close()


async def _rolled_back(connection: Connection) -> bool:
    try:
        await connection.rollback()
    except psycopg.Error:
        return False
    return not connection.closed

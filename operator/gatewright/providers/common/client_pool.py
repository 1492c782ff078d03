"""Clients are kept by the identity of their Connection, and closed when nobody has used them for a
while, or when there are many: whoever makes a thousand Connections has not a thousand sockets. Then
those of the namespace go that has the most of them idle, so that nobody else has to open
connections anew.

An identity changes when the Connection or one of its Secrets does: the new one gets a new client,
and the old one, no longer asked for, is closed with the next sweep.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

IDLE_TIMEOUT_S = 90.0
"""Seconds without use after which a client is closed."""
MAX_CLIENTS = 256
"""Clients that are kept; beyond, the namespace with the most idle ones loses what it used longest
ago."""


class Closable(Protocol):
    """What a shelf keeps."""

    async def aclose(self) -> None:
        """Close every connection."""
        ...


T = TypeVar("T", bound=Closable)


@dataclass(slots=True)
class _PooledClient(Generic[T]):
    item: T
    namespace: str
    users: int
    used: float


class ClientPool(Generic[T]):
    """Clients by identity."""

    def __init__(self, idle: float = IDLE_TIMEOUT_S, most: int = MAX_CLIENTS) -> None:
        self._idle = idle
        self._most = most
        self._kept: dict[str, _PooledClient[T]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    @asynccontextmanager
    async def lend_client(
        self, identity: str, make: Callable[[], T], namespace: str = ""
    ) -> AsyncIterator[T]:
        """Return the client of an identity, made if there is none; it is not closed while it is
        lent.

        `namespace`: whose it is.
        """
        pooled = self._find_or_make(identity, make, namespace)
        pooled.users += 1

        try:
            self._make_room()
            yield pooled.item
        finally:
            pooled.users -= 1
            pooled.used = asyncio.get_running_loop().time()
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep_idle(), name="close idle clients")

    async def aclose(self) -> None:
        """Close every client, and stop looking."""
        pooled, self._kept = self._kept, {}
        sweeper, self._sweeper = self._sweeper, None

        if self._loop is not asyncio.get_running_loop():
            return

        if sweeper is not None:
            sweeper.cancel()
            await asyncio.wait({sweeper})

        for entry in pooled.values():
            await entry.item.aclose()

        for task in self._leaving:
            task.cancel()

        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _find_or_make(
        self, identity: str, make: Callable[[], T], namespace: str
    ) -> _PooledClient[T]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Sockets belong to the loop that opened them; another loop (the next test) starts
            # afresh.
            self._loop, self._kept, self._sweeper, self._leaving = loop, {}, None, set()
        if identity not in self._kept:
            self._kept[identity] = _PooledClient(make(), namespace, 0, loop.time())
        return self._kept[identity]

    def _make_room(self) -> None:
        """Close what was used longest ago of the namespace that has the most."""
        while len(self._kept) > self._most:
            idle = {identity: entry for identity, entry in self._kept.items() if not entry.users}
            # All of them are lent; nobody's client is closed under his hands.
            if not idle:
                break
            shares = Counter(entry.namespace for entry in idle.values())
            # Of a namespace that has as many as another, the one that was used longest ago.
            oldest = min(
                idle, key=lambda identity: (-shares[idle[identity].namespace], idle[identity].used)
            )
            self._close_beside(oldest)

    def _close_beside(self, identity: str) -> None:
        """Close a client beside everything else: a server may be slow to say goodbye to.

        Nobody waits for it, and no other client either.
        """
        task = asyncio.create_task(self._kept.pop(identity).item.aclose(), name="close a client")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _sweep_idle(self) -> None:
        while self._kept:
            await asyncio.sleep(self._idle / 2)
            now = asyncio.get_running_loop().time()
            for identity, entry in list(self._kept.items()):
                if not entry.users and now - entry.used >= self._idle:
                    self._close_beside(identity)

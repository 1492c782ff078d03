"""Clients are kept by the identity of their Connection, and closed when nobody has used them for a while, or when there
are many: whoever makes a thousand Connections has not a thousand sockets.

An identity changes when the Connection or one of its Secrets does: the new one gets a new client, and the old one, no
longer asked for, is closed with the next sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

IDLE = 90.0
"""Seconds without use after which a client is closed."""
MOST = 256
"""Clients that are kept; beyond, those that were used longest ago are closed."""


class Closable(Protocol):
    """What a shelf keeps."""

    async def aclose(self) -> None:
        """Close every connection."""
        ...


T = TypeVar("T", bound=Closable)


@dataclass(slots=True)
class _Kept(Generic[T]):
    item: T
    users: int
    used: float


class Shelf(Generic[T]):
    """Clients by identity."""

    def __init__(self, idle: float = IDLE, most: int = MOST) -> None:
        self._idle = idle
        self._most = most
        self._kept: dict[str, _Kept[T]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    @asynccontextmanager
    async def lend(self, identity: str, make: Callable[[], T]) -> AsyncIterator[T]:
        """The client of an identity, made if there is none; it is not closed while it is lent."""
        kept = self._find(identity, make)
        kept.users += 1
        try:
            self._make_room()
            yield kept.item
        finally:
            kept.users -= 1
            kept.used = asyncio.get_running_loop().time()
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep(), name="close idle clients")

    async def aclose(self) -> None:
        """Close every client, and stop looking."""
        kept, self._kept = self._kept, {}
        sweeper, self._sweeper = self._sweeper, None
        if self._loop is not asyncio.get_running_loop():
            return
        if sweeper is not None:
            sweeper.cancel()
            await asyncio.wait({sweeper})
        for entry in kept.values():
            await entry.item.aclose()
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _find(self, identity: str, make: Callable[[], T]) -> _Kept[T]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # sockets belong to the loop that opened them; another loop (the next test) starts afresh
            self._loop, self._kept, self._sweeper, self._leaving = loop, {}, None, set()
        if identity not in self._kept:
            self._kept[identity] = _Kept(make(), 0, loop.time())
        return self._kept[identity]

    def _make_room(self) -> None:
        """Close what was used longest ago, beside whoever needs the room: a server may be slow to say goodbye to."""
        while len(self._kept) > self._most:
            idle = {identity: entry.used for identity, entry in self._kept.items() if not entry.users}
            if not idle:
                break
            task = asyncio.create_task(self._kept.pop(min(idle, key=idle.__getitem__)).item.aclose(), name="make room")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _sweep(self) -> None:
        while self._kept:
            await asyncio.sleep(self._idle / 2)
            now = asyncio.get_running_loop().time()
            for identity, entry in list(self._kept.items()):
                if not entry.users and now - entry.used >= self._idle:
                    del self._kept[identity]
                    await entry.item.aclose()

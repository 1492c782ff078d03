"""So many at a time, shared fairly: what one namespace asks for is in no other's way.

A share may have one more inside only while it has fewer than are free: one alone gets half of the places, the next one half
of what is left, and so on. Shares that wait take turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turnstile:
    """Places that shares have for a while."""

    def __init__(self, places: int) -> None:
        self.free = places
        self.inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By share; the one whose turn it is stands first."""

    @asynccontextmanager
    async def turn(self, share: str) -> AsyncGenerator[None]:
        """Wait for a place, and have it for as long as this lasts."""
        await self._enter(share)
        try:
            yield
        finally:
            self._leave(share)

    async def _enter(self, share: str) -> None:
        if share not in self._waiting and self._admits(share):
            self._take(share)
            return

        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(share)
            else:
                self._forget(share, place)
            raise

    def _admits(self, share: str) -> bool:
        return self.inside[share] < self.free

    def _take(self, share: str) -> None:
        self.free -= 1
        self.inside[share] += 1

    def _leave(self, share: str) -> None:
        self.free += 1
        self.inside[share] -= 1
        if not self.inside[share]:
            del self.inside[share]
        self._let_in()

    def _let_in(self) -> None:
        """Give what is free to whoever waits for it; a share that had a turn is the last one from then on."""
        while self.free:
            share = next((share for share in self._waiting if self._admits(share)), None)
            if share is None:
                return
            places = self._waiting.pop(share)
            place = places.popleft()
            if places:
                self._waiting[share] = places
            if not place.done():
                self._take(share)
                place.set_result(None)

    def _forget(self, share: str, place: asyncio.Future[None]) -> None:
        """Somebody waits no more."""
        places = self._waiting.get(share, deque())
        if place in places:
            places.remove(place)
        if not places:
            self._waiting.pop(share, None)

"""The keyed queue: a key is worked on by one worker at a time, and never stands in the queue twice.

The controller-runtime shape: `add` while a key is being worked on makes it dirty, so that it is worked on once more
afterwards. Urgent keys (rollbacks) go first. `add_after` keeps only the earliest wake-up of a key.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class KeyedQueue(Generic[K]):
    """Deduplicated, with delayed requeue, rollbacks first."""

    def __init__(self) -> None:
        self._urgent: deque[K] = deque()
        self._normal: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._dirty: dict[K, bool] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: K, urgent: bool = False) -> None:
        """Ask for a pass over a key."""
        if key in self._working:
            self._dirty[key] = urgent or self._dirty.get(key, False)
            return
        if key in self._waiting:
            if urgent and key not in self._urgent:
                self._normal.remove(key)
                self._urgent.append(key)
            return
        self._waiting.add(key)
        (self._urgent if urgent else self._normal).append(key)
        self._ready.set()

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a pass after `delay` seconds; an earlier wake-up stands."""
        if delay <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + delay
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        self._arm()

    async def take(self) -> K:
        """The next key; call `done` when its pass is over."""
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        key = (self._urgent or self._normal).popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The pass over a key is finished."""
        self._working.discard(key)
        if key in self._dirty:
            self.add(key, self._dirty.pop(key))

    def forget(self, key: K) -> None:
        """No delayed pass over this key any more."""
        self._due.pop(key, None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._timer = None
        self._arm()

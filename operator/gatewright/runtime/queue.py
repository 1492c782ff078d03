"""The keyed queue: a key is worked on by one worker at a time, and never stands in the queue twice.

The controller-runtime shape: `add` while a key is being worked on makes it dirty, so that it is
worked on once more afterwards. `add_after` keeps only the earliest wake-up of a key.

Keys belong to shares (their namespaces), and no share is in another's way:

* shares take turns, however many keys one of them has;
* a share may hold a worker more only while it holds fewer than are free: one alone gets half of
  them, the next half of what is left, and so on, so that a worker is there for whoever comes next;
* urgent keys (rollbacks) go first, and have workers of their own besides;
* a share that has used more of the CPU than its part comes after those that have not: its urgent
  keys after theirs, its other ones after all of theirs. Of passes whose steps are long a share has
  few at a time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gatewright.runtime.usage import Usage

K = TypeVar("K", bound=Hashable)


class _Lane(Generic[K]):
    """Keys that wait, by share; shares take turns."""

    def __init__(self) -> None:
        self._shares: dict[Hashable, dict[K, None]] = {}
        self.working: Counter[Hashable] = Counter()
        """Keys that were taken out of it and are worked on."""

    def put(self, share: Hashable, key: K) -> None:
        self._shares.setdefault(share, {})[key] = None

    def drop(self, share: Hashable, key: K) -> bool:
        """Take a key out; False where it is not in."""
        keys = self._shares.get(share, {})
        if key not in keys:
            return False
        del keys[key]
        if not keys:
            del self._shares[share]
        return True

    def waiting(self) -> Iterable[Hashable]:
        """Shares that have keys here."""
        return self._shares

    def active(self) -> Iterable[Hashable]:
        """Shares that have keys here, or keys from here that are worked on."""
        return itertools.chain(self._shares, self.working)

    def end(self, share: Hashable) -> None:
        """Count a key from here that is not worked on any more."""
        self.working[share] -= 1
        if not self.working[share]:
            del self.working[share]

    def next(self, may: Callable[[Hashable], bool]) -> K | None:
        """Return the first key of the first share that may have it.

        That share is the last one from now on.
        """
        share = next((share for share in self._shares if may(share)), None)
        if share is None:
            return None

        keys = self._shares.pop(share)
        key = next(iter(keys))
        del keys[key]

        if keys:
            self._shares[share] = keys

        self.working[share] += 1
        return key


@dataclass(eq=False, slots=True)
class _WorkerPool(Generic[K]):
    """Workers of one kind."""

    size: int = 0
    idle: deque[asyncio.Future[K]] = field(default_factory=deque)
    busy: Counter[Hashable] = field(default_factory=Counter)
    working: int = 0

    def admits(self, share: Hashable) -> bool:
        return self.busy[share] < self.size - self.working

    def begin(self, share: Hashable) -> None:
        self.busy[share] += 1
        self.working += 1

    def end(self, share: Hashable) -> None:
        self.working -= 1
        self.busy[share] -= 1
        if not self.busy[share]:
            del self.busy[share]


class WorkQueue(Generic[K]):
    """Deduplicated, with delayed requeue, fair to shares, rollbacks first."""

    def __init__(
        self,
        share: Callable[[K], Hashable] = lambda key: key,
        pressing: Callable[[K], bool] = lambda key: False,
        workers: int = 1,
        reserved: int = 0,
    ) -> None:
        """`share`: whose a key is; `pressing`: whether a key is urgent though nobody says so.
        `workers`, `reserved`: how many will take keys of every kind, and urgent keys alone."""
        self._share = share
        self._pressing = pressing
        self._urgent: _Lane[K] = _Lane()
        self._normal: _Lane[K] = _Lane()
        self._general: _WorkerPool[K] = _WorkerPool(workers)
        self._reserved: _WorkerPool[K] = _WorkerPool(reserved)

        self._waiting: dict[K, bool] = {}
        """Keys that wait, and whether they are urgent."""
        self._working: dict[K, tuple[_WorkerPool[K], _Lane[K]]] = {}
        self._dirty: dict[K, bool] = {}

        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._usage = Usage()
        self._payday: asyncio.TimerHandle | None = None
        """When a share that waits is not in debt any more."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: K, urgent: bool = False) -> None:
        """Ask for a pass over a key."""
        # One worker at a time: it is worked on once more afterwards.
        if key in self._working:
            self._dirty[key] = urgent or self._dirty.get(key, False)
            return
        urgent = urgent or self._pressing(key)
        if key in self._waiting and self._waiting[key] >= urgent:
            return
        self._put_in_lane(key, urgent)
        self._hand_out()

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a pass after `delay` seconds; an earlier wake-up stands."""
        if delay <= 0:
            self.add(key)
            return

        due = asyncio.get_running_loop().time() + delay
        # It is woken earlier anyway.
        if self._due.get(key, float("inf")) <= due:
            return

        self._due[key] = due
        self._count += 1

        # Most of it stands for what was forgotten, or is due earlier.
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

        heapq.heappush(self._heap, (due, self._count, key))
        self._arm_timer()

    async def take(self, reserved: bool = False) -> K:
        """Return the next key; call `done` when its pass is over.

        `reserved`: by a worker for urgent keys alone.
        """
        turn: asyncio.Future[K] = asyncio.get_running_loop().create_future()
        (self._reserved if reserved else self._general).idle.append(turn)
        self._hand_out()

        try:
            return await turn
        except asyncio.CancelledError:
            # A key was handed out in this very moment: somebody else takes it.
            if turn.done() and not turn.cancelled():
                self.done(turn.result())
            raise

    def done(self, key: K) -> None:
        """Note that the pass over a key is finished."""
        share = self._share(key)
        pool, lane = self._working.pop(key)
        pool.end(share)
        lane.end(share)

        # It was asked for while it was worked on.
        if key in self._dirty:
            self.add(key, self._dirty.pop(key))

        self._hand_out()

    def charge(self, key: K, seconds: float) -> None:
        """Note that work on a key has cost that much CPU."""
        self._usage.charge(self._share(key), seconds)

    def forget(self, key: K) -> None:
        """Drop the delayed pass over a key."""
        self._due.pop(key, None)

    def _put_in_lane(self, key: K, urgent: bool) -> None:
        share = self._share(key)
        # What has become urgent leaves its place in the normal lane.
        if key in self._waiting:
            self._normal.drop(share, key)
        self._waiting[key] = urgent
        (self._urgent if urgent else self._normal).put(share, key)

    def _hand_out(self) -> None:
        """Give keys to workers that are idle, as far as their shares may have them."""
        while self._give_any_key(self._general):
            pass
        while self._give_key(self._reserved, self._urgent):
            pass

    def _give_any_key(self, pool: _WorkerPool[K]) -> bool:
        return self._give_key(pool, self._urgent) or self._give_key(pool, self._normal)

    def _give_key(self, pool: _WorkerPool[K], lane: _Lane[K]) -> bool:
        # Workers that were stopped while they waited.
        while pool.idle and pool.idle[0].done():
            pool.idle.popleft()

        if not pool.idle:
            return False

        key = self._next(pool, lane)
        if key is None:
            return False

        del self._waiting[key]
        self._working[key] = pool, lane
        pool.begin(self._share(key))
        pool.idle.popleft().set_result(key)

        return True

    def _next(self, pool: _WorkerPool[K], lane: _Lane[K]) -> K | None:
        """Return the key whose turn it is, of a share that is in nobody's way."""
        held = self._others_first(lane)

        def may(share: Hashable) -> bool:
            if not pool.admits(share) or pool.busy[share] >= self._usage.at_once(share):
                return False
            return not (held and self._usage.debt(share))

        key = lane.next(may)
        # Nobody else will say when a share that is held back for its debt may go on.
        if key is None and held:
            self._wait_for_payday(lane)

        return key

    def _others_first(self, lane: _Lane[K]) -> bool:
        """Return whether somebody who is not in debt wants something that is at least as urgent."""
        if any(not self._usage.debt(share) for share in lane.active()):
            return True

        # What is not urgent also comes after whatever is.
        is_urgent = lane is self._urgent
        return not is_urgent and any(not self._usage.debt(share) for share in self._urgent.active())

    def _wait_for_payday(self, lane: _Lane[K]) -> None:
        """Look again when the first of those that are held back for their debt has paid it."""
        debts = [debt for share in lane.waiting() if (debt := self._usage.debt(share))]
        if not debts:
            return

        loop = asyncio.get_running_loop()
        paid = loop.time() + min(debts) + 0.001

        if self._payday is not None:
            # A timer that ends earlier looks for this one as well.
            if self._payday.when() <= paid:
                return
            self._payday.cancel()

        self._payday = loop.call_at(paid, self._paid)

    def _paid(self) -> None:
        self._payday = None
        self._hand_out()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

        # Wake-ups that were forgotten, or replaced by an earlier one.
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._on_timer)

    def _on_timer(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

        self._timer = None
        self._arm_timer()

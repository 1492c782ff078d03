"""So many at a time, shared fairly: what one namespace asks for is in no other's way.

A share may have one more inside only while it has fewer than are free: one alone gets half of the
places, the next one half of what is left, and so on. Shares that wait take turns.

Places alone do not keep a busy share from slowing down what stands behind them: an API server that
answers one share's requests all the time answers everybody late. So while others ask as well, a
share has so many seconds of places each second (`TIME_SHARE`), and some more after a quiet time.
What is beyond waits; nobody is held to that who asks alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from gatewright.core.token_buckets import TokenBuckets

TIME_SHARE = 0.5
"""Seconds of places that a share has in a second while others ask: half a request at a time, all
the time."""
TIME_BURST_S = 10.0
"""Seconds of that share which may be used at once: what many Releases need that begin together."""
ESTIMATE_S = 0.05
"""Seconds that a request counts for while it is under way: what it took is known only when it has
ended."""
LONGEST_PAUSE_S = 1.0
"""Seconds for which a share waits at most for time: one slow answer does not shut it out."""
RECENT_S = 2.0
"""Seconds for which somebody who has asked counts as one who asks."""


class Turnstile:
    """Places that shares have for a while.

    The share that has no name is held to no time, and does not count as another.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.free = places
        self.inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By share; the one whose turn it is stands first."""
        self._clock = clock
        self._time: TokenBuckets[str] = TokenBuckets(TIME_SHARE, TIME_BURST_S)
        self._latest = self._before = ("", float("-inf"))
        """The last two shares that have asked, and when."""
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, share: str) -> AsyncGenerator[None]:
        """Wait for a place, and have it for as long as this lasts."""
        await self._enter(share)
        began = self._clock()
        try:
            yield
        finally:
            self._charge(share, self._clock() - began - ESTIMATE_S)
            self._leave(share)

    async def _enter(self, share: str) -> None:
        self._note_asking(share)

        # Those of the same share that came before go first.
        if share not in self._waiting and self._admits(share):
            self._take(share)
            return

        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append(place)
        self._let_in()

        try:
            await place
        except asyncio.CancelledError:
            # The place was given in the very moment: it goes to the next one.
            if place.done() and not place.cancelled():
                self._leave(share)
            else:
                self._forget(share, place)
            raise

    def _note_asking(self, share: str) -> None:
        if share and share != self._latest[0]:
            self._before = self._latest
        if share:
            self._latest = (share, self._clock())

    def _admits(self, share: str) -> bool:
        return self.inside[share] < self.free and self._pause_of(share) == 0

    def _pause_of(self, share: str) -> float:
        """Return the seconds until a share may have more time: none where nobody else asks."""
        return self._time.wait(share, self._clock()) if self._has_others(share) else 0.0

    def _has_others(self, share: str) -> bool:
        """Return whether somebody else asks, too."""
        other, asked_at = self._before if self._latest[0] == share else self._latest
        return bool(share and other) and self._clock() - asked_at <= RECENT_S

    def _take(self, share: str) -> None:
        self.free -= 1
        self.inside[share] += 1
        self._charge(share, ESTIMATE_S)

    def _charge(self, share: str, seconds: float) -> None:
        """Note time that was used; who asks alone may use up what is saved, and owes nothing."""
        if share:
            longest = LONGEST_PAUSE_S if self._has_others(share) else 0.0
            self._time.spend(share, self._clock(), seconds, longest)

    def _leave(self, share: str) -> None:
        self.free += 1
        self.inside[share] -= 1
        if not self.inside[share]:
            del self.inside[share]
        self._let_in()

    def _let_in(self) -> None:
        """Give what is free to whoever waits for it.

        A share that had a turn is the last one from then on.
        """
        while self.free:
            share = next((share for share in self._waiting if self._admits(share)), None)
            if share is None:
                self._look_again()
                return

            places = self._waiting.pop(share)
            place = places.popleft()

            if places:
                self._waiting[share] = places

            # One that was cancelled in the meantime takes no place.
            if not place.done():
                self._take(share)
                place.set_result(None)

    def _look_again(self) -> None:
        """Let in whoever waits for time alone when it has come, though nobody leaves until then."""
        pauses = [pause for share in self._waiting if (pause := self._pause_of(share)) > 0]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if pauses:
            self._timer = asyncio.get_running_loop().call_later(
                min(*pauses, RECENT_S), self._let_in
            )

    def _forget(self, share: str, place: asyncio.Future[None]) -> None:
        """Forget somebody who waits no more."""
        places = self._waiting.get(share, deque())
        if place in places:
            places.remove(place)
        if not places:
            self._waiting.pop(share, None)

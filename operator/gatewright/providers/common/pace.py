"""How much a namespace may have the operator receive and parse: what is more waits, and only that
namespace does.

An answer is parsed on the one event loop, a mebibyte in about 25 ms, and nothing else goes on
meanwhile (nor would it beside a thread: the parser holds the interpreter's lock). Requests are
counted elsewhere, but who chooses the system chooses how long its answers are. So what has come in
is paid for before the next request of that namespace is sent: at `RATE`, a namespace takes a tenth
of the loop at most. Each request pays an advance, so that of many that have waited not all go at
once. Requests that lead back are counted by themselves, so that no long answer to a check keeps a
rollback waiting.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gatewright.core.token_buckets import TokenBuckets

BYTES_PER_S = 4 * 1024 * 1024
"""Bytes a second: more than a namespace receives that keeps within its measurements a second, of 64
KiB each."""
BURST_BYTES = 8 * 1024 * 1024
"""Bytes that may come at once after a quiet time."""
ADVANCE = 64 * 1024
"""Bytes that a request pays for beforehand; what does not come in is given back."""

_returning: ContextVar[bool] = ContextVar("returning", default=False)


@contextmanager
def returning(leads_back: bool) -> Iterator[None]:
    """Say whether requests within lead back; they are counted by themselves."""
    token = _returning.set(leads_back)
    try:
        yield
    finally:
        _returning.reset(token)


class Account:
    """What one request brings in."""

    def __init__(self, charge: Callable[[int], None], advance: int) -> None:
        """`advance`: what was paid already."""
        self._charge = charge
        self._advance = advance

    def spend(self, size: int) -> None:
        """Count so many bytes that came in."""
        paid = min(size, self._advance)
        self._advance -= paid
        if size > paid:
            self._charge(size - paid)

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what did not come in; what still comes is paid for as well."""
        if self._advance:
            self._charge(-self._advance)
            self._advance = 0


class BytePace:
    """Of all namespaces."""

    def __init__(
        self,
        rate: float = BYTES_PER_S,
        burst: float = BURST_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._debts: TokenBuckets[tuple[str, bool]] = TokenBuckets(rate, burst / rate)

    async def ready(self, namespace: str) -> None:
        """Wait until what came in for a namespace is paid for."""
        key = namespace, _returning.get()
        while (left := self._debts.wait(key, self._clock())) > 0:
            await self._sleep(left)

    async def admit(self, namespace: str) -> Account:
        """Wait until what came in before is paid for. What comes in is paid by this account,
        whoever notes it; close it."""
        await self.ready(namespace)
        key = namespace, _returning.get()
        self._spend(key, ADVANCE)
        return Account(functools.partial(self._spend, key), ADVANCE)

    def spend(self, namespace: str, size: int) -> None:
        """Count so many bytes that came in."""
        self._spend((namespace, _returning.get()), size)

    def _spend(self, key: tuple[str, bool], size: int) -> None:
        self._debts.spend(key, self._clock(), size)

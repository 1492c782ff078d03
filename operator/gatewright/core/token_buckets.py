"""How much each of many may use: so much a second, and so much more at once after a quiet time; the
rest is waited for."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

TIDY_ABOVE = 256
"""Buckets that are kept before somebody looks which are full."""


class TokenBuckets(Generic[K]):
    """One bucket a key. Times are seconds on one clock of the caller's choice; what is used may be
    of any unit."""

    def __init__(self, rate: float, burst_s: float) -> None:
        """`rate`: what a second allows. `burst_s`: seconds' worth of it that may be used at
        once."""
        self._rate = rate
        self._burst_s = burst_s
        self._paid_at: dict[K, float] = {}
        """When what was used will have been allowed for; it lies up to a burst in the past."""
        self._tidy = TIDY_ABOVE

    def __len__(self) -> int:
        return len(self._paid_at)

    def wait(self, key: K, now: float) -> float:
        """Return the seconds until more may be used."""
        return max(0.0, self._paid_at.get(key, now) - now)

    def spend(self, key: K, now: float, amount: float, longest_wait_s: float = math.inf) -> None:
        """Note what was used; a negative amount gives back. `longest_wait_s`: what is beyond that
        is forgiven."""
        if key not in self._paid_at and len(self._paid_at) >= self._tidy:
            self.forget_full(now)
        full_at = now - self._burst_s
        paid_at = max(self._paid_at.get(key, full_at), full_at) + amount / self._rate
        self._paid_at[key] = min(paid_at, now + longest_wait_s)

    def forget_full(self, now: float) -> None:
        """Forget those that would begin anew with just what they have."""
        self._paid_at = {key: at for key, at in self._paid_at.items() if at > now - self._burst_s}
        self._tidy = max(TIDY_ABOVE, 2 * len(self._paid_at))

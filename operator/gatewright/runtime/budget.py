"""How many measurements a namespace may make: what is more is spread over time, never dropped.

Two things hold together. What a namespace asks for in all (each question as often as the shortest
of its intervals says) may be more than its rate: then each of its intervals grows by the same
factor, and counts as that long wherever intervals count, so that nothing is taken for silence that
was only asked seldom. And whatever comes at once waits for its turn, one after the other at that
rate, after a burst.
"""

from __future__ import annotations

from collections import Counter

from gatewright.core.token_buckets import TokenBuckets

BURST_S = 2.0
"""Seconds' worth of measurements that may be made at once after a quiet time."""
LARGE_ANSWER_BYTES = 64 * 1024
"""Bytes of answers that cost as much as one more measurement."""


class MeasurementBudget:
    """Of all namespaces; times in seconds on one clock of the caller's choice."""

    def __init__(self, rate: float) -> None:
        """`rate`: measurements a second of one namespace."""
        self.rate = rate
        self._wanted: Counter[str] = Counter()
        """Measurements a second by namespace, in millionths: whole numbers add up to nothing
        again."""
        self._turns: TokenBuckets[str] = TokenBuckets(rate, BURST_S)

    def wants(self, namespace: str, before: float, now: float) -> None:
        """A question is to be asked `now` times a second, and was asked `before` times."""
        self._wanted[namespace] += round(now * 1e6) - round(before * 1e6)
        if self._wanted[namespace] <= 0:
            del self._wanted[namespace]

    def stretch(self, namespace: str) -> float:
        """By what the intervals of a namespace grow; 1 for one that keeps within its rate."""
        return max(1.0, self._wanted[namespace] / 1e6 / self.rate)

    def turn(self, namespace: str, now: float) -> float:
        """Take the next turn: seconds until then."""
        wait = self._turns.wait(namespace, now)
        self._turns.spend(namespace, now, 1)
        return wait

    def spend(self, namespace: str, now: float, turns: int) -> None:
        """An answer has cost so many turns more than one."""
        self._turns.spend(namespace, now, turns)

    def over(self) -> list[tuple[str, float]]:
        """Namespaces that ask for more than their rate, and by what factor."""
        return [(name, self.stretch(name)) for name in self._wanted if self.stretch(name) > 1.0]

    def rest(self, now: float) -> None:
        """Forget namespaces that have not measured for so long that it does not matter any more."""
        self._turns.forget_full(now)

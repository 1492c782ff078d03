"""How many requests of one namespace go on at a time, of one kind, and how fast.

None waits for another namespace's.
"""

from __future__ import annotations

import asyncio

TIDY_ABOVE = 256
"""Namespaces that are remembered before somebody looks which of them still do anything."""


class NamespaceLimits:
    """A limit of its own for each namespace."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._found: dict[str, asyncio.Semaphore] = {}
        self._tidy = TIDY_ABOVE

    def of(self, namespace: str) -> asyncio.Semaphore:
        """Return what is to be held while a request goes on."""
        limit = self._found.get(namespace)
        if limit is None:
            # Namespaces come and go: those that do nothing must not stay for ever.
            if len(self._found) >= self._tidy:
                self._forget_idle()
            limit = self._found[namespace] = asyncio.Semaphore(self._each)
        return limit

    def _forget_idle(self) -> None:
        """Forget namespaces that hold nothing now: they come and go, and begin anew."""
        held = {
            name: limit
            for name, limit in self._found.items()
            if limit.locked() or limit._value < self._each
        }
        self._found = held
        self._tidy = max(TIDY_ABOVE, 2 * len(held))


class NamespacePace:
    """How far apart the turns of one namespace are at least."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}
        self._tidy = TIDY_ABOVE

    def turn(self, namespace: str, earliest: float) -> float:
        """Return when the next turn of a namespace may be.

        That is at the earliest, or after the turns that it has taken already.
        """
        last = self._last.get(namespace)
        when = earliest if last is None else max(earliest, last + self._seconds)
        if len(self._last) >= self._tidy:
            self._forget_idle(earliest)
        self._last[namespace] = when
        return when

    def _forget_idle(self, now: float) -> None:
        """Forget those whose turns are over: they begin anew."""
        self._last = {name: last for name, last in self._last.items() if last + self._seconds > now}
        self._tidy = max(TIDY_ABOVE, 2 * len(self._last))

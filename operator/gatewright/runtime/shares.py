"""How many requests of one namespace go on at a time, of one kind: none of them waits for another namespace's."""

from __future__ import annotations

import asyncio

MANY = 256
"""Namespaces that are remembered before somebody looks which of them still do anything."""


class Shares:
    """A limit of its own for each namespace."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._found: dict[str, asyncio.Semaphore] = {}
        self._tidy = MANY

    def of(self, namespace: str) -> asyncio.Semaphore:
        """To be held while a request goes on."""
        found = self._found.get(namespace)
        if found is None:
            if len(self._found) >= self._tidy:
                self._forget()
            found = self._found[namespace] = asyncio.Semaphore(self._each)
        return found

    def _forget(self) -> None:
        """Namespaces come and go; those that hold nothing now begin anew."""
        held = {name: one for name, one in self._found.items() if one.locked() or one._value < self._each}
        self._found = held
        self._tidy = max(MANY, 2 * len(held))

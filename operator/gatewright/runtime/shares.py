"""How many requests of one namespace go on at a time, of one kind: none of them waits for another namespace's."""

from __future__ import annotations

import asyncio


class Shares:
    """A limit of its own for each namespace."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._found: dict[str, asyncio.Semaphore] = {}

    def of(self, namespace: str) -> asyncio.Semaphore:
        """To be held while a request goes on."""
        return self._found.setdefault(namespace, asyncio.Semaphore(self._each))

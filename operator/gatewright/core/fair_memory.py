"""What is remembered of many namespaces within one bound: none drives out what another needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FairMemory(Generic[K, V]):
    """Entries by key, each charged to a namespace.

    Where there is no more room, the namespace that holds the most loses what it used longest ago.
    So with N namespaces each of them is sure of an Nth of the room, however much the others put in.
    """

    def __init__(self, room: int) -> None:
        """`room`: what all entries together may come to, in entries, or in whatever `put` calls
        their size."""
        self.room = room
        self._entries: dict[K, tuple[str, V, int]] = {}
        self._keys: dict[str, dict[K, None]] = {}
        """The keys of each namespace; the one that was used longest ago is the first."""
        self._held: dict[str, int] = {}
        """How much each namespace holds."""
        self.used = 0
        """How much all of them hold."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def oldest(self) -> tuple[K, V] | None:
        """Return what was put in longest ago; it does not count as used."""
        for key, (_, value, _) in self._entries.items():
            return key, value
        return None

    def of(self, namespace: str) -> list[K]:
        """Return the keys of a namespace; the one that was used longest ago is the first."""
        return list(self._keys.get(namespace, ()))

    def get(self, key: K) -> V | None:
        """Return what is remembered under a key; it counts as used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None

        namespace, value, _ = entry
        keys = self._keys[namespace]
        # Those before it go first.
        del keys[key]
        keys[key] = None

        return value

    def put(self, namespace: str, key: K, value: V, size: int = 1) -> None:
        """Remember a value, in place of what the key stood for, and make room for it."""
        # What the key stood for is not charged beside it.
        self.pop(key)

        self._entries[key] = namespace, value, size
        self._keys.setdefault(namespace, {})[key] = None
        self._held[namespace] = self._held.get(namespace, 0) + size
        self.used += size

        while self.used > self.room:
            largest = max(self._held, key=self._held.__getitem__)
            self.pop(next(iter(self._keys[largest])))

    def pop(self, key: K) -> V | None:
        """Forget a key; return what it stood for."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None

        namespace, value, size = entry
        self.used -= size
        self._held[namespace] -= size
        del self._keys[namespace][key]

        if not self._keys[namespace]:
            del self._keys[namespace], self._held[namespace]
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._keys.clear()
        self._held.clear()
        self.used = 0

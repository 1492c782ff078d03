"""What functions have made of texts of others, kept within a number of bytes.

Nobody's texts fill the memory of all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gatewright.core.fair_memory import FairMemory

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LARGE_BYTES = 16 * 1024
"""An entry of more than this is kept apart, with few of its like: what is ordinary is not driven
out by it."""


class Memory(Generic[K, V]):
    """The entries that were used last, as many as have room.

    No namespace drives out those of another.
    """

    def __init__(
        self, room_bytes: int, most: int, large: int = 4, large_bytes: int = LARGE_BYTES
    ) -> None:
        """`most` entries, of `room_bytes` together; and `large` ones of more than `large_bytes`
        each."""
        self._large_bytes = large_bytes
        self._least = -(-room_bytes // most)
        """What an entry is charged at least, so that there are never more than `most`."""
        self._small_ones: FairMemory[K, V] = FairMemory(room_bytes)
        self._large_ones: FairMemory[K, V] = FairMemory(large)

    def __len__(self) -> int:
        return len(self._small_ones) + len(self._large_ones)

    @property
    def used_bytes(self) -> int:
        """What the ordinary entries are charged."""
        return self._small_ones.used

    def get(
        self, key: K, make: Callable[[], V], size: Callable[[V], int], namespace: str = ""
    ) -> V:
        """Return what is remembered for a key, else what `make` makes. Raises what `make` raises.

        `size` tells the bytes of that. `namespace`: whose it is, where that is known.
        """
        for entries in (self._small_ones, self._large_ones):
            remembered = entries.get(key)
            if remembered is not None:
                return remembered

        made = make()
        bytes_ = size(made)
        if bytes_ > self._large_bytes:
            self._large_ones.put(namespace, key, made)
        else:
            self._small_ones.put(namespace, key, made, max(self._least, bytes_))
        return made

    def clear(self) -> None:
        """Keep nothing of what there is."""
        self._small_ones.clear()
        self._large_ones.clear()

"""What functions have made of texts of others, kept within a number of bytes: nobody's texts fill the memory of all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LARGE_BYTES = 16 * 1024
"""An entry of more than this is kept apart, with few of its like: what is ordinary is not driven out by it."""


class Memory(Generic[K, V]):
    """The entries that were used last, as many as have room."""

    def __init__(self, room_bytes: int, most: int, large: int = 4, large_bytes: int = LARGE_BYTES) -> None:
        """`most` entries, of `room_bytes` together; and `large` ones of more than `large_bytes` each."""
        self._room, self._most = room_bytes, most
        self._large, self._large_bytes = large, large_bytes
        self._small_ones: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._large_ones: OrderedDict[K, V] = OrderedDict()
        self.used_bytes = 0
        """What the ordinary entries take."""

    def __len__(self) -> int:
        return len(self._small_ones) + len(self._large_ones)

    def get(self, key: K, make: Callable[[], V], size: Callable[[V], int]) -> V:
        """What is kept for a key, else what `make` makes; `size` tells the bytes of that. Raises what `make` raises."""
        if key in self._small_ones:
            self._small_ones.move_to_end(key)
            return self._small_ones[key][0]
        if key in self._large_ones:
            self._large_ones.move_to_end(key)
            return self._large_ones[key]
        made = make()
        self._keep(key, made, size(made))
        return made

    def clear(self) -> None:
        """Keep nothing of what there is."""
        self._small_ones.clear()
        self._large_ones.clear()
        self.used_bytes = 0

    def _keep(self, key: K, made: V, size: int) -> None:
        if size > self._large_bytes:
            self._large_ones[key] = made
            while len(self._large_ones) > self._large:
                self._large_ones.popitem(last=False)
            return
        self._small_ones[key] = made, size
        self.used_bytes += size
        while self.used_bytes > self._room or len(self._small_ones) > self._most:
            _, (_, freed) = self._small_ones.popitem(last=False)
            self.used_bytes -= freed

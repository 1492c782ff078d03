"""Memory of the runs under way: nobody's specs may push those of others out of the process.

A run keeps its spec as objects, which take some six times the bytes of its JSON. All runs together
have so many bytes of JSON; a namespace may begin one more only while it holds fewer than are free.
So one alone has half of the room, the next one half of what is left, and so on. What has begun is
never refused: it has to find its way to the end, and back, after a restart as well.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import orjson

from gatewright.api.release import ReleaseSpec
from gatewright.core.model.pinned_spec import pinned_fields_of
from gatewright.runtime.tracked import Key

WOKEN_AT_ONCE = 8
"""Releases that look again when a run of their namespace ends."""
PLENTY_BYTES = 256 * 1024
"""As large as a spec may be: with more room than that nothing has to be measured."""


class RunMemory:
    """What specs of runs hold, by Release."""

    def __init__(self, most: int, wake: Callable[[Key], None]) -> None:
        """`most`: bytes of JSON of all runs together. `wake`: has a Release looked at again."""
        self._most = most
        self._wake = wake
        self._held: dict[Key, int] = {}
        self._by_namespace: Counter[str] = Counter()
        self._waiting: dict[Key, None] = {}

    @property
    def free(self) -> int:
        """Bytes that nobody holds; runs from before a restart may hold more than there are."""
        return max(0, self._most - sum(self._by_namespace.values()))

    def follow(self, key: Key, spec: ReleaseSpec | None) -> None:
        """Note that a run of this spec is under way; None: none is."""
        if spec is not None:
            if key not in self._held:
                self._hold(key, _bytes_of(spec))
            return

        size = self._held.pop(key, None)
        if size is not None:
            self._by_namespace[key[0]] -= size
            self._by_namespace += Counter()
            self._wake_waiting()

    def forget(self, key: Key) -> None:
        """A Release is gone."""
        self._waiting.pop(key, None)
        self.follow(key, None)

    def refusal(self, key: Key, spec: ReleaseSpec) -> str:
        """Return why no run of this spec may begin; empty where one may."""
        self._waiting.pop(key, None)
        held, free = self._by_namespace[key[0]], self.free
        if held + PLENTY_BYTES <= free:
            return ""

        size = _bytes_of(spec)
        if held + size <= free:
            return ""

        self._waiting[key] = None
        return (
            f"the runs of namespace {key[0]} hold {_kib(held)} of specs, and {_kib(free)} are free "
            f"for all; this one has {_kib(size)}"
        )

    def _hold(self, key: Key, size: int) -> None:
        self._held[key] = size
        self._by_namespace[key[0]] += size
        self._waiting.pop(key, None)

    def _wake_waiting(self) -> None:
        # The rest look by themselves, as everybody does who waits.
        for key in list(itertools.islice(self._waiting, WOKEN_AT_ONCE)):
            del self._waiting[key]
            self._wake(key)


def _bytes_of(spec: ReleaseSpec) -> int:
    return len(orjson.dumps(pinned_fields_of(spec)))


def _kib(size: int) -> str:
    return f"{-(-size // 1024)} KiB"

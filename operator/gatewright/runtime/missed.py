"""Changes that a list has shown before the watch has told of them.

One that is not told of for long shows that the watch is dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from gatewright.api import API_VERSION
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.watch import Watch
from gatewright.runtime.tracked import Key

MISSED_EVENT_TIMEOUT_S = 45.0


class _Missed(NamedTuple):
    """A change that the watch has not told of yet."""

    since: float
    version: int


class MissedEvents:
    """What the watch of Releases still has to tell."""

    def __init__(self) -> None:
        self._missed: dict[Key, _Missed] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._missed

    def __len__(self) -> int:
        return len(self._missed)

    def note(self, key: Key, version: int) -> None:
        """Expect an event of a Release, unless one is expected already."""
        self._missed.setdefault(key, _Missed(time.monotonic(), version))

    def forget(self, key: Key) -> None:
        """Expect nothing of a Release any more: it was told of, or never will be."""
        self._missed.pop(key, None)

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Expect nothing of all others: they are gone, and nobody tells what they were before."""
        for key in self._missed.keys() - set(keys):
            del self._missed[key]

    def first_late(self, watches: Iterable[Watch]) -> str | None:
        """Return a Release whose change was not told of in time, if there is one."""
        now = time.monotonic()
        for key, missed in self._missed.items():
            if now - missed.since > MISSED_EVENT_TIMEOUT_S and not _is_skipped(
                key, missed, watches
            ):
                return f"{key[0]}/{key[1]}"
        return None


def _is_skipped(key: Key, missed: _Missed, watches: Iterable[Watch]) -> bool:
    """Return whether a watch has begun anew since, and will never tell of a change."""
    collections = [api_path(API_VERSION, "releases", namespace) for namespace in ("", key[0])]
    return any(
        watch.collection in collections and watch.has_skipped(missed.version) for watch in watches
    )

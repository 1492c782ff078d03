"""What the watches tell of workloads, Jobs and configuration: who waits for it is woken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.tracked import Key, TrackedReleases


class FollowedObjects:
    """The objects that Releases work on."""

    def __init__(
        self, cached: CachedCluster, releases: TrackedReleases, wake: Callable[[Key], None]
    ) -> None:
        self._cached = cached
        self._releases = releases
        self._wake = wake

    def event(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        """Take in a watch event, and wake the Releases that wait for it."""
        for key in self._cached.event(api_path, kind, body):
            entry = self._releases.get(key)
            if entry is not None and entry.is_concerned_by(api_path, kind, body):
                self._wake(key)

    def on_watch_gap(self, part: str) -> None:
        """Believe nothing any more of what a watch may have left out."""
        for key in self._cached.doubt(part):
            self._wake(key)

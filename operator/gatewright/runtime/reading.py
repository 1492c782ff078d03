"""How much time the new specs of a namespace may take to be read and checked: what is more waits, and nobody else does.

To check a spec of the largest size takes a tenth of a second in which nothing else happens, and whoever may edit a Release
may edit it many times a second. Of edits that wait only the latest is read.
"""

from __future__ import annotations

SHARE = 0.1
"""Of the time of a CPU, for one namespace."""
BURST = 60.0
"""Seconds' worth of that share which may be taken at once after a quiet time: some thousand ordinary specs."""
URGENT_WAIT = 0.5
"""Seconds that a Release waits at most whose run is being undone."""


class Reading:
    """Of all namespaces; times in seconds on one clock of the caller's choice."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def wait(self, namespace: str, now: float) -> float:
        """Seconds until a namespace may have a spec read."""
        return max(0.0, self._free_at.get(namespace, now) - now)

    def spend(self, namespace: str, now: float, cpu: float) -> None:
        """A spec has taken so many seconds of CPU."""
        self._free_at[namespace] = max(self._free_at.get(namespace, now - BURST), now - BURST) + cpu / SHARE

    def rest(self, now: float) -> None:
        """Forget namespaces whose edits do not matter any more."""
        for namespace in [name for name, at in self._free_at.items() if at <= now - BURST]:
            del self._free_at[namespace]

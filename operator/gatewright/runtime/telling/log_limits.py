"""How much of the log one tenant can fill.

That is a share of each kind of line, for each object and for each namespace.

    log.warning("%s/%s: %s", *key, error, extra=about(*key))

A kind of line is a place in the code. What is written about one object is bounded, and what is
written about one namespace, since a tenant may have as many objects as they like; so others' lines
are not lost between them. Lines that are about nobody share one bound. The last line that is
written says so; what is left out is counted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from gatewright.runtime.telling import metrics

WINDOW_S = 600.0
"""Seconds for which lines are counted."""
MAX_LINES_PER_OBJECT = 10
"""Lines of one kind about one object in that time."""
MAX_LINES_PER_NAMESPACE = 60
"""Lines of one kind about one namespace in that time; also those that are about none."""

_ABOUT = "about"


def about(namespace: str, name: str = "") -> Mapping[str, tuple[str, str]]:
    """Return `extra` of a line: whose it is."""
    return {_ABOUT: (namespace, name)}


class LogLimits(logging.Filter):
    """Lets no more lines through than that; debugging is not bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._until = float("-inf")
        self._namespaces: Counter[tuple[str, int, str]] = Counter()
        self._objects: Counter[tuple[str, int, str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        if record.levelno <= logging.DEBUG:
            return True

        self._begin_window()

        namespace, name = getattr(record, _ABOUT, ("", ""))
        shared = (record.pathname, record.lineno, namespace)
        own = (*shared, name)

        is_full = self._namespaces[shared] >= MAX_LINES_PER_NAMESPACE
        if is_full or (name and self._objects[own] >= MAX_LINES_PER_OBJECT):
            metrics.dropped_lines.labels(record.name).inc()
            return False

        self._namespaces[shared] += 1

        if name:
            self._objects[own] += 1

        if self._namespaces[shared] == MAX_LINES_PER_NAMESPACE:
            _mark_last_line(record, f"namespace {namespace}" if namespace else "it")
        elif name and self._objects[own] == MAX_LINES_PER_OBJECT:
            _mark_last_line(record, f"{namespace}/{name}")

        return True

    def _begin_window(self) -> None:
        now = self._clock()
        if now >= self._until:
            self._until = now + WINDOW_S
            self._namespaces.clear()
            self._objects.clear()


def _mark_last_line(record: logging.LogRecord, whom: str) -> None:
    record.msg = (
        f"{record.getMessage()} (the last line of this kind about {whom} for up to "
        f"{WINDOW_S / 60:.0f} minutes; gatewright_log_lines_dropped_total counts the others)"
    )
    record.args = ()

"""The time of this process: that of the wall when it started, and from then on a clock that nobody
can set.

A wall clock that is put forward must not end a bake early, and one that is put back must not
prolong it. Between two processes the Lease tells how long nobody watched.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_WALL = datetime.now(UTC)
_MONOTONIC = time.monotonic()


def now() -> datetime:
    """Return the present, in UTC."""
    return _WALL + timedelta(seconds=time.monotonic() - _MONOTONIC)


def seconds_until(moment: datetime) -> float:
    """Return the seconds until a moment; a little more, so that a timer is not met too early."""
    return (moment - now()) / timedelta(seconds=1) + 0.002

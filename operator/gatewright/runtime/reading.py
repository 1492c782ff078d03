"""How much time the new specs of a namespace may take to be read and checked: what is more waits,
and nobody else does.

To check a spec of the largest size takes a tenth of a second in which nothing else happens, and
whoever may edit a Release may edit it many times a second. Of edits that wait only the latest is
read.
"""

from __future__ import annotations

from gatewright.core.token_buckets import TokenBuckets

SHARE = 0.1
"""Of the time of a CPU, for one namespace."""
BURST = 60.0
"""Seconds' worth of that share which may be taken at once after a quiet time: some thousand
ordinary specs."""
URGENT_WAIT = 0.5
"""Seconds that a Release waits at most whose run is being undone."""


class Reading(TokenBuckets[str]):
    """Of all namespaces; what is used are seconds of CPU."""

    def __init__(self) -> None:
        super().__init__(SHARE, BURST)

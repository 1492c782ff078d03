"""What each namespace has used of the event loop, and who is therefore to come after whom.

    used:  + what its passes cost,  - PART of each second that goes by
    in debt: used > BURST_S

All passes share one thread. A namespace in debt waits for those that are not; it has never more
than `MOST_DEBT_S` to wait off.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

PART = 0.1
"""Of one core: what a namespace may use for ever while others want something."""
BURST_S = 0.5
"""Seconds of CPU that it may use at once."""
MOST_DEBT_S = 1.0
"""Seconds of CPU that it is held to have used beyond that at most: nobody waits for ever."""
AT_ONCE_S = 0.05
"""Seconds of CPU that the next steps of its passes may take together: others wait for all that are
begun."""
FADING = 0.98
"""What is left of the largest step with each further one."""
REMEMBERED_S = 600.0
"""Seconds for which a namespace is remembered that does nothing."""
MANY = 256
"""Namespaces that are remembered before somebody looks which of them still do anything."""

_now = time.monotonic


@dataclass(slots=True)
class _Account:
    used: float
    """Seconds of CPU, as of `at`."""
    at: float
    step: float
    """Seconds of CPU of the largest step lately."""


class Usage:
    """The accounts of all namespaces that do something."""

    def __init__(self) -> None:
        self.accounts: dict[Hashable, _Account] = {}
        self._tidy = MANY

    def charge(self, share: Hashable, seconds: float) -> None:
        """Add what a step of a pass has cost."""
        now = _now()

        account = self.accounts.get(share)
        if account is None:
            if len(self.accounts) >= self._tidy:
                self._forget(now)
            account = self.accounts[share] = _Account(0.0, now, 0.0)

        left = max(0.0, account.used - PART * (now - account.at))
        account.used = min(left + seconds, BURST_S + MOST_DEBT_S)
        account.at = now
        account.step = max(seconds, FADING * account.step)

    def debt(self, share: Hashable) -> float:
        """Return the seconds until a share is not in debt any more; 0 where it is not now."""
        account = self.accounts.get(share)
        if account is None or account.used <= BURST_S:
            return 0.0
        return max(0.0, (account.used - BURST_S) / PART - (_now() - account.at))

    def at_once(self, share: Hashable) -> float:
        """Return how many passes of a share may go on at a time: few, if their steps are long."""
        account = self.accounts.get(share)
        if account is None or not account.step:
            return float("inf")
        return max(1.0, AT_ONCE_S // account.step)

    def _forget(self, now: float) -> None:
        self.accounts = {
            share: account
            for share, account in self.accounts.items()
            if now - account.at < REMEMBERED_S
        }
        self._tidy = max(MANY, 2 * len(self.accounts))

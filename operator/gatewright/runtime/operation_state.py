"""How far an operation is, and since when it has been stuck."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from gatewright.core.model.operation import Progress

REFUSED_RETRY_DELAYS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds after which an operation of a rollback is begun once more when it was refused; the last
one repeats."""


def refusal_delay(refusals: int) -> float:
    """Return the seconds to wait after so many refusals."""
    return REFUSED_RETRY_DELAYS_S[min(max(refusals, 1), len(REFUSED_RETRY_DELAYS_S)) - 1]


@dataclass(slots=True)
class OperationState:
    """How far an operation is, and since when it has been stuck."""

    progress: Progress
    looked: float = 0.0
    looks: int = 0
    stuck_since: float | None = None
    hopeless_since: float | None = None
    words: str = ""
    """What kept it from ending when somebody looked last."""
    ended: bool = False
    """It is a Job that has ended, or is about to; only what it has left is not known."""
    refusals: int = 0
    """How often the API server, or a vendor, has refused to begin it."""
    retry_at: float = 0.0
    """When it may be begun once more (monotonic)."""
    overwritten: int = 0
    """How often it was made once more because others had overwritten it."""
    again_at: float | None = None
    """When it will be, while what others have put there stands (monotonic)."""
    poller: asyncio.Task[None] | None = None
    """Begins it, and looks at it again and again, where no watch tells."""
    subject: str = ""
    """What it works on outside the cluster."""
    back: bool = False
    """It is on the way back."""
    asking: bool = False
    """A request of the poller is under way."""
    begins: bool = False
    """It is being begun."""

    def refused(self, message: str) -> None:
        """An operation of a rollback was refused: it is begun again after a while, a little later
        each time."""
        self.refusals += 1
        # The first refusal is tried again at once, before anybody is told: it may be gone in a
        # moment.
        self.progress = Progress("Refused", message) if self.refusals > 1 else Progress("Unknown")
        self.looked = time.monotonic()
        self.retry_at = self.looked + refusal_delay(self.refusals)

    def add_refusal(self, progress: Progress) -> Progress:
        """Keep the reason of a refusal in the progress of what is about to be tried again."""
        # It says something newer itself.
        if progress.state != "Absent" or not self.refusals or progress.message:
            return progress
        return replace(progress, message=self.progress.message)

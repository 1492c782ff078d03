"""The status of one Release: as the API server holds it, and as it was decided since."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class StatusRecord:
    """A status, and what it was decided upon.

    Others read the properties; what changes is changed by the methods.
    """

    _persisted: dict[str, Any]
    _working: dict[str, Any]
    _basis: str = ""
    _flush_at: float | None = None

    @classmethod
    def of(cls, status: dict[str, Any]) -> StatusRecord:
        """From an object that was read."""
        return cls(status, status)

    @property
    def persisted(self) -> dict[str, Any]:
        """The status that the API server holds."""
        return self._persisted

    @property
    def working(self) -> dict[str, Any]:
        """The status that was decided, written or not."""
        return self._working

    @property
    def basis(self) -> str:
        """The resourceVersion that the current decision is made on.

        Every write names it as its precondition.
        """
        return self._basis

    @property
    def flush_at(self) -> float | None:
        """When a status that may wait has to be written (monotonic)."""
        return self._flush_at

    @property
    def is_unwritten(self) -> bool:
        """Whether the status that was decided has not been written."""
        return self._working != self._persisted

    @property
    def is_due(self) -> bool:
        """Whether a status that may wait has waited long enough."""
        return self._flush_at is not None and time.monotonic() >= self._flush_at

    def is_known(self, status: dict[str, Any]) -> bool:
        """Return whether a status is ours: the one that was written, or is about to be."""
        return status in (self._persisted, self._working)

    def replace(self, status: dict[str, Any]) -> None:
        """Take a status that somebody else wrote: what was decided meanwhile is gone."""
        self._persisted = self._working = status
        self._flush_at = None

    def decide_upon(self, resource_version: str) -> None:
        """Make decisions upon this edition of the object from now on."""
        self._basis = resource_version

    def take_decided(self, status: dict[str, Any]) -> bool:
        """Take a decided status; return whether it differs from the one before."""
        if status == self._working:
            return False
        self._working = status
        return True

    def defer(self, seconds: float) -> None:
        """Let what was decided wait so long at most; what waits already waits no longer."""
        if self._flush_at is None:
            self._flush_at = time.monotonic() + seconds

    def record_write(self, resource_version: str, status: dict[str, Any] | None) -> None:
        """Take the answer to a write of ours; `status`: what was written of it, if that was."""
        self._basis = resource_version
        if status is not None:
            self._persisted = status

    def drop_decided(self) -> None:
        """Hold to what the API server has: the next decision is made anew."""
        self._working = self._persisted

    def settle(self) -> None:
        """Hold to what the API server has, and let nothing wait."""
        self.drop_decided()
        self._flush_at = None

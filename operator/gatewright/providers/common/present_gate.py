"""What gates have in common whose systems tell of now only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatewright.ports import Answer, OpenConnection


class PresentGate:
    """The part of a Gate that is the same, whatever is measured now only."""

    async def history(
        self, config: Any, link: OpenConnection, start: float, end: float, step: float
    ) -> Sequence[tuple[float, Answer]]:
        """Return nothing: after a restart a window begins anew."""
        return []

"""What actions have in common: what is done is done. Nothing of it can be restored, and nothing is
compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent


class Deed:
    """The part of an External that all actions share."""

    async def compare(
        self,
        config: Any,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        """Return nothing: a record that was made, or a key that was removed, is no state that
        somebody could move away."""
        for operation in operations:
            require_act(operation)
        return Standing()

    async def trouble(self, config: Any, link: OpenConnection, operation: Operation) -> str | None:
        """Return nothing: what has failed says so by itself, and there is no log to read."""
        return None


def require_act(operation: Operation) -> None:
    """Refuse everything but what an action does. Raises Permanent."""
    if operation.kind != "act":
        other = f"it cannot be undone, nor anything else ({operation.kind})"
        raise Permanent(f"an action can be done; {other}")

"""upstash: what a step may do to an Upstash Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection
from gatewright.providers.common.deeds import Deed, require_act
from gatewright.providers.redis import flushing
from gatewright.providers.upstash import connection as upstash


class UpstashAction(Model):
    """Removes keys from an Upstash Redis. There is no way back: an approval step has to stand
    before it."""

    connection: Name | None = None
    """Name of the upstash Connection; the namespace's only one when left out."""
    flush: flushing.Flush
    """Which keys."""


class UpstashFlush(Deed):
    """Removes keys by prefix, a slice at each look."""

    config: ClassVar[type[BaseModel]] = UpstashAction
    connection: ClassVar[str] = "upstash"
    interval: ClassVar[float] = 1.0

    def identity(self, config: UpstashAction) -> str:
        """Return nothing that is owned: keys that two runs remove are removed."""
        return ""

    async def look(self, config: UpstashAction, link: OpenConnection) -> LiveState:
        """Return whether it could be done; nothing can be restored. Raises Retryable, Permanent."""
        await upstash.run_command(link, "PING")
        return LiveState(None)

    async def perform(
        self,
        config: UpstashAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Begin. Raises Retryable, Permanent."""
        require_act(operation)
        return await flushing.start(upstash.run_command, link, config.flush, operation)

    async def follow(
        self,
        config: UpstashAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Go on. Raises Retryable, Permanent."""
        require_act(operation)
        return await flushing.follow(upstash.run_command, link, config.flush, operation)

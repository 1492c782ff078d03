"""redis: what a step may do to a Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common.deeds import Deed, require_act
from gatewright.providers.redis import connection as redis
from gatewright.providers.redis import flushing


class RedisAction(Model):
    """Removes keys from a Redis. There is no way back: an approval step has to stand before it."""

    connection: Name | None = None
    """Name of the redis Connection; the namespace's only one when left out."""
    flush: flushing.Flush
    """Which keys."""


class RedisFlush(Deed):
    """Removes keys by prefix, a slice at each look."""

    config: ClassVar[type[BaseModel]] = RedisAction
    connection: ClassVar[str] = "redis"
    interval: ClassVar[float] = 1.0

    def identity(self, config: RedisAction) -> str:
        """Return nothing that is owned: keys that two runs remove are removed."""
        return ""

    async def look(self, config: RedisAction, link: OpenConnection) -> LiveState:
        """Return whether it could be done; nothing can be restored. Raises Retryable, Permanent."""
        info = redis.info_of(await redis.run_command(link, "INFO"))
        if info.get("cluster_enabled", "0") != "0":
            return LiveState(
                None, problem="a node of a Redis Cluster, which knows only its own part of the keys"
            )
        if info.get("role", "master") != "master":
            return LiveState(None, problem="a replica, which takes no writes")
        return LiveState(None)

    async def perform(
        self,
        config: RedisAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Begin. Raises Retryable, Permanent."""
        require_act(operation)
        sight = await self.look(config, link)
        if sight.problem is not None:
            raise Permanent(f"the Redis: {sight.problem}")
        return await flushing.start(redis.run_command, link, config.flush, operation)

    async def follow(
        self,
        config: RedisAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Go on. Raises Retryable, Permanent."""
        require_act(operation)
        return await flushing.follow(redis.run_command, link, config.flush, operation)

"""upstash: how well a cache does, by the INFO that its REST API answers; see `redis`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.api.rules import ExactlyOne, Rule
from gatewright.ports import Answer, OpenConnection
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.redis import connection as redis
from gatewright.providers.redis.gate import HitRatio, Memory, answer_from_info
from gatewright.providers.units import Unit
from gatewright.providers.upstash import connection as upstash


class UpstashCheck(Model):
    """How well an Upstash Redis does, by its INFO; exactly one question."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("hitRatio", "memory"),)

    connection: Name | None = None
    """Name of the upstash Connection; the namespace's only one when left out."""
    hitRatio: HitRatio | None = None
    """The cache's hit ratio, 0 to 1."""
    memory: Memory | None = None
    """Use of memory, 0 to 1."""


class UpstashGate(PresentGate):
    """Asks an Upstash Redis for its INFO."""

    config: ClassVar[type[BaseModel]] = UpstashCheck
    connection: ClassVar[str] = "upstash"
    limits: ClassVar[Literal["required", "optional"]] = "required"

    def unit(self, config: UpstashCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "ratio"

    async def measure(self, config: UpstashCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        info = redis.info_of(await upstash.run_command(link, "INFO"))
        return answer_from_info(info, config.hitRatio, link)

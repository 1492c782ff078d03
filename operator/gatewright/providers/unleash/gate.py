"""unleash: whether a flag is enabled in an environment. Whom its strategies give it to is asked by
`ofrep`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.ports import Answer, OpenConnection
from gatewright.providers.common.flag_switches import FlagKey, Switch
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.units import Unit
from gatewright.providers.unleash import connection as unleash


class UnleashCheck(Model):
    """Whether a flag is enabled in an Unleash environment."""

    connection: Name | None = None
    """Name of the unleash Connection; the namespace's only one when left out."""
    project: FlagKey = "default"
    """Key of the project."""
    environment: FlagKey
    """Key of the environment."""
    flag: FlagKey
    """Key of the flag."""
    state: Switch = "on"
    """What it must be, in quotes: "on" or "off"."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return that max and min do not belong to this check: there is no number."""
        return "useless"


class UnleashGate(PresentGate):
    """Reads a flag."""

    config: ClassVar[type[BaseModel]] = UnleashCheck
    connection: ClassVar[str] = "unleash"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: UnleashCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "boolean"

    async def measure(self, config: UnleashCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        on = (await unleash.fetch_state(link, config.project, config.environment, config.flag)).on
        message = f"{config.flag} is {'on' if on else 'off'} in {config.environment}"
        return Answer(on == (config.state == "on"), message)

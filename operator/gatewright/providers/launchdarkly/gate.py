"""launchdarkly: whether a flag's targeting is on in an environment."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.ports import Answer, OpenConnection
from gatewright.providers.common.flag_switches import FlagKey, Switch
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.launchdarkly import connection as launchdarkly
from gatewright.providers.units import Unit


class LaunchDarklyCheck(Model):
    """Whether the targeting of a LaunchDarkly flag is on in an environment."""

    connection: Name | None = None
    """Name of the launchdarkly Connection; the namespace's only one when left out."""
    project: FlagKey
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


class LaunchDarklyGate(PresentGate):
    """Reads a flag."""

    config: ClassVar[type[BaseModel]] = LaunchDarklyCheck
    connection: ClassVar[str] = "launchdarkly"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: LaunchDarklyCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "boolean"

    async def measure(self, config: LaunchDarklyCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        on = await launchdarkly.is_on(link, config.project, config.environment, config.flag)
        message = f"{config.flag} is {'on' if on else 'off'} in {config.environment}"
        return Answer(on == (config.state == "on"), message)

"""Flags of Unleash, on or off in an environment."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model import Operation
from gatewright.ports import Link
from gatewright.providers.connections import unleash
from gatewright.providers.flags.switches import FlagKey, FlagSwitches, Switches


class UnleashConfig(Model):
    """Flags of an Unleash environment, enabled or disabled; returned to what they were in a rollback."""

    connection: Name | None = None
    """Name of the unleash Connection; the namespace's only one when left out."""
    project: FlagKey = "default"
    """Key of the project."""
    environment: FlagKey
    """Key of the environment."""
    set: Switches
    """"on" or "off", in quotes, by flag. Unleash gives a flag without a strategy to everybody when it is switched on."""


class UnleashFlags(FlagSwitches):
    """Switches flags by the admin API."""

    config: ClassVar[type[BaseModel]] = UnleashConfig
    connection: ClassVar[str] = "unleash"

    async def _is_on(self, config: UnleashConfig, link: Link, flag: str) -> bool:
        return (await unleash.state(link, config.project, config.environment, flag)).on

    async def _switch(self, config: UnleashConfig, link: Link, flag: str, on: bool, operation: Operation) -> None:
        await unleash.switch(link, config.project, config.environment, flag, on)

"""Flags of LaunchDarkly, their targeting on or off in an environment."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model import Operation
from gatewright.ports import Link
from gatewright.providers.connections import launchdarkly
from gatewright.providers.flags.switches import FlagKey, FlagSwitches, Switches


class LaunchDarklyConfig(Model):
    """Targeting of LaunchDarkly flags in an environment, on or off; returned to what it was in a rollback."""

    connection: Name | None = None
    """Name of the launchdarkly Connection; the namespace's only one when left out."""
    project: FlagKey
    """Key of the project."""
    environment: FlagKey
    """Key of the environment."""
    set: Switches
    """"on" or "off", in quotes, by flag."""


class LaunchDarklyFlags(FlagSwitches):
    """Switches flags by semantic patch; the operation's key stands in the comment, for the audit log."""

    config: ClassVar[type[BaseModel]] = LaunchDarklyConfig
    connection: ClassVar[str] = "launchdarkly"

    async def _is_on(self, config: LaunchDarklyConfig, link: Link, flag: str) -> bool:
        return await launchdarkly.is_on(link, config.project, config.environment, flag)

    async def _switch(self, config: LaunchDarklyConfig, link: Link, flag: str, on: bool, operation: Operation) -> None:
        await launchdarkly.switch(
            link,
            config.project,
            config.environment,
            flag,
            on,
            comment=f"Gatewright {operation.kind} {operation.key}",
            # neither a rollback nor a kill switch waits for what somebody has scheduled or wants approved
            ignore_conflicts=operation.kind == "restore" or not on,
        )

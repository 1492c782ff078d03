"""Flags of Unleash, on or off in an environment."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection
from gatewright.providers.common import rest
from gatewright.providers.common.flag_switches import FlagKey, FlagSwitches, Switches
from gatewright.providers.unleash import connection as unleash

_EVENTS = 20
"""Events of a flag that are looked through, the newest."""
_SWITCHED = ("feature-environment-enabled", "feature-environment-disabled")


class UnleashConfig(Model):
    """Flags of an Unleash environment, enabled or disabled; returned to what they were in a
    rollback."""

    connection: Name | None = None
    """Name of the unleash Connection; the namespace's only one when left out."""
    project: FlagKey = "default"
    """Key of the project."""
    environment: FlagKey
    """Key of the environment."""
    set: Switches
    """"on" or "off", in quotes, by flag. Unleash gives a flag without a strategy to everybody when
    it is switched on."""


class UnleashFlags(FlagSwitches):
    """Switches flags by the admin API."""

    config: ClassVar[type[BaseModel]] = UnleashConfig
    connection: ClassVar[str] = "unleash"

    async def _is_on(self, config: UnleashConfig, link: OpenConnection, flag: str) -> bool:
        return (await unleash.fetch_state(link, config.project, config.environment, flag)).on

    async def _switch_flag(
        self, config: UnleashConfig, link: OpenConnection, flag: str, on: bool, operation: Operation
    ) -> None:
        await unleash.switch_flag(link, config.project, config.environment, flag, on)

    async def _switched_by(self, config: UnleashConfig, link: OpenConnection, flag: str) -> str:
        """Return who has switched a flag, by the newest of its events in the environment."""
        query = {"feature": f"IS:{flag}", "limit": _EVENTS}
        # A limit met here keeps no switch back.
        asked = dataclasses.replace(link, identity=f"{link.identity}/events")
        answer = await rest.fetch(asked, "/api/admin/search/events", query=query)
        events = answer.get("events") if isinstance(answer, dict) else None
        for event in events if isinstance(events, list) else ():
            if not isinstance(event, dict) or event.get("environment") != config.environment:
                continue

            if event.get("type") in _SWITCHED and event.get("featureName") == flag:
                at, who = (
                    rest.repeatable_text(link, event.get(name) or "") or "?"
                    for name in ("createdAt", "createdBy")
                )
                return f"switched at {at} by {who}"

        return ""

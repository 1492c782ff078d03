"""Flags of LaunchDarkly, their targeting on or off in an environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.model.operation import Operation
from gatewright.core.run import clocks
from gatewright.ports import OpenConnection
from gatewright.providers.common import rest
from gatewright.providers.common.flag_switches import FlagKey, FlagSwitches, Switches
from gatewright.providers.launchdarkly import connection as launchdarkly

_LIMITS = rest.RateLimits(reset="x-ratelimit-reset", unit="epoch-ms")
_MAX_TIME_MS = 10**14
"""Milliseconds, which no date of an audit log reaches."""


class LaunchDarklyConfig(Model):
    """Targeting of LaunchDarkly flags in an environment, on or off; returned to what it was in a
    rollback."""

    connection: Name | None = None
    """Name of the launchdarkly Connection; the namespace's only one when left out."""
    project: FlagKey
    """Key of the project."""
    environment: FlagKey
    """Key of the environment."""
    set: Switches
    """"on" or "off", in quotes, by flag."""


class LaunchDarklyFlags(FlagSwitches):
    """Switches flags by semantic patch; the operation's key stands in the comment, for the audit
    log."""

    config: ClassVar[type[BaseModel]] = LaunchDarklyConfig
    connection: ClassVar[str] = "launchdarkly"

    async def _is_on(self, config: LaunchDarklyConfig, link: OpenConnection, flag: str) -> bool:
        return await launchdarkly.is_on(link, config.project, config.environment, flag)

    async def _switch_flag(
        self,
        config: LaunchDarklyConfig,
        link: OpenConnection,
        flag: str,
        on: bool,
        operation: Operation,
    ) -> None:
        # Neither a rollback nor a kill switch waits for what somebody has scheduled or wants
        # approved.
        ignore_conflicts = operation.kind == "restore" or not on

        await launchdarkly.switch_flag(
            link,
            config.project,
            config.environment,
            flag,
            on,
            comment=f"Gatewright {operation.kind} {operation.key}",
            ignore_conflicts=ignore_conflicts,
        )

    async def _switched_by(
        self, config: LaunchDarklyConfig, link: OpenConnection, flag: str
    ) -> str:
        """Return who has switched a flag, by the newest entry of the audit log.

        https://launchdarkly.com/docs/api/audit-log/get-audit-log-entries
        """
        spec = f"proj/{config.project}:env/{config.environment}:flag/{flag}"
        query = {"spec": spec, "limit": 1}
        # A limit met here keeps no switch back.
        audit_link = dataclasses.replace(link, identity=f"{link.identity}/audit")
        answer = await rest.fetch(audit_link, "/api/v2/auditlog", query=query, limits=_LIMITS)
        items = answer.get("items") if isinstance(answer, dict) else None
        last = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}
        return _describe_change(link, last)


def _describe_change(link: OpenConnection, entry: Mapping[str, Any]) -> str:
    """Return when a flag was changed and by whom, as far as an entry of the audit log tells."""
    member, token = entry.get("member"), entry.get("token")
    who = None
    if isinstance(member, dict):
        who = member.get("email")
    elif isinstance(token, dict):
        who = token.get("name")

    at, when = entry.get("date"), ""
    if isinstance(at, int) and 0 < at < _MAX_TIME_MS:
        when = f" at {clocks.format_time(datetime.fromtimestamp(at / 1000, UTC))}"

    name = rest.repeatable_text(link, who or "")
    by = f" by {name}" if name else ""
    return f"changed{when}{by}" if when or by else ""

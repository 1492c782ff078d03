"""PagerDuty's Events API v2: a routing key, and two paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.common.secrets import secret_value

LIMITS = rest.RateLimits(pause=30.0)


class PagerdutyAccess(Model):
    """A PagerDuty service, by its Events API v2 integration."""

    url: HttpUrl = "https://events.pagerduty.com"
    """Base URL of the Events API; `https://events.eu.pagerduty.com` in the EU."""
    routingKey: SecretSource
    """Integration key of the service (32 characters); keys of rulesets (`R...`) take no change
    events."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return no header, because none opens it: the routing key stands in each event."""
        value(self.routingKey)
        return {}


class PagerdutyConnection:
    """The routing key is one that PagerDuty takes."""

    config: ClassVar[type[BaseModel]] = PagerdutyAccess

    async def check(self, link: OpenConnection) -> None:
        """Resolve an alert that never was, which PagerDuty takes and drops."""
        event = {"event_action": "resolve", "dedup_key": "gatewright/check"}
        await enqueue_event(link, "/v2/enqueue", event)


async def enqueue_event(link: OpenConnection, path: str, event: Mapping[str, Any]) -> None:
    """Send one event. Raises Retryable, Permanent."""
    body = {"routing_key": secret_value(link, link.config.routingKey), **event}
    reply = await rest.call(link, "POST", path, body=body, limits=LIMITS, accepted=frozenset({400}))
    answer = replies.json_of(reply)

    if reply.status == 400:
        errors = answer.get("errors") if isinstance(answer, dict) else None
        explanation = rest.message_of(link, reply)
        if isinstance(errors, list) and errors:
            explanation = rest.repeatable_text(link, "; ".join(map(str, errors)))
        raise Permanent(
            f"{reply.where}: PagerDuty refuses the event: {explanation or 'it does not say why'}"
        )

    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise Permanent(f"{reply.where}: the answer is not PagerDuty's")

"""A stand-in for PagerDuty's Events API v2: alerts by dedup_key, as its documents have them.

A trigger opens an alert, and on an open one is only logged; after a resolve it opens another. A
resolve of what is not open is taken and dropped.
https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SEVERITIES = ("critical", "error", "warning", "info")


@dataclass
class Pagerduty:
    """One service."""

    key: str
    alerts: list[dict[str, Any]] = field(default_factory=list)
    """Every alert there was: its dedup_key, whether it is open, how often it was triggered, and its
    payload."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0

    def app(self) -> web.Application:
        """The application."""
        found = web.Application()
        found.router.add_post("/v2/enqueue", self._enqueue)
        found.router.add_post("/v2/change/enqueue", self._change)
        return found

    def open(self) -> list[str]:
        """Keys of open alerts."""
        return [alert["dedup_key"] for alert in self.alerts if alert["open"]]

    async def _enqueue(self, request: web.Request) -> web.Response:
        event = await request.json()
        problems = self._problems(event)
        action = event.get("event_action")
        if action not in ("trigger", "acknowledge", "resolve"):
            problems.append(
                "'event_action' is invalid (should be one of: trigger, acknowledge, resolve)"
            )
        if action != "trigger" and not event.get("dedup_key"):
            problems.append("'dedup_key' is missing or blank")
        if action == "trigger":
            problems += [
                f"'payload.{name}' is missing or blank"
                for name in ("summary", "source", "severity")
                if not event.get("payload", {}).get(name)
            ]
            if event.get("payload", {}).get("severity") not in SEVERITIES:
                problems.append("'payload.severity' is invalid")
        if len(event.get("dedup_key", "")) > 255:
            problems.append("Length of 'dedup_key' is greater than 255 characters")
        if problems:
            return _refused(problems)
        alert = next(
            (
                item
                for item in self.alerts
                if item["open"] and item["dedup_key"] == event["dedup_key"]
            ),
            None,
        )
        if action == "trigger" and alert is None:
            self.alerts.append(
                {"dedup_key": event["dedup_key"], "open": True, "times": 1, **event["payload"]}
            )
        elif action == "trigger" and alert is not None:
            alert["times"] += 1
        elif action == "resolve" and alert is not None:
            alert["open"] = False
        return _taken(event["dedup_key"])

    async def _change(self, request: web.Request) -> web.Response:
        event = await request.json()
        problems = self._problems(event)
        if not event.get("payload", {}).get("summary"):
            problems.append("'payload.summary' is missing or blank")
        if problems:
            return _refused(problems)
        self.changes.append(event["payload"])
        return _taken(None)

    def _problems(self, event: dict[str, Any]) -> list[str]:
        self.requests += 1
        problems = (
            []
            if event.get("routing_key") == self.key
            else [f"Invalid routing key: {event.get('routing_key')}"]
        )
        if len(event.get("payload", {}).get("summary", "")) > 1024:
            problems.append("Length of 'payload.summary' is greater than 1024 characters")
        return problems


def _taken(key: str | None) -> web.Response:
    body = {"status": "success", "message": "Event processed"} | ({"dedup_key": key} if key else {})
    return web.json_response(body, status=202)


def _refused(problems: list[str]) -> web.Response:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": problems}
    return web.json_response(body, status=400)

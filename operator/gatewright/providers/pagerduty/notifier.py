"""PagerDuty: alerts for what somebody must look at, change events for the rest.

    warning, error, critical    an alert, by a dedup_key that is the same for every repetition; each
                                check that is told of has one of its own
    the check is good again     its alert is resolved
    the run has ended well      every alert of the run is resolved
    info                        a change event, shown beside the service's incidents; nobody is
                                paged

The handle is the list of this run's open alerts: events, and checks as `check/NAME`. A rollback
that failed stays open: somebody must look.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.ports import Message, OpenConnection
from gatewright.providers.pagerduty.connection import enqueue_event

MAX_SUMMARY_LENGTH = 1024
MAX_KEY_LENGTH = 255


class PagerdutyNotice(Model):
    """Alerts and change events of a PagerDuty service."""

    connection: Name | None = None
    """Name of a pagerduty Connection; without it the namespace's only one."""
    severity: Literal["critical", "error", "warning", "info"] | None = None
    """Severity of alerts; without it that of the event. Events that are no fault are change events
    and page nobody."""


class PagerdutyNotifier:
    """Events API v2."""

    config: ClassVar[type[BaseModel]] = PagerdutyNotice
    connection: ClassVar[str] = "pagerduty"

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        """Trigger, resolve, or tell of a change. Raises Retryable, Permanent."""
        opened = [name for name in (handle or "").split(",") if name]
        if message.event == "GuardRecovered":
            return await _resolve_check(link, message, opened)
        if _is_good_end(message):
            return await _resolve_alerts(link, message, opened, config.severity)

        # Nobody is paged for what went well.
        if message.severity == "info":
            await _send_change(link, message)
            return handle

        await _trigger_alert(link, message, config.severity or message.severity)
        return ",".join(dict.fromkeys([*opened, _alert_name(message)]))

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        """Tell of it as of a change, so that nobody is paged. Raises Retryable, Permanent."""
        await _send_change(link, message)
        return "PagerDuty took a change event, which pages nobody: its routing key is good"


_EVENTS_OF_CHECKS = ("GuardFailed", "GuardRecovered", "Hindered")
"""Events of a check whose fault has an alert of its own."""


def _alert_name(message: Message) -> str:
    """Return what tells the alert of a message from others of the run."""
    if message.check and message.event in _EVENTS_OF_CHECKS:
        return f"check/{message.check}"
    return message.event


async def _resolve_check(link: OpenConnection, message: Message, opened: list[str]) -> str | None:
    """Resolve the alert of a check, whether or not the handle tells of it; return what is left."""
    name = _alert_name(message)
    event = {"event_action": "resolve", "dedup_key": dedup_key(message, name)}
    await enqueue_event(link, "/v2/enqueue", event)
    await _send_change(link, message)
    return ",".join(other for other in opened if other != name) or None


def _is_good_end(message: Message) -> bool:
    """Return whether what alerts were about has ended.

    That is the end of a run that left nothing broken, or of a downtime.
    """
    return message.event == "Restored" or (message.over and message.severity in ("info", "warning"))


async def _resolve_alerts(
    link: OpenConnection, message: Message, opened: list[str], severity: str | None
) -> str | None:
    """Resolve what is open, and return what is left open; a downtime ends only by its own end.

    Where nothing was open, the message is an event like others.
    """
    failing = [f"check/{name}" for name in message.failing]
    closing = [
        name
        for name in opened
        if (name == "Downtime") == (message.event == "Restored") and name not in failing
    ]
    for name in closing:
        event = {"event_action": "resolve", "dedup_key": dedup_key(message, name)}
        await enqueue_event(link, "/v2/enqueue", event)

    left = [name for name in opened if name not in closing]
    if not closing and message.severity != "info":
        await _trigger_alert(link, message, severity or message.severity)
        left.append(_alert_name(message))
    else:
        await _send_change(link, message)

    return ",".join(left) or None


async def _trigger_alert(link: OpenConnection, message: Message, severity: str) -> None:
    namespace, name, *_ = message.thread.split("/")
    payload = {
        "summary": _summary_of(message),
        "source": f"{namespace}/{name}",
        "severity": severity,
        "timestamp": message.at,
        "component": name,
        "group": namespace,
        "class": message.event,
        "custom_details": _details_of(message),
    }

    event = {
        "event_action": "trigger",
        "dedup_key": dedup_key(message, _alert_name(message)),
        "client": "Gatewright",
        "payload": payload,
    }
    await enqueue_event(link, "/v2/enqueue", event)


async def _send_change(link: OpenConnection, message: Message) -> None:
    namespace, name, *_ = message.thread.split("/")
    payload = {
        "summary": _summary_of(message),
        "timestamp": message.at,
        "source": f"{namespace}/{name}",
        "custom_details": _details_of(message),
    }
    await enqueue_event(link, "/v2/change/enqueue", {"payload": payload})


def dedup_key(message: Message, alert: str) -> str:
    """Return the key of an alert, the same however often it is told.

    There is one for each check of a run, and one for each other event.
    """
    return f"release/{message.thread}/{alert}"[-MAX_KEY_LENGTH:]


def _summary_of(message: Message) -> str:
    summary = f"{message.title}: {message.text}" if message.text else message.title
    if len(summary) <= MAX_SUMMARY_LENGTH:
        return summary
    return f"{summary[: MAX_SUMMARY_LENGTH - 1]}…"


def _details_of(message: Message) -> dict[str, Any]:
    return {
        "event": message.event,
        **({"check": message.check} if message.check else {}),
        "key": message.key,
        "why": message.text,
        "stages": list(message.lines),
    }

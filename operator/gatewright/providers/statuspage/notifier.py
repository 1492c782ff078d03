"""Statuspage: what customers are told, in words that are written for them.

    Started         a maintenance under way, where `maintenance` is configured
    the run ends    the maintenance is completed
    Downtime        an incident: investigating, or what a rollback has come to by then; subscribers
                    are told
    RollingBack     the incident, if there is one: identified
    Verifying       the incident, if there is one: monitoring
    Restored        the incident is resolved

Nothing of a run's own texts goes there: they name gates, hosts and errors. The API has no
idempotency key, so each incident carries the Release and what it is for in its metadata, and is
looked for before it is created. The handle is `KIND=ID` of what is open, and `said=STATUS` once an
incident says what a rollback has come to: nobody is told the same twice. An incident outlives its
run: it is the Release's, and closed when users are served again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Duration, LongText, Model, Name, seconds
from gatewright.ports import Message, OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.statuspage.connection import call

ITEMS_PER_PAGE = 100
MAX_PAGES = 5
"""Pages of open incidents that are looked through; a status page with more is not looked after."""
Kind = Literal["maintenance", "incident"]
Progress = Literal["investigating", "identified", "monitoring", "resolved"]
Identifier = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]+$", min_length=1, max_length=64)
]
Title = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class StatuspageMaintenance(Model):
    """What customers read while a run is under way."""

    title: Title = "Scheduled maintenance"
    """Name of the maintenance."""
    text: LongText = "We are updating the service. It stays available."
    """What it says when it begins."""
    completed: LongText = "The maintenance is completed."
    """What it says when the run has ended."""
    lasts: Duration = "2h"
    """How long it is announced for."""
    subscribers: bool = False
    """Whether subscribers get a message."""


class StatuspageIncident(Model):
    """What customers read while they are not served."""

    title: Title = "Service disruption"
    """Name of the incident."""
    impact: Literal["minor", "major", "critical"] = "major"
    """Its impact; the components get the status that goes with it."""
    text: LongText = "The service is disrupted. We are investigating."
    """What it says when it is opened."""
    identified: LongText = "The cause is identified. We are going back to the previous version."
    """What it says when a rollback begins."""
    monitoring: LongText = "We have gone back to the previous version and are watching it."
    """What it says when the rollback is being verified."""
    resolved: LongText = "The service is available again."
    """What it says when users are served again."""
    subscribers: bool = True
    """Whether subscribers get a message."""


class StatuspageNotice(Model):
    """A maintenance for the run, and an incident for a downtime, on a page of Atlassian
    Statuspage."""

    connection: Name | None = None
    """Name of a statuspage Connection; without it the namespace's only one."""
    page: Identifier
    """ID of the page."""
    components: Annotated[list[Identifier], Field(max_length=50)] = []
    """IDs of the components that the Release serves."""
    maintenance: StatuspageMaintenance | None = None
    """A maintenance from Started to the run's end; none without it."""
    incident: StatuspageIncident = Field(default_factory=StatuspageIncident)
    """The incident that Downtime opens, and Restored resolves."""


_COMPONENT_STATUS: Mapping[str, str] = {
    "minor": "degraded_performance",
    "major": "partial_outage",
    "critical": "major_outage",
}


_INCIDENT_STATUS: Mapping[str, Progress] = {
    "": "investigating",
    "RollingBack": "identified",
    "Verifying": "monitoring",
}
"""What customers read of a rollback."""


class StatuspageNotifier:
    """Incidents by the REST API."""

    config: ClassVar[type[BaseModel]] = StatuspageNotice
    connection: ClassVar[str] = "statuspage"

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        """Open, bring up to date, close; other events ask for nothing.

        Raises Retryable, Permanent.
        """
        known = dict(part.split("=", 1) for part in (handle or "").split(",") if part)
        page = _Page(config.page, link, message, known)

        if message.event == "Started" and config.maintenance is not None:
            await page.open("maintenance", _maintenance_body(config, message))
        if message.event == "Downtime":
            status = _INCIDENT_STATUS[message.returning]
            is_new = await page.open("incident", _incident_body(config, status))
            if is_new and message.returning:
                page.known["said"] = status
        if message.event in ("RollingBack", "Verifying") and "incident" in page.known:
            # Told late, an event says what the rollback has come to since.
            status = _INCIDENT_STATUS[message.returning or message.event]
            if page.known.get("said") != status:
                page.known["said"] = status
                await page.update("incident", _update_body(config, status))
        if message.event == "Restored":
            await page.close("incident", _update_body(config, "resolved"))
        if message.over and config.maintenance is not None:
            await page.close("maintenance", _completed_body(config))

        return ",".join(f"{kind}={identity}" for kind, identity in page.known.items()) or None

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        """Read the page; nothing is posted, since customers would read it.

        Raises Retryable, Permanent.
        """
        path = f"/pages/{rest.path_segment(config.page)}/incidents/unresolved"
        reply = await call(link, "GET", path, query={"page": 1, "per_page": 1})
        if not isinstance(replies.json_of(reply), list):
            raise Permanent(f"{reply.where}: the answer is not a list")
        return (
            "nothing was posted, since customers would read it; the key reads the page "
            f"{config.page}, whether it may write there was not tried"
        )


class _Page:
    """The incidents of one Release on one page."""

    def __init__(
        self, page: str, link: OpenConnection, message: Message, known: dict[str, str]
    ) -> None:
        self.known = known
        self._link = link
        self._message = message
        self._path = f"/pages/{rest.path_segment(page)}/incidents"

    async def open(self, kind: Kind, body: dict[str, Any]) -> bool:
        """Create it, unless it is there; return whether it is new."""
        identity = self.known.get(kind) or await self._find_open(kind)
        is_new = identity is None
        if identity is None:
            body["metadata"] = {"gatewright": self._mark_for(kind)}
            reply = await call(self._link, "POST", self._path, body={"incident": body})
            created = replies.json_of(reply)
            if not isinstance(created, dict) or "id" not in created:
                raise Permanent(f"{reply.where}: the answer does not say what was created")
            identity = rest.require_identifier(created["id"], reply.where)
        self.known[kind] = identity
        return is_new

    async def update(self, kind: Kind, body: dict[str, Any]) -> None:
        """Change it; one that somebody has deleted is let be."""
        path = f"{self._path}/{rest.path_segment(self.known[kind])}"
        reply = await call(
            self._link, "PATCH", path, body={"incident": body}, accepted=frozenset({404})
        )
        if reply.status == 404:
            self._forget(kind)
        elif not isinstance(replies.json_of(reply), dict):
            raise Permanent(f"{reply.where}: the answer is not an incident")

    async def close(self, kind: Kind, body: dict[str, Any]) -> None:
        """Change it for the last time, if it is there."""
        identity = self.known.get(kind) or await self._find_open(kind)
        if identity is not None:
            self.known[kind] = identity
            await self.update(kind, body)
            self._forget(kind)

    def _forget(self, kind: Kind) -> None:
        self.known.pop(kind, None)
        if kind == "incident":
            self.known.pop("said", None)

    async def _find_open(self, kind: Kind) -> str | None:
        """Return the ID of an open one of this Release, by its metadata; None without one."""
        where = "active_maintenance" if kind == "maintenance" else "unresolved"
        mark = self._mark_for(kind)
        for number in range(1, MAX_PAGES + 1):
            query = {"page": number, "per_page": ITEMS_PER_PAGE}
            reply = await call(self._link, "GET", f"{self._path}/{where}", query=query)
            incidents = replies.json_of(reply)
            if not isinstance(incidents, list):
                raise Permanent(f"{reply.where}: the answer is not a list")

            for incident in incidents:
                metadata = incident.get("metadata") if isinstance(incident, dict) else None
                if isinstance(metadata, dict) and metadata.get("gatewright") == mark:
                    return rest.require_identifier(incident.get("id"), reply.where)
            if len(incidents) < ITEMS_PER_PAGE:
                return None

        # Ours may be on a page that was not read; a second one must not be opened.
        problem = f"more than {MAX_PAGES * ITEMS_PER_PAGE} incidents are open on the page"
        raise Permanent(f"{problem}; ours cannot be found among them")

    def _mark_for(self, kind: Kind) -> dict[str, str]:
        """Return what an incident's metadata says of us.

        A maintenance is the run's. An incident is the Release's, whichever run ends it.
        """
        *_, uid, run = self._message.thread.split("/")
        return {"release": uid, "kind": kind} | ({"run": run} if kind == "maintenance" else {})


def _maintenance_body(config: StatuspageNotice, message: Message) -> dict[str, Any]:
    maintenance = config.maintenance
    assert maintenance is not None
    begun = datetime.fromisoformat(message.at.replace("Z", "+00:00")).astimezone(UTC)
    until = begun + timedelta(seconds=seconds(maintenance.lasts))

    return {
        "name": maintenance.title,
        "status": "in_progress",
        "body": maintenance.text,
        "scheduled_for": begun.isoformat(timespec="seconds"),
        "scheduled_until": until.isoformat(timespec="seconds"),
        "scheduled_auto_in_progress": False,
        "scheduled_auto_completed": False,
        "deliver_notifications": maintenance.subscribers,
        **_component_fields(config, "under_maintenance"),
    }


def _completed_body(config: StatuspageNotice) -> dict[str, Any]:
    maintenance = config.maintenance
    assert maintenance is not None
    return {
        "status": "completed",
        "body": maintenance.completed,
        "deliver_notifications": maintenance.subscribers,
        **_component_fields(config, "operational"),
    }


def _incident_body(config: StatuspageNotice, status: Progress) -> dict[str, Any]:
    incident = config.incident
    return {
        "name": incident.title,
        "status": status,
        "impact_override": incident.impact,
        "body": _text_for(incident, status),
        "deliver_notifications": incident.subscribers,
        **_component_fields(config, _COMPONENT_STATUS[incident.impact]),
    }


def _update_body(config: StatuspageNotice, status: Progress) -> dict[str, Any]:
    incident = config.incident
    return {
        "status": status,
        "body": _text_for(incident, status),
        "deliver_notifications": incident.subscribers,
        **(_component_fields(config, "operational") if status == "resolved" else {}),
    }


def _text_for(incident: StatuspageIncident, status: Progress) -> str:
    return incident.text if status == "investigating" else str(getattr(incident, status))


def _component_fields(config: StatuspageNotice, status: str) -> dict[str, Any]:
    if not config.components:
        return {}
    return {
        "component_ids": list(config.components),
        "components": dict.fromkeys(config.components, status),
    }

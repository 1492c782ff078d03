"""Messages of a run, and what becomes of one where everything goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gatewright.ports import Message, OpenConnection, Permanent, Retryable
from gatewright.providers.registry import NOTIFIERS
from tests.contract import world

UID = "0f8e6d7c-1111-4222-8333-944445555666"
LINES = (
    "✓ 1 database-migration  Passed in 12m4s",
    "▸ 2 security-fixes  Baking",
    "  3 bug-fixes  Pending",
)
STARTED = Message(
    key=f"{UID}/3.Started",
    thread=f"shop/orders/{UID}/3",
    event="Started",
    severity="info",
    title="orders 2.4.0 has started",
    text="5 stages\nWaiting for job step backup of stage database-migration",
    lines=LINES,
    at="2026-01-13T10:00:00.000Z",
)


def message(event: str, severity: Any = "info", **changes: Any) -> Message:
    """Another message of the same run."""
    return replace(
        STARTED,
        key=f"{UID}/3.{event}",
        event=event,
        severity=severity,
        title=f"orders 2.4.0 {event}",
        **changes,
    )


async def told(
    kind: str,
    config: dict[str, Any],
    link: OpenConnection,
    wanted: Message,
    handle: str | None = None,
) -> str | None:
    """Send one message."""
    notifier = NOTIFIERS[kind]
    return await notifier.send(notifier.config.model_validate(config), link, wanted, handle)


TEST = Message(
    key=f"{UID}/0.Test.abc",
    thread=f"shop/orders/{UID}/0",
    event="Test",
    severity="info",
    title="TEST, nothing has happened: shop/orders",
    text="A test that was asked for by ana. Nothing has happened; do nothing.",
    at="2026-01-13T10:00:00.000Z",
)


async def tried(kind: str, config: dict[str, Any], link: OpenConnection) -> str:
    """Send a test; what is said of it, in which no secret is."""
    notifier = NOTIFIERS[kind]
    said = await notifier.test(notifier.config.model_validate(config), link, TEST)
    world.assert_silent(said)
    return said


async def outcome(
    kind: str,
    config: dict[str, Any],
    link: OpenConnection,
    wanted: Message = STARTED,
    handle: str | None = None,
) -> tuple[str, str, float]:
    """What sending comes to, in what words, and when to come back; no secret is in any of it."""
    async with world.logs() as lines:
        try:
            found = await told(kind, config, link, wanted, handle)
        except (Retryable, Permanent) as error:
            world.assert_silent(error, *lines)
            kind = "Retryable" if isinstance(error, Retryable) else "Permanent"
            return kind, str(error), getattr(error, "after", 0.0)
    world.assert_silent(found, *lines, link)
    return "Delivered", "", 0.0

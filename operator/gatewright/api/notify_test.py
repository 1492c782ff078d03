"""What a status tells of a test of its notifications."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gatewright.api.run import Message, Model, Short, Time


class NotifyTestRow(Model):
    """What came of a test message."""

    to: Short
    """Who is told: the provider, and a hash of its configuration."""
    entries: Annotated[list[int], Field(max_length=10)]
    """Places in `spec.notify` of the entries that it is for."""
    state: Literal["Pending", "Sent", "Failed"] = "Pending"
    """How far it is."""
    message: Message | None = None
    """What was sent or done, or why it failed."""


class NotifyTest(Model):
    """A test of who is told, which a person has asked for."""

    intervention: Short
    """Name of the Intervention that asked for it."""
    by: Short
    """Who has asked."""
    at: Time
    """When it was asked."""
    rows: Annotated[list[NotifyTestRow], Field(max_length=10)]
    """One for each message."""

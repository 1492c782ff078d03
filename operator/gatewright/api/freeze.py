"""Freeze: while one is in force no run starts; the way back is always open."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from gatewright.api.base import Model, ObjectName
from gatewright.api.conditions import Is
from gatewright.api.intervention import Person
from gatewright.api.rules import Needs, OnlyWith, Rule

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]


def _checked_time(text: str) -> str:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f'"{text}" is no time (try 2026-01-07T08:00:00Z)') from None
    if at.tzinfo is None:
        raise ValueError(f'"{text}" has no time zone (try 2026-01-07T08:00:00Z)')
    return text


PointInTime = Annotated[
    str,
    StringConstraints(max_length=64),
    AfterValidator(_checked_time),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]


class LabelRequirement(Model):
    """What one label must be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        OnlyWith("values", "operator", ("In", "NotIn")),
        Needs(Is("operator", "In"), "values", "operator In needs values"),
        Needs(Is("operator", "NotIn"), "values", "operator NotIn needs values"),
    )

    key: LabelKey
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How it is compared; NotIn and DoesNotExist select what does not have it, too."""
    values: Annotated[list[LabelValue], Field(max_length=32)] = []
    """With In and NotIn: what it is compared with."""


class LabelSelector(Model):
    """Which objects are meant, by their labels; all of it must hold."""

    matchLabels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = {}
    """Labels, and the values that they must have."""
    matchExpressions: Annotated[list[LabelRequirement], Field(max_length=16)] = []
    """What else labels must be."""


class FreezeSpec(Model):
    """Since when it is there and until its time is over, no run starts."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """Why, for those who wait."""
    until: PointInTime
    """When it ends, RFC 3339; to end it earlier, delete it."""
    by: Person | None = None
    """Who freezes: the caller's own user name, which admission compares."""
    selector: LabelSelector = Field(default_factory=LabelSelector)
    """Which Releases of the namespace, by their labels; empty: all of them."""
    exceptions: Annotated[list[ObjectName], Field(max_length=32)] = []
    """Names of Releases that start all the same."""

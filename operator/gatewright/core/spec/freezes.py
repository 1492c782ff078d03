"""Which Freezes keep a Release from starting, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api.freeze import FreezeSpec
from gatewright.core.model.freeze import Freeze
from gatewright.core.spec import selectors
from gatewright.core.text.lines import one_line

MAX_PER_NAMESPACE = 32
"""Freezes of one namespace that are kept: of those whose time is not over."""
MOST_REASON_CHARS = 300


def read_freeze(obj: Mapping[str, Any]) -> Freeze:
    """Return what an object says; where nobody can read it, a Freeze without an end."""
    name = obj["metadata"]["name"]
    try:
        spec = FreezeSpec.model_validate(obj.get("spec"))
        until = datetime.fromisoformat(spec.until.replace("Z", "+00:00")).astimezone(UTC)
    except (ValidationError, ValueError, RecursionError):
        return Freeze(name, "its spec cannot be read; mend or delete it", until=None)

    return Freeze(
        name=name,
        reason=spec.reason,
        until=until,
        by=spec.by,
        selector=spec.selector,
        exceptions=frozenset(spec.exceptions),
    )


def too_many() -> Freeze:
    """Return what stands for those that are more than are kept: nothing starts."""
    reason = f"the namespace has more than {MAX_PER_NAMESPACE}; delete those that nobody needs"
    return Freeze("and others", reason, until=None)


def is_over(freeze: Freeze, now: datetime) -> bool:
    """Return whether its time has come; one without an end is not over."""
    return freeze.until is not None and freeze.until <= now


def in_force(
    freezes: Iterable[Freeze], name: str, labels: Mapping[str, str] | None, now: datetime
) -> list[Freeze]:
    """Return those that keep a Release from starting.

    `labels` of the Release; None where nobody knows them.
    """
    return [
        freeze
        for freeze in freezes
        if not is_over(freeze, now) and name not in freeze.exceptions and _is_meant(freeze, labels)
    ]


def last_to_end(freezes: Sequence[Freeze]) -> Freeze:
    """Return the one that ends last; one without an end ends after all others."""
    return max(freezes, key=_end_of)


def describe_freeze(freeze: Freeze, more: int = 0) -> str:
    """Return who froze, until when and why; `more`: how many others are in force as well."""
    until = "until somebody mends it"
    if freeze.until is not None:
        until = f"until {freeze.until:%Y-%m-%dT%H:%M:%SZ}"
    by = f" by {freeze.by}" if freeze.by else ""
    others = f" (and {more} more)" if more else ""
    reason = one_line(freeze.reason)[:MOST_REASON_CHARS]
    return f"Freeze {freeze.name}{by}, {until}: {reason}{others}"


def _is_meant(freeze: Freeze, labels: Mapping[str, str] | None) -> bool:
    """Return whether a Freeze means a Release; where nobody knows its labels, it may."""
    if selectors.is_empty(freeze.selector) or labels is None:
        return True
    return selectors.selects(freeze.selector, labels)


def _end_of(freeze: Freeze) -> float:
    return freeze.until.timestamp() if freeze.until is not None else float("inf")

"""The Freezes that are watched, by namespace: what is kept of them, and what nobody can read.

Unknown is no permission: a Freeze that cannot be read is in force, and so is one that is more than
are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api.freeze import FreezeSpec
from gatewright.core.model.freeze import Freeze
from gatewright.core.run.clocks import parse_time
from gatewright.runtime import clock
from gatewright.runtime.telling.judgements import Place

MAX_PER_NAMESPACE = 32
"""Freezes of one namespace that are kept: of those whose time is not over."""


class Freezes:
    """What is known of the Freezes of all namespaces."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, Freeze]] = {}
        self._left_out: dict[str, set[str]] = {}
        """Names of those that are more than are kept, by namespace."""

    def of(self, namespace: str) -> tuple[Freeze, ...]:
        """Return the Freezes of a namespace; where some were left out, one that says so."""
        kept = tuple(self._all.get(namespace, {}).values())
        return (*kept, _too_many()) if self._left_out.get(namespace) else kept

    @property
    def left_out(self) -> bool:
        """Whether there are Freezes that are not kept, and may be when the time of others is
        over."""
        return bool(self._left_out)

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in a watch event of a Freeze, or what a list has; return whether it is news."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self.of(namespace)
        self._forget(namespace, name)

        freeze = _freeze_of(body)
        if kind != "DELETED" and not _is_over(freeze, clock.now()):
            self._keep(namespace, freeze)
        return self.of(namespace) != before

    def forget_vanished(self, there: Collection[Place]) -> set[str]:
        """Forget those that were not in a list of all; return the namespaces that had some."""
        places = [(namespace, name) for namespace, here in self._all.items() for name in here]
        for namespace, left_out in self._left_out.items():
            places += [(namespace, name) for name in left_out]

        gone = [place for place in places if place not in there]
        for place in gone:
            self._forget(*place)
        return {namespace for namespace, _ in gone}

    def _keep(self, namespace: str, freeze: Freeze) -> None:
        here = self._all.setdefault(namespace, {})
        if len(here) >= MAX_PER_NAMESPACE:
            now = clock.now()
            over = [name for name, other in here.items() if _is_over(other, now)]
            for name in over:
                del here[name]
        if len(here) < MAX_PER_NAMESPACE:
            here[freeze.name] = freeze
        else:
            self._left_out.setdefault(namespace, set()).add(freeze.name)

    def _forget(self, namespace: str, name: str) -> None:
        here, left_out = self._all.get(namespace, {}), self._left_out.get(namespace, set())
        here.pop(name, None)
        left_out.discard(name)
        if not here:
            self._all.pop(namespace, None)
        if not left_out:
            self._left_out.pop(namespace, None)


def _is_over(freeze: Freeze, now: datetime) -> bool:
    return freeze.until is not None and freeze.until <= now


def _freeze_of(body: Mapping[str, Any]) -> Freeze:
    name = body["metadata"]["name"]
    try:
        spec = FreezeSpec.model_validate(body.get("spec"))
        until = parse_time(spec.until).astimezone(UTC)
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


def _too_many() -> Freeze:
    reason = f"the namespace has more than {MAX_PER_NAMESPACE}; delete those that nobody needs"
    return Freeze("and others", reason, until=None)

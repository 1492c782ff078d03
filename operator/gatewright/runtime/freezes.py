"""The Freezes that are watched, by namespace: what is kept of them, and what nobody can read.

Unknown is no permission: a Freeze that cannot be read is in force, and so is one that is more than
are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gatewright.core.model.freeze import Freeze
from gatewright.core.spec.freezes import MAX_PER_NAMESPACE, is_over, read_freeze, too_many
from gatewright.runtime import clock
from gatewright.runtime.telling.judgements import Place


class Freezes:
    """What is known of the Freezes of all namespaces."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, Freeze]] = {}
        self._left_out: dict[str, set[str]] = {}
        """Names of those that are more than are kept, by namespace."""

    def of(self, namespace: str) -> tuple[Freeze, ...]:
        """Return the Freezes of a namespace; where some were left out, one that says so."""
        kept = tuple(self._all.get(namespace, {}).values())
        return (*kept, too_many()) if self._left_out.get(namespace) else kept

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

        freeze = read_freeze(body)
        if kind != "DELETED" and not is_over(freeze, clock.now()):
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
            over = [name for name, other in here.items() if is_over(other, now)]
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

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
from gatewright.runtime.kept_objects import KeptObjects
from gatewright.runtime.telling.judgements import Place


class Freezes:
    """What is known of the Freezes of all namespaces."""

    def __init__(self) -> None:
        self._kept: KeptObjects[Freeze] = KeptObjects(
            MAX_PER_NAMESPACE, lambda freeze: is_over(freeze, clock.now())
        )

    def of(self, namespace: str) -> tuple[Freeze, ...]:
        """Return the Freezes of a namespace; where some were left out, one that says so."""
        kept = tuple(self._kept.of(namespace).values())
        return (*kept, too_many()) if self._kept.left_out_of(namespace) else kept

    @property
    def left_out(self) -> bool:
        """Whether there are Freezes that are not kept, and may be when the time of others is
        over."""
        return self._kept.has_left_out

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in a watch event of a Freeze, or what a list has; return whether it is news."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self.of(namespace)
        self._kept.forget(namespace, name)

        freeze = read_freeze(body)
        if kind != "DELETED" and not is_over(freeze, clock.now()):
            self._kept.keep(namespace, freeze.name, freeze)
        return self.of(namespace) != before

    def forget_vanished(self, there: Collection[Place]) -> set[str]:
        """Forget those that were not in a list of all; return the namespaces that had some."""
        return {namespace for namespace, _ in self._kept.forget_vanished(there)}

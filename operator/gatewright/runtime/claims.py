"""Which run has which target: no two runs work on one at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatewright.core.body import pin
from gatewright.core.expand import Unknown
from gatewright.core.model import View
from gatewright.core.operations import subjects
from gatewright.ports import Permanent
from gatewright.runtime.chosen import is_outside, target_of
from gatewright.runtime.entries import Entry, Key
from gatewright.runtime.outside import claim


class Claims:
    """The targets of all Releases of this process."""

    def __init__(self, entries: Mapping[Key, Entry], wake: Callable[[Key], None]) -> None:
        self._entries = entries
        self._wake = wake

    def take(self, entry: Entry, view: View) -> None:
        """The targets of a run under way are its own; at rest a Release has none."""
        if view.run is None:
            had, entry.claims, entry.resumed = entry.claims, frozenset(), False
            if had:
                self.unblock(entry.key[0])
        elif entry.body is not None and not entry.claims:
            entry.claims = targets_of(view.namespace, subjects(entry.body))
            self.unblock(entry.key[0])

    def rival(self, entry: Entry, view: View) -> str | None:
        """Another Release whose run has one of our targets; as long as it is not known which it has, it may."""
        entry.blocked = False
        if view.run is not None or view.spec is None or view.problems:
            return None
        try:
            mine = targets_of(view.namespace, subjects(pin(view.spec, view.status.runs + 1, None)))
        except Unknown:
            return None
        for key, other in self._entries.items():
            if key[0] == entry.key[0] and other is not entry and (other.claims is None or other.claims & mine):
                entry.blocked = True
                return key[1]
        return None

    def unblock(self, namespace: str) -> None:
        """Who was kept waiting looks again."""
        for key, entry in self._entries.items():
            if key[0] == namespace and entry.blocked:
                self._wake(key)


def targets_of(namespace: str, found: Mapping[str, Any]) -> frozenset[str]:
    """API paths, and what stands for things elsewhere, that subjects with their configuration lead to."""
    claimed: set[str] = set()
    for subject, config in found.items():
        try:
            if is_outside(subject, config):
                claimed |= claim(subject, config)
            elif subject.startswith("target/"):
                target, checked = target_of(config)
                claimed |= set(target.paths(namespace, checked))
            else:
                claimed.add(subject)
        except Permanent:
            continue
    return frozenset(claimed)

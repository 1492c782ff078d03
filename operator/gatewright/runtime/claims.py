"""Which run has which target: no two runs work on one at the same time.

What is claimed is what a Connection leads to (`Connections.system`), not how its name is written: a
Release that names its Connection and one that implies it exclude each other, and so do two
Connections to one address.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gatewright.core.model import PinnedSpec, View
from gatewright.core.run.operations import subjects_of
from gatewright.core.spec.expand import UnknownReference, expand_references, find_references
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.ports import Permanent
from gatewright.providers.registry import ACTIONS
from gatewright.runtime.connections import Connections, Pins, no_pins
from gatewright.runtime.execution.chosen import is_external, target_of
from gatewright.runtime.execution.externals import SystemOf, claimed_lines
from gatewright.runtime.tracked import Key, TrackedRelease, TrackedReleases

WOKEN_AT_ONCE = 8
"""Releases that look again when one lets go of its targets."""


class Claims:
    """The targets of all Releases of this process."""

    def __init__(
        self,
        entries: TrackedReleases,
        wake: Callable[[Key], None],
        links: Connections | None = None,
        pins: Callable[[Key], Pins] = no_pins,
    ) -> None:
        """`links` tell where Connections lead, `pins` which of them the run of a Release has
        pinned."""
        self._entries = entries
        self._wake = wake
        self._links = links
        self._pins = pins

    def of(self, key: Key, body: PinnedSpec) -> frozenset[str]:
        """What a run of a body has to itself. Raises UnknownReference."""
        found = {**subjects_of(body), **_action_subjects(body)}
        system = partial(self._external_system, key) if self._links is not None else None
        return targets_of(key[0], found, system)

    def take(self, entry: TrackedRelease, view: View) -> None:
        """The targets of a run under way are its own; at rest a Release has none."""
        if view.run is None:
            had, entry.claims, entry.resumed = entry.claims, frozenset(), False
            if had:
                self.wake_blocked(entry.key)
        elif entry.body is not None and not entry.claims:
            entry.claims = self.of(entry.key, entry.body)
            self.wake_blocked(entry.key)

    def extend_claims(
        self, entry: TrackedRelease, view: View, body: PinnedSpec | None = None
    ) -> str | None:
        """What an edited body adds belongs to its run too; what it had stays its own until the run
        ends.

        `body` is the edited one, that of the entry without it. Where another run has one of the new
        targets, or may have, nothing is taken and the other Release is named. Raises
        UnknownReference.
        """
        body = body or entry.body
        if view.run is None or body is None or entry.claims is None:
            return None
        wanted = self.of(entry.key, body)
        added = wanted - entry.claims
        rival = self._find_holder(entry, added) if added else None
        entry.blocked = rival or ""
        if rival is None:
            entry.claims |= wanted
        return rival

    def rival(self, entry: TrackedRelease, view: View) -> str | None:
        """Another Release whose run has one of our targets; as long as it is not known which it
        has, it may."""
        entry.blocked = ""
        if view.run is not None or view.spec is None or view.problems:
            return None
        try:
            mine = self.of(entry.key, pin_spec(view.spec, view.status.runs + 1, None))
        except UnknownReference:
            return None
        found = self._find_holder(entry, mine)
        entry.blocked = found or ""
        return found

    def wake_blocked(self, key: Key) -> None:
        """Whom this Release has kept waiting looks again: the first few, since only one of them can
        have what is free; the others look by themselves, as everybody does who waits."""
        waiting = (entry.key for entry in self._entries.of(key[0]) if entry.blocked == key[1])
        for waits in itertools.islice(waiting, WOKEN_AT_ONCE):
            self._wake(waits)

    def _find_holder(self, entry: TrackedRelease, wanted: frozenset[str]) -> str | None:
        for other in self._entries.of(entry.key[0]):
            if other is not entry and (other.claims is None or other.claims & wanted):
                return other.key[1]
        return None

    def _external_system(self, key: Key, kind: str, name: str | None) -> str | None:
        return (
            self._links.system(key[0], kind, name, self._pins(key))
            if self._links is not None
            else None
        )


def targets_of(
    namespace: str, found: Mapping[str, Any], system: SystemOf | None = None
) -> frozenset[str]:
    """API paths, and what stands for things elsewhere, that subjects with their configuration lead
    to."""
    claimed: set[str] = set()
    for subject, config in found.items():
        try:
            if is_external(subject, config):
                claimed |= claimed_lines(subject, config, system)
            elif subject.startswith("target/"):
                target, checked = target_of(config)
                claimed |= set(target.paths(namespace, checked))
            else:
                claimed.add(subject)
        except Permanent:
            continue
    return frozenset(claimed)


def _action_subjects(body: PinnedSpec) -> dict[str, Any]:
    """What steps do elsewhere, by a subject of their own: two runs must not restore one project at
    once.

    What a step publishes is not known yet, and stays as it is written.
    """
    found: dict[str, Any] = {}
    for stage in body.spec.stages:
        names = {**body.names, "stage": stage.name}
        for step in (*stage.steps, *stage.rollback.steps):
            if set(step.model_extra or {}) & set(ACTIONS):
                raw = dict([step.provider])
                unknown = {
                    name: f"$({name})" for _, name in find_references(raw) if name not in names
                }
                found[f"action/{stage.name}.{step.name}"] = expand_references(
                    raw, {**names, **unknown}
                )
    return found

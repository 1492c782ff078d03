"""Which run has which target: no two runs work on one at the same time.

What is claimed is what a Connection leads to (`Connections.system`), not how its name is written: a
Release that names its Connection and one that implies it exclude each other, and so do two
Connections to one address.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.operations import subjects_of
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.spec.expand import UnknownReference, expand_references, find_references
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.steps import changed_by
from gatewright.ports import Permanent
from gatewright.providers.registry import ACTIONS
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.external_claims import SystemOf, claimed_lines
from gatewright.runtime.execution.handlers import handler_of
from gatewright.runtime.pins import Pins, no_pins
from gatewright.runtime.tracked import Key, TrackedRelease, TrackedReleases

WOKEN_AT_ONCE = 8
"""Releases that look again when one lets go of its targets."""


class Claims:
    """The targets of all Releases of this process."""

    def __init__(
        self,
        releases: TrackedReleases,
        wake: Callable[[Key], None],
        connections: Connections | None = None,
        pins: Callable[[Key], Pins] = no_pins,
    ) -> None:
        """`connections` tell where Connections lead, `pins` which of them the run of a Release has
        pinned."""
        self._releases = releases
        self._wake = wake
        self._connections = connections
        self._pins = pins

    def of(self, key: Key, body: PinnedSpec) -> frozenset[str]:
        """Return what a run of a body has to itself. Raises UnknownReference."""
        subjects = {**subjects_of(body), **_action_subjects(body)}
        system = partial(self._external_system, key) if self._connections is not None else None
        return targets_of(key[0], subjects, system)

    def of_procedure(self, key: Key, body: PinnedSpec) -> frozenset[str]:
        """Return what a procedure changes. Raises UnknownReference."""
        stage = body.spec.stages[0]
        changed = {subject for step in stage.steps for subject in changed_by(stage, step)}
        subjects = {name: found for name, found in subjects_of(body).items() if name in changed}
        system = partial(self._external_system, key) if self._connections is not None else None
        return targets_of(key[0], {**subjects, **_action_subjects(body)}, system)

    def take(self, entry: TrackedRelease, view: View) -> None:
        """Let a run under way have its targets to itself; at rest a Release has none."""
        self._take_procedure(entry, view)
        if view.run is None:
            had, entry.claim.targets = entry.claim.targets, frozenset()
            if had:
                self.wake_blocked(entry.key)
        elif entry.body is not None and not entry.claim.targets:
            self.begin(entry, entry.body)
            self.wake_blocked(entry.key)

    def _take_procedure(self, entry: TrackedRelease, view: View) -> None:
        """Let a procedure under way have what it changes to itself."""
        row = procedure_under_way(view.status)
        body = entry.kept.get(row.revision or "") if row is not None else None
        had, entry.claim.procedure = entry.claim.procedure, frozenset()
        if body is not None:
            with contextlib.suppress(UnknownReference):
                entry.claim.procedure = self.of_procedure(entry.key, body)
        elif had:
            self.wake_blocked(entry.key)

    def begin(self, entry: TrackedRelease, body: PinnedSpec) -> None:
        """Claim what a run has to itself. Raises UnknownReference."""
        entry.claim.targets = self.of(entry.key, body)

    def extend_claims(
        self, entry: TrackedRelease, view: View, body: PinnedSpec | None = None
    ) -> str | None:
        """Claim what an edited body adds; what the run had stays its own until it ends.

        `body` is the edited one, that of the entry without it. Where another run has one of the new
        targets, or may have, nothing is taken and the other Release is returned. Raises
        UnknownReference.
        """
        body = body or entry.body
        if view.run is None or body is None or entry.claim.targets is None:
            return None

        targets = self.of(entry.key, body)
        added = targets - entry.claim.targets
        rival = self._find_holder(entry, added) if added else None
        entry.claim.blocked = rival or ""

        if rival is None:
            entry.claim.targets |= targets

        return rival

    def rival(self, entry: TrackedRelease, view: View) -> str | None:
        """Return another Release whose run has one of our targets.

        As long as it is not known which it has, it may.
        """
        entry.claim.blocked = ""

        # A run under way has its targets already, and an invalid spec starts none.
        if view.run is not None or view.spec is None or view.problems:
            return None

        try:
            mine = self.of(entry.key, pin_spec(view.spec, view.status.runs + 1, None))
        except UnknownReference:
            return None

        holder = self._find_holder(entry, mine)
        entry.claim.blocked = holder or ""
        # A run does not begin under a procedure that is at work on the same.
        if holder is None and self.is_procedure_at_work(entry, view):
            return f"{entry.key[1]} (by a procedure that is under way)"

        return holder

    def is_procedure_at_work(self, entry: TrackedRelease, view: View) -> bool:
        """Return whether the procedure under way has something that a run of the spec as it is now
        would have to itself."""
        if view.spec is None or view.problems or not entry.claim.procedure:
            return False
        try:
            body = pin_spec(view.spec, view.status.runs + 1, None)
            return bool(entry.claim.procedure & self.of(entry.key, body))
        except UnknownReference:
            return False

    def rival_of_procedure(self, entry: TrackedRelease, body: PinnedSpec) -> str | None:
        """Return whose run is at work on what a procedure changes; None where nobody's is.

        As long as it is not known what a run has, it may have that.
        """
        try:
            wanted = self.of_procedure(entry.key, body)
        except UnknownReference:
            return None

        own = entry.claim.targets
        if wanted and (own is None or own & wanted):
            return "its own run"
        holder = self._find_holder(entry, wanted) if wanted else None
        return f"the run of release {holder}" if holder is not None else None

    def begin_procedure(self, entry: TrackedRelease, body: PinnedSpec) -> str | None:
        """Claim what a procedure changes before it acts; where a run has it, return whose."""
        rival = self.rival_of_procedure(entry, body)
        if rival is None:
            with contextlib.suppress(UnknownReference):
                entry.claim.procedure = self.of_procedure(entry.key, body)
        return rival

    def wake_blocked(self, key: Key) -> None:
        """Wake the first few Releases that this one has kept waiting.

        Only one of them can have what is free; the others look by themselves, as everybody does who
        waits.
        """
        waiting = (
            entry.key for entry in self._releases.of(key[0]) if entry.claim.blocked == key[1]
        )
        for blocked in itertools.islice(waiting, WOKEN_AT_ONCE):
            self._wake(blocked)

    def _find_holder(self, entry: TrackedRelease, targets: frozenset[str]) -> str | None:
        for other in self._releases.of(entry.key[0]):
            # As long as nobody knows what a run has (after a restart), it may have any of them.
            if other is entry:
                continue
            if other.claim.targets is None or other.claim.targets & targets:
                return other.key[1]
            if other.claim.procedure & targets:
                return other.key[1]
        return None

    def _external_system(self, key: Key, kind: str, name: str | None) -> str | None:
        # Then lines are compared as they are written.
        if self._connections is None:
            return None
        return self._connections.system(key[0], kind, name, self._pins(key))


def targets_of(
    namespace: str, subjects: Mapping[str, Any], system: SystemOf | None = None
) -> frozenset[str]:
    """Return what subjects with their configuration lead to.

    These are API paths, and what stands for things elsewhere.
    """
    claimed: set[str] = set()
    for subject, config in subjects.items():
        try:
            if is_external(subject, config):
                claimed |= claimed_lines(subject, config, system)
            else:
                claimed |= handler_of(subject).owned(namespace, subject, config)
        except Permanent:
            # What leads nowhere excludes nobody.
            continue

    return frozenset(claimed)


def _action_subjects(body: PinnedSpec) -> dict[str, Any]:
    """Return what steps do elsewhere, by a subject of their own.

    Two runs must not restore one project at once. What a step publishes is not known yet, and stays
    as it is written.
    """
    subjects: dict[str, Any] = {}
    for stage in body.spec.stages:
        names = {**body.names, "stage": stage.name}
        for step in (*stage.steps, *stage.rollback.steps):
            if set(step.model_extra or {}) & set(ACTIONS):
                subject = f"action/{stage.name}.{step.name}"
                subjects[subject] = _expand_known(dict([step.provider]), names)
    return subjects


def _expand_known(raw: dict[str, Any], names: Mapping[str, str]) -> Any:
    """Return a configuration in which references to names that are known are expanded."""
    unknown = {name: f"$({name})" for _, name in find_references(raw) if name not in names}
    return expand_references(raw, {**names, **unknown})

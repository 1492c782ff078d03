"""What is done with a Release whose passes fail again and again, or whose status cannot be read.

a pass has failed `MAX_FAILED_PASSES` times   its conditions say why, people can end its run,
                                              and a deletion lets go of it
the status cannot be read                     its conditions say so; nothing is decided on it,
                                              and nothing of it is overwritten
"""

from __future__ import annotations

import logging
from typing import Any

from gatewright.api import API_VERSION, FINALIZER
from gatewright.core.model.view import View
from gatewright.core.run import rescue
from gatewright.core.run.clocks import format_time
from gatewright.ports import NotFound
from gatewright.runtime import clock
from gatewright.runtime.cluster.finalizers import foreign_finalizers
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease

MAX_FAILED_PASSES = 5
"""Passes that may fail before anybody is told: most of what fails once has passed a moment
later."""

log = logging.getLogger("gatewright.rescue")


class Rescue:
    """The last resort of `runtime.reconcile`."""

    def __init__(self, kube: Kube, events: EventSender) -> None:
        self._kube = kube
        self._events = events

    async def stuck(self, entry: TrackedRelease, view: View, why: str) -> None:
        """Say why nothing goes on, if that is not said yet, and do what people ask.

        Raises Retryable, Permanent.
        """
        decision = rescue.decide_stuck(view, why[:900], clock.now())
        entry.take_decided(decision.status)

        if entry.status.is_unwritten and not view.deleting:
            body = [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": entry.status.basis},
                {"op": "add", "path": "/status", "value": entry.working},
            ]
            path = _path_of(entry, "status")
            try:
                metadata = await self._kube.patch_for_metadata(path, body, "json")
                entry.record_write(metadata, entry.working)
            finally:
                entry.status.drop_decided()

        entry.status.drop_decided()

        for event in decision.events:
            self._events.put(view, event)

        if decision.remove_finalizer:
            await self._remove_finalizer(entry)

    async def unreadable(self, entry: TrackedRelease, view: View) -> None:
        """Say that a status cannot be read: it is neither followed nor overwritten.

        Unknown means stop.
        """
        if view.deleting:
            await self._remove_finalizer(entry)
            return

        message = (
            "its status cannot be read by this operator; nothing is done until somebody "
            "mends it or a newer operator runs"
        )
        # It is said once: every pass over this Release comes here.
        if _has_message(entry.persisted.get("conditions"), message):
            return

        log.error("%s/%s: %s", *entry.key, message, extra=about(*entry.key))
        common: dict[str, Any] = {
            "reason": "StatusUnreadable",
            "message": message,
            "lastTransitionTime": format_time(clock.now())[:19] + "Z",
            "observedGeneration": view.generation,
        }
        conditions = [
            {"type": "Ready", "status": "False", **common},
            {"type": "Stalled", "status": "True", **common},
        ]
        status: dict[str, Any] = {"conditions": conditions, "state": "Stalled", "message": message}
        body = {"metadata": {"resourceVersion": entry.status.basis}, "status": status}
        path = _path_of(entry, "status")
        metadata = await self._kube.patch_for_metadata(path, body, "merge")
        entry.record_write(metadata, {**entry.persisted, **status})
        entry.status.drop_decided()

    async def _remove_finalizer(self, entry: TrackedRelease) -> None:
        if FINALIZER not in entry.obj["metadata"].get("finalizers", []):
            return

        rest = await foreign_finalizers(self._kube, entry)
        body: dict[str, Any] = {
            "metadata": {"finalizers": rest, "resourceVersion": entry.status.basis}
        }
        try:
            entry.record_write(await self._kube.patch_for_metadata(_path_of(entry), body, "merge"))
        except NotFound:
            # It is gone: there is nothing left to let go of.
            return


def _has_message(conditions: Any, message: str) -> bool:
    """Return whether one of the conditions has a message; they may be anything."""
    if not isinstance(conditions, list):
        return False
    return any(
        isinstance(condition, dict) and condition.get("message") == message
        for condition in conditions
    )


def _path_of(entry: TrackedRelease, sub: str = "") -> str:
    return api_path(API_VERSION, "releases", *entry.key, sub)

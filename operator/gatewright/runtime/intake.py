"""What the watches tell of what people write: Releases, Runbooks, Connections, Interventions,
Freezes."""

from __future__ import annotations

from functools import partial
from typing import Any

from gatewright.core.run.closures import CLOSED
from gatewright.runtime import costs
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.tracking import Tracking


class Intake:
    """Takes events in, at the expense of their namespace."""

    def __init__(self, runtime: Runtime, tracking: Tracking) -> None:
        self._runtime = runtime
        self._tracking = tracking

    def event(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        """Take in a watch event."""
        meta = body["metadata"]
        charge = partial(self._runtime.queue.charge, (meta["namespace"], meta["name"]))
        with costs.spent(charge):
            self._take_in(api_path, kind, body)

    def connection_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Connection; check a new one at once."""
        runtime = self._runtime
        place = body["metadata"]["namespace"], body["metadata"]["name"]
        before = runtime.connections.said_of(place)
        new = runtime.connections.event(kind, body)

        # Before the take-over nobody acts: all Connections are looked at when they are listed.
        if not self._tracking.acting:
            return

        if new:
            runtime.connections.look(*place)

        # Annotations, or who wrote which field: nothing that a waiting Release could go on by.
        if runtime.connections.said_of(place) == before:
            return

        for entry in runtime.releases.of(place[0]):
            if entry.working.get("state") == "Waiting":
                runtime.queue.add(entry.key)

    def runbook_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Runbook; the Releases that name it are checked anew."""
        if self._runtime.runbooks.event(kind, body):
            self.check_anew(body["metadata"]["namespace"], body["metadata"]["name"])

    def check_anew(self, namespace: str, runbook: str) -> None:
        """Have the Releases that name a Runbook checked, and looked at."""
        for entry in self._runtime.releases.of(namespace):
            if entry.names_runbook(runbook):
                entry.forget_check()
                if self._tracking.acting:
                    self._runtime.queue.add(entry.key)

    def freeze_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Freeze; what waits for its end may start."""
        if self._runtime.freezes.event(kind, body) and self._tracking.acting:
            self.wake_closed(body["metadata"]["namespace"])

    def wake_closed(self, namespace: str) -> None:
        """Have the Releases looked at that could start, and may not yet."""
        for entry in self._runtime.releases.of(namespace):
            if entry.working.get("state") in CLOSED:
                self._runtime.queue.add(entry.key)

    def intervention_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of an Intervention: somebody asks something, or was answered."""
        key = self._runtime.interventions.event(kind, body)
        if key is not None and self._tracking.acting:
            self._tracking.wake(key)

    def _take_in(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        if "/connections/" in api_path:
            self.connection_event(kind, body)
        elif "/runbooks/" in api_path:
            self.runbook_event(kind, body)
        elif "/freezes/" in api_path:
            self.freeze_event(kind, body)
        elif "/interventions/" in api_path:
            self.intervention_event(kind, body)
        else:
            self._tracking.event(kind, body)

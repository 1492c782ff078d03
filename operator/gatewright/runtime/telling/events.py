"""Events: sent after the write they tell of, never on the way of a rollback.

They wait in a bounded queue of their own.

Namespaces take turns, and one that tells much loses its own Events alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

from gatewright.api import API_VERSION
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.decision import KubernetesEvent
from gatewright.core.model.view import View
from gatewright.core.run.clocks import format_time
from gatewright.core.text.masking import keep_bytes
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about

MAX_QUEUED_EVENTS = 10_000
"""Events that wait at most; beyond, the namespace with the most of them loses its oldest."""

AT_ONCE = 2
"""Events of one namespace that are sent at a time: fewer than there are senders."""

MOST_NOTE_BYTES = 1024
"""Bytes of a note: the API server refuses an Event with more, and counts no characters."""

log = logging.getLogger("gatewright.events")


class EventSender:
    """Delivers Events, of each namespace in their order.

    What does not fit is dropped and counted.
    """

    def __init__(self, kube: Kube, instance: str) -> None:
        self._kube = kube
        self._instance = instance
        self._waiting: dict[str, deque[dict[str, Any]]] = {}
        """By namespace; the one whose turn it is stands first."""
        self._sending: Counter[str] = Counter()
        self._news = asyncio.Event()
        """One more waits, or was sent."""

    def put(self, view: View, event: KubernetesEvent) -> None:
        """Queue an Event; never waits."""
        now = datetime.now(UTC)
        run = view.status.run.id if view.status.run is not None else 0

        identity = [view.uid, run, event.reason, event.message, format_time(now)]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{view.name[:200]}.{short_fingerprint(identity)}",
                "namespace": view.namespace,
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "gatewright.dev/operator",
            "reportingInstance": self._instance[:128],
            "action": event.reason,
            "reason": event.reason,
            "note": keep_bytes(event.message, MOST_NOTE_BYTES),
            "type": "Warning" if event.warning else "Normal",
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "Release",
                "name": view.name,
                "namespace": view.namespace,
                "uid": view.uid,
            },
        }
        self._put_event(body)

    async def run(self) -> None:
        """Deliver until cancelled.

        An Event that is refused is dropped, one that nobody answered is tried once more.
        """
        while True:
            namespace, body = await self._take_next()
            try:
                await self._send(namespace, body)
            finally:
                self._sending[namespace] -= 1
                if not self._sending[namespace]:
                    del self._sending[namespace]
                self._news.set()

    async def _send(self, namespace: str, body: dict[str, Any]) -> None:
        path = api_path("events.k8s.io/v1", "events", namespace)

        for last in (False, True):
            try:
                await self._kube.create_for_metadata(path, body)
                return
            except Retryable as error:
                if not last:
                    await asyncio.sleep(1.0)
                    continue
                log.warning("an event was not delivered: %s", error, extra=about(namespace))
            except Permanent as error:
                log.warning("an event was refused: %s", error, extra=about(namespace))
                return
            except Exception:
                # A bug, or a text that cannot be sent: the next one is another.
                metrics.pass_errors.inc()
                log.exception("an event was not sent", extra=about(namespace))
                return

    def _put_event(self, body: dict[str, Any]) -> None:
        self._waiting.setdefault(body["metadata"]["namespace"], deque()).append(body)

        if sum(map(len, self._waiting.values())) > MAX_QUEUED_EVENTS:
            # Who tells much loses its own Events alone.
            fullest = max(self._waiting, key=lambda namespace: len(self._waiting[namespace]))
            self._waiting[fullest].popleft()
            if not self._waiting[fullest]:
                del self._waiting[fullest]
            metrics.dropped_events.inc()

        self._news.set()

    async def _take_next(self) -> tuple[str, dict[str, Any]]:
        """Return the oldest Event of the namespace whose turn it is.

        That one is the last from now on.
        """
        while (namespace := self._turn()) is None:
            self._news.clear()
            await self._news.wait()

        events = self._waiting.pop(namespace)
        body = events.popleft()

        if events:
            self._waiting[namespace] = events

        self._sending[namespace] += 1
        return namespace, body

    def _turn(self) -> str | None:
        """Return the first namespace that may send one more."""
        for namespace in self._waiting:
            if self._sending[namespace] < AT_ONCE:
                return namespace
        return None

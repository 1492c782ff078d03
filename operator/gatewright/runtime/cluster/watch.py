"""Watches: of Releases, Connections and Interventions, and of the kinds that Releases work on.

    list (limit 1, for a version) -> watch from it -> cut: watch on from the last version
        -> 410: a gap -> list again

A Release tells of each of its transitions, every Deployment of the cluster of itself, and few of
those are ours; and what tenants write may be as large as an object can be. So they are watched
here, without the machinery that kopf has for handlers, which keeps the newest body of each object
for a while. One event at a time is in memory. Bookmarks come about once a minute; a stream on which
nothing comes for longer is dead, and is opened anew. What may have been missed in a gap is said to
`gap`, so that whoever relied on the watch looks for himself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.outline import Unreadable
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import decode_event, drop_unused_fields
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about

SILENCE_TIMEOUT_S = 90.0
"""Seconds without a byte, bookmarks included, after which a stream is dead."""
DEAD_AFTER_S = 115.0
"""Seconds without anything happening after which a watch hangs, and the liveness probe is to
fail."""
WATCH_TIMEOUT_S = 300
"""Seconds after which the API server ends a watch by itself."""
BREATH = 128 * 1024
"""Bytes of events that are taken in before others have their turn: what comes together may have 2
MiB."""
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("gatewright.watch")
OnEvent = Callable[[str, str, dict[str, Any]], None]
"""Gets the API path of the object, `ADDED`, `MODIFIED` or `DELETED`, and the object."""


class Expired(Exception):
    """The API server has forgotten the version that a watch was to go on from."""


class Watch:
    """One kind in one namespace, or in all of them."""

    def __init__(
        self,
        kube: Kube,
        api: str,
        plural: str,
        namespace: str,
        selector: str,
        told: OnEvent,
        gap: Callable[[str], None],
        accept: str = "application/json",
    ) -> None:
        """`accept`: `JUST_METADATA` where only that something changes is to be told."""
        self._kube, self._accept = kube, accept
        self._api, self._plural, self._selector = api, plural, selector
        self.collection = api_path(api, plural, namespace)
        self._told, self._gap = told, gap
        self._version = self._began = ""

        self.ready = asyncio.Event()
        """Set once whatever changes from then on will be told."""
        self._beat = time.monotonic()
        """When it last got on: told something, or tried to."""

    async def run(self) -> None:
        """Watch for ever: list, follow, and begin anew after whatever goes wrong."""
        failures = 0
        while True:
            try:
                if not self._version:
                    self._version = self._began = await self._newest_version()
                    self._gap(f"/{self._plural}/")
                    self.ready.set()
                async for event in self._stream_events():
                    failures = 0
                    self._take_event(event)
            except (Expired, Permanent) as error:
                log.info(
                    "the watch of %s has a gap; objects in use are read anew (%s)",
                    self.collection,
                    error,
                )
                self._version = ""
            except Retryable as error:
                log.log(
                    logging.WARNING if failures else logging.DEBUG,
                    "the watch of %s: %s",
                    self.collection,
                    error,
                )
                # It may not know the version, as after a restore of etcd.
                if failures >= len(RETRY_DELAYS_S):
                    self._version = ""
            except Exception:
                # a bug, or an answer that no API server gives: others are still to be told
                metrics.pass_errors.inc()
                log.exception("the watch of %s begins anew", self.collection)
                self._version = ""

            self._beat = time.monotonic()
            # Not all watches of all instances begin anew at the same moment.
            delay = RETRY_DELAYS_S[min(failures, len(RETRY_DELAYS_S) - 1)]
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
            failures += 1

    def dead(self) -> str | None:
        """Return what is not watched any more, if this watch hangs.

        An API server that is away is tried again and again.
        """
        return self.collection if time.monotonic() - self._beat > DEAD_AFTER_S else None

    def has_skipped(self, version: int) -> bool:
        """Return whether it has begun after a version: of what came before, it will never tell."""
        return self._began.isdecimal() and int(self._began) >= version

    def _record_progress(self) -> None:
        self._beat = time.monotonic()

    async def _newest_version(self) -> str:
        query = urlencode({"limit": "1", **self._selector_query()})
        page = await self._kube.get(f"{self.collection}?{query}")
        return str(page["metadata"]["resourceVersion"])

    async def _stream_events(self) -> AsyncIterator[dict[str, Any]]:
        # Not all watches end at once.
        seconds = random.randint(WATCH_TIMEOUT_S, WATCH_TIMEOUT_S + 60)  # noqa: S311 - no secret
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": self._version}
        query |= {"timeoutSeconds": str(seconds), **self._selector_query()}
        path = f"{self.collection}?{urlencode(query)}"

        begun: list[bytes] = []
        chunks = self._kube.stream(
            path, SILENCE_TIMEOUT_S, self._record_progress, accept=self._accept
        )
        async for chunk in chunks:
            self._record_progress()
            begun.append(chunk)

            # One event may have more than a MiB.
            if b"\n" not in chunk:
                continue

            *lines, rest = b"".join(begun).split(b"\n")
            begun = [rest]

            async for event in self._decode_lines(lines):
                yield event

    async def _decode_lines(self, lines: Iterable[bytes]) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of these lines; let others have their turn in between."""
        taken = 0
        for line in lines:
            taken += len(line)
            # One who writes much is not to keep the loop from the others.
            if taken > BREATH:
                taken = 0
                await asyncio.sleep(0)

            if not line:
                continue

            try:
                event = decode_event(line)
            except Unreadable as error:
                # Who relied on it finds by listing that it has changed.
                log.error("an event of the watch of %s is passed over: %s", self.collection, error)
                continue

            yield event

    def _take_event(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            if obj.get("code") == 410:
                raise Expired("the version to go on from is forgotten")
            raise Retryable(str(obj.get("message", "an error without words")))

        meta = obj["metadata"]
        self._version = meta["resourceVersion"]

        # A bookmark tells of a version alone.
        if kind == "BOOKMARK":
            return

        drop_unused_fields(obj)

        path = api_path(self._api, self._plural, meta.get("namespace", ""), meta["name"])
        try:
            self._told(path, kind, obj)
        except Exception:
            metrics.pass_errors.inc()
            log.exception(
                "%s is passed over: what was told of it cannot be taken in",
                path,
                extra=about(meta.get("namespace", ""), meta["name"]),
            )

    def _selector_query(self) -> dict[str, str]:
        return {"labelSelector": self._selector} if self._selector else {}


def make_watches(
    kube: Kube,
    namespaces: Iterable[str],
    kinds: Iterable[tuple[str, str, str]],
    told: OnEvent,
    gap: Callable[[str], None],
) -> list[Watch]:
    """Return one watch for each kind (API, plural, label selector) and namespace.

    No namespace: one for all of them.
    """
    watches = []
    for namespace in sorted(namespaces) or [""]:
        for api, plural, selector in kinds:
            watches.append(Watch(kube, api, plural, namespace, selector, told, gap))
    return watches

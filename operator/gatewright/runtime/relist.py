"""What the watches have not told: lists at the start, after a gap, and once a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from gatewright.api import API_VERSION
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.background import log_passed_over
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.intake import Intake
from gatewright.runtime.missed import MissedEvents
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.telling import metrics
from gatewright.runtime.tracked import Key
from gatewright.runtime.tracking import Tracking

RELIST_INTERVAL_S = 60.0

log = logging.getLogger("gatewright.relist")


class Relist:
    """Lists what people write, and compares it with what is known."""

    def __init__(
        self, runtime: Runtime, tracking: Tracking, intake: Intake, missed: MissedEvents
    ) -> None:
        self._runtime = runtime
        self._tracking = tracking
        self._intake = intake
        self._missed = missed
        self._namespaces = runtime.settings.namespaces or {""}

    async def take_over(self) -> None:
        """List everything, as it is, before anything is done. Raises Retryable, Permanent.

        The list comes first, so that no two runs can claim one target.
        """
        self._runtime.releases.clear()
        await self._list_connections()
        await self._list_freezes()
        await self._list_runbooks()
        await self._list_interventions()
        await self._list_releases(first=True)

    async def compare(self, gap: bool = False) -> None:
        """Find what the watch did not tell: vanished Releases, and unseen changes.

        `gap`: the watch has begun anew, and will never tell of what happened meanwhile; else it
        must, and soon. Raises Retryable, Permanent.
        """
        await self._list_releases(gap=gap)

    async def run(self) -> None:
        """Compare once a minute, for ever."""
        while True:
            await asyncio.sleep(RELIST_INTERVAL_S)
            self._runtime.reading.forget_full(time.monotonic())
            await self._compare_safely(
                connections=self._runtime.connections.left_out,
                freezes=self._runtime.freezes.left_out,
                runbooks=self._runtime.runbooks.left_out,
            )

    def on_watch_gap(self, part: str) -> None:
        """List anew after a gap in a watch of what people write.

        What has vanished or changed meanwhile is told by nobody else.
        """
        if self._tracking.acting:
            self._runtime.background.begin(
                self._compare_safely(
                    gap=True,
                    connections=part == "/connections/",
                    freezes=part == "/freezes/",
                    runbooks=part == "/runbooks/",
                )
            )

    async def _list_releases(self, first: bool = False, gap: bool = False) -> None:
        """List Releases; all of them are taken over `first`, later metadata alone are compared."""
        releases = self._runtime.releases
        accept = "application/json" if first else METADATA_ONLY

        # One that is made while the list is read is not in it.
        before = set(releases)

        listed: set[Key] = set()

        for namespace in self._namespaces:
            collection = api_path(API_VERSION, "releases", namespace)
            async for item in self._runtime.kube.each(collection, accept=accept):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    if first:
                        self._tracking.take_over(key, item)
                    else:
                        await self._compare_listed(key, item, gap)
                except Exception:
                    log_passed_over("Release", key)

        for key in (before - listed) & set(releases):
            self._tracking.on_deleted(releases[key])

        self._missed.keep_only(listed)

    async def _compare_listed(self, key: Key, item: dict[str, Any], gap: bool) -> None:
        releases = self._runtime.releases
        entry = releases.get(key)
        version = int(item["metadata"]["resourceVersion"])

        if gap:
            self._missed.forget(key)

        # The watch was faster than the list.
        if entry is not None and entry.version >= version:
            return

        if not gap:
            self._missed.note(key, version)

        await self._tracking.reread(key)

        entry = releases.get(key)
        # Nobody knows that it is there still, or nothing can be made of it.
        if entry is None or entry.version < version:
            self._missed.forget(key)

        self._runtime.queue.add(key)

    async def _list_connections(self) -> None:
        """Take in all Connections, before the first measurement.

        A Connection that was not told of yet would look like one that is not there.
        """
        listed: set[Key] = set()

        for namespace in self._namespaces:
            collection = api_path(API_VERSION, "connections", namespace)
            async for item in self._runtime.kube.each(collection):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    self._intake.connection_event(None, item)
                except Exception:
                    log_passed_over("Connection", key)

        self._runtime.connections.forget_vanished(listed)

    async def _list_freezes(self) -> None:
        """Take in all Freezes: one that was not told of yet would keep nothing from starting."""
        listed: set[Key] = set()

        for namespace in self._namespaces:
            collection = api_path(API_VERSION, "freezes", namespace)
            async for item in self._runtime.kube.each(collection):
                listed.add((item["metadata"]["namespace"], item["metadata"]["name"]))
                self._intake.freeze_event(None, item)

        for namespace in self._runtime.freezes.forget_vanished(listed):
            self._intake.wake_closed(namespace)

    async def _list_runbooks(self) -> None:
        """Take in all Runbooks, before the Releases that name them."""
        listed: set[Key] = set()

        for namespace in self._namespaces:
            collection = api_path(API_VERSION, "runbooks", namespace)
            async for item in self._runtime.kube.each(collection):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    self._intake.runbook_event(None, item)
                except Exception:
                    log_passed_over("Runbook", key)

        for namespace, name in self._runtime.runbooks.forget_vanished(listed):
            self._intake.check_anew(namespace, name)

    async def _list_interventions(self) -> None:
        try:
            await self._runtime.interventions.relist(self._namespaces, first=True)
        except (Retryable, Permanent):
            raise
        except Exception:
            # What was not read to the end is told by its watch, or found by the next list.
            metrics.pass_errors.inc()
            log.exception("not all Interventions were taken in")

    async def _compare_safely(
        self,
        gap: bool = False,
        connections: bool = False,
        freezes: bool = False,
        runbooks: bool = False,
    ) -> None:
        try:
            if connections:
                await self._list_connections()
            if freezes:
                await self._list_freezes()
            if runbooks:
                await self._list_runbooks()
            await self.compare(gap)
            for key in await self._runtime.interventions.relist(self._namespaces):
                self._tracking.wake(key)
        except (Retryable, Permanent) as error:
            log.warning("the list of Releases could not be read: %s", error)
        except Exception:
            metrics.pass_errors.inc()
            log.exception(
                "what the watches have not told was not found out; the next list finds it"
            )

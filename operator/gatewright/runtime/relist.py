"""What the watches have not told: lists at the start, after a gap, and once a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
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
        runtime = self._runtime
        while True:
            await asyncio.sleep(RELIST_INTERVAL_S)
            runtime.reading.forget_full(time.monotonic())
            left_out = {
                "connections": runtime.connections.left_out,
                "freezes": runtime.freezes.left_out,
                "runbooks": runtime.runbooks.left_out,
            }
            await self._compare_safely([plural for plural, some in left_out.items() if some])

    def on_watch_gap(self, part: str) -> None:
        """List anew after a gap in a watch of what people write.

        What has vanished or changed meanwhile is told by nobody else.
        """
        if self._tracking.acting:
            self._runtime.background.begin(self._compare_safely([part.strip("/")], gap=True))

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
        listed = await self._list_kind("Connection", "connections", self._intake.connection_event)
        self._runtime.connections.forget_vanished(listed)

    async def _list_freezes(self) -> None:
        """Take in all Freezes: one that was not told of yet would keep nothing from starting."""
        listed = await self._list_kind("", "freezes", self._intake.freeze_event)
        for namespace in self._runtime.freezes.forget_vanished(listed):
            self._intake.wake_closed(namespace)

    async def _list_runbooks(self) -> None:
        """Take in all Runbooks, before the Releases that name them."""
        listed = await self._list_kind("Runbook", "runbooks", self._intake.runbook_event)
        for namespace, name in self._runtime.runbooks.forget_vanished(listed):
            self._intake.check_anew(namespace, name)

    async def _list_kind(
        self, kind: str, plural: str, take_in: Callable[[None, dict[str, Any]], None]
    ) -> set[Key]:
        """Take in all objects of a kind; return where they are.

        `kind`: what is passed over where it cannot be taken in; empty where nothing may be.
        """
        listed: set[Key] = set()
        for namespace in self._namespaces:
            collection = api_path(API_VERSION, plural, namespace)
            async for item in self._runtime.kube.each(collection):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    take_in(None, item)
                except Exception:
                    if not kind:
                        raise
                    log_passed_over(kind, key)

        return listed

    async def _list_interventions(self) -> None:
        try:
            await self._runtime.interventions.relist(self._namespaces, first=True)
        except (Retryable, Permanent):
            raise
        except Exception:
            # What was not read to the end is told by its watch, or found by the next list.
            metrics.pass_errors.inc()
            log.exception("not all Interventions were taken in")

    async def _compare_safely(self, plurals: Collection[str], gap: bool = False) -> None:
        """Compare the Releases, and list what else is named."""
        lists = {
            "connections": self._list_connections,
            "freezes": self._list_freezes,
            "runbooks": self._list_runbooks,
        }
        try:
            for plural in plurals:
                if plural in lists:
                    await lists[plural]()
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

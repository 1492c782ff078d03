"""One acting instance: a Lease, renewed by one request, and a fence that every write looks at.

`kubernetes.aio.leaderelection` was tried and left: it asks twice for each renewal, takes local time
for UTC, and cannot say when it last succeeded, which the fence needs. A lease that was not renewed
in time is lost at once by the monotonic clock, whatever the API server may still think: an instance
that was stopped (SIGSTOP) past its lease finds itself out before its next write. The last renewal
of whoever acted before tells how long nobody watched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from gatewright.core.run.clocks import parse_time
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.telling import metrics

LEASE_DURATION_S = 15.0
RENEW_INTERVAL_S = 5.0
FENCE_AFTER_S = 12.0
"""Seconds after the last renewal in which this instance may act: less than the lease, for clocks
that drift."""

LEASE_NAME = "gatewright"

log = logging.getLogger("gatewright.leader")


class LeaseLost(Retryable):
    """The Lease is not ours any more; nothing may be written."""


class Leader:
    """The Lease `gatewright` in the operator's namespace."""

    def __init__(self, kube: Kube, namespace: str, identity: str, name: str = LEASE_NAME) -> None:
        self._kube = kube
        self._path = api_path("coordination.k8s.io/v1", "leases", namespace, name)
        self._collection = api_path("coordination.k8s.io/v1", "leases", namespace)
        self._identity = identity
        self._name = name
        self.namespace = namespace
        self._renewed = float("-inf")
        self._lease: dict[str, Any] | None = None
        self.unwatched = 0.0
        """Seconds between the last renewal of whoever acted before and our taking over."""

    def fence(self) -> None:
        """Raise LeaseLost unless this instance may act now."""
        if time.monotonic() - self._renewed > FENCE_AFTER_S:
            raise LeaseLost("the Lease was not renewed in time")

    async def acquire(self) -> None:
        """Wait until this instance acts."""
        seen: tuple[str, float] | None = None
        while True:
            try:
                lease = await self._kube.get(self._path)
            except NotFound:
                lease = None
            except (Retryable, Permanent) as error:
                log.warning("cannot read the Lease: %s", error)
                await asyncio.sleep(1.0)
                continue

            # The other's clock is not compared with ours: a Lease that has not changed for long is
            # free.
            version = lease["metadata"]["resourceVersion"] if lease else ""
            if seen is None or seen[0] != version:
                seen = (version, time.monotonic())

            # Two may find it free: the API server lets one of them write.
            if self._is_free(lease, seen[1]) and await self._write_lease(lease):
                return

            await asyncio.sleep(1.0)

    async def hold(self) -> None:
        """Renew until the Lease is lost; then return."""
        try:
            while True:
                is_recent = time.monotonic() - self._renewed < RENEW_INTERVAL_S * 1.5
                await asyncio.sleep(RENEW_INTERVAL_S if is_recent else 1.0)

                if not await self._write_lease(self._lease):
                    if self._lease is None or time.monotonic() - self._renewed > FENCE_AFTER_S:
                        return
        finally:
            metrics.is_leader.set(0)

    async def resign(self) -> None:
        """Let another instance act at once; for a graceful stop."""
        lease = self._lease
        self._renewed = float("-inf")
        metrics.is_leader.set(0)

        if lease is None:
            return

        lease["spec"]["holderIdentity"] = ""
        lease["spec"]["renewTime"] = _micro_time()
        try:
            await self._kube.replace(self._path, lease)
        except (Retryable, Permanent) as error:
            log.info("the Lease was not handed back: %s", error)

    def _is_free(self, lease: dict[str, Any] | None, seen: float) -> bool:
        if lease is None:
            return True
        holder = lease["spec"].get("holderIdentity")
        duration = float(lease["spec"].get("leaseDurationSeconds") or LEASE_DURATION_S)
        return holder in (None, "", self._identity) or time.monotonic() - seen > duration

    async def _write_lease(self, lease: dict[str, Any] | None) -> bool:
        # Before the request: it counts from when it was sent, not from when the answer came.
        sent = time.monotonic()
        before = lease["spec"].get("renewTime") if lease else None
        first = self._renewed == float("-inf")

        spec = dict(lease["spec"]) if lease else {"leaseTransitions": 0}
        if spec.get("holderIdentity") != self._identity:
            spec |= {
                "acquireTime": _micro_time(),
                "leaseTransitions": spec.get("leaseTransitions", 0) + 1,
            }

        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_DURATION_S),
            "renewTime": _micro_time(),
        }
        try:
            self._lease = await (
                self._replace_lease(lease, spec) if lease else self._create_lease(spec)
            )
        except Conflict:
            return await self._reread_lease()
        except NotFound:
            self._lease = None
            return False
        except (Retryable, Permanent) as error:
            log.warning("the Lease was not renewed: %s", error)
            return False

        # From when it was sent: its answer may have taken long.
        self._renewed = sent
        metrics.is_leader.set(1)

        # Whoever acted before may have stopped long ago: clocks leave that time out.
        if first and before:
            self.unwatched = max(0.0, (datetime.now(UTC) - parse_time(before)).total_seconds())

        return True

    async def _reread_lease(self) -> bool:
        """Read who has the Lease after somebody else has written it: ours still, or lost."""
        try:
            lease = await self._kube.get(self._path)
        except (Retryable, Permanent):
            return False

        self._lease = lease if lease["spec"].get("holderIdentity") == self._identity else None
        return False

    async def _replace_lease(self, lease: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        return await self._kube.replace(self._path, lease | {"spec": spec})

    async def _create_lease(self, spec: dict[str, Any]) -> dict[str, Any]:
        meta = {"name": self._name, "namespace": self.namespace}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": spec,
        }
        return await self._kube.create(self._collection, body)


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""One instance: wait for the Lease, act, and stop at once when it is lost."""

from __future__ import annotations

import asyncio
import logging

from gatewright.providers.common import context
from gatewright.providers.common.address_rules import AddressRules
from gatewright.runtime.cluster.api_servers import ApiServers
from gatewright.runtime.cluster.hash_keys import HashKeyReader
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import Leader
from gatewright.runtime.controller import Controller
from gatewright.runtime.settings import Settings
from gatewright.runtime.telling.server import Probe, ProbeServer

log = logging.getLogger("gatewright.operator")


class ProbeLog:
    """A probe whose log says when its answer turns, and why.

    A pod that is restarted for it leaves nothing else.
    """

    def __init__(self, bad: str, good: str, probe: Probe) -> None:
        self._bad, self._good, self._probe = bad, good, probe
        self._wrong = False

    def __call__(self) -> str | None:
        """Return what is wrong, if anything."""
        wrong = self._probe()
        if wrong is not None and not self._wrong:
            log.error("%s: %s", self._bad, wrong)
        if wrong is None and self._wrong:
            log.info("%s", self._good)
        self._wrong = wrong is not None
        return wrong


class Operator:
    """What `handlers` start and stop; what is in between it does by itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.controller: Controller | None = None
        self._providers: context.ProviderContext | None = None
        self._kube: Kube | None = None
        self._servers: ApiServers | None = None
        self._leader: Leader | None = None
        self._server: ProbeServer | None = None
        self._main: asyncio.Task[None] | None = None
        self._failed: str | None = None
        self._stopping = False

    async def start(self) -> None:
        """Connect and begin to compete for the Lease; returns at once."""
        rules = AddressRules.of(
            self.settings.allow, self.settings.refuse, self.settings.pod_addresses
        )
        self._providers = context.ProviderContext(rules)
        context.install(self._providers)

        self._kube = await Kube.connect()
        self._servers = ApiServers(self._kube, self._providers)
        self._leader = Leader(self._kube, self.settings.lease_namespace, self.settings.identity)
        self._kube.set_fence(self._leader.fence)
        self._kube.read_hash_key = HashKeyReader(self._kube, self.settings.lease_namespace).read
        self.controller = Controller(self._kube, self._leader, self.settings)
        healthy = ProbeLog(
            "not healthy (/healthz answers 503)",
            "healthy again (/healthz answers 200)",
            self._is_unhealthy,
        )
        ready = ProbeLog(
            "not ready (/readyz answers 503)", "ready (/readyz answers 200)", self._is_unready
        )
        self._server = ProbeServer(healthy, ready)
        self._server.start(self.settings.health_port, self.settings.port)
        self._main = asyncio.get_running_loop().create_task(self._lead_once())

    async def stop(self) -> None:
        """Stop acting, hand the Lease back, close everything."""
        self._stopping = True
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)

        if self.controller is not None:
            # Handed back only when nothing acts any more: another instance begins at once.
            await self.controller.stop()
        if self._leader is not None:
            await self._leader.resign()
        if self._server is not None:
            await self._server.close()

        if self._providers is not None:
            await self._providers.close()

        if self._servers is not None:
            await self._servers.close()
        if self._kube is not None:
            await self._kube.close()

    async def _lead_once(self) -> None:
        assert self._leader is not None and self.controller is not None

        try:
            assert self._servers is not None
            await self._servers.start()
            await self._leader.acquire()
            log.info(
                "acting as %s; nobody watched for %.1fs",
                self.settings.identity,
                self._leader.unwatched,
            )
            await self.controller.start()
            await self._leader.hold()
            self._failed = "the Lease was lost"
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("cannot act")
            self._failed = f"cannot act: {error}"

        log.error("%s; this instance stops acting and waits to be restarted", self._failed)
        await self.controller.stop()

    def _is_unhealthy(self) -> str | None:
        # What ends now was told to.
        if self._stopping:
            return None
        if self._failed is not None:
            return self._failed
        return self.controller.dead() if self.controller is not None else None

    def _is_unready(self) -> str | None:
        if self._stopping:
            return "stopping"
        return self._failed or (None if self._main is not None else "starting")

"""Where the API server is, so that no Connection leads there (`providers.common.addresses`).

The address of the Service `kubernetes` is in the pod's environment. Behind it stand the addresses
of the control plane itself, which the API server writes into an EndpointSlice of the same name, and
outside of a cluster there is the host of the kubeconfig. They are read at start and every
`LOOKUP_INTERVAL_S` seconds: control planes are replaced seldom, and one look at one object is less
than a watch.
A single node is the control plane and the operator's own: the API server answers on addresses of it
that nobody lists. Of these the pod knows its default gateway, and by the downward API the address
of the node.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.providers.common.address_rules import ApiServerPlaces
from gatewright.providers.common.context import ProviderContext
from gatewright.providers.common.networks import is_plain_name, literal_address
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.settings import node_addresses, service_host

LOOKUP_INTERVAL_S = 300.0
LOOKUP_RETRY_S = 10.0
"""Seconds until what could not be read is read again."""
ENDPOINT_SLICE_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
ROUTE_TABLE, ROUTE_TABLE6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_ANY, _ANY6 = "00000000", ["0" * 32, "00"]
DISCOVERY_PATH = "/api"
"""Tells everybody who may log in where the API server that answers is; one of several, behind one
address or another."""

log = logging.getLogger("gatewright.api_servers")


class ApiServers:
    """What is known of the API server's places."""

    def __init__(self, kube: Kube, providers: ProviderContext) -> None:
        """`providers`: what is kept from there."""
        self._kube = kube
        self._providers = providers
        self._endpoints: list[str] = []
        self._ports: set[int] = set()
        self._told = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, and keep looking. What cannot be found out is said, and no reason to stop."""
        wait = await self.look()
        self._task = asyncio.get_running_loop().create_task(
            self._keep_looking(wait), name="where the API server is"
        )

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> float:
        """Read where the API server is, and refuse it from now on.

        Returns the seconds until the next look.
        """
        wait = LOOKUP_INTERVAL_S
        host = _host_of(self._kube.host)

        try:
            endpoints = await self._kube.get(ENDPOINT_SLICE_PATH)
            self._endpoints, self._ports = _addresses_in(endpoints), _ports_in(endpoints)
            self._told = False
        except Retryable as error:
            log.info("the endpoints of the API server cannot be read now: %s", error)
            wait = LOOKUP_RETRY_S
        except (NotFound, Permanent) as error:
            self._endpoints, self._ports = await self._ask_discovery()
            if not self._told:
                self._warn_unreadable(error)
            self._told = True

        places = [service_host(), host, *await self._resolve_host(host), *self._endpoints]
        server = ApiServerPlaces.of(places, self._ports, own_node_addresses())
        self._providers.rules = replace(self._providers.rules, api_server=server)

        return wait

    def _warn_unreadable(self, error: Exception) -> None:
        log.warning(
            "the endpoints of the API server cannot be read (%s); Connections are kept from its "
            "Service, and from %s; let the operator get the EndpointSlice kubernetes in namespace "
            "default, or name the others by --refuse-address",
            error,
            ", ".join(self._endpoints) or "nothing else",
        )

    async def _keep_looking(self, wait: float) -> None:
        while True:
            await asyncio.sleep(wait)
            wait = await self.look()

    async def _resolve_host(self, host: str) -> list[str]:
        """Return what the host of the kubeconfig stands for, as far as that is known."""
        if literal_address(host) is not None or not is_plain_name(host):
            return []
        try:
            return await self._providers.resolver.find(host, "")
        except Retryable:
            return []

    async def _ask_discovery(self) -> tuple[list[str], set[int]]:
        """Return address and port of the API server that answers, by its own word."""
        try:
            answer = await self._kube.get(DISCOVERY_PATH)
        except (Retryable, Permanent):
            return [], set()

        servers = answer.get("serverAddressByClientCIDRs") or []
        urls = [f"//{server.get('serverAddress', '')}" for server in servers]
        hosts = [host for url in urls if (host := _host_of(url))]
        ports = {port for url in urls if (port := _port_of(url))}

        return hosts, ports


def _addresses_in(endpoint_slice: dict[str, Any]) -> list[str]:
    places: list[str] = []
    for endpoint in endpoint_slice.get("endpoints") or []:
        places += map(str, endpoint.get("addresses") or [])
    return places


def _ports_in(endpoint_slice: dict[str, Any]) -> set[int]:
    ports = [port.get("port") for port in endpoint_slice.get("ports") or []]
    return {port for port in ports if isinstance(port, int)}


def own_node_addresses() -> list[str]:
    """Return the addresses of the node that the operator runs on.

    These are as many as a pod knows without asking anybody.
    """
    return [*node_addresses(), *_default_gateways()]


def _default_gateways() -> list[str]:
    """Return the default gateways: with most networks an address of the node itself."""
    routes = _routes_in(ROUTE_TABLE)[1:]
    routes6 = _routes_in(ROUTE_TABLE6)

    # The kernel writes IPv4 addresses in the order of bytes of the machine, which is little-endian
    # wherever we run.
    gateways = [
        str(ipaddress.IPv4Address(bytes.fromhex(route[2])[::-1]))
        for route in routes
        if len(route) > 2 and route[1] == _ANY
    ]
    gateways += [
        str(ipaddress.IPv6Address(bytes.fromhex(route[4])))
        for route in routes6
        if len(route) > 4 and route[:2] == _ANY6
    ]

    return [address for address in gateways if not ipaddress.ip_address(address).is_unspecified]


def _routes_in(table: Path) -> list[list[str]]:
    """Return the rows of a table of the kernel; none where there is no such table."""
    try:
        return [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return []


def _port_of(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _host_of(url: str) -> str:
    """Return the host of a URL, in lower case; empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""

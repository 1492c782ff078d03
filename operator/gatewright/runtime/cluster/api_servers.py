"""Where the API server is, so that no Connection leads there (`providers.connections.addresses`).

The address of the Service `kubernetes` is in the pod's environment. Behind it stand the addresses
of the control plane itself, which the API server writes into an EndpointSlice of the same name, and
outside of a cluster there is the host of the kubeconfig. They are read at start and every `AGAIN`
seconds: control planes are replaced seldom, and one look at one object is less than a watch.

A single node is the control plane and the operator's own: the API server answers on addresses of it
that nobody lists. Of these the pod knows its default gateway, and by the downward API the address
of the node.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.providers.connections import addresses
from gatewright.providers.connections.names import RESOLVER
from gatewright.providers.connections.networks import is_plain_name, literal_address
from gatewright.runtime.cluster.kube import Kube

LOOKUP_INTERVAL_S = 300.0
LOOKUP_RETRY_S = 10.0
"""Seconds until what could not be read is read again."""
ENDPOINT_SLICE_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
ROUTE_TABLE, ROUTE_TABLE6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_ANY, _ANY6 = "00000000", ["0" * 32, "00"]
DISCOVERY_PATH = "/api"
"""Tells everybody who may log in where the API server that answers is; one of several, behind one
address or another."""

log = logging.getLogger("gatewright.servers")


class ApiServers:
    """What is known of the API server's places."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
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
        """Read where the API server is, and refuse it from now on; seconds until the next look."""
        wait = LOOKUP_INTERVAL_S
        host = _host_of(self._kube.host)

        try:
            found = await self._kube.get(ENDPOINT_SLICE_PATH)
            self._endpoints, self._ports = _addresses_in(found), _ports_in(found)
            self._told = False
        except Retryable as error:
            log.info("the endpoints of the API server cannot be read now: %s", error)
            wait = LOOKUP_RETRY_S
        except (NotFound, Permanent) as error:
            self._endpoints, self._ports = await self._ask_discovery()
            if not self._told:
                log.warning(
                    "the endpoints of the API server cannot be read (%s); Connections are "
                    "kept from its Service, and from %s; "
                    "let the operator get the EndpointSlice kubernetes in namespace "
                    "default, or name the others by "
                    "--refuse-address",
                    error,
                    ", ".join(self._endpoints) or "nothing else",
                )

            self._told = True

        places = [host, *await _resolve_host(host), *self._endpoints]
        addresses.set_api_server(
            addresses.ApiServerPlaces.of(places, self._ports, own_node_addresses())
        )

        return wait

    async def _keep_looking(self, wait: float) -> None:
        while True:
            await asyncio.sleep(wait)
            wait = await self.look()

    async def _ask_discovery(self) -> tuple[list[str], set[int]]:
        """Address and port of the API server that answers, by its own word."""
        try:
            found = (await self._kube.get(DISCOVERY_PATH)).get("serverAddressByClientCIDRs") or []
        except (Retryable, Permanent):
            return [], set()
        urls = [f"//{item.get('serverAddress', '')}" for item in found]
        return [place for url in urls if (place := _host_of(url))], {
            port for url in urls if (port := _port_of(url))
        }


def _addresses_in(found: dict[str, Any]) -> list[str]:
    return [
        str(place) for item in found.get("endpoints") or [] for place in item.get("addresses") or []
    ]


def _ports_in(found: dict[str, Any]) -> set[int]:
    return {item["port"] for item in found.get("ports") or [] if isinstance(item.get("port"), int)}


def own_node_addresses() -> list[str]:
    """Addresses of the node that the operator runs on, as far as a pod knows them without asking
    anybody."""
    told = [part.strip() for part in os.environ.get("GATEWRIGHT_NODE_ADDRESS", "").split(",")]
    return [*filter(None, told), *_default_gateways()]


def _default_gateways() -> list[str]:
    """Return the default gateways: with most networks an address of the node itself."""
    try:
        rows = [line.split() for line in ROUTE_TABLE.read_text().splitlines()[1:]]
    except OSError:
        rows = []

    try:
        rows6 = [line.split() for line in ROUTE_TABLE6.read_text().splitlines()]
    except OSError:
        rows6 = []

    # the kernel writes IPv4 addresses in the order of bytes of the machine, which is little-endian
    # wherever we run
    found = [
        str(ipaddress.IPv4Address(bytes.fromhex(row[2])[::-1]))
        for row in rows
        if len(row) > 2 and row[1] == _ANY
    ]
    found += [
        str(ipaddress.IPv6Address(bytes.fromhex(row[4])))
        for row in rows6
        if len(row) > 4 and row[:2] == _ANY6
    ]

    return [address for address in found if not ipaddress.ip_address(address).is_unspecified]


def _port_of(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _host_of(url: str) -> str:
    """Host of a URL, in lower case; empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _resolve_host(host: str) -> list[str]:
    """Return what the host of the kubeconfig stands for, as far as that is known."""
    if literal_address(host) is not None or not is_plain_name(host):
        return []
    try:
        return await RESOLVER.find(host, "")
    except Retryable:
        return []

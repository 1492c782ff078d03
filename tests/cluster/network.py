"""Addresses of a native cluster, and the one link that joins it to this machine.

The node has a network namespace of its own, joined to the machine by one pair of virtual links.
Everything else (pod links, routes, sysctls, nftables) is inside and dies with the namespace. The
machine gets one interface and two routes, which let it reach pods and Services by their addresses:

    machine  gw-<id> .1 ---- .2 eth0  node  ---- pods       10.213.<n>.0/21
                                            ---- Services   10.213.<n+8>.0/22

There is no way from a pod to anywhere but this machine.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.cluster.deps import which
from tests.cluster.paths import Unavailable
from tests.cluster.processes import wait_until

_POOL = IPv4Network("10.213.0.0/16")
_BLOCK = 20


@dataclass(frozen=True)
class Block:
    """The addresses of one cluster, all derived from the block it was given."""

    network: IPv4Network

    @property
    def pods(self) -> IPv4Network:
        return next(self.network.subnets(new_prefix=21))

    @property
    def services(self) -> IPv4Network:
        return IPv4Network((self.network.network_address + 8 * 256, 22))

    @property
    def link(self) -> IPv4Network:
        return IPv4Network((self.network.network_address + 12 * 256, 30))

    @property
    def machine(self) -> IPv4Address:
        """This machine as the node and its pods see it."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        return self.link[2]


def choose(used: Iterable[IPv4Network] | None = None) -> Block:
    """A block that overlaps no address or route of this machine (a default route does not
    count)."""
    taken = list(used if used is not None else _in_use())
    for candidate in _POOL.subnets(new_prefix=_BLOCK):
        if not any(candidate.overlaps(network) for network in taken):
            return Block(candidate)
    raise Unavailable(
        f"no free block of addresses in {_POOL}: too many clusters, or the range is routed "
        "elsewhere"
    )


def join(interface: str, pid: int, block: Block) -> None:
    """Make the pair of links, one end in the namespace of the process, and the routes to what is
    behind it."""
    ip("link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    ip("address", "add", f"{block.machine}/{block.link.prefixlen}", "dev", interface)
    ip("link", "set", interface, "up")
    for network in (block.pods, block.services):
        ip("route", "add", str(network), "via", str(block.node), "dev", interface)


def part(interface: str) -> None:
    """Wait until the link has gone with its namespace; remove it where that does not happen by
    itself."""
    if not wait_until(lambda: not exists(interface), 5):
        ip("link", "delete", interface)


def exists(interface: str) -> bool:
    command = [_program(), "link", "show", "dev", interface]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ip(*arguments: str) -> str:
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _program() -> str:
    found = which("ip")
    if found is None:
        raise Unavailable("the program ip (Debian package iproute2) is missing")
    return found


def _in_use() -> list[IPv4Network]:
    networks = []
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            networks.append(ipaddress.ip_network(route["dst"], strict=False))
    return [network for network in networks if isinstance(network, IPv4Network)]

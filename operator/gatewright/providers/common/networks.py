"""Hosts and networks: which spellings count, which are refused, and what the operator's settings
name.

A setting is a list, separated by commas, of host names, addresses and networks. An entry that
begins with `NAMESPACE=` counts for the Connections of that namespace alone:
`prometheus.monitoring.svc,10.2.0.0/16,shop=10.3.0.7`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MAX_NAME_LENGTH = 253
"""Characters of a host name."""

REFUSED_NETWORKS: Mapping[str, tuple[Network, ...]] = {
    "unspecified": (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("::/128")),
    "loopback": (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
    "link-local": (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10")),
    "multicast": (ipaddress.ip_network("224.0.0.0/4"), ipaddress.ip_network("ff00::/8")),
    "reserved": (ipaddress.ip_network("240.0.0.0/4"), ipaddress.ip_network("100::/64")),
    "a cloud's metadata service": (
        ipaddress.ip_network("fd00:ec2::/32"),
        ipaddress.ip_network("fd20:ce::254/128"),
        ipaddress.ip_network("fd00:42::42/128"),
        ipaddress.ip_network("100.100.100.200/32"),
        ipaddress.ip_network("168.63.129.16/32"),
        ipaddress.ip_network("192.0.0.192/32"),
    ),
}
NODE_PORTS: Mapping[int, str] = {
    2379: "etcd",
    2380: "etcd",
    6443: "the API server",
    9345: "the API server",  # what nodes of RKE2 and K3s register at
    10250: "the kubelet",
    10255: "the kubelet",
    10257: "the controller manager",
    10259: "the scheduler",
}
"""Where the parts of a cluster listen on each address of a node; nodes have more addresses than
anybody tells."""
WEB_PORTS = frozenset({80, 443})
"""Where an ingress listens on a node: never closed for what else may listen there elsewhere."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_ISATAP = (0x5EFE, 0x0200_5EFE)
"""Upper half of an interface identifier whose lower half is an IPv4 address."""


@dataclass(frozen=True, slots=True)
class Places:
    """Host names as they are written, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def network(self, address: Address) -> Network | None:
        """Return the network of these that an address is in."""
        return next((network for network in self.networks if address in network), None)


NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class AddressSetting:
    """What a setting names: for the Connections of all namespaces, and for those of one."""

    everywhere: Places = NOWHERE
    of: Mapping[str, Places] = field(default_factory=dict)

    @classmethod
    def parse(cls, setting: str) -> AddressSetting:
        """Parse a setting, as `localhost,10.96.0.0/12,shop=10.2.0.7`. Raises ValueError."""
        named: dict[str, tuple[set[str], list[Network]]] = {"": (set(), [])}
        entries = (part.strip().lower() for part in setting.split(","))
        for entry in filter(None, entries):
            namespace, equals, place = entry.rpartition("=")
            if equals and not _NAMESPACE.fullmatch(namespace):
                fault = f'"{namespace}" is no name of a namespace'
                raise ValueError(f'"{entry}": {fault} (try shop=10.2.0.0/16)')

            hosts, networks = named.setdefault(namespace, (set(), []))
            place = place.rstrip(".")
            try:
                networks.append(ipaddress.ip_network(place))
            except ValueError:
                if not is_plain_name(place):
                    fault = "is neither a host name nor an address nor a network"
                    raise ValueError(f'"{entry}" {fault}') from None
                hosts.add(place)

        places = {
            name: Places(frozenset(hosts), tuple(networks))
            for name, (hosts, networks) in named.items()
        }
        return cls(places.pop(""), places)

    def both(self, other: AddressSetting) -> list[str]:
        """Return what two settings name alike."""
        scopes = [("", self.everywhere, other.everywhere)]
        for name, places in self.of.items():
            scopes.append((f"{name}=", places, other.of.get(name, NOWHERE)))
        shared: list[str] = []

        for prefix, here, there in scopes:
            same = sorted(here.hosts & there.hosts) + [
                str(place) for place in here.networks if place in there.networks
            ]
            shared += [f"{prefix}{place}" for place in same]

        return shared


def literal_address(host: str) -> Address | None:
    """Return the address that a text is, if it is one in its plain form (`127.1` is none)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_plain_name(host: str) -> bool:
    """Return whether a lower-case text is a host name that nobody reads as a number."""
    if len(host) > _MAX_NAME_LENGTH:
        return False
    labels = host.split(".")
    return all(map(_LABEL.fullmatch, labels)) and not _NUMERIC.fullmatch(labels[-1])


def address_forms(address: Address) -> Iterator[Address]:
    """Yield the address, and the IPv4 addresses that it may be turned into on its way."""
    yield address

    if isinstance(address, ipaddress.IPv4Address):
        return

    if address.ipv4_mapped:
        yield address.ipv4_mapped

    if address.sixtofour:
        yield address.sixtofour

    if address.teredo:
        yield from address.teredo

    number = int(address)
    is_isatap = number >> 32 & 0xFFFFFFFF in _ISATAP
    # The unspecified and the loopback address are no IPv4 addresses in disguise.
    is_compatible = address in _COMPATIBLE and number > 0xFFFF
    if address in _NAT64 or address in _TRANSLATED or is_isatap or is_compatible:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)

    if address in _LOCAL_NAT64:
        yield from filter(None, (_address_behind(number, prefix) for prefix in (48, 56, 64, 96)))


def is_within(inner: Network, outer: Network) -> bool:
    """Return whether a network lies wholly in another."""
    return inner.version == outer.version and inner[0] in outer and inner[-1] in outer


def _address_behind(number: int, prefix: int) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that follows a prefix of so many bits, where nothing follows it; the
    bits 64 to 71 are left out (RFC 6052)."""
    bits = f"{number:0128b}"
    rest = bits[prefix:] if prefix > 64 else bits[prefix:64] + bits[72:]
    address = ipaddress.IPv4Address(int(rest[:32], 2))
    return address if int(address) > 0xFFFFFF and "1" not in rest[32:] else None

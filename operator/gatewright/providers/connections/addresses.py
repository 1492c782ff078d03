"""Which addresses a Connection may reach.

A Connection's URL is written by a user of the cluster and opened by the operator, which stands inside of it: without
rules it would be a way to the metadata service of the cloud, to the operator's own ports and to the API server. So

* a host is judged as it is written (`check_host`): a plain name or a plain address, nothing that two parsers could
  read in two ways (`0x7f.1`, `2130706433`, `127。0。0。1`, user information);
* and again as it is connected to (`resolve`): the name is looked up once, every address of the answer is judged, and
  the connection is made to those very addresses, so a name that changes its answer between the two gains nothing.

Refused are loopback, link-local, unspecified, multicast and reserved addresses, the metadata services of clouds, and
the API server by name and address; also where they hide in an IPv6 address (mapped, 6to4, NAT64, Teredo). Private
networks are open: that is where clusters live. The operator's own settings (`allow`) may name exceptions.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2

from gatewright.ports import Permanent, Retryable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*")
_API_SERVER = re.compile(r"kubernetes(\.default(\.svc(\..+)?)?)?")
_ILLEGAL = re.compile(r"[^\x21-\x7e]|[\\@\"<>^`{|}]")

_REFUSED: Mapping[str, tuple[Network, ...]] = {
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
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_ISATAP = (0x5EFE, 0x0200_5EFE)
"""Upper half of an interface identifier whose lower half is an IPv4 address."""

_lookups = ThreadPoolExecutor(4, thread_name_prefix="lookup")
"""Look-ups have threads of their own: a name server that is away must not block others' work."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Exceptions from the rules: host names as they are written, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """From `localhost,127.0.0.1,10.96.0.0/12`. Raises ValueError."""
        hosts: set[str] = set()
        networks: list[Network] = []
        for item in filter(None, (part.strip().lower().rstrip(".") for part in text.split(","))):
            try:
                networks.append(ipaddress.ip_network(item))
            except ValueError:
                if not _plain_name(item):
                    raise ValueError(f'"{item}" is neither a host name nor an address nor a network') from None
                hosts.add(item)
        return cls(frozenset(hosts), tuple(networks))


_allowed = Allowed()


def allow(allowed: Allowed) -> None:
    """Set the exceptions; the shell does so once, at start, from `--allow-address`."""
    global _allowed
    _allowed = allowed


def allowed() -> Allowed:
    """The exceptions in force."""
    return _allowed


def check_url(text: str) -> httpx2.URL:
    """The base URL of a Connection, if it is plain http(s) to a host that may be reached. Raises Permanent."""
    if _ILLEGAL.search(text):
        raise Permanent("the URL may hold no spaces, control characters, user names or characters outside of ASCII")
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise Permanent(f"not a URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise Permanent("the URL starts neither with http:// nor with https://")
    if "?" in text or "#" in text:
        raise Permanent("the URL is a base: put queries into the paths of checks, secrets into headers")
    if url.port is not None and not 0 < url.port < 65536:
        raise Permanent(f"{url.port} is not a port (1 to 65535)")
    # the raw host is the one that is connected to; `url.host` is what a person would read
    check_host(url.raw_host.decode())
    return url


def check_host(text: str) -> str:
    """The host in its plain form, if its name or address may be reached. Raises Permanent."""
    host = text.lower().rstrip(".")
    address = _literal(host)
    if address is not None:
        check_address(address, host)
        return host
    if not _plain_name(host):
        raise Permanent(f'"{text[:80]}" is not a host name; an address has four decimal numbers, or stands in brackets')
    if host in _allowed.hosts:
        return host
    if host == "localhost" or host.endswith(".localhost"):
        raise Permanent(_refusal(host, "loopback"))
    if _API_SERVER.fullmatch(host) or host == _server_host():
        raise Permanent(_refusal(host, "the API server"))
    return host


def check_address(address: Address, host: str) -> None:
    """Judge one address that `host` stands for. Raises Permanent."""
    if host in _allowed.hosts:
        return
    server = _literal(_server_host())
    shown = host if host == str(address) else f"{host} ({address})"
    for form in _forms(address):
        if any(form in network for network in _allowed.networks):
            continue
        if server is not None and form == server:
            raise Permanent(_refusal(shown, "the API server"))
        for what, networks in _REFUSED.items():
            if any(form in network for network in networks):
                raise Permanent(_refusal(shown, what))


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, each of them checked; connect to these. Raises Retryable, Permanent."""
    host = check_host(host)
    literal = _literal(host)
    if literal is not None:
        return [str(literal)]
    found: list[str] = []
    for text in await _lookup(host, port):
        check_address(ipaddress.ip_address(text), host)
        if text not in found:
            found.append(text)
    if not found:
        raise Retryable(f"{host}: the name has no address")
    return found


async def _lookup(host: str, port: int) -> list[str]:
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    problem = ""
    try:
        return [str(entry[4][0]) for entry in await asyncio.get_running_loop().run_in_executor(_lookups, ask)]
    except OSError as error:
        problem = error.strerror or "no answer"
    raise Retryable(f"{host}: the name cannot be resolved ({problem.lower()})")


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise Permanent(_refusal(host, "link-local"))
    return address


def _plain_name(host: str) -> bool:
    labels = host.split(".")
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _NUMERIC.fullmatch(labels[-1])


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that it may be turned into on its way."""
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
    isatap = number >> 32 & 0xFFFFFFFF in _ISATAP
    if address in _NAT64 or address in _TRANSLATED or isatap or (address in _COMPATIBLE and number > 0xFFFF):
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address in _LOCAL_NAT64:
        yield from filter(None, (_behind(number, prefix) for prefix in (48, 56, 64, 96)))


def _behind(number: int, prefix: int) -> ipaddress.IPv4Address | None:
    """The IPv4 address that follows a prefix of so many bits, where nothing follows it; the bits 64 to 71 are left out
    (RFC 6052)."""
    bits = f"{number:0128b}"
    rest = bits[prefix:] if prefix > 64 else bits[prefix:64] + bits[72:]
    found = ipaddress.IPv4Address(int(rest[:32], 2))
    return found if int(found) > 0xFFFFFF and "1" not in rest[32:] else None


def _server_host() -> str:
    return os.environ.get("KUBERNETES_SERVICE_HOST", "").lower().rstrip(".")


def _refusal(host: str, what: str) -> str:
    return f"{host} is {what}, which Connections may not reach (the operator's setting --allow-address may except it)"

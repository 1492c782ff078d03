"""Which addresses a Connection may reach.

A Connection's URL is written by a user of the cluster and opened by the operator, which stands
inside of it: without rules it would be a way to the metadata service of the cloud, to the
operator's own ports and to the API server. So

* a host is judged as it is written (`check_host`): a plain name or a plain address, nothing that
  two parsers could read in two ways (`0x7f.1`, `2130706433`, `127。0。0。1`, user information);
* and again as it is connected to (`resolve`): the name is looked up once, every address of the
  answer is judged, and the connection is made to those very addresses, so a name that changes its
  answer between the two gains nothing.

Refused are loopback, link-local, unspecified, multicast and reserved addresses, the metadata
services of clouds, and the API server by name and by the addresses of its endpoints; also where
they hide in an IPv6 address (mapped, 6to4, NAT64, Teredo). Private networks are open: that is where
clusters live.

A node has more addresses than its Node object tells (bridges of the pods, of containers), and the
API server, kubelet and etcd listen on each. So their ports are refused on every address, and those
that the API server says it has on the addresses of the operator's own node. Everything else on a
node is open: a NodePort and an ingress are honest.

The operator's own settings speak first, and the first of these that names a host or an address
decides:

    1  --allow-address NAMESPACE=...    open for that namespace
    2  --refuse-address NAMESPACE=...   refused for that namespace
    3  --allow-address ...              open for all
    4  --refuse-address ...             refused for all
    5  what is refused above            a network excepts only what it lies in: 127.0.0.1 opens
                                        itself, 0.0.0.0/0 nothing
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network

from yarl import URL

from gatewright.ports import Permanent
from gatewright.providers.common import context
from gatewright.providers.common.networks import (
    NODE_PORTS,
    NOWHERE,
    REFUSED_NETWORKS,
    Address,
    Network,
    Places,
    address_forms,
    is_plain_name,
    is_within,
    literal_address,
)

_MAX_JUDGED_LENGTH = 1024
"""Characters of a host that are judged as a name."""
MAX_ADDRESSES = 16
"""Addresses of a name that are judged and connected to."""
_API_SERVER = re.compile(r"kubernetes(\.default(\.svc(\..+)?)?)?")
_ILLEGAL = re.compile(r"[^\x21-\x7e]|[\\@\"<>^`{|}]")
_SHAPE = re.compile(
    r"https?://(\[[0-9a-fA-F:.]+(%25[0-9a-zA-Z]+)?\]|[^\[\]:/]*)(:([0-9]*))?(/.*)?", re.IGNORECASE
)
"""All that a base URL may look like; what its parts mean, yarl says, which is also who makes up the
requests."""
_EXCEPT = "(the operator's setting --allow-address may except it)"


def check_url(written: str, namespace: str = "") -> URL:
    """Return the base URL of a Connection, if it is plain http(s) to a host that may be reached.

    Raises Permanent.
    """
    if _ILLEGAL.search(written):
        illegal = "spaces, control characters, user names or characters outside of ASCII"
        raise Permanent(f"the URL may hold no {illegal}")
    if not written.lower().startswith(("http://", "https://")):
        raise Permanent("the URL starts neither with http:// nor with https://")
    if "?" in written or "#" in written:
        remedy = "put queries into the paths of checks, secrets into headers"
        raise Permanent(f"the URL is a base: {remedy}")

    shape = _SHAPE.fullmatch(written)
    if shape is None:
        right = "a host, perhaps a port, and a path (http://10.0.0.7:9090/base)"
        raise Permanent(f"not a URL: after http:// come {right}")
    if shape[4] and not _is_port(shape[4]):
        raise Permanent(f"{shape[4][:10]} is not a port (1 to 65535)")

    try:
        url = URL(written)
    except ValueError as error:
        raise Permanent(f"not a URL: {error}") from None

    host = url.raw_host or ""
    if shape[1].startswith("[") and literal_address(host) is None:
        raise Permanent("not a URL: what stands in brackets is no IPv6 address")

    check_host(host, namespace, url.port)
    return url


def _is_port(digits: str) -> bool:
    # They are stripped, not counted: a number of a megabyte is refused before anybody computes it.
    significant = digits.lstrip("0")
    return 0 < len(significant) <= 5 and int(significant) < 65536


def check_host(written: str, namespace: str = "", port: int | None = None) -> str:
    """Return the host in its plain form, if its name or address may be reached, at that port.

    Raises Permanent.
    """
    # A longer text is no host name anyway, and is not worth the work.
    host = written.lower().rstrip(".") if len(written) <= _MAX_JUDGED_LENGTH else written
    address = literal_address(host)
    if address is not None:
        check_address(address, host, namespace, port)
        return host

    if not is_plain_name(host):
        remedy = "an address has four decimal numbers, or stands in brackets"
        raise Permanent(f'"{written[:80]}" is not a host name; {remedy}')

    # The operator's own settings speak first.
    if _is_allowed(host, None, namespace):
        return host
    if host == "localhost" or host.endswith(".localhost"):
        raise Permanent(_refusal_message(host, "loopback"))
    if _API_SERVER.fullmatch(host) or host in context.current().rules.api_server.hosts:
        raise Permanent(_refusal_message(host, "the API server"))

    return host


def check_address(
    address: Address, host: str, namespace: str = "", port: int | None = None
) -> None:
    """Judge one address that `host` stands for, and the port that is asked there.

    Raises Permanent.
    """
    if isinstance(address, IPv6Address) and address.scope_id:
        raise Permanent(_refusal_message(host, "link-local"))

    shown = host if host == str(address) else f"{host} ({address})"
    excepted: list[Network] = []
    for allow, _, _ in _setting_scopes(namespace):
        excepted += allow.networks

    for form in address_forms(address):
        if _is_allowed(host, form, namespace, shown):
            return
        for reason, network in _closed_networks(form, port):
            if not any(form in own and is_within(own, network) for own in excepted):
                raise Permanent(_refusal_message(shown, reason))


async def resolve_host(host: str, namespace: str, port: int | None = None) -> list[str]:
    """Return the addresses of a host, each of them checked; connect to these.

    Raises Retryable, Permanent.
    """
    host = check_host(host, namespace, port)
    address = literal_address(host)
    if address is not None:
        return [str(address)]

    # A name server may tell of thousands: what is not connected to need not be judged.
    judged = (await context.current().resolver.find(host, namespace))[:MAX_ADDRESSES]
    for each_address in judged:
        check_address(ip_address(each_address), host, namespace, port)
    return judged


def _setting_scopes(namespace: str) -> Iterator[tuple[Places, Places, str]]:
    """Yield what the settings allow and refuse, for the namespace first."""
    rules = context.current().rules
    allowed, refused = rules.allowed, rules.refused

    if namespace:
        yield allowed.of.get(namespace, NOWHERE), refused.of.get(namespace, NOWHERE), namespace
    yield allowed.everywhere, refused.everywhere, ""


def _is_allowed(host: str, address: Address | None, namespace: str, shown: str = "") -> bool:
    """Return whether a setting opens the host whatever it stands for.

    Raises Permanent where one refuses it, or its address.
    """
    for allow, refuse, own in _setting_scopes(namespace):
        if host in allow.hosts:
            return True
        # A network excepts only what it lies in; `check_address` tells what that is.
        if address is not None and allow.network(address) is not None:
            return False

        entry = host if host in refuse.hosts else None
        if entry is None and address is not None:
            network = refuse.network(address)
            entry = None if network is None else str(network)

        if entry is not None:
            raise Permanent(_closing_message(shown or host, entry, own))

    return False


def _closed_networks(address: Address, port: int | None) -> Iterator[tuple[str, Network]]:
    """Yield what an address is that nobody may reach, or who is asked there, and the network that
    is closed for it."""
    rules = context.current().rules
    server = rules.api_server

    if address in server.addresses:
        yield "the API server", ip_network(address)
    if address in rules.own_pod:
        yield "the operator itself", ip_network(address)

    for reason, networks in REFUSED_NETWORKS.items():
        yield from ((reason, network) for network in networks if address in network)

    # Of no port nothing more can be told.
    if port is None:
        return
    if port in NODE_PORTS:
        yield f"asked at port {port}, that of {NODE_PORTS[port]} on a node", ip_network(address)

    if port in server.ports and address in server.node:
        reason = f"the operator's own node, asked at port {port} of the API server"
        yield reason, ip_network(address)


def _refusal_message(shown: str, reason: str) -> str:
    return f"{shown} is {reason}, which Connections may not reach {_EXCEPT}"


def _closing_message(shown: str, entry: str, namespace: str) -> str:
    whose = f"Connections of namespace {namespace}" if namespace else "Connections"
    setting = f"{namespace}={entry}" if namespace else entry
    return f"{shown} is closed to {whose} (by the operator's setting --refuse-address {setting})"

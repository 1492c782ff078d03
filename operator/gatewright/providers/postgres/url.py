"""The URL of a PostgreSQL: what it may say, and where it leads.

Each address is checked by the address rules and reached by the relay, which logs in; libpq is told
the relay's port. Of libpq's settings a URL may hold only those that name no file of the operator's
pod.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gatewright.core.text import foreign
from gatewright.ports import Permanent
from gatewright.providers.common import addresses
from gatewright.providers.postgres.login import SSLMODES, Login
from gatewright.providers.postgres.relay import Relay, RelayRoute

MOST_HOSTS = 8
MOST_PLACES = 16
"""Addresses of all hosts together that are tried for one connection."""
_TRY = "try postgresql://user:password@host:5432/database"
_PORT = re.compile(r"[0-9]{1,5}")
_PLACE_SETTINGS = ("host", "port", "user", "password", "dbname")
_SESSION_SETTINGS = ("application_name", "client_encoding", "target_session_attrs")
_TLS_SETTINGS = ("sslmode", "sslnegotiation", "sslrootcert", "channel_binding", "gssencmode")
_SOCKET_SETTINGS = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
_PLAIN = frozenset((*_PLACE_SETTINGS, *_SESSION_SETTINGS, *_TLS_SETTINGS, *_SOCKET_SETTINGS))
"""Settings of libpq that name no file, no service and no server option."""
_VALUES: Mapping[str, tuple[str, ...]] = {
    "sslmode": SSLMODES,
    "sslnegotiation": ("postgres", "direct"),
    "sslrootcert": ("system",),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer"),
}
"""What some of them may be."""
_LIBPQ = frozenset({"dbname", "application_name", "client_encoding", "target_session_attrs"})
"""What libpq itself is told; the rest is the relay's."""


def settings_of(url: str) -> dict[str, str]:
    """Return the settings of libpq that a URL stands for.

    Raises Permanent, which repeats nothing of the URL.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise Permanent(f"the Secret holds no URL ({_TRY})")

    given = _parse_url(url)
    _require_plain(given)

    # libpq would fill what is missing from the operator's own environment.
    plain = {"dbname": given["user"], "port": "5432", "application_name": "gatewright"}
    sslmode = "verify-full" if "sslrootcert" in given else "prefer"
    settings = {**plain, "sslmode": sslmode, **given, "client_encoding": "UTF8"}

    may_lack_tls = settings["sslmode"] in ("disable", "allow", "prefer")
    if settings.get("sslnegotiation") == "direct" and may_lack_tls:
        reason = "it needs an sslmode of require or more"
        raise Permanent(f"the Secret's URL sets sslnegotiation to direct: {reason}")

    return settings


def _parse_url(url: str) -> dict[str, str]:
    # Behind an @ that is not escaped the rest of a password would be read, and told, as a host.
    if url.partition("://")[2].partition("?")[0].count("@") > 1:
        raise Permanent(f"the Secret's URL has an @ too many ({_TRY}; in a password it is %40)")

    problem = ""
    try:
        parsed = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        problem = f"the Secret's URL cannot be read ({_TRY}; escape by %XX)"
    # Raised out here, so that no traceback leads from it to an error that repeats the URL.
    if problem:
        raise Permanent(problem)

    return {name: str(value) for name, value in parsed.items() if value is not None}


def _require_plain(given: Mapping[str, str]) -> None:
    """Refuse settings that a URL may not have. Raises Permanent."""
    strange = sorted(given.keys() - _PLAIN)
    if strange:
        raise Permanent(f"the Secret's URL may not set {', '.join(strange)}")
    if not all(given.get("host", "").split(",")):
        raise Permanent("the Secret's URL names no host")
    if not given.get("user"):
        raise Permanent("the Secret's URL names no user")
    if any(foreign.has_control(value) for value in given.values()):
        raise Permanent("the Secret's URL may hold no control characters, not even escaped ones")

    for name, values in _VALUES.items():
        if name in given and given[name] not in values:
            raise Permanent(f"the Secret's URL may set {name} to {' or '.join(values)} only")


@dataclass(frozen=True, slots=True)
class Place:
    """An address of a host that a URL names."""

    host: str
    address: str
    port: int


async def places_of(settings: Mapping[str, str], namespace: str) -> list[Place]:
    """Return what the hosts stand for now, in the URL's order, each address checked by the rules
    for that namespace.

    Raises Retryable, Permanent.
    """
    hosts, ports = settings["host"].split(","), settings["port"].split(",")
    if len(hosts) > MOST_HOSTS:
        limit = f"{MOST_HOSTS} are tried at most"
        raise Permanent(f"the Secret's URL names {len(hosts)} hosts; {limit}")
    if len(ports) not in (1, len(hosts)) or not all(_PORT.fullmatch(port) for port in ports):
        raise Permanent("the Secret's URL needs one port, or one for each host")

    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    places: list[Place] = []
    for host, port in zip(hosts, ports, strict=True):
        resolved = await addresses.resolve_host(host, namespace, int(port))
        places += [Place(host, address, int(port)) for address in resolved]

    return places[:MOST_PLACES]


def login_of(settings: Mapping[str, str], namespace: str, relay: Relay) -> Login:
    """Return who logs in, and how."""
    return Login(
        user=settings["user"],
        password=settings.get("password", ""),
        sslmode=settings["sslmode"],
        direct=settings.get("sslnegotiation") == "direct",
        channel_binding=settings.get("channel_binding", "prefer"),
        namespace=namespace,
        charge=relay.charge,
    )


async def relayed_settings(
    settings: Mapping[str, str], login: Login, place: Place, relay: Relay, timeout: float
) -> dict[str, str]:
    """Return what libpq is told: the relay's port in place of the address, and no secret.

    `timeout` is for connecting and the login, in seconds.
    """
    host, port = await relay.lead_to(
        RelayRoute(place.address, place.port, timeout, functools.partial(login.open, place.host))
    )
    told = {name: value for name, value in settings.items() if name in _LIBPQ}
    own = {"user": login.token, "host": host, "hostaddr": host, "port": str(port)}
    return {**told, **own, "sslmode": "disable", "gssencmode": "disable"}

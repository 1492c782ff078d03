"""Redis, and the few commands that are asked of it.

    run_command(link, "INFO")           one command within the link's time, one bounded answer
      └─ RedisServer, one per identity  one connection: its address checked, AUTH and SELECT done,
                                        used by one at a time
      └─ `resp.py`                      the protocol on it

Every command that is used may be sent twice, so one that met a dead connection is sent again on a
new one. A server's error is told apart by its code alone: its text may repeat what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import context, meter, permit
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.common.secrets import hide_in_error, secret_value
from gatewright.providers.redis import resp

MAX_INFO_BYTES = 64 * 1024
"""Characters of the longest INFO that is read."""
_CODE = re.compile(r"[A-Z]{2,20}")
_URL_HINT = "try rediss://user:password@host:6379/0; escape by %XX"

_PERMANENT_CODES: Mapping[str, str] = {
    "WRONGPASS": "the credentials are refused",
    "NOAUTH": "it asks for a password, and the URL has none",
    "NOPERM": "this user may not run the command or touch the key",
    "CLUSTER": "a node of a Redis Cluster, which knows only its own part of the keys",
    "MOVED": "a node of a Redis Cluster, which knows only its own part of the keys",
    "CROSSSLOT": "a node of a Redis Cluster, which knows only its own part of the keys",
    "DENIED": "it runs in protected mode and takes no clients from elsewhere",
    "ERR": "the command is refused",
}
_RETRYABLE_CODES: Mapping[str, str] = {
    "LOADING": "it is still loading its data",
    "BUSY": "it is busy with a script",
    "OOM": "it has no memory left",
    "MISCONF": "it takes no writes, because it cannot save them to disk",
    "READONLY": "a replica, which takes no writes",
    "NOREPLICAS": "it takes no writes without its replicas",
    "MASTERDOWN": "its primary does not answer",
    "TRYAGAIN": "keys are being moved",
}
_MEANING_BY_PHRASE: Mapping[str, tuple[type[Retryable | Permanent], str]] = {
    "max number of clients": (Retryable, "it has too many clients"),
    "invalid password": (Permanent, "the credentials are refused"),
    "without any password configured": (Permanent, "it has no password, and the URL gives one"),
    "DB index is out of range": (Permanent, "it has no database of that number"),
    "limit exceeded": (Retryable, "the limit of its plan is met"),
    "size exceeded": (Permanent, "the command is larger than its plan allows"),
    "quota exceeded": (Retryable, "the quota of its plan is met"),
    "unknown command": (Permanent, "it does not know the command"),
}
"""What the words after ERR mean; the first that fits."""


class RunCommand(Protocol):
    """Sends one command to a Redis, whichever way leads there."""

    async def __call__(self, link: OpenConnection, *command: str | bytes) -> Any:
        """Return its answer: text as bytes or str, numbers, lists, None.

        Raises Retryable, Permanent.
        """
        ...


class RedisAccess(Model):
    """Where a Redis is and how it is opened."""

    url: SecretSource
    """A URL (`rediss://user:password@host:6379/0`; `redis://` goes without TLS) in a Secret."""


class RedisConnection:
    """A Redis that answers `PING`."""

    config: ClassVar[type[BaseModel]] = RedisAccess

    async def check(self, link: OpenConnection) -> None:
        """Log in and ask."""
        if await run_command(link, "PING") != b"PONG":
            raise Permanent("PING is not answered by PONG; this is not a Redis")


async def run_command(link: OpenConnection, *command: str | bytes) -> Any:
    """Send one command that may be sent twice. Text comes back as bytes.

    Raises Retryable, Permanent.
    """
    with await context.current().pace.admit(link.namespace) as account:
        permit.require_permit()
        count = meter.counter()

        def charge(size: int) -> None:
            count(size)
            account.spend(size)

        return await _run(link, command, charge)


async def _run(
    link: OpenConnection, command: tuple[str | bytes, ...], charge: Callable[[int], None]
) -> Any:
    problem: Retryable | Permanent
    try:
        async with (
            asyncio.timeout(link.timeout),
            _server_pool().lend_client(
                link.identity, lambda: RedisServer(link), link.namespace
            ) as server,
        ):
            return await server.run(command, charge)
    except (Retryable, Permanent) as error:
        problem = error
    except TimeoutError:
        problem = Retryable(f"the Redis gave no answer within {link.timeout:g}s")

    # Raised out here, so that no traceback leads from it to an error that holds a command.
    raise hide_in_error(problem, link)


def error_of_refusal(refusal: str) -> Retryable | Permanent:
    """Return what an error of the server means, by its code; nothing of its text is repeated."""
    code = refusal.partition(" ")[0]
    if code == "ERR":
        for phrase, (kind, meaning) in _MEANING_BY_PHRASE.items():
            if phrase in refusal:
                return kind(f"the Redis: {meaning} ({code})")
    if code in _PERMANENT_CODES:
        return Permanent(f"the Redis: {_PERMANENT_CODES[code]} ({code})")
    if code in _RETRYABLE_CODES:
        return Retryable(f"the Redis: {_RETRYABLE_CODES[code]} ({code})")

    return Retryable(
        f"the Redis answered an error ({code if _CODE.fullmatch(code) else 'without a code'})"
    )


class RedisServer:
    """One Redis by one user: one connection, kept, used by one command at a time."""

    def __init__(self, link: OpenConnection) -> None:
        self._place = _place_of(secret_value(link, link.config.url))
        self._namespace = link.namespace
        self._timeout = link.timeout
        self._turn = asyncio.Lock()
        self._open: resp.RespConnection | None = None
        self._closed = False

    async def run(self, command: tuple[str | bytes, ...], charge: Callable[[int], None]) -> Any:
        """Run one command; it is sent again if the kept connection turns out to be dead.

        `charge` counts what comes in.
        """
        async with self._turn:
            wire, self._open = self._open, None
            # The server may have closed what was kept: then a new connection is tried.
            if wire is not None:
                wire.reader.charge = charge
                with contextlib.suppress(resp.Broken):
                    return await self._ask_once(wire, command)

            try:
                return await self._ask_once(await self._connect_and_greet(charge), command)
            except resp.Broken as error:
                problem = Retryable(str(error))

            raise problem

    async def aclose(self) -> None:
        """Close the connection."""
        self._closed = True
        wire, self._open = self._open, None
        if wire is not None:
            await wire.aclose()

    async def _ask_once(self, wire: resp.RespConnection, command: tuple[str | bytes, ...]) -> Any:
        try:
            answer = await wire.ask(command)
            self._open = None if self._closed else wire
        finally:
            if self._open is not wire:
                wire.abort()
        if isinstance(answer, resp.Refused):
            raise error_of_refusal(answer.text)
        return answer

    async def _connect_and_greet(self, charge: Callable[[int], None]) -> resp.RespConnection:
        place = self._place
        name = place.host if place.tls else None
        wire = await resp.connect_first(
            place.host, place.port, name, self._namespace, self._timeout, charge
        )
        greeting: list[tuple[str | bytes, ...]] = []
        if place.password:
            greeting.append(("AUTH", *([place.user] if place.user else []), place.password))
        if place.database:
            greeting.append(("SELECT", place.database))

        try:
            for command in greeting:
                answer = await wire.ask(command)
                if isinstance(answer, resp.Refused):
                    raise error_of_refusal(answer.text)
        except BaseException:
            wire.abort()
            raise

        return wire


@dataclass(frozen=True, slots=True, repr=False)
class _Place:
    """What a URL says."""

    host: str
    port: int
    tls: bool
    user: str
    password: str
    database: str


def _place_of(url: str) -> _Place:
    """Return what the URL says; nothing of it is repeated where it cannot be read."""
    parts = _split_url(url)
    if parts is None or parts.query or parts.fragment:
        raise Permanent(f"the Secret's URL cannot be read ({_URL_HINT})")
    if not re.fullmatch(r"/?|/\d{1,5}", parts.path):
        raise Permanent(f"the Secret's URL cannot be read ({_URL_HINT})")
    if not parts.hostname:
        raise Permanent(f"the Secret's URL names no host ({_URL_HINT})")

    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if foreign.has_control(user + password):
        problem = "the Secret's URL may hold no control characters, not even escaped ones"
        raise Permanent(f"{problem} ({_URL_HINT})")

    return _Place(
        host=parts.hostname,
        port=parts.port or 6379,
        tls=parts.scheme == "rediss",
        user=user,
        password=password,
        database=parts.path.strip("/").lstrip("0"),
    )


def _split_url(url: str) -> SplitResult | None:
    if not url.startswith(("redis://", "rediss://")):
        raise Permanent(f"the Secret holds no URL of a Redis ({_URL_HINT})")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def info_of(answer: Any) -> dict[str, str]:
    """Return the fields of an INFO, of all its sections. Raises Permanent."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    if isinstance(text, str) and len(text) > MAX_INFO_BYTES:
        raise Permanent(f"INFO is longer than {MAX_INFO_BYTES // 1024} KiB")
    fields = dict(_info_fields(text)) if isinstance(text, str) else {}
    if not fields:
        raise Permanent("INFO is answered by something else")
    return fields


def _info_fields(info: str) -> Iterator[tuple[str, str]]:
    for line in info.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            yield name.strip(), value.strip()


_server_pool = context.ContextPart(ClientPool[RedisServer], ClientPool.aclose)

"""What the vendors' JSON APIs have in common: when to come back, what a refusal means, and a path
that is safe to build.

    call(link, method, path)    one request, its status judged, its body as JSON
      ├─ a limit that was met   keeps every request of that Connection back until it is over
      └─ client.ask             addresses, time, size, redaction

Nothing is waited for in here: a refusal that names a time becomes `Retryable.after`, and whoever
asks comes back then. A GET that met a broken connection or a 5xx is asked once more, at once; what
may have changed something is not.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

from gatewright.core.fair_memory import FairMemory
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import client, replies, vendor_hosts
from gatewright.providers.common import words as answer_words
from gatewright.providers.common.context import ContextPart
from gatewright.providers.common.secrets import hide_secrets

MAX_WAIT_S = 3600.0
"""Seconds: no answer keeps a Connection back for longer."""
MAX_LIMITS_REMEMBERED = 1024
"""Limits that are remembered at most; no namespace drives out those of another."""
MAX_ID_LENGTH = 128
"""Characters of an id that is kept."""
MAX_CURSOR_LENGTH = 1024
"""Characters of a place in a list, which is sent back as it came."""
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""No character of it ends a segment of a path, or one of a list."""
_MAX_ERROR_BYTES = 8192
"""Characters of an error that are looked at."""
_closed_until = ContextPart(lambda: FairMemory[str, float](MAX_LIMITS_REMEMBERED))
"""When the limit of an identity is over."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How a vendor says that a limit is met, beside 429 and `Retry-After`, which all of them may
    use."""

    reset: str = ""
    """Header that tells when the window ends."""
    unit: Literal["left", "epoch", "epoch-ms"] = "left"
    """What it tells: seconds left, or a point in time in seconds or milliseconds."""
    body: tuple[str, ...] = ()
    """Where a JSON body tells the same, for vendors that do not (only) use a header."""
    remaining: str = ""
    """Header that is `0` on a 403 which is a limit and not a refusal."""
    statuses: frozenset[int] = frozenset({429})
    """Statuses that mean a limit."""
    pause: float = 10.0
    """Seconds to stay away where nothing says how long."""


async def call(
    link: OpenConnection,
    method: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    limits: RateLimits = RateLimits(),
    accepted: frozenset[int] = frozenset(),
) -> replies.Reply:
    """Ask, and judge the status: 2xx and what is `accepted` come back, everything else is raised.

    Values of `query` that are lists are repeated. Raises Retryable (with `after`), Permanent.
    """
    require_open(link)
    target = f"{path}?{urlencode(query, doseq=True)}" if query else path
    reply = await _ask_twice(link, method, target, body, headers or {})

    is_accepted_limit = reply.status == 429 and 429 in accepted
    if _is_limited(reply, limits) and not is_accepted_limit:
        raise _error_of_limit(link, reply, limits)
    if reply.status in accepted:
        return reply
    return _require_ok(link, reply)


async def fetch(link: OpenConnection, path: str, **options: Any) -> Any:
    """Get a path, and return the body as JSON.

    Options as those of `call`. Raises Retryable, Permanent.
    """
    return replies.json_of(await call(link, "GET", path, **options))


def require_open(link: OpenConnection) -> None:
    """Raise Retryable while a limit that this Connection has met is not over."""
    left = (_closed_until().get(link.identity) or 0.0) - time.monotonic()
    if left <= 0:
        _closed_until().pop(link.identity)
        return
    error = Retryable(f"{link.config.url}: its rate limit is met; asked again in {left:.0f}s")
    error.after = left
    raise error


def require_identifier(value: Any, where: str) -> str:
    """Return an id that a stranger gives, fit to be kept and to be named to him again.

    Raises Permanent.
    """
    identifier = str(value) if _is_number_id(value) else value
    if isinstance(identifier, str) and _is_plain_id(identifier):
        return identifier

    raise Permanent(
        f"{where}: the answer gives an id that is none ({answer_words.quote_value(value)})"
    )


def _is_number_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_plain_id(identifier: str) -> bool:
    return len(identifier) <= MAX_ID_LENGTH and _IDENTIFIER.fullmatch(identifier) is not None


def require_cursor(value: Any, where: str) -> str:
    """Return where the next page begins, as a stranger says; empty where there is none.

    Raises Permanent.
    """
    if value is None or value is False or value == "":
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
        return str(value)

    is_short = isinstance(value, str) and len(value) <= MAX_CURSOR_LENGTH
    if is_short and not foreign.has_control(value):
        return str(value)

    raise Permanent(f"{where}: the answer says in no way that is known where its next page begins")


def path_segment(written: str) -> str:
    """Return one segment of a path, whatever it holds."""
    return quote(written, safe="")


def repeatable_text(link: OpenConnection, words: Any) -> str:
    """Return text of an answer as a message may repeat it: of a vendor's own API sentences too, of
    anybody else a short word."""
    if vendor_hosts.is_vendor_host(link):
        return hide_secrets(str(words), link)
    return hide_secrets(answer_words.to_plain_word(words) or "", link)


def message_of(link: OpenConnection, reply: replies.Reply) -> str:
    """Return what an error body says, fit to be repeated: at most 300 characters, no Secrets."""
    words = error_of(reply)
    return repeatable_text(link, words) if words else ""


def error_of(reply: replies.Reply) -> str:
    """Return what an error body says, by the names that vendors use, to be judged and not to be
    repeated."""
    try:
        content = replies.json_of(reply)
    except Permanent:
        return ""

    for name in ("error", "err", "detail", "message", "errors"):
        if isinstance(content, dict) and name in content:
            content = content[name]
            break
    else:
        return ""

    if isinstance(content, dict):
        content = content.get("message") or content.get("detail") or content.get("code") or ""

    return str(content)[:_MAX_ERROR_BYTES]


async def _ask_twice(
    link: OpenConnection, method: str, target: str, body: Any, headers: Mapping[str, str]
) -> replies.Reply:
    # What may have changed something is not asked twice.
    last = method not in ("GET", "HEAD")
    while True:
        try:
            reply = await client.ask(link, method, target, body=body, headers=headers)
        except Retryable:
            if last:
                raise
        else:
            if last or reply.status < 500:
                return reply

        last = True


def _is_limited(reply: replies.Reply, limits: RateLimits) -> bool:
    if reply.status in limits.statuses or reply.status == 429:
        return True
    return reply.status == 403 and bool(
        "retry-after" in reply.headers
        or (limits.remaining and reply.headers.get(limits.remaining) == "0")
    )


def _error_of_limit(link: OpenConnection, reply: replies.Reply, limits: RateLimits) -> Retryable:
    after = min(max(_wait_seconds(reply, limits), 1.0), MAX_WAIT_S)
    _close_until(link, after)
    refusal = f"too many requests ({reply.status})"
    error = Retryable(f"{reply.where}: {refusal}; asked again in {after:.0f}s")
    error.after = after
    return error


def _close_until(link: OpenConnection, after: float) -> None:
    now = time.monotonic()
    # Identities that nobody asks for any more: a Secret was rotated, a Connection is gone.
    for identity in _closed_until().of(link.namespace):
        until = _closed_until().get(identity)
        if until is not None and until <= now:
            _closed_until().pop(identity)
    _closed_until().put(link.namespace, link.identity, now + after)


def _wait_seconds(reply: replies.Reply, limits: RateLimits) -> float:
    stated = reply.headers.get("retry-after", "").strip()
    after = foreign.parse_decimal(stated)
    if after is not None:
        return after

    if stated:
        try:
            return email.utils.parsedate_to_datetime(stated).timestamp() - time.time()
        except (ValueError, OverflowError):
            return limits.pause

    # Another limit was met than the one whose window the header tells.
    if limits.remaining and reply.headers.get(limits.remaining, "0") != "0":
        return limits.pause

    value = reply.headers.get(limits.reset, "").strip() if limits.reset else ""
    value = value or _number_in_body(reply, limits.body)
    number = foreign.parse_decimal(value)
    return limits.pause if number is None else _seconds_left(number, limits)


def _seconds_left(number: float, limits: RateLimits) -> float:
    if limits.unit == "epoch-ms":
        return number / 1000 - time.time()
    if limits.unit == "epoch":
        return number - time.time()
    return number


def _number_in_body(reply: replies.Reply, names: tuple[str, ...]) -> str:
    """Return a number in a JSON body, as text; empty where there is none."""
    if not names:
        return ""
    try:
        content = replies.json_of(reply)
    except Permanent:
        return ""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return "" if content is None else str(content)


def _require_ok(link: OpenConnection, reply: replies.Reply) -> replies.Reply:
    try:
        return replies.require_ok(reply)
    except (Retryable, Permanent) as error:
        why = message_of(link, reply)
        if not why:
            raise
        raise type(error)(f"{error}: {why}") from None

"""What an answer over HTTP means: whether it is one, where it sends, and what JSON it holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from gatewright.core.text import foreign, masking
from gatewright.ports import Permanent, Retryable

_LIST_COST = 16
"""Bytes of plain text that could be parsed as JSON in the time that one object or list takes."""
_VALUE_COST = 2
"""And one value of them."""
_MEANINGS = {
    401: "the credentials are refused",
    403: "the credentials may not do this",
    404: "no such path",
}
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,9}\.?|\[[0-9A-Fa-f:.]{2,45}\]")
_HIDDEN_HOST = "a host that is not shown"


def _free(size: int) -> None:
    """Charge nobody."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in full, whatever its status; `seconds` is from sending the request to the end of
    the body."""

    where: str
    status: int
    headers: CIMultiDictProxy[str]
    location: str
    """Where a redirect leads, as `target_of` tells it."""
    body: bytes
    seconds: float
    charge: Callable[[int], None] = field(default=_free, repr=False, compare=False)
    """Counts what is made of it, in bytes that could have been received instead."""


def require_ok(reply: Reply) -> Reply:
    """Return the answer, if its status says that it is one. Raises Retryable, Permanent."""
    if 200 <= reply.status < 300:
        return reply
    if reply.status == 429:
        raise Retryable(f"{reply.where}: too many requests (429)")
    if reply.status >= 500 or reply.status in (408, 425):
        raise Retryable(f"{reply.where}: answered {reply.status}")

    refuse_redirect(reply)
    meaning = _MEANINGS.get(reply.status, "answered")
    raise Permanent(f"{reply.where}: {meaning} ({reply.status})")


def refuse_redirect(reply: Reply) -> None:
    """Raise Permanent if the answer sends elsewhere: following it would carry the credentials to
    another host."""
    if not 300 <= reply.status < 400:
        return

    remedy = "it is not followed, put the final address into the Connection"
    answered = f"answered {reply.status}, a redirect to {reply.location}"
    raise Permanent(f"{reply.where}: {answered}; {remedy}")


def target_of(location: str) -> str:
    """Return where a redirect leads: scheme, host and port.

    What follows may be a token, and is a stranger's text in any case.
    """
    if not location:
        return "nowhere"

    try:
        url = urlsplit(location)
        port = f":{url.port}" if url.port is not None else ""
    except ValueError:
        return _HIDDEN_HOST

    if not url.scheme and not url.netloc:
        return "another path of the same host"

    host = url.netloc.rpartition("@")[2].removesuffix(port)
    is_strange = url.scheme not in ("", "http", "https") or not _HOST.fullmatch(host)
    if is_strange or masking.is_like_key(host):
        return _HIDDEN_HOST

    scheme = f"{url.scheme}:" if url.scheme else ""
    return f"{scheme}//{host.lower()}{port}"


def json_of(reply: Reply) -> Any:
    """Return the body as JSON. Raises Permanent."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        hint = "(a login page, or a wrong address?)"
        raise Permanent(f"{reply.where}: answered HTML where JSON is expected {hint}")

    problem = ""
    reply.charge(_weight(reply.body))
    try:
        return foreign.parse_json(reply.body)
    except RecursionError:
        problem = "is nested too deeply"
    except foreign.TooManyValues as error:
        problem = str(error)
    except ValueError:
        problem = "is not JSON" if reply.body.strip() else "is empty"

    raise Permanent(f"{reply.where}: the answer {problem}")


def _weight(body: bytes) -> int:
    """Return what parsing JSON costs beside receiving it."""
    return _LIST_COST * (body.count(b"[") + body.count(b"{")) + _VALUE_COST * body.count(b",")

"""What the API server refuses, as our exceptions."""

from __future__ import annotations

from typing import Any

import orjson

from gatewright.core.text import foreign
from gatewright.ports import Conflict, NotFound, Permanent, Retryable


class TimedOut(Retryable):
    """The API server has not answered in time."""


class TooLarge(Permanent):
    """An answer has more bytes than were wanted; it was not read to its end."""


class Gone(Permanent):
    """The API server has forgotten the version that was named; `token` is how a list goes on from
    another one."""

    token: str = ""


def error_of_refusal(method: str, path: str, status: int, text: bytes, after: str) -> Exception:
    """Return the one place where an API server's refusal becomes one of our exceptions."""
    said: Any = {}
    try:
        said = orjson.loads(text)
        message = str(said.get("message", ""))[:500]
    except ValueError:
        message = text[:200].decode(errors="replace")

    words = f"{method} {without_query(path)}: {status} {message}"

    if status == 404:
        return NotFound(words)
    if status == 409:
        return Conflict(words)

    if status == 410:
        gone = Gone(words)
        gone.token = str((said.get("metadata") or {}).get("continue") or "")
        return gone

    if status in (401, 408, 429) or status >= 500:
        error = Retryable(words)
        error.after = foreign.parse_decimal(after.strip()) or 0.0
        return error

    return Permanent(words)


def error_of_too_many(path: str, wanted: str, found: str) -> Permanent:
    """Of a list that anybody can make long."""
    what = f"carry {wanted}" if wanted else "are there"
    return Permanent(
        f"GET {without_query(path)}: too many objects {what} ({found}); delete those that "
        "are not needed"
    )


def without_query(path: str) -> str:
    """A path without its query."""
    return path.partition("?")[0]

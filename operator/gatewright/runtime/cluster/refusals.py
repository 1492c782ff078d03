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
    """Return an API server's refusal as one of our exceptions: the one place where that is done."""
    answer: Any = {}
    try:
        answer = orjson.loads(text)
        message = str(answer.get("message", ""))[:500]
    except ValueError:
        message = text[:200].decode(errors="replace")

    words = f"{method} {without_query(path)}: {status} {message}"

    if status == 404:
        return NotFound(words)
    if status == 409:
        return Conflict(words)

    if status == 410:
        gone = Gone(words)
        gone.token = str((answer.get("metadata") or {}).get("continue") or "")
        return gone

    # It may be gone in a moment; `after` is when the server wants to be asked again.
    if status in (401, 408, 429) or status >= 500:
        error = Retryable(words)
        error.after = foreign.parse_decimal(after.strip()) or 0.0
        return error

    return Permanent(words)


def error_of_too_many(path: str, selection: str, amount: str) -> Permanent:
    """Return the error of a list that anybody can make long."""
    state = f"carry {selection}" if selection else "are there"
    return Permanent(
        f"GET {without_query(path)}: too many objects {state} ({amount}); delete those that "
        "are not needed"
    )


def without_query(path: str) -> str:
    """Return a path without its query."""
    return path.partition("?")[0]

"""OpenAI's API, and what its answer to `GET /models` says of a key. It costs no tokens.

Nothing of an error's text is ever repeated: it may hold parts of the key. What is said is chosen by
status and code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest

_ACCEPTED_STATUSES = frozenset(range(400, 600))
_PLACE_CODES = frozenset({"unsupported_country_region_territory", "ip_not_authorized"})
"""Codes that speak of where the request came from, and not of the key."""


class OpenAIAccess(Model):
    """Where OpenAI's API is and the key that opens it."""

    url: HttpUrl = "https://api.openai.com/v1"
    """Base URL, the version included."""
    apiKey: SecretSource
    """An API key; one that may do nothing but list models is enough."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.apiKey)}"}


@dataclass(frozen=True, slots=True)
class KeyState:
    """What is known of a key."""

    state: Literal["Valid", "Limited", "Refused", "Revoked", "Unknown"]
    """Refused: not accepted, whyever. Revoked: OpenAI says that there is no such key."""
    message: str


async def fetch_key_state(link: OpenConnection) -> KeyState:
    """Return what `GET /models` says of the Connection's key. Raises Retryable, Permanent."""
    reply = await rest.call(link, "GET", "/models", accepted=_ACCEPTED_STATUSES)
    if reply.status in (401, 403, 429):
        return _state_of_refusal(reply.status, _error_code(reply))

    answer = replies.json_of(replies.require_ok(reply))
    if (
        not isinstance(answer, dict)
        or answer.get("object") != "list"
        or not isinstance(answer.get("data"), list)
    ):
        raise Permanent(f"{reply.where}: this is not the OpenAI API")

    if not answer["data"]:
        return KeyState("Unknown", "the key sees no model at all")

    return KeyState("Valid", "the key is valid")


class OpenAIConnection:
    """OpenAI's API with a key that it accepts."""

    config: ClassVar[type[BaseModel]] = OpenAIAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask for the models; a key without permission or quota is a valid key."""
        key = await fetch_key_state(link)
        if key.state not in ("Valid", "Limited"):
            raise Permanent(key.message)


def _error_code(reply: replies.Reply) -> str | None:
    """Return the code of an error as OpenAI has it, empty where it has none.

    None where something else has answered.
    """
    try:
        answer = replies.json_of(reply)
    except Permanent:
        return None
    error: Any = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else None


def _state_of_refusal(status: int, code: str | None) -> KeyState:
    # Whatever else than OpenAI answers, or looks at the caller's place, says nothing of the key.
    elsewhere: Literal["Refused", "Unknown"] = "Refused" if status == 401 else "Unknown"
    if code is None:
        return KeyState(elsewhere, f"answered {status}, not as OpenAI does (a proxy?)")
    if code in _PLACE_CODES:
        return KeyState(elsewhere, f"refused for where the request comes from ({code})")

    if status == 401 and code == "invalid_api_key":
        return KeyState("Revoked", "the key is refused: OpenAI knows no such key (401)")
    if status == 401:
        return KeyState("Refused", "the key is refused (401)")
    if status == 403:
        return KeyState("Limited", "the key is valid, but may not list models (403)")
    if code == "insufficient_quota":
        return KeyState("Limited", "the key is valid, but its quota is used up (429)")
    return KeyState("Limited", "the key is valid, but at its rate limit (429)")

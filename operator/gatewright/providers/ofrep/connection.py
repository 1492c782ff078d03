"""Flag systems that speak OFREP, the OpenFeature Remote Evaluation Protocol 0.3 (flagd, GO Feature
Flag and others).

A flag is evaluated for one context by `POST /ofrep/v1/evaluate/flags/KEY`: `{"key", "value",
"reason", "variant"}`, or `{"key", "errorCode", "errorDetails"}` with status 400 or 404. There is no
way to change one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.api.rules import AtMostOne, Rule
from gatewright.ports import NotFound, OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest, words

_PROBE = "gatewright"
"""A flag that need not exist: the answer tells whether OFREP is spoken and the credentials are
accepted."""
_TRANSIENT = frozenset({"PROVIDER_NOT_READY"})


class OfrepAccess(Model):
    """Where a flag system that speaks OFREP is and how it is opened."""

    rules: ClassVar[tuple[Rule, ...]] = (AtMostOne("bearerToken", "apiKey"),)

    url: HttpUrl
    """Base URL; `/ofrep/v1/...` is appended to it."""
    bearerToken: SecretSource | None = None
    """Sent as `Authorization: Bearer`."""
    apiKey: SecretSource | None = None
    """Sent as `X-API-Key`."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        if self.bearerToken is not None:
            return {"Authorization": f"Bearer {value(self.bearerToken)}"}
        return {"X-API-Key": value(self.apiKey)} if self.apiKey is not None else {}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a flag is for one context."""

    value: Any
    """None where the flag leaves it to the code's own default."""
    reason: str


class OfrepConnection:
    """A flag system that evaluates."""

    config: ClassVar[type[BaseModel]] = OfrepAccess

    async def check(self, link: OpenConnection) -> None:
        """Evaluate a flag that need not exist."""
        reply = await _ask_flag(link, _PROBE, {"targetingKey": _PROBE})
        if reply.status in (400, 404):
            if not _error_code(reply):
                raise Permanent(f"{reply.where}: answered {reply.status}, and not as OFREP does")
            return
        _evaluation_of(reply)


async def evaluate_flag(link: OpenConnection, flag: str, context: Mapping[str, str]) -> Evaluation:
    """Return what a flag is for one context. Raises NotFound, Retryable, Permanent."""
    reply = await _ask_flag(link, flag, context)
    if reply.status == 200:
        return _evaluation_of(reply)

    code = _error_code(reply)
    if code == "FLAG_NOT_FOUND":
        raise NotFound(f"there is no flag {flag}")
    # What gives no code is not OFREP, but something before it.
    if not code:
        replies.require_ok(reply)

    kind = Retryable if code in _TRANSIENT else Permanent
    reason = words.to_plain_word(code) or "for a reason that is no word"
    raise kind(f"{reply.where}: the flag cannot be evaluated ({reason})")


async def _ask_flag(link: OpenConnection, flag: str, context: Mapping[str, str]) -> replies.Reply:
    path = f"/ofrep/v1/evaluate/flags/{rest.path_segment(flag)}"
    return await rest.call(
        link, "POST", path, body={"context": dict(context)}, accepted=frozenset({400, 404})
    )


def _evaluation_of(reply: replies.Reply) -> Evaluation:
    answer = replies.json_of(reply)
    if (
        not isinstance(answer, dict)
        or not isinstance(answer.get("key"), str)
        or "errorCode" in answer
    ):
        raise Permanent(f"{reply.where}: this is not OFREP")
    return Evaluation(answer.get("value"), str(answer.get("reason") or ""))


def _error_code(reply: replies.Reply) -> str:
    try:
        answer = replies.json_of(reply)
    except Permanent:
        return ""
    code = answer.get("errorCode") if isinstance(answer, dict) else None
    return code if isinstance(code, str) else ""

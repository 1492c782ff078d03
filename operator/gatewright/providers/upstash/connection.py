"""Upstash Redis over its REST API (https://upstash.com/docs/redis/features/restapi).

A command is the JSON list that is POSTed to the base URL; the answer is `{"result": ...}`, or
`{"error": "ERR ..."}` with status 400 (a command that failed, or a limit of the plan) or 401.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.redis import connection as redis


class UpstashAccess(Model):
    """Where an Upstash Redis is and how it is opened."""

    url: HttpUrl
    """REST URL of the database (`https://name-12345.upstash.io`)."""
    token: SecretSource
    """Its REST token; the read-only token is enough for gates."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.token)}"}


class UpstashConnection:
    """An Upstash Redis that answers `PING`."""

    config: ClassVar[type[BaseModel]] = UpstashAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask."""
        if await run_command(link, "PING") != "PONG":
            raise Permanent("PING is not answered by PONG; this is not the REST API of Upstash")


async def run_command(link: OpenConnection, *command: str | bytes) -> Any:
    """Send one command. Text comes back as str. Raises Retryable, Permanent."""
    body = [part if isinstance(part, str) else part.decode() for part in command]
    reply = await rest.call(link, "POST", "/", body=body, accepted=frozenset({400, 401}))
    if reply.status == 401:
        replies.require_ok(reply)

    answer = replies.json_of(reply)
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise redis.error_of_refusal(answer["error"])
    if reply.status == 400 or not isinstance(answer, dict) or "result" not in answer:
        raise Permanent(f"{reply.where}: this is not the REST API of Upstash")

    return answer["result"]

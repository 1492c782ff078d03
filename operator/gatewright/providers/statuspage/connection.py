"""Atlassian Statuspage: an API key with one request a second, measured over a minute.

Requests of a key go one after the other, a second apart, whatever asks; who would have to wait too
long is told to come back instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.core.fair_memory import FairMemory
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest
from gatewright.providers.common.context import ContextPart

LIMITS = rest.RateLimits(statuses=frozenset({420, 429}), pause=60.0)
REQUEST_SPACING_S = 1.0
"""Seconds between two requests of a key."""
MAX_TURN_WAIT_S = 10.0
"""Seconds: who would have to wait longer for a turn comes back later."""
_MAX_TURNS_REMEMBERED = 1024
"""Identities whose turns are remembered; no namespace drives out those of another."""
_next_turn = ContextPart(lambda: FairMemory[str, float](_MAX_TURNS_REMEMBERED))
"""When the next request of an identity may be made."""


class StatuspageAccess(Model):
    """An account of Atlassian Statuspage."""

    url: HttpUrl = "https://api.statuspage.io/v1"
    """Base URL of the API."""
    apiKey: SecretSource
    """API key of a user who may manage the page."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"OAuth {value(self.apiKey)}"}


class StatuspageConnection:
    """The API key is one that has pages."""

    config: ClassVar[type[BaseModel]] = StatuspageAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask for the pages of the key."""
        reply = await call(link, "GET", "/pages")
        if not isinstance(replies.json_of(reply), list):
            raise Permanent(f"{reply.where}: the answer is not Statuspage's")


async def call(link: OpenConnection, method: str, path: str, **options: Any) -> replies.Reply:
    """Make one request in its turn; options as those of `rest.call`.

    Raises Retryable, Permanent.
    """
    await _wait_for_turn(link)
    return await rest.call(link, method, path, limits=LIMITS, **options)


async def _wait_for_turn(link: OpenConnection) -> None:
    rest.require_open(link)
    now = time.monotonic()
    at = max(now, _next_turn().get(link.identity) or now)
    # A long queue would keep a worker waiting that others need.
    if at - now > MAX_TURN_WAIT_S:
        error = Retryable(f"{link.config.url}: too many requests wait for their turn")
        error.after = at - now
        raise error

    _next_turn().put(link.namespace, link.identity, at + REQUEST_SPACING_S)
    await asyncio.sleep(at - now)

"""Sentry's web API, of sentry.io or self-hosted.

Every path ends with a slash. A `Link` header always names a next page; whether there is one it
tells by `results="true"`. Limits answer 429, and `X-Sentry-Rate-Limit-Reset` (Unix time) tells when
the window ends; they count all tokens of a caller together.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest

LIMITS = rest.RateLimits(reset="x-sentry-rate-limit-reset", unit="epoch", pause=30.0)
_FORBIDDEN = set('\n\r\t/\\"*')

Slug = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


class ListUnfinished(Exception):
    """A list has more pages than are read."""


def _require_release_version(version: str) -> str:
    if (
        set(version) & _FORBIDDEN
        or version != version.strip()
        or version in ("", ".", "..", "latest")
    ):
        rule = 'it may hold no / \\ " * and no line break, and not be "latest"'
        raise ValueError(f'"{version}" cannot be a release: {rule}')

    return version


ReleaseVersion = Annotated[
    str, AfterValidator(_require_release_version), Field(min_length=1, max_length=200)
]
Environment = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^/\s]+$")]


class SentryAccess(Model):
    """Where Sentry is and how it is opened."""

    url: HttpUrl = "https://us.sentry.io"
    """Base URL: that of the organization's region (`https://us.sentry.io`, `https://de.sentry.io`),
    or of an own server."""
    organization: Slug
    """Slug of the organization."""
    token: SecretSource
    """An auth token: checks need the scope `org:read` (and `event:read` for new issues), steps need
    `project:releases`."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.token)}", "Accept": "application/json"}


async def call(link: OpenConnection, method: str, path: str, **options: Any) -> replies.Reply:
    """Make one request; options as those of `rest.call`. Raises Retryable, Permanent."""
    return await rest.call(link, method, path, limits=LIMITS, **options)


async def fetch(
    link: OpenConnection, path: str, query: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Get an object. Raises Retryable, Permanent."""
    reply = await call(link, "GET", path, query=query)
    return require_object(reply)


async def list_pages(
    link: OpenConnection, path: str, query: Mapping[str, Any] | None = None, most: int = 10
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the pages of a list. Raises ListUnfinished after `most`."""
    cursor: dict[str, str] = {}
    for _ in range(most):
        reply = await call(link, "GET", path, query={**(query or {}), **cursor})
        entries = replies.json_of(reply)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Permanent(f"{reply.where}: this is not the Sentry API")

        yield entries
        # There always is a next page; whether it holds anything the header tells.
        following = _next_cursor(reply.headers.get("link", ""))
        if following is None:
            return

        cursor = {"cursor": following}

    raise ListUnfinished(f"more than {most} pages, which is more than are read")


def organization_path(link: OpenConnection, *parts: str) -> str:
    """Return a path of the organization, every part of it one segment."""
    segments = map(rest.path_segment, (link.config.organization, *parts))
    return "/".join(["/api/0/organizations", *segments, ""])


def require_object(reply: replies.Reply) -> dict[str, Any]:
    """Return the answer, if it is an object. Raises Permanent."""
    answer = replies.json_of(reply)
    if not isinstance(answer, dict):
        raise Permanent(f"{reply.where}: this is not the Sentry API")
    return answer


class SentryConnection:
    """Shows the organization, or, to a token that may do no more, its releases."""

    config: ClassVar[type[BaseModel]] = SentryAccess

    async def check(self, link: OpenConnection) -> None:
        """Raise unless the token opens the organization. Raises Retryable, Permanent."""
        reply = await call(link, "GET", organization_path(link), accepted=frozenset({403}))
        if reply.status != 403:
            if "slug" not in require_object(reply):
                raise Permanent(f"{reply.where}: this is not the Sentry API")
            return
        async for _ in list_pages(link, organization_path(link, "releases"), {"per_page": 1}, 1):
            return


def _next_cursor(header: str) -> str | None:
    for part in header.split(","):
        if 'rel="next"' in part and 'results="true"' in part:
            cursor = re.search(r'cursor="([^"]+)"', part)
            return rest.require_cursor(cursor[1], "Sentry") if cursor else None
    return None

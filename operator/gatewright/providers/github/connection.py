"""GitHub's REST API, of github.com or of an Enterprise server (`https://HOST/api/v3`).

Lists are paged by a `Link` header; its address is not followed, because it could lead elsewhere,
only counted on from. A limit answers 403 or 429: with `retry-after` (seconds), or with
`x-ratelimit-remaining: 0` and `x-ratelimit-reset` (Unix time), or, for the secondary limits, with
words alone, and then a minute is what GitHub asks for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest

LIMITS = rest.RateLimits(
    reset="x-ratelimit-reset", unit="epoch", remaining="x-ratelimit-remaining", pause=60.0
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
_PAGE_ITEMS = 30
"""Entries a page: with more, an answer could be larger than what is read."""


class ListUnfinished(Exception):
    """A list has more pages than are read."""


def _require_repository(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository) or repository.endswith(("/.", "/..", ".git")):
        raise ValueError(f'"{repository}" is not a repository (try OWNER/NAME, as acme/shop)')
    return repository


def _plain_ref(ref: str) -> str:
    bad = ".." in ref or ref.startswith(("/", "-")) or ref.endswith(("/", ".", ".lock"))
    if bad or not ref.isprintable() or set(ref) & set(" ~^:?*[\\"):
        raise ValueError(f'"{ref}" is neither a commit nor a branch nor a tag')
    return ref


Repository = Annotated[
    str,
    AfterValidator(_require_repository),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 256,
            "pattern": r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+|.*\$\(.*)$",
        }
    ),
    Field(max_length=256),
]
Ref = Annotated[str, AfterValidator(_plain_ref), Field(min_length=1, max_length=256)]


class GithubAccess(Model):
    """Where GitHub is and how it is opened."""

    url: HttpUrl = "https://api.github.com"
    """Base URL of the REST API; `https://HOST/api/v3` for an Enterprise server."""
    token: SecretSource
    """A token of a user or an app: reading needs checks, commit statuses, actions, issues and
    metadata; steps need to write deployments or actions, and to read contents."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {
            "Authorization": f"Bearer {value(self.token)}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }


async def call(
    link: OpenConnection,
    method: str,
    path: str,
    *,
    accepted: frozenset[int] = frozenset(),
    **options: Any,
) -> replies.Reply:
    """Make one request; options as those of `rest.call`. Raises Retryable, Permanent."""
    reply = await rest.call(link, method, path, limits=LIMITS, accepted=accepted | {403}, **options)
    if reply.status != 403 or 403 in accepted:
        return reply

    # The secondary limits are told by words alone.
    refusal = rest.error_of(reply).lower()
    if "rate limit" in refusal or "abuse detection" in refusal:
        error = Retryable(
            f"{reply.where}: too many requests (403); asked again in {LIMITS.pause:.0f}s"
        )
        error.after = LIMITS.pause
        raise error

    explanation = rest.message_of(link, reply)
    problem = f"{reply.where}: the credentials may not do this (403)"
    raise Permanent(f"{problem}: {explanation}" if explanation else problem)


async def fetch(link: OpenConnection, path: str, **options: Any) -> dict[str, Any]:
    """Get an object. Raises Retryable, Permanent."""
    reply = await call(link, "GET", path, **options)
    return _require_object(reply, replies.json_of(reply))


async def list_pages(
    link: OpenConnection,
    path: str,
    query: Mapping[str, Any],
    key: str | None = None,
    most: int = 10,
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the pages of a list, which stands under `key` where the answer is an object.

    Raises ListUnfinished after `most`.
    """
    for page in range(1, most + 1):
        page_query = {**query, "per_page": _PAGE_ITEMS, "page": page}
        reply = await call(link, "GET", path, query=page_query)
        entries = replies.json_of(reply)
        if key is not None:
            entries = _require_object(reply, entries).get(key)

        yield require_objects(entries, reply.where)

        # Its address is not followed, because it could lead elsewhere, only counted on from.
        if not re.search(r'rel="?next\b', reply.headers.get("link", "")):
            return

    raise ListUnfinished(f"more than {most * _PAGE_ITEMS} entries, which is more than are read")


def require_objects(entries: Any, where: str) -> list[dict[str, Any]]:
    """Return a list of objects. Raises Permanent."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Permanent(f"{where}: this is not the GitHub API")
    return entries


def repository_path(repository: str, *parts: str) -> str:
    """Return a path in a repository, every part of it one segment."""
    owner, _, name = repository.partition("/")
    return "/".join(["/repos", *map(rest.path_segment, (owner, name, *parts))])


class GithubConnection:
    """Answers what is left of the token's rate limit, which costs nothing."""

    config: ClassVar[type[BaseModel]] = GithubAccess

    async def check(self, link: OpenConnection) -> None:
        """Raise unless the token is one. Raises Retryable, Permanent."""
        reply = await call(link, "GET", "/rate_limit", accepted=frozenset({404}))
        # An Enterprise server without limits says so; anybody else is not GitHub.
        if reply.status == 404:
            if "rate limiting is not enabled" not in rest.error_of(reply).lower():
                raise Permanent(
                    f"{reply.where}: no such path (404); is the URL that of the REST API?"
                )
            return

        if not isinstance(_require_object(reply, replies.json_of(reply)).get("resources"), dict):
            raise Permanent(f"{reply.where}: this is not the GitHub API")


def require_id(record: Any, where: str) -> int:
    """Return the ID of an object. Raises Permanent."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), int):
        raise Permanent(f"{where}: the answer holds no id; is this the GitHub API?")
    return int(record["id"])


def _require_object(reply: replies.Reply, answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise Permanent(f"{reply.where}: this is not the GitHub API")
    return answer

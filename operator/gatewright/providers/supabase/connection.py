"""Supabase's Management API (https://api.supabase.com/api/v1), by an access token.

A limit is one of user, project and endpoint (120 a minute for most); 429 comes with
`X-RateLimit-Reset`, which is the number of seconds left. SQL that is refused is told by SQLSTATE,
as for PostgreSQL: what the server says may hold data of its tables.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest, sqlstates

LIMITS = rest.RateLimits(reset="X-RateLimit-Reset", unit="left", pause=60.0)
_STATE = re.compile(r"\bERROR:\s{1,9}([0-9A-Z]{5}):")

ProjectRef = Annotated[str, StringConstraints(pattern=r"^[a-z]{20}$", max_length=64)]


class SupabaseAccess(Model):
    """Where Supabase's Management API is and how it is opened."""

    url: HttpUrl = "https://api.supabase.com"
    """Base URL of the Management API, without `/v1`."""
    token: SecretSource
    """A personal or OAuth access token. Checks need to read projects, advisors, backups, API keys
    and the database; steps need to write backups and secrets."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.token)}", "Accept": "application/json"}


class SupabaseConnection:
    """Lists the projects that the token may see."""

    config: ClassVar[type[BaseModel]] = SupabaseAccess

    async def check(self, link: OpenConnection) -> None:
        """Raise unless the token is one, and sees a project. Raises Retryable, Permanent."""
        reply = await call(link, "GET", "/v1/projects")
        if not require_list(reply):
            raise Permanent(f"{reply.where}: the token sees no project")


def project_path(project: str, *parts: str) -> str:
    """Return a path in a project, every part of it one segment."""
    return "/".join(["/v1/projects", *map(rest.path_segment, (project, *parts))])


async def call(link: OpenConnection, method: str, path: str, **options: Any) -> replies.Reply:
    """Make one request; options as those of `rest.call`. Raises Retryable, Permanent."""
    return await rest.call(link, method, path, limits=LIMITS, **options)


def require_object(reply: replies.Reply) -> dict[str, Any]:
    """Return the answer, which must be an object. Raises Permanent."""
    answer = replies.json_of(reply)
    if not isinstance(answer, dict):
        raise error_of_strange(reply)
    return answer


def require_list(reply: replies.Reply) -> list[dict[str, Any]]:
    """Return the answer, which must be a list of objects. Raises Permanent."""
    return require_objects(reply, replies.json_of(reply))


def require_objects(reply: replies.Reply, entries: Any) -> list[dict[str, Any]]:
    """Return part of an answer, which must be a list of objects. Raises Permanent."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise error_of_strange(reply)
    return entries


def error_of_strange(reply: replies.Reply) -> Permanent:
    """Return what to raise when an answer is not what the API is known to give."""
    return Permanent(f"{reply.where}: this is not the Supabase API")


async def fetch_status(link: OpenConnection, project: str) -> str:
    """Return the status of a project: `ACTIVE_HEALTHY`, `RESTORING` and so on.

    Raises Retryable, Permanent.
    """
    reply = await call(link, "GET", project_path(project))
    status = require_object(reply).get("status")
    if not isinstance(status, str) or not status:
        raise error_of_strange(reply)
    return status


async def fetch_rows(
    link: OpenConnection, project: str, statement: str, parameters: Sequence[str] = ()
) -> list[tuple[Any, ...]]:
    """Return what one statement finds, asked as Supabase's own read-only user.

    Raises Retryable, Permanent.
    """
    body: dict[str, Any] = {"query": statement}
    if parameters:
        body["parameters"] = list(parameters)

    path = project_path(project, "database", "query", "read-only")
    # A refusal is told by its code, below: its words may hold data.
    accepted = frozenset({400, 422, *range(500, 600)})
    reply = await call(link, "POST", path, body=body, accepted=accepted)
    if reply.status >= 400:
        raise _error_of_refusal(link, reply)

    return [tuple(row.values()) for row in require_list(reply)]


def _error_of_refusal(link: OpenConnection, reply: replies.Reply) -> Retryable | Permanent:
    refusal = rest.error_of(reply)
    state = _STATE.search(refusal)
    if state is None:
        kind = Retryable if reply.status >= 500 else Permanent
        return kind(f"{reply.where}: the statement is refused ({reply.status})")
    return sqlstates.error_of_state(state[1])


def unix_time_of(value: Any) -> float | None:
    """Return a time of the API's as Unix time.

    None where there is none, or none that can be read.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return foreign.to_number(value)
    try:
        moment = datetime.datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def show_age(seconds: float) -> str:
    """Return a length of time in words: `31h`, `12min`, `40s`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"

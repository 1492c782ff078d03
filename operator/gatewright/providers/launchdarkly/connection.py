"""LaunchDarkly's REST API v2: whether a flag's targeting is on in an environment, and its switch by
semantic patch (https://launchdarkly.com/docs/api/feature-flags/patch-feature-flag).

`X-Ratelimit-Reset` is a time in milliseconds. A patch that a scheduled change or an approval
request stands against is refused with 400, unless conflicts are to be ignored: a rollback and a
kill switch ignore them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import Conflict, NotFound, OpenConnection, Permanent
from gatewright.providers.common import replies, rest

_LIMITS = rest.RateLimits(reset="x-ratelimit-reset", unit="epoch-ms")
_PATCH = {"Content-Type": "application/json; domain-model=launchdarkly.semanticpatch"}


class LaunchDarklyAccess(Model):
    """Where LaunchDarkly's REST API is and how it is opened."""

    url: HttpUrl = "https://app.launchdarkly.com"
    """Base URL; `https://app.eu.launchdarkly.com` or `https://app.launchdarkly.us` for those
    instances."""
    token: SecretSource
    """An API access token (not an SDK key), sent as `Authorization`; a reader role is enough for
    gates."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": value(self.token)}


class LaunchDarklyConnection:
    """LaunchDarkly with a token that it accepts."""

    config: ClassVar[type[BaseModel]] = LaunchDarklyAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask who we are."""
        answer = await rest.fetch(link, "/api/v2/caller-identity", limits=_LIMITS)
        if not isinstance(answer, dict) or not isinstance(answer.get("accountId"), str):
            raise Permanent(f"{link.config.url}: this is not LaunchDarkly's API")


async def is_on(link: OpenConnection, project: str, environment: str, flag: str) -> bool:
    """Return whether a flag's targeting is on. Raises NotFound, Retryable, Permanent."""
    path, query = _flag_path(project, flag), {"env": environment}
    reply = await rest.call(
        link, "GET", path, query=query, limits=_LIMITS, accepted=frozenset({404})
    )
    answer = replies.json_of(reply)
    # A 404 of a proxy says nothing of the flag.
    if reply.status == 404:
        if not isinstance(answer, dict) or answer.get("code") != "not_found":
            replies.require_ok(reply)
        raise NotFound(f"there is no flag {flag} in the project {project}")

    is_flag = isinstance(answer, dict) and answer.get("key") == flag
    environments = answer.get("environments") if is_flag else None
    if not isinstance(environments, dict):
        raise Permanent(f"{reply.where}: this is not LaunchDarkly's API")
    if answer.get("archived") is True:
        raise Permanent(f"the flag {flag} is archived")

    return _is_targeting_on(reply, environments, project, environment)


async def switch_flag(
    link: OpenConnection,
    project: str,
    environment: str,
    flag: str,
    on: bool,
    comment: str,
    ignore_conflicts: bool,
) -> None:
    """Turn a flag on or off, once or twice. Raises Conflict, Retryable, Permanent."""
    body = {
        "environmentKey": environment,
        "comment": comment,
        "instructions": [{"kind": "turnFlagOn" if on else "turnFlagOff"}],
    }
    query = {"ignoreConflicts": "true"} if ignore_conflicts else None

    reply = await rest.call(
        link,
        "PATCH",
        _flag_path(project, flag),
        query=query,
        body=body,
        headers=_PATCH,
        limits=_LIMITS,
        accepted=frozenset({409}),
    )
    if reply.status == 409:
        problem = f"somebody else changes the flag {flag} at the same time"
        raise Conflict(f"{reply.where}: {problem} (409)")


def _flag_path(project: str, flag: str) -> str:
    return f"/api/v2/flags/{rest.path_segment(project)}/{rest.path_segment(flag)}"


def _is_targeting_on(
    reply: replies.Reply, environments: dict[str, Any], project: str, environment: str
) -> bool:
    if environment not in environments:
        raise NotFound(f"there is no environment {environment} in the project {project}")

    settings = environments[environment]
    on = settings.get("on") if isinstance(settings, dict) else None
    if not isinstance(on, bool):
        raise Permanent(f"{reply.where}: this is not LaunchDarkly's API")
    return on

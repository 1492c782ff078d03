"""Unleash's admin API: the state of a flag (a "feature") in an environment, and its switch.

The feature itself is read, not its environment: only there Unleash compares the project, and only
there an archived flag is not found. To switch on a flag that has no strategy makes Unleash give it
to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.ports import NotFound, OpenConnection, Permanent
from gatewright.providers.common import replies, rest


class UnleashAccess(Model):
    """Where an Unleash server is and how it is opened."""

    url: HttpUrl
    """Base URL of the instance; `/api/admin/...` is appended to it."""
    token: SecretSource
    """An admin, personal or service account token, sent as `Authorization`; client tokens cannot
    read flags' states."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": value(self.token)}


@dataclass(frozen=True, slots=True)
class FlagState:
    """A flag in one environment."""

    on: bool
    strategies: int


class UnleashConnection:
    """An Unleash server that lists its projects."""

    config: ClassVar[type[BaseModel]] = UnleashAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask for the projects."""
        answer = await rest.fetch(link, "/api/admin/projects")
        if not isinstance(answer, dict) or not isinstance(answer.get("projects"), list):
            raise Permanent(f"{link.config.url}: this is not the admin API of Unleash")


async def fetch_state(link: OpenConnection, project: str, environment: str, flag: str) -> FlagState:
    """Return a flag as it is now. Raises NotFound, Retryable, Permanent."""
    reply = await rest.call(link, "GET", _flag_path(project, flag), accepted=frozenset({404}))
    answer = replies.json_of(reply)
    if not isinstance(answer, dict):
        raise Permanent(f"{reply.where}: this is not the admin API of Unleash")

    if reply.status == 404:
        if answer.get("name") != "NotFoundError":
            replies.require_ok(reply)
        raise NotFound(f"there is no flag {flag} in the project {project}, or it is archived")

    environments = answer.get("environments")
    is_flag = answer.get("name") == flag and answer.get("project") == project
    if not is_flag or not isinstance(environments, list):
        raise Permanent(f"{reply.where}: this is not the admin API of Unleash")

    if answer.get("archived") is not False:
        raise Permanent(f"the flag {flag} is archived")

    return _state_in(reply, environments, project, environment)


async def switch_flag(
    link: OpenConnection, project: str, environment: str, flag: str, on: bool
) -> None:
    """Switch a flag; on twice is on. Raises Retryable, Permanent."""
    switch = "on" if on else "off"
    in_environment = f"environments/{rest.path_segment(environment)}"
    path = f"{_flag_path(project, flag)}/{in_environment}/{switch}"
    await rest.call(link, "POST", path)


def _flag_path(project: str, flag: str) -> str:
    return f"/api/admin/projects/{rest.path_segment(project)}/features/{rest.path_segment(flag)}"


def _state_in(
    reply: replies.Reply, environments: list[Any], project: str, environment: str
) -> FlagState:
    for entry in environments:
        if isinstance(entry, dict) and entry.get("name") == environment:
            on, strategies = entry.get("enabled"), entry.get("strategies")
            if isinstance(on, bool):
                return FlagState(on, len(strategies) if isinstance(strategies, list) else 0)
            raise Permanent(f"{reply.where}: this is not the admin API of Unleash")
    raise NotFound(f"there is no environment {environment} in the project {project}")

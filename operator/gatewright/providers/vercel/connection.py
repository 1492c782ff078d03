"""Vercel's REST API: https://vercel.com/docs/rest-api.

Every request carries the team; limits are kept by endpoint, so a question that met one does not
keep a rollback back (`bucket`). What this module reads is what both a target and flags need: the
project with its last alias request, its production variables (never their values), and deployments
by their `meta`.
"""

from __future__ import annotations

import dataclasses
import email.utils
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.api.rules import AtMostOne, Rule
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest, vendor_hosts, words

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", min_length=1, max_length=100)]
Project = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", min_length=1, max_length=100)
]
_LIMITS = rest.RateLimits(
    reset="x-ratelimit-reset", unit="epoch", body=("error", "limit", "reset"), pause=60.0
)
_ID = re.compile(r"(dpl|prj|team)_[A-Za-z0-9]{1,48}")
_PAGE_ITEMS = 50
_MAX_PAGES = 10
_STATES = ("readyState", "status", "readySubstate")
"""What a deployment says of itself in one word."""
MAX_VARIABLES = 1_000
"""Variables of a project and its team, all environments together."""
_MAX_NAME_LENGTH = 256
_LAST_MS = 253_402_300_800_000.0
"""Milliseconds of the year 10000, which no time is written in."""


class VercelAccess(Model):
    """Vercel's API, by an access token."""

    rules: ClassVar[tuple[Rule, ...]] = (AtMostOne("teamId", "slug"),)

    url: HttpUrl = "https://api.vercel.com"
    """Base URL of the API."""
    token: SecretSource
    """An access token that may see and deploy the projects."""
    teamId: Slug | None = None
    """ID of the team that owns the projects (`team_...`); the token's own account without it."""
    slug: Slug | None = None
    """The team by the name in its URL, in place of `teamId`."""
    protectionBypass: SecretSource | None = None
    """The project's secret of "Protection Bypass for Automation", sent with smoke requests to
    protected deployments."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.token)}"}


class VercelConnection:
    """The token is good, and sees the team."""

    config: ClassVar[type[BaseModel]] = VercelAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask who the token belongs to, and for the team."""
        team = link.config.teamId or link.config.slug
        reply = await call(link, "GET", "/v2/user", accepted=frozenset({401, 403}))
        if reply.status in (401, 403):
            raise Permanent(
                f"{reply.where}: the token is not valid, or has expired ({reply.status})"
            )
        if not isinstance(as_object(replies.json_of(reply)).get("user"), dict):
            raise Permanent(f"{reply.where}: this is not Vercel's API")
        if team is None:
            return

        reply = await call(
            link, "GET", f"/v2/teams/{rest.path_segment(team)}", accepted=frozenset({401, 403, 404})
        )
        if reply.status >= 400:
            raise Permanent(
                f"{reply.where}: the token does not see the team {team} ({reply.status})"
            )


async def call(
    link: OpenConnection,
    method: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
    accepted: frozenset[int] = frozenset(),
    bucket: str = "",
) -> replies.Reply:
    """Make one request for the Connection's team. Raises Retryable, Permanent.

    A rate limit that is met keeps back the requests of the same bucket only.
    """
    whole_query = {**(query or {}), **team_query(link)}
    if bucket:
        link = dataclasses.replace(link, identity=f"{link.identity}/{bucket}")

    return await rest.call(
        link, method, path, query=whole_query, body=body, limits=_LIMITS, accepted=accepted
    )


def team_query(link: OpenConnection) -> dict[str, str]:
    """Return the parameters that say whose the request is."""
    team = {"teamId": link.config.teamId, "slug": link.config.slug}
    return {name: value for name, value in team.items() if value is not None}


async def fetch(
    link: OpenConnection, path: str, query: Mapping[str, Any] | None = None, bucket: str = ""
) -> dict[str, Any]:
    """Get a JSON object. Raises Retryable, Permanent."""
    reply = await call(link, "GET", path, query=query, bucket=bucket)
    answer = replies.json_of(reply)
    if not isinstance(answer, dict):
        raise Permanent(f"{reply.where}: this is not Vercel's API")
    return answer


async def fetch_project(link: OpenConnection, name: str) -> dict[str, Any]:
    """Return a project by name or ID, with its last alias request. Raises Retryable, Permanent."""
    answer = await fetch(link, f"/v9/projects/{rest.path_segment(name)}", {"rollbackInfo": "true"})
    return require_project(link, answer, f"{link.config.url}/v9/projects/{name}")


def require_project(link: OpenConnection, project: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return an answer, if it is a project. Raises Permanent."""
    target = as_object(as_object(project.get("targets")).get("production"))
    last = as_object(project.get("lastAliasRequest"))
    deployments = [
        identity
        for identity in (target.get("id"), last.get("toDeploymentId"))
        if identity is not None
    ]
    for identity in (project.get("id"), *deployments):
        require_id(link, identity, where)

    require_texts(last, ("jobStatus", "type"), where)

    return {**project}


def require_id(link: OpenConnection, identity: Any, where: str) -> str:
    """Return an ID, which messages repeat: of anybody but Vercel only one that looks like Vercel's.

    Raises Permanent.
    """
    if isinstance(identity, str):
        is_vendors = len(identity) <= rest.MAX_ID_LENGTH and vendor_hosts.is_vendor_host(link)
        if is_vendors or _ID.fullmatch(identity) or foreign.to_plain_word(identity):
            return identity

    raise Permanent(f"{where}: this is not Vercel's API")


async def fetch_deployment(link: OpenConnection, identity: str) -> dict[str, Any] | None:
    """Return a deployment in full; None where it is gone. Raises Retryable, Permanent."""
    path = f"/v13/deployments/{rest.path_segment(identity)}"
    reply = await call(link, "GET", path, accepted=frozenset({404, 410}))
    if reply.status >= 400:
        return None

    deployment = as_object(replies.json_of(reply))
    if require_id(link, deployment.get("id"), reply.where) != identity:
        raise Permanent(f"{reply.where}: the answer is about another deployment")

    require_texts(deployment, _STATES, reply.where)
    return deployment


def require_texts(record: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raise Permanent unless what is compared with words is a word, or not there."""
    for name in names:
        if not isinstance(record.get(name), str | None):
            raise Permanent(
                f"{where}: this is not Vercel's API ({name} is {words.quote_value(record[name])})"
            )


async def list_marked(link: OpenConnection, project_id: str, **meta: str) -> list[dict[str, Any]]:
    """Return production deployments that carry these entries in their `meta`, newest first.

    The `meta-` parameters are what `vercel list --meta` sends; where they are ignored, the newest
    500 are looked through.

    Raises Retryable, Permanent.
    """
    where = f"{link.config.url}/v6/deployments"
    query: dict[str, Any] = {"projectId": project_id, "target": "production", "limit": _PAGE_ITEMS}
    query |= {f"meta-{name}": value for name, value in meta.items()}

    deployments: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        answer = await fetch(link, "/v6/deployments", query)
        page = answer.get("deployments")
        if not isinstance(page, list):
            raise Permanent(f"{where}: this is not Vercel's API")

        deployments = [
            _listed_deployment(link, deployment, where)
            for deployment in page
            if _is_marked(deployment, meta)
        ]
        following = rest.require_cursor(as_object(answer.get("pagination")).get("next"), where)
        if deployments or not following:
            break
        query["until"] = following

    return sorted(deployments, key=created_at, reverse=True)


def _is_marked(deployment: Any, meta: Mapping[str, str]) -> bool:
    if not isinstance(deployment, dict):
        return False
    return meta.items() <= as_object(deployment.get("meta")).items()


def _listed_deployment(
    link: OpenConnection, deployment: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return an entry of the list, whose `id` the vendor calls `uid`. Raises Permanent."""
    require_texts(deployment, _STATES, where)
    identity = require_id(link, deployment.get("uid") or deployment.get("id"), where)
    return {**deployment, "id": identity}


@dataclass(frozen=True, slots=True)
class Variables:
    """What production is built with."""

    own: list[dict[str, Any]]
    """The project's own variables."""
    shared: list[dict[str, Any]]
    """Variables of the team that are linked to the project."""
    unseen: str
    """What cannot be seen, in words; empty where everything can."""
    now: float
    """When this was so, by Vercel's own clock, in milliseconds."""


async def fetch_variables(
    link: OpenConnection, project_id: str, target: str = "production", bucket: str = ""
) -> Variables:
    """Return the variables of an environment. Raises Retryable, Permanent."""
    path = f"/v10/projects/{rest.path_segment(project_id)}/env"
    reply = await call(link, "GET", path, bucket=bucket)
    own, hidden = await _fetch_all(link, path, {}, "envs", reply)
    shared, unseen = await _fetch_shared(link, project_id, bucket)
    if hidden:
        unseen = f"{hidden} variables of production are hidden from this token"

    _require_variables([*own, *shared], f"{link.config.url}{path}")
    return Variables(
        [variable for variable in own if reaches_target(variable, target)],
        [variable for variable in shared if reaches_target(variable, target)],
        unseen,
        _server_time_ms(reply),
    )


async def _fetch_shared(
    link: OpenConnection, project_id: str, bucket: str
) -> tuple[list[dict[str, Any]], str]:
    """Return the team's variables that are linked to a project, and what cannot be seen of them.

    Raises Retryable, Permanent.
    """
    # Only a team has shared variables.
    if not (link.config.teamId or link.config.slug):
        return [], ""

    query = {"projectId": project_id}
    accepted = frozenset({403})
    reply = await call(link, "GET", "/v1/env", query=query, accepted=accepted, bucket=bucket)
    if reply.status == 403:
        return [], "the team's shared variables cannot be seen by this token (403)"

    shared, _ = await _fetch_all(link, "/v1/env", query, "data", reply)
    return shared, ""


async def fetch_plain_value(link: OpenConnection, project_id: str, identity: str) -> str | None:
    """Return the value of an encrypted variable; None where Vercel does not give it.

    Raises Retryable, Permanent.
    """
    path = f"/v1/projects/{rest.path_segment(project_id)}/env/{rest.path_segment(identity)}"
    answer = await fetch(link, path)
    value = answer.get("value")
    return value if isinstance(value, str) and answer.get("decrypted", True) else None


def reaches_target(variable: Mapping[str, Any], target: str) -> bool:
    """Return whether a variable belongs to an environment as a whole."""
    named = variable.get("target")
    targets = named if isinstance(named, list) else [named]
    return target in targets and not variable.get("gitBranch")


def created_at(deployment: Mapping[str, Any]) -> float:
    """Return when a deployment was created, in Vercel's milliseconds."""
    return _moment_or(deployment.get("createdAt", deployment.get("created")), 0.0)


def updated_at(variable: Mapping[str, Any]) -> float:
    """Return when a variable was changed last, in Vercel's milliseconds.

    Just now where that is not told.
    """
    return _moment_or(variable.get("updatedAt") or variable.get("createdAt"), time.time() * 1000)


def _moment_or(at: Any, otherwise: float) -> float:
    """Return a time in milliseconds, if it is one."""
    moment = foreign.to_number(at)
    return moment if moment is not None and 0 <= moment < _LAST_MS else otherwise


async def _fetch_all(
    link: OpenConnection,
    path: str,
    query: dict[str, Any],
    field: str,
    first: replies.Reply,
) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of all pages of a list, and how many are hidden."""
    where = f"{link.config.url}{path}"
    answer = as_object(replies.json_of(first))
    entries: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        page = answer.get(field)
        if not isinstance(page, list):
            raise Permanent(f"{where}: this is not Vercel's API")
        entries += [entry for entry in page if isinstance(entry, dict)]

        following = rest.require_cursor(as_object(answer.get("pagination")).get("next"), where)
        if not following:
            hidden = answer.get("hiddenProductionEnvCount")
            return entries, hidden if isinstance(hidden, int) else 0
        answer = await fetch(link, path, {**query, "until": following})

    # A variable that was not read could have changed unseen, so half a list is none.
    raise Permanent(f"{where}: has more pages than are read")


def _require_variables(variables: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise Permanent unless the variables are few, each with a name and an id.

    They are recorded with each snapshot.
    """
    if len(variables) > MAX_VARIABLES:
        raise Permanent(
            f"{where}: {len(variables)} variables are more than are compared ({MAX_VARIABLES})"
        )

    for variable in variables:
        require_texts(variable, ("key", "id"), where)
        if any(len(variable.get(name) or "") > _MAX_NAME_LENGTH for name in ("key", "id")):
            problem = f"a variable's name has more than {_MAX_NAME_LENGTH} characters"
            raise Permanent(f"{where}: this is not Vercel's API ({problem})")


def _server_time_ms(reply: replies.Reply) -> float:
    try:
        return email.utils.parsedate_to_datetime(reply.headers.get("date", "")).timestamp() * 1000
    except (ValueError, OverflowError):
        return time.time() * 1000


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}

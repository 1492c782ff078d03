"""Vercel's REST API: https://vercel.com/docs/rest-api.

Every request carries the team; limits are kept by endpoint, so a question that met one does not
keep a rollback back (`bucket`). What this module reads is what both a target and flags need: the
project with its last alias request, its production variables (never their values), deployments by
their `meta`, and the ends of logs.
"""

from __future__ import annotations

import dataclasses
import email.utils
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints, model_validator

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.core.text import foreign, masking
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import client, rest
from gatewright.providers.common.http_connector import HttpConnector
from gatewright.providers.common.secrets import hide_secrets

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

    @model_validator(mode="after")
    def _one_team(self) -> VercelAccess:
        if self.teamId is not None and self.slug is not None:
            raise ValueError("has both teamId and slug; keep one")
        return self


class VercelConnection(HttpConnector):
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
        if not isinstance(as_object(client.json_of(reply)).get("user"), dict):
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
) -> client.Reply:
    """One request for the Connection's team. Raises Retryable, Permanent.

    A rate limit that is met keeps back the requests of the same bucket only.
    """
    team = {"teamId": link.config.teamId, "slug": link.config.slug}
    whole = {**(query or {}), **{name: value for name, value in team.items() if value is not None}}
    asked = dataclasses.replace(link, identity=f"{link.identity}/{bucket}") if bucket else link
    return await rest.call(
        asked, method, path, query=whole, body=body, limits=_LIMITS, accepted=accepted
    )


async def fetch(
    link: OpenConnection, path: str, query: Mapping[str, Any] | None = None, bucket: str = ""
) -> dict[str, Any]:
    """GET a JSON object. Raises Retryable, Permanent."""
    reply = await call(link, "GET", path, query=query, bucket=bucket)
    answer = client.json_of(reply)
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
    own = (
        isinstance(identity, str)
        and len(identity) <= rest.MAX_ID_LENGTH
        and rest.is_vendor_host(link)
    )
    if isinstance(identity, str) and (
        own or _ID.fullmatch(identity) or foreign.to_plain_word(identity)
    ):
        return identity

    raise Permanent(f"{where}: this is not Vercel's API")


async def fetch_deployment(link: OpenConnection, identity: str) -> dict[str, Any] | None:
    """Return a deployment in full; None where it is gone. Raises Retryable, Permanent."""
    path = f"/v13/deployments/{rest.path_segment(identity)}"
    reply = await call(link, "GET", path, accepted=frozenset({404, 410}))
    if reply.status >= 400:
        return None
    deployment = as_object(client.json_of(reply))
    if require_id(link, deployment.get("id"), reply.where) != identity:
        raise Permanent(f"{reply.where}: the answer is about another deployment")
    require_texts(deployment, _STATES, reply.where)
    return deployment


def require_texts(record: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """What is compared with words is a word, or not there. Raises Permanent."""
    for name in names:
        if not isinstance(record.get(name), str | None):
            raise Permanent(
                f"{where}: this is not Vercel's API ({name} is {foreign.quote_value(record[name])})"
            )


async def list_marked(link: OpenConnection, project_id: str, **meta: str) -> list[dict[str, Any]]:
    """Production deployments that carry these entries in their `meta`, newest first.

    The `meta-` parameters are what `vercel list --meta` sends; where they are ignored, the newest
    500 are looked through.

    Raises Retryable, Permanent.
    """
    query: dict[str, Any] = {"projectId": project_id, "target": "production", "limit": _PAGE_ITEMS}
    query |= {f"meta-{name}": value for name, value in meta.items()}
    deployments: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        answer = await fetch(link, "/v6/deployments", query)
        page = answer.get("deployments")
        if not isinstance(page, list):
            raise Permanent(f"{link.config.url}/v6/deployments: this is not Vercel's API")

        marked = [
            deployment
            for deployment in page
            if isinstance(deployment, dict)
            and meta.items() <= as_object(deployment.get("meta")).items()
        ]
        where = f"{link.config.url}/v6/deployments"
        for deployment in marked:
            require_texts(deployment, _STATES, where)

        deployments += [
            {
                **deployment,
                "id": require_id(link, deployment.get("uid") or deployment.get("id"), where),
            }
            for deployment in marked
        ]
        following = rest.require_cursor(as_object(answer.get("pagination")).get("next"), where)
        if deployments or not following:
            break

        query["until"] = following

    return sorted(deployments, key=created_at, reverse=True)


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
    unseen = f"{hidden} variables of production are hidden from this token" if hidden else ""
    shared: list[dict[str, Any]] = []
    if link.config.teamId or link.config.slug:
        query = {"projectId": project_id}
        answer = await call(
            link, "GET", "/v1/env", query=query, accepted=frozenset({403}), bucket=bucket
        )
        if answer.status == 403:
            unseen = unseen or "the team's shared variables cannot be seen by this token (403)"
        else:
            shared = (await _fetch_all(link, "/v1/env", query, "data", answer))[0]

    _require_variables([*own, *shared], f"{link.config.url}{path}")

    return Variables(
        [variable for variable in own if reaches_target(variable, target)],
        [variable for variable in shared if reaches_target(variable, target)],
        unseen,
        _server_time_ms(reply),
    )


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
    return target in (named if isinstance(named, list) else [named]) and not variable.get(
        "gitBranch"
    )


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


async def fetch_build_log(link: OpenConnection, identity: str) -> str:
    """Return the end of a deployment's build log, in one line; of anybody but Vercel none.

    Raises Retryable, Permanent.
    """
    if not rest.is_vendor_host(link):
        return ""

    query = {"builds": 1, "direction": "backward", "limit": 30}
    reply = await call(
        link,
        "GET",
        f"/v3/deployments/{rest.path_segment(identity)}/events",
        query=query,
        bucket="logs",
    )
    events = client.json_of(reply)
    if not isinstance(events, list):
        return ""

    printed = [
        event
        for event in events
        if isinstance(event, dict) and event.get("type") in ("stdout", "stderr", "fatal")
    ]
    lines = [
        str(event.get("text") or as_object(event.get("payload")).get("text") or "")
        for event in printed
    ]
    return log_tail(reversed(lines), link)


async def fetch_runtime_log(link: OpenConnection, project_id: str, identity: str) -> str:
    """Return the end of what a deployment logged: lines of level error and fatal, else of any.

    The vendor sends a line as it happens and does not end: what has come after half the
    Connection's time is taken. Of anybody but Vercel there is none: a log is text of whoever is at
    the URL.

    Raises Retryable, Permanent.
    """
    if not rest.is_vendor_host(link):
        return ""

    path = f"/v1/projects/{rest.path_segment(project_id)}/deployments/{rest.path_segment(identity)}/runtime-logs"
    team = {"teamId": link.config.teamId, "slug": link.config.slug}
    query = "&".join(
        f"{name}={rest.path_segment(value)}" for name, value in team.items() if value is not None
    )
    headers = {"Accept": "application/stream+json"}
    reply = await client.ask(
        link, "GET", f"{path}?{query}" if query else path, headers=headers, enough=link.timeout / 2
    )
    client.require_ok(reply)
    lines = list(_log_records(reply.body))
    bad = [line for line in lines if line.get("level") in ("error", "fatal")]
    return log_tail([str(line.get("message", "")) for line in bad or lines], link)


def log_tail(lines: Iterable[str], link: OpenConnection) -> str:
    """Return the last words of a log, in one line, without what looks like a secret."""
    return masking.mask_ending(
        hide_secrets(masking.take_end(masking.join_lines(lines)), link, masking.MOST_TEXT_CHARS)
    )


def repeatable_sentence(link: OpenConnection, sentence: Any) -> str:
    """Return what Vercel says of a deployment, as a message may repeat it.

    Of anybody else a short word.
    """
    if rest.is_vendor_host(link):
        return log_tail([str(sentence)], link)
    return rest.repeatable_text(link, sentence)


def _log_records(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        try:
            record = foreign.parse_json(line)
        except ValueError:
            continue  # the last line may have been cut
        if isinstance(record, dict) and record.get("source") != "delimiter":
            yield record


async def _fetch_all(
    link: OpenConnection,
    path: str,
    query: dict[str, Any],
    field: str,
    first: client.Reply | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Return all pages of a list, and how many items are hidden."""
    if first is not None:
        answer = as_object(client.json_of(first))
    else:
        answer = await fetch(link, path, query)

    entries: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        page = answer.get(field)
        if not isinstance(page, list):
            raise Permanent(f"{link.config.url}{path}: this is not Vercel's API")

        entries += [entry for entry in page if isinstance(entry, dict)]
        following = rest.require_cursor(
            as_object(answer.get("pagination")).get("next"), f"{link.config.url}{path}"
        )
        if not following:
            hidden = answer.get("hiddenProductionEnvCount")
            return entries, hidden if isinstance(hidden, int) else 0

        answer = await fetch(link, path, {**query, "until": following})

    raise Permanent(f"{link.config.url}{path}: has more pages than are read")


def _require_variables(variables: Sequence[Mapping[str, Any]], where: str) -> None:
    """They are recorded with each snapshot: few, each with a name and an id. Raises Permanent."""
    if len(variables) > MAX_VARIABLES:
        raise Permanent(
            f"{where}: {len(variables)} variables are more than are compared ({MAX_VARIABLES})"
        )

    for variable in variables:
        require_texts(variable, ("key", "id"), where)
        if any(len(variable.get(name) or "") > _MAX_NAME_LENGTH for name in ("key", "id")):
            raise Permanent(
                f"{where}: this is not Vercel's API (a variable's name has more than "
                f"{_MAX_NAME_LENGTH} characters)"
            )


def _server_time_ms(reply: client.Reply) -> float:
    try:
        return email.utils.parsedate_to_datetime(reply.headers.get("date", "")).timestamp() * 1000
    except (ValueError, OverflowError):
        return time.time() * 1000


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}

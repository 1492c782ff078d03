"""What Vercel's production is, and how it came to be that: read, and nothing else.

A project tells two things that belong together: the deployment that got the production domains by
itself (`targets.production`), and the last request to move them (`lastAliasRequest`). The later of
the two counts.

Who has moved them is told as far as Vercel tells it: who made a deployment, and who rolled back.
Who promoted, it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from gatewright.core.model.operation import Operation
from gatewright.core.run import clocks
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import rest, vendor_hosts
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object

KEY, RUN, VERSION = "gatewrightKey", "gatewrightRun", "gatewrightVersion"
"""What a deployment's `meta` says: the operation and the run that made it, and its version."""
BASE, SOURCE, FLAGS = "gatewrightBase", "gatewrightSource", "gatewrightFlags"
"""The deployment that it is with other flags; or the one that it brings back, and which flags of
the run it still has."""
ORIGIN = "originalDeploymentId"
"""What Vercel adds to the `meta` of a copy."""
_AUTHOR_FIELDS = (
    "githubCommitAuthorLogin",
    "gitlabCommitAuthorLogin",
    "bitbucketCommitAuthorName",
    "gitCommitAuthorName",
)
"""Where the `meta` of a deployment names the author of its commit."""
_CLOCK_SKEW_MS = 5_000.0
"""Milliseconds by which Vercel's clock may be behind ours."""
_SAME_MOMENT_MS = 60_000.0
"""Milliseconds between a request to roll back and what is told of it."""
_REPOSITORY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "github": ("repoId",),
    "github-limited": ("repoId",),
    "gitlab": ("projectId",),
    "bitbucket": ("repoUuid", "workspaceUuid"),
}
"""What names a repository, by the kind of Git source; of any other kind nothing is known here."""


async def list_made_by(
    link: OpenConnection, project: Mapping[str, Any], **meta: str
) -> list[dict[str, Any]]:
    """Return production deployments with these entries in their meta, newest first.

    They are as the list tells them. Copies of them, which somebody has made by Redeploy or Promote,
    carry the same meta and are left out.

    Raises Retryable, Permanent.
    """
    deployments = await vercel.list_marked(link, project["id"], **meta)
    keys = {deployment["id"]: _meta_of(deployment).get(KEY) for deployment in deployments}
    return [
        deployment
        for deployment in deployments
        if keys.get(_meta_of(deployment).get(ORIGIN), deployment) != keys[deployment["id"]]
    ]


async def find_deployment(
    link: OpenConnection, project: Mapping[str, Any], **meta: str
) -> dict[str, Any] | None:
    """Return the newest production deployment with these entries in its meta, in full.

    Raises Retryable, Permanent.
    """
    made = await list_made_by(link, project, **meta)
    if not made:
        return None

    newest = made[0]
    deployment = await vercel.fetch_deployment(link, newest["id"])
    # The list still shows what is gone already.
    if deployment is None:
        return {**newest, "readyState": "DELETED"}

    if deployment.get("projectId") not in (None, project["id"]):
        other = f"{newest['id']} belongs to another project than {project['id']}"
        raise Permanent(f"{other}; nothing is done with it")
    return deployment


def is_copy(deployment: Mapping[str, Any]) -> bool:
    """Return whether somebody has made a deployment out of another one, whose meta it carries."""
    meta = _meta_of(deployment)
    origin = meta.get(ORIGIN)
    return bool(origin) and origin not in (meta.get(BASE), meta.get(SOURCE))


def production_id(project: Mapping[str, Any]) -> str | None:
    """Return the ID of the deployment that the production domains lead to."""
    target = as_object(as_object(project.get("targets")).get("production"))
    last = as_object(project.get("lastAliasRequest"))
    if last.get("jobStatus") != "succeeded":
        return target.get("id")
    return target.get("id") if _is_later(target, last) else last.get("toDeploymentId")


async def record_production(
    link: OpenConnection, project: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what production is, to return to; None where there is nothing.

    Raises Retryable, Permanent.
    """
    live = production_id(project)
    deployment = await vercel.fetch_deployment(link, live) if live else None
    if deployment is None:
        return None

    variables = await vercel.fetch_variables(link, project["id"])
    recorded_variables = [
        [variable.get("key"), variable.get("id"), foreign.to_number(variable.get("updatedAt"))]
        for variable in (*variables.own, *variables.shared)
    ]
    return {
        "deployment": deployment["id"],
        "url": rest.repeatable_text(link, deployment.get("url")),
        "createdAt": vercel.created_at(deployment),
        "version": known_version(link, deployment),
        "git": git_of(deployment),
        "env": recorded_variables,
    }


def version_of(deployment: Mapping[str, Any]) -> str | None:
    """Return which version a deployment is: as it was marked, else its Git ref, else its commit."""
    meta = _meta_of(deployment)
    if meta.get(VERSION):
        return str(meta[VERSION])

    names = ("githubCommitRef", "gitlabCommitRef", "bitbucketCommitRef")
    ref = as_object(deployment.get("gitSource")).get("ref") or _first_of(meta, names)
    return plain_version(str(ref)) if ref else commit_of(deployment)


def _first_of(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of these fields that says something; None where none does."""
    return next((record[name] for name in names if record.get(name)), None)


def known_version(link: OpenConnection, deployment: Mapping[str, Any]) -> str | None:
    """Return which version a deployment is, as it may be told.

    None where whoever is not Vercel calls it by no short word.
    """
    version = version_of(deployment)
    if version is None or vendor_hosts.is_vendor_host(link):
        return version
    return rest.repeatable_text(link, version) or None


def commit_of(deployment: Mapping[str, Any]) -> str | None:
    """Return the commit that a deployment was built from."""
    names = ("githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha", "gitCommitSha")
    source = as_object(deployment.get("gitSource"))
    sha = source.get("sha") or _first_of(_meta_of(deployment), names)
    return str(sha) if sha else None


def plain_version(ref: str) -> str:
    """Return the version that a Git ref stands for: `v2.4.0` is 2.4.0."""
    return ref[1:] if re.match(r"v\d", ref) else ref


def git_of(deployment: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the Git source of a deployment, pinned to its commit, as a new deployment takes it.

    None where it has none.
    """
    git, sha = as_object(deployment.get("gitSource")), commit_of(deployment)
    repository = {
        name: git[name]
        for name in _REPOSITORY_FIELDS.get(str(git.get("type")), ())
        if git.get(name) is not None
    }
    if not sha or not repository:
        return None
    return {"type": git["type"], "ref": git.get("ref") or sha, "sha": sha, **repository}


def began_at(operation: Operation) -> float:
    """Return when an operation began, in Vercel's milliseconds; 0 where that is not known."""
    if operation.since is None:
        return 0.0
    return clocks.parse_time(operation.since).timestamp() * 1000 - _CLOCK_SKEW_MS


def request_to(project: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """Return the last request to move the domains, if it was to this deployment."""
    last = as_object(project.get("lastAliasRequest"))
    return last if last.get("toDeploymentId") == identity else {}


def moving_to(project: Mapping[str, Any]) -> str | None:
    """Return to which deployment the domains are moving right now; None where they stay."""
    last = as_object(project.get("lastAliasRequest"))
    if last.get("jobStatus") in ("pending", "in-progress"):
        return str(last.get("toDeploymentId"))
    return None


# --- in words


def describe_deployment(link: OpenConnection, deployment: Mapping[str, Any]) -> str:
    """Return a deployment in words: `dpl_9 (main, commit 1a2b3c4)`."""
    version, commit = version_of(deployment), commit_of(deployment)
    parts: list[str] = []
    if version and version != commit:
        parts.append(rest.repeatable_text(link, version))

    short = rest.repeatable_text(link, commit[:7]) if commit else ""
    if short:
        parts.append(f"commit {short}")

    description = ", ".join(part for part in parts if part)
    return f"{deployment['id']} ({description})" if description else str(deployment["id"])


def describe_makers(
    link: OpenConnection, project: Mapping[str, Any], deployment: Mapping[str, Any]
) -> str:
    """Return who has made a deployment, and who has moved the domains to it and when.

    That is told as far as Vercel tells.
    """
    parts = (_describe_move(project, deployment), _describe_creator(deployment))
    makers = rest.repeatable_text(link, "; ".join(part for part in parts if part))
    return makers or "who has made it is not told"


def time_of(at: Any) -> str:
    """Return Vercel's milliseconds as RFC 3339; empty where that is no time."""
    if not 0 < _number_or_zero(at) < 1e14:
        return ""
    moment = datetime.fromtimestamp(_number_or_zero(at) / 1000, UTC)
    return moment.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _describe_move(project: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    identity = deployment["id"]
    last = request_to(project, identity)
    target = as_object(as_object(project.get("targets")).get("production"))

    # Without a request it got the domains by itself, when it was built.
    if not last:
        since = time_of(target.get("aliasAssigned")) if target.get("id") == identity else ""
        return f"Vercel gave it the domains at {since}" if since else ""

    kind = str(last.get("type"))
    verb = {"promote": "promoted", "rollback": "rolled back to"}.get(kind, kind)
    return f"{verb} at {time_of(last.get('requestedAt'))}{_describe_rollback(project, last)}"


def _is_later(target: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Return whether the domains were assigned after the last request to move them."""
    newest = max(
        _number_or_zero(target.get(name))
        for name in ("createdAt", "ready", "readyAt", "aliasAssigned")
    )
    return newest > _number_or_zero(last.get("requestedAt"))


def _number_or_zero(value: Any) -> float:
    return foreign.to_number(value) or 0.0


def _describe_rollback(project: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    description = as_object(project.get("rollbackDescription"))
    described_at = _number_or_zero(description.get("createdAt"))
    apart = abs(described_at - _number_or_zero(last.get("requestedAt")))
    # Vercel keeps the last description, which may be that of an earlier rollback.
    if last.get("type") != "rollback" or apart > _SAME_MOMENT_MS:
        return ""

    who = description.get("username") or description.get("userId")
    why = str(description.get("description") or "")
    return (f" by {who}" if who else "") + (f' ("{why}")' if why else "")


def _describe_creator(deployment: Mapping[str, Any]) -> str:
    meta = _meta_of(deployment)
    who = _first_of(
        as_object(deployment.get("creator")), ("username", "githubLogin", "email", "uid")
    )
    at = time_of(vercel.created_at(deployment))
    parts = [f"by {who}" if who else "", f"at {at}" if at else ""]
    made = " ".join(part for part in parts if part)
    if not made:
        return ""

    author = _first_of(meta, _AUTHOR_FIELDS)
    copied = f"a copy of {meta[ORIGIN]}, " if is_copy(deployment) else ""
    by = f", its commit is {author}'s" if author and author != who else ""
    return f"{copied}made {made}{by}"


def _meta_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return as_object(deployment.get("meta"))

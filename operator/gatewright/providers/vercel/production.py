"""What Vercel's production is, and how it came to be that: read, and nothing else.

A project tells two things that belong together: the deployment that got the production domains by
itself (`targets.production`), and the last request to move them (`lastAliasRequest`). The later of
the two counts.

Who has moved them is told as far as Vercel tells it: who made a deployment, and who rolled back.
Who promoted, it does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object

KEY, RUN, VERSION = "gatewrightKey", "gatewrightRun", "gatewrightVersion"
"""What a deployment's `meta` says: the operation and the run that made it, and its version."""
BASE, SOURCE, FLAGS = "gatewrightBase", "gatewrightSource", "gatewrightFlags"
"""The deployment that it is with other flags; or the one that it brings back, and which flags of
the run it still has."""
ORIGIN = "originalDeploymentId"
"""What Vercel adds to the `meta` of a copy."""
_SAME_MOMENT_MS = 60_000.0
"""Milliseconds between a request to roll back and what is told of it."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "github": ("repoId",),
    "github-limited": ("repoId",),
    "gitlab": ("projectId",),
    "bitbucket": ("repoUuid", "workspaceUuid"),
}
"""What names a repository, by the kind of Git source; of any other kind nothing is known here."""


def run_of(key: str) -> str:
    """Return the run that an operation belongs to, unlike any other run of any Release."""
    return f"{key.partition('.')[0]}-{key.rpartition('-')[2]}"


async def list_made_by(
    link: OpenConnection, project: Mapping[str, Any], **meta: str
) -> list[dict[str, Any]]:
    """Production deployments with these entries in their meta, newest first, as the list tells
    them.

    Copies of them, which somebody has made by Redeploy or Promote, carry the same meta and are left
    out.

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
    for listed in await list_made_by(link, project, **meta):
        deployment = await vercel.fetch_deployment(link, listed["id"])
        if deployment is not None and deployment.get("projectId") not in (None, project["id"]):
            raise Permanent(
                f"{listed['id']} belongs to another project than {project['id']}; nothing is "
                "done with it"
            )
        return deployment if deployment is not None else {**listed, "readyState": "DELETED"}
    return None


def is_copy(deployment: Mapping[str, Any]) -> bool:
    """Return whether somebody has made a deployment out of another one, whose meta it carries."""
    origin = _meta_of(deployment).get(ORIGIN)
    return bool(origin) and origin not in (
        _meta_of(deployment).get(BASE),
        _meta_of(deployment).get(SOURCE),
    )


def production_id(project: Mapping[str, Any]) -> str | None:
    """ID of the deployment that the production domains lead to."""
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
    git = as_object(deployment.get("gitSource"))
    names = ("githubCommitRef", "gitlabCommitRef", "bitbucketCommitRef")
    ref = git.get("ref") or next((meta[name] for name in names if meta.get(name)), None)
    return plain_version(str(ref)) if ref else commit_of(deployment)


def known_version(link: OpenConnection, deployment: Mapping[str, Any]) -> str | None:
    """Return which version a deployment is, as it may be told.

    None where whoever is not Vercel calls it by no short word.
    """
    version = version_of(deployment)
    if version is None or rest.is_vendor_host(link):
        return version
    return rest.repeatable_text(link, version) or None


def commit_of(deployment: Mapping[str, Any]) -> str | None:
    """Return the commit that a deployment was built from."""
    meta = _meta_of(deployment)
    names = ("githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha", "gitCommitSha")
    sha = as_object(deployment.get("gitSource")).get("sha") or next(
        (meta[name] for name in names if meta.get(name)), None
    )
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
        for name in _NAMES.get(str(git.get("type")), ())
        if git.get(name) is not None
    }
    if not sha or not repository:
        return None
    return {"type": git["type"], "ref": git.get("ref") or sha, "sha": sha, **repository}


def request_to(project: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """Return the last request to move the domains, if it was to this deployment."""
    last = as_object(project.get("lastAliasRequest"))
    return last if last.get("toDeploymentId") == identity else {}


def moving_to(project: Mapping[str, Any]) -> str | None:
    """To which deployment the domains are moving right now."""
    last = as_object(project.get("lastAliasRequest"))
    if last.get("jobStatus") in ("pending", "in-progress"):
        return str(last.get("toDeploymentId"))
    return None


# --- in words


def describe_deployment(link: OpenConnection, deployment: Mapping[str, Any]) -> str:
    """Return a deployment in words: `dpl_9 (main, commit 1a2b3c4)`."""
    version, commit = version_of(deployment), commit_of(deployment)
    short = rest.repeatable_text(link, commit[:7]) if commit else ""
    parts = [
        rest.repeatable_text(link, version) if version and version != commit else None,
        f"commit {short}" if short else None,
    ]
    description = ", ".join(part for part in parts if part)
    return f"{deployment['id']} ({description})" if description else str(deployment["id"])


def describe_makers(
    link: OpenConnection, project: Mapping[str, Any], deployment: Mapping[str, Any]
) -> str:
    """Return who has made a deployment, and who has moved the domains to it and when, as far as
    Vercel tells.
    """
    makers = rest.repeatable_text(
        link,
        "; ".join(
            part
            for part in (_describe_move(project, deployment), _describe_creator(deployment))
            if part
        ),
    )
    return makers or "who has made it is not told"


def time_of(at: Any) -> str:
    """Vercel's milliseconds as RFC 3339; empty where that is no time."""
    if not 0 < _number_or_zero(at) < 1e14:
        return ""
    return (
        datetime.fromtimestamp(_number_or_zero(at) / 1000, UTC)
        .isoformat(timespec="seconds")
        .removesuffix("+00:00")
        + "Z"
    )


def _describe_move(project: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    last, identity = request_to(project, deployment["id"]), deployment["id"]
    target = as_object(as_object(project.get("targets")).get("production"))
    if not last:
        since = time_of(target.get("aliasAssigned")) if target.get("id") == identity else ""
        return f"Vercel gave it the domains at {since}" if since else ""
    verb = {"promote": "promoted", "rollback": "rolled back to"}.get(
        str(last.get("type")), str(last.get("type"))
    )
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
    near = (
        abs(
            _number_or_zero(description.get("createdAt")) - _number_or_zero(last.get("requestedAt"))
        )
        <= _SAME_MOMENT_MS
    )
    if last.get("type") != "rollback" or not near:
        return ""

    who = description.get("username") or description.get("userId")
    why = str(description.get("description") or "")
    return (f" by {who}" if who else "") + (f' ("{why}")' if why else "")


def _describe_creator(deployment: Mapping[str, Any]) -> str:
    creator, meta = as_object(deployment.get("creator")), _meta_of(deployment)
    who = (
        creator.get("username")
        or creator.get("githubLogin")
        or creator.get("email")
        or creator.get("uid")
    )
    authors = (
        "githubCommitAuthorLogin",
        "gitlabCommitAuthorLogin",
        "bitbucketCommitAuthorName",
        "gitCommitAuthorName",
    )
    author = next((meta[name] for name in authors if meta.get(name)), None)
    parts = [
        f"by {who}" if who else "",
        f"at {at}" if (at := time_of(vercel.created_at(deployment))) else "",
    ]
    made = " ".join(part for part in parts if part)
    copied = f"a copy of {meta[ORIGIN]}, " if is_copy(deployment) else ""
    by = f", its commit is {author}'s" if author and author != who else ""
    return f"{copied}made {made}{by}" if made else ""


def _meta_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return as_object(deployment.get("meta"))
